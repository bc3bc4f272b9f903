//! Certificates from an authority on the network: the real binary against a real `pebble`.

mod challenges;
mod faults;
mod renewal;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::harness::pebble::Pebble;
use crate::harness::{Client, Lockring, Setup};

/// The name of most tests.
const APP: &str = "app.example.com";

/// The first connection for `name` that succeeds.
#[track_caller]
fn served(proxy: &Lockring, name: &str, trust: &Arc<ClientConfig>) -> Client {
    served_within(proxy, name, trust, Duration::from_secs(40))
}

/// The first connection for `name` that succeeds, within this time.
#[track_caller]
fn served_within(proxy: &Lockring, name: &str, trust: &Arc<ClientConfig>, patience: Duration) -> Client {
    let deadline = Instant::now() + patience;
    loop {
        match Client::tls(proxy.https, name, trust) {
            Ok(client) => return client,
            Err(error) => assert!(
                Instant::now() < deadline,
                "{name} is never served: {error}; messages: {:#?}",
                proxy.messages()
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Serial number of the certificate that the server showed, in hexadecimal digits.
fn serial(client: &Client) -> String {
    let chain = client.session().peer_certificates().unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    leaf.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The certificate that the server showed, in PEM.
fn leaf_pem(client: &Client) -> String {
    let chain = client.session().peer_certificates().unwrap();
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = base64(&chain[0]);
    for line in text.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).unwrap());
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32, place: u32| char::from(DIGITS[(n >> place & 63) as usize]);
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let n = u32::from(group[0]) << 16
            | u32::from(*group.get(1).unwrap_or(&0)) << 8
            | u32::from(*group.get(2).unwrap_or(&0));
        out.push(digit(n, 18));
        out.push(digit(n, 12));
        out.push(if group.len() > 1 { digit(n, 6) } else { '=' });
        out.push(if group.len() > 2 { digit(n, 0) } else { '=' });
    }
    out
}

/// Asserts that no file below `directory` can be read by others, but the status without secrets.
fn assert_private(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let found = std::fs::symlink_metadata(&path).unwrap();
        let mode = found.permissions().mode() & 0o777;
        if found.is_symlink() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "status.json" || name == "root.pem") {
            assert_eq!(mode & 0o007, 0, "{}: {mode:o}", path.display());
            continue;
        }
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        if found.is_dir() {
            assert_private(&path);
        }
    }
}

/// Clients that connect anew all the time, and clients that keep one connection; none may ever fail.
struct Load {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<BTreeSet<String>>>,
}

impl Load {
    /// `fresh` clients of the first kind, `steady` of the second, for each name.
    fn start(
        proxy: &Lockring,
        names: &[&str],
        trust: &Arc<ClientConfig>,
        fresh: usize,
        steady: usize,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for name in names {
            for number in 0..fresh + steady {
                let (address, name) = (proxy.https, (*name).to_owned());
                let (over, answers) = (Arc::clone(&over), Arc::clone(&answers));
                // Full handshakes, so that the certificate is shown each time.
                let mut trust = (**trust).clone();
                trust.resumption = rustls::client::Resumption::disabled();
                let trust = Arc::new(trust);
                threads.push(std::thread::spawn(move || {
                    let mut serials = BTreeSet::new();
                    let mut kept: Option<Client> = None;
                    while !over.load(Ordering::Relaxed) {
                        let mut client = kept.take().unwrap_or_else(|| {
                            Client::tls(address, &name, &trust)
                                .unwrap_or_else(|e| panic!("a handshake for {name}: {e}"))
                        });
                        assert_eq!(client.get(&name, "/").status(), 200, "{name}");
                        answers.fetch_add(1, Ordering::Relaxed);
                        serials.insert(serial(&client));
                        if number >= fresh {
                            kept = Some(client);
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                    serials
                }));
            }
        }
        Self { over, answers, threads }
    }

    /// How many requests were answered so far.
    fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Ends it; which serials were seen. A client that failed fails the test.
    #[track_caller]
    fn stop(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut serials = BTreeSet::new();
        for thread in self.threads {
            serials.extend(thread.join().expect("a client failed; it is told above"));
        }
        serials
    }
}

/// A proxy for `app.example.com` that asks `pebble` for its certificate.
#[track_caller]
fn one_site(pebble: &Pebble, profile: &str, lines: &str) -> Lockring {
    Setup::new().site(APP, "demo").certified_with(pebble, profile, lines).start()
}
