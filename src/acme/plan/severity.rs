//! How bad a failing renewal is, and when the operator's hook is told.

use super::scaled;
use super::state::{Certificate, SlotState};
use crate::limits;

/// How loud it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Failing since lately.
    Warn,
    /// Failing for a day, or for a third of the time that was left, or refused for what was asked.
    Error,
    /// Less than a quarter of the life is left, or none.
    Critical,
}

impl Severity {
    /// Its word in logs and status.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl SlotState {
    /// How bad it is at `now`; `None` while nothing fails. An expired certificate is critical by itself.
    #[must_use]
    pub fn severity(&self, now: u64) -> Option<Severity> {
        let certificate = self.certificate.as_ref();
        if certificate.is_some_and(|certificate| now >= certificate.not_after) {
            return Some(Severity::Critical);
        }
        let failing = self.failing.as_ref()?;
        if certificate.is_some_and(|certificate| certificate.left(now) < certificate.life() / 4) {
            return Some(Severity::Critical);
        }
        let life = certificate.map_or(limits::ACME_REFERENCE_LIFE.as_secs(), Certificate::life);
        let age = now.saturating_sub(failing.first_at);
        let third = certificate.is_some_and(|certificate| {
            let room = certificate.not_after.saturating_sub(failing.first_at);
            age > room / 3
        });
        let long = age > scaled(limits::ACME_FAILING_ERROR, life);
        let error = long || third || failing.kind.is_blocked();
        Some(if error { Severity::Error } else { Severity::Warn })
    }

    /// Whether the hook is to be told of the failure at `now`: the first time, then daily, and hourly while
    /// it is critical. Call [`SlotState::hook_told`] when it was.
    #[must_use]
    pub fn hook_due(&self, now: u64) -> bool {
        let Some(failing) = &self.failing else { return false };
        let Some(last) = failing.hook_at else { return true };
        let interval = match self.severity(now) {
            Some(Severity::Critical) => limits::ACME_HOOK_INTERVAL_CRITICAL,
            _ => limits::ACME_HOOK_INTERVAL,
        };
        now.saturating_sub(last) >= interval.as_secs()
    }

    /// The hook was told.
    pub fn hook_told(&mut self, now: u64) {
        if let Some(failing) = &mut self.failing {
            failing.hook_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::plan::{Failing, FailureKind};

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 2_000_000_000;

    fn failing(left: u64, life: u64, since: u64, kind: FailureKind) -> SlotState {
        let dates = (NOW + left - life, NOW + left);
        let certificate = Certificate { not_before: dates.0, not_after: dates.1, ..Certificate::default() };
        let failing = Failing { count: 1, first_at: NOW - since, kind, ..Failing::default() };
        SlotState { certificate: Some(certificate), failing: Some(failing), ..SlotState::default() }
    }

    #[test]
    fn severity_follows_what_is_left() {
        let of = |left, life, since, kind| failing(left, life, since, kind).severity(NOW);
        let server = FailureKind::Server;
        assert_eq!(of(29 * DAY, 90 * DAY, 60, server), Some(Severity::Warn));
        assert_eq!(of(29 * DAY, 90 * DAY, DAY + 1, server), Some(Severity::Error));
        assert_eq!(of(29 * DAY, 90 * DAY, 60, FailureKind::Caa), Some(Severity::Error));
        assert_eq!(of(22 * DAY, 90 * DAY, 60, server), Some(Severity::Critical));
        assert_eq!(
            of(3 * DAY, 6 * DAY, 60, server),
            Some(Severity::Warn),
            "short ones are not always critical"
        );
        assert_eq!(of(20, 60, 9, server), Some(Severity::Warn));
        assert_eq!(of(20, 60, 11, server), Some(Severity::Error), "a third of the time left");
        let mut state = failing(0, 90 * DAY, 60, server);
        assert_eq!(state.severity(NOW), Some(Severity::Critical));
        state.failing = None;
        assert_eq!(state.severity(NOW), Some(Severity::Critical), "expired");
        assert_eq!(state.severity(NOW - 1), None);
        let none = SlotState { certificate: None, ..failing(1, 1, 60, server) };
        assert_eq!(none.severity(NOW), Some(Severity::Warn));
    }

    #[test]
    fn the_hook_is_told_first_then_daily_then_hourly() {
        let mut state = failing(29 * DAY, 90 * DAY, 0, FailureKind::Server);
        assert!(state.hook_due(NOW));
        state.hook_told(NOW);
        assert!(!state.hook_due(NOW + DAY - 1) && state.hook_due(NOW + DAY));
        state.hook_told(NOW + 10 * DAY);
        assert!(!state.hook_due(NOW + 10 * DAY + 3599) && state.hook_due(NOW + 10 * DAY + 3600));
        state.failing = None;
        assert!(!state.hook_due(NOW + 20 * DAY));
    }
}
