//! Accepting: one task per listening socket. At a limit it pauses, says so once, and goes on by itself.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::net::TcpListener;

use super::connection::Served;
use super::sys::Socket;
use super::worker::{Protocol, Worker, room};
use crate::telemetry::metrics::Counter;

/// How long accepting rests when the system is out of descriptors or memory.
const REST: Duration = Duration::from_millis(50);

/// Accepts until the worker drains.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, protocol: Protocol) {
    let mut said = false;
    loop {
        if worker.is_full() && worker.draining().is_none() {
            worker.counters.count(Counter::AcceptPaused);
            say_once(&worker, &mut said, "the connection limit is reached");
            room(&worker).await;
        }
        let Some(accepted) = next(&worker, &listener).await else { return };
        match accepted {
            Ok((stream, peer)) => {
                worker.opened();
                let socket = Socket::new(stream);
                monoio::spawn(Served::new(&worker, socket, canonical(peer), protocol));
            }
            Err(error) if is_exhausted(&error) => {
                worker.counters.count(Counter::AcceptPaused);
                say_once(&worker, &mut said, &error.to_string());
                monoio::time::sleep(REST).await;
            }
            // The client gave up before it was accepted.
            Err(_) => {}
        }
    }
}

/// The next connection; `None` once draining has begun.
async fn next(worker: &Worker, listener: &TcpListener) -> Option<Accepted> {
    let mut accept = std::pin::pin!(listener.accept());
    std::future::poll_fn(|cx| {
        // One that is accepted already is served, draining or not.
        if let Poll::Ready(accepted) = accept.as_mut().poll(cx) {
            return Poll::Ready(Some(accepted));
        }
        if worker.draining().is_some() {
            return Poll::Ready(None);
        }
        worker.wait_for_room(cx.waker());
        Poll::Pending
    })
    .await
}

type Accepted = io::Result<(monoio::net::TcpStream, std::net::SocketAddr)>;

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn say_once(worker: &Worker, said: &mut bool, why: &str) {
    if !*said {
        *said = true;
        (worker.warn)(&format!("accepting pauses: {why}; existing connections go on"));
    }
}

/// The peer's address as it is compared and logged: IPv4-mapped IPv6 as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
