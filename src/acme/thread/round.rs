//! The loop of the thread: each round does what is due, then waits for the next moment, the end of
//! something, or a command.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Busy, Engine, Run, World};
use super::{Desks, Wanted, renewal};
use crate::acme::commands::{Command, CommandError};
use crate::acme::hooks::{Event, Facts};
use crate::acme::order::Failed;
use crate::acme::plan::{FailureKind, Next, Order};
use crate::acme::slot::Slot;
use crate::acme::solver;
use crate::config::model::Model;
use crate::handoff::desk::Answer;
use crate::handoff::wishes::{Wish, Wishes};
use crate::limits;

/// Longest wait between two looks at the clocks: the local one may step, and machines sleep.
const ROUND: Duration = Duration::from_secs(60);
/// Orders and questions under way at one authority.
const AT_ONCE: usize = limits::ACME_ORDERS_OPEN;

/// Wishes that find no room in one round before the others wait for the next: each costs a look at the
/// budgets, and with thousands of slots at one authority there is always one more.
const REFUSED_A_ROUND: usize = 1024;

/// Places at authorities that are still free.
struct Room(BTreeMap<String, usize>);

impl Room {
    fn of(world: &World) -> Self {
        let mut taken = BTreeMap::new();
        for busy in world.runs.values().filter_map(|run| run.busy.as_ref()) {
            *taken.entry(busy.directory.clone()).or_default() += 1;
        }
        Self(taken)
    }

    /// Takes a place, if there is one.
    fn take(&mut self, directory: &str) -> bool {
        let taken = self.0.entry(directory.to_owned()).or_default();
        let free = *taken < AT_ONCE;
        *taken += usize::from(free);
        free
    }
}

/// What ended the wait.
enum Woken {
    Command(Option<Command>),
    Wish(Wish),
    Other,
}

impl Engine {
    /// Runs until it is told to stop, or nobody can tell it anything any more.
    pub async fn run(self: Rc<Self>, wanted: &mut Wanted, desks: &mut Desks) {
        let hooks = Rc::clone(&self.hooks);
        let say = Arc::clone(&self.outside.say);
        self.spawn(async move { hooks.serve(|line| say(&format!("warning: hook: {line}"))).await });
        self.first_look();
        self.spawn(Rc::clone(&self).answer_for_others());
        loop {
            let wait = self.round();
            let woken = tokio::select! {
                command = desks.commands.next() => Woken::Command(command),
                wish = next_wish(&mut desks.wishes) => Woken::Wish(wish),
                () = self.wake.notified() => Woken::Other,
                () = self.task_ended() => Woken::Other,
                () = tokio::time::sleep(wait) => Woken::Other,
            };
            let stop = match woken {
                Woken::Command(Some(Command::Stop { answer })) => Some(Some(answer)),
                Woken::Command(None) => Some(None),
                Woken::Command(Some(command)) => {
                    self.obey(command, wanted);
                    None
                }
                Woken::Wish(wish) => {
                    self.wished(wish);
                    None
                }
                Woken::Other => None,
            };
            if let Some(answer) = stop {
                self.stop(answer).await;
                return;
            }
        }
    }

    /// Does what is due. Gives the time until the next round at the latest.
    pub fn round(self: &Rc<Self>) -> Duration {
        let (local, boot) = (self.outside.clock.unix(), self.outside.clock.boot());
        let stepped = self.world.borrow_mut().clock.tick(local, boot);
        self.clock_event(stepped);
        self.look_who_leads();
        self.look_at_plan(stepped.is_some());
        let leader = self.world.borrow().leader;
        // A leader that was late may no longer write.
        if leader && self.world.borrow().leadership.leads() {
            self.retry_store();
            self.start_due();
        }
        self.settle_demands();
        self.lapse();
        self.look_at_ends();
        self.clean_up();
        self.publish();
        self.pause()
    }

    /// Looks at every slot anew when the plan's clock went back: moments in it would come too late.
    fn look_at_plan(&self, stepped: bool) {
        let now = self.now();
        let mut world = self.world.borrow_mut();
        let before = std::mem::replace(&mut world.planned_at, now);
        if stepped || now < before {
            world.runs.values_mut().for_each(|run| run.wake = 0);
        }
    }

    /// Starts what the plan wants, the earliest end first.
    fn start_due(self: &Rc<Self>) {
        let now = self.now();
        let mut room = Room::of(&self.world.borrow());
        let mut refused = 0;
        for name in self.due_by_end(now) {
            // Those that find no room are looked at again when something ends.
            match self.next(&name, now) {
                Some(Next::Order(order)) if room.take(&order.directory) => {
                    if self.may_renew(&name, order.reason, now) {
                        self.start_order(&name, &order, now);
                    }
                }
                Some(Next::PollRenewalInfo { directory, ari_id }) if room.take(&directory) => {
                    let task =
                        self.spawn(renewal::poll(Rc::clone(self), name.clone(), directory.clone(), ari_id));
                    self.with(&name, |run, _| run.busy = Some(Busy { directory, is_order: false, task }));
                }
                Some(Next::Order(_) | Next::PollRenewalInfo { .. }) => refused += 1,
                Some(Next::Unorderable(why)) => self.note_unorderable(&name, &why.to_string(), now),
                Some(Next::Wait(_)) | None => {}
            }
            if refused == REFUSED_A_ROUND {
                return;
            }
        }
    }

