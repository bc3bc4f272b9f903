//! What a slot needs next.

use serde::{Deserialize, Serialize};

use super::budget::{Budgets, Wish};
use super::failure::FailureKind;
use super::names::Unorderable;
use super::state::{Certificate, SlotState};
use super::{issuers, schedule};
use crate::acme::slot::Slot;
use crate::limits;

/// Why a certificate is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is none.
    Missing,
    /// The operator asked.
    Forced,
    /// The one in use was revoked.
    Revoked,
    /// The one in use is not what the configuration asks for.
    Changed,
    /// The one in use has expired.
    Expired,
    /// The moment chosen from renewal information has come.
    RenewalInfo,
    /// So little is left that renewal information no longer counts.
    Emergency,
    /// By its dates alone.
    #[default]
    #[serde(other)]
    Backstop,
}

impl Reason {
    /// Its word in logs and hooks.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Forced => "forced",
            Self::Revoked => "revoked",
            Self::Changed => "changed",
            Self::Expired => "expired",
            Self::RenewalInfo => "renewal_info",
            Self::Emergency => "emergency",
            Self::Backstop => "backstop",
        }
    }

    /// Seconds that must lie between a certificate that lives `life` seconds and the next of its set.
    pub(super) fn spacing(self, life: u64) -> u64 {
        let tenth = life / 10;
        match self {
            Self::Forced => 0,
            Self::Missing | Self::Changed => tenth.min(limits::ACME_ISSUED_SPACING_LOST.as_secs()),
            Self::Revoked | Self::RenewalInfo => tenth.min(limits::ACME_ISSUED_SPACING_REQUESTED.as_secs()),
            Self::Expired | Self::Emergency | Self::Backstop => tenth,
        }
    }

    /// Certificates of one set in the window, at a public authority.
    pub(super) fn issued_limit(self) -> Option<usize> {
        match self {
            Self::Forced => None,
            Self::Revoked | Self::RenewalInfo => Some(limits::ACME_ISSUED_REQUESTED),
            _ => Some(limits::ACME_ISSUED),
        }
    }
}

/// Whether an attempt begins with a look at what an order would fail at: before the first certificate, and
/// after failures of that kind. Not when a person insists, nor when so little is left that a look which is
/// wrong would cost more than an order.
#[must_use]
pub fn wants_preflight(state: &SlotState) -> bool {
    let reason = state.attempt.as_ref().map(|attempt| attempt.reason);
    if matches!(reason, Some(Reason::Forced | Reason::Expired | Reason::Emergency)) {
        return false;
    }
    let kind = state.failing.as_ref().map(|failing| failing.kind);
    let failed = [FailureKind::Authorization, FailureKind::Caa, FailureKind::Dns, FailureKind::Preflight];
    state.certificate.is_none() || kind.is_some_and(|kind| failed.contains(&kind))
}

/// An order to place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Why.
    pub reason: Reason,
    /// Place of the authority in the slot's policy.
    pub authority: usize,
    /// URL of its directory.
    pub directory: String,
    /// Key of the account, see [`super::account_key`].
    pub account: String,
    /// Whether the limits of public authorities hold for it.
    pub limited: bool,
    /// Identifier of the certificate that it replaces (RFC 9773 §5).
    pub replaces: Option<String>,
    /// End of the certificate in use: where orders compete, the earliest goes first; `None` before all.
    pub expires: Option<u64>,
}

/// What to do next for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Place an order.
    Order(Order),
    /// Ask for renewal information: GET, without account (RFC 9773 §4.1).
    PollRenewalInfo {
        /// URL of the directory that issued the certificate.
        directory: String,
        /// The certificate's identifier.
        ari_id: String,
    },
    /// Nothing until this moment, or until an event.
    Wait(u64),
    /// No authority of the policy may be asked for these names; only another configuration helps.
    Unorderable(Unorderable),
}

impl SlotState {
    /// What to do at `now` by the plan's clock. Changes the state only in that moments from the future
    /// become now.
    #[must_use]
    pub fn next(&mut self, slot: &Slot, budgets: &mut Budgets, now: u64) -> Next {
        self.mend(now);
        budgets.mend(now);
        let longest = now.saturating_add(limits::ACME_WAIT_MAX.as_secs());
        if self.attempt.is_some() {
            return Next::Wait(longest);
        }
        let mut until = longest;
        match self.due(slot, now) {
            Ok(reason) => match self.order(slot, budgets, reason, now) {
                Ok(next) => return next,
                Err(at) => until = until.min(at),
            },
            Err(at) => until = until.min(at),
        }
        if let Some((at, certificate, ari_id)) = self.poll(slot, budgets, now) {
            if at <= now {
                let directory = certificate.directory.clone();
                return Next::PollRenewalInfo { directory, ari_id: ari_id.to_owned() };
            }
            until = until.min(at);
        }
        Next::Wait(until.max(now.saturating_add(1)))
    }

