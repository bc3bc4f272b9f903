//! One client connection from accept to close. It is a future polled by its worker: it looks which
//! operations are over, lets the machines of the rooms above take their bytes, begins what they ask for.
//!
//! ```text
//!  Hello ──> Handshake ──> Http ──> Closing ──> over     (any of them can close)
//!   │ ^ └─(plain)───────────^ └──> Resting ──┐
//!   v │                       └──────────────┘
//!  Demand
//! ```

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::deadline::Deadline;
use super::gauge::Counted;
use super::log_line;
use super::serve_http1::Serving;
use super::stream::{ReadEnd, Stream};
use super::sys::Socket;
use super::worker::{Current, Protocol, Worker};
use crate::config::model::RecordLayer;
use crate::handoff::wishes::Waiting;
use crate::http::method::Method;
use crate::limits;
use crate::proxy::outcome::ConnectionFacts;
use crate::proxy::reply::Reply;
use crate::telemetry::metrics::Counter;
use crate::tls::alert;
use crate::tls::certs::Entry;
use crate::tls::choose::{Refusal, choose};
use crate::tls::client_hello::{self, HelloError};
use crate::tls::server_name::{self, ServerName};
use crate::tls::session::Handshake;
use crate::wire::Parse;
use crate::wire::proxy_protocol;

mod demand;

/// Whose connection it is and what it was chosen for.
pub(super) struct Side {
    pub(super) worker: Rc<Worker>,
    pub(super) setup: Rc<Current>,
    pub(super) facts: ConnectionFacts,
    pub(super) entry: Option<Arc<Entry>>,
    pub(super) protocol: Protocol,
}

enum Phase {
    /// A PROXY prefix, if one is due, and a ClientHello, on TLS listeners. `decided`: a certificate on
    /// demand was waited for.
    Hello { prefix_due: bool, decided: bool },
    /// The name of the ClientHello, which stays unread, has no certificate yet.
    Demand(Waiting),
    /// rustls at work.
    Handshake(Box<Handshake>),
    /// Requests.
    Http(Box<Serving>),
    /// Between requests for a while: only keys, counters and a place in the deadline wheel are held.
    Resting { _counted: Counted },
    /// What is queued is sent, then what still comes is thrown away for a moment, so that a reset does
    /// not overtake the answer (RFC 9112 §9.6).
    Closing { shut: Option<Instant>, linger: bool },
}

/// What a step through a phase came to.
pub(super) enum Step {
    /// Something moved: look again.
    Progress,
    /// Nothing moved: wait.
    Wait,
    /// It is the turn of others.
    Pause,
    /// A request is over and the connection goes on: the next one sees the latest configuration.
    Renew,
    /// Send what is queued and close; `linger`: unread bytes may be under way.
    Close {
        /// Whether to read on for a moment.
        linger: bool,
    },
    /// Drop everything. `reset`: so that the peer sees a cut.
    Cut {
        /// Whether to send a reset.
        reset: bool,
    },
}

struct Connection {
    side: Side,
    client: Stream,
    phase: Phase,
    deadline: Deadline,
    /// End of the current phase, except for HTTP, whose exchange has its own.
    until: Instant,
    began: Instant,
}

/// Rounds of one connection in one turn of the loop.
const ROUNDS: u32 = 64;

/// Serves a client until its connection ends. A future written out, not an `async fn`, which would hold its
/// arguments beside what is made of them.
pub(super) struct Served {
    connection: Option<Connection>,
}

impl Served {
    pub(super) fn new(worker: &Rc<Worker>, socket: Socket, peer: SocketAddr, protocol: Protocol) -> Self {
        Self { connection: Some(Connection::new(worker, socket, peer, protocol)) }
    }
}

impl Future for Served {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(()) };
        std::task::ready!(connection.poll(cx));
        let worker = Rc::clone(&connection.side.worker);
        self.connection = None;
        worker.closed();
        Poll::Ready(())
    }
}

