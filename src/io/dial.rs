//! Connecting to an app: address by address, then TLS if it speaks that.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls_pki_types::ServerName;

use super::stream::Stream;
use super::sys::Socket;
use super::worker::Worker;
use crate::config::model::Upstream;
use crate::limits;
use crate::proxy::exchange::ConnectFailure;
use crate::tls::client::ClientHandshake;

/// A new connection to `upstream`. The caller bounds the time.
///
/// # Errors
/// Why there is none.
pub(super) async fn dial(
    worker: Rc<Worker>,
    upstream: Upstream,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Stream, ConnectFailure> {
    let buffers = worker.buffers.clone();
    match upstream {
        Upstream::Unix(path) => {
            let socket = Socket::connect_unix(&path).await.map_err(|error| failure(&error))?;
            Ok(Stream::new(socket, buffers))
        }
        Upstream::Tcp { host, port, tls: speaks_tls } => {
            let socket = dial_tcp(&worker, &host, port).await?;
            let mut stream = Stream::new(socket, buffers);
            stream.note_acknowledged();
            if !speaks_tls {
                return Ok(stream);
            }
            let name = ServerName::try_from(host).map_err(|_| ConnectFailure::Tls)?;
            handshake(stream, tls, name).await
        }
        Upstream::Demo => Err(ConnectFailure::Unreachable),
    }
}

async fn dial_tcp(worker: &Worker, host: &str, port: u16) -> Result<Socket, ConnectFailure> {
    let mut last = ConnectFailure::Unresolved;
    let addresses = addresses(worker, host, port);
    // An address that swallows packets must leave time for the others.
    let share = worker.setup().model.timeouts.connect / addresses.len().max(1) as u32;
    for address in addresses {
        match monoio::time::timeout(share, Socket::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = failure(&error),
            Err(_) => last = ConnectFailure::TimedOut,
        }
    }
    Err(last)
}

/// The addresses to try, in order.
fn addresses(worker: &Worker, host: &str, port: u16) -> Vec<SocketAddr> {
    if let Ok(ip) = host.parse() {
        return vec![SocketAddr::new(ip, port)];
    }
    let resolved = worker.resolved();
    let found = resolved.lookup(host, port).unwrap_or_default();
    found.iter().copied().take(limits::CONNECT_ADDRESSES).collect()
}

fn failure(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectFailure::Refused,
        io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        _ => ConnectFailure::Unreachable,
    }
}

async fn handshake(
    mut stream: Stream,
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
) -> Result<Stream, ConnectFailure> {
    let mut handshake = ClientHandshake::new(config, name).map_err(|_| ConnectFailure::Tls)?;
    loop {
        let (input, out) = stream.handshake_buffers();
        let step = handshake.receive(input, out);
        let step = match step {
            Ok(step) => step,
            Err(_) => {
                // The alert tells the app what is wrong.
                stream.flush();
                settle(&mut stream, false, |stream| !stream.wants_write()).await;
                return Err(ConnectFailure::Tls);
            }
        };
        stream.consume(step.used);
        stream.flush();
        if step.done {
            settle(&mut stream, false, |stream| !stream.wants_write()).await;
            let (records, _) = handshake.finish().map_err(|_| ConnectFailure::Tls)?;
            stream.protect(records);
            return Ok(stream);
        }
        let before = stream.received().len();
        settle(&mut stream, true, |stream| stream.received().len() > before || stream.read_end().is_some())
            .await;
        if stream.read_end().is_some() || stream.is_write_failed() {
            return Err(ConnectFailure::Tls);
        }
    }
}

/// Drives the stream's operations until `done` or sending fails.
async fn settle(stream: &mut Stream, reads: bool, done: impl Fn(&Stream) -> bool) {
    std::future::poll_fn(|cx| {
        loop {
            if reads {
                stream.want_read();
            }
            let (received, sent) = stream.poll(cx, Instant::now());
            if done(stream) || stream.is_write_failed() {
                return std::task::Poll::Ready(());
            }
            if !received && sent.is_none() {
                return std::task::Poll::Pending;
            }
        }
    })
    .await;
}
