//! A bench for tests of the thread: the fake authority, clocks that jump, a directory of its own, and a
//! record of what was put into service. A process is a [`tokio::task::LocalSet`]: dropping it is a kill.

#![allow(clippy::disallowed_types, reason = "what a test records is shared with threads of its own")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::engine::Engine;
use super::{Clock, Desks, Gate, Outside, Wanted, load, on_demand};
use crate::acme::ca::Reason;
use crate::acme::commands::{self, CommandError, Handle};
use crate::acme::fake_ca::{DIRECTORY, FakeCa, Validator};
use crate::acme::http_client::{Exchange, Transport};
use crate::acme::install::Install;
use crate::acme::order::Step;
use crate::acme::slot::{Identifier, Slot};
use crate::acme::status::{SlotStatus, Status};
use crate::acme::store::AcmeStore;
use crate::acme::store::tests::Scratch;
use crate::config::model::{
    Acme, AcmePolicy, Authority, ChallengeKind, HostPattern, KeyKind, Limits, Log, Metrics, Model, Server,
    Site, Timeouts, Tls, Workers,
};
use crate::handoff::wishes::Wishes;
use crate::tls::certs::CertifiedPair;

/// When it begins, in seconds since the epoch: within the fake authority's time.
pub(super) const START: u64 = 1_790_000_000;
pub(super) const DAY: u64 = 24 * 3600;

/// Time that passes with tokio's, and jumps.
pub(super) struct TestClock {
    began: Instant,
    /// Seconds of suspension: both clocks jumped.
    slept: AtomicI64,
    /// Seconds by which the wall clock is wrong.
    wrong: AtomicI64,
}

impl TestClock {
    fn passed(&self) -> u64 {
        self.began.elapsed().as_secs() + self.slept.load(Ordering::Relaxed) as u64
    }

    /// The right time.
    pub(super) fn right(&self) -> u64 {
        START + self.passed()
    }

