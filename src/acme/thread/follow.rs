//! Who renews: one process takes up what is on disk, the others load what it stores.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Meta;
use super::attempt::{Attempt, attempt};
use super::engine::{Busy, Engine, Ledger, Run, World};
use crate::acme::order::Failed;
use crate::acme::plan::{Failure, FailureKind, Restored, SlotState};
use crate::acme::store::{self, Document, Found, Standing};

/// How often a certificate that could not be stored is tried again.
const STORE_RETRY: Duration = Duration::from_secs(60);

/// Why an attempt failed of which nothing is on disk.
const UNPLACED: &str = "the process ended before an order was placed";

impl Engine {
    /// Looks who leads, as often as the lease asks.
    pub fn look_who_leads(self: &Rc<Self>) {
        let mut world = self.world.borrow_mut();
        if Instant::now() < world.lead_at {
            return;
        }
        let standing = world.leadership.poll();
        let wait = world.leadership.deadline().saturating_duration_since(std::time::Instant::now());
        world.lead_at = Instant::now() + wait;
        let was = world.leader;
        world.leader = matches!(standing, Ok(Standing::Leader));
        let is = world.leader;
        let taken_up = std::mem::replace(&mut world.taken_up, is);
        let follows = standing.is_ok() && !is;
        let followed = std::mem::replace(&mut world.followed, follows);
        drop(world);
        if let Err(error) = standing {
            self.note_storage(Some(error.to_string()));
        }
        self.board.lead(is, self.now());
        if follows && !was && !followed {
            self.say("another process renews certificates; this one serves what it stores");
        } else if is && followed {
            self.say("this process renews certificates from now on");
        }
        if is && !taken_up {
            self.take_up();
        } else if was && !is {
            self.step_down();
        }
        if !is {
            self.follow();
        }
    }

    /// Answers challenges of orders that another process with this state directory has under way, until the
    /// task is ended.
    pub async fn answer_for_others(self: Rc<Self>) {
        loop {
            match self.board.look(self.now()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => self.board.told_who_leads().await,
            }
        }
    }

    /// Another process leads now: what is under way here is given up.
    fn step_down(&self) {
        self.say("another process renews certificates from now on");
        let mut world = self.world.borrow_mut();
        for run in world.runs.values_mut() {
            if let Some(busy) = run.busy.take() {
                busy.task.abort();
            }
            run.step = None;
        }
    }

    /// Loads what the leader stored.
    fn follow(&self) {
        let names: Vec<String> = self.world.borrow().runs.keys().cloned().collect();
        for name in names {
            let changed = self.with(&name, |run, _| self.store().changed(&name, &run.seen)).flatten();
            if changed.is_some() {
                self.load_anew(&name, false);
            }
        }
    }

    /// Loads certificates that came while this process was starting.
    pub fn first_look(&self) {
        let late = |(name, run): (&String, &Run)| {
            (run.serving.is_none() && run.seen.generation().is_some()).then(|| name.clone())
        };
        let names: Vec<String> = self.world.borrow().runs.iter().filter_map(late).collect();
        names.iter().for_each(|name| self.load_anew(name, false));
    }

