//! The fuzz target of the exchange: a script of operations in any order, some of which no engine would
//! choose, against one machine. Whatever comes: no panic, bounded buffers, a deadline or an action for
//! every wait, and actions that fit together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::testing::model;
use super::{Action, Blocked, ClientEnd, ConnectFailure, Context, Exchange, Finish};
use crate::config::model::Model;
use crate::limits;
use crate::proxy::outcome::ConnectionFacts;
use crate::proxy::route::Table;
use crate::upstream::group::EndpointId;

/// What the engine would hold beside the exchange.
struct Engine {
    model: Model,
    table: Table,
    facts: ConnectionFacts,
    now: Instant,
    exchange: Exchange,
    client: Vec<u8>,
    app: Vec<u8>,
    wanted: bool,
    linked: bool,
    over: bool,
}

fn small_model() -> Model {
    let mut model = model(&[("a", "/demo", "demo"), ("a", "/*", "127.0.0.1:1")]);
    model.limits.body = Some(5);
    for site in &mut model.sites {
        Arc::make_mut(site).redirect = false;
    }
    model
}

/// Pieces from which random scripts reach every state.
const CLIENT: [&[u8]; 13] = [
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"PUT /demo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\r\n",
];
const APP: [&[u8]; 10] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\nA: b\r\n\r\n",
    b"hello",
];

