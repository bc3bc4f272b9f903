//! Decisions one by one: reasons, `replaces`, authorities, budgets, restarts.

use super::*;
use crate::acme::plan::simulation_tests::{again, policy, slot};
use crate::acme::plan::{Draw, Failure, FailureKind, RenewalInfo, Restored, Window};
use crate::acme::slot::Identifier;
use crate::config::model::Preset;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const NOW: u64 = 2_000_000_000;
const CA: &str = "https://ca.test/directory";
const OTHER: &str = "https://other.test/directory";
const DRAW: Draw = Draw(1 << 63);

struct Bench {
    slot: Slot,
    state: SlotState,
    budgets: Budgets,
}

impl Bench {
    fn new(presets: &[(&str, Option<Preset>)]) -> Self {
        let slot = slot("a.lockring.dev", &policy(presets));
        Self { slot, state: SlotState::default(), budgets: Budgets::default() }
    }

    fn public() -> Self {
        Self::new(&[(CA, Some(Preset::LetsEncrypt))])
    }

    fn next(&mut self, now: u64) -> Next {
        self.state.next(&self.slot, &mut self.budgets, now)
    }

    fn order(&mut self, now: u64) -> Order {
        match self.next(now) {
            Next::Order(order) => order,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, now: u64) -> u64 {
        match self.next(now) {
            Next::Wait(until) => until - now,
            other => panic!("{other:?}"),
        }
    }

    fn certificate(&self, now: u64) -> Certificate {
        Certificate {
            ari_id: Some(format!("aki.{now}")),
            not_before: now,
            not_after: now + 90 * DAY,
            directory: CA.to_owned(),
            identifiers: vec!["a.lockring.dev".to_owned()],
            key: "p256".to_owned(),
            profile: None,
        }
    }

    fn start(&mut self, now: u64) -> Order {
        let order = self.order(now);
        self.state.started(&mut self.budgets, &self.slot, &order, now);
        order
    }

    fn issue(&mut self, now: u64) -> Order {
        let order = self.start(now);
        let new = self.certificate(now);
        self.state.issued(&mut self.budgets, &self.slot, new, now, DRAW);
        order
    }

    fn fail(&mut self, failure: Failure, now: u64) {
        self.start(now);
        self.state.failed(&mut self.budgets, &self.slot, failure, now, DRAW);
    }

    fn window(&mut self, start: u64, now: u64) {
        let window = Window { start, end: start + 10 };
        let info = RenewalInfo { window, explanation: None, retry_after: None };
        self.state.renewal_info(Ok(info), now, DRAW);
    }
}

#[test]
fn reasons_in_the_order_of_what_counts() {
    let mut bench = Bench::public();
    assert_eq!(bench.issue(NOW).reason, Reason::Missing);
    let backstop = bench.state.due_at();
    assert_eq!(backstop, NOW + 60 * DAY - 90 * DAY / 100, "a jitter of one percent");
    bench.state.ari.wait = 1000 * DAY;
    assert_eq!(bench.wait(NOW + 1), DAY, "the longest wait");
    assert_eq!(bench.wait(backstop - 5), 5);
    assert_eq!(bench.order(backstop).reason, Reason::Backstop);
    let emergency = NOW + 90 * DAY - 90 * DAY / 20;
    assert_eq!(bench.order(emergency).reason, Reason::Emergency);
    assert_eq!(bench.order(NOW + 90 * DAY).reason, Reason::Expired);
    bench.window(NOW + 89 * DAY, NOW);
    bench.state.ari.wait = 1000 * DAY;
    assert_eq!(bench.wait(backstop), DAY, "renewal information beats the backstop");
    assert_eq!(bench.order(emergency).reason, Reason::Emergency, "but not the emergency");
    bench.window(NOW + DAY, NOW);
    assert_eq!(bench.order(NOW + 2 * DAY).reason, Reason::RenewalInfo);
    let mut changed = bench.slot.clone();
    changed.identifiers.push(Identifier::Dns("b.lockring.dev".to_owned()));
    let next = bench.state.next(&changed, &mut bench.budgets, NOW + DAY);
    assert!(matches!(next, Next::Order(Order { reason: Reason::Changed, .. })), "{next:?}");
    bench.state.revoked(NOW);
    assert_eq!(bench.order(NOW + DAY).reason, Reason::Revoked);
    bench.state.force();
    assert_eq!(bench.order(NOW + 1).reason, Reason::Forced);
}

#[test]
fn replaces_is_said_once_to_the_authority_that_issued() {
    let mut bench = Bench::public();
    assert_eq!(bench.issue(NOW).replaces, None);
    let due = NOW + 60 * DAY;
    assert_eq!(bench.order(due).replaces, None, "no renewal information, no `replaces`");
    bench.window(due - DAY, NOW);
    assert_eq!(bench.order(due).replaces, Some(format!("aki.{NOW}")));
    assert_eq!(bench.order(NOW + 90 * DAY).replaces, None, "expired");
    let mut renamed = bench.slot.clone();
    renamed.identifiers = vec![Identifier::Dns("b.lockring.dev".to_owned())];
    let next = bench.state.next(&renamed, &mut bench.budgets, due);
    assert!(matches!(next, Next::Order(Order { replaces: None, .. })), "no name in common: {next:?}");
    let mut elsewhere = bench.state.clone();
    let other = slot("a.lockring.dev", &policy(&[(OTHER, None)]));
    let next = elsewhere.next(&other, &mut bench.budgets, due);
    assert!(matches!(next, Next::Order(Order { replaces: None, .. })), "another authority: {next:?}");
    bench.state.replaces_refused();
    assert_eq!(bench.order(due).replaces, None);
    bench.issue(due);
    assert!(!bench.state.replaces_spent, "the next certificate has its own");
}

#[test]
fn renewal_information_is_asked_of_the_issuer_while_valid() {
    let mut bench = Bench::public();
    bench.issue(NOW);
    let first = bench.wait(NOW);
    assert!((60..=600).contains(&first), "{first}");
    let poll = Next::PollRenewalInfo { directory: CA.to_owned(), ari_id: format!("aki.{NOW}") };
    assert_eq!(bench.next(NOW + first), poll);
    let elsewhere = slot("a.lockring.dev", &policy(&[(OTHER, None)]));
    bench.state.failing =
        Some(crate::acme::plan::Failing { last_at: NOW + first, wait: DAY, ..Default::default() });
    let next = bench.state.next(&elsewhere, &mut bench.budgets, NOW + first);
    assert_eq!(next, Next::Wait(NOW + first + DAY), "no longer in the configuration");
    assert!(matches!(bench.next(NOW + 91 * DAY), Next::Order(_)), "never after the end");
}

#[test]
fn a_limited_account_is_closed_for_all_its_slots() {
    let mut bench = Bench::public();
    let limited = Failure { retry_after: Some(DAY), ..Failure::new(FailureKind::RateLimited, "429") };
    bench.fail(limited, NOW);
    bench.state = again(&bench.state);
    bench.budgets = again(&bench.budgets);
    assert_eq!(bench.wait(NOW + 1), DAY - 1, "across a restart");
    let mut other = SlotState::default();
    let sibling = slot("b.lockring.dev", &bench.slot.policy);
    assert_eq!(other.next(&sibling, &mut bench.budgets, NOW + 1), Next::Wait(NOW + DAY));
    let private = slot("b.lockring.dev", &policy(&[(OTHER, None)]));
    assert!(matches!(other.next(&private, &mut bench.budgets, NOW + 1), Next::Order(_)));
    bench.state.force();
    assert_eq!(bench.wait(NOW + 1), DAY - 1, "the operator cannot open it either");
    assert!(matches!(bench.next(NOW + DAY), Next::Order(_)));
}

#[test]
fn blocked_requests_wait_for_a_change_or_a_day() {
    let mut bench = Bench::public();
    bench.state.config_changed(&bench.slot);
    bench.fail(Failure::new(FailureKind::Caa, "caa"), NOW);
    assert_eq!(bench.wait(NOW + 1), DAY - 1);
    assert!(!bench.state.config_changed(&bench.slot), "a reload alone changes nothing");
    assert_eq!(bench.wait(NOW + 1), DAY - 1);
    let mut policy = (*bench.slot.policy).clone();
    policy.challenges.reverse();
    bench.slot.policy = std::sync::Arc::new(policy);
    assert!(bench.state.config_changed(&bench.slot));
    assert!(matches!(bench.next(NOW + 1), Next::Order(_)));
}

#[test]
fn failed_authorizations_of_a_name_are_counted() {
    let mut bench = Bench::public();
    let kind = crate::config::model::ChallengeKind::TlsAlpn01;
    let names = vec![("a.lockring.dev".to_owned(), kind)];
    for at in [NOW, NOW + 10, NOW + 20] {
        bench.state.force();
        let failure = Failure::new(FailureKind::Authorization, "no answer");
        bench.fail(Failure { names: names.clone(), ..failure }, at);
    }
    assert_eq!(bench.state.challenges["a.lockring.dev"], "tls-alpn-01");
    bench.state.force();
    assert_eq!(bench.wait(NOW + 30), HOUR - 30);
    assert!(matches!(bench.next(NOW + HOUR), Next::Order(_)));
}

#[test]
fn certificates_of_a_set_are_counted_and_spaced() {
    let mut bench = Bench::public();
    for at in [0, 1, 2].map(|hours| NOW + hours * HOUR) {
        assert_eq!(bench.issue(at).reason, Reason::Missing);
        bench.state.certificate_missing();
        assert_eq!(bench.wait(at + 1).min(HOUR - 1), HOUR - 1, "lost again: an hour's wait");
    }
    let until = NOW + 7 * DAY;
    let at = NOW + 4 * HOUR;
    assert_eq!(bench.wait(at), DAY.min(until - at), "three in a week");
    bench.state.force();
    assert_eq!(bench.order(at).reason, Reason::Forced);
    // Its own authority counts nothing but the distance.
    let mut private = Bench::new(&[(CA, None)]);
    for hours in 0..10 {
        private.issue(NOW + hours * HOUR);
        private.state.certificate_missing();
    }
}

#[test]
fn orders_come_from_a_bucket_two_at_a_time() {
    let bench = Bench::public();
    let mut budgets = Budgets::default();
    let mut started = 0;
    for n in 0..30 {
        let slot = slot(&format!("s{n}.lockring.dev"), &bench.slot.policy);
        let mut state = SlotState::default();
        let Next::Order(order) = state.next(&slot, &mut budgets, NOW) else { break };
        state.started(&mut budgets, &slot, &order, NOW);
        started += 1;
        state.failed(&mut budgets, &slot, Failure::new(FailureKind::Server, "500"), NOW, DRAW);
    }
    assert_eq!(started, 20);
    let mut budgets = Budgets::default();
    for n in 0..30 {
        let slot = slot(&format!("s{n}.lockring.dev"), &bench.slot.policy);
        let mut state = SlotState::default();
        let Next::Order(order) = state.next(&slot, &mut budgets, NOW) else {
            panic!("a look is no order: {n}")
        };
        state.started(&mut budgets, &slot, &order, NOW);
        state.failed(&mut budgets, &slot, Failure::new(FailureKind::Preflight, "no address"), NOW, DRAW);
    }
    let (mut one, mut two, mut three) = (Bench::public(), Bench::public(), Bench::public());
    for (bench, name) in [(&mut one, "one.dev"), (&mut two, "two.dev"), (&mut three, "three.dev")] {
        bench.slot = slot(name, &bench.slot.policy);
    }
    one.start(NOW);
    two.budgets = one.budgets.clone();
    two.start(NOW);
    three.budgets = two.budgets.clone();
    assert_eq!(three.wait(NOW), 50 * 60, "until one of the two is over at the latest");
    two.state.abandoned(&mut three.budgets, &two.slot);
    assert!(matches!(three.next(NOW), Next::Order(_)));
}

#[test]
fn an_order_cut_off_is_resumed_a_few_times() {
    let mut bench = Bench::public();
    bench.start(NOW);
    for _ in 0..3 {
        bench.state = again(&bench.state);
        let restored = bench.state.restored(&mut bench.budgets, &bench.slot, NOW + 10, DRAW);
        assert_eq!(restored, Restored::Resume);
        assert!(matches!(bench.next(NOW + 10), Next::Wait(_)), "no second order");
    }
    let restored = bench.state.restored(&mut bench.budgets, &bench.slot, NOW + 10, DRAW);
    assert_eq!(restored, Restored::GivenUp);
    assert_eq!(bench.wait(NOW + 10), 60);
    let restored = bench.state.restored(&mut bench.budgets, &bench.slot, NOW + 20, DRAW);
    assert_eq!(restored, Restored::Idle);
    bench.start(NOW + 100);
    let restored = bench.state.restored(&mut bench.budgets, &bench.slot, NOW + 100 + HOUR, DRAW);
    assert_eq!(restored, Restored::GivenUp, "too old");
}

#[test]
fn a_limited_authority_is_left_for_the_next_after_an_hour() {
    let mut bench = Bench::new(&[(CA, Some(Preset::LetsEncrypt)), (OTHER, Some(Preset::ZeroSsl))]);
    let limited = Failure { retry_after: Some(7 * DAY), ..Failure::new(FailureKind::RateLimited, "429") };
    bench.fail(limited, NOW);
    assert_eq!(bench.wait(NOW + 100), HOUR - 100);
    let order = bench.order(NOW + HOUR);
    assert_eq!((order.authority, order.directory.as_str()), (1, OTHER));
    bench.fail(Failure::new(FailureKind::Server, "500"), NOW + HOUR);
    // Both are in trouble then; the one that may be contacted goes on.
    assert_eq!(bench.order(NOW + 4 * HOUR).authority, 1);
}

#[test]
fn names_of_nobody_are_not_ordered() {
    let mut bench = Bench::public();
    bench.slot = slot("a.example", &bench.slot.policy);
    assert_eq!(bench.next(NOW), Next::Unorderable(Unorderable::Reserved("example")));
    let mut both = Bench::new(&[(CA, Some(Preset::LetsEncrypt)), (OTHER, None)]);
    both.slot = slot("a.example", &both.slot.policy);
    assert_eq!(both.order(NOW).authority, 1);
}

#[test]
fn state_of_other_versions_is_read() {
    let text = r#"{"version":9,"later":[1],"certificate":{"not_after":5,"later":{}},
        "failing":{"count":2,"kind":"from_a_later_version"},"ari":{"selected":7},"attempt":{"reason":"new"}}"#;
    let read: SlotState = serde_json::from_str(text).unwrap();
    assert_eq!(read.certificate.as_ref().map(|certificate| certificate.not_after), Some(5));
    assert_eq!(read.failing.as_ref().map(|failing| failing.kind), Some(FailureKind::Other));
    assert_eq!(read.attempt.as_ref().map(|attempt| attempt.reason), Some(Reason::Backstop));
    assert_eq!(serde_json::from_str::<SlotState>("{}").unwrap(), SlotState::default());
    assert!(serde_json::from_str::<Budgets>(r#"{"accounts":{"x":{}}}"#).is_ok());
}

#[test]
fn looks_come_before_first_orders_and_after_failures_of_control() {
    let mut bench = Bench::public();
    bench.start(NOW);
    assert!(wants_preflight(&bench.state), "there never was one");
    bench.state.attempt = None;
    bench.issue(NOW);
    assert!(!wants_preflight(&bench.state), "it worked before");
    let due = NOW + 60 * DAY;
    for (kind, looks) in [
        (FailureKind::Server, false),
        (FailureKind::Authorization, true),
        (FailureKind::Caa, true),
        (FailureKind::Preflight, true),
    ] {
        let mut failed =
            Bench { slot: bench.slot.clone(), state: bench.state.clone(), budgets: bench.budgets.clone() };
        failed.state.failed(&mut failed.budgets, &failed.slot, Failure::new(kind, "x"), due, DRAW);
        assert_eq!(wants_preflight(&failed.state), looks, "{kind:?}");
        for (reason, looks) in
            [(Reason::Backstop, looks), (Reason::Forced, false), (Reason::Emergency, false)]
        {
            let attempt = crate::acme::plan::Attempt { reason, ..Default::default() };
            failed.state.attempt = Some(attempt);
            assert_eq!(wants_preflight(&failed.state), looks, "{kind:?} {reason:?}");
        }
    }
}
