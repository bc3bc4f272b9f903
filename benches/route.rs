//! Host to site and path to group, among 1, 100 and 10,000 sites of ten routes each.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lockring::config::{self, Source};
use lockring::ops::check::Disk;
use lockring::proxy::route::{Table, normal_path};

fn table(sites: usize) -> Table {
    let mut text = String::from("[server]\nstate = \"/nonexistent\"\n[sites]\n");
    for site in 0..sites {
        let _ = write!(text, "[sites.\"h{site}.example.com\"]\nto = \"127.0.0.1:1\"\n");
        for route in 0..9 {
            let _ = write!(
                text,
                "[[sites.\"h{site}.example.com\".route]]\npath = \"/part{route}/of/it/*\"\nto = \"127.0.0.1:{}\"\n",
                route + 2
            );
        }
    }
    let loaded = config::load(Source { name: "bench".into(), text }, &Disk);
    loaded.map(|loaded| Table::new(&loaded.model)).unwrap_or_else(|_| std::process::exit(1))
}

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for sites in [1, 100, 10_000] {
        let table = table(sites);
        let host = format!("h{}.example.com", sites / 2);
        for path in ["/part7/of/it/deep/below", "/elsewhere", "/part7/of/./it/x/../y"] {
            group.bench_function(format!("{sites} sites, {path}"), |bench| {
                let mut scratch = Vec::new();
                bench.iter(|| {
                    let normal = normal_path(black_box(path.as_bytes()), &mut scratch).ok()?;
                    let site = table.site(black_box(host.as_bytes()))?;
                    table.group(site, normal)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, route);
criterion_main!(benches);
