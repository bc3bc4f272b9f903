//! Answers scrapes: one thread per address accepts, a short-lived one for each connection reads one request and
//! answers it. It speaks just enough HTTP/1.1 for that, in plain text, and knows one path.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::model::Metrics;
use crate::limits;
use crate::telemetry::exposition::CONTENT_TYPE;

/// After an accept that failed, as without descriptors: trying at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Between attempts to listen where another process does.
const RETRY: Duration = Duration::from_secs(1);

/// Makes the page anew for each scrape.
pub type MakePage = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// The listeners, for as long as the process runs.
#[derive(Debug)]
pub struct Server {
    /// Where scrapers connect to, ports as they are.
    pub addresses: Vec<SocketAddr>,
}

/// Listens where `metrics` says. What another process has is tried again each second: it may be the one that
/// this process replaces, and traffic does not wait for metrics.
///
/// # Errors
/// A text that names the address and the cause.
pub fn serve(metrics: &Metrics, page: &MakePage, say: fn(&str)) -> Result<Server, String> {
    let mut addresses = Vec::new();
    for address in metrics.addresses.clone() {
        let bind = move || TcpListener::bind(address);
        let listener = first_try(&bind, &address.to_string(), say)?;
        if let Some(listener) = &listener {
            addresses.push(listener.local_addr().map_err(|error| told(&address.to_string(), &error))?);
        }
        let page = Arc::clone(page);
        spawn(move || {
            let listener = listener.unwrap_or_else(|| until_bound(&bind));
            accept(|| listener.accept().map(|(stream, _)| stream), &page);
        })?;
    }
    if let Some(path) = metrics.socket.clone() {
        let name = path.display().to_string();
        let bind = move || make_room(&path).and_then(|()| UnixListener::bind(&path));
        let listener = first_try(&bind, &name, say)?;
        let page = Arc::clone(page);
        spawn(move || {
            let listener = listener.unwrap_or_else(|| until_bound(&bind));
            accept(|| listener.accept().map(|(stream, _)| stream), &page);
        })?;
    }
    Ok(Server { addresses })
}

fn told(name: &str, error: &io::Error) -> String {
    format!("metrics: {name}: cannot listen: {error}")
}

/// `None` if another process listens there.
fn first_try<L>(bind: &impl Fn() -> io::Result<L>, name: &str, say: fn(&str)) -> Result<Option<L>, String> {
    match bind() {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            say(&format!("{}; it is tried again each second", told(name, &error)));
            Ok(None)
        }
        Err(error) => Err(told(name, &error)),
    }
}

fn until_bound<L>(bind: &impl Fn() -> io::Result<L>) -> L {
    loop {
        std::thread::sleep(RETRY);
        if let Ok(listener) = bind() {
            return listener;
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name("metrics".into());
    thread.spawn(work).map(drop).map_err(|error| format!("metrics: {error}"))
}

/// Removes the socket of a dead process.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(ErrorKind::AddrInUse.into()),
        },
    }
}

/// A connection of either kind.
trait Connection: Read + Write + Send + 'static {
    /// Bounds one read and one write.
    fn patience(&self, left: Duration) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn patience(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left))?;
        self.set_write_timeout(Some(left))
    }
}

impl Connection for UnixStream {
    fn patience(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left))?;
        self.set_write_timeout(Some(left))
    }
}

fn accept<C: Connection>(next: impl Fn() -> io::Result<C>, page: &MakePage) {
    let places = Arc::new(());
    loop {
        let Ok(stream) = next() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        // Each connection holds one; the count is only ever too high for a moment, which refuses.
        if Arc::strong_count(&places) > limits::METRICS_CONNECTIONS {
            continue;
        }
        let (place, page) = (Arc::clone(&places), Arc::clone(page));
        // Without a thread the connection is closed, which the scraper sees.
        let _ = spawn(move || {
            let _ = answer(stream, &page);
            drop(place);
        });
    }
}

