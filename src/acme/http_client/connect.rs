//! A connection to an authority: name look-up, TCP to one of the addresses, CONNECT if there is a proxy,
//! TLS, and HTTP/1.1 on top.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::TransportError;
use super::proxy::{Proxies, Proxy};
use crate::limits;

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// Without TLS.
    pub(super) plain: bool,
}

impl Place {
    /// Of an absolute `https` URL, or `http` where that is allowed; none for another one.
    pub(super) fn of(url: &Uri, plain_allowed: bool) -> Option<Self> {
        let plain = match url.scheme_str()? {
            "https" => false,
            "http" if plain_allowed => true,
            _ => return None,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = url.port_u16().unwrap_or(if plain { 80 } else { 443 });
        (!host.is_empty()).then_some(Self { host, port, plain })
    }

    /// `host:port`, with brackets around IPv6.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Makes connections.
pub(super) struct Connector {
    tls: TlsConnector,
    proxies: Proxies,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>, proxies: Proxies, timeout: Duration) -> Self {
        Self { tls: TlsConnector::from(tls), proxies, timeout }
    }

    /// A connection that is ready for a request.
    pub(super) async fn connect(&self, place: &Place) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let end = Instant::now() + self.timeout;
        match tokio::time::timeout_at(end, self.connect_until(place, end)).await {
            Ok(connected) => connected,
            Err(_) => Err(TransportError::ConnectTimeout),
        }
    }

    async fn connect_until(
        &self,
        place: &Place,
        end: Instant,
    ) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| TransportError::Connect(format!("{:?} is no host", place.host)))?;
        let stream = match self.proxies.for_host(&place.host, place.port) {
            None => dial(&place.host, place.port, end).await?,
            Some(proxy) => through(proxy, place, end).await?,
        };
        if place.plain {
            return speak(stream).await;
        }
        speak(self.tls.connect(name, stream).await.map_err(tls_error)?).await
    }
}

/// HTTP/1.1 over a connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, TransportError> {
    let handshake = http1::Builder::new().max_buf_size(limits::HEAD_BYTES).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|error| TransportError::Connect(error.to_string()))?;
    // Ends by itself when the sender is dropped or the authority closes; its error reaches the sender.
    tokio::spawn(connection);
    Ok(sender)
}

/// TCP to the first address that answers. Each has its share of the time that is left, so that one that
/// swallows packets does not use up the next one's.
async fn dial(host: &str, port: u16, end: Instant) -> Result<TcpStream, TransportError> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found =
        found.map_err(|error| TransportError::Connect(format!("{host} cannot be resolved: {error}")))?;
    let addresses: Vec<SocketAddr> = found.take(limits::ACME_ADDRESSES).collect();
    let mut failures = Vec::new();
    for (tried, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = end.saturating_duration_since(Instant::now()) / others;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and answered in turn: waiting to fill a segment costs 40 ms each.
                stream.set_nodelay(true).map_err(|error| TransportError::Connect(error.to_string()))?;
                return Ok(stream);
            }
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: no answer")),
        }
    }
    if failures.is_empty() {
        failures.push(format!("{host} has no address"));
    }
    Err(TransportError::Connect(failures.join(", ")))
}

/// A tunnel through a proxy (RFC 9110 §9.3.6).
async fn through(proxy: &Proxy, place: &Place, end: Instant) -> Result<TcpStream, TransportError> {
    let failed = |why: String| TransportError::Connect(format!("proxy {}:{}: {why}", proxy.host, proxy.port));
    let mut stream = match dial(&proxy.host, proxy.port, end).await {
        Ok(stream) => stream,
        Err(error) => return Err(failed(error.to_string())),
    };
    let head = proxy.connect_head(&place.authority());
    stream.write_all(head.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    // Nobody speaks behind the head before our ClientHello.
    while !answer.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece).await.map_err(|error| failed(error.to_string()))?;
        answer.extend(piece.iter().take(count));
        if count == 0 || answer.len() > limits::ACME_PROXY_HEAD_BYTES {
            return Err(failed("no answer to CONNECT".to_owned()));
        }
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next() {
        Some(status) if is_http && status.len() == 3 && status.starts_with('2') => Ok(stream),
        _ => Err(failed(format!("answers CONNECT with {line:?}"))),
    }
}

/// rustls' errors travel in those of the socket.
fn tls_error(error: std::io::Error) -> TransportError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => TransportError::Tls(inner.to_string()),
        None => TransportError::Connect(format!("during the TLS handshake: {error}")),
    }
}