/// Runs the script `data` from the moment `now` on: steps of a kind, an argument and as many bytes as the
/// kind takes.
///
/// # Panics
/// When a buffer grows past its bound, a wait has no deadline, or actions contradict each other.
pub fn fuzz(mut data: &[u8], now: Instant) {
    let model = small_model();
    let facts = ConnectionFacts {
        client: ([192, 0, 2, 1], 1).into(),
        client_ip: "192.0.2.1".into(),
        trusted: false,
        tls: None,
        resumed: false,
        worker: 0,
    };
    let mut engine = Engine {
        table: Table::new(&model),
        model,
        facts,
        now,
        exchange: Exchange::new(now),
        client: Vec::new(),
        app: Vec::new(),
        wanted: false,
        linked: false,
        over: false,
    };
    while let Some((&[kind, argument], rest)) = data.split_first_chunk::<2>() {
        let raw = matches!(kind % 16, 2 | 5);
        let length = if raw { usize::from(argument) } else { 0 };
        let (bytes, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        data = rest;
        engine.operate(kind % 16, usize::from(argument), bytes);
        engine.settle();
        if engine.over {
            return;
        }
    }
}

/// Calls a verb of the exchange with the context of now.
macro_rules! tell {
    ($engine:ident, $verb:ident $(, $argument:expr)*) => {{
        let cx = Context {
            model: &$engine.model,
            table: &$engine.table,
            facts: &$engine.facts,
            entry: None,
            tokens: &crate::proxy::challenge::NO_TOKENS,
            store: None,
            https_port: 443,
            draining: false,
            now: $engine.now,
            date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        };
        $engine.exchange.$verb(&cx $(, $argument)*)
    }};
}

impl Engine {
    fn operate(&mut self, kind: u8, argument: usize, bytes: &[u8]) {
        match kind {
            0 | 1 => self
                .client
                .extend_from_slice(CLIENT.get(argument % CLIENT.len()).copied().unwrap_or_default()),
            2 => self.client.extend_from_slice(bytes),
            3 | 4 if self.linked => {
                self.app.extend_from_slice(APP.get(argument % APP.len()).copied().unwrap_or_default())
            }
            5 if self.linked => self.app.extend_from_slice(bytes),
            6 | 7 if self.wanted => {
                (self.wanted, self.linked) = (false, true);
                tell!(self, connected, EndpointId(1), argument & 1 == 0);
            }
            8 if self.wanted => {
                self.wanted = false;
                let failures = [ConnectFailure::Refused, ConnectFailure::TimedOut, ConnectFailure::Exhausted];
                let failure = failures.get(argument % 3).copied().unwrap_or(ConnectFailure::Tls);
                tell!(self, connect_failed, Some(EndpointId(1)), failure);
            }
            9 | 10 if self.linked => {
                tell!(self, upstream_closed, argument & 1 == 0, argument & 2 == 0);
            }
            11 => self.exchange.upstream_stopped_reading(),
            12 if argument < 100 => {
                self.exchange.client_closed(if argument < 50 {
                    ClientEnd::HalfClosed
                } else {
                    ClientEnd::Gone
                });
            }
            13 => {
                self.exchange.upstream_out().clear();
                self.exchange.upstream_wrote(self.now);
            }
            14 => self.exchange.client_wrote(self.now),
            15 => self.wait(argument),
            _ => {}
        }
    }

    /// Time passes, perhaps until a wait is over.
    fn wait(&mut self, argument: usize) {
        let blocked = Blocked { client: argument & 1 > 0, upstream: argument & 2 > 0 && self.linked };
        let due = self.exchange.deadline(&self.model.timeouts, blocked);
        self.now += Duration::from_secs(argument as u64 / 4);
        if let Some((at, timer)) = due.filter(|(at, _)| self.now >= *at || argument > 200) {
            self.now = self.now.max(at);
            tell!(self, expired, timer);
        }
    }

    /// Everything that can move moves, and what must hold is asked.
    fn settle(&mut self) {
        while self.exchange.wants_request() && !self.client.is_empty() {
            let used = tell!(self, receive_request, &self.client);
            assert!(used <= self.client.len(), "no more than there is");
            self.client.drain(..used);
            let bound = limits::UPLOAD_QUEUE_BYTES + self.client.len() + used + limits::TRAILER_BYTES;
            assert!(self.exchange.upstream_out().len() <= bound, "what goes to the app is bounded");
            if used == 0 {
                break;
            }
        }
        while self.linked && self.exchange.wants_response() && !self.app.is_empty() {
            let step = tell!(self, receive_response, &self.app);
            assert!(step.used <= self.app.len() && step.data.end() <= step.used, "{step:?}");
            self.app.drain(..step.used);
            self.drain_client_out();
            self.exchange.end_of_body_is_owed();
            if step.used == 0 {
                break;
            }
        }
        self.drain_client_out();
        self.act();
        let waits = self.exchange.deadline(&self.model.timeouts, Blocked::default());
        assert!(self.over || waits.is_some(), "a wait without a deadline: {:?}", self.exchange);
    }

    fn drain_client_out(&mut self) {
        let out = self.exchange.client_out();
        assert!(
            out.len() <= 2 * limits::HEAD_BYTES + limits::TRAILER_BYTES,
            "what goes to the client is bounded"
        );
        out.clear();
    }

    fn act(&mut self) {
        while let Some(action) = self.exchange.next_action() {
            match action {
                Action::Acquire { .. } => {
                    assert!(!self.linked && !self.wanted, "one connection at a time");
                    self.wanted = true;
                }
                Action::Release { keep, .. } => {
                    assert!(!keep || self.linked, "nothing is kept that is not there");
                    (self.linked, self.wanted) = (false, false);
                    self.app.clear();
                }
                Action::ShutdownUpstream => {
                    assert!(self.linked && self.exchange.is_tunnel(), "only of a tunnel: {:?}", self.exchange)
                }
                Action::Finish(Finish::KeepAlive) => {
                    assert!(!self.linked && !self.wanted, "the app's connection is given back first");
                    assert!(self.exchange.outcome().status >= 200, "one request, one answer");
                    self.exchange.reset(self.now);
                    return;
                }
                Action::Finish(_) => {
                    assert!(!self.linked && !self.wanted, "the app's connection is given back first");
                    self.over = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::fuzz;

    #[test]
    fn a_half_close_after_the_tunnel_has_ended_shuts_nothing() {
        let script =
            [0, 96, 237, 255, 22, 58, 195, 54, 239, 0, 0, 0, 0, 0, 0, 0, 12, 0, 116, 255, 255, 255, 255, 26];
        fuzz(&script, Instant::now());
    }

    #[test]
    fn the_target_holds_on_seeded_scripts() {
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let now = Instant::now();
        for round in 0..20_000_usize {
            let mut script = Vec::new();
            for _ in 0..round % 40 {
                // Bytes and connects more often than ends, which make short scripts.
                let kind = if byte() % 4 > 0 { [0, 0, 3, 6][usize::from(byte() % 4)] } else { byte() };
                script.extend_from_slice(&[kind, byte()]);
            }
            fuzz(&script, now);
        }
    }
}