impl Connection {
    fn new(worker: &Rc<Worker>, socket: Socket, peer: SocketAddr, protocol: Protocol) -> Self {
        let now = Instant::now();
        let setup = worker.setup();
        let server = &setup.model.server;
        let trusted = server.trusted_proxies.iter().any(|network| network.contains(peer.ip()));
        let facts = ConnectionFacts {
            client: peer,
            client_ip: peer.ip().to_string(),
            trusted,
            tls: None,
            resumed: false,
            worker: worker.number,
        };
        let prefix_due = trusted && server.proxy_protocol;
        let until = now + setup.model.timeouts.hello;
        let side = Side { worker: Rc::clone(worker), setup, facts, entry: None, protocol };
        let phase = if protocol == Protocol::Http && !prefix_due {
            Phase::Http(Box::new(Serving::new(now, worker.buffers.clone())))
        } else {
            Phase::Hello { prefix_due, decided: false }
        };
        Self {
            client: Stream::new(socket, worker.buffers.clone()),
            deadline: worker.wheel.deadline(Waker::noop().clone()),
            side,
            phase,
            until,
            began: now,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        self.deadline.wakes(cx.waker());
        for round in 0.. {
            if round == ROUNDS {
                // A peer that always has more (on epoll, operations end at once) lets the others go on.
                cx.waker().wake_by_ref();
                break;
            }
            let (received, sent) = self.client.poll(cx, now);
            let step = match &mut self.phase {
                Phase::Hello { prefix_due: true, .. } => self.prefix(now),
                Phase::Hello { decided, .. } => {
                    let decided = *decided;
                    self.hello(now, decided)
                }
                Phase::Demand(_) => self.demand(cx, now),
                Phase::Handshake(_) => self.handshake(cx, now),
                Phase::Http(serving) => serving.step(&self.side, &mut self.client, sent, cx, now),
                Phase::Resting { .. } => self.resting(now),
                Phase::Closing { .. } => self.closing(now),
            };
            match step {
                Step::Progress => {}
                Step::Wait if received || sent.is_some() => {}
                Step::Wait | Step::Pause => break,
                Step::Renew => self.side.setup = self.side.worker.setup(),
                Step::Close { linger } => self.close(linger, now),
                Step::Cut { reset } => {
                    if reset {
                        self.client.socket().reset_on_close();
                    }
                    return Poll::Ready(());
                }
            }
        }
        let mut due = Some(self.until);
        if let Phase::Http(serving) = &self.phase {
            due = serving.deadline(&self.side, &self.client);
            if let (Some(since), Some(end)) = (serving.idle_since(&self.client), due) {
                if now >= since + limits::REST_AFTER {
                    self.until = end;
                    self.phase = Phase::Resting {
                        _counted: Counted::new(&self.side.worker, Counter::ConnectionsIdle),
                    };
                    self.client.rest();
                    self.side.worker.rested();
                } else {
                    due = Some(end.min(since + limits::REST_AFTER));
                }
            }
        }
        self.deadline.set(due);
        Poll::Pending
    }

    fn close(&mut self, linger: bool, now: Instant) {
        // Dropping the exchange frees its upstream connection.
        self.phase = Phase::Closing { shut: None, linger };
        self.until = now + self.side.setup.model.timeouts.write;
    }

    /// Waits for more bytes of a phase; ends it when there are none or time is up.
    fn wait(&mut self, now: Instant, cut: &'static str, late: &'static str) -> Step {
        if self.client.read_end().is_some() {
            // A peer that connects and says nothing (a health check) is no event.
            if !self.client.received().is_empty() || matches!(self.phase, Phase::Handshake(_)) {
                self.refused(now, cut, Counter::RefusedHandshake);
            }
            return Step::Cut { reset: false };
        }
        if now >= self.until {
            self.refused(now, late, Counter::RefusedHandshakeTimeout);
            return Step::Cut { reset: false };
        }
        if self.side.worker.draining().is_some() {
            return Step::Cut { reset: false };
        }
        if self.client.want_read() { Step::Progress } else { Step::Wait }
    }

    fn refused(&self, now: Instant, reason: &'static str, counter: Counter) {
        let site = self.side.entry.as_ref().map(|entry| entry.site() as usize);
        let name = site.and_then(|site| self.side.setup.meters.sites().get(site));
        self.refused_for(now, reason, counter, name.map_or(b"", |name| name.as_bytes()));
    }

    fn refused_for(&self, now: Instant, reason: &'static str, counter: Counter, name: &[u8]) {
        self.side.worker.counters.count(counter);
        log_line::refused_connection(&self.side, self.began, now, reason, name);
    }

    /// The PROXY protocol prefix that a trusted peer owes.
    fn prefix(&mut self, now: Instant) -> Step {
        let input = self.client.received();
        if input.is_empty() {
            return self.wait(now, "proxy-prefix-cut", "proxy-prefix-timeout");
        }
        match proxy_protocol::parse(input) {
            Ok(Parse::Partial) => self.wait(now, "proxy-prefix-cut", "proxy-prefix-timeout"),
            Ok(Parse::Done { value, used }) => {
                if let Some(source) = value.source {
                    self.side.facts.client = SocketAddr::new(source.ip().to_canonical(), source.port());
                    self.side.facts.client_ip = self.side.facts.client.ip().to_string();
                }
                // The peer that spoke PROXY is trusted for that; whether the client it names is trusted
                // for forwarding fields is asked anew.
                let networks = &self.side.setup.model.server.trusted_proxies;
                let ip = self.side.facts.client.ip();
                self.side.facts.trusted = networks.iter().any(|network| network.contains(ip));
                self.client.consume(used);
                self.phase = match self.side.protocol {
                    Protocol::Https => Phase::Hello { prefix_due: false, decided: false },
                    Protocol::Http => {
                        Phase::Http(Box::new(Serving::new(now, self.side.worker.buffers.clone())))
                    }
                };
                Step::Progress
            }
            Err(_) => {
                self.refused(now, "proxy-prefix-malformed", Counter::RefusedProxyPrefix);
                Step::Cut { reset: false }
            }
        }
    }

    fn hello(&mut self, now: Instant, decided: bool) -> Step {
        if self.client.received().is_empty() {
            return self.wait(now, "hello-cut", "hello-timeout");
        }
        let worker = Rc::clone(&self.side.worker);
        let mut scratch = worker.hello_scratch.borrow_mut();
        let hello = match client_hello::read(self.client.received(), &mut scratch) {
            Ok(Parse::Partial) => {
                drop(scratch);
                return self.wait(now, "hello-cut", "hello-timeout");
            }
            Ok(Parse::Done { value, .. }) => value,
            Err(error) => {
                drop(scratch);
                return self.malformed_hello(now, error);
            }
        };
        let local = if hello.server_name().is_some() { None } else { self.client.socket().local_addr().ok() };
        // The address matters only for clients that name no host.
        let local =
            local.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |address| address.ip().to_canonical());
        let chosen = choose(&self.side.setup.store, &hello, local);
        match chosen {
            Ok(chosen) => match Handshake::new(Arc::clone(chosen.entry.config())) {
                Ok(handshake) => {
                    chosen.entry.note_use();
                    self.side.entry = Some(Arc::clone(chosen.entry));
                    self.phase = Phase::Handshake(Box::new(handshake));
                    self.until = now + self.side.setup.model.timeouts.handshake;
                    Step::Progress
                }
                Err(error) => {
                    self.refused(now, error.reason(), Counter::RefusedHandshake);
                    Step::Cut { reset: false }
                }
            },
            Err(Refusal::OnDemand) => {
                let mut name = ServerName::new();
                // It was looked up in this form.
                let _ = server_name::normalise(hello.server_name().unwrap_or_default(), &mut name);
                drop(scratch);
                self.wish(now, &name, decided)
            }
            Err(refusal) => {
                let counter = match refusal {
                    Refusal::NoServerName => Counter::RefusedNoSni,
                    Refusal::UnknownServerName => Counter::RefusedUnknownName,
                    Refusal::CertificateNotReady => Counter::RefusedNoCertificate,
                    _ => Counter::RefusedHandshake,
                };
                self.refused_for(now, refusal.reason(), counter, hello.server_name().unwrap_or_default());
                self.client.push_raw(&alert::plaintext_alert(refusal.alert()));
                Step::Close { linger: true }
            }
        }
    }

