//! Whether the clock of this machine can be believed. The authority's `Date` is a second opinion. Where
//! they differ, the later one counts, since a renewal that comes early costs little (the budget sees to
//! that) and a late one costs the certificate; unless a new certificate proves that wrong, being invalid or
//! due already by the local clock.

use serde::{Deserialize, Serialize};

use super::schedule;
use super::state::Certificate;
use crate::limits;

/// The form in which it is written.
const VERSION: u32 = 1;

/// Something the operator should know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockEvent {
    /// The authority's time is this many seconds ahead (positive) or behind.
    Suspect(i64),
    /// The clocks agree again.
    Agrees,
    /// The local clock jumped by this many seconds.
    Stepped(i64),
    /// The local clock is wrong by this many seconds, as a new certificate proves: the plan goes by the
    /// authority's time from now on.
    Overruled(i64),
}

/// The plan's clock. Written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    version: u32,
    /// The authority's time less the local one, in seconds, if known.
    offset: Option<i64>,
    /// Whether the plan goes by the authority's time.
    overruled: bool,
    /// Local time when last looked at.
    local_at: u64,
    /// Local and monotonic time of the last tick of this process.
    #[serde(skip)]
    ticked: Option<(u64, u64)>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { version: VERSION, offset: None, overruled: false, local_at: 0, ticked: None }
    }
}

impl Clock {
    /// The process began. `true`: the local clock was wrong before; fetch an authority's directory and
    /// [`Clock::observe`] its `Date` before acting on the plan, since somebody may have set it right.
    pub fn restored(&mut self, local: u64) -> bool {
        self.version = VERSION;
        self.ticked = None;
        if self.overruled && local.saturating_add(limits::ACME_CLOCK_SKEW.as_secs()) < self.local_at {
            // It went back while nobody looked: it was set right, or is wrong in a new way.
            self.overruled = false;
            self.offset = None;
        }
        self.local_at = local;
        self.is_suspect()
    }

    /// Seconds since the epoch that the plan goes by.
    #[must_use]
    pub fn now(&self, local: u64) -> u64 {
        match self.offset {
            Some(offset) if self.overruled || (is_large(offset) && offset > 0) => {
                local.saturating_add_signed(offset)
            }
            _ => local,
        }
    }

    /// Whether local and authority's time differ by more than [`limits::ACME_CLOCK_SKEW`].
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.offset.is_some_and(is_large)
    }

    /// Whether the plan goes by the authority's time.
    #[must_use]
    pub fn is_overruled(&self) -> bool {
        self.overruled
    }

    /// The authority's time less the local one, in seconds, as last observed.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        self.offset
    }

    /// An answer of an authority carried this `Date` (RFC 9110 §6.6.1).
    pub fn observe(&mut self, date: u64, local: u64) -> Option<ClockEvent> {
        let before = self.is_suspect();
        let offset = difference(date, local);
        self.offset = Some(offset);
        self.local_at = local;
        if !is_large(offset) {
            self.overruled = false;
        }
        match (before, is_large(offset)) {
            (false, true) => Some(ClockEvent::Suspect(offset)),
            (true, false) => Some(ClockEvent::Agrees),
            _ => None,
        }
    }

    /// A look at both clocks, each minute or so; monotonic time counts from any moment. After a step, fetch
    /// an authority's directory and [`Clock::observe`] its `Date`.
    pub fn tick(&mut self, local: u64, monotonic: u64) -> Option<ClockEvent> {
        let last = self.ticked.replace((local, monotonic));
        self.local_at = local;
        let (last_local, last_monotonic) = last?;
        let step = difference(local, last_local).saturating_sub(difference(monotonic, last_monotonic));
        if !is_large(step) {
            return None;
        }
        // The authority's time did not jump, so the difference to it did.
        self.offset = Some(self.offset.unwrap_or(0).saturating_sub(step));
        if !self.is_suspect() {
            self.overruled = false;
        }
        Some(ClockEvent::Stepped(step))
    }

    /// A new certificate with these dates was verified as the authority's. If by the local clock it is not
    /// valid or due for renewal already, but fresh by the authority's, the local one is overruled.
    pub fn issued(&mut self, not_before: u64, not_after: u64, local: u64) -> Option<ClockEvent> {
        let offset = self.offset?;
        let dates = Certificate { not_before, not_after, ..Certificate::default() };
        let due = schedule::backstop(&dates, 0);
        let fresh = |at: u64| not_before <= at.saturating_add(limits::ACME_CLOCK_SKEW.as_secs()) && at < due;
        if self.overruled || fresh(local) || !fresh(local.saturating_add_signed(offset)) {
            return None;
        }
        self.overruled = true;
        Some(ClockEvent::Overruled(offset))
    }
}

