//! What goes up and down on a worker: things that are counted for as long as they live, and those that the
//! worker looks at now and then.

use std::rc::Rc;

use super::worker::Worker;
use crate::telemetry::metrics::Counter;

/// One of what a gauge of the worker counts.
pub(super) struct Counted {
    worker: Rc<Worker>,
    counter: Counter,
}

impl Counted {
    /// Counts one more until it is dropped.
    pub(super) fn new(worker: &Rc<Worker>, counter: Counter) -> Self {
        worker.counters.count(counter);
        Self { worker: Rc::clone(worker), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.counters.sub(self.counter, 1);
    }
}

/// A request that is under way, and the tunnel that it becomes.
#[derive(Default)]
pub(super) struct UnderWay {
    request: Option<Counted>,
    tunnel: Option<Counted>,
}

impl UnderWay {
    /// Counts each once, when it is there.
    pub(super) fn note(&mut self, worker: &Rc<Worker>, is_request: bool, is_tunnel: bool) {
        if is_request && self.request.is_none() {
            self.request = Some(Counted::new(worker, Counter::RequestsOpen));
        }
        if is_tunnel && self.tunnel.is_none() {
            self.tunnel = Some(Counted::new(worker, Counter::TunnelsOpen));
        }
    }
}

/// What is kept for later use.
pub(super) fn refresh(worker: &Worker, upstream_idle: usize) {
    let (free, bulk) = worker.buffers.figures();
    worker.counters.set(Counter::PoolIdle, upstream_idle as u64);
    worker.counters.set(Counter::BuffersFree, free as u64);
    worker.counters.set(Counter::BulkBuffersInUse, bulk as u64);
}