    fn malformed_hello(&mut self, now: Instant, error: HelloError) -> Step {
        let counter = match error {
            HelloError::NotTls { looks_like_http: true } => Counter::RefusedPlain,
            HelloError::NotTls { .. } => Counter::RefusedNotTls,
            _ => Counter::RefusedMalformedHello,
        };
        self.refused(now, error.reason(), counter);
        if let Some(description) = error.alert() {
            self.client.push_raw(&alert::plaintext_alert(description));
            return Step::Close { linger: true };
        }
        if error == (HelloError::NotTls { looks_like_http: true }) {
            let reply = Reply::new(400, "This port speaks HTTPS: use https:// in the URL.");
            let date = self.side.worker.date();
            reply.write(Method::Get, false, &date, self.client.out_mut());
            return Step::Close { linger: true };
        }
        Step::Cut { reset: false }
    }

    fn handshake(&mut self, cx: &Context<'_>, now: Instant) -> Step {
        let Phase::Handshake(handshake) = &mut self.phase else { return Step::Wait };
        if self.client.received().is_empty() {
            let flushed = self.client.flush();
            let step = self.wait(now, "handshake-cut", "handshake-timeout");
            return if flushed && matches!(step, Step::Wait) { Step::Progress } else { step };
        }
        if !self.side.worker.pace.spend(cx.waker()) {
            return if now >= self.until { self.wait(now, "", "handshake-timeout") } else { Step::Pause };
        }
        let (input, out) = self.client.handshake_buffers();
        let step = match handshake.receive(input, out) {
            Ok(step) => step,
            Err(error) => {
                self.refused(now, error.reason(), Counter::RefusedHandshake);
                return Step::Close { linger: true };
            }
        };
        self.client.consume(step.used);
        if !step.done {
            let flushed = self.client.flush();
            if step.used > 0 {
                return Step::Progress;
            }
            let step = self.wait(now, "handshake-cut", "handshake-timeout");
            return if flushed && matches!(step, Step::Wait) { Step::Progress } else { step };
        }
        let Phase::Handshake(handshake) = std::mem::replace(
            &mut self.phase,
            Phase::Http(Box::new(Serving::new(now, self.side.worker.buffers.clone()))),
        ) else {
            return Step::Wait;
        };
        let finished = match self.side.setup.model.tls.records {
            RecordLayer::Own => handshake.finish(),
            RecordLayer::Rustls => handshake.finish_with_rustls(),
        };
        match finished {
            Ok((records, facts)) => {
                self.side.facts.tls = Some(if facts.tls13 { "TLSv1.3" } else { "TLSv1.2" });
                self.side.facts.resumed = facts.resumed;
                let kind = if facts.resumed { Counter::HandshakesResumed } else { Counter::HandshakesFull };
                self.side.worker.counters.count(kind);
                if let Some(meter) = self.side.setup.meters.of(self.side.facts.worker) {
                    // The deadline was set when the hello was whole, and has not moved since.
                    let left = self.until.saturating_duration_since(now);
                    let timeout = self.side.setup.model.timeouts.handshake;
                    meter.own().handshake.observe(timeout.saturating_sub(left));
                }
                self.client.protect(records);
                if self.side.entry.as_ref().is_some_and(|entry| entry.is_for_challenge()) {
                    // The authority has seen what it came for; RFC 8737 §3: nothing follows.
                    self.client.close_notify();
                    return Step::Close { linger: true };
                }
                self.client.flush();
                Step::Progress
            }
            Err(error) => {
                self.refused(now, error.reason(), Counter::RefusedHandshake);
                Step::Cut { reset: false }
            }
        }
    }