    /// When the certificate is to be renewed, if nothing happens before; 0: at once.
    #[must_use]
    pub fn due_at(&self) -> u64 {
        let Some(certificate) = &self.certificate else { return 0 };
        if self.revoked_at.is_some() {
            return 0;
        }
        let scheduled = self.ari.selected.unwrap_or_else(|| schedule::backstop(certificate, self.jitter));
        scheduled.min(schedule::emergency(certificate))
    }

    /// Why an order is due, or when it will be.
    fn due(&self, slot: &Slot, now: u64) -> Result<Reason, u64> {
        if self.forced {
            return Ok(Reason::Forced);
        }
        let Some(certificate) = &self.certificate else { return Ok(Reason::Missing) };
        if self.revoked_at.is_some() {
            return Ok(Reason::Revoked);
        }
        if !fits(certificate, slot) {
            return Ok(Reason::Changed);
        }
        if now >= certificate.not_after {
            return Ok(Reason::Expired);
        }
        let due = self.due_at();
        if now < due {
            return Err(due);
        }
        Ok(match self.ari.selected {
            Some(selected) if now >= selected => Reason::RenewalInfo,
            Some(_) => Reason::Emergency,
            None if now >= schedule::emergency(certificate) => Reason::Emergency,
            None => Reason::Backstop,
        })
    }

    /// The order, or when it may be placed.
    fn order(&self, slot: &Slot, budgets: &Budgets, reason: Reason, now: u64) -> Result<Next, u64> {
        let candidates = match issuers::candidates(slot) {
            Ok(candidates) => candidates,
            Err(reason) => return Ok(Next::Unorderable(reason)),
        };
        let closed = |authority: &crate::config::model::Authority| {
            budgets.closed_until(&authority.directory, &issuers::account_key(authority))
        };
        let Some((index, authority, changes_at)) = issuers::choose(self, &candidates, closed, now) else {
            return Err(u64::MAX);
        };
        let account = issuers::account_key(authority);
        let limited = authority.preset.is_some();
        let wish = Wish { account: &account, directory: &authority.directory, limited, slot, reason };
        let mut at = budgets.permitted_at(&wish, now);
        if at > now {
            at = changes_at.map_or(at, |changes| at.min(changes));
        }
        if let Some(failing) = self.failing.as_ref().filter(|_| reason != Reason::Forced) {
            at = at.max(failing.next_try());
        }
        if at > now {
            return Err(at);
        }
        Ok(Next::Order(Order {
            reason,
            authority: index,
            directory: authority.directory.clone(),
            account,
            limited,
            replaces: self.replaces(slot, &authority.directory, now),
            expires: self.certificate.as_ref().map(|certificate| certificate.not_after),
        }))
    }

    /// What the order says it replaces: only at the authority that issued it, only once, and only if they
    /// share a name (RFC 9773 §5).
    fn replaces(&self, slot: &Slot, directory: &str, now: u64) -> Option<String> {
        let certificate = self.certificate.as_ref()?;
        let known = self.ari.window.is_some() && !self.replaces_spent;
        let valid = now < certificate.not_after;
        let shared = slot.identifiers.iter().any(|name| certificate.identifiers.contains(&name.to_string()));
        (known && valid && shared && certificate.directory == directory).then_some(())?;
        certificate.ari_id.clone()
    }

    /// When renewal information may be asked for, and for what; never for an expired certificate.
    fn poll(&self, slot: &Slot, budgets: &Budgets, now: u64) -> Option<(u64, &Certificate, &str)> {
        let certificate = self.certificate.as_ref().filter(|certificate| now < certificate.not_after)?;
        let mut authorities = slot.policy.authorities.iter();
        authorities.find(|authority| authority.directory == certificate.directory)?;
        let closed = budgets.authority_closed_until(&certificate.directory);
        Some((self.ari.next_poll().max(closed), certificate, certificate.ari_id.as_deref()?))
    }
}

/// Whether the certificate is what the configuration asks for.
fn fits(certificate: &Certificate, slot: &Slot) -> bool {
    let policy = &slot.policy;
    slot.identifiers.iter().all(|name| certificate.identifiers.contains(&name.to_string()))
        && certificate.key == policy.key.word()
        && certificate.profile == policy.profile
        && policy.authorities.iter().any(|authority| authority.directory == certificate.directory)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
