//! Answers that are in service: those of this process's own orders, and those that it takes from the state
//! directory because another process with the same one has an order under way (see
//! [`SharedAnswer`]). A leader gives and shares; a follower takes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Record, SolveError};
use crate::acme::install::Install;
use crate::acme::keys;
use crate::acme::slot::Identifier;
use crate::acme::store::{AcmeStore, Attendance, Audience, Error, SharedAnswer, SharedName};
use crate::limits;

/// Answers that are in service. The same answer may be wanted by several orders, the newer of which may
/// come while the older one's still lingers, so they are counted.
pub struct Board {
    install: Arc<dyn Install>,
    store: AcmeStore,
    /// How many orders of this process want each.
    own: RefCell<BTreeMap<SharedName, u32>>,
    /// What is answered for another process, or for one before this.
    taken: RefCell<BTreeMap<SharedName, SharedAnswer>>,
    leads: Cell<bool>,
    attendance: RefCell<Option<Attendance>>,
    follows: Notify,
    pub(super) orphans: RefCell<Vec<Record>>,
}

impl Board {
    /// An empty one, which follows.
    #[must_use]
    pub fn new(install: Arc<dyn Install>, store: AcmeStore) -> Rc<Self> {
        Rc::new(Self {
            install,
            store,
            own: RefCell::default(),
            taken: RefCell::default(),
            leads: Cell::new(false),
            attendance: RefCell::default(),
            follows: Notify::new(),
            orphans: RefCell::default(),
        })
    }

    /// Records of orders that were given up in the middle, for [`super::clean`].
    pub fn orphans(&self) -> Vec<Record> {
        self.orphans.take()
    }

    /// Whether this process orders and writes from now on. `now` in seconds since the epoch.
    pub fn lead(&self, leads: bool, now: u64) {
        if leads && !self.leads.get() {
            // An authority may still come for what the leader before this one had under way.
            self.read(now);
            self.store.sweep_shared();
            self.attendance.take();
        }
        self.leads.set(leads);
        self.follows.notify_one();
    }

    /// Takes what another process shares, or only sees what of that is over if this one leads. Gives the time
    /// until the next look, or `None` until this process follows.
    pub fn look(&self, now: u64) -> Option<Duration> {
        let leads = self.leads.get();
        if leads && self.taken.borrow().is_empty() {
            return None;
        }
        if !leads && self.attendance.borrow().is_none() {
            // Said before looking: whoever shares after the look sees it, and waits for the next one. What
            // cannot be said now is tried again then.
            *self.attendance.borrow_mut() = self.store.attend().ok().flatten();
        }
        self.read(now);
        Some(limits::ACME_SHARED_LOOK)
    }

    /// What cannot be read now stays as it was.
    fn read(&self, now: u64) {
        if let Ok(found) = self.store.shared_answers() {
            self.take(found.into_iter().collect(), now);
        }
    }

    fn take(&self, found: BTreeMap<SharedName, SharedAnswer>, now: u64) {
        let leads = self.leads.get();
        let mut taken = self.taken.borrow_mut();
        let own = self.own.borrow();
        taken.retain(|name, _| {
            let stays = found.contains_key(name);
            if !stays && !own.contains_key(name) {
                self.withdraw(name);
            }
            stays
        });
        let fresh = found
            .into_iter()
            .filter(|(name, answer)| !leads && !own.contains_key(name) && taken.get(name) != Some(answer));
        for (name, answer) in fresh.collect::<Vec<_>>() {
            if self.give(&name, &answer, now).is_ok() {
                taken.insert(name, answer);
            }
        }
    }

    /// Waits until this process is told who leads.
    pub async fn told_who_leads(&self) {
        self.follows.notified().await;
    }

    /// Puts an answer into service, here and wherever the state directory is; a line for the log if others
    /// cannot give it. `now` in seconds since the epoch.
    pub(super) fn answer(
        &self,
        name: &SharedName,
        answer: &SharedAnswer,
        now: u64,
    ) -> Result<Option<String>, SolveError> {
        self.give(name, answer, now)?;
        *self.own.borrow_mut().entry(name.clone()).or_default() += 1;
        if !self.leads.get() {
            return Ok(None);
        }
        let told = |error: Error| format!("other processes do not answer the challenge: {error}");
        Ok(self.store.share(name, answer).err().map(told))
    }

    /// Gives others the time to see what was shared.
    pub(super) async fn spread(&self) {
        match self.store.audience() {
            Audience::Nobody => {}
            Audience::Here => tokio::time::sleep(limits::ACME_SHARED_SPREAD).await,
            Audience::Elsewhere => tokio::time::sleep(limits::ACME_SHARED_SPREAD_FAR).await,
        }
    }

    /// One order less wants this answer.
    pub(super) fn forget(&self, name: &SharedName) {
        if !last(&mut self.own.borrow_mut(), name) {
            return;
        }
        if self.leads.get() {
            self.taken.borrow_mut().remove(name);
            // Otherwise others forget it within the hour.
            let _ = self.store.unshare(name);
        }
        if !self.taken.borrow().contains_key(name) {
            self.withdraw(name);
        }
    }

    fn give(&self, name: &SharedName, answer: &SharedAnswer, now: u64) -> Result<(), SolveError> {
        match (name, answer) {
            (SharedName::Http(token), SharedAnswer::Http(text)) => self.install.answer_http(token, text),
            (SharedName::Tls(identifier), SharedAnswer::Tls(digest)) => {
                let pair = keys::challenge_pair(identifier, digest, now).map_err(SolveError::Key)?;
                self.install.answer_tls(identifier, pair);
            }
            // Names and answers of different kinds are never brought together.
            _ => {}
        }
        Ok(())
    }

    fn withdraw(&self, name: &SharedName) {
        match name {
            SharedName::Http(token) => self.install.forget_http(token),
            SharedName::Tls(identifier) => self.install.forget_tls(identifier),
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // Only what a defect of the thread left: nothing stays in service that nobody takes out. What is
        // shared stays for an hour, since the order may be taken up again.
        let own = std::mem::take(self.own.get_mut());
        let taken = std::mem::take(self.taken.get_mut());
        own.keys().chain(taken.keys()).for_each(|name| self.withdraw(name));
    }
}

/// Counts one less; whether it was the last.
fn last<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count = count.saturating_sub(1);
    let over = *count == 0;
    if over {
        counts.remove(key);
    }
    over
}

/// The name of an answer to HTTP-01, and the answer.
pub(super) fn http(token: &str, key_authorization: &str) -> (SharedName, SharedAnswer) {
    (SharedName::Http(token.to_owned()), SharedAnswer::Http(key_authorization.to_owned()))
}

/// The name of an answer to TLS-ALPN-01, and the answer.
pub(super) fn tls(identifier: &Identifier, digest: [u8; 32]) -> (SharedName, SharedAnswer) {
    (SharedName::Tls(identifier.clone()), SharedAnswer::Tls(digest))
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
