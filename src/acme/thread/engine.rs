//! What the thread knows, and the small things that everything in it needs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::demand::{Demanding, on_demand};
use super::{Loaded, Meta, Outside, Wanted};
use crate::acme::ca::Session;
use crate::acme::hooks::{Event, Facts, Hooks};
use crate::acme::http_client::Transport;
use crate::acme::order::Step;
use crate::acme::plan::{self, Budgets, ClockEvent, Draw, SlotState};
use crate::acme::slot::Slot;
use crate::acme::solver::Board;
use crate::acme::status::Status;
use crate::acme::store::{AcmeStore, Document, Kept, Leadership, Pair, Seen};
use crate::config::model::Model;
use crate::handoff::published::Published;
use crate::limits;
use crate::tls::certs::CertifiedPair;

/// The thread between two restarts. Nothing in it is borrowed across a wait.
pub(super) struct Engine {
    pub outside: Outside,
    pub world: RefCell<World>,
    pub tasks: RefCell<JoinSet<()>>,
    /// Something ended: look what is due.
    pub wake: Notify,
    pub board: Rc<Board>,
    pub hooks: Rc<Hooks>,
    pub status: Published<Status>,
    pub restarts: u64,
}

/// What changes.
pub(super) struct World {
    pub model: Arc<Model>,
    pub transport: Option<Arc<dyn Transport>>,
    pub runs: BTreeMap<String, Run>,
    pub budgets: Budgets,
    pub clock: plan::Clock,
    pub sessions: BTreeMap<String, (Session, Instant)>,
    /// One at a time opens or registers an account.
    pub account_turns: BTreeMap<String, Arc<Semaphore>>,
    pub leadership: Leadership,
    pub lead_at: Instant,
    pub leader: bool,
    /// Whether what is on disk was taken up since this process leads.
    pub taken_up: bool,
    /// Whether another process led when it was last looked at.
    pub followed: bool,
    pub storage_error: Option<String>,
    pub retry_store_at: Instant,
    pub written: Option<(Status, Instant)>,
    /// The plan's time in the last round.
    pub planned_at: u64,
    pub demand: Demanding,
}

/// What is kept of the whole, beside the slots.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ledger {
    pub budgets: Budgets,
    pub clock: plan::Clock,
    /// Names on demand that were admitted lately, and those being ordered.
    pub demand: plan::Demand,
    pub demanded: Vec<String>,
}

/// One slot.
pub(super) struct Run {
    pub slot: Arc<Slot>,
    pub state: SlotState,
    pub serving: Option<Serving>,
    /// Which certificate on disk was looked at last.
    pub seen: Seen,
    pub busy: Option<Busy>,
    pub step: Option<Step>,
    /// When to look at it next, by the plan's clock.
    pub wake: u64,
    /// A certificate in service that is not on disk.
    pub unstored: Option<(Pair, Meta)>,
    /// Why no authority may be asked.
    pub unorderable: Option<String>,
    pub expired_told: bool,
    /// Whether what is in service by right is not served, since it has expired.
    pub withdrawn: bool,
    /// When an attempt was last abandoned because the clock moved, in seconds since the machine's start.
    pub abandoned_at: Option<u64>,
    /// Until then the application need not be asked again about a name on demand.
    pub permitted_until: u64,
    /// Until then a certificate on demand that is due is neither asked about nor ordered.
    pub unwanted_until: u64,
    pub succeeded: u64,
    pub failed: BTreeMap<String, u64>,
}

/// A certificate in service.
#[derive(Clone)]
pub(super) struct Serving {
    pub pair: Arc<CertifiedPair>,
    pub generation: Option<u64>,
}

/// What is under way for a slot.
pub(super) struct Busy {
    pub directory: String,
    pub is_order: bool,
    pub task: AbortHandle,
}

