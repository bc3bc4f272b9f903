//! HTTP/1.1 on one client connection: carries bytes between the client, the exchange and the app, and
//! does what the exchange asks for. What any byte means is decided in `proxy/exchange`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task;
use std::time::Instant;

use super::buffers::{BULK_CAPACITY, Buffers, Size};
use super::connection::{Side, Step, is_gone};
use super::dial::dial;
use super::gauge::UnderWay;
use super::log_line;
use super::stream::{ReadEnd, Stream};
use super::upstream::{Upstream, dial_failed, dialled, is_error, load_changes, take_idle, untouched};
use crate::limits;
use crate::proxy::exchange::{Action, Blocked, ClientEnd, ConnectFailure, Context, Exchange, Finish, Timer};
use crate::telemetry::metrics::Counter;
use crate::upstream::balance::power_of_two_choices;
use crate::upstream::group::{EndpointId, GroupId};

type Dial = Pin<Box<dyn Future<Output = Result<Stream, ConnectFailure>>>>;

/// The state of serving one client connection.
pub(super) struct Serving {
    exchange: Exchange,
    upstream: Option<Upstream>,
    /// With its beginning.
    dial: Option<(Dial, EndpointId, Instant)>,
    client_end_told: Option<ClientEnd>,
    cut_at_drain: bool,
    /// What was received is the beginning of something that cannot be taken yet.
    request_is_partial: bool,
    /// The same from the app.
    response_is_partial: bool,
    /// Something was begun that has to be polled once.
    begun: bool,
    loads: Vec<u32>,
    under_way: UnderWay,
    buffers: Buffers,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.reclaim();
    }
}

/// Bytes of one piece given to the exchange: what it makes of it fits into one bulk buffer.
const PIECE_MAX: usize = limits::BULK_BUFFER / 2;
/// Bytes queued for a client beyond which nothing more is read from the app.
const QUEUE_MAX: usize = limits::RECORD_PLAINTEXT;

impl Serving {
    pub(super) fn new(now: Instant, buffers: Buffers) -> Self {
        Self {
            exchange: Exchange::new(now),
            upstream: None,
            dial: None,
            client_end_told: None,
            cut_at_drain: false,
            request_is_partial: false,
            response_is_partial: false,
            begun: false,
            loads: Vec::new(),
            under_way: UnderWay::default(),
            buffers,
        }
    }

    /// When the exchange wants to be woken.
    pub(super) fn deadline(&self, side: &Side, client: &Stream) -> Option<Instant> {
        let due = self.due(side, client).map(|(at, _)| at);
        match (due, side.worker.draining()) {
            (Some(at), Some(drain)) if !self.cut_at_drain => Some(at.min(drain)),
            (None, drain) => drain,
            (due, _) => due,
        }
    }

    /// Since when nothing has happened and nothing is held for the client.
    pub(super) fn idle_since(&self, client: &Stream) -> Option<Instant> {
        let quiet = self.upstream.is_none() && self.dial.is_none() && client.is_quiet();
        self.exchange.idle_since().filter(|_| quiet)
    }

    fn due(&self, side: &Side, client: &Stream) -> Option<(Instant, Timer)> {
        let blocked = Blocked {
            client: client.wants_write(),
            upstream: self.upstream.as_ref().is_some_and(|upstream| upstream.stream.wants_write()),
        };
        self.exchange.deadline(&side.setup.model.timeouts, blocked)
    }

    /// One round: whatever can move, moves.
    pub(super) fn step(
        &mut self,
        side: &Side,
        client: &mut Stream,
        sent: Option<usize>,
        cx: &mut task::Context<'_>,
        now: Instant,
    ) -> Step {
        let date = side.worker.date();
        let world = Context {
            model: &side.setup.model,
            table: &side.setup.table,
            facts: &side.facts,
            entry: side.entry.as_deref(),
            tokens: &side.setup.tokens,
            store: Some(&side.setup.store),
            https_port: side.worker.https_port,
            draining: side.worker.draining().is_some(),
            now,
            date: &date,
        };
        if sent.is_some() {
            self.exchange.client_wrote(now);
        }
        let mut moved = self.poll_upstream(side, &world, cx);
        self.check_time(side, client, &world);
        moved |= self.take_request(client, &world);
        self.under_way.note(&side.worker, self.exchange.has_begun(), self.exchange.is_tunnel());
        moved |= self.take_response(client, &world);
        self.tell_ends(client, &world);
        if let Some(step) = self.act(side, client, &world, cx) {
            return step;
        }
        moved |= std::mem::take(&mut self.begun);
        moved |= self.send(client, now);
        moved |= self.receive(client);
        if moved { Step::Progress } else { Step::Wait }
    }

