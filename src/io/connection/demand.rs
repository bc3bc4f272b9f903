//! A connection whose name has no certificate yet, and may have one on demand.

use std::task::Context;
use std::time::Instant;

use super::{Connection, Phase, Step};
use crate::telemetry::metrics::Counter;
use crate::tls::alert;
use crate::tls::choose::Refusal;
use crate::tls::server_name::ServerName;

impl Connection {
    /// Waits for a certificate of this name, unless that was done already.
    pub(super) fn wish(&mut self, now: Instant, name: &ServerName, decided: bool) -> Step {
        if decided {
            return self.refused_on_demand(now, "on-demand-refused", Counter::RefusedOnDemand);
        }
        match self.side.worker.demand.leave(name.as_bytes(), self.side.facts.client.ip()) {
            Ok(waiting) => {
                self.phase = Phase::Demand(waiting);
                self.until = now + self.side.setup.model.timeouts.handshake;
                Step::Progress
            }
            Err(_) => self.refused_on_demand(now, "on-demand-busy", Counter::RefusedOnDemandBusy),
        }
    }

    fn refused_on_demand(&mut self, now: Instant, reason: &'static str, counter: Counter) -> Step {
        self.refused(now, reason, counter);
        self.client.push_raw(&alert::plaintext_alert(Refusal::OnDemand.alert()));
        Step::Close { linger: true }
    }

    /// Waits for the verdict; what the client sends meanwhile stays with the kernel.
    pub(super) fn demand(&mut self, cx: &Context<'_>, now: Instant) -> Step {
        let Phase::Demand(waiting) = &self.phase else { return Step::Wait };
        // Before the look, so that no verdict falls between the two.
        self.side.worker.demand.wakes(cx.waker());
        if waiting.is_decided() {
            self.side.setup = self.side.worker.setup();
            self.phase = Phase::Hello { prefix_due: false, decided: true };
            return Step::Progress;
        }
        let watched = self.client.watch_end();
        if watched == Some(true) {
            self.refused(now, "on-demand-cut", Counter::RefusedOnDemand);
            return Step::Cut { reset: false };
        }
        if now >= self.until {
            return self.refused_on_demand(now, "on-demand-timeout", Counter::RefusedOnDemand);
        }
        if self.side.worker.draining().is_some() {
            return Step::Cut { reset: false };
        }
        if watched.is_none() { Step::Progress } else { Step::Wait }
    }
}
