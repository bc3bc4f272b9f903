//! What an account may still ask of its authority: below the limits that public authorities publish, and
//! whatever the clock says. Shared by all slots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decide::Reason;
use super::failure::{Failure, FailureKind};
use crate::acme::slot::Slot;
use crate::limits;

/// The form in which budgets are written.
const VERSION: u32 = 1;

/// A time during which nothing is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Closed {
    at: u64,
    seconds: u64,
}

impl Closed {
    fn until(self) -> u64 {
        self.at.saturating_add(self.seconds)
    }
}

/// A certificate that was issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Issued {
    at: u64,
    life: u64,
}

/// One account's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Account {
    /// After `rateLimited`.
    closed: Closed,
    /// When the bucket of orders will be full again.
    orders_full_at: u64,
    /// Orders under way: when each slot's began.
    open: BTreeMap<String, u64>,
    /// By set of names, oldest first.
    issued: BTreeMap<String, Vec<Issued>>,
    /// Failed authorizations by name, oldest first.
    failed: BTreeMap<String, Vec<u64>>,
}

/// Counts of all accounts. Written as JSON, tolerant of what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budgets {
    version: u32,
    accounts: BTreeMap<String, Account>,
    /// By directory, after 503.
    authorities: BTreeMap<String, Closed>,
    /// The latest moment known: only a clock that went back leaves moments to mend.
    seen_at: u64,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { version: VERSION, accounts: BTreeMap::new(), authorities: BTreeMap::new(), seen_at: 0 }
    }
}

/// An order that is to be weighed.
pub(super) struct Wish<'a> {
    pub account: &'a str,
    pub directory: &'a str,
    /// Whether the limits of public authorities hold.
    pub limited: bool,
    pub slot: &'a Slot,
    pub reason: Reason,
}

impl Budgets {
    /// The process began: no order is under way, except those that slots then resume.
    pub fn restored(&mut self, now: u64) {
        self.version = VERSION;
        for account in self.accounts.values_mut() {
            account.open.clear();
        }
        self.mend(now);
    }

    /// When the account and its authority may be contacted again; in the past: now. `account` as of
    /// [`super::account_key`].
    #[must_use]
    pub fn closed_until(&self, directory: &str, account: &str) -> u64 {
        let account = self.accounts.get(account).map_or(0, |account| account.closed.until());
        account.max(self.authority_closed_until(directory))
    }

    /// When the authority may be contacted again by anybody; in the past: now.
    #[must_use]
    pub fn authority_closed_until(&self, directory: &str) -> u64 {
        self.authorities.get(directory).map_or(0, |closed| closed.until())
    }

    /// Takes moments in the future for now: they were written under a wrong clock.
    pub(super) fn mend(&mut self, now: u64) {
        let went_back = now < self.seen_at;
        self.seen_at = now;
        if !went_back {
            return;
        }
        for closed in self.authorities.values_mut() {
            closed.at = closed.at.min(now);
        }
        let full = limits::ACME_ORDER_REFILL.as_secs().saturating_mul(u64::from(limits::ACME_ORDER_BURST));
        for account in self.accounts.values_mut() {
            account.closed.at = account.closed.at.min(now);
            account.orders_full_at = account.orders_full_at.min(now.saturating_add(full));
            account.open.values_mut().for_each(|at| *at = (*at).min(now));
            account.issued.values_mut().flatten().for_each(|issued| issued.at = issued.at.min(now));
            account.failed.values_mut().flatten().for_each(|at| *at = (*at).min(now));
        }
    }

    /// When the order may be placed; at most `now`: now.
    pub(super) fn permitted_at(&self, wish: &Wish<'_>, now: u64) -> u64 {
        let closed = self.closed_until(wish.directory, wish.account);
        let Some(account) = self.accounts.get(wish.account) else { return closed };
        let mut at = closed.max(account.spaced_at(wish));
        if wish.limited {
            at = at.max(account.counted_at(wish)).max(account.bucket_at());
            at = at.max(account.names_at(wish.slot)).max(account.open_at(now));
        }
        at
    }

    pub(super) fn started(&mut self, account: &str, limited: bool, slot: &str, now: u64) {
        let account = self.account(account);
        account.open.insert(slot.to_owned(), now);
        if limited {
            let refill = limits::ACME_ORDER_REFILL.as_secs();
            account.orders_full_at = account.orders_full_at.max(now).saturating_add(refill);
        }
    }

    pub(super) fn reopened(&mut self, account: &str, slot: &str, started_at: u64) {
        self.account(account).open.insert(slot.to_owned(), started_at);
    }

