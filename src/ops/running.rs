//! What the control threads know of the running process: what is in service, what the workers counted, and the
//! way to drain. The admin socket and the metrics page read it; no worker ever waits for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::admin::{AcmeAnswers, Answer, Answers, Request};
use super::check::now_unix;
use super::explain::{self, Question};
use super::overview::Overview;
use super::refused::{Kind, Refused};
use super::signals::Drain;
use crate::acme::commands::Handle;
use crate::handoff::counters::{Counters, Tally};
use crate::handoff::published::Published;
use crate::io::worker::{Protocol, Setup};
use crate::telemetry::metrics::Snapshot;
use crate::upstream::resolve::Resolved;

/// See the module.
pub struct Running {
    /// Configuration and certificates.
    pub setup: Published<Setup>,
    /// Addresses of upstream names.
    pub resolved: Published<Resolved>,
    /// Of each worker.
    pub counters: Vec<Arc<Counters>>,
    /// Where it listens.
    pub addresses: Vec<(SocketAddr, Protocol)>,
    /// Access log lines that could not be written.
    pub log_lost: Tally,
    /// The acme thread.
    pub acme: Option<Handle>,
    /// How draining begins.
    pub drain: Drain,
    /// When the process began.
    pub began: Began,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// Unix seconds.
    pub unix: u64,
    /// For differences.
    pub at: Instant,
}

impl Began {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { unix: now_unix(), at: Instant::now() }
    }
}

impl Running {
    /// The counters of all workers, summed.
    #[must_use]
    pub fn sums(&self) -> Snapshot {
        let mut sums = Snapshot::default();
        self.counters.iter().for_each(|counters| counters.sum_into(&mut sums));
        sums
    }

    /// Port of the first HTTPS listener.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        let https = self.addresses.iter().find(|(_, protocol)| *protocol == Protocol::Https);
        https.map_or(443, |(address, _)| address.port())
    }
}

impl Answers for Running {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Overview {} => Answer::Overview { overview: Box::new(Overview::of(self, now_unix())) },
            Request::Drain {} => match self.drain.begin() {
                Ok(already) => Answer::Draining { already },
                Err(error) => Answer::Error { text: format!("draining cannot begin: {error}") },
            },
            Request::Explain { url, from } => {
                let resolved = self.resolved.load();
                let setup = self.setup.load();
                let https_port = self.https_port();
                match explain::explain(&setup, &resolved, &Question { url, from, https_port }) {
                    Ok(explanation) => Answer::Explained { explanation: Box::new(explanation) },
                    Err(error) => Answer::Error { text: error.to_string() },
                }
            }
            Request::Rejects {} => {
                Answer::Refused { refused: Refused::all(&self.setup.load(), Kind::Requests) }
            }
            Request::TlsFailures {} => {
                Answer::Refused { refused: Refused::all(&self.setup.load(), Kind::Connections) }
            }
            other => AcmeAnswers(self.acme.clone()).answer(other),
        }
    }
}
