//! When a certificate is asked for, from whom, and when not: the renewal state machine. It is pure: time
//! is in seconds since the Unix epoch, randomness is a [`Draw`], and both are arguments. What is to survive
//! a restart is in [`SlotState`] (one per slot), [`Budgets`] and [`Clock`]; all three are kept as JSON.
//!
//! The driver's part:
//!
//! 1. At start: read the three; [`Clock::restored`], [`Budgets::restored`]; per slot
//!    [`SlotState::certificate_found`] or [`SlotState::certificate_missing`], then
//!    [`SlotState::config_changed`] and [`SlotState::restored`].
//! 2. Each minute, and after each event: [`Clock::tick`], then [`SlotState::next`] with [`Clock::now`],
//!    which all other calls get too.
//! 3. On [`Next::Order`]: [`SlotState::started`], **save state and budgets**, then contact the authority.
//!    After its first answer: [`Clock::observe`], and if that moved the clock, ask [`SlotState::next`]
//!    again after [`SlotState::abandoned`].
//! 4. Then [`SlotState::issued`] or [`SlotState::failed`], and save again before anything else.
//!
//! State that was saved under a wrong clock is mended when read: a moment in the future that cannot be is
//! taken for now.

mod ari;
mod backoff;
mod budget;
mod challenge;
mod clock;
mod decide;
mod demand;
mod failure;
mod issuers;
mod names;
mod schedule;
mod severity;
mod state;

#[cfg(test)]
mod simulation_tests;

pub use ari::{Ari, RenewalInfo, RenewalInfoError, Window, WindowChanged};
pub use budget::Budgets;
pub use challenge::{challenge_for, usable};
pub use clock::{Clock, ClockEvent};
pub use decide::{Next, Order, Reason, wants_preflight};
pub use demand::{Admission, Demand, DemandRefusal, check_name, is_listed};
pub use failure::{Failure, FailureKind};
pub use issuers::account_key;
pub use names::{Unorderable, orderable};
pub use severity::Severity;
pub use state::{Attempt, Certificate, Failing, Restored, SlotState};

use crate::limits;

/// 64 random bits, drawn by the caller for one event.
#[derive(Clone, Copy, Debug)]
pub struct Draw(pub u64);

impl Draw {
    /// A number of `[0, 1)`.
    fn first(self) -> f64 {
        (self.0 >> 32) as f64 / (1_u64 << 32) as f64
    }

    /// Another one, independent of the first.
    fn second(self) -> f64 {
        (self.0 & 0xffff_ffff) as f64 / (1_u64 << 32) as f64
    }
}

/// `seconds` times `factor`, at least 0.
fn times(seconds: u64, factor: f64) -> u64 {
    (seconds as f64 * factor.max(0.0)) as u64
}

/// How much waits shrink for a certificate that lives `life` seconds: 1 from the reference life on.
fn scale(life: u64) -> f64 {
    (life as f64 / limits::ACME_REFERENCE_LIFE.as_secs() as f64).min(1.0)
}

/// A wait made for long lives, for a certificate that lives `life` seconds: at least a second.
fn scaled(wait: std::time::Duration, life: u64) -> u64 {
    times(wait.as_secs(), scale(life)).max(1)
}

/// At most `limit` bytes of `text`, cut between characters.
fn cut(mut text: String, limit: usize) -> String {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