    fn poll_upstream(&mut self, side: &Side, world: &Context<'_>, cx: &mut task::Context<'_>) -> bool {
        let mut moved = false;
        if let Some((dial, endpoint, began)) = &mut self.dial {
            let (endpoint, began) = (*endpoint, *began);
            if let task::Poll::Ready(result) = dial.as_mut().poll(cx) {
                self.dial = None;
                moved = true;
                match result {
                    Ok(stream) => {
                        side.worker.counters.count(Counter::UpstreamDials);
                        dialled(side, world.now.saturating_duration_since(began));
                        self.link(stream, endpoint);
                        self.exchange.connected(world, endpoint, false);
                    }
                    Err(failure) => {
                        load_changes(side, endpoint, -1);
                        dial_failed(side, endpoint, failure);
                        self.exchange.connect_failed(world, Some(endpoint), failure);
                    }
                }
            }
        }
        if let Some(upstream) = &mut self.upstream {
            let (received, sent) = upstream.stream.poll(cx, world.now);
            if sent.is_some() {
                self.exchange.upstream_wrote(world.now);
            }
            moved |= received || sent.is_some();
        }
        moved
    }

    fn link(&mut self, stream: Stream, endpoint: EndpointId) {
        let acknowledged = stream.acknowledged_if_all_is();
        self.upstream = Some(Upstream { stream, endpoint, acknowledged, end_told: false, shut_due: false });
    }

    fn check_time(&mut self, side: &Side, client: &Stream, world: &Context<'_>) {
        if let Some((at, timer)) = self.due(side, client)
            && world.now >= at
        {
            self.exchange.expired(world, timer);
        }
        let Some(drain) = side.worker.draining() else { return };
        if self.exchange.is_idle() && client.received().is_empty() {
            self.exchange.expired(world, Timer::Idle);
        } else if world.now >= drain && !self.cut_at_drain {
            self.cut_at_drain = true;
            self.exchange.cut();
        }
    }

    /// Client bytes into the exchange.
    fn take_request(&mut self, client: &mut Stream, world: &Context<'_>) -> bool {
        let mut moved = false;
        self.request_is_partial = false;
        self.lend();
        while self.exchange.wants_request() && !client.received().is_empty() {
            let received = client.received();
            let piece = received.get(..PIECE_MAX).unwrap_or(received);
            let used = self.exchange.receive_request(world, piece);
            if used > 0 {
                client.consume(used);
                moved = true;
            } else if !client.open_one_more() {
                self.request_is_partial = true;
                break;
            }
        }
        moved
    }

    /// A long body is gathered in a bulk buffer, which is then sent as it is.
    fn lend(&mut self) {
        let long = self.exchange.upload_is_long();
        let out = self.exchange.upstream_out();
        if long && out.is_empty() && out.capacity() < BULK_CAPACITY {
            let buffer = self.buffers.get(Size::Bulk);
            if buffer.capacity() < BULK_CAPACITY {
                return self.buffers.put(buffer);
            }
            *out = buffer;
        }
    }

    /// Takes back what was lent.
    fn reclaim(&mut self) {
        let out = self.exchange.upstream_out();
        if out.capacity() >= BULK_CAPACITY {
            self.buffers.put(std::mem::take(out));
        }
    }

    /// App bytes through the exchange to the client.
    fn take_response(&mut self, client: &mut Stream, world: &Context<'_>) -> bool {
        let mut moved = false;
        self.response_is_partial = false;
        while self.exchange.wants_response() && client.queued() < QUEUE_MAX {
            let Some(upstream) = &mut self.upstream else { break };
            let input = upstream.stream.received();
            let step = self.exchange.receive_response(world, input);
            moved |= step.used > 0;
            self.exchange.client_pushes(step.data.len() + if step.ends_chunk { 2 } else { 0 });
            push_out(&mut self.exchange, client, world.now);
            client.push(step.data.of(input), world.now);
            if step.ends_chunk {
                client.push(b"\r\n", world.now);
            }
            let used = step.used;
            upstream.stream.consume(used);
            self.exchange.end_of_body_is_owed();
            if used == 0 && !upstream.stream.open_one_more() {
                self.response_is_partial = true;
                break;
            }
        }
        push_out(&mut self.exchange, client, world.now);
        moved
    }

