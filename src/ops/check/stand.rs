//! Stands in for the proxy while `check --online` looks: listens where it would and answers challenges, and
//! nothing else.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as Listening};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::acme::install::Install;
use crate::acme::keys::validation_name;
use crate::acme::slot::{Identifier, Slot};
use crate::config::model::Server;
use crate::limits;
use crate::tls::certs::CertifiedPair;

const PREFIX: &str = "/.well-known/acme-challenge/";
const ALPN: &[u8] = b"acme-tls/1";
/// Connections that wait to be accepted: the knocks of one check.
const BACKLOG: i32 = 128;
/// Bytes read of a request.
const HEAD: usize = 4096;
/// After an accept that failed, as without descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What is answered.
#[derive(Default)]
struct Answers {
    tokens: watch::Sender<HashMap<String, String>>,
    names: watch::Sender<HashMap<String, Arc<CertifiedPair>>>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Install for Answers {
    fn install(&self, _: &Slot, _: Arc<CertifiedPair>) -> Result<(), String> {
        Err("a check serves nothing".to_owned())
    }

    fn withdraw(&self, _: &Slot) {}

    fn answer_http(&self, token: &str, key_authorization: &str) {
        let (token, answer) = (token.to_owned(), key_authorization.to_owned());
        self.tokens.send_modify(|tokens| _ = tokens.insert(token, answer));
    }

    fn answer_tls(&self, identifier: &Identifier, pair: Arc<CertifiedPair>) {
        self.names.send_modify(|names| _ = names.insert(validation_name(identifier), pair));
    }

    fn forget_http(&self, token: &str) {
        self.tokens.send_modify(|tokens| _ = tokens.remove(token));
    }

    fn forget_tls(&self, identifier: &Identifier) {
        self.names.send_modify(|names| _ = names.remove(&validation_name(identifier)));
    }
}

impl ResolvesServerCert for Answers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.names.borrow().get(hello.server_name()?).map(|pair| Arc::clone(pair.certified_key()))
    }
}

/// Listens until it is dropped.
pub(super) struct Stand {
    answers: Arc<Answers>,
    http: bool,
    https: bool,
    refusals: Vec<String>,
    _tasks: JoinSet<()>,
}

impl Stand {
    /// Listens on the addresses of `server`; those of a kind that cannot all be had are left alone, and
    /// [`Self::refusals`] says why. Needs a runtime.
    pub(super) fn start(server: &Server) -> Self {
        let answers = Arc::new(Answers::default());
        let mut tasks = JoinSet::new();
        let mut refusals = Vec::new();
        let mut listen = |addresses: &[SocketAddr]| match bind(addresses) {
            Ok(listeners) => listeners,
            Err(why) => {
                refusals.push(why);
                Vec::new()
            }
        };
        let (plain, tls) = (listen(&server.http), listen(&server.https));
        let acceptor = acceptor(&answers);
        let (http, https) = (!plain.is_empty(), !tls.is_empty() && acceptor.is_some());
        for listener in plain {
            tasks.spawn(accept(listener, Arc::clone(&answers), None));
        }
        for listener in tls.into_iter().filter(|_| acceptor.is_some()) {
            tasks.spawn(accept(listener, Arc::clone(&answers), acceptor.clone()));
        }
        Self { answers, http, https, refusals, _tasks: tasks }
    }

    /// Where answers are put.
    pub(super) fn install(&self) -> Arc<dyn Install> {
        Arc::clone(&self.answers) as Arc<dyn Install>
    }

    pub(super) fn has_http(&self) -> bool {
        self.http
    }

    pub(super) fn has_https(&self) -> bool {
        self.https
    }

    /// Why it does not listen everywhere.
    pub(super) fn refusals(&self) -> &[String] {
        &self.refusals
    }
}

/// All of `addresses`, or none: an address that is left out would look like somebody else's fault.
fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for address in addresses.iter().filter(|address| address.port() != 0) {
        match bind_one(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && is_family_missing(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(format!("{address} is in use, and not by a lockring that this user may ask"));
            }
            Err(error) => return Err(format!("{address} cannot be listened on: {error}")),
        }
    }
    Ok(listeners)
}

/// A machine without IPv6.
fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable)
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(Listening::from(socket))
}

fn acceptor(answers: &Arc<Answers>) -> Option<TlsAcceptor> {
    let builder = ServerConfig::builder_with_provider(Arc::new(crate::tls::provider()));
    let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).ok()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(answers) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Some(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, answers: Arc<Answers>, acceptor: Option<TlsAcceptor>) {
    let mut open = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        while open.try_join_next().is_some() {}
        // Strangers may come too; they are let go as the knocks are.
        let (answers, acceptor) = (Arc::clone(&answers), acceptor.clone());
        open.spawn(async move {
            let answered = async {
                match acceptor {
                    Some(acceptor) => acceptor.accept(stream).await.map(|_| ()),
                    None => answer(stream, &answers).await,
                }
            };
            // Whoever knocked sees what became of it.
            let _ = timeout(limits::PREFLIGHT_PROBE, answered).await;
        });
    }
}

async fn answer(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        head.extend(piece.iter().take(count));
    }
    let text = String::from_utf8_lossy(&head);
    let token = text.split(' ').nth(1).and_then(|path| path.strip_prefix(PREFIX));
    let found = token.and_then(|token| answers.tokens.borrow().get(token).cloned());
    let reply = match found {
        Some(answer) => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        ),
        None => {
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
        }
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
