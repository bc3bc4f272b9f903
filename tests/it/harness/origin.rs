//! Scripted apps: each accepted connection runs the test's script in a thread of its own, and every byte
//! that the proxy sends is kept.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::http::{Fields, Head, Reader};
use super::{PATIENCE, eventually};

/// A request as an origin received it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Request line and fields.
    pub head: Head,
    /// Content, with transfer coding removed.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

/// Any stream.
pub trait Peer: Read + Write + Send {}
impl<T: Read + Write + Send> Peer for T {}

#[derive(Default)]
struct Record {
    bytes: Mutex<Vec<Vec<u8>>>,
    requests: Mutex<Vec<Request>>,
    ended: Mutex<Vec<usize>>,
    stop: AtomicBool,
    forget: AtomicBool,
}

/// Keeps what is read.
pub struct Recorded {
    peer: Box<dyn Peer>,
    record: Arc<Record>,
    index: usize,
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.peer.read(buffer)?;
        if !self.record.forget.load(Ordering::Relaxed) {
            self.record.bytes.lock().unwrap()[self.index].extend_from_slice(&buffer[..n]);
        }
        Ok(n)
    }
}

/// One connection from the proxy, in the hands of a script.
pub struct Conn {
    /// What was read and is not consumed yet.
    pub reader: Reader<Recorded>,
    /// The socket below, for connections over TCP.
    socket: Option<TcpStream>,
    /// Which connection of this origin it is, counted from 0.
    pub index: usize,
}

impl Conn {
    /// The next request whole; `None` when the proxy has closed or sent something malformed.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        if request.head.chunked() {
            (request.body, request.trailers) = self.reader.chunks().ok()?;
        } else if let Some(length) = request.head.length() {
            request.body = self.reader.exactly(usize::try_from(length).unwrap()).ok()?;
        }
        let mut requests = self.record().requests.lock().unwrap();
        let place = requests.iter().rposition(|r| r.connection == self.index)?;
        requests[place] = request.clone();
        Some(request)
    }

    /// The next request head only.
    pub fn head(&mut self) -> Option<Request> {
        let head = self.reader.head().ok()?;
        let request = Request { connection: self.index, head, ..Request::default() };
        self.record().requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// Writes `bytes`; whether the proxy took them is not the script's matter.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_write(bytes);
    }

    /// Writes `bytes` if the proxy takes them.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.peer.write_all(bytes.as_ref())?;
        self.reader.stream.peer.flush()
    }

    /// Holds the connection until the proxy closes it.
    pub fn hang(&mut self) {
        while self.reader.fill().is_ok() {}
    }

    /// Ends the connection with RST.
    pub fn reset(&mut self) {
        if let Some(socket) = &self.socket {
            super::client::reset(socket);
        }
    }

    /// Sends FIN and keeps reading possible.
    pub fn half_close(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
    }

    fn record(&self) -> &Record {
        &self.reader.stream.record
    }
}

/// An app whose connections run a script.
pub struct Origin {
    /// Where it listens; for Unix sockets a placeholder.
    pub address: SocketAddr,
    record: Arc<Record>,
}

impl Origin {
    /// Runs `script` for each connection.
    pub fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Answers each whole request with `answer`, on connections that stay open.
    pub fn answering(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::start(move |conn| {
            while conn.request().is_some() {
                conn.write(&answer);
            }
        })
    }

    /// Answers 200 with a short body.
    pub fn ok() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// Answers one head per connection with `answer`, and closes.
    pub fn once(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::start(move |conn| {
            if conn.head().is_some() {
                conn.write(&answer);
            }
        })
    }

    /// Accepts and never answers.
    pub fn silent() -> Self {
        Self::start(|conn| {
            let _ = conn.request();
            conn.hang();
        })
    }

    /// Runs `script` for each connection to `listener`.
    pub fn on(listener: TcpListener, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Self::wrapping(listener, |socket| Some(Box::new(socket)), script)
    }

    /// Runs `script` for each connection to `listener` that `wrap` makes a stream of.
    pub fn wrapping(
        listener: TcpListener,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Peer>> + Send + 'static,
        script: impl Fn(&mut Conn) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let (script, shared) = (Arc::new(script), Arc::clone(&record));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = socket.set_read_timeout(Some(2 * PATIENCE));
                let _ = socket.set_nodelay(true);
                let raw = socket.try_clone().ok();
                if let Some(peer) = wrap(socket) {
                    serve(&shared, &script, peer, raw);
                }
            }
        });
        Self { address, record }
    }

    /// Runs `script` for each connection to a Unix socket at `path`.
    pub fn unix(path: &Path, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let record = Arc::new(Record::default());
        let (script, shared) = (Arc::new(script), Arc::clone(&record));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                serve(&shared, &script, Box::new(socket), None);
            }
        });
        Self { address: "127.0.0.1:0".parse().unwrap(), record }
    }

    /// Keeps no bytes from now on: for bodies too large to hold.
    pub fn forget_bytes(&self) {
        self.record.forget.store(true, Ordering::Relaxed);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.record.bytes.lock().unwrap().len()
    }

    /// All bytes received so far, connection after connection.
    pub fn bytes(&self) -> Vec<u8> {
        self.record.bytes.lock().unwrap().concat()
    }

    /// Requests received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.record.requests.lock().unwrap().clone()
    }

    /// Waits for the request number `index`, counted from 0.
    #[track_caller]
    pub fn wait_request(&self, index: usize) -> Request {
        eventually("a request at the origin", || self.record.requests.lock().unwrap().get(index).cloned())
    }

    /// Waits until the script of connection `index` has ended.
    #[track_caller]
    pub fn wait_ended(&self, index: usize) {
        eventually("the end of an upstream connection", || {
            self.record.ended.lock().unwrap().contains(&index).then_some(())
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.record.stop.store(true, Ordering::SeqCst);
        if self.address.port() != 0 {
            let _ = TcpStream::connect(self.address);
        }
    }
}

fn serve<F: Fn(&mut Conn) + Send + Sync + 'static>(
    record: &Arc<Record>,
    script: &Arc<F>,
    peer: Box<dyn Peer>,
    socket: Option<TcpStream>,
) {
    let index = {
        let mut bytes = record.bytes.lock().unwrap();
        bytes.push(Vec::new());
        bytes.len() - 1
    };
    let recorded = Recorded { peer, record: Arc::clone(record), index };
    let mut conn = Conn { reader: Reader::new(recorded), socket, index };
    let (script, record) = (Arc::clone(script), Arc::clone(record));
    std::thread::spawn(move || {
        script(&mut conn);
        record.ended.lock().unwrap().push(index);
    });
}