impl Run {
    pub fn new(slot: Slot, store: &AcmeStore) -> Self {
        let seen = store.seen(&slot.name.to_string());
        Self {
            slot: Arc::new(slot),
            state: SlotState::default(),
            serving: None,
            seen,
            busy: None,
            step: None,
            wake: 0,
            unstored: None,
            unorderable: None,
            expired_told: false,
            withdrawn: false,
            abandoned_at: None,
            permitted_until: 0,
            unwanted_until: 0,
            succeeded: 0,
            failed: BTreeMap::new(),
        }
    }

    /// Takes what is on disk as what is in service.
    pub fn take(&mut self, kept: &Kept, now: u64) {
        let found = Meta::of(kept, &self.slot).certificate(&kept.pair);
        self.state.certificate_found(found, now, Engine::draw());
        self.seen = kept.seen;
        self.serving = Some(Serving { pair: Arc::clone(&kept.pair), generation: Some(kept.generation) });
    }
}

impl Engine {
    pub fn new(outside: Outside, wanted: &Wanted, status: Published<Status>, restarts: u64) -> Rc<Self> {
        let model = Arc::clone(&wanted.model);
        let mut runs: BTreeMap<String, Run> = BTreeMap::new();
        for (index, slot) in wanted.slots.iter().enumerate() {
            let mut run = Run::new(slot.clone(), &outside.store);
            // After a restart of the thread: one on demand may have ended.
            if slot.is_on_demand() && run.seen.generation().is_none() {
                continue;
            }
            if let Some(Loaded { kept, .. }) = wanted.loaded.iter().find(|loaded| loaded.slot == index) {
                run.take(kept, outside.clock.unix());
            }
            runs.insert(slot.name.to_string(), run);
        }
        for slot in on_demand(&outside.store, &model, &wanted.slots) {
            let run = Run::new(slot, &outside.store);
            runs.insert(run.slot.name.to_string(), run);
        }
        let world = World {
            transport: None,
            runs,
            budgets: Budgets::default(),
            clock: plan::Clock::default(),
            sessions: BTreeMap::new(),
            account_turns: BTreeMap::new(),
            leadership: Leadership::new(&outside.store, std::time::Instant::now()),
            lead_at: Instant::now(),
            leader: false,
            taken_up: false,
            followed: false,
            storage_error: None,
            retry_store_at: Instant::now(),
            written: None,
            planned_at: 0,
            demand: Demanding::default(),
            model: Arc::clone(&model),
        };
        let board = Board::new(Arc::clone(&outside.install), outside.store.clone());
        let hooks = Hooks::new(model.acme.hook.clone());
        let engine = Self {
            outside,
            world: RefCell::new(world),
            tasks: RefCell::default(),
            wake: Notify::new(),
            board,
            hooks,
            status,
            restarts,
        };
        engine.carry_counts_over();
        Rc::new(engine)
    }

    /// Counts go on over a restart of the thread.
    fn carry_counts_over(&self) {
        let before = self.status.load();
        let mut world = self.world.borrow_mut();
        for slot in &before.slots {
            if let Some(run) = world.runs.get_mut(&slot.name) {
                run.succeeded = slot.succeeded;
                run.failed.clone_from(&slot.failed);
            }
        }
    }

    pub fn store(&self) -> &AcmeStore {
        &self.outside.store
    }

    pub fn say(&self, line: &str) {
        (self.outside.say)(line);
    }

    /// Seconds since the epoch that the plan goes by.
    pub fn now(&self) -> u64 {
        self.world.borrow().clock.now(self.outside.clock.unix())
    }

    /// Seconds since the epoch by which a certificate ends: the earlier of the machine's time and the plan's, so
    /// that an authority whose clock is ahead ends nothing that others issued.
    pub fn ending_at(&self) -> u64 {
        self.now().min(self.outside.clock.unix())
    }

    /// Fresh random bits.
    pub fn draw() -> Draw {
        Draw(RandomState::new().build_hasher().finish())
    }

    pub fn model(&self) -> Arc<Model> {
        Arc::clone(&self.world.borrow().model)
    }

