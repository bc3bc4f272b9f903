//! What is remembered of one slot, and the events that change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ari::{self, Ari, RenewalInfo, RenewalInfoError, WindowChanged};
use super::budget::Budgets;
use super::decide::{Order, Reason};
use super::failure::{Failure, FailureKind};
use super::issuers::{self, Trouble};
use super::{Draw, backoff, cut, schedule};
use crate::acme::slot::Slot;
use crate::limits;

/// The form in which state is written.
const VERSION: u32 = 1;

/// Facts of an issued certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// `AKI.serial` of RFC 9773 §4.1, if the certificate has a key identifier of its issuer.
    pub ari_id: Option<String>,
    /// Start of validity, in seconds since the epoch.
    pub not_before: u64,
    /// End of validity.
    pub not_after: u64,
    /// URL of the directory that issued it.
    pub directory: String,
    /// DNS names and IP addresses in it, in the form of [`crate::acme::slot::Identifier`]'s text.
    pub identifiers: Vec<String>,
    /// Kind of its key, by [`crate::config::model::KeyKind::word`].
    pub key: String,
    /// Profile that it was ordered with.
    pub profile: Option<String>,
}

impl Certificate {
    /// Seconds from start to end of validity, at least 1.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.not_after.saturating_sub(self.not_before).max(1)
    }

    /// Seconds of validity left.
    #[must_use]
    pub fn left(&self, now: u64) -> u64 {
        self.not_after.saturating_sub(now)
    }
}

/// Failures in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failing {
    /// How many.
    pub count: u32,
    /// The first.
    pub first_at: u64,
    /// The last.
    pub last_at: u64,
    /// Kind of the last.
    pub kind: FailureKind,
    /// Its line for the operator.
    pub text: String,
    /// Seconds from the last to the next attempt of this slot. Marks of [`Budgets`] may make it later.
    pub wait: u64,
    /// Directory of the last.
    pub directory: String,
    /// When the hook was last told.
    pub hook_at: Option<u64>,
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            count: 0,
            first_at: 0,
            last_at: 0,
            kind: FailureKind::Other,
            text: String::new(),
            wait: 0,
            directory: String::new(),
            hook_at: None,
        }
    }
}

impl Failing {
    /// When this slot may be tried again.
    #[must_use]
    pub fn next_try(&self) -> u64 {
        self.last_at.saturating_add(self.wait)
    }
}

/// An order under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// When it began.
    pub started_at: u64,
    /// Directory that it is placed with.
    pub directory: String,
    /// Key of the account, see [`super::account_key`].
    pub account: String,
    /// Why.
    pub reason: Reason,
    /// Restarts since then.
    pub resumed: u32,
}

/// What a restart found of an order under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// None was.
    Idle,
    /// One was, and may be resumed by its URL; if there is nothing to resume, call [`SlotState::failed`]
    /// with [`FailureKind::Interrupted`].
    Resume,
    /// One was, and is given up: counted as a failure.
    GivenUp,
}

/// All that is remembered of a slot. Written as JSON; unknown fields are ignored and missing ones are
/// empty, so that older and newer versions read each other's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotState {
    /// Form in which it was written.
    pub version: u32,
    /// The certificate in use, if there is one.
    pub certificate: Option<Certificate>,
    /// Seconds by which the backstop is early, drawn once for this certificate.
    pub jitter: u64,
    /// Renewal information for this certificate.
    pub ari: Ari,
    /// Whether its identifier may no longer be given as `replaces`: used, or refused once.
    pub replaces_spent: bool,
    /// When the operator or the authority said that it is revoked.
    pub revoked_at: Option<u64>,
    /// Whether the operator asked for a new one now.
    pub forced: bool,
    /// Failures in a row.
    pub failing: Option<Failing>,
    /// Authorities in trouble, by directory.
    pub trouble: BTreeMap<String, Trouble>,
    /// Per identifier, the kind of challenge that failed last.
    pub challenges: BTreeMap<String, String>,
    /// An order under way.
    pub attempt: Option<Attempt>,
    /// When the last success was.
    pub issued_at: Option<u64>,
    /// What was asked for when the last failure was counted.
    pub asked: String,
}

impl Default for SlotState {
    fn default() -> Self {
        Self {
            version: VERSION,
            certificate: None,
            jitter: 0,
            ari: Ari::default(),
            replaces_spent: false,
            revoked_at: None,
            forced: false,
            failing: None,
            trouble: BTreeMap::new(),
            challenges: BTreeMap::new(),
            attempt: None,
            issued_at: None,
            asked: String::new(),
        }
    }
}

impl SlotState {
    /// A certificate was read from disk. What is known of this very certificate is kept.
    pub fn certificate_found(&mut self, found: Certificate, now: u64, draw: Draw) {
        let known = self.certificate.as_ref().is_some_and(|known| {
            (known.not_before, known.not_after) == (found.not_before, found.not_after)
                && known.ari_id == found.ari_id
        });
        if known {
            self.certificate = Some(found);
        } else {
            self.adopt(found, now, draw);
        }
    }

    /// There is none on disk.
    pub fn certificate_missing(&mut self) {
        self.certificate = None;
        self.forget_certificate();
    }

    /// The process began with state from disk, `now` by the plan's clock.
    pub fn restored(&mut self, budgets: &mut Budgets, slot: &Slot, now: u64, draw: Draw) -> Restored {
        self.version = VERSION;
        self.mend(now);
        let Some(attempt) = &mut self.attempt else { return Restored::Idle };
        attempt.resumed = attempt.resumed.saturating_add(1);
        let age = now.saturating_sub(attempt.started_at);
        if attempt.resumed <= limits::ACME_RESUMES && age < limits::ACME_RESUME_AGE.as_secs() {
            budgets.reopened(&attempt.account, &slot.name.to_string(), attempt.started_at);
            return Restored::Resume;
        }
        let text = "the process ended in the middle of an order";
        self.failed(budgets, slot, Failure::new(FailureKind::Interrupted, text), now, draw);
        Restored::GivenUp
    }