    pub(super) fn ended(&mut self, account: &str, slot: &str) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.open.remove(slot);
        }
    }

    pub(super) fn issued(&mut self, account: &str, slot: &Slot, life: u64, now: u64) {
        let account = self.account(account);
        account.prune(now);
        let list = account.issued.entry(set_key(slot)).or_default();
        list.push(Issued { at: now, life });
        // More than the limit are never looked at.
        let surplus = list.len().saturating_sub(limits::ACME_ISSUED_REQUESTED);
        list.drain(..surplus);
    }

    pub(super) fn failed(&mut self, account: &str, directory: &str, failure: &Failure, now: u64) {
        let wait = failure.retry_after.map(|wait| wait.min(limits::ACME_RETRY_AFTER_MAX.as_secs()));
        if let Some(seconds) = wait {
            let closed = Closed { at: now, seconds };
            match failure.kind {
                FailureKind::Unavailable => {
                    self.authorities.insert(directory.to_owned(), closed);
                }
                FailureKind::RateLimited | FailureKind::Paused => self.account(account).closed = closed,
                _ => {}
            }
        }
        if failure.kind == FailureKind::Preflight {
            // Nothing was placed, so what was taken out of the bucket goes back.
            let account = self.account(account);
            let refill = limits::ACME_ORDER_REFILL.as_secs();
            account.orders_full_at = account.orders_full_at.saturating_sub(refill);
        }
        if failure.kind != FailureKind::Authorization {
            return;
        }
        let account = self.account(account);
        account.prune(now);
        for (name, _) in &failure.names {
            let list = account.failed.entry(name.clone()).or_default();
            list.push(now);
            let surplus = list.len().saturating_sub(limits::ACME_FAILED_AUTHORIZATIONS);
            list.drain(..surplus);
        }
    }

    fn account(&mut self, key: &str) -> &mut Account {
        self.accounts.entry(key.to_owned()).or_default()
    }
}

impl Account {
    /// When the last certificate of this set is old enough.
    fn spaced_at(&self, wish: &Wish<'_>) -> u64 {
        let last = self.issued.get(&set_key(wish.slot)).and_then(|list| list.last());
        last.map_or(0, |last| last.at.saturating_add(wish.reason.spacing(last.life)))
    }

    /// When few enough certificates of this set lie in the window.
    fn counted_at(&self, wish: &Wish<'_>) -> u64 {
        let Some(limit) = wish.reason.issued_limit() else { return 0 };
        let Some(list) = self.issued.get(&set_key(wish.slot)) else { return 0 };
        let counted = list.iter().rev().nth(limit.saturating_sub(1));
        counted.map_or(0, |issued| issued.at.saturating_add(limits::ACME_ISSUED_WINDOW.as_secs()))
    }

    /// When the bucket of orders has one.
    fn bucket_at(&self) -> u64 {
        let room = u64::from(limits::ACME_ORDER_BURST.saturating_sub(1));
        self.orders_full_at.saturating_sub(room.saturating_mul(limits::ACME_ORDER_REFILL.as_secs()))
    }

    /// When no name of the slot has too many failed authorizations in the window.
    fn names_at(&self, slot: &Slot) -> u64 {
        let window = limits::ACME_FAILED_AUTHORIZATIONS_WINDOW.as_secs();
        let full = slot.identifiers.iter().filter_map(|identifier| {
            let list = self.failed.get(&identifier.to_string())?;
            list.iter().rev().nth(limits::ACME_FAILED_AUTHORIZATIONS.saturating_sub(1))
        });
        full.max().map_or(0, |at| at.saturating_add(window))
    }

    /// When one of the orders under way is over at the latest.
    fn open_at(&self, now: u64) -> u64 {
        let life = limits::ACME_RESUME_AGE.as_secs();
        let open = self.open.values().filter(|at| at.saturating_add(life) > now);
        if open.clone().count() < limits::ACME_ORDERS_OPEN {
            return 0;
        }
        open.min().map_or(0, |at| at.saturating_add(life))
    }

    /// Forgets what no longer counts, and the oldest when there is too much.
    fn prune(&mut self, now: u64) {
        if self.issued.len() < limits::ACME_BUDGET_ENTRIES && self.failed.len() < limits::ACME_BUDGET_ENTRIES
        {
            return;
        }
        self.issued.retain(|_, list| {
            list.last().is_some_and(|last| {
                let counts = limits::ACME_ISSUED_WINDOW.as_secs().max(last.life / 10);
                last.at.saturating_add(counts) > now
            })
        });
        let window = limits::ACME_FAILED_AUTHORIZATIONS_WINDOW.as_secs();
        self.failed.retain(|_, list| list.last().is_some_and(|at| at.saturating_add(window) > now));
        if self.issued.len() >= limits::ACME_BUDGET_ENTRIES {
            self.issued.pop_first();
        }
        if self.failed.len() >= limits::ACME_BUDGET_ENTRIES {
            self.failed.pop_first();
        }
    }
}

/// The exact set of names that authorities count by: the key does not matter.
fn set_key(slot: &Slot) -> String {
    let names: Vec<String> = slot.identifiers.iter().map(ToString::to_string).collect();
    names.join(" ")
}
