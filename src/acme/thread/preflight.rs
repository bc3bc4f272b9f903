//! The look before an order, and the same for whoever asks whether orders would go well.

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::attempt::Attempt;
use super::engine::{Busy, Engine};
use crate::acme::ca::Session;
use crate::acme::commands::Look;
use crate::acme::install::Install;
use crate::acme::order::Failed;
use crate::acme::plan::{self, FailureKind, SlotState, account_key, orderable};
use crate::acme::preflight::{self, Eyes, Verdict, Wish};
use crate::acme::slot::Slot;
use crate::acme::store::Audience;
use crate::config::model::Authority;
use crate::handoff::desk::Answer;
use crate::limits;

/// Looks where an order would fail before one is spent on it, if there never was a certificate or the last
/// attempt failed at such things. Steers `state` to the kinds of challenge that look right.
pub(super) async fn before_order(
    engine: &Rc<Engine>,
    attempt: &Attempt,
    session: &Session,
    state: &mut SlotState,
) -> Result<(), Failed> {
    if !engine.outside.preflight || !plan::wants_preflight(state) {
        return Ok(());
    }
    let model = engine.model();
    let identities = session.caa_identities();
    let wish = Wish {
        identities: &identities,
        account: Some(session.account_url()),
        ..Wish::new(&attempt.slot, &attempt.authority, state, &model)
    };
    let eyes = Eyes::new(&wish, &model);
    let verdict = preflight::preflight(&wish, &eyes, engine.to_knock_with()).await;
    for line in verdict.lines(preflight::Severity::Warning) {
        engine.say(&format!("warning: {}: before the order: {line}", attempt.name));
    }
    let errors = verdict.lines(preflight::Severity::Error);
    if !errors.is_empty() {
        let text = format!("no order was placed: {}", errors.join("; "));
        return Err(Failed::new(FailureKind::Preflight, text));
    }
    verdict.steer(state, &attempt.slot.policy.challenges);
    Ok(())
}

impl Engine {
    /// What answers knocks at the addresses of names. With other processes on the state directory it may be one
    /// of them that opens, which would look like somebody else although it answers authorities as well.
    pub(super) fn to_knock_with(&self) -> Option<Arc<dyn Install>> {
        (self.store().audience() == Audience::Nobody).then(|| Arc::clone(&self.outside.install))
    }
}

/// Looks at the names of all slots and orders nothing. Slots that were not reached in
/// [`limits::PREFLIGHT_ALL`] are left out.
pub(super) async fn look_at_all<E>(engine: Rc<Engine>, answer: Answer<Result<Vec<Look>, E>>) {
    let end = Instant::now() + limits::PREFLIGHT_ALL;
    let slots: Vec<Arc<Slot>> =
        engine.world.borrow().runs.values().map(|run| Arc::clone(&run.slot)).collect();
    let mut slots = slots.into_iter();
    let mut tasks = JoinSet::new();
    let mut looks = Vec::new();
    loop {
        while tasks.len() < limits::PREFLIGHT_AT_ONCE
            && let Some(slot) = slots.next()
        {
            let name = slot.name.to_string();
            let is_free = engine.with(&name, |run, _| run.busy.is_none()) == Some(true);
            // An order has its own answers in service, which those of a look would take the place of.
            let turn = is_free.then(|| Turn { engine: Rc::clone(&engine), name: name.clone() });
            let task = tasks.spawn_local(look_at(Rc::clone(&engine), slot, turn));
            if is_free {
                let directory = LOOKING.to_owned();
                engine.with(&name, |run, _| run.busy = Some(Busy { directory, is_order: false, task }));
            }
        }
        match timeout_at(end, tasks.join_next()).await {
            Ok(Some(look)) => looks.extend(look.ok()),
            Ok(None) | Err(_) => break,
        }
    }
    answer.give(Ok(looks));
}

/// What stands in the place of a directory while a slot is looked at: it is nobody's turn.
const LOOKING: &str = "";

/// Keeps orders of a slot away while it is looked at.
struct Turn {
    engine: Rc<Engine>,
    name: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mine = |busy: &Busy| busy.directory == LOOKING;
        if self.engine.with(&self.name, |run, _| run.busy.as_ref().is_some_and(mine)) == Some(true) {
            self.engine.ended(&self.name);
        }
    }
}

async fn look_at(engine: Rc<Engine>, slot: Arc<Slot>, turn: Option<Turn>) -> Look {
    let name = slot.name.to_string();
    let asked =
        |authority: &&Authority| slot.identifiers.iter().all(|name| orderable(name, authority).is_ok());
    let authority = slot.policy.authorities.iter().find(asked);
    let verdict = match authority.or_else(|| slot.policy.authorities.first()) {
        Some(authority) => {
            let model = engine.model();
            let known = engine.world.borrow().sessions.get(&account_key(authority)).cloned();
            let state = engine.with(&name, |run, _| run.state.clone()).unwrap_or_default();
            let identities = known.as_ref().map(|(session, _)| session.caa_identities()).unwrap_or_default();
            let wish = Wish {
                identities: &identities,
                account: known.as_ref().map(|(session, _)| session.account_url()),
                ..Wish::new(&slot, authority, &state, &model)
            };
            let install = turn.as_ref().and_then(|_| engine.to_knock_with());
            preflight::preflight(&wish, &Eyes::new(&wish, &model), install).await
        }
        None => Verdict::default(),
    };
    Look { name, findings: verdict.findings }
}
