//! A client that sends exactly the bytes it is given, over TLS or plainly, and can leave in every way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::PATIENCE;
use super::http::{Reader, Response};

/// A stream of either kind.
pub enum Stream {
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TCP.
    Plain(TcpStream),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Tls(tls) => &tls.sock,
            Self::Plain(socket) => socket,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => read_tls(tls, buffer),
            Self::Plain(socket) => socket.read(buffer),
        }
    }
}

/// Reads without writing first: what the proxy said before it stopped listening is still read.
fn read_tls(tls: &mut StreamOwned<ClientConnection, TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.conn.reader().read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        tls.conn.read_tls(&mut tls.sock)?;
        let state = tls.conn.process_new_packets();
        state.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        // Answers of the protocol itself, a KeyUpdate for one; they may come too late.
        let _ = tls.conn.write_tls(&mut tls.sock);
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.write(bytes),
            Self::Plain(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.flush(),
            Self::Plain(socket) => socket.flush(),
        }
    }
}

/// How a connection ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// close_notify on TLS, FIN on TCP.
    Clean,
    /// FIN without close_notify.
    Cut,
    /// RST, or any other error.
    Reset,
}

/// One client connection.
pub struct Client {
    /// What was read and is not consumed yet.
    pub reader: Reader<Stream>,
}

impl Client {
    /// A plain TCP connection to `address`.
    pub fn plain(address: SocketAddr) -> Self {
        Self { reader: Reader::new(Stream::Plain(socket(address).unwrap())) }
    }

    /// A TLS connection to `address`, handshake done.
    pub fn tls(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::tls_over(socket(address)?, name, config)
    }

    /// A TLS connection over `socket`, handshake done.
    pub fn tls_over(mut socket: TcpStream, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
        Ok(Self { reader: Reader::new(stream) })
    }

    /// The TLS session.
    pub fn session(&self) -> &ClientConnection {
        match &self.reader.stream {
            Stream::Tls(tls) => &tls.conn,
            Stream::Plain(_) => panic!("not a TLS connection"),
        }
    }

    /// Sends `bytes`; the proxy must take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends `bytes` if the proxy takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.write_all(bytes.as_ref())?;
        self.reader.stream.flush()
    }

    /// Sends of `bytes` what the proxy takes before it stops for 100 ms.
    pub fn send_what_fits(&mut self, bytes: &[u8]) {
        let pause = Some(std::time::Duration::from_millis(100));
        self.reader.stream.socket().set_write_timeout(pause).unwrap();
        let _ = self.try_send(bytes);
    }

    /// Reads the response to a request that was not HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads the response to a request with method `method`.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response(method) {
            Ok(response) => response,
            Err(e) => panic!("no response: {e}; had {:?}", String::from_utf8_lossy(self.reader.buffered())),
        }
    }

    /// Reads the response to a request with method `method`, if it comes whole.
    pub fn try_response(&mut self, method: &str) -> io::Result<Response> {
        Response::read(&mut self.reader, method)
    }

    /// Sends a GET for `target` at `host` and reads its response.
    #[track_caller]
    pub fn get(&mut self, host: &str, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    /// Everything up to the end, and the way it ended.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let (bytes, result) = self.reader.rest();
        let end = match result {
            Ok(()) => End::Clean,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => End::Cut,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the connection stayed open; had {:?}", String::from_utf8_lossy(&bytes))
            }
            Err(_) => End::Reset,
        };
        (bytes, end)
    }

    /// Asserts that nothing more comes and the proxy closes.
    #[track_caller]
    pub fn assert_closed(&mut self) -> End {
        let (bytes, end) = self.rest();
        assert!(bytes.is_empty(), "more came: {:?}", String::from_utf8_lossy(&bytes));
        end
    }

    /// close_notify, then FIN: over TLS the client is gone.
    pub fn half_close(&mut self) {
        if let Stream::Tls(tls) = &mut self.reader.stream {
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        }
        self.reader.stream.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// Says that no more will be sent, by close_notify alone.
    pub fn close_notify(&mut self) {
        let Stream::Tls(tls) = &mut self.reader.stream else { panic!("not a TLS connection") };
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        reset(self.reader.stream.socket());
    }
}

/// Makes closing `socket` send RST.
pub fn reset(socket: &TcpStream) {
    socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A connected socket whose reads give up after [`PATIENCE`].
pub fn socket(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A client configuration that trusts `roots` and speaks the TLS `versions` given.
pub fn trusting(
    roots: &[CertificateDer<'static>],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    Arc::new(config)
}

/// The cryptography this build has.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    #[cfg(feature = "crypto-aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}
