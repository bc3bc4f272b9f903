//! The life of one request, from the first byte of its head to the last byte of its answer.
//!
//! ```text
//!  upload:    Head ──> Body ──> Done            download:  Idle ──> Head ──> Body ──> Done
//!               │        └────> Discard ──> Done             │        └──> Tunnel
//!               └─> (refused: Done or Discard)               └─> (answered by ourselves: Done)
//!  link:      None ──> Wanted ──> Open ──> Closed
//!                        ^──────────┘ (replay)
//! ```
//!
//! Bytes and events go in through the `receive_*`, `connected`, `*_closed` and `expired` verbs; bytes come
//! out of [`Exchange::upstream_out`], [`Exchange::client_out`] and the spans of a [`ResponseStep`], actions
//! out of [`Exchange::next_action`]. It does no I/O and reads no clock.

mod failure;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod request;
mod response;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod words;

use std::time::Instant;

use crate::config::model::Model;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::method::Method;
use crate::http1::body::BodyReader;
use crate::http1::framing::Framing;
use crate::http1::head::HeadReader;
use crate::limits;
use crate::proxy::challenge::Tokens;
use crate::proxy::outcome::{ConnectionFacts, End, Outcome};
use crate::proxy::retry::Replay;
use crate::proxy::rewrite::Delivery;
use crate::proxy::route::Table;
use crate::tls::certs::{Entry, Store};
use crate::upstream::group::{EndpointId, GroupId};
use crate::wire::budget::Budget;

pub use failure::ConnectFailure;
#[cfg(any(test, fuzzing))]
pub use fuzz::fuzz;
use timers::Since;
pub use timers::{Blocked, Timer};
pub use words::{Action, ClientEnd, Finish, ResponseStep};

/// What every verb needs to know of the world.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The configuration that this request was begun under.
    pub model: &'a Model,
    /// Its routes.
    pub table: &'a Table,
    /// The client's connection.
    pub facts: &'a ConnectionFacts,
    /// What its TLS session was chosen for; `None` on plain connections.
    pub entry: Option<&'a Entry>,
    /// Challenges that are answered on plain connections.
    pub tokens: &'a Tokens,
    /// Certificates in service, where names on demand are found; `None`: there are no such names.
    pub store: Option<&'a Store>,
    /// Port of the HTTPS listener, for redirects.
    pub https_port: u16,
    /// Whether the worker is draining.
    pub draining: bool,
    /// Current time.
    pub now: Instant,
    /// Current date (IMF-fixdate).
    pub date: &'a [u8],
}

/// Progress of the request.
#[derive(Debug)]
enum Upload {
    Head,
    Body(BodyReader),
    /// Read and thrown away, at most so many bytes, so that the connection can go on.
    Discard(BodyReader, u64),
    Done,
    Tunnel,
}

/// Progress of the response.
#[derive(Debug)]
enum Download {
    Idle,
    Head,
    Body(BodyReader),
    Done,
    Tunnel,
}

/// The connection to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None,
    Wanted,
    Open { endpoint: EndpointId, reused: bool },
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Exchange {
    outcome: Outcome,
    upload: Upload,
    download: Download,
    link: Link,
    since: Since,
    request_reader: HeadReader,
    response_reader: HeadReader,
    request_head: RequestHead,
    response_head: ResponseHead,
    method: Method,
    version: Version,
    framing: Framing,
    group: Option<GroupId>,
    demo: bool,
    keep_alive: bool,
    /// The client waits for 100 (Continue), and neither it nor the app has gone on.
    awaits_continue: bool,
    /// Protocols that the client offered to switch to.
    offered: Vec<u8>,
    delivery: Delivery,
    /// Whether a final response head was handed out.
    answered: bool,
    response_keep_alive: bool,
    response_timeout: Option<u32>,
    interim: Budget,
    replay: Replay,
    body_bytes: u64,
    upstream_out: Vec<u8>,
    client_out: Vec<u8>,
    host: Vec<u8>,
    path: Vec<u8>,
    acquire: Option<Action>,
    release: Option<Action>,
    shutdown: bool,
    client_half_closed: bool,
    /// Whether an empty line came before the request line.
    empty_line: bool,
    finish: Option<Finish>,
}

