//! What became of a request: gathered while it lives, turned into counters and one log line at its end.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::http::head::Version;
use crate::upstream::group::EndpointId;

/// Why a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Answered in full.
    #[default]
    Complete,
    /// Refused, or answered by the proxy itself because of the client.
    Refused,
    /// The client went away.
    ClientClosed,
    /// The client made no progress.
    ClientTimeout,
    /// The app failed: refused, reset, cut short, or unintelligible.
    UpstreamFailed,
    /// The app made no progress.
    UpstreamTimeout,
    /// Became a tunnel, which ended in order.
    Tunnel,
    /// Cut at the end of the drain deadline.
    Drained,
}

impl End {
    /// Its word in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Refused => "refused",
            Self::ClientClosed => "client-closed",
            Self::ClientTimeout => "client-timeout",
            Self::UpstreamFailed => "upstream-failed",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::Tunnel => "tunnel",
            Self::Drained => "drained",
        }
    }
}

/// The client side of a connection, as far as requests need it.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The client's address: the TCP peer, or what a trusted peer's PROXY prefix says.
    pub client: SocketAddr,
    /// The client's IP address as text.
    pub client_ip: String,
    /// Whether the peer is in `trusted_proxies`.
    pub trusted: bool,
    /// TLS version, unless plain.
    pub tls: Option<&'static str>,
    /// Whether the TLS session was resumed.
    pub resumed: bool,
    /// Number of the worker.
    pub worker: u16,
}

/// Gathered facts of one request. Client bytes are copied here because their buffer is reused while
/// the response is still under way.
#[derive(Debug)]
pub struct Outcome {
    /// Site, once known.
    pub site: Option<u32>,
    /// Endpoint of the last attempt.
    pub endpoint: Option<EndpointId>,
    /// The client as trusted proxies in front name it.
    pub client: Option<IpAddr>,
    /// Method token.
    pub method: Vec<u8>,
    /// Request-target, at most [`TARGET_KEPT`] bytes.
    pub target: Vec<u8>,
    /// Host as sent.
    pub host: Vec<u8>,
    /// Version of the request.
    pub version: Version,
    /// Status sent; 499 when the client went away first, 0 when there was no answer.
    pub status: u16,
    /// Request bytes: head and body.
    pub bytes_in: u64,
    /// Response bytes: head and body.
    pub bytes_out: u64,
    /// First byte of the request.
    pub started: Instant,
    /// The head was whole.
    pub head_done: Option<Instant>,
    /// The upstream connection was there.
    pub connected: Option<Instant>,
    /// First byte of the response.
    pub first_byte: Option<Instant>,
    /// Attempts at an upstream.
    pub attempts: u32,
    /// Why it ended.
    pub end: End,
    /// More about it: a closed set of words.
    pub reason: Option<&'static str>,
    /// Position of the byte that was refused, from the start of the head.
    pub at: Option<u32>,
}

/// Bytes of a target that the log shows.
pub const TARGET_KEPT: usize = 2048;

impl Outcome {
    /// Of a request whose first byte came at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            site: None,
            endpoint: None,
            client: None,
            method: Vec::new(),
            target: Vec::new(),
            host: Vec::new(),
            version: Version::Http11,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            started: now,
            head_done: None,
            connected: None,
            first_byte: None,
            attempts: 0,
            end: End::Complete,
            reason: None,
            at: None,
        }
    }

    /// For the next request on the same connection; keeps the memory.
    pub fn reset(&mut self, now: Instant) {
        let Self { mut method, mut target, mut host, .. } = std::mem::replace(self, Self::new(now));
        method.clear();
        target.clear();
        host.clear();
        *self = Self { method, target, host, ..Self::new(now) };
    }

    /// Notes why, unless something was noted before: the first cause is the cause.
    pub fn because(&mut self, end: End, reason: &'static str) {
        if self.reason.is_none() {
            self.end = end;
            self.reason = Some(reason);
        }
    }
}
