//! The proxy: the machines of the crate, driven in the order of steps of `io/serve_http1`.

use std::time::{Duration, Instant};

use lockring::config::model::Model;
use lockring::limits;
use lockring::proxy::exchange::{
    Action, Blocked, ClientEnd, ConnectFailure, Context, Exchange, Finish, Timer,
};
use lockring::proxy::outcome::{ConnectionFacts, End};
use lockring::proxy::route::Table;
use lockring::upstream::group::{EndpointId, GroupId};
use lockring::upstream::pool::Pool;

use crate::luck::Luck;
use crate::net::{Net, Port, Time};
use crate::stream::{Graves, ReadEnd, Stream};

/// How the driver is broken on purpose, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    DropRequestByte,
    DropResponseByte,
    SendPostTwice,
    PoolEverything,
    CloseInsteadOfCut,
    ForgetDeadlines,
    AnswerTwice,
    SilentLog,
}

/// What the log would say.
#[derive(Clone, Debug)]
pub struct Record {
    pub status: u16,
    pub end: End,
    pub reason: Option<&'static str>,
}

/// A try at one request: from which byte of which upstream connection on.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub client: usize,
    pub request: usize,
    pub port: Port,
    pub start: u64,
}

/// How a dial will end.
pub struct Dial {
    pub at: Time,
    pub result: Result<(), ConnectFailure>,
    endpoint: EndpointId,
}

/// What all connections share.
pub struct World {
    pub net: Net,
    pub model: Model,
    pub table: Table,
    pub facts: ConnectionFacts,
    pub pool: Pool<Stream>,
    pub graves: Graves,
    pub luck: Luck,
    pub base: Instant,
    pub now: Time,
    pub fault: Option<Fault>,
    /// Chances in a hundred that a dial is refused, unreachable or never answered.
    pub dial_trouble: u64,
    pub attempts: Vec<Attempt>,
    /// Upstream ends of new connections, with their endpoint.
    pub accepted: Vec<(Port, EndpointId)>,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub traced: bool,
}

impl World {
    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.traced {
            let line = format!("{:>12} {}", self.now, text());
            self.trace.push(line);
        }
    }

    pub fn violated(&mut self, text: String) {
        self.note(|| format!("VIOLATION {text}"));
        self.violations.push(text);
    }
}

fn context<'a>(model: &'a Model, table: &'a Table, facts: &'a ConnectionFacts, now: Instant) -> Context<'a> {
    Context {
        model,
        table,
        facts,
        entry: None,
        https_port: 443,
        draining: false,
        now,
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
    }
}

/// Calls a verb of the exchange with the context of now.
macro_rules! tell {
    ($self:ident, $world:ident, $verb:ident $(, $argument:expr)*) => {{
        let cx = context(&$world.model, &$world.table, &$world.facts, $world.instant());
        $self.exchange.$verb(&cx $(, $argument)*)
    }};
}

struct Upstream {
    stream: Stream,
    endpoint: EndpointId,
    acknowledged: u64,
    end_told: bool,
    /// A FIN follows the bytes, it does not overtake them.
    shut_due: bool,
}

enum Phase {
    Http,
    Closing { until: Time, shut: bool },
    Over,
}

enum Step {
    Progress,
    Wait,
    Renew,
    Close,
    Cut,
}

const QUEUE_MAX: usize = limits::RECORD_PLAINTEXT;

/// One client connection.
pub struct Connection {
    number: usize,
    client: Stream,
    phase: Phase,
    exchange: Exchange,
    upstream: Option<Upstream>,
    dial: Option<Dial>,
    client_end_told: Option<ClientEnd>,
    /// One for each request, in order.
    pub records: Vec<Record>,
}

