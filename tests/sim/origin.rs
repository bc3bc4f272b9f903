//! An origin's end of one connection: reads requests with the oracle and answers as planned.

use std::collections::HashMap;

use crate::luck::body;
use crate::message::{Item, Kind, Reader};
use crate::net::{Net, Port, Time};
use crate::spec::{Fate, Frame, Plan, Spec};

/// A request as an origin saw it.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    pub method: String,
    pub body: Vec<u8>,
    pub complete: bool,
    pub trailer: bool,
}

/// An answer as an origin gave it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Body bytes up to where it stopped (framing not counted).
    pub length: usize,
    /// Whether a reader may take it for whole.
    pub whole: bool,
    pub trailer: bool,
}

/// What all origins know and note.
#[derive(Default)]
pub struct Book {
    pub seed: u64,
    pub calm: bool,
    pub specs: HashMap<u64, Spec>,
    pub arrivals: HashMap<u64, Vec<Arrival>>,
    /// By `id-attempt`.
    pub answers: HashMap<String, Answer>,
    /// Bytes of the other protocol that came for an upgraded request.
    pub tunnels: HashMap<u64, Vec<u8>>,
    /// Whether an origin sent more than an answer.
    pub strays: bool,
    pub violations: Vec<String>,
}

struct Current {
    id: u64,
    attempt: u64,
    plan: Plan,
    request_whole: bool,
    answered: bool,
}

/// When an origin closes a connection that it has served before, in spite of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    Never,
    /// While the request is on its way.
    BeforeArrival,
    /// When it is there and not read yet.
    AtArrival,
}

/// See the module.
pub struct Origin {
    port: Port,
    reader: Reader,
    current: Option<Current>,
    out: Vec<u8>,
    sent: usize,
    /// What happens when `out` is sent.
    then: Option<Fate>,
    closes: bool,
    tunnel: bool,
    discards: bool,
    wake: Time,
    idle_since: Time,
    idle_limit: Time,
    stale: Stale,
    served: bool,
    pub over: bool,
}

impl Origin {
    pub fn new(port: Port, now: Time, idle_limit: Time, stale: Stale) -> Self {
        Self {
            port,
            reader: Reader::new(Kind::Request),
            current: None,
            out: Vec::new(),
            sent: 0,
            then: None,
            closes: false,
            tunnel: false,
            discards: false,
            wake: now,
            idle_since: now,
            idle_limit,
            stale,
            served: false,
            over: false,
        }
    }

    fn idle_end(&self) -> Option<Time> {
        let idle = self.current.is_none() && self.reader.is_between() && !self.discards;
        idle.then_some(self.idle_since + self.idle_limit)
    }

    pub fn next_wake(&self, now: Time) -> Option<Time> {
        if self.over {
            return None;
        }
        let wake = (self.wake > now).then_some(self.wake);
        wake.into_iter().chain(self.idle_end()).min()
    }

    pub fn act(&mut self, net: &mut Net, book: &mut Book, now: Time) -> bool {
        if self.over {
            return false;
        }
        let race = match self.stale {
            Stale::Never => false,
            Stale::BeforeArrival => net.is_coming(self.port) && !net.readable(self.port),
            Stale::AtArrival => net.readable(self.port),
        };
        if race && self.served && self.idle_end().is_some() {
            self.end(net, now, false);
            return true;
        }
        let read = self.read(net, book, now);
        if !self.over && self.idle_end().is_some_and(|at| now >= at) {
            self.over = true;
            net.close(self.port, now);
            return true;
        }
        let wrote = !self.over && now >= self.wake && self.write(net, book, now);
        read || wrote
    }

    fn read(&mut self, net: &mut Net, book: &mut Book, now: Time) -> bool {
        let stops = self.current.as_ref().is_some_and(|current| current.plan.fate == Fate::StopReading);
        if stops && !net.incoming(self.port).reset {
            return false;
        }
        let bytes = net.read(self.port, usize::MAX);
        if self.discards {
            let ended = net.incoming(self.port).fin || net.incoming(self.port).reset;
            self.over = ended;
            if ended {
                net.close(self.port, now);
            }
            return !bytes.is_empty() || ended;
        }
        self.reader.feed(&bytes);
        loop {
            match self.reader.next() {
                Ok(Some(item)) => self.item(item, book, now),
                Ok(None) => break,
                Err(error) => {
                    book.violations.push(format!("(c) an origin reads: {error}"));
                    self.over = true;
                    break;
                }
            }
        }
        let pipe = net.incoming(self.port);
        if pipe.reset || (pipe.fin && !self.tunnel) {
            self.over = true;
            net.close(self.port, now);
            return true;
        }
        // In a tunnel everything is said before the end is answered.
        if pipe.fin && self.tunnel && self.sent == self.out.len() && now >= self.wake {
            self.over = true;
            net.close(self.port, now);
            return true;
        }
        !bytes.is_empty()
    }