    /// Reads a slot's certificate and puts it into service if it is another one. `mend`: what is spoilt is
    /// moved away.
    pub fn load_anew(&self, name: &str, mend: bool) {
        let found = if mend { self.store().mend(name) } else { self.store().pair(name) };
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.say(&format!("error: {name}: {error}")),
        };
        if let Found::Spoilt { faults, .. } = &found {
            faults.iter().for_each(|fault| self.say(&format!("error: {name}: {fault}")));
        }
        let seen = self.store().seen(name);
        let Some(kept) = found.kept() else {
            self.with(name, |run, _| run.seen = seen);
            return;
        };
        let now = self.now();
        let ends = !self.model().acme.serve_expired && self.ending_at() >= kept.pair.not_after();
        let slot = self.with(name, |run, _| {
            if run.unstored.is_some() {
                let served = run.serving.as_ref().map_or(0, |serving| serving.pair.not_after());
                if kept.pair.not_after() <= served {
                    // What is only in memory is newer.
                    run.seen = kept.seen;
                    return None;
                }
                run.unstored = None;
            }
            let known = run.serving.as_ref().is_some_and(|serving| {
                serving.generation == Some(kept.generation)
                    && serving.pair.serial_hex() == kept.pair.serial_hex()
            });
            run.take(&kept, now);
            run.withdrawn |= !known && ends;
            (!known).then(|| Arc::clone(&run.slot))
        });
        let Some(slot) = slot.flatten().filter(|_| !ends) else { return };
        self.with(name, |run, _| run.withdrawn = false);
        if let Err(why) = self.outside.install.install(&slot, Arc::clone(&kept.pair)) {
            self.say(&format!("error: {name}: the stored certificate cannot be served: {why}"));
        }
    }

    /// This process leads from now on: everything is read again, since another one may have led before.
    fn take_up(self: &Rc<Self>) {
        let local = self.outside.clock.unix();
        let ledger: Ledger = self.document(Document::Budget);
        {
            let mut world = self.world.borrow_mut();
            world.budgets = ledger.budgets;
            world.clock = ledger.clock;
            world.clock.restored(local);
            let now = world.clock.now(local);
            world.budgets.restored(now);
            world.demand.guard = ledger.demand;
            world.demand.guard.restored(now);
        }
        for notice in self.store().notices() {
            self.say(&format!("warning: {notice}"));
        }
        let names: Vec<String> = self.world.borrow().runs.keys().cloned().collect();
        for name in names {
            self.take_up_slot(&name);
        }
        self.resume_demands(ledger.demanded);
    }

    /// Reads what is remembered of a slot, and takes up an order that was interrupted.
    pub fn take_up_slot(self: &Rc<Self>, name: &str) {
        self.load_anew(name, true);
        if self.with(name, |run, _| run.unstored.is_some()) == Some(true) {
            // Memory knows more than the disk.
            return;
        }
        let state: SlotState = self.document(Document::Plan(name));
        let before = state.clone();
        let now = self.now();
        let kept = self.store().pair(name).ok().and_then(Found::kept);
        let restored = self.with(name, |run, budgets| {
            run.state = state;
            match &kept {
                Some(kept) => {
                    let found = Meta::of(kept, &run.slot).certificate(&kept.pair);
                    // An order that is under way may be the one that this certificate came from: what is
                    // known of the one before is kept until that is clear.
                    run.state.certificate_found(found, now, Self::draw());
                }
                None => run.state.certificate_missing(),
            }
            let slot = Arc::clone(&run.slot);
            run.state.config_changed(&slot);
            run.wake = 0;
            run.state.restored(budgets, &slot, now, Self::draw())
        });
        if let Some(kept) = &kept {
            self.export(name, &kept.pem);
        }
        if restored == Some(Restored::Resume) {
            self.resume(name);
        }
        // Ten thousand slots, of which nothing is to be remembered anew, must not take a minute of the disk's time.
        if self.with(name, |run, _| run.state != before) == Some(true) {
            let _ = self.save(name);
        }
    }

    /// Goes on with an interrupted order; one for which nothing is left counts as failed.
    fn resume(self: &Rc<Self>, name: &str) {
        let is_there = matches!(self.store().order(name), Ok(Some(_)));
        let found = self.with(name, |run, _| {
            let directory = run.state.attempt.as_ref()?.directory.clone();
            let mut authorities = run.slot.policy.authorities.iter();
            let authority = authorities.find(|authority| authority.directory == directory)?;
            let slot = Arc::clone(&run.slot);
            // As the order on disk says; a new one goes without.
            Some(Attempt { name: name.to_owned(), slot, authority: authority.clone(), replaces: None })
        });
        match found.flatten() {
            Some(attempt) if is_there => self.begin(attempt),
            Some(attempt) => self.failed(&attempt, Failed::new(FailureKind::Interrupted, UNPLACED)),
            // Its authority is no longer configured, so nothing is to be told of it.
            None => {
                let now = self.now();
                self.with(name, |run, budgets| {
                    let slot = Arc::clone(&run.slot);
                    let failure = Failure::new(FailureKind::Interrupted, UNPLACED);
                    run.state.failed(budgets, &slot, failure, now, Self::draw());
                });
            }
        }
    }

    /// Starts the task of an attempt.
    pub fn begin(self: &Rc<Self>, what: Attempt) {
        let (name, directory) = (what.name.clone(), what.authority.directory.clone());
        let task = self.spawn(attempt(Rc::clone(self), what));
        self.with(&name, |run, _| run.busy = Some(Busy { directory, is_order: true, task }));
    }

    /// Tries again to store certificates that are in memory only.
    pub fn retry_store(&self) {
        let unstored: Vec<String> = {
            let mut world = self.world.borrow_mut();
            if Instant::now() < world.retry_store_at {
                return;
            }
            world.retry_store_at = Instant::now() + STORE_RETRY;
            let World { runs, .. } = &*world;
            runs.iter().filter(|(_, run)| run.unstored.is_some()).map(|(name, _)| name.clone()).collect()
        };
        for name in unstored {
            let Some((pem, meta)) = self.with(&name, |run, _| run.unstored.clone()).flatten() else {
                continue;
            };
            let Ok(seen) = self.keep(&name, &pem, &meta) else { continue };
            self.with(&name, |run, _| stored(run, seen));
            let _ = self.store().drop_order(&name);
            let _ = self.save(&name);
            self.export(&name, &pem);
            self.say(&format!("{name}: the certificate is stored now"));
        }
    }

    /// A document; one that cannot be read is set aside and begins anew.
    fn document<T: serde::de::DeserializeOwned + Default>(&self, document: Document<'_>) -> T {
        match self.store().read_json(document) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                self.say(&format!("error: {error}; it begins anew"));
                if matches!(error, store::Error::Damaged { .. }) {
                    let _ = self.store().set_aside(document);
                }
                T::default()
            }
        }
    }
}

fn stored(run: &mut Run, seen: store::Seen) {
    run.unstored = None;
    run.seen = seen;
    run.wake = 0;
    if let Some(serving) = &mut run.serving {
        serving.generation = seen.generation();
    }
}