impl Connection {
    pub fn new(number: usize, client: Stream, now: Instant) -> Self {
        Self {
            number,
            client,
            phase: Phase::Http,
            exchange: Exchange::new(now),
            upstream: None,
            dial: None,
            client_end_told: None,
            records: Vec::new(),
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// When to look again at the latest.
    pub fn deadline(&self, world: &World) -> Option<Time> {
        if let Phase::Closing { until, .. } = self.phase {
            return Some(until);
        }
        let exchange = self.due(world).map(|(at, _)| {
            // Deadlines fire at a step after they are due.
            at.saturating_duration_since(world.base).as_micros() as Time + 1
        });
        let dial = self.dial.as_ref().map(|dial| dial.at);
        let exchange = exchange.filter(|_| world.fault != Some(Fault::ForgetDeadlines));
        exchange.into_iter().chain(dial).min()
    }

    /// Whether the exchange itself has a deadline.
    pub fn waits_for_ever(&self, world: &World) -> bool {
        matches!(self.phase, Phase::Http) && self.due(world).is_none()
    }

    fn due(&self, world: &World) -> Option<(Instant, Timer)> {
        let blocked = Blocked {
            client: self.client.wants_write(),
            upstream: self.upstream.as_ref().is_some_and(|upstream| upstream.stream.wants_write()),
        };
        self.exchange.deadline(&world.model.timeouts, blocked)
    }

    /// Looks what can be done. Whether anything was.
    pub fn poll(&mut self, world: &mut World) -> bool {
        if self.is_over() {
            return false;
        }
        let mut any = false;
        for _ in 0..100_000 {
            let (received, sent) = self.client.poll(&mut world.net, world.now);
            self.client.notify_if_due(&mut world.net, world.now);
            let step = match self.phase {
                Phase::Http => self.step(world, sent),
                Phase::Closing { .. } => self.closing(world),
                Phase::Over => return true,
            };
            any |= received || sent.is_some();
            match step {
                Step::Wait if received || sent.is_some() => {}
                Step::Wait => return any,
                Step::Progress | Step::Renew => any = true,
                Step::Close => {
                    let write = world.model.timeouts.write.as_micros() as Time;
                    self.phase = Phase::Closing { until: world.now + write, shut: false };
                }
                Step::Cut => {
                    self.phase = Phase::Over;
                    let dead = Stream::new(self.client.port, false, Graves::default());
                    drop(std::mem::replace(&mut self.client, dead));
                    return true;
                }
            }
        }
        world.violated(format!("connection {} turns for ever", self.number));
        self.phase = Phase::Over;
        true
    }

    fn step(&mut self, world: &mut World, sent: Option<usize>) -> Step {
        let now = world.instant();
        if sent.is_some() {
            self.exchange.client_wrote(now);
        }
        let mut moved = self.poll_upstream(world);
        if let Some((at, timer)) = self.due(world) {
            if now >= at {
                world.note(|| format!("c{} expired {timer:?}", self.number));
                tell!(self, world, expired, timer);
            }
        }
        moved |= self.take_request(world);
        moved |= self.take_response(world);
        self.tell_ends(world);
        if let Some(step) = self.act(world) {
            return step;
        }
        moved |= self.send(world);
        moved |= self.receive();
        if moved { Step::Progress } else { Step::Wait }
    }

    fn poll_upstream(&mut self, world: &mut World) -> bool {
        let mut moved = false;
        if let Some(dial) = self.dial.take_if(|dial| dial.at <= world.now) {
            moved = true;
            match dial.result {
                Ok(()) => {
                    let [own, peer] = world.net.connect();
                    world.accepted.push((peer, dial.endpoint));
                    let stream = Stream::new(own, false, world.graves.clone());
                    self.link(world, stream, dial.endpoint);
                    tell!(self, world, connected, dial.endpoint, false);
                }
                Err(failure) => {
                    world.note(|| format!("c{} dial failed {failure:?}", self.number));
                    tell!(self, world, connect_failed, Some(dial.endpoint), failure);
                }
            }
        }
        if let Some(upstream) = &mut self.upstream {
            let (received, sent) = upstream.stream.poll(&mut world.net, world.now);
            if sent.is_some() {
                self.exchange.upstream_wrote(world.instant());
            }
            moved |= received || sent.is_some();
        }
        moved
    }

    fn link(&mut self, world: &mut World, stream: Stream, endpoint: EndpointId) {
        let acknowledged = stream.acknowledged_if_all_is();
        world.note(|| format!("c{} linked to u{} at {acknowledged}", self.number, stream.port.connection));
        let attempt =
            Attempt { client: self.number, request: self.records.len(), port: stream.port, start: acknowledged };
        world.attempts.push(attempt);
        self.upstream = Some(Upstream { stream, endpoint, acknowledged, end_told: false, shut_due: false });
    }

    fn take_request(&mut self, world: &mut World) -> bool {
        let mut moved = false;
        while self.exchange.wants_request() && !self.client.received().is_empty() {
            let input = self.client.received();
            let used = tell!(self, world, receive_request, input);
            self.bounded(world);
            if used == 0 {
                break;
            }
            self.client.consume(used);
            moved = true;
        }
        moved
    }

    /// Output buffers hold what the limits say and one piece of input.
    fn bounded(&mut self, world: &mut World) {
        let most = limits::REPLAY_BYTES + limits::BULK_BUFFER.max(self.client.received().len()) + limits::TRAILER_BYTES;
        if self.exchange.upstream_out().len() > most || self.exchange.client_out().len() > 2 * limits::HEAD_BYTES {
            world.violated("an output buffer grows".into());
        }
    }

    fn take_response(&mut self, world: &mut World) -> bool {
        let mut moved = false;
        while self.exchange.wants_response() && self.client.queued() < QUEUE_MAX {
            let Some(upstream) = &mut self.upstream else { break };
            let input = upstream.stream.received();
            let step = tell!(self, world, receive_response, input);
            moved |= step.used > 0;
            let data = step.data.of(input).to_vec();
            upstream.stream.consume(step.used);
            self.push_out(world);
            let dropped = usize::from(world.fault == Some(Fault::DropResponseByte) && data.len() > 50);
            self.client.push(&data[dropped..]);
            if step.ends_chunk {
                self.client.push(b"\r\n");
            }
            self.exchange.end_of_body_is_owed();
            if step.used == 0 {
                break;
            }
        }
        self.push_out(world);
        moved
    }

    fn push_out(&mut self, world: &World) {
        let out = self.exchange.client_out();
        self.client.push(out);
        if world.fault == Some(Fault::AnswerTwice) && out.starts_with(b"HTTP/1.1 404") {
            self.client.push(out);
        }
        out.clear();
    }

    fn tell_ends(&mut self, world: &mut World) {
        let end = self.client_end();
        if end.is_some() && end != self.client_end_told {
            self.client_end_told = end;
            world.note(|| format!("c{} client end {end:?}", self.number));
            end.into_iter().for_each(|end| self.exchange.client_closed(end));
        }
        let Some(upstream) = &mut self.upstream else { return };
        if upstream.stream.is_write_failed() {
            self.exchange.upstream_stopped_reading();
        }
        let stuck = upstream.stream.received().is_empty() || self.client.queued() < QUEUE_MAX;
        let Some(end) = upstream.stream.read_end().filter(|_| stuck && !upstream.end_told) else { return };
        upstream.end_told = true;
        let mut untouched = world.net.outgoing(upstream.stream.port).delivered <= upstream.acknowledged;
        untouched |= world.fault == Some(Fault::SendPostTwice);
        world.note(|| format!("c{} upstream end {end:?} untouched {untouched}", self.number));
        tell!(self, world, upstream_closed, end == ReadEnd::Reset, untouched);
    }

    fn client_end(&self) -> Option<ClientEnd> {
        if self.client.is_write_failed() {
            return Some(ClientEnd::Gone);
        }
        let gone = match self.client.read_end()? {
            ReadEnd::CloseNotify => self.client.is_fin(),
            ReadEnd::Fin => self.client.tls,
            ReadEnd::Reset => true,
        };
        if gone {
            return Some(ClientEnd::Gone);
        }
        let read_all = self.client.received().is_empty() || self.exchange.awaits_head();
        read_all.then_some(ClientEnd::HalfClosed)
    }

    fn act(&mut self, world: &mut World) -> Option<Step> {
        while let Some(action) = self.exchange.next_action() {
            match action {
                Action::Acquire { group, avoid, fresh } => self.acquire(world, group, avoid, fresh),
                Action::Release { keep, timeout } => self.release(world, keep, timeout),
                Action::ShutdownUpstream => self.upstream.iter_mut().for_each(|upstream| upstream.shut_due = true),
                Action::Finish(finish) => return self.finish(world, finish),
            }
        }
        None
    }

    fn finish(&mut self, world: &mut World, finish: Finish) -> Option<Step> {
        self.push_out(world);
        if finish != Finish::Abort {
            if self.client.flush() {
                return Some(Step::Progress);
            }
            if self.client.wants_write() && !self.client.is_write_failed() {
                return None;
            }
        }
        let begun = self.exchange.has_begun();
        if begun {
            let outcome = self.exchange.outcome();
            let (mut end, reason) = (outcome.end, outcome.reason);
            if world.fault == Some(Fault::SilentLog) {
                end = End::Complete;
            }
            let record = Record { status: outcome.status, end, reason };
            world.note(|| format!("c{} {finish:?} {record:?}", self.number));
            self.records.push(record);
        }
        self.release(world, false, None);
        match finish {
            Finish::Abort if world.fault != Some(Fault::CloseInsteadOfCut) => {
                self.client.reset_on_close = !self.client.tls;
                Some(Step::Cut)
            }
            Finish::KeepAlive if self.client.read_end().is_none() || !self.client.received().is_empty() => {
                self.exchange.reset(world.instant());
                self.client_end_told = None;
                Some(Step::Renew)
            }
            _ => {
                self.client.close_notify();
                Some(Step::Close)
            }
        }
    }

    fn closing(&mut self, world: &mut World) -> Step {
        let Phase::Closing { until, shut } = self.phase else { return Step::Wait };
        if self.client.flush() {
            return Step::Progress;
        }
        if self.client.is_write_failed() || world.now >= until {
            return Step::Cut;
        }
        if self.client.wants_write() {
            return Step::Wait;
        }
        self.client.notify_if_due(&mut world.net, world.now);
        if self.client.is_fin() {
            return Step::Cut;
        }
        if !shut {
            world.net.shutdown(self.client.port, world.now);
            let until = world.now + limits::LINGER_TIMEOUT.as_micros() as Time;
            self.phase = Phase::Closing { until, shut: true };
        }
        self.client.discard_received();
        if self.client.want_read() { Step::Progress } else { Step::Wait }
    }

    fn acquire(&mut self, world: &mut World, group: GroupId, avoid: Option<EndpointId>, fresh: bool) {
        let members = world.table.groups().members(group).to_vec();
        let others: Vec<EndpointId> = members.iter().copied().filter(|id| Some(*id) != avoid).collect();
        let id = world.luck.pick(if others.is_empty() { &members } else { &others });
        while !fresh {
            let Some(mut stream) = world.pool.take(id, world.instant()) else { break };
            stream.poll(&mut world.net, world.now);
            if stream.is_quiet() || world.fault == Some(Fault::PoolEverything) {
                self.link(world, stream, id);
                return tell!(self, world, connected, id, true);
            }
        }
        let delay = world.luck.below(20_000);
        let result = if world.luck.percent(world.dial_trouble) {
            Err(world.luck.pick(&[ConnectFailure::Refused, ConnectFailure::Unreachable, ConnectFailure::TimedOut]))
        } else {
            Ok(())
        };
        // A dial that nobody answers ends by the exchange's own timer.
        let never = result == Err(ConnectFailure::TimedOut) && world.luck.percent(50);
        let at = if never { Time::MAX } else { world.now + delay };
        self.dial = Some(Dial { at, result, endpoint: id });
    }

    fn release(&mut self, world: &mut World, keep: bool, timeout: Option<u32>) {
        self.dial = None;
        let Some(mut upstream) = self.upstream.take() else { return };
        let all = world.fault == Some(Fault::PoolEverything);
        world.note(|| format!("c{} releases u{} keep {keep}", self.number, upstream.stream.port.connection));
        if all || keep && upstream.stream.is_quiet() {
            upstream.stream.bulk = false;
            upstream.stream.want_read();
            if let Some(seconds) = timeout {
                world.pool.announced(upstream.endpoint, seconds);
            }
            let now = world.instant();
            drop(world.pool.put(upstream.endpoint, upstream.stream, now));
        }
    }

    fn send(&mut self, world: &mut World) -> bool {
        let mut moved = false;
        let now = world.instant();
        if let Some(upstream) = &mut self.upstream {
            let out = self.exchange.upstream_out();
            if !out.is_empty() && upstream.stream.queued() == 0 {
                let dropped = usize::from(world.fault == Some(Fault::DropRequestByte) && out.len() > 3_000);
                upstream.stream.push(&out[..out.len() - dropped]);
                out.clear();
            }
            if upstream.stream.flush() {
                self.exchange.upstream_write_begins(now);
                moved = true;
            }
            if upstream.shut_due && !upstream.stream.wants_write() {
                upstream.shut_due = false;
                world.net.shutdown(upstream.stream.port, world.now);
            }
        }
        if self.client.flush() {
            self.exchange.client_write_begins(now);
            moved = true;
        }
        moved
    }

    fn receive(&mut self) -> bool {
        let mut moved = false;
        let stuck = !self.client.received().is_empty() && !self.exchange.awaits_head();
        if !stuck || (self.exchange.wants_request() && self.client.received().is_empty()) {
            moved |= self.client.want_read();
        }
        if let Some(upstream) = &mut self.upstream {
            let bulk = self.exchange.response_left().is_some_and(|left| left > limits::BULK_THRESHOLD);
            upstream.stream.bulk = bulk;
            self.client.bulk = bulk || self.exchange.upload_is_long();
            let blocked = self.client.queued() >= QUEUE_MAX && !upstream.stream.received().is_empty();
            if !blocked {
                moved |= upstream.stream.want_read();
            }
        }
        moved
    }
}