    fn item(&mut self, item: Item, book: &mut Book, now: Time) {
        match item {
            Item::Head(head) => {
                if !book.strays && (self.current.is_some() || self.sent < self.out.len()) {
                    book.violations.push("(e) a request on a connection that is not done with the last".into());
                }
                let id = head.start[1].strip_prefix("/r").and_then(|id| id.parse::<u64>().ok());
                let Some(spec) = id.and_then(|id| book.specs.get(&id)) else {
                    book.violations.push(format!("(c) nobody asked {:?}", head.start));
                    return;
                };
                let arrivals = book.arrivals.entry(spec.id).or_default();
                let attempt = arrivals.len() as u64;
                arrivals.push(Arrival { method: head.start[0].clone(), ..Arrival::default() });
                let plan = Plan::draw(book.seed, spec, attempt, book.calm);
                let early = plan.early || plan.fate == Fate::StopReading;
                self.current = Some(Current { id: spec.id, attempt, plan, request_whole: false, answered: false });
                if early {
                    self.answer(book, now);
                } else if spec.expect {
                    self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
            Item::Data(data) => {
                let Some(current) = &self.current else { return };
                if self.tunnel {
                    book.tunnels.entry(current.id).or_default().extend(data);
                } else if let Some(arrival) = book.arrivals.get_mut(&current.id).and_then(|all| all.last_mut()) {
                    arrival.body.extend(data);
                }
            }
            Item::End(trailers) => {
                let Some(current) = &mut self.current else { return };
                current.request_whole = true;
                let answered = current.answered;
                if let Some(arrival) = book.arrivals.get_mut(&current.id).and_then(|all| all.last_mut()) {
                    arrival.complete = true;
                    arrival.trailer = trailers.iter().any(|(name, value)| name == "x-sum" && value == "42");
                }
                if answered {
                    self.done(now);
                } else {
                    self.answer(book, now);
                }
            }
        }
    }

    fn answer(&mut self, book: &mut Book, now: Time) {
        let Some(current) = &mut self.current else { return };
        let Some(spec) = book.specs.get(&current.id) else { return };
        current.answered = true;
        let (id, attempt) = (current.id, current.attempt);
        let plan = &mut current.plan;
        let (mut wire, head) = plan.wire(spec, attempt);
        let (mut whole, mut length) = (true, plan.length);
        match plan.fate {
            Fate::CutFin | Fate::CutReset => {
                let kept = plan.luck.below(wire.len() as u64 + 1) as usize;
                let until_close = plan.frame == Frame::UntilClose;
                whole = if until_close { plan.fate == Fate::CutFin && kept >= head } else { kept == wire.len() };
                if until_close {
                    length = kept.saturating_sub(head);
                }
                wire.truncate(kept);
            }
            Fate::Silence => wire.clear(),
            Fate::Garbage => {
                wire = plan.luck.pick(&["\0\0\0", "HTTP/9.9 what\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 20 x\r\n\r\n"]).into();
            }
            // Until the close there is nothing but body.
            Fate::Extra if plan.frame == Frame::UntilClose => {}
            Fate::Extra => {
                book.strays = true;
                wire.extend_from_slice(b"HTTP/1.1 200 stray\r\nContent-Length: 0\r\n\r\n");
            }
            Fate::Whole | Fate::HalfClose | Fate::StopReading => {}
        }
        let answer = Answer { status: plan.status, length, whole, trailer: plan.trailer };
        book.answers.insert(format!("{id}-{attempt}"), answer);
        self.tunnel = plan.status == 101 && matches!(plan.fate, Fate::Whole | Fate::HalfClose);
        self.closes = plan.close && !self.tunnel;
        self.then = Some(plan.fate);
        self.out.extend(wire);
        if self.tunnel {
            self.then = Some(Fate::Whole);
            self.out.extend(body(id + 8_000_000, plan.tunnel));
            self.reader.becomes_tunnel();
        }
        self.wake = self.wake.max(now + plan.delay);
    }

    fn write(&mut self, net: &mut Net, book: &Book, now: Time) -> bool {
        let mut moved = false;
        if self.sent < self.out.len() {
            let drip = self.current.as_ref().map_or(0, |current| current.plan.drip);
            let all = &self.out[self.sent..];
            let piece = if drip > 0 { &all[..all.len().min(1 + all.len() / 5)] } else { all };
            match net.write(self.port, piece, now) {
                Ok(n) => {
                    self.sent += n;
                    moved = n > 0;
                    self.wake = if drip > 0 { now + drip } else { self.wake };
                }
                Err(()) => self.sent = self.out.len(),
            }
        }
        if self.sent < self.out.len() || self.then.is_none() {
            return moved;
        }
        self.after_answer(net, book, now);
        true
    }

    fn after_answer(&mut self, net: &mut Net, _book: &Book, now: Time) {
        match self.then.take() {
            Some(Fate::CutFin | Fate::Garbage) => self.end(net, now, false),
            Some(Fate::CutReset) => self.end(net, now, true),
            Some(Fate::HalfClose) => {
                net.shutdown(self.port, now);
                self.discards = true;
            }
            _ if self.closes => self.end(net, now, false),
            _ => self.done(now),
        }
    }

    /// The connection can take the next request if both directions are done.
    fn done(&mut self, now: Time) {
        let whole = self.current.as_ref().is_some_and(|current| current.request_whole && current.answered);
        let silent = self.current.as_ref().is_some_and(|current| current.plan.fate == Fate::Silence);
        if whole && !silent && !self.tunnel && self.sent == self.out.len() && self.then.is_none() {
            self.current = None;
            self.served = true;
            self.out.clear();
            self.sent = 0;
            self.idle_since = now;
        }
    }

    fn end(&mut self, net: &mut Net, now: Time, reset: bool) {
        self.over = true;
        if reset { net.reset(self.port, now) } else { net.close(self.port, now) }
    }
}