    /// Slots to look at: those without a certificate, then by the end of what they have.
    fn due_by_end(&self, now: u64) -> Vec<String> {
        let world = self.world.borrow();
        let waits = |run: &Run| run.busy.is_some() || run.unstored.is_some() || run.wake > now;
        let mut due: Vec<(Option<u64>, &String)> = world
            .runs
            .iter()
            .filter(|(_, run)| !waits(run))
            .map(|(name, run)| {
                (run.state.certificate.as_ref().map(|certificate| certificate.not_after), name)
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// What the plan wants for a slot; when to look again is noted.
    fn next(&self, name: &str, now: u64) -> Option<Next> {
        self.with(name, |run, budgets| {
            let slot = Arc::clone(&run.slot);
            let next = run.state.next(&slot, budgets, now);
            if let Next::Wait(until) = next {
                run.wake = until;
            }
            if !matches!(next, Next::Unorderable(_)) {
                run.unorderable = None;
            }
            next
        })
    }

    fn note_unorderable(&self, name: &str, why: &str, now: u64) {
        let is_new = self.with(name, |run, _| {
            run.wake = now.saturating_add(limits::ACME_WAIT_MAX.as_secs());
            run.unorderable.replace(why.to_owned()).is_none()
        });
        if is_new == Some(true) {
            self.say(&format!("error: {name}: {why}"));
        }
    }

    fn start_order(self: &Rc<Self>, name: &str, order: &Order, now: u64) {
        let Some(attempt) = self.attempt_of(name, order) else { return };
        self.with(name, |run, budgets| {
            let slot = Arc::clone(&run.slot);
            run.state.started(budgets, &slot, order, now);
        });
        match self.save(name) {
            Ok(()) => self.begin(attempt),
            // What cannot be remembered must not be asked: a restart would ask again at once.
            Err(why) => self.failed(&attempt, Failed::new(FailureKind::Storage, why)),
        }
    }

    /// Tells of certificates that have expired, and takes them out of service if that is wanted; one that has
    /// not after all, as after a clock was set right, comes back.
    fn look_at_ends(&self) {
        let now = self.ending_at();
        let serve_expired = self.model().acme.serve_expired;
        let (mut told, mut out, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for run in self.world.borrow_mut().runs.values_mut() {
            let Some(serving) = run.serving.as_ref().filter(|_| !run.slot.is_on_demand()) else { continue };
            let is_over = now >= serving.pair.not_after();
            if is_over && !std::mem::replace(&mut run.expired_told, is_over) {
                told.push((Arc::clone(&run.slot), serving.pair.not_after()));
            }
            let ends = is_over && !serve_expired;
            if ends != std::mem::replace(&mut run.withdrawn, ends) {
                let slot = Arc::clone(&run.slot);
                if ends { out.push(slot) } else { back.push((slot, Arc::clone(&serving.pair))) }
            }
            run.expired_told = is_over;
        }
        for (slot, end) in told {
            self.tell_expired(&slot, end, serve_expired);
        }
        out.iter().for_each(|slot| self.outside.install.withdraw(slot));
        for (slot, pair) in back {
            let name = &slot.name;
            match self.outside.install.install(&slot, pair) {
                Ok(()) => self.say(&format!("{name}: the certificate is served again")),
                Err(why) => {
                    self.say(&format!("error: {name}: the certificate cannot be served again: {why}"))
                }
            }
        }
    }

    fn tell_expired(&self, slot: &Slot, end: u64, serve_expired: bool) {
        let name = slot.name.to_string();
        let names: Vec<String> = slot.identifiers.iter().map(ToString::to_string).collect();
        let facts = Facts::new(Event::Expired).slot(&name, &names);
        self.hooks.tell(facts.with("LOCKRING_NOT_AFTER", end.to_string()));
        let served = if serve_expired { "still" } else { "no longer" };
        self.say(&format!("critical: {name}: the certificate has expired and is {served} served"));
    }

    /// Takes records of orders away that were given up in the middle.
    fn clean_up(self: &Rc<Self>) {
        let orphans = self.board.orphans();
        if !orphans.is_empty() {
            let engine = Rc::clone(self);
            self.spawn(async move {
                for line in solver::clean(&engine.board, orphans).await {
                    engine.say(&format!("warning: {line}"));
                }
            });
        }
    }

    fn pause(&self) -> Duration {
        let now = self.now();
        let world = self.world.borrow();
        // The lease asks for a look each few seconds; a follower sees new certificates then.
        let longest = world.lead_at.saturating_duration_since(Instant::now()).min(ROUND);
        let next = world.runs.values().filter(|run| run.busy.is_none() && run.wake > now).map(|run| run.wake);
        let next = next.min().map_or(longest, |at| Duration::from_secs(at - now));
        next.min(longest)
    }

    /// Waits for the end of a task; its defect is the thread's.
    async fn task_ended(&self) {
        let ended = poll_fn(|context| match self.tasks.borrow_mut().poll_join_next(context) {
            // Nothing runs; what is started later is looked at after the next round.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
            Poll::Ready(Some(ended)) => Poll::Ready(ended),
        });
        if let Err(error) = ended.await
            && let Ok(defect) = error.try_into_panic()
        {
            panic::resume_unwind(defect);
        }
    }

    fn obey(self: &Rc<Self>, command: Command, wanted: &mut Wanted) {
        match command {
            Command::Renew { name, force, answer } => answer.give(self.renew(name.as_deref(), force)),
            Command::Revoke { name, reason, answer } => self.revoke(name, reason, answer),
            Command::Look { answer } => {
                self.spawn(super::preflight::look_at_all(Rc::clone(self), answer));
            }
            Command::Reload { model, slots } => self.reload(wanted, model, slots),
            Command::Stop { answer } => answer.give(()),
            #[cfg(debug_assertions)]
            Command::Panic => panic::resume_unwind(Box::new("a defect that a test asked for")),
        }
    }

    fn renew(&self, name: Option<&str>, force: bool) -> Result<usize, CommandError> {
        if !self.world.borrow().leader {
            return Err(CommandError::NotLeader);
        }
        let now = self.now();
        let mut world = self.world.borrow_mut();
        let (mut is_known, mut count) = (false, 0);
        for (known, run) in &mut world.runs {
            if name.is_some_and(|name| name != known) {
                continue;
            }
            is_known = true;
            if force {
                run.state.force();
            } else if let Some(failing) = &mut run.state.failing {
                failing.wait = 0;
            } else if run.state.due_at() > now {
                continue;
            }
            run.wake = 0;
            count += 1;
        }
        match name {
            Some(name) if !is_known => Err(CommandError::Unknown(name.to_owned())),
            _ => Ok(count),
        }
    }

    fn revoke(
        self: &Rc<Self>,
        name: String,
        reason: crate::acme::ca::Reason,
        answer: Answer<Result<(), CommandError>>,
    ) {
        if !self.world.borrow().leader {
            answer.give(Err(CommandError::NotLeader));
            return;
        }
        self.spawn(renewal::revoke(Rc::clone(self), name, reason, answer));
    }

    /// Goes over to another configuration: slots that ask for the same go on as they are.
    fn reload(self: &Rc<Self>, wanted: &mut Wanted, model: Arc<Model>, mut slots: Vec<Slot>) {
        self.hooks.set(model.acme.hook.clone());
        slots.retain(|slot| !slot.is_on_demand());
        slots.extend(self.demanded_after(&model, &slots));
        let mut fresh = Vec::new();
        {
            let mut world = self.world.borrow_mut();
            world.transport = None;
            world.model = Arc::clone(&model);
            let mut before = std::mem::take(&mut world.runs);
            for slot in &slots {
                let name = slot.name.to_string();
                let run = match before.remove(&name) {
                    Some(mut run) => {
                        self.change(&mut run, slot, &mut world);
                        run
                    }
                    None => {
                        fresh.push(name.clone());
                        Run::new(slot.clone(), self.store())
                    }
                };
                world.runs.insert(name, run);
            }
            for mut run in before.into_values() {
                run.busy.iter().for_each(|busy| busy.task.abort());
                // Its place among the orders of its account is free again.
                run.state.abandoned(&mut world.budgets, &run.slot);
            }
        }
        if self.world.borrow().leader {
            fresh.iter().for_each(|name| self.take_up_slot(name));
        } else {
            self.first_look();
        }
        *wanted = Wanted { model, slots, loaded: Vec::new() };
    }

    /// Another wish for a slot that is known: an order for the old one is given up.
    fn change(&self, run: &mut Run, slot: &Slot, world: &mut World) {
        let same = run.slot.identifiers == slot.identifiers && run.slot.policy == slot.policy;
        run.slot = Arc::new(slot.clone());
        run.wake = 0;
        run.unwanted_until = 0;
        if same {
            return;
        }
        if let Some(busy) = run.busy.take() {
            busy.task.abort();
            run.state.abandoned(&mut world.budgets, slot);
        }
        run.step = None;
        run.unorderable = None;
        run.state.config_changed(slot);
    }

    /// Gives up what is under way, which the next start takes up, and the leadership.
    async fn stop(self: &Rc<Self>, answer: Option<Answer<()>>) {
        // Others go on answering its challenges.
        self.board.lead(false, self.now());
        self.tasks.borrow_mut().abort_all();
        let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        while tasks.join_next().await.is_some() {}
        for line in solver::clean(&self.board, self.board.orphans()).await {
            self.say(&format!("warning: {line}"));
        }
        self.world.borrow_mut().leadership.release();
        if let Some(answer) = answer {
            answer.give(());
        }
    }
}

/// The next wish; none ever comes when nothing is obtained on demand, or nobody can wish any more.
async fn next_wish(wishes: &mut Option<Wishes>) -> Wish {
    if let Some(open) = wishes {
        if let Some(wish) = open.next().await {
            return wish;
        }
        *wishes = None;
    }
    std::future::pending().await
}
