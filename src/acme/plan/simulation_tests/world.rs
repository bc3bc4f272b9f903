//! One process with its slots, its disk, its clocks and its authorities; the driver as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::authority::{Authority, Outage};
use super::{DAY, HOUR};
use crate::acme::plan::{
    Budgets, Clock, Draw, Failure, FailureKind, Next, Order, Reason, RenewalInfoError, Restored, SlotState,
};
use crate::acme::slot::{Identifier, Slot};
use crate::config::model::{self, AcmePolicy, ChallengeKind, HostPattern, KeyKind, Preset};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn draw(&mut self) -> Draw {
        Draw(self.next())
    }

    /// In `[-1, 1)`.
    pub fn signed(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// What happened to one slot.
#[derive(Default, Clone)]
pub struct History {
    pub attempts: Vec<u64>,
    pub issued: Vec<(u64, Reason)>,
    pub warnings: usize,
}

pub struct World {
    /// True time, which is also monotonic.
    pub now: u64,
    /// Local less true time.
    pub skew: i64,
    pub slots: Vec<Slot>,
    pub states: Vec<SlotState>,
    pub histories: Vec<History>,
    pub budgets: Budgets,
    pub clock: Clock,
    pub authorities: Vec<Authority>,
    pub random: Random,
    /// One in so many steps the process is killed and begins again from disk; 0: never.
    pub crash_each: u64,
    /// How often the plan was asked.
    pub steps: usize,
    /// Whether the driver looks at the plan again after the first answer.
    pub looks_twice: bool,
    wake: BTreeMap<(u64, usize), ()>,
}

pub fn policy(authorities: &[(&str, Option<Preset>)]) -> Arc<AcmePolicy> {
    let authorities = authorities.iter().map(|(directory, preset)| model::Authority {
        directory: (*directory).to_owned(),
        preset: *preset,
        eab: None,
    });
    Arc::new(AcmePolicy {
        authorities: authorities.collect(),
        email: None,
        profile: None,
        challenges: vec![ChallengeKind::TlsAlpn01, ChallengeKind::Http01],
        dns: None,
        key: KeyKind::P256,
        names: Vec::new(),
    })
}

pub fn slot(name: &str, policy: &Arc<AcmePolicy>) -> Slot {
    Slot {
        name: HostPattern::Exact(name.to_owned()),
        identifiers: vec![Identifier::Dns(name.to_owned())],
        policy: Arc::clone(policy),
        sites: vec![0],
    }
}

impl World {
    pub fn new(seed: u64, slots: usize, policy: &Arc<AcmePolicy>, authorities: Vec<Authority>) -> Self {
        let now = 1_800_000_000;
        let slots: Vec<Slot> = (0..slots).map(|n| slot(&format!("s{n}.lockring.dev"), policy)).collect();
        Self {
            now,
            skew: 0,
            states: vec![SlotState::default(); slots.len()],
            histories: vec![History::default(); slots.len()],
            wake: (0..slots.len()).map(|n| ((now, n), ())).collect(),
            slots,
            budgets: Budgets::default(),
            clock: Clock::default(),
            authorities,
            random: Random(seed),
            crash_each: 0,
            steps: 0,
            looks_twice: true,
        }
    }

    pub fn local(&self) -> u64 {
        self.now.saturating_add_signed(self.skew)
    }

    /// The plan's now.
    pub fn plan_now(&self) -> u64 {
        self.clock.now(self.local())
    }

    /// Sets the local clock.
    pub fn set_skew(&mut self, skew: i64) {
        self.clock.tick(self.local(), self.now);
        self.skew = skew;
        self.clock.tick(self.local(), self.now);
        self.wake_all();
    }

    pub fn wake_all(&mut self) {
        self.wake = (0..self.slots.len()).map(|n| ((self.now, n), ())).collect();
    }

    /// Lives until `end`.
    pub fn run(&mut self, end: u64) {
        while let Some((&(at, slot), ())) = self.wake.first_key_value() {
            if at > end {
                break;
            }
            self.wake.pop_first();
            self.now = self.now.max(at);
            if self.crash_each > 0 && self.random.below(self.crash_each) == 0 {
                self.restart();
            }
            let delay = self.step(slot);
            self.wake.insert((self.now + delay, slot), ());
        }
        self.now = self.now.max(end);
    }

    /// Killed, and begun again with what is on disk.
    pub fn restart(&mut self) {
        self.clock = again(&self.clock);
        self.budgets = again(&self.budgets);
        if self.clock.restored(self.local()) {
            self.contact(0).ok();
        }
        let now = self.plan_now();
        self.budgets.restored(now);
        for (state, slot) in self.states.iter_mut().zip(&self.slots) {
            let mut read: SlotState = again(state);
            assert_eq!(read, *state, "state survives the disk");
            match read.certificate.clone() {
                Some(found) => read.certificate_found(found, now, self.random.draw()),
                None => read.certificate_missing(),
            }
            read.config_changed(slot);
            if read.restored(&mut self.budgets, slot, now, self.random.draw()) == Restored::Resume {
                // Orders end within one step here, so there is none to resume.
                let failure = Failure::new(FailureKind::Interrupted, "nothing to resume");
                read.failed(&mut self.budgets, slot, failure, now, self.random.draw());
            }
            *state = read;
        }
    }

    /// What one slot needs; seconds until it is looked at again.
    fn step(&mut self, at: usize) -> u64 {
        self.steps += 1;
        self.clock.tick(self.local(), self.now);
        let now = self.plan_now();
        let (state, slot) = (&mut self.states[at], &self.slots[at]);
        match state.next(slot, &mut self.budgets, now) {
            Next::Order(order) => {
                self.place(at, &order);
                1
            }
            Next::PollRenewalInfo { directory, ari_id } => {
                self.poll(at, &directory, &ari_id);
                1
            }
            Next::Wait(until) => {
                assert!(until > now, "a wait is not over");
                until - now
            }
            Next::Unorderable(reason) => panic!("{reason}"),
        }
    }

    /// The first request to an authority.
    fn contact(&mut self, authority: usize) -> Result<(), Failure> {
        let local = self.local();
        let authority = &mut self.authorities[authority];
        authority.contacts.push(self.now);
        match authority.outage(self.now) {
            Some(Outage::Refused) => Err(Failure::new(FailureKind::Connect, "refused")),
            Some(Outage::Unavailable(retry_after)) => {
                self.clock.observe(self.now, local);
                let failure = Failure::new(FailureKind::Unavailable, "503");
                Err(Failure { retry_after: Some(retry_after), ..failure })
            }
            _ => {
                self.clock.observe(self.now, local);
                Ok(())
            }
        }
    }

    fn place(&mut self, at: usize, order: &Order) {
        let now = self.plan_now();
        self.states[at].started(&mut self.budgets, &self.slots[at], order, now);
        if self.crash_each > 0 && self.random.below(self.crash_each) == 0 {
            self.restart();
            return;
        }
        self.histories[at].attempts.push(self.now);
        let place = self.authorities.iter().position(|one| one.directory == order.directory).unwrap();
        let contact = self.contact(place);
        let now_then = self.plan_now();
        if contact.is_ok() && self.looks_twice && now_then.abs_diff(now) > 300 {
            self.states[at].abandoned(&mut self.budgets, &self.slots[at]);
            let next = self.states[at].next(&self.slots[at], &mut self.budgets, now_then);
            let Next::Order(again) = next else { return };
            self.states[at].started(&mut self.budgets, &self.slots[at], &again, now_then);
        }
        let draw = self.random.draw();
        let result = contact.and_then(|()| self.finish(at, place, order));
        let now = self.plan_now();
        let (state, slot) = (&mut self.states[at], &self.slots[at]);
        if let Err(failure) = result {
            let retry = failure.retry_after.unwrap_or(0);
            let unavailable = failure.kind == FailureKind::Unavailable;
            state.failed(&mut self.budgets, slot, failure, now, draw);
            assert!(state.failing.as_ref().unwrap().next_try() > now, "a failure is followed by a wait");
            let closed = self.budgets.authority_closed_until(&order.directory);
            assert!(!unavailable || closed >= now + retry.min(7 * DAY), "Retry-After holds for all");
        }
    }

    fn finish(&mut self, at: usize, place: usize, order: &Order) -> Result<(), Failure> {
        let names: Vec<String> = self.slots[at].identifiers.iter().map(ToString::to_string).collect();
        let authority = &mut self.authorities[place];
        let mut result = authority.order(&names, order.replaces.as_deref(), self.now);
        if result == Err("alreadyReplaced") {
            self.states[at].replaces_refused();
            result = authority.order(&names, None, self.now);
        }
        let certificate = result.map_err(|text| {
            let failed = names.iter().map(|name| (name.clone(), ChallengeKind::TlsAlpn01)).collect();
            Failure { names: failed, ..Failure::new(FailureKind::Authorization, text) }
        })?;
        let local = self.local();
        self.clock.issued(certificate.not_before, certificate.not_after, local);
        let now = self.plan_now();
        let draw = self.random.draw();
        self.guard(at, order.reason, certificate.life());
        self.histories[at].issued.push((self.now, order.reason));
        let (state, slot) = (&mut self.states[at], &self.slots[at]);
        state.issued(&mut self.budgets, slot, certificate, now, draw);
        assert!(state.failing.is_none() && state.severity(now).is_none(), "all is well after an issuance");
        Ok(())
    }

    /// Certificates of one slot keep their distance.
    fn guard(&self, at: usize, reason: Reason, life: u64) {
        let Some((last, _)) = self.histories[at].issued.last() else { return };
        let least = match reason {
            Reason::Forced => 0,
            Reason::RenewalInfo | Reason::Revoked => (life / 10).min(DAY),
            Reason::Missing | Reason::Changed => (life / 10).min(HOUR),
            _ => life / 10,
        };
        // With a clock that stepped, one issuance comes at any time; tests of clocks count them.
        if self.skew == 0 && !self.clock.is_suspect() {
            assert!(self.now - last >= least, "{reason:?} {} s after the last", self.now - last);
        }
    }

    fn poll(&mut self, at: usize, directory: &str, ari_id: &str) {
        let place = self.authorities.iter().position(|one| one.directory == directory).unwrap();
        let certificate = self.states[at].certificate.clone().unwrap();
        assert_eq!(certificate.ari_id.as_deref(), Some(ari_id));
        let contact = self.contact(place);
        let jitter = self.random.signed();
        let answer = match contact {
            Ok(()) => self.authorities[place]
                .renewal_info(&certificate, self.now, jitter)
                .ok_or(RenewalInfoError::default()),
            Err(failure) => Err(RenewalInfoError { retry_after: failure.retry_after }),
        };
        let now = self.plan_now();
        let draw = self.random.draw();
        let warned = self.states[at].renewal_info(answer, now, draw);
        self.histories[at].warnings += usize::from(warned.is_some());
        let ari = &self.states[at].ari;
        if let (Some(window), Some(selected)) = (ari.window, ari.selected) {
            assert!((window.start..window.end).contains(&selected), "{selected} in {window:?}");
        }
        assert!(ari.next_poll() > now, "a question is followed by a wait");
    }
}

/// Through JSON and back.
pub fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}
