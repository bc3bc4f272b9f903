//! From the first bytes of a connection to its site: ours beside what rustls' Acceptor needs to say as much.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use lockring::config::model::HostPattern;
use lockring::tls::TlsCommon;
use lockring::tls::certs::{CertifiedPair, Entry, Store};
use lockring::tls::choose::choose;
use lockring::tls::client_hello::{ClientHello, read};
use lockring::wire::Parse;
use rustls::server::Acceptor;

/// The hello in a sample file of the tests.
fn sample(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.lines().filter(|line| !line.contains(' ')).flat_map(str::bytes).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits.as_chunks::<2>().0.iter().map(|[high, low]| value(*high) << 4 | value(*low)).collect()
}

/// A thousand sites beside the one asked for.
fn store() -> Store {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["app.example.com".to_owned()];
    let chain = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let pair = CertifiedPair::from_pem(chain.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let common = TlsCommon::new(|| 0).unwrap();
    let entry = Entry::new(0, vec![Arc::new(pair)], &common).unwrap();
    let mut builder = Store::builder();
    builder.add(&HostPattern::Exact("app.example.com".to_owned()), Arc::clone(&entry));
    for i in 0..1000 {
        builder.add(&HostPattern::Exact(format!("site{i}.example.com")), Arc::clone(&entry));
    }
    builder.build()
}

/// `work` on the hello in `bytes`.
fn on_hello<T>(bytes: &[u8], work: impl FnOnce(&ClientHello<'_>) -> T) -> T {
    match read(bytes, &mut Vec::new()) {
        Ok(Parse::Done { value, .. }) => work(&value),
        _ => panic!("the sample is a whole hello"),
    }
}

fn benches(criterion: &mut Criterion) {
    let store = store();
    for (name, text) in [
        ("chrome", include_str!("../tests/data/hello/chrome-shape.txt")),
        ("curl", include_str!("../tests/data/hello/curl.txt")),
    ] {
        let bytes = sample(text);
        let mut group = criterion.benchmark_group(format!("client_hello/{name}"));
        group.bench_function("read", |bencher| {
            bencher.iter(|| on_hello(black_box(&bytes), |hello| black_box(hello.offers_tls13())));
        });
        group.bench_function("read+choose", |bencher| {
            let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
            bencher.iter(|| {
                on_hello(black_box(&bytes), |hello| {
                    black_box(choose(&store, hello, local)).is_ok_and(|_| true)
                })
            });
        });
        group.bench_function("rustls Acceptor", |bencher| {
            bencher.iter(|| {
                let mut acceptor = Acceptor::default();
                acceptor.read_tls(&mut black_box(&bytes[..])).unwrap();
                acceptor.accept().map_err(|(error, _)| error).unwrap().is_some()
            });
        });
        group.finish();
    }
}

criterion_group!(client_hello, benches);
criterion_main!(client_hello);
