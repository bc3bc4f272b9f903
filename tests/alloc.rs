//! No allocation per request in steady state: a worker runs on this thread under a counting allocator,
//! client and origin on threads that do not count.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "client and origin are part of the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use lockring::config::{self, Source};
use lockring::handoff::counters::{Counters, Tally};
use lockring::handoff::mailbox::{self, Command};
use lockring::handoff::published::Published;
use lockring::handoff::ring;
use lockring::io::worker::{self, Birth, Protocol};
use lockring::ops::certificates::{Certificates, Pairs};
use lockring::ops::check;
use lockring::upstream::resolve::Resolved;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !EXEMPT.try_with(Cell::get).unwrap_or(true) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn exempt<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::spawn(|| {
        EXEMPT.set(true);
        work()
    })
}

/// Answers every request on every connection, reading to the end of its head.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    exempt(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            exempt(move || {
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut piece) {
                    head.extend_from_slice(&piece[..n]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        // In one write: a second one would wait for an acknowledgement of the first.
                        let body = "x".repeat(1024);
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nServer: test\r\nContent-Length: 1024\r\n\r\n{body}");
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    address
}

struct Client {
    tls: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr, root: &str) -> Self {
        use rustls_pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(lockring::tls::provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from("a.test").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        Self { tls: rustls::StreamOwned::new(connection, TcpStream::connect(address).unwrap()) }
    }

    fn request(&mut self) {
        self.tls
            .write_all(b"GET /path?query HTTP/1.1\r\nHost: a.test\r\nUser-Agent: test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !answer.windows(4).any(|w| w == b"\r\n\r\n")
            || answer.len() < 1024 + answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4
        {
            let n = self.tls.read(&mut piece).unwrap();
            assert!(n > 0);
            answer.extend_from_slice(&piece[..n]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn a_request_in_steady_state_allocates_nothing() {
    const WARM: usize = 300;
    const COUNTED: usize = 1000;
    let state = std::env::temp_dir().join(format!("lockring-alloc-{}", std::process::id()));
    let text = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nstate = \"{}\"\n[sites]\n\"a.test\" = \"{}\"\n",
        state.display(),
        origin()
    );
    let loaded = config::load(Source { name: "test".into(), text }, &check::Disk).unwrap();
    let model = Arc::new(loaded.model);
    let certificates =
        Certificates::open(&model, Pairs::default(), check::now_unix(), |text| panic!("{text}")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut control, mailbox) = mailbox::mailbox().unwrap();
    let (log, mut lines) = ring::lines(64);
    let birth = Birth {
        number: 0,
        cpu: None,
        listeners: vec![(listener, Protocol::Https)],
        https_port: 443,
        connections_max: 100,
        setup: certificates.published().reader(),
        resolved: Published::new(Arc::new(Resolved::default())).reader(),
        mailbox,
        counters: Counters::new(),
        log,
        wishes: None,
        started: Tally::default(),
        warn: |text| panic!("{text}"),
    };
    let root = certificates.root().unwrap().pem.clone();
    let client = exempt(move || {
        let mut client = Client::connect(address, &root);
        let mut batch = Vec::new();
        let mut request = || {
            client.request();
            batch.clear();
            lines.take(&mut batch, 1 << 20)
        };
        (0..WARM).for_each(|_| {
            request();
        });
        let (begun, before) = (Instant::now(), COUNT.load(Ordering::Relaxed));
        let logged: u64 = (0..COUNTED).map(|_| request()).sum();
        let allocations = COUNT.load(Ordering::Relaxed) - before;
        let steps = begun.elapsed().as_millis() / lockring::limits::DEADLINE_STEP.as_millis();
        control.send(Command::Stop).unwrap();
        (allocations, logged, steps as u64)
    });
    worker::run(birth).unwrap();
    let (allocations, logged, steps) = client.join().unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    assert!(logged as usize >= COUNTED - 1, "the requests were served and logged: {logged}");
    // The housekeeping of each step of the deadline wheel may allocate its timer and the date.
    let housekeeping = 4 * (steps + 1);
    assert!(housekeeping < COUNTED as u64 / 4, "too slow to tell: {steps} steps");
    assert!(allocations <= housekeeping, "{allocations} allocations by {COUNTED} requests in {steps} steps");
}
