//! What a run found, and its line of JSON.

use std::time::Duration;

use crate::cost::Cost;

/// Counts and times of one window.
#[derive(Default)]
pub struct Figures {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Answers that ended in the window.
    pub requests: u64,
    /// Bytes of answers' bodies received in the window.
    pub received: u64,
    /// Bytes of requests' bodies sent in the window.
    pub sent: u64,
    /// Connections that ended a full handshake, and those that resumed.
    pub full: u64,
    pub resumed: u64,
    /// Connections that the other side ended while they waited, and requests that had to be sent again.
    pub reconnects: u64,
    pub retries: u64,
    /// Answers other than 200.
    pub refused: u64,
    /// What the watched process spent in the window.
    pub cost: Cost,
    /// From when a request was due to the last byte of its answer, in nanoseconds.
    latencies: Vec<u64>,
}

impl Figures {
    /// Takes the time of one answer.
    pub fn answered(&mut self, latency: Duration) {
        self.requests += 1;
        self.latencies.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// One line of JSON; latencies in microseconds.
    pub fn json(mut self) -> String {
        self.latencies.sort_unstable();
        let latencies = &self.latencies;
        let at = |share: f64| {
            let index = ((latencies.len() as f64 * share).ceil() as usize).saturating_sub(1);
            latencies.get(index).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        format!(
            concat!(
                "{{\"seconds\": {:.4}, \"requests\": {}, \"received\": {}, \"sent\": {}, \"full\": {}, ",
                "\"resumed\": {}, \"reconnects\": {}, \"retries\": {}, \"refused\": {}, \"user\": {:.3}, ",
                "\"system\": {:.3}, \"p50\": {:.1}, \"p99\": {:.1}, \"p999\": {:.1}, \"max\": {:.1}}}"
            ),
            self.seconds,
            self.requests,
            self.received,
            self.sent,
            self.full,
            self.resumed,
            self.reconnects,
            self.retries,
            self.refused,
            self.cost.user,
            self.cost.system,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
        )
    }
}
