//! Decoding chunked bodies: large chunks as servers send them, and small ones as event streams do.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockring::http1::body::BodyReader;
use lockring::http1::framing::Framing;
use lockring::http1::write;

fn body(chunk: usize, chunks: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..chunks {
        write::chunk_start(&mut out, chunk);
        out.resize(out.len() + chunk, b'x');
        write::chunk_end(&mut out);
    }
    write::last_chunk(&mut out, b"");
    out
}

/// Bytes of data in `input`.
fn decode(input: &[u8]) -> usize {
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut rest, mut data) = (input, 0);
    while let Ok(step) = reader.next(rest) {
        data += step.data.len();
        rest = rest.get(step.used..).unwrap_or_default();
        if step.end || step.used == 0 {
            break;
        }
    }
    data
}

fn chunked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked");
    for (chunk, chunks) in [(16 * 1024, 16), (64, 1024)] {
        let input = body(chunk, chunks);
        assert_eq!(decode(&input), chunk * chunks);
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("{chunks}x{chunk}"), |bencher| {
            bencher.iter(|| decode(black_box(&input)))
        });
    }
    group.finish();
}

criterion_group!(benches, chunked);
criterion_main!(benches);
