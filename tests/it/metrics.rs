//! Metrics as a scraper sees them: the page is well formed, and its values move with traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use crate::harness::lockring::Scratch;
use crate::harness::{Lockring, Origin, Setup, eventually};

/// A page: the value of each member, by its whole name.
pub struct Page(BTreeMap<String, f64>);

impl Page {
    /// Reads a page, and is strict about its form.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let (mut values, mut types, mut family) = (BTreeMap::new(), BTreeSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(types.insert(name), "{name} twice");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                family = name;
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let bare = name.split('{').next().unwrap();
            assert!(bare.starts_with(family), "{line} stands below {family}");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(values.insert(name.to_owned(), value).is_none(), "{name} twice");
        }
        Self(values)
    }

    /// A member's value.
    #[track_caller]
    pub fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0.keys()))
    }

    /// Whether there is such a member.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of all families, histograms without their suffixes.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(|name| name.split('{').next().unwrap()).collect()
    }
}

/// Where the metrics of a proxy are.
#[track_caller]
pub fn address(proxy: &Lockring) -> SocketAddr {
    let said = proxy.messages().into_iter().find_map(|message| {
        let (_, rest) = message.split_once("metrics are at http://")?;
        rest.trim_end().strip_suffix("/metrics")?.parse().ok()
    });
    said.unwrap_or_else(|| panic!("no metrics in {:#?}", proxy.messages()))
}

/// Scrapes.
#[track_caller]
pub fn scrape(address: SocketAddr) -> Page {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    Page::read(body)
}

/// Scrapes until the page is as wanted: a worker counts a request after its last byte was sent.
#[track_caller]
pub fn wait(address: SocketAddr, wanted: impl Fn(&Page) -> bool) -> Page {
    eventually("a page as wanted", || Some(scrape(address)).filter(|page| wanted(page)))
}

const LISTEN: &str = "[metrics]\nlisten = \"127.0.0.1:0\"";
const SITE_TOTAL: &str = "lockring_site_request_duration_seconds_count{site=\"a.test\"}";