fn answer(mut stream: impl Connection, page: &MakePage) -> io::Result<()> {
    let end = Instant::now() + limits::METRICS_TIMEOUT;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > limits::METRICS_HEAD_BYTES {
            return Ok(());
        }
        stream.patience(left)?;
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            read => head.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
    }
    stream.patience(limits::METRICS_TIMEOUT)?;
    let (status, kind, body) = match asked(&head) {
        Asked::Page { .. } => ("200 OK", CONTENT_TYPE, page()),
        Asked::Other => ("404 Not Found", "text/plain", b"metrics are at /metrics\n".to_vec()),
        Asked::Method => ("405 Method Not Allowed\r\nAllow: GET, HEAD", "text/plain", Vec::new()),
        Asked::Nonsense => ("400 Bad Request", "text/plain", Vec::new()),
    };
    let mut out = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if !matches!(asked(&head), Asked::Page { without_body: true }) {
        out.extend_from_slice(&body);
    }
    stream.write_all(&out)
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Page { without_body: bool },
    Other,
    Method,
    Nonsense,
}

/// What the request line asks for; the rest of the head changes nothing.
fn asked(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Nonsense;
    };
    if !version.starts_with(b"HTTP/1.") {
        return Asked::Nonsense;
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET", b"/metrics") => Asked::Page { without_body: false },
        (b"HEAD", b"/metrics") => Asked::Page { without_body: true },
        (b"GET" | b"HEAD", _) => Asked::Other,
        _ => Asked::Method,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::store::tests::Scratch;

    fn ask(stream: &mut (impl Read + Write), request: &str) -> String {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn one_path_is_served_over_both_kinds_of_socket() {
        let scratch = Scratch::new("metrics");
        let socket = scratch.path.join("metrics.sock");
        let metrics =
            Metrics { addresses: vec!["127.0.0.1:0".parse().unwrap()], socket: Some(socket.clone()) };
        let page: MakePage = Arc::new(|| b"x 1\n".to_vec());
        let server = serve(&metrics, &page, |_| {}).unwrap();
        let tcp = |request: &str| ask(&mut TcpStream::connect(server.addresses[0]).unwrap(), request);
        let whole = tcp("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\nx 1\n"), "{whole}");
        assert!(whole.contains("text/plain; version=0.0.4"));
        assert!(
            tcp("HEAD /metrics?a HTTP/1.0\r\n\r\n")
                .ends_with("Content-Length: 4\r\nConnection: close\r\n\r\n")
        );
        assert!(tcp("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(tcp("POST /metrics HTTP/1.1\r\n\r\n").contains("Allow: GET, HEAD"));
        assert!(tcp("GET /metrics\r\n\r\n").starts_with("HTTP/1.1 400 "));
        let mut endless = TcpStream::connect(server.addresses[0]).unwrap();
        let _ = endless.write_all(&[b'x'; 4 * limits::METRICS_HEAD_BYTES]);
        assert_eq!(endless.read(&mut [0]).unwrap_or(0), 0);
        let unix = ask(&mut UnixStream::connect(&socket).unwrap(), "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(unix.ends_with("x 1\n"));
        let nowhere = Metrics { addresses: Vec::new(), socket: Some("/nonexistent/s".into()) };
        assert!(serve(&nowhere, &page, |_| {}).unwrap_err().contains("/nonexistent/s"));
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_a_file_is_not() {
        let scratch = Scratch::new("metrics-socket");
        let path = scratch.path.join("s");
        drop(UnixListener::bind(&path).unwrap());
        make_room(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(make_room(&path).is_err() && path.exists());
    }

    #[test]
    fn silent_connections_do_not_keep_others_out_for_ever() {
        let metrics = Metrics { addresses: vec!["127.0.0.1:0".parse().unwrap()], socket: None };
        let page: MakePage = Arc::new(Vec::new);
        let server = serve(&metrics, &page, |_| {}).unwrap();
        let silent: Vec<TcpStream> = (0..2 * limits::METRICS_CONNECTIONS)
            .map(|_| TcpStream::connect(server.addresses[0]).unwrap())
            .collect();
        // Those above the bound are closed at once.
        let mut last = silent.last().unwrap();
        assert_eq!(last.read(&mut [0]).unwrap_or(0), 0);
        drop(silent);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let mut stream = TcpStream::connect(server.addresses[0]).unwrap();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            assert!(Instant::now() < end);
        }
    }
}