fn difference(a: u64, b: u64) -> i64 {
    let size = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a < b { -size } else { size }
}

fn is_large(offset: i64) -> bool {
    offset.unsigned_abs() > limits::ACME_CLOCK_SKEW.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    const NOW: u64 = 2_000_000_000;

    fn at(skew: i64) -> u64 {
        NOW.saturating_add_signed(skew)
    }

    #[test]
    fn a_difference_is_told_once_each_way() {
        let mut clock = Clock::default();
        assert_eq!(clock.observe(NOW, at(299)), None);
        assert_eq!(clock.observe(NOW, at(301)), Some(ClockEvent::Suspect(-301)));
        assert_eq!(clock.observe(NOW, at(302)), None);
        assert!(clock.is_suspect() && !clock.is_overruled());
        assert_eq!(clock.observe(NOW, at(3)), Some(ClockEvent::Agrees));
    }

    #[test]
    fn the_later_clock_counts_until_a_certificate_decides() {
        let mut clock = Clock::default();
        clock.observe(NOW, at(-2 * 3600));
        assert_eq!(clock.now(at(-2 * 3600)), NOW, "behind: the authority's time");
        clock.observe(NOW, at(120 * DAY));
        assert_eq!(clock.now(at(120 * DAY)), at(120 * DAY), "ahead: the local one");
        let end = at(90 * DAY);
        assert_eq!(clock.issued(NOW, end, at(120 * DAY)), Some(ClockEvent::Overruled(-120 * DAY)));
        assert_eq!(clock.now(at(120 * DAY)), NOW);
        assert_eq!(clock.issued(NOW, end, at(120 * DAY)), None, "told once");
        assert_eq!(clock.observe(NOW, NOW), Some(ClockEvent::Agrees));
        assert!(!clock.is_overruled());
    }

    #[test]
    fn a_certificate_alone_proves_nothing() {
        let mut clock = Clock::default();
        assert_eq!(clock.issued(NOW, at(90 * DAY), at(120 * DAY)), None, "no second opinion");
        clock.observe(NOW, NOW);
        assert_eq!(clock.issued(at(-400 * DAY), at(-310 * DAY), NOW), None, "a bad certificate");
    }

    #[test]
    fn steps_are_seen_and_made_up_for() {
        let mut clock = Clock::default();
        assert_eq!(clock.tick(NOW, 50), None);
        assert_eq!(clock.tick(NOW + 60, 110), None);
        assert_eq!(clock.tick(at(120 - 40 * DAY), 170), Some(ClockEvent::Stepped(-40 * DAY)));
        assert_eq!(clock.now(at(120 - 40 * DAY)), NOW + 120, "time went on");
        assert_eq!(clock.tick(NOW + 180, 230), Some(ClockEvent::Stepped(40 * DAY)));
        assert_eq!(clock.now(NOW + 180), NOW + 180);
    }

    #[test]
    fn a_restart_asks_whether_it_is_still_wrong() {
        let mut clock = Clock::default();
        assert!(!clock.restored(NOW));
        clock.observe(NOW, at(120 * DAY));
        clock.issued(NOW, at(90 * DAY), at(120 * DAY));
        let mut later: Clock = serde_json::from_str(&serde_json::to_string(&clock).unwrap()).unwrap();
        assert!(later.clone().restored(at(121 * DAY)), "still ahead");
        assert!(!later.restored(at(DAY)), "it went back");
        assert_eq!(later.now(at(DAY)), at(DAY));
        assert_eq!(serde_json::from_str::<Clock>("{\"new\":1}").ok(), Some(Clock::default()));
    }
}