#[test]
fn values_move_with_traffic() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).site("b.test", "demo").workers(2).tables(LISTEN).start();
    let metrics = address(&proxy);
    let before = scrape(metrics);
    assert_eq!(before.get("lockring_requests_total{protocol=\"http/1\"}"), 0.0);
    assert!(!before.has(SITE_TOTAL), "a site appears with its first request");
    let mut client = proxy.connect("a.test");
    for _ in 0..5 {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    let page = wait(metrics, |page| page.has(SITE_TOTAL) && page.get(SITE_TOTAL) == 5.0);
    for (name, value) in [
        ("lockring_requests_total{protocol=\"http/1\"}", 5.0),
        ("lockring_connections_open", 1.0),
        ("lockring_requests_open", 0.0),
        ("lockring_site_responses_total{site=\"a.test\",class=\"2xx\"}", 5.0),
        ("lockring_site_responses_total{site=\"a.test\",class=\"5xx\"}", 0.0),
        ("lockring_site_first_byte_duration_seconds_count{site=\"a.test\"}", 5.0),
        ("lockring_site_request_duration_seconds_bucket{site=\"a.test\",le=\"+Inf\"}", 5.0),
        ("lockring_tls_handshake_duration_seconds_count", 1.0),
        ("lockring_upstream_connect_duration_seconds_count", 1.0),
        ("lockring_log_lines_lost_total", 0.0),
        ("lockring_sites_without_certificate", 0.0),
        ("lockring_draining", 0.0),
    ] {
        assert_eq!(page.get(name), value, "{name}");
    }
    let upstream = |name: &str| page.get(&format!("{name}{{upstream=\"{}\"}}", origin.address));
    assert_eq!(upstream("lockring_upstream_requests_total"), 5.0);
    assert_eq!(upstream("lockring_upstream_requests_open"), 0.0);
    let seconds = page.get("lockring_site_request_duration_seconds_sum{site=\"a.test\"}");
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    let workers: f64 = ["0", "1"]
        .iter()
        .map(|n| page.get(&format!("lockring_worker_requests_total{{worker=\"{n}\"}}")))
        .sum();
    assert_eq!(workers, 5.0);
    assert!(!page.has("lockring_site_request_duration_seconds_count{site=\"b.test\"}"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let end = page
        .get("lockring_certificate_not_after_timestamp_seconds{site=\"a.test\",pair=\"0\",key=\"ecdsa\"}");
    assert!(end > now && end < now + 400.0 * 86_400.0, "{end}");
    assert!(page.get("process_resident_memory_bytes") > 1e6);
    assert!((page.get("process_open_fds") - proxy.descriptors() as f64).abs() < 8.0);
    assert!((page.get("process_start_time_seconds") - now).abs() < 60.0);
}

#[test]
fn what_is_under_way_is_a_gauge_that_comes_down_again() {
    let origin = Origin::silent();
    let proxy = Setup::a(origin.address).tables(LISTEN).start();
    let metrics = address(&proxy);
    let open = format!("lockring_upstream_requests_open{{upstream=\"{}\"}}", origin.address);
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    origin.wait_request(0);
    let page = wait(metrics, |page| page.get(&open) == 1.0);
    assert_eq!(page.get("lockring_requests_open"), 1.0);
    assert_eq!(page.get("lockring_worker_requests_open{worker=\"0\"}"), 1.0);
    client.reset();
    let page = wait(metrics, |page| page.get("lockring_connections_open") == 0.0);
    assert_eq!(page.get("lockring_requests_open"), 0.0);
    assert_eq!(page.get(&open), 0.0);
    assert_eq!(page.get("lockring_requests_cancelled_total"), 1.0);
}

#[test]
fn resting_connections_and_tunnels_are_counted_while_they_last() {
    let origin = Origin::start(|conn| {
        if conn.head().is_some() {
            conn.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).site("b.test", "demo").tables(LISTEN).start();
    let metrics = address(&proxy);
    let mut resting = proxy.connect("b.test");
    assert_eq!(resting.get("b.test", "/").status(), 200);
    let mut tunnel = proxy.connect("a.test");
    tunnel.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(tunnel.response().status(), 101);
    wait(metrics, |page| {
        page.get("lockring_connections_idle") == 1.0 && page.get("lockring_tunnels_open") == 1.0
    });
    assert_eq!(resting.get("b.test", "/").status(), 200);
    tunnel.reset();
    let page = wait(metrics, |page| {
        page.get("lockring_tunnels_open") == 0.0 && page.get("lockring_connections_open") == 1.0
    });
    let total = "lockring_site_request_duration_seconds_count{site=\"a.test\"}";
    assert_eq!(page.get(total), 0.0, "how long a tunnel lasts is no request's duration");
    assert_eq!(page.get("lockring_site_responses_total{site=\"a.test\",class=\"1xx\"}"), 1.0);
}

#[test]
fn failures_to_connect_are_counted_by_upstream() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Setup::a(gone).tables(LISTEN).start();
    let metrics = address(&proxy);
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 502);
    let name = format!("lockring_upstream_connect_failures_total{{upstream=\"{gone}\"}}");
    let page = wait(metrics, |page| page.get(&name) > 0.0);
    assert_eq!(page.get("lockring_site_responses_total{site=\"a.test\",class=\"5xx\"}"), 1.0);
    assert_eq!(page.get(&format!("lockring_upstream_requests_open{{upstream=\"{gone}\"}}")), 0.0);
}

#[test]
fn labels_come_from_the_configuration_alone() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).tables(LISTEN).start();
    let metrics = address(&proxy);
    proxy.connect("a.test").get("a.test", "/");
    let count = "lockring_requests_total{protocol=\"http/1\"}";
    let before = wait(metrics, |page| page.get(count) == 1.0);
    for number in 0..20 {
        proxy.connect("a.test").get(&format!("host{number}.test"), &format!("/{number}"));
    }
    let after = wait(metrics, |page| page.get(count) == 21.0);
    assert_eq!(before.0.keys().collect::<Vec<_>>(), after.0.keys().collect::<Vec<_>>());
}

#[test]
fn a_socket_serves_too_and_an_address_that_is_taken_does_not_keep_the_proxy_from_starting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let scratch = Scratch::new();
    let socket = scratch.path().join("metrics.sock");
    let listen = format!("[metrics]\nlisten = [\"{address}\", \"unix:{}\"]", socket.display());
    let mut proxy = Setup::new().site("a.test", "demo").tables(listen).start();
    proxy.wait_message("it is tried again");
    let mut answer = String::new();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\nlockring_connections_open 0\n"), "{answer}");
    drop(taken);
    eventually("the address is listened on", || TcpStream::connect(address).ok());
}

/// The words of a text that look like names of metrics.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("lockring_") || word.starts_with("process_")).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).site("later.example.com", "demo").tables(LISTEN);
    // A name for an authority that is never reached makes the acme thread run, and its metrics appear.
    let authority = "[acme]\ndirectory = \"https://127.0.0.1:1/directory\"";
    let proxy = proxy.tables(authority).start();
    let metrics = address(&proxy);
    proxy.connect("a.test").get("a.test", "/");
    // The acme thread tells of its certificates once it has looked at them.
    let all = |page: &Page| page.has(SITE_TOTAL) && page.names().contains("lockring_acme_renewal_failing");
    let page = wait(metrics, all);
    let exist = page.names();
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for file in ["grafana.json", "alerts.yml"] {
        let text = std::fs::read_to_string(docs.join(file)).unwrap();
        let names = metric_names(&text);
        assert!(names.len() > 8, "{file}: {names:?}");
        for name in names {
            assert!(exist.contains(name), "{file} names {name}, which is not among {exist:#?}");
        }
    }
    let dashboard = std::fs::read(docs.join("grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 8);
}
