//! Reading a ClientHello and choosing its site allocates nothing: refused hellos must stay cheap.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lockring::config::model::HostPattern;
use lockring::tls::certs::{CertifiedPair, Entry, Store};
use lockring::tls::choose::{Refusal, choose};
use lockring::tls::client_hello::read;
use lockring::tls::{TlsCommon, provider};
use lockring::wire::Parse;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

fn first_flight(name: &str, alpn: &[u8]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let mut client = ClientConnection::new(config.into(), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn store() -> Store {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["a.example".to_owned(), "*.w.example".to_owned()];
    let chain = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let pair = CertifiedPair::from_pem(chain.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let common = TlsCommon::new(|| 0).unwrap();
    let entry = Entry::new(0, vec![Arc::new(pair)], &common).unwrap();
    let mut builder = Store::builder();
    builder.add(&HostPattern::Exact("a.example".to_owned()), Arc::clone(&entry));
    builder.add(&HostPattern::Wildcard("w.example".to_owned()), entry);
    builder.build()
}

#[test]
fn choosing_and_refusing_allocate_nothing() {
    let store = store();
    let cases: [(&str, &[u8], Result<u32, Refusal>); 5] = [
        ("a.example", b"http/1.1", Ok(0)),
        ("B.W.Example", b"http/1.1", Ok(0)),
        ("other.example", b"http/1.1", Err(Refusal::UnknownServerName)),
        ("127.0.0.1", b"http/1.1", Err(Refusal::NoServerName)),
        ("a.example", b"h2", Err(Refusal::NoProtocolInCommon)),
    ];
    for (name, alpn, wanted) in cases {
        let flight = first_flight(name, alpn);
        let mut scratch = Vec::new();
        let mut outcome = None;
        let count = allocations(|| {
            if let Ok(Parse::Done { value, .. }) = read(&flight, &mut scratch) {
                let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
                outcome = Some(choose(&store, &value, local).map(|chosen| chosen.entry.site()));
            }
        });
        assert_eq!((outcome, count), (Some(wanted), 0), "{name}");
    }
}

#[test]
fn partial_and_malformed_hellos_allocate_nothing() {
    let flight = first_flight("a.example", b"http/1.1");
    let mut scratch = Vec::new();
    let mut partial = 0;
    let count = allocations(|| {
        for end in 0..flight.len() {
            partial += usize::from(matches!(read(&flight[..end], &mut scratch), Ok(Parse::Partial)));
        }
    });
    assert_eq!((partial, count), (flight.len(), 0));
    let mut refused = 0;
    let count = allocations(|| {
        for junk in [&b"GET / HTTP/1.1"[..], b"\x80", &[22, 3, 1, 0, 4, 1, 0xff, 0, 0], &[21, 3, 3]] {
            refused += usize::from(read(junk, &mut scratch).is_err());
        }
    });
    assert_eq!((refused, count), (4, 0));
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8]))) >= 1);
}