    /// Something with one slot, if it is still wanted.
    pub fn with<T>(&self, name: &str, act: impl FnOnce(&mut Run, &mut Budgets) -> T) -> Option<T> {
        let mut world = self.world.borrow_mut();
        let World { runs, budgets, .. } = &mut *world;
        runs.get_mut(name).map(|run| act(run, budgets))
    }

    /// Writes down what is remembered of a slot, and of the whole. What cannot be written is still counted
    /// in memory.
    pub fn save(&self, name: &str) -> Result<(), String> {
        let world = self.world.borrow();
        let ledger = Ledger {
            budgets: world.budgets.clone(),
            clock: world.clock.clone(),
            demand: world.demand.guard.lasting(),
            demanded: world.demand.ordering.iter().cloned().collect(),
        };
        let plan = world.runs.get(name).map(|run| run.state.clone());
        drop(world);
        let written = self.store().replace_json(Document::Budget, &ledger).and_then(|()| match &plan {
            Some(plan) => self.store().replace_json(Document::Plan(name), plan),
            None => Ok(()),
        });
        let result = written.map_err(|error| error.to_string());
        self.note_storage(result.as_ref().err().cloned());
        result
    }

    /// Says once when the state directory cannot be written, and once when it can be again.
    pub fn note_storage(&self, error: Option<String>) {
        let mut world = self.world.borrow_mut();
        if error.is_none() && world.runs.values().any(|run| run.unstored.is_some()) {
            // What could be written was not what matters.
            return;
        }
        let was = world.storage_error.is_some();
        match &error {
            Some(text) if !was => self.say(&format!("error: certificates cannot be stored: {text}")),
            None if was => self.say("certificates can be stored again"),
            _ => {}
        }
        world.storage_error = error;
    }

    /// The authority's time, from one of its answers. `true`: the plan's clock moved, so what was decided
    /// has to be decided anew.
    pub fn observe(&self, date: Option<u64>) -> bool {
        let Some(date) = date else { return false };
        let local = self.outside.clock.unix();
        let mut world = self.world.borrow_mut();
        let before = world.clock.now(local);
        let event = world.clock.observe(date, local);
        let moved = before.abs_diff(world.clock.now(local)) > limits::ACME_CLOCK_SKEW.as_secs();
        drop(world);
        self.clock_event(event);
        moved
    }

    pub fn clock_event(&self, event: Option<ClockEvent>) {
        match event {
            Some(ClockEvent::Suspect(offset)) => {
                self.say(&format!(
                    "warning: the clock of this machine differs from the authority's by {offset} s: check the clock"
                ));
                let facts = Facts::new(Event::ClockSuspect).with("LOCKRING_SKEW", offset.to_string());
                self.hooks.tell(facts);
            }
            Some(ClockEvent::Overruled(offset)) => self.say(&format!(
                "error: by the clock of this machine a new certificate is not valid: renewal goes by the authority's time from now on ({offset} s away); check the clock"
            )),
            Some(ClockEvent::Agrees) => self.say("the clock of this machine agrees with the authority's again"),
            Some(ClockEvent::Stepped(step)) => self.say(&format!("the clock of this machine jumped by {step} s")),
            None => {}
        }
    }

    /// Spawns a task of the thread; its defects are those of the thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        self.tasks.borrow_mut().spawn_local(task)
    }

    /// Nothing is under way for the slot any more: it, and those that waited for its turn, are looked at.
    pub fn ended(&self, name: &str) {
        let now = self.now();
        let mut world = self.world.borrow_mut();
        for (other, run) in &mut world.runs {
            if other == name {
                run.busy = None;
                run.step = None;
                run.wake = 0;
            } else if run.state.due_at() <= now {
                run.wake = 0;
            }
        }
        drop(world);
        self.wake.notify_one();
    }

    /// A step was passed; tests end here.
    pub async fn passed(&self, name: &str, step: Step) {
        self.with(name, |run, _| run.step = Some(step));
        let held = self.outside.gate.as_ref().is_some_and(|gate| gate(name, step));
        if held {
            std::future::pending::<()>().await;
        }
    }
}