    fn tell_ends(&mut self, client: &Stream, world: &Context<'_>) {
        let end = client_end(client, &self.exchange);
        if end.is_some() && end != self.client_end_told {
            self.client_end_told = end;
            end.into_iter().for_each(|end| self.exchange.client_closed(end));
        }
        let Some(upstream) = &mut self.upstream else { return };
        if upstream.stream.is_write_failed() {
            self.exchange.upstream_stopped_reading();
        }
        // What came before the end is read first; a partial head or body cannot go on.
        let stuck = upstream.stream.received().is_empty() || client.queued() < QUEUE_MAX;
        if let Some(end) = upstream.stream.read_end()
            && stuck
            && !upstream.end_told
        {
            upstream.end_told = true;
            let untouched = untouched(upstream, end);
            self.exchange.upstream_closed(world, is_error(end, &upstream.stream), untouched);
        }
    }

    /// Does what the exchange asks for; a step if the connection is to change.
    fn act(
        &mut self,
        side: &Side,
        client: &mut Stream,
        world: &Context<'_>,
        cx: &mut task::Context<'_>,
    ) -> Option<Step> {
        while let Some(action) = self.exchange.next_action() {
            match action {
                Action::Acquire { group, avoid, fresh } => self.acquire(side, world, group, avoid, fresh),
                Action::Release { keep, timeout } => self.release(side, world, keep, timeout, cx),
                Action::ShutdownUpstream => {
                    if let Some(upstream) = &mut self.upstream {
                        upstream.stream.close_notify();
                        upstream.shut_due = true;
                    }
                }
                Action::Finish(finish) => return self.finish(side, client, world, finish, cx),
            }
        }
        None
    }

    fn finish(
        &mut self,
        side: &Side,
        client: &mut Stream,
        world: &Context<'_>,
        finish: Finish,
        cx: &mut task::Context<'_>,
    ) -> Option<Step> {
        push_out(&mut self.exchange, client, world.now);
        if finish != Finish::Abort {
            if client.flush() {
                self.exchange.client_write_begins(world.now);
                return Some(Step::Progress);
            }
            if client.wants_write() && !client.is_write_failed() {
                // Later, when everything is handed to the kernel.
                return None;
            }
        }
        if self.exchange.has_begun() {
            log_line::request(side, &self.exchange, world.now);
        }
        self.under_way = UnderWay::default();
        self.release(side, world, false, None, cx);
        self.reclaim();
        match finish {
            // The alert that says what is wrong with a record is still to be sent.
            Finish::Abort if matches!(client.read_end(), Some(ReadEnd::Broken(_))) => {
                Some(Step::Close { linger: false })
            }
            Finish::Abort => {
                // On TLS the missing close_notify shows the cut; plain TCP needs a reset.
                Some(Step::Cut { reset: !client.is_tls() })
            }
            Finish::KeepAlive if client.read_end().is_none() && !world.draining => {
                self.exchange.reset(world.now);
                self.client_end_told = None;
                client.renew();
                Some(Step::Renew)
            }
            Finish::KeepAlive if !client.received().is_empty() && !world.draining => {
                // Requests that came before a half-close are still answered.
                self.exchange.reset(world.now);
                self.client_end_told = None;
                client.renew();
                Some(Step::Renew)
            }
            Finish::KeepAlive | Finish::Close => {
                client.close_notify();
                Some(Step::Close { linger: true })
            }
        }
    }

    fn acquire(
        &mut self,
        side: &Side,
        world: &Context<'_>,
        group: GroupId,
        avoid: Option<EndpointId>,
        fresh: bool,
    ) {
        let groups = side.setup.table.groups();
        let members = groups.members(group);
        side.worker.loads(members, &mut self.loads);
        let avoid = avoid.and_then(|id| members.iter().position(|member| *member == id));
        let picked = power_of_two_choices(&self.loads, side.worker.luck(), avoid);
        let endpoint = picked.and_then(|index| members.get(index)).copied();
        let Some((id, endpoint)) = endpoint.and_then(|id| Some((id, groups.endpoint(id)?))) else {
            return self.exchange.connect_failed(world, None, ConnectFailure::Unreachable);
        };
        if !fresh {
            let idle = take_idle(side, id, world.now, self.exchange.is_idempotent());
            if let Some(stream) = idle {
                load_changes(side, id, 1);
                side.worker.counters.count(Counter::UpstreamReused);
                self.link(stream, id);
                return self.exchange.connected(world, id, true);
            }
        }
        if side.worker.load(id) >= side.setup.model.limits.upstream_connections {
            return self.exchange.connect_failed(world, Some(id), ConnectFailure::Exhausted);
        }
        load_changes(side, id, 1);
        let worker = Rc::clone(&side.worker);
        let tls = Arc::clone(&side.setup.upstream_tls);
        self.begun = true;
        self.exchange.dialling(id);
        self.dial = Some((Box::pin(dial(worker, endpoint.upstream.clone(), tls)), id, world.now));
    }

