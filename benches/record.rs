//! Sealing and opening records of TLS 1.3 AES-128-GCM: ours, and rustls's buffered connection beside it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may stop by panicking"
)]
#![allow(missing_docs, reason = "criterion makes public items")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lockring::tls::client::{ClientHandshake, client_config};
use lockring::tls::record::{Opened, Records};
use lockring::tls::session::Handshake;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Plaintext sizes: a small answer, one segment, a whole record.
const SIZES: [usize; 3] = [256, 1_350, 16_384];

fn configurations() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let certified = rcgen::generate_simple_self_signed(vec!["app.example.com".into()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = client_config(roots).unwrap();
    let mut provider = client.crypto_provider().as_ref().clone();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut server = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    server.enable_secret_extraction = true;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    (Arc::new(server), Arc::new(client))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("app.example.com").unwrap()
}

/// Our client and our server after a handshake, the tickets taken.
fn ours(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> (Records, Records) {
    let mut client = ClientHandshake::new(client.clone(), name()).unwrap();
    let mut server = Handshake::new(server.clone()).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    client.receive(&mut [], &mut to_server).unwrap();
    loop {
        let step = server.receive(&mut to_server, &mut to_client).unwrap();
        to_server.drain(..step.used);
        if step.done {
            break;
        }
        let step = client.receive(&mut to_client, &mut to_server).unwrap();
        to_client.drain(..step.used);
    }
    let mut client = client.finish().unwrap().0;
    while !to_client.is_empty() {
        let Ok(Opened::Control { used }) = client.open(&mut to_client) else { panic!("tickets only") };
        to_client.drain(..used);
    }
    (client, server.finish().unwrap().0)
}

/// rustls's client and server after a handshake.
fn theirs(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> (ClientConnection, ServerConnection) {
    let mut client = ClientConnection::new(client.clone(), name()).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        while !wire.is_empty() {
            let read = server.read_tls(&mut &wire[..]).unwrap();
            wire.drain(..read);
            server.process_new_packets().unwrap();
        }
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        while !wire.is_empty() {
            let read = client.read_tls(&mut &wire[..]).unwrap();
            wire.drain(..read);
            client.process_new_packets().unwrap();
        }
    }
    (client, server)
}

fn seal(criterion: &mut Criterion) {
    let (server, client) = configurations();
    let mut group = criterion.benchmark_group("seal");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let plain = vec![7; size];
        let (_, mut records) = ours(&server, &client);
        let mut out = Vec::with_capacity(20_000);
        group.bench_function(format!("ours/{size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                records.seal(black_box(&plain), 16_384, &mut out).unwrap();
            });
        });
        let (_, mut connection) = theirs(&server, &client);
        group.bench_function(format!("rustls/{size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                connection.writer().write_all(black_box(&plain)).unwrap();
                connection.write_tls(&mut out).unwrap();
            });
        });
    }
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let (server, client) = configurations();
    let mut group = criterion.benchmark_group("open");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let plain = vec![7; size];
        let (mut sealing, mut opening) = ours(&server, &client);
        group.bench_function(format!("ours/{size}"), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut record = Vec::new();
                    sealing.seal(&plain, 16_384, &mut record).unwrap();
                    record
                },
                |record| opening.open(black_box(record)).unwrap(),
                // Records are opened in the order they were sealed in, so none may be made ahead.
                BatchSize::PerIteration,
            );
        });
        let (mut sealing, mut opening) = theirs(&server, &client);
        let mut read = vec![0; size];
        group.bench_function(format!("rustls/{size}"), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut record = Vec::new();
                    sealing.writer().write_all(&plain).unwrap();
                    sealing.write_tls(&mut record).unwrap();
                    record
                },
                |record| {
                    let mut rest = &record[..];
                    while !rest.is_empty() {
                        opening.read_tls(&mut rest).unwrap();
                        opening.process_new_packets().unwrap();
                    }
                    opening.reader().read_exact(&mut read).unwrap();
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// What a connection that rested pays at its next record.
fn wake(criterion: &mut Criterion) {
    let (server, client) = configurations();
    let (_, mut records) = ours(&server, &client);
    let mut out = Vec::with_capacity(1_000);
    criterion.bench_function("seal/after_rest/256", |bencher| {
        bencher.iter(|| {
            out.clear();
            records.rest();
            records.seal(black_box(&[7; 256]), 16_384, &mut out).unwrap();
        });
    });
}

criterion_group!(benches, seal, open, wake);
criterion_main!(benches);
