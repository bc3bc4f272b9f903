//! Certificates for names that no site lists: clients' wishes are admitted or refused, the application is
//! asked, and a slot of its own is made for a name, ordered and renewed as any other while it is in use.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::engine::{Busy, Engine, Run, Serving, World};
use super::{Meta, Outside};
use crate::acme::ask::{self, AskError};
use crate::acme::http_client::{Https, Proxies, Transport};
use crate::acme::plan::{self, Admission, DemandRefusal};
use crate::acme::slot::Slot;
use crate::acme::store::AcmeStore;
use crate::config::model::{Model, OnDemand};
use crate::handoff::wishes::Wish;
use crate::limits;

/// Between two lines of the log about the same trouble, in seconds.
const TELL_AGAIN: u64 = 3600;

/// What is under way for names on demand.
#[derive(Default)]
pub(super) struct Demanding {
    pub guard: plan::Demand,
    /// Clients that wait, by name.
    wishes: BTreeMap<String, Vec<Wish>>,
    /// Names whose first certificate is ordered.
    pub ordering: BTreeSet<String>,
    transport: Option<Arc<dyn Transport>>,
    /// When a full limit and a silent application were last told of.
    limit_told: Option<u64>,
    silence_told: Option<u64>,
}

/// Slots of names on demand whose certificates are on disk, without those in `slots`. Names that nobody
/// would serve any more are left out.
#[must_use]
pub fn on_demand(store: &AcmeStore, model: &Model, slots: &[Slot]) -> Vec<Slot> {
    if model.acme.on_demand.is_none() {
        return Vec::new();
    }
    let listed: HashSet<String> = slots.iter().map(|slot| slot.name.to_string()).collect();
    let names = store.list().unwrap_or_default();
    let fresh = names.into_iter().filter(|name| !listed.contains(name));
    fresh.filter_map(|name| Some(stored(store, model, &name)?.0)).collect()
}

/// The slot of a name whose certificate on disk was obtained on demand, and the end of that. What a site
/// left that is listed no more was never asked about.
fn stored(store: &AcmeStore, model: &Model, name: &str) -> Option<(Slot, u64)> {
    let slot = Slot::on_demand(model, name)?;
    plan::check_name(name, &slot.policy.authorities).ok()?;
    let kept = store.pair(name).ok()?.kept()?;
    Meta::of(&kept, &slot).on_demand.then(|| (slot, kept.pair.not_after()))
}

impl Engine {
    /// A client wishes a certificate.
    pub fn wished(self: &Rc<Self>, wish: Wish) {
        let name = wish.name().to_owned();
        self.let_go();
        let is_known = self.with(&name, |run, _| run.serving.is_some());
        if is_known == Some(true) || self.take_from_disk(&name) {
            // By now it is published, which the worker sees when the wish is dropped.
            return;
        }
        let client = wish.client();
        match self.admit(&name) {
            Ok(admission) => {
                self.world.borrow_mut().demand.wishes.entry(name.clone()).or_default().push(wish);
                match admission {
                    Admission::Join => {}
                    Admission::Order => self.order_on_demand(&name),
                    Admission::Ask => drop(self.spawn(first_question(Rc::clone(self), name, client))),
                }
            }
            Err(refusal) => self.tell_refusal(refusal),
        }
    }

    fn admit(&self, name: &str) -> Result<Admission, DemandRefusal> {
        let model = self.model();
        let policy = model.acme.on_demand.as_ref().ok_or(DemandRefusal::NotAllowed)?;
        let slot = Slot::on_demand(&model, name).ok_or(DemandRefusal::NotAllowed)?;
        let now = self.now();
        let mut world = self.world.borrow_mut();
        if !world.leader {
            return Err(DemandRefusal::NotAllowed);
        }
        let held = held(&world);
        world.demand.guard.admit(name, policy, &slot.policy.authorities, held, now)
    }

    /// Handshakes that wait no longer make room for others.
    fn let_go(&self) {
        let mut world = self.world.borrow_mut();
        let Demanding { guard, wishes, .. } = &mut world.demand;
        for (name, waiting) in wishes.iter_mut() {
            waiting.retain(|wish| {
                if wish.has_left() {
                    guard.left(name);
                }
                !wish.has_left()
            });
        }
    }

    /// Takes up a certificate that another process stored; whether there is one.
    fn take_from_disk(&self, name: &str) -> bool {
        let is_known = self.world.borrow().runs.contains_key(name);
        if is_known || self.store().seen(name).generation().is_none() {
            return false;
        }
        let now = self.now();
        // One that has ended is not put into service at all: nobody would take it out.
        let found = stored(self.store(), &self.model(), name).filter(|(_, end)| now < *end);
        let Some((slot, _)) = found else { return false };
        self.world.borrow_mut().runs.insert(name.to_owned(), Run::new(slot, self.store()));
        self.load_anew(name, false);
        let is_good = |run: &mut Run| run.serving.as_ref().is_some_and(|found| now < found.pair.not_after());
        let served = self.with(name, |run, _| is_good(run)) == Some(true);
        if !served {
            self.world.borrow_mut().runs.remove(name);
        }
        served
    }