    fn release(
        &mut self,
        side: &Side,
        world: &Context<'_>,
        keep: bool,
        timeout: Option<u32>,
        cx: &mut task::Context<'_>,
    ) {
        if let Some((_, endpoint, _)) = self.dial.take() {
            load_changes(side, endpoint, -1);
        }
        let Some(mut upstream) = self.upstream.take() else { return };
        load_changes(side, upstream.endpoint, -1);
        // Anything unread on a connection that is done with is not for the next request.
        if keep && !world.draining && upstream.stream.is_quiet() {
            upstream.stream.renew();
            upstream.stream.want_read();
            // Polled once, so that the kernel watches it from this turn of the loop on.
            upstream.stream.poll(cx, world.now);
            let mut pool = side.worker.pool.borrow_mut();
            if let Some(seconds) = timeout {
                pool.announced(upstream.endpoint, seconds);
            }
            pool.put(upstream.endpoint, upstream.stream, world.now);
        } else if self.exchange.is_cut_tunnel() {
            // What the client did not end in order must not look so to the app.
            upstream.stream.socket().reset_on_close();
        }
    }

    /// Begins to send what is queued in both directions.
    fn send(&mut self, client: &mut Stream, now: Instant) -> bool {
        let mut moved = false;
        if let Some(upstream) = &mut self.upstream {
            let out = self.exchange.upstream_out();
            if !out.is_empty() && upstream.stream.queued() == 0 {
                if upstream.stream.is_write_failed() {
                    out.clear();
                } else {
                    upstream.stream.push_whole(out, now);
                }
            }
            if upstream.stream.flush() {
                self.exchange.upstream_write_begins(now);
                moved = true;
            }
            if upstream.shut_due && !upstream.stream.wants_write() {
                upstream.shut_due = false;
                upstream.stream.socket().shutdown_write();
            }
        }
        if client.flush() {
            self.exchange.client_write_begins(now);
            moved = true;
        }
        moved
    }

    /// Begins to receive where bytes can be taken; on a client that waits for its answer also to see
    /// that it goes away.
    fn receive(&mut self, client: &mut Stream) -> bool {
        let mut moved = false;
        // What waits unread because its taker is busy is the back-pressure: nothing is read on top of it.
        if client.received().is_empty() || self.request_is_partial {
            moved |= client.want_read();
        }
        if let Some(upstream) = &mut self.upstream {
            let bulk = self.exchange.response_left().is_some_and(|left| left > limits::BULK_THRESHOLD);
            let bulk = bulk || self.exchange.upload_is_long();
            upstream.stream.set_bulk(bulk);
            client.set_bulk(bulk);
            if upstream.stream.received().is_empty() || self.response_is_partial {
                moved |= upstream.stream.want_read();
            }
        }
        moved
    }
}

/// How the client's side has ended, as far as the exchange has to know it now.
fn client_end(client: &Stream, exchange: &Exchange) -> Option<ClientEnd> {
    if client.is_write_failed() {
        return Some(ClientEnd::Gone);
    }
    let end = client.read_end()?;
    if is_gone(client, end) {
        return Some(ClientEnd::Gone);
    }
    // What came before a half-close is read first; a piece that cannot go on counts as read.
    let read_all = client.received().is_empty() || exchange.awaits_head();
    read_all.then_some(ClientEnd::HalfClosed)
}

/// Bytes that the exchange made itself.
fn push_out(exchange: &mut Exchange, client: &mut Stream, now: Instant) {
    let length = exchange.client_out().len();
    if length > 0 {
        exchange.client_pushes(length);
        let out = exchange.client_out();
        client.push(out, now);
        out.clear();
    }
}
