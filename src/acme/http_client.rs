//! HTTP to authorities: the face that the CA client needs of it ([`Transport`]), and the real one
//! ([`Https`]): HTTP/1.1 over TLS over TCP, maybe through a proxy, one connection kept for each host. The
//! proxy's own engine is for the data path and lives on other threads.

mod connect;
mod proxy;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::SendRequest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::watch;
use tokio::time::Instant;

use self::connect::{Connector, Place};
pub use self::proxy::{Proxies, ProxyError};
use crate::limits;
use crate::tls::client::client_config;
use crate::tls::session::SessionError;

/// An answer in the making.
pub type Exchange = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + 'static>>;

/// One request, one whole answer. Redirects are answers like others.
pub trait Transport: Send + Sync {
    /// Sends `request` (an absolute `https` URL) and gathers the answer. It need not end by itself: callers
    /// stop waiting by dropping it.
    fn send(&self, request: Request<Bytes>) -> Exchange;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// No connection, or it broke before the answer was whole.
    Connect(String),
    /// No connection in time.
    ConnectTimeout,
    /// TLS: the certificate is not trusted, or the handshake failed.
    Tls(String),
    /// The URL is not an absolute `https` one.
    NotHttps,
    /// The answer's body is larger than [`crate::limits::ACME_ANSWER_BYTES`].
    TooLarge,
    /// The answer is not HTTP/1.1.
    Http(String),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) | Self::Tls(why) => f.write_str(why),
            Self::ConnectTimeout => f.write_str("no connection in time"),
            Self::NotHttps => f.write_str("not an https URL"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Http(why) => write!(f, "not HTTP: {why}"),
        }
    }
}

impl std::error::Error for TransportError {}

/// Why requests to authorities cannot be prepared.
#[derive(Debug)]
pub enum SetupError {
    /// `ca_file` cannot be read.
    File(PathBuf, std::io::Error),
    /// `ca_file` holds no certificate, or something broken.
    NotRoots(PathBuf),
    /// No root at all: no authority could be trusted.
    NoRoots,
    /// A proxy variable of the environment.
    Proxy(ProxyError),
    /// The cryptography refuses: a defect of the build.
    Tls(SessionError),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotRoots(path) => write!(f, "{}: not certificates in PEM", path.display()),
            Self::NoRoots => f.write_str("the system has no root certificates; install ca-certificates"),
            Self::Proxy(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for SetupError {}

/// HTTPS as the acme thread speaks it. Has to be used within a tokio runtime with I/O and time.
#[derive(Clone)]
pub struct Https {
    connector: Arc<Connector>,
    /// By host and port; one connection each, and when it was last used.
    idle: Arc<watch::Sender<HashMap<Place, (Sender, Instant)>>>,
    plain_allowed: bool,
}

type Sender = SendRequest<Full<Bytes>>;

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").finish_non_exhaustive()
    }
}

impl Https {
    /// Trusts the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and every certificate in
    /// `ca_file`. `connect_timeout` covers all addresses of a name, a proxy's answer and TLS.
    ///
    /// # Errors
    /// What is wrong with roots or file.
    pub fn new(
        ca_file: Option<&Path>,
        proxies: Proxies,
        connect_timeout: Duration,
    ) -> Result<Self, SetupError> {
        // What cannot be read among the system's is left out: some systems ship broken or odd ones.
        let system = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system);
        if let Some(path) = ca_file {
            add_roots(&mut roots, path)?;
        }
        if roots.is_empty() {
            return Err(SetupError::NoRoots);
        }
        let tls = client_config(roots).map_err(SetupError::Tls)?;
        let connector = Connector::new(Arc::new(tls), proxies, connect_timeout);
        let idle = Arc::new(watch::Sender::new(HashMap::new()));
        Ok(Self { connector: Arc::new(connector), idle, plain_allowed: false })
    }

    /// Takes `http` URLs too: for what an operator may run on this machine, never for an authority.
    #[must_use]
    pub fn or_plain(mut self) -> Self {
        self.plain_allowed = true;
        self
    }

    async fn exchange(self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let place = Place::of(request.uri(), self.plain_allowed).ok_or(TransportError::NotHttps)?;
        let mut request = origin_form(request)?;
        if let Some(mut kept) = self.take_idle(&place) {
            match kept.try_send_request(request).await {
                Ok(answer) => return self.gather(place, kept, answer).await,
                // The authority closed it meanwhile, and nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(message) => request = message,
                    None => return Err(lost(&error.into_error())),
                },
            }
        }
        let mut sender = self.connector.connect(&place).await?;
        let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
        self.gather(place, sender, answer).await
    }

    /// The whole answer; its connection waits for the next request.
    async fn gather(
        &self,
        place: Place,
        sender: Sender,
        answer: Response<hyper::body::Incoming>,
    ) -> Result<Response<Bytes>, TransportError> {
        let (parts, body) = answer.into_parts();
        let body = match Limited::new(body, limits::ACME_ANSWER_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(TransportError::TooLarge),
            Err(error) => return Err(TransportError::Connect(format!("the answer broke off: {error}"))),
        };
        let now = Instant::now();
        self.idle.send_modify(|idle| {
            idle.retain(|_, (sender, used)| {
                !sender.is_closed() && now.duration_since(*used) < limits::ACME_KEEP_ALIVE
            });
            // An authority that spreads itself over many hosts is only slower.
            if idle.len() < limits::ACME_IDLE_CONNECTIONS {
                idle.insert(place, (sender, now));
            }
        });
        Ok(Response::from_parts(parts, body))
    }

    fn take_idle(&self, place: &Place) -> Option<Sender> {
        let mut taken = None;
        self.idle.send_modify(|idle| taken = idle.remove(place));
        let (sender, used) = taken?;
        let is_fresh = used.elapsed() < limits::ACME_KEEP_ALIVE;
        (is_fresh && sender.is_ready()).then_some(sender)
    }
}

impl Transport for Https {
    fn send(&self, request: Request<Bytes>) -> Exchange {
        Box::pin(self.clone().exchange(request))
    }
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let not_roots = || SetupError::NotRoots(path.to_owned());
    let text = std::fs::read(path).map_err(|error| SetupError::File(path.to_owned(), error))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| not_roots())?;
        roots.add(certificate).map_err(|_| not_roots())?;
        count += 1;
    }
    if count == 0 { Err(not_roots()) } else { Ok(()) }
}

/// As a server reads it: a path, and the host in its field (RFC 9112 §3.2.1).
fn origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, TransportError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or(TransportError::NotHttps)?;
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let host = HeaderValue::from_str(host).map_err(|_| TransportError::NotHttps)?;
    parts.headers.insert(HOST, host);
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    parts.uri = Uri::try_from(path).map_err(|_| TransportError::NotHttps)?;
    Ok(Request::from_parts(parts, Full::new(body)))
}

fn lost(error: &hyper::Error) -> TransportError {
    if error.is_parse() {
        return TransportError::Http(error.to_string());
    }
    TransportError::Connect(format!("the connection was lost: {error}"))
}

#[cfg(test)]
mod tests;
