//! What is told of all this: the published status and its file.

use std::time::Duration;

use tokio::time::Instant;

use super::account::authority_name;
use super::engine::{Engine, Run, World};
use crate::acme::plan::{self, FailureKind, account_key};
use crate::acme::status::{self, AuthorityStatus, Severity, SlotStatus, State, Status};
use crate::config::model::Authority;

/// How old the status file may grow although nothing changes: it shows that the thread lives.
const FILE_AGE: Duration = Duration::from_secs(60);

impl Engine {
    /// Publishes what is known, and writes it down if it changed or the file grew old.
    pub fn publish(&self) {
        let status = self.report();
        self.status.publish(std::sync::Arc::new(status.clone()));
        let fresh = |(before, at): &(Status, Instant)| {
            let same = Status { at: status.at, last_tick: status.last_tick, ..before.clone() } == status;
            same && at.elapsed() < FILE_AGE
        };
        let mut world = self.world.borrow_mut();
        if !world.leader || world.written.as_ref().is_some_and(fresh) {
            return;
        }
        // Without room for it there is none for certificates either, which is said elsewhere.
        let _ = self.store().write_status(&status.to_json());
        world.written = Some((status, Instant::now()));
    }

    fn report(&self) -> Status {
        let local = self.outside.clock.unix();
        let now = self.now();
        let world = self.world.borrow();
        Status {
            version: status::VERSION,
            at: local,
            last_tick: local,
            thread_restarts: self.restarts,
            leader: world.leader,
            storage_error: world.storage_error.clone(),
            clock_skew: world.clock.skew().map(|skew| skew.saturating_neg()),
            slots: world.runs.iter().map(|(name, run)| slot(name, run, &world, now, local)).collect(),
            authorities: authorities(&world),
        }
    }
}

fn slot(name: &str, run: &Run, world: &World, now: u64, local: u64) -> SlotStatus {
    let plan = &run.state;
    let certificate = plan.certificate.as_ref();
    let pair = run.serving.as_ref().map(|serving| &serving.pair);
    let failing = plan.failing.as_ref();
    let window = plan.ari.window;
    SlotStatus {
        name: name.to_owned(),
        names: run.slot.identifiers.iter().map(ToString::to_string).collect(),
        state: state(run, now),
        step: run.step.map(|step| step.word().to_owned()),
        severity: severity(run, now),
        issuer: certificate.map(|certificate| certificate.directory.clone()),
        profile: certificate.and_then(|certificate| certificate.profile.clone()),
        serial: pair.map(|pair| pair.serial_hex()),
        not_before: pair.map(|pair| pair.not_before()),
        not_after: pair.map(|pair| pair.not_after()),
        generation: run.serving.as_ref().and_then(|serving| serving.generation),
        renew_at: certificate.map(|_| plan.due_at()).filter(|at| *at > 0),
        next_attempt: next_attempt(run, world, now),
        window_start: window.map(|window| window.start),
        window_end: window.map(|window| window.end),
        explanation: plan.ari.explanation.clone(),
        last_success: plan.issued_at,
        succeeded: run.succeeded,
        failed: run.failed.clone(),
        failures: failing.map_or(0, |failing| failing.count),
        failing_since: failing.map(|failing| failing.first_at),
        last_error: failing.map(|failing| failing.text.clone()).or_else(|| run.unorderable.clone()),
        clock_suspect: pair.is_some_and(|pair| {
            now < pair.not_after() && !(pair.not_before()..pair.not_after()).contains(&local)
        }),
    }
}

fn state(run: &Run, now: u64) -> State {
    let failing = run.state.failing.as_ref();
    if run.unstored.is_some() {
        State::InMemoryOnly
    } else if run.busy.as_ref().is_some_and(|busy| busy.is_order) {
        State::Ordering
    } else if run.unorderable.is_some() || failing.is_some_and(|failing| failing.kind.is_blocked()) {
        State::Blocked
    } else if failing.is_some() {
        State::Backoff
    } else if run.state.due_at() > now {
        State::Valid
    } else if run.serving.is_none() {
        State::Empty
    } else {
        State::Due
    }
}

fn severity(run: &Run, now: u64) -> Severity {
    let of_plan = run.state.severity(now).map_or(Severity::Ok, |severity| match severity {
        plan::Severity::Warn => Severity::Warn,
        plan::Severity::Error => Severity::Error,
        plan::Severity::Critical => Severity::Critical,
    });
    let stuck = run.unstored.is_some() || run.unorderable.is_some();
    if stuck { of_plan.max(Severity::Error) } else { of_plan }
}

/// When the next order may be placed: when it is due, or when a failure, or an authority's wish to be left
/// alone, is over.
fn next_attempt(run: &Run, world: &World, now: u64) -> Option<u64> {
    let failing = run.state.failing.as_ref();
    let own = failing.map_or(run.state.due_at(), |failing| failing.next_try());
    let closed =
        |authority: &Authority| world.budgets.closed_until(&authority.directory, &account_key(authority));
    let closed = run.slot.policy.authorities.iter().map(closed).min().unwrap_or(0);
    let paused = failing.is_some_and(|failing| failing.kind == FailureKind::RateLimited);
    let at = if closed > now || paused { own.max(closed) } else { own };
    run.unorderable.is_none().then_some(at.max(now))
}

fn authorities(world: &World) -> Vec<AuthorityStatus> {
    let mut found: Vec<AuthorityStatus> = Vec::new();
    for authority in world.runs.values().flat_map(|run| &run.slot.policy.authorities) {
        let key = account_key(authority);
        let session = world.sessions.get(&key).map(|(session, _)| session);
        let account = session.map(|session| session.account_url().to_owned());
        let known = found.iter().any(|other| {
            other.directory == authority.directory && (other.account == account || account.is_none())
        });
        if known {
            continue;
        }
        let until = world.budgets.closed_until(&authority.directory, &key);
        found.push(AuthorityStatus {
            directory: authority.directory.clone(),
            name: authority_name(authority),
            account,
            retry_after: Some(until).filter(|until| *until > 0),
            renewal_info: session.map(crate::acme::ca::Session::has_renewal_info),
            profiles: session
                .map_or_else(Vec::new, |session| session.profiles().into_iter().map(str::to_owned).collect()),
        });
    }
    found
}