    fn resting(&mut self, now: Instant) -> Step {
        if !self.client.received().is_empty() || self.client.read_end().is_some() {
            self.side.setup = self.side.worker.setup();
            self.phase = Phase::Http(Box::new(Serving::new(now, self.side.worker.buffers.clone())));
            return Step::Progress;
        }
        if now >= self.until || self.side.worker.draining().is_some() {
            self.client.close_notify();
            return Step::Close { linger: true };
        }
        if self.client.want_read() { Step::Progress } else { Step::Wait }
    }

    fn closing(&mut self, now: Instant) -> Step {
        let Phase::Closing { shut, linger } = &mut self.phase else { return Step::Wait };
        if self.client.flush() {
            return Step::Progress;
        }
        if self.client.is_write_failed() || now >= self.until {
            return Step::Cut { reset: false };
        }
        if self.client.wants_write() {
            return Step::Wait;
        }
        if !*linger || self.client.is_fin() {
            return Step::Cut { reset: false };
        }
        let begun = *shut.get_or_insert_with(|| {
            self.client.socket().shutdown_write();
            self.client.stop_reading_records();
            self.until = now + limits::LINGER_TIMEOUT;
            now
        });
        let received = self.client.received().len();
        self.client.discard_received();
        // A client in the middle of an upload is let finish a thought; one that dribbles is not.
        if received >= limits::LINGER_PIECE {
            self.until = (now + limits::LINGER_TIMEOUT).min(begun + limits::LINGER_TOTAL);
        }
        if self.client.want_read() { Step::Progress } else { Step::Wait }
    }
}

/// Whether an end of receiving means that the client is gone, rather than that it only sends no more.
pub(super) fn is_gone(client: &Stream, end: ReadEnd) -> bool {
    match end {
        ReadEnd::CloseNotify => client.is_fin(),
        ReadEnd::Fin => client.is_tls(),
        ReadEnd::Reset | ReadEnd::Broken(_) => true,
    }
}