    /// The machine sleeps.
    pub(super) fn suspend(&self, seconds: u64) {
        self.slept.fetch_add(seconds as i64, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub(super) fn step(&self, seconds: i64) {
        self.wrong.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn unix(&self) -> u64 {
        self.right().saturating_add_signed(self.wrong.load(Ordering::Relaxed))
    }

    fn boot(&self) -> u64 {
        self.passed()
    }
}

/// The fake authorities by host, whose time goes with the right clock.
struct Timed {
    others: Vec<(&'static str, FakeCa)>,
    /// Seconds by which the clock of the others is ahead.
    others_ahead: Arc<AtomicI64>,
    /// Milliseconds until an answer begins.
    latency: Arc<AtomicI64>,
    ca: FakeCa,
    clock: Arc<TestClock>,
}

impl Transport for Timed {
    fn send(&self, request: http::Request<Bytes>) -> Exchange {
        let mut now = self.clock.right();
        let host = request.uri().host().unwrap_or_default().to_owned();
        let other = self.others.iter().find(|(name, _)| *name == host);
        if other.is_some() {
            now = now.saturating_add_signed(self.others_ahead.load(Ordering::Relaxed));
        }
        let ca = other.map_or(&self.ca, |(_, ca)| ca);
        let (ca, latency) = (ca.clone(), self.latency.load(Ordering::Relaxed));
        if latency == 0 {
            ca.set(|behaviour| behaviour.now = now);
            return ca.send(request);
        }
        Box::pin(async move {
            sleep(Duration::from_millis(latency as u64)).await;
            ca.set(|behaviour| behaviour.now = now);
            ca.send(request).await
        })
    }
}

/// What is in service.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(super) served: Mutex<HashMap<String, Vec<Arc<CertifiedPair>>>>,
    pub(crate) tokens: Mutex<HashMap<String, String>>,
    pub(super) names: Mutex<HashMap<Identifier, Arc<CertifiedPair>>>,
    pub(super) withdrawn: Mutex<Vec<String>>,
    /// Sites of the slot that was last installed.
    pub(super) sites: Mutex<Vec<u32>>,
    /// Names on demand that clients ask for.
    pub(super) in_use: Mutex<Vec<String>>,
}

impl Install for Recorder {
    fn install(&self, slot: &Slot, pair: Arc<CertifiedPair>) -> Result<(), String> {
        self.sites.lock().unwrap().clone_from(&slot.sites);
        self.served.lock().unwrap().entry(slot.name.to_string()).or_default().push(pair);
        Ok(())
    }

    fn is_in_use(&self, slot: &Slot) -> bool {
        self.in_use.lock().unwrap().contains(&slot.name.to_string())
    }

    fn withdraw(&self, slot: &Slot) {
        self.withdrawn.lock().unwrap().push(slot.name.to_string());
    }

    fn answer_http(&self, token: &str, key_authorization: &str) {
        self.tokens.lock().unwrap().insert(token.to_owned(), key_authorization.to_owned());
    }

    fn answer_tls(&self, identifier: &Identifier, pair: Arc<CertifiedPair>) {
        self.names.lock().unwrap().insert(identifier.clone(), pair);
    }

    fn forget_http(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
    }

    fn forget_tls(&self, identifier: &Identifier) {
        self.names.lock().unwrap().remove(identifier);
    }
}

/// Everything outside of the thread.
pub(super) struct Bench {
    pub(super) scratch: Scratch,
    pub(super) ca: FakeCa,
    /// A second authority, at `https://other.test/directory`.
    pub(super) other: FakeCa,
    /// Seconds by which the clock of whoever answers for its directory is ahead; all else is at the first one's.
    pub(super) other_ahead: Arc<AtomicI64>,
    /// Milliseconds that authorities take to answer.
    pub(super) latency: Arc<AtomicI64>,
    pub(super) clock: Arc<TestClock>,
    pub(super) install: Arc<Recorder>,
    pub(super) said: Arc<Mutex<Vec<String>>>,
    pub(super) slots: Vec<Slot>,
    pub(super) acme: Acme,
    pub(super) gate: Option<Gate>,
    /// Of clients of the next process.
    pub(super) wishes: RefCell<Option<Wishes>>,
    /// Asked about names on demand.
    pub(super) application: Option<Arc<dyn Transport>>,
    pub(super) sites: Vec<Arc<Site>>,
}

/// A process.
pub(super) struct Process {
    pub(super) handle: Handle,
}

/// Runs a test in time that jumps.
pub(super) fn simulate(name: &str, test: impl AsyncFnOnce(Bench)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { test(Bench::new(name)).await });
}

pub(super) fn authority() -> Authority {
    Authority { directory: DIRECTORY.to_owned(), preset: None, eab: None }
}

pub(crate) fn slot(names: &[&str], challenge: ChallengeKind) -> Slot {
    let host = |name: &&str| match name.strip_prefix("*.") {
        Some(parent) => HostPattern::Wildcard(parent.to_owned()),
        None => HostPattern::Exact((*name).to_owned()),
    };
    let hosts: Vec<HostPattern> = names.iter().map(host).collect();
    let policy = AcmePolicy {
        authorities: vec![authority()],
        email: None,
        profile: None,
        challenges: vec![challenge],
        dns: None,
        key: KeyKind::P256,
        names: hosts.iter().skip(1).cloned().collect(),
    };
    let mut identifiers: Vec<Identifier> = hosts.iter().map(Identifier::from).collect();
    identifiers.sort_unstable();
    Slot { name: hosts[0].clone(), identifiers, policy: Arc::new(policy), sites: vec![0] }
}

/// Changes a slot's policy.
pub(super) fn with_policy(slot: &mut Slot, change: impl FnOnce(&mut AcmePolicy)) {
    let mut policy = (*slot.policy).clone();
    change(&mut policy);
    slot.policy = Arc::new(policy);
}

impl Bench {
    pub(super) fn new(name: &str) -> Self {
        let clock = TestClock { began: Instant::now(), slept: 0.into(), wrong: 0.into() };
        let bench = Self {
            scratch: Scratch::new(name),
            ca: FakeCa::new(),
            other: FakeCa::new(),
            other_ahead: Arc::default(),
            latency: Arc::default(),
            clock: Arc::new(clock),
            install: Arc::default(),
            said: Arc::default(),
            slots: vec![slot(&["a.test"], ChallengeKind::Http01)],
            acme: Acme::default(),
            gate: None,
            wishes: RefCell::default(),
            application: None,
            sites: Vec::new(),
        };
        // The authority finds the answer of HTTP-01 and TLS-ALPN-01 in service, or refuses.
        for ca in [&bench.ca, &bench.other] {
            let install = Arc::clone(&bench.install);
            ca.set(|behaviour| {
                behaviour.validator = Arc::new(move |identifier, kind, token| {
                    let answered = match kind {
                        "http-01" => install.tokens.lock().unwrap().contains_key(token),
                        "tls-alpn-01" => install.names.lock().unwrap().contains_key(identifier),
                        _ => true,
                    };
                    answered
                        .then_some(())
                        .ok_or_else(|| format!("{kind} at {identifier} from 192.0.2.1: 404"))
                });
            });
        }
        bench
    }

    pub(super) fn store(&self) -> AcmeStore {
        AcmeStore::open(&self.scratch.store())
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.scratch.path.join("state/acme").join(below)
    }

    pub(super) fn model(&self) -> Arc<Model> {
        Arc::new(Model {
            acme: self.acme.clone(),
            server: Server {
                https: Vec::new(),
                http: Vec::new(),
                https_given: false,
                http_given: false,
                workers: Workers::Auto,
                state: self.scratch.path.clone(),
                admin: None,
                trusted_proxies: Vec::new(),
                proxy_protocol: false,
                default_site: None,
                certificates: None,
                forwarded: false,
                underscores: false,
            },
            tls: Tls::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            metrics: Metrics::default(),
            log: Log::default(),
            sites: self.sites.clone(),
        })
    }

    pub(super) fn outside(&self) -> Outside {
        let said = Arc::clone(&self.said);
        let transport = Timed {
            others: vec![("other.test", self.other.clone())],
            others_ahead: Arc::clone(&self.other_ahead),
            latency: Arc::clone(&self.latency),
            ca: self.ca.clone(),
            clock: Arc::clone(&self.clock),
        };
        Outside {
            store: self.store(),
            install: Arc::clone(&self.install) as _,
            transport: Some(Arc::new(transport)),
            application: self.application.clone(),
            clock: Arc::clone(&self.clock) as _,
            say: Arc::new(move |line: &str| said.lock().unwrap().push(line.to_owned())),
            gate: self.gate.clone(),
            // The names of these tests are in no DNS, and time jumps.
            preflight: false,
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        let store = self.store();
        let model = self.model();
        let slots = [self.slots.clone(), on_demand(&store, &model, &self.slots)].concat();
        let loaded = load(&store, &slots, self.acme.serve_expired, self.clock.unix());
        for one in &loaded {
            self.install.install(&slots[one.slot], Arc::clone(one.pair())).unwrap();
        }
        Wanted { model, slots, loaded }
    }

    /// One with a directory of its own, at the same authority.
    pub(super) fn beside(name: &str, other: &Self) -> Self {
        let mut bench = Self::new(name);
        bench.ca = other.ca.clone();
        bench.clock = Arc::clone(&other.clock);
        // The authority looks for answers where it always did.
        bench.install = Arc::clone(&other.install);
        bench
    }

    /// A process that runs while something runs in its set, until the set is dropped.
    pub(super) fn local(&self) -> (LocalSet, Process) {
        let local = LocalSet::new();
        let (outside, mut wanted) = (self.outside(), self.wanted());
        let (handle, commands, status) = commands::handle(Status::default());
        let mut desks = Desks { commands, wishes: self.wishes.take() };
        local.spawn_local(async move {
            let engine = Engine::new(outside, &wanted, status, 0);
            engine.run(&mut wanted, &mut desks).await;
        });
        (local, Process { handle })
    }

    /// A process that lives as long as `life`, and is then killed.
    pub(super) async fn process<T>(&self, life: impl AsyncFnOnce(&Process) -> T) -> T {
        let (local, process) = self.local();
        local.run_until(life(&process)).await
    }

    pub(super) fn said(&self, part: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }

    /// The certificates put into service for a slot, oldest first.
    pub(super) fn served(&self, name: &str) -> Vec<Arc<CertifiedPair>> {
        self.install.served.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    /// The serial on disk and whether chain and key belong together there.
    pub(super) fn on_disk(&self, name: &str) -> Option<String> {
        self.store().pair(name).unwrap().kept().map(|kept| kept.pair.serial_hex())
    }

    /// Holds every order at a step for ever; a kill there follows.
    pub(super) fn hold_at(&mut self, step: Step) -> Arc<Mutex<bool>> {
        let reached: Arc<Mutex<bool>> = Arc::default();
        let flag = Arc::clone(&reached);
        self.gate = Some(Arc::new(move |_, passed| {
            if passed == step {
                *flag.lock().unwrap() = true;
            }
            passed == step
        }));
        reached
    }

    /// Waits until something holds, at most `seconds`; says what was said otherwise.
    pub(super) async fn until(&self, what: &str, seconds: u64, holds: impl Fn() -> bool) {
        let mut left = seconds;
        while !holds() {
            assert!(left > 0, "not within {seconds} s: {what}\n{:#?}", self.said.lock().unwrap());
            // Long waits are looked at less often.
            let step = if seconds > 3600 { 5 } else { 1 };
            left = left.saturating_sub(step);
            sleep(Duration::from_secs(step)).await;
        }
    }

    /// A certificate for each slot.
    pub(super) async fn first_certificates(&self) {
        self.process(async |_| {
            let all = || self.slots.iter().all(|slot| self.on_disk(&slot.name.to_string()).is_some());
            self.until("first certificates", 60, all).await;
            sleep(Duration::from_secs(40)).await;
        })
        .await;
    }
}

impl Process {
    /// What is told of a slot; nothing before the first round.
    pub(super) fn slot(&self, name: &str) -> SlotStatus {
        self.handle.status().slots.iter().find(|slot| slot.name == name).cloned().unwrap_or_default()
    }
}

impl Process {
    /// Commands are given from threads that may block; the test's own must not.
    async fn elsewhere<T: Send + 'static>(&self, act: impl FnOnce(Handle) -> T + Send + 'static) -> T {
        let handle = self.handle.clone();
        let thread = std::thread::spawn(move || act(handle));
        while !thread.is_finished() {
            tokio::task::yield_now().await;
        }
        thread.join().unwrap()
    }

    pub(super) async fn handle_renew(&self, name: Option<&str>, force: bool) -> Result<usize, CommandError> {
        let name = name.map(str::to_owned);
        self.elsewhere(move |handle| handle.renew(name.as_deref(), force)).await
    }

    pub(super) async fn handle_revoke(&self, name: &str, reason: Reason) -> Result<(), CommandError> {
        let name = name.to_owned();
        self.elsewhere(move |handle| handle.revoke(&name, reason)).await
    }

    pub(super) async fn handle_stop(&self) {
        assert!(self.elsewhere(|handle| handle.stop(Duration::from_secs(10))).await);
    }
}

/// Refuses these names, whatever is in service.
pub(super) fn names_refused(names: &'static [&'static str]) -> Validator {
    Arc::new(move |identifier, _, _| {
        let name = identifier.to_string();
        if names.contains(&name.as_str()) { Err(format!("no route to {name}")) } else { Ok(()) }
    })
}

pub(super) async fn wait(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