    /// Goes on with names that were ordered when the process ended. Nobody waits for them any more, but the
    /// orders may be placed, and clients come back.
    pub fn resume_demands(self: &Rc<Self>, names: Vec<String>) {
        let model = self.model();
        for name in names.into_iter().take(limits::ACME_DEMAND_WAITING) {
            let slot = Slot::on_demand(&model, &name);
            let is_good = |slot: &Slot| plan::check_name(&name, &slot.policy.authorities).is_ok();
            if slot.as_ref().is_some_and(is_good) && !self.world.borrow().runs.contains_key(&name) {
                self.order_on_demand(&name);
            }
        }
    }

    /// A slot for the name; the next round orders its certificate. One that is there, as of a site that was
    /// listed meanwhile or of an order that was taken up, is waited for.
    pub fn order_on_demand(self: &Rc<Self>, name: &str) {
        self.world.borrow_mut().demand.ordering.insert(name.to_owned());
        let is_known = self.with(name, |run, _| run.wake = 0).is_some();
        if !is_known && let Some(slot) = Slot::on_demand(&self.model(), name) {
            self.world.borrow_mut().runs.insert(name.to_owned(), Run::new(slot, self.store()));
            self.take_up_slot(name);
        }
        self.wake.notify_one();
    }

    /// Ends what came to an end: clients are told, and nothing stays of names that got no certificate.
    pub fn settle_demands(&self) {
        let now = self.now();
        let mut failed = Vec::new();
        {
            let mut world = self.world.borrow_mut();
            let World { runs, demand, leader, .. } = &mut *world;
            if !*leader {
                // Another process goes on; who waits here is refused.
                demand.wishes.clear();
                demand.guard = demand.guard.lasting();
            }
            let names: Vec<String> = demand.ordering.iter().cloned().collect();
            for name in names {
                let issued = match runs.get(&name) {
                    Some(run) if run.serving.is_some() => true,
                    // Waits for its turn, or is under way.
                    Some(run) if *leader && (run.busy.is_some() || run.wake <= now) => continue,
                    _ => false,
                };
                demand.guard.finished(&name, issued, now);
                demand.ordering.remove(&name);
                demand.wishes.remove(&name);
                // A site that was listed meanwhile keeps its slot, and what is remembered of it.
                if !issued && runs.get(&name).is_none_or(|run| run.slot.is_on_demand()) {
                    runs.remove(&name);
                    failed.extend(leader.then_some(name));
                }
            }
        }
        for name in failed {
            self.forget(&name);
        }
    }

    /// Certificates on demand that nobody renewed end without a word.
    pub fn lapse(&self) {
        let now = self.ending_at();
        let is_over = |run: &&Run| {
            let end = run.serving.as_ref().map(|serving: &Serving| serving.pair.not_after());
            run.slot.is_on_demand() && run.busy.is_none() && end.is_some_and(|end| end <= now)
        };
        let over: Vec<Arc<Slot>> =
            self.world.borrow().runs.values().filter(is_over).map(|run| Arc::clone(&run.slot)).collect();
        for slot in over {
            let name = slot.name.to_string();
            self.outside.install.withdraw(&slot);
            self.world.borrow_mut().runs.remove(&name);
            if self.world.borrow().leader {
                self.forget(&name);
            }
        }
    }

    fn forget(&self, name: &str) {
        if let Err(error) = self.store().forget(name) {
            self.note_storage(Some(error.to_string()));
        }
    }

    /// Whether a certificate that is due may be ordered now. On demand that is so while clients ask for the
    /// name and the application allows it; else this finds it out, or looks again later.
    pub fn may_renew(self: &Rc<Self>, name: &str, reason: plan::Reason, now: u64) -> bool {
        let model = self.model();
        let found = self.with(name, |run, _| {
            let end = run.serving.as_ref().map(|serving| serving.pair.not_after());
            (Arc::clone(&run.slot), end, run.permitted_until, run.unwanted_until)
        });
        let Some((slot, Some(end), permitted_until, unwanted_until)) = found else { return true };
        if !slot.is_on_demand() || reason == plan::Reason::Forced || now < permitted_until {
            return true;
        }
        let Some(policy) = &model.acme.on_demand else { return false };
        // The end of anything else lets all that is due be looked at; a moment too far away is of another time.
        let is_soon = |until: &u64| now < *until && *until <= look_again(now, u64::MAX);
        if let Some(until) = Some(unwanted_until).filter(is_soon) {
            self.with(name, |run, _| run.wake = until);
            return false;
        }
        let is_listed = plan::is_listed(policy, name);
        if !self.outside.install.is_in_use(&slot) || (policy.ask.is_none() && !is_listed) {
            self.with(name, |run, _| put_off(run, now, end));
            return false;
        }
        if is_listed {
            return true;
        }
        let directory = slot.policy.authorities.first().map_or_else(String::new, |a| a.directory.clone());
        let task = self.spawn(question_again(Rc::clone(self), name.to_owned(), end));
        self.with(name, |run, _| run.busy = Some(Busy { directory, is_order: false, task }));
        false
    }