    /// The configuration was read, at start or later. Whether what is asked for changed since the last
    /// failure; if so the slot may be tried at once.
    pub fn config_changed(&mut self, slot: &Slot) -> bool {
        let asked = issuers::asked(slot);
        if asked == self.asked {
            return false;
        }
        self.asked = asked;
        self.trouble.clear();
        self.challenges.clear();
        if let Some(failing) = &mut self.failing {
            failing.wait = 0;
            failing.kind = FailureKind::Other;
        }
        true
    }

    /// The operator asks for a new certificate now.
    pub fn force(&mut self) {
        self.forced = true;
    }

    /// The certificate was revoked, or its key is known to others: a new one is due now.
    pub fn revoked(&mut self, now: u64) {
        self.revoked_at = Some(now);
    }

    /// An order is about to be placed. Save state and budgets before it is.
    pub fn started(&mut self, budgets: &mut Budgets, slot: &Slot, order: &Order, now: u64) {
        self.forced = false;
        let account = order.account.clone();
        budgets.started(&account, order.limited, &slot.name.to_string(), now);
        self.attempt = Some(Attempt {
            started_at: now,
            directory: order.directory.clone(),
            account,
            reason: order.reason,
            resumed: 0,
        });
    }

    /// The order was not placed after all, and nobody is to blame.
    pub fn abandoned(&mut self, budgets: &mut Budgets, slot: &Slot) {
        if let Some(attempt) = self.attempt.take() {
            self.forced = attempt.reason == Reason::Forced;
            budgets.ended(&attempt.account, &slot.name.to_string());
        }
    }

    /// The authority refused `replaces` (RFC 9773 §5): order once more without it, in the same attempt.
    pub fn replaces_refused(&mut self) {
        self.replaces_spent = true;
    }

    /// A certificate came, was verified, and is in use.
    pub fn issued(&mut self, budgets: &mut Budgets, slot: &Slot, new: Certificate, now: u64, draw: Draw) {
        if let Some(attempt) = self.attempt.take() {
            budgets.ended(&attempt.account, &slot.name.to_string());
            budgets.issued(&attempt.account, slot, new.life(), now);
        }
        self.failing = None;
        self.trouble.clear();
        self.issued_at = Some(now);
        self.adopt(new, now, draw);
    }

    /// An attempt failed. The state says when the next one is ([`Failing::next_try`]), except where the
    /// authority closed the account or itself, which [`Budgets`] keeps.
    pub fn failed(&mut self, budgets: &mut Budgets, slot: &Slot, failure: Failure, now: u64, draw: Draw) {
        let attempt = self.attempt.take().unwrap_or_default();
        budgets.ended(&attempt.account, &slot.name.to_string());
        budgets.failed(&attempt.account, &attempt.directory, &failure, now);
        issuers::note(&mut self.trouble, &attempt.directory, failure.kind, now);
        if failure.kind == FailureKind::Authorization {
            let known = slot.identifiers.iter().map(ToString::to_string);
            let known: Vec<String> = known.collect();
            self.challenges.retain(|name, _| known.contains(name));
            for (name, kind) in failure.names.iter().filter(|(name, _)| known.contains(name)) {
                self.challenges.insert(name.clone(), kind.word().to_owned());
            }
        }
        let failing = self.failing.get_or_insert_with(|| Failing { first_at: now, ..Failing::default() });
        failing.count = failing.count.saturating_add(1);
        failing.last_at = now;
        failing.kind = failure.kind;
        failing.text = cut(failure.text, limits::ACME_FAILURE_BYTES);
        failing.directory = attempt.directory;
        failing.wait = backoff::wait(
            self.certificate.as_ref(),
            failure.kind,
            failing.count,
            failure.retry_after,
            now,
            draw,
        );
        self.asked = issuers::asked(slot);
    }

    /// The answer to a question for renewal information. Gives what to warn of: the authority moved the
    /// window (RFC 9773 §4.2).
    pub fn renewal_info(
        &mut self,
        answer: Result<RenewalInfo, RenewalInfoError>,
        now: u64,
        draw: Draw,
    ) -> Option<WindowChanged> {
        let certificate = self.certificate.as_ref()?;
        ari::answered(&mut self.ari, certificate, answer, now, draw)
    }

    /// Takes a certificate as the one in use.
    fn adopt(&mut self, new: Certificate, now: u64, draw: Draw) {
        self.forget_certificate();
        self.jitter = schedule::jitter(&new, draw.first());
        self.ari = Ari::first(&new, now, draw.second());
        self.certificate = Some(new);
    }

    fn forget_certificate(&mut self) {
        self.jitter = 0;
        self.ari = Ari::default();
        self.replaces_spent = false;
        self.revoked_at = None;
    }

    /// Takes moments that lie in the future, and cannot, for now: they were written under a wrong clock.
    pub(super) fn mend(&mut self, now: u64) {
        if let Some(failing) = &mut self.failing {
            failing.last_at = failing.last_at.min(now);
            failing.first_at = failing.first_at.min(now);
            failing.hook_at = failing.hook_at.map(|at| at.min(now));
        }
        for trouble in self.trouble.values_mut() {
            trouble.first_at = trouble.first_at.min(now);
            trouble.last_at = trouble.last_at.min(now);
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.started_at = attempt.started_at.min(now);
        }
        self.ari.mend(now);
    }
}
