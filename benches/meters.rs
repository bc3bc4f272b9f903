//! What counting costs per request: everything that a worker notes of a request that was forwarded, in the cells
//! of its own site and endpoint; and what a refusal costs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use lockring::handoff::counters::Counters;
use lockring::handoff::meters::Meters;
use lockring::handoff::refusals::Refusal;
use lockring::telemetry::metrics::Counter;
use lockring::upstream::group::EndpointId;

fn meters(c: &mut Criterion) {
    let sites = (0..10_000).map(|n| format!("s{n}.test").into()).collect();
    let meters = Meters::new(sites, vec![Arc::from("127.0.0.1:1")], 1);
    let counters = Counters::new();
    let mut group = c.benchmark_group("meters");
    group.bench_function("counters of a request", |b| {
        b.iter(|| {
            counters.count(black_box(Counter::RequestsHttp1));
            counters.count(black_box(Counter::Answered2xx));
            counters.add(black_box(Counter::BytesFromClients), 100);
            counters.add(black_box(Counter::BytesToClients), 1000);
        });
    });
    let mut micros = 0_u64;
    group.bench_function("site and endpoint of a request", |b| {
        b.iter(|| {
            micros = micros.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let took = Duration::from_micros(micros >> 44);
            let Some(meter) = meters.of(black_box(0)) else { return };
            if let Some(endpoint) = meter.endpoint(EndpointId(0)) {
                endpoint.load_changes(1);
                endpoint.request();
            }
            if let Some(site) = meter.site(black_box(7)) {
                site.answered(black_box(200));
                site.first_byte.observe(took);
                site.total.observe(took);
            }
            if let Some(endpoint) = meter.endpoint(EndpointId(0)) {
                endpoint.load_changes(-1);
            }
        });
    });
    let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 4711));
    group.bench_function("refusal", |b| {
        b.iter(|| {
            let Some(meter) = meters.of(0) else { return };
            let reason = black_box("unknown-server-name");
            let name = b"some.name.example.com";
            meter.own().tls_failures.keep(&Refusal {
                time_unix_ms: 1,
                peer,
                reason,
                name,
                status: 0,
                at: None,
            });
        });
    });
    group.finish();
}

criterion_group!(benches, meters);
criterion_main!(benches);
