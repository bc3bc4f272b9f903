//! One attempt at a certificate: from the decision of the plan to a pair in service, or to a failure.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::account::provider;
use super::engine::Engine;
use super::preflight;
use crate::acme::hooks::{Event, Facts};
use crate::acme::keys;
use crate::acme::order::{self, Failed, Issued, Job, Keeper, Record, Step};
use crate::acme::plan::{self, FailureKind};
use crate::acme::slot::Slot;
use crate::acme::store;
use crate::config::model::Authority;

/// For how long after an attempt that was abandoned the next one is made, whatever the clock does.
const ABANDONED: Duration = Duration::from_secs(600);

/// What an attempt is about.
#[derive(Clone)]
pub(super) struct Attempt {
    pub name: String,
    pub slot: Arc<Slot>,
    pub authority: Authority,
    pub replaces: Option<String>,
}

/// How it ended, if not by a failure.
enum Done {
    /// With a pair, from this authority.
    Issued(Box<Issued>, Record),
    /// The clock moved: the plan has to decide again.
    Abandoned,
    /// The pair was stored before the restart, and is in service.
    Stored,
}

/// Carries an attempt out.
pub(super) async fn attempt(engine: Rc<Engine>, attempt: Attempt) {
    let name = attempt.name.clone();
    match carry_out(&engine, &attempt).await {
        Ok(Done::Issued(issued, record)) => engine.issued(&attempt, *issued, &record).await,
        Ok(Done::Stored) => engine.issued_before(&attempt),
        Ok(Done::Abandoned) => {
            engine.with(&name, |run, budgets| run.state.abandoned(budgets, &attempt.slot));
            let _ = engine.save(&name);
        }
        Err(failed) => engine.failed(&attempt, failed),
    }
    engine.ended(&name);
}

async fn carry_out(engine: &Rc<Engine>, attempt: &Attempt) -> Result<Done, Failed> {
    let saved = saved(engine, attempt)?;
    if saved.is_some()
        && engine.has_key_in_service(&attempt.name, saved.as_ref().map(|(key, _)| key.as_str()))
    {
        return Ok(Done::Stored);
    }
    if saved.is_none() {
        let allowed = engine.hooks.allows(&engine.facts(Event::Obtaining, attempt)).await;
        allowed.map_err(|why| Failed::new(FailureKind::Vetoed, format!("the hook forbids it: {why}")))?;
        // No order is spent that cannot be kept.
        engine.store().probe()?;
    }
    let policy = &attempt.slot.policy;
    let session = engine.session(&attempt.authority, policy.email.as_deref()).await?;
    if engine.observe(session.authority_time()) && engine.may_abandon(&attempt.name) {
        return Ok(Done::Abandoned);
    }
    let mut state = engine.with(&attempt.name, |run, _| run.state.clone()).unwrap_or_default();
    if saved.is_none() {
        preflight::before_order(engine, attempt, &session, &mut state).await?;
    }
    let (key, record) = match saved {
        Some(saved) => saved,
        None => begin(engine, attempt, session.account_url()).await?,
    };
    let mut job = Job {
        slot: Arc::clone(&attempt.slot),
        authority: attempt.authority.clone(),
        state,
        session,
        provider: provider(policy)?,
        key,
        record,
        patience: engine.model().acme.order_timeout,
    };
    let keeper = SlotKeeper { engine: Rc::clone(engine), name: attempt.name.clone() };
    let issued = try_twice(engine, attempt, &mut job, &keeper).await?;
    engine.observe(job.session.authority_time());
    Ok(Done::Issued(Box::new(issued), job.record))
}

/// Once more after what a fresh order or a fresh account can mend.
async fn try_twice(
    engine: &Rc<Engine>,
    attempt: &Attempt,
    job: &mut Job,
    keeper: &SlotKeeper,
) -> Result<Issued, Failed> {
    match order::issue(job, &engine.board, keeper).await {
        Err(failed) if failed.account_unknown => {
            engine.observe(failed.date);
            engine.lose_account(&attempt.authority, job.session.account_url())?;
            let email = attempt.slot.policy.email.as_deref();
            job.session = engine.session(&attempt.authority, email).await?;
        }
        Err(failed) if failed.order_gone && job.record.url.is_some() => {
            engine.observe(failed.date);
        }
        done => return done,
    }
    (job.key, job.record) = begin(engine, attempt, job.session.account_url()).await?;
    order::issue(job, &engine.board, keeper).await
}