    /// Says once in a while that names are refused for want of room.
    fn tell_refusal(&self, refusal: DemandRefusal) {
        let now = self.now();
        let mut world = self.world.borrow_mut();
        let told = &mut world.demand.limit_told;
        let is_limit = matches!(refusal, DemandRefusal::HourlyLimit | DemandRefusal::TotalLimit);
        if is_limit && told.is_none_or(|at| now.saturating_sub(at) >= TELL_AGAIN) {
            *told = Some(now);
            self.say(&format!("warning: certificates on demand: new names are refused: {refusal}"));
        }
    }

    async fn ask(&self, name: &str, client: Option<std::net::IpAddr>) -> Result<bool, AskError> {
        let model = self.model();
        let policy = model.acme.on_demand.as_ref();
        let Some((policy, url)) = policy.and_then(|policy| Some((policy, policy.ask.as_ref()?))) else {
            return Ok(false);
        };
        let transport = self.application().map_err(AskError::Transport)?;
        let answer = ask::ask(&transport, url, name, client, policy.ask_timeout).await;
        if let Err(error) = &answer {
            let now = self.now();
            let mut world = self.world.borrow_mut();
            let told = &mut world.demand.silence_told;
            if told.is_none_or(|at| now.saturating_sub(at) >= TELL_AGAIN) {
                *told = Some(now);
                self.say(&format!(
                    "error: certificates on demand: the application asked gives no answer: {error}; new names are refused"
                ));
            }
        }
        answer
    }

    /// The way to the application; no proxy leads there.
    fn application(&self) -> Result<Arc<dyn Transport>, String> {
        let Outside { application, .. } = &self.outside;
        if let Some(given) = application {
            return Ok(Arc::clone(given));
        }
        let mut world = self.world.borrow_mut();
        if let Some(made) = &world.demand.transport {
            return Ok(Arc::clone(made));
        }
        let acme = &world.model.acme;
        let made = Https::new(acme.ca_file.as_deref(), Proxies::default(), acme.connect_timeout);
        let made: Arc<dyn Transport> = Arc::new(made.map_err(|error| error.to_string())?.or_plain());
        world.demand.transport = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The configuration changed: slots on demand that are still wanted, those on disk included.
    pub fn demanded_after(&self, model: &Model, slots: &[Slot]) -> Vec<Slot> {
        let mut wanted = on_demand(self.store(), model, slots);
        let listed: HashSet<String> = slots.iter().chain(&wanted).map(|slot| slot.name.to_string()).collect();
        let mut world = self.world.borrow_mut();
        let fresh =
            world.runs.iter().filter(|(name, run)| run.slot.is_on_demand() && !listed.contains(*name));
        wanted.extend(fresh.filter_map(|(name, _)| Slot::on_demand(model, name)));
        world.demand.transport = None;
        wanted
    }
}

/// Names on demand that have a certificate.
fn held(world: &World) -> usize {
    world.runs.values().filter(|run| run.slot.is_on_demand() && run.serving.is_some()).count()
}

/// When to look again at a certificate that ends at `end` and is not to be renewed now.
fn look_again(now: u64, end: u64) -> u64 {
    let tenth = end.saturating_sub(now) / 10;
    now.saturating_add(tenth.clamp(1, limits::ACME_DEMAND_LOOK.as_secs()))
}

/// A certificate that ends at `end` is due, and not to be renewed now.
fn put_off(run: &mut Run, now: u64, end: u64) {
    run.unwanted_until = look_again(now, end);
    run.wake = run.unwanted_until;
}

/// Asks the application about a name for the first time.
async fn first_question(engine: Rc<Engine>, name: String, client: std::net::IpAddr) {
    let allowed = engine.ask(&name, Some(client)).await.unwrap_or(false);
    let (model, now) = (engine.model(), engine.now());
    let verdict = {
        let mut world = engine.world.borrow_mut();
        let held = held(&world);
        let refuse = OnDemand::nobody();
        let policy = model.acme.on_demand.as_ref().unwrap_or(&refuse);
        let verdict = world.demand.guard.answered(&name, allowed, policy, held, now);
        if verdict.is_err() {
            world.demand.wishes.remove(&name);
        }
        verdict
    };
    match verdict {
        Ok(()) => engine.order_on_demand(&name),
        Err(refusal) => engine.tell_refusal(refusal),
    }
}

/// Asks about a name whose certificate is due. An application that says no ends it; one that says nothing
/// must not take sites down that it allowed before.
async fn question_again(engine: Rc<Engine>, name: String, end: u64) {
    let answer = engine.ask(&name, None).await;
    let now = engine.now();
    engine.ended(&name);
    engine.with(&name, |run, _| match answer {
        Ok(false) => put_off(run, now, end),
        _ => run.permitted_until = now.saturating_add(limits::ACME_DEMAND_LOOK.as_secs()),
    });
    if answer == Ok(false) {
        engine.say(&format!("{name}: the application no longer allows a certificate, so it is not renewed"));
    }
}
