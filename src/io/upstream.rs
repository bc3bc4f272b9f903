//! Connections to apps: what one of them is to a request, and which idle one can serve the next.

use std::task;
use std::time::{Duration, Instant};

use super::connection::Side;
use super::stream::{ReadEnd, Stream};
use crate::handoff::meters::EndpointMeter;
use crate::proxy::exchange::ConnectFailure;
use crate::telemetry::metrics::Counter;
use crate::upstream::group::EndpointId;

/// A pooled connection that was idle for so long is looked at before it is used.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// The app's side of a request.
pub(super) struct Upstream {
    /// Its connection.
    pub(super) stream: Stream,
    pub(super) endpoint: EndpointId,
    /// Bytes acknowledged before this request was sent; `None` on connections that cannot tell.
    pub(super) acknowledged: Option<u64>,
    pub(super) end_told: bool,
    /// The sending half is to be closed once everything is sent.
    pub(super) shut_due: bool,
}

/// An idle connection that its app has not closed.
pub(super) fn take_idle(side: &Side, endpoint: EndpointId, now: Instant, repeatable: bool) -> Option<Stream> {
    loop {
        let (mut stream, idle) = side.worker.pool.borrow_mut().take(endpoint, now)?;
        let mut cx = task::Context::from_waker(task::Waker::noop());
        stream.poll(&mut cx, now);
        // The ring tells what happened up to this turn of the loop; a look at the socket tells the rest.
        // Under load connections come back within a turn, and a request that can be sent again needs no
        // look; one that cannot must not meet a connection that its app has closed.
        let sure = repeatable && idle < LOOK_AFTER || stream.socket().has_nothing_to_read();
        if sure && stream.is_quiet() {
            return Some(stream);
        }
    }
}

/// Whether not a byte of this request can have reached the app: it had closed before, and its TCP has
/// acknowledged nothing. A reset proves nothing, since it carries no acknowledgement of what was read.
pub(super) fn untouched(upstream: &Upstream, end: ReadEnd) -> bool {
    if matches!(end, ReadEnd::Reset | ReadEnd::Broken(_)) {
        return false;
    }
    let before = upstream.acknowledged;
    let after = upstream.stream.socket().bytes_acknowledged();
    matches!((before, after), (Some(before), Some(after)) if after <= before)
}

/// Whether an end is something else than an orderly close.
pub(super) fn is_error(end: ReadEnd, stream: &Stream) -> bool {
    match end {
        ReadEnd::CloseNotify => false,
        ReadEnd::Fin => stream.is_tls(),
        ReadEnd::Reset | ReadEnd::Broken(_) => true,
    }
}

/// A request or dial to `endpoint` begins (`1`) or ends (`-1`).
pub(super) fn load_changes(side: &Side, endpoint: EndpointId, by: i32) {
    side.worker.load_changes(endpoint, by);
    if let Some(meter) = meter(side, endpoint) {
        meter.load_changes(by);
        if by > 0 {
            meter.request();
        }
    }
}

/// A connection stands; it took `took`.
pub(super) fn dialled(side: &Side, took: Duration) {
    if let Some(meter) = side.setup.meters.of(side.facts.worker) {
        meter.own().connect.observe(took);
    }
}

/// A connection could not be made.
pub(super) fn dial_failed(side: &Side, endpoint: EndpointId, failure: ConnectFailure) {
    side.worker.counters.count(match failure {
        ConnectFailure::TimedOut => Counter::UpstreamConnectTimeout,
        ConnectFailure::Unresolved => Counter::UpstreamUnresolved,
        _ => Counter::UpstreamConnectFailed,
    });
    if let Some(meter) = meter(side, endpoint) {
        meter.connect_failure();
    }
}

fn meter(side: &Side, endpoint: EndpointId) -> Option<&EndpointMeter> {
    side.setup.meters.of(side.facts.worker)?.endpoint(endpoint)
}