/// Makes a key and keeps it, with what is about to be asked.
async fn begin(
    engine: &Rc<Engine>,
    attempt: &Attempt,
    account: &str,
) -> Result<(zeroize::Zeroizing<String>, Record), Failed> {
    let key = keys::new_key(attempt.slot.policy.key)?;
    let replaces = attempt.replaces.clone();
    let record = Record::new(&attempt.slot, &attempt.authority, account, replaces, engine.now());
    engine.store().save_order(&attempt.name, &key, &json(&record)?)?;
    engine.passed(&attempt.name, Step::Prepared).await;
    Ok((key, record))
}

/// The order on disk, if it is still of use; otherwise it is dropped.
fn saved(engine: &Engine, attempt: &Attempt) -> Result<Option<(zeroize::Zeroizing<String>, Record)>, Failed> {
    let name = &attempt.name;
    let found = match engine.store().order(name) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(store::Error::Damaged { .. }) => {
            engine.store().set_order_aside(name)?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let record: Record = serde_json::from_slice(&found.json).unwrap_or_default();
    if record.fits(&attempt.slot, &attempt.authority, engine.now()) {
        return Ok(Some((found.key, record)));
    }
    engine.store().drop_order(name)?;
    Ok(None)
}

pub(super) fn json(record: &Record) -> Result<Vec<u8>, Failed> {
    serde_json::to_vec_pretty(record).map_err(|error| store::Error::NotJson(error).into())
}

/// Writes the steps of one slot down.
struct SlotKeeper {
    engine: Rc<Engine>,
    name: String,
}

impl Keeper for SlotKeeper {
    async fn keep(&self, record: &Record) -> Result<(), Failed> {
        let written = self.engine.store().update_order(&self.name, &json(record)?);
        // The order is placed by now and its key is on disk: going on loses less than stopping.
        if let Err(error) = written {
            self.engine.note_storage(Some(error.to_string()));
        }
        self.engine.passed(&self.name, record.step).await;
        Ok(())
    }

    fn replaces_refused(&self) {
        self.engine.with(&self.name, |run, _| run.state.replaces_refused());
        let _ = self.engine.save(&self.name);
    }

    fn say(&self, line: &str) {
        self.engine.say(&format!("warning: {}: {line}", self.name));
    }

    fn now(&self) -> u64 {
        self.engine.now()
    }
}

impl Engine {
    /// An event about a slot.
    pub fn facts(&self, event: Event, attempt: &Attempt) -> Facts {
        let names: Vec<String> = attempt.slot.identifiers.iter().map(ToString::to_string).collect();
        Facts::new(event).slot(&attempt.name, &names).issuer(&attempt.authority.directory)
    }

    /// Whether the slot's attempt may be abandoned: not again at once, or two authorities whose clocks differ
    /// would keep each other's attempts from ever being made.
    fn may_abandon(&self, name: &str) -> bool {
        let boot = self.outside.clock.boot();
        let may = self.with(name, |run, _| {
            let may = run.abandoned_at.is_none_or(|at| boot.saturating_sub(at) > ABANDONED.as_secs());
            if may {
                run.abandoned_at = Some(boot);
            }
            may
        });
        may == Some(true)
    }

    /// Whether the certificate in service is for this key (PEM).
    fn has_key_in_service(&self, name: &str, key: Option<&str>) -> bool {
        let Ok(store::Found::Current(kept)) = self.store().pair(name) else { return false };
        let served = self.with(name, |run, _| run.serving.as_ref().and_then(|serving| serving.generation));
        key.is_some_and(|key| kept.pem.key.trim() == key.trim()) && served == Some(Some(kept.generation))
    }

    /// What the plan wants ordered, as an attempt.
    pub fn attempt_of(&self, name: &str, order: &plan::Order) -> Option<Attempt> {
        let slot = self.with(name, |run, _| Arc::clone(&run.slot))?;
        let authority = slot.policy.authorities.get(order.authority)?.clone();
        Some(Attempt { name: name.to_owned(), slot, authority, replaces: order.replaces.clone() })
    }
}