impl Exchange {
    /// Waits for a request from `now` on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let since = Since {
            client_read: now,
            client_write: now,
            head: None,
            dial: now,
            upstream_read: now,
            upstream_write: now,
        };
        Self {
            outcome: Outcome::new(now),
            upload: Upload::Head,
            download: Download::Idle,
            link: Link::None,
            since,
            request_reader: HeadReader::default(),
            response_reader: HeadReader::default(),
            request_head: RequestHead::default(),
            response_head: ResponseHead::default(),
            method: Method::Get,
            version: Version::Http11,
            framing: Framing::None,
            group: None,
            demo: false,
            keep_alive: false,
            awaits_continue: false,
            offered: Vec::new(),
            delivery: NO_DELIVERY,
            answered: false,
            response_keep_alive: false,
            response_timeout: None,
            interim: Budget::new(limits::INTERIM_RESPONSES),
            replay: Replay::default(),
            body_bytes: 0,
            upstream_out: Vec::new(),
            client_out: Vec::new(),
            host: Vec::new(),
            path: Vec::new(),
            acquire: None,
            release: None,
            shutdown: false,
            client_half_closed: false,
            empty_line: false,
            finish: None,
        }
    }

    /// For the next request on the same connection; keeps the memory.
    pub fn reset(&mut self, now: Instant) {
        self.outcome.reset(now);
        self.upload = Upload::Head;
        self.download = Download::Idle;
        self.link = Link::None;
        self.since.client_read = now;
        self.since.client_write = now;
        self.since.head = None;
        self.request_reader = HeadReader::default();
        self.response_reader = HeadReader::default();
        self.method = Method::Get;
        self.version = Version::Http11;
        self.framing = Framing::None;
        self.group = None;
        self.demo = false;
        self.keep_alive = false;
        self.awaits_continue = false;
        self.offered.clear();
        self.delivery = NO_DELIVERY;
        self.answered = false;
        self.response_keep_alive = false;
        self.response_timeout = None;
        self.interim = Budget::new(limits::INTERIM_RESPONSES);
        self.replay.reset();
        self.body_bytes = 0;
        // A long upload leaves a large buffer, which a connection that waits must not keep.
        if self.upstream_out.capacity() > limits::HEAD_BYTES {
            self.upstream_out = Vec::new();
        }
        self.upstream_out.clear();
        self.client_out.clear();
        self.acquire = None;
        self.release = None;
        self.shutdown = false;
        self.client_half_closed = false;
        self.empty_line = false;
        self.finish = None;
    }

    /// What is known of the request, for counters and the log.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether not a byte of a request has come yet.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.upload, Upload::Head) && self.since.head.is_none() && self.finish.is_none()
    }

    /// Since when the next request is awaited; `None` while there is one.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then_some(self.since.client_read)
    }

    /// Whether a request head is being awaited.
    #[must_use]
    pub fn awaits_head(&self) -> bool {
        matches!(self.upload, Upload::Head) && self.finish.is_none()
    }

    /// Whether this is a tunnel now.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        matches!(self.download, Download::Tunnel)
    }

    /// Bytes to send to the app.
    pub fn upstream_out(&mut self) -> &mut Vec<u8> {
        &mut self.upstream_out
    }

    /// Bytes to send to the client, before the data of the step that made them.
    pub fn client_out(&mut self) -> &mut Vec<u8> {
        &mut self.client_out
    }

    /// Whether client bytes can be taken now. `false` is back-pressure.
    #[must_use]
    pub fn wants_request(&self) -> bool {
        let room = self.upstream_out.len() < limits::UPLOAD_QUEUE_BYTES;
        match self.upload {
            Upload::Head => self.finish.is_none(),
            Upload::Body(_) => room,
            Upload::Discard(..) => true,
            Upload::Tunnel => room && !self.shutdown,
            Upload::Done => false,
        }
    }

    /// Whether this was a tunnel that did not end in order.
    #[must_use]
    pub fn is_cut_tunnel(&self) -> bool {
        self.outcome.end == End::Tunnel && self.finish == Some(Finish::Abort)
    }

    /// A connection to `endpoint` is being made.
    pub fn dialling(&mut self, endpoint: EndpointId) {
        self.outcome.endpoint = Some(endpoint);
    }

    /// Whether upstream bytes can be taken now.
    #[must_use]
    pub fn wants_response(&self) -> bool {
        matches!(self.download, Download::Head | Download::Body(_) | Download::Tunnel)
    }

    /// Body bytes of the response that are still to come, if its length is known.
    #[must_use]
    pub fn response_left(&self) -> Option<u64> {
        match &self.download {
            Download::Body(reader) => reader.remaining_length(),
            _ => None,
        }
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(release) = self.release.take() {
            return Some(release);
        }
        if let Some(acquire) = self.acquire.take() {
            return Some(acquire);
        }
        if self.shutdown && self.upstream_out.is_empty() && matches!(self.upload, Upload::Tunnel) {
            self.upload = Upload::Done;
            return Some(Action::ShutdownUpstream);
        }
        self.finish.map(Action::Finish)
    }

    /// A connection to `endpoint` is there.
    pub fn connected(&mut self, cx: &Context<'_>, endpoint: EndpointId, reused: bool) {
        debug_assert!(self.link == Link::Wanted, "a connection that nobody asked for");
        self.link = Link::Open { endpoint, reused };
        self.outcome.endpoint = Some(endpoint);
        self.outcome.connected = Some(cx.now);
        self.download = Download::Head;
        self.since.upstream_read = cx.now;
        self.since.upstream_write = cx.now;
    }

    /// Whether a byte of a request has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.since.head.is_some()
    }

    /// Bytes of the response were queued for the client.
    pub fn client_pushes(&mut self, bytes: usize) {
        self.outcome.bytes_out += bytes as u64;
    }

    /// The client took bytes.
    pub fn client_wrote(&mut self, now: Instant) {
        self.since.client_write = now;
    }

    /// The app took bytes.
    pub fn upstream_wrote(&mut self, now: Instant) {
        self.since.upstream_write = now;
        if matches!(self.download, Download::Head) {
            // The time to the first byte runs from the last byte of the request.
            self.since.upstream_read = now;
        }
    }

    /// Bytes are waiting for the client from `now` on.
    pub fn client_write_begins(&mut self, now: Instant) {
        self.since.client_write = now;
    }

    /// Bytes are waiting for the app from `now` on.
    pub fn upstream_write_begins(&mut self, now: Instant) {
        self.since.upstream_write = now;
    }

    /// Whether much of a request body is still to come.
    #[must_use]
    pub fn upload_is_long(&self) -> bool {
        match &self.upload {
            Upload::Body(reader) => {
                reader.remaining_length().is_none_or(|left| left > limits::BULK_THRESHOLD)
            }
            _ => false,
        }
    }

    /// Everything of this answer was handed out.
    fn finish(&mut self, finish: Finish) {
        // A cut connection stays cut.
        if self.finish != Some(Finish::Abort) {
            self.finish = Some(finish);
        }
    }

    /// Gives the upstream connection back, if there is one, and stops waiting for one.
    fn release(&mut self, keep: bool) {
        if matches!(self.link, Link::Open { .. } | Link::Wanted) {
            self.release = Some(Action::Release { keep, timeout: self.response_timeout });
            self.link = Link::Closed;
        }
        self.acquire = None;
        // What is given back needs no closing of its sending half any more.
        self.shutdown = false;
        self.upstream_out.clear();
    }

    /// Whether the request may act twice without harm (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }
}

const NO_DELIVERY: Delivery =
    Delivery { framing: Framing::None, keep_alive: false, version: Version::Http11 };
