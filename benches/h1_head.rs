//! Request heads of the usual sizes, against httparse in the same run. httparse does not look at what
//! the names mean; we do.

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockring::http::head::RequestHead;
use lockring::http1::head::{HeadLimits, HeadReader};
use lockring::http1::request;
use lockring::limits::{FIELDS, HEAD_BYTES, TARGET_BYTES};

const CHROME: &[u8] = b"GET /dashboard/reports?from=2026-01-01&to=2026-02-01 HTTP/1.1\r\n\
Host: app.example.com\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-US,en;q=0.9\r\n\
Cookie: session=3f1c2a9be0d74a6f; theme=dark\r\n\
\r\n";

const CURL: &[u8] =
    b"GET /healthz HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: curl/8.15.0\r\nAccept: */*\r\n\r\n";

const LIMITS: HeadLimits = HeadLimits { head: HEAD_BYTES, target: TARGET_BYTES, fields: FIELDS };

fn heads(criterion: &mut Criterion) {
    for (name, input) in [("chrome", CHROME), ("curl", CURL)] {
        let mut group = criterion.benchmark_group(format!("h1_head/{name}"));
        group.throughput(Throughput::Bytes(input.len() as u64));
        let mut head = RequestHead::default();
        group.bench_function("lockring", |bencher| {
            bencher.iter(|| HeadReader::default().request(black_box(input), &LIMITS, &mut head));
        });
        group.bench_function("lockring_interpreted", |bencher| {
            bencher.iter(|| {
                let parsed = HeadReader::default().request(black_box(input), &LIMITS, &mut head);
                (parsed.is_ok(), request::interpret(input, &head))
            });
        });
        group.bench_function("httparse", |bencher| {
            bencher.iter(|| {
                let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
                let mut request = httparse::Request::new(&mut []);
                let parsed = request.parse_with_uninit_headers(black_box(input), &mut fields);
                (parsed, black_box(request.headers.len()))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, heads);
criterion_main!(benches);
