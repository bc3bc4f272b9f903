//! Clocks that are wrong or jump, and certificates that have ended.

use std::sync::atomic::Ordering;

use crate::acme::ca::Step;
use crate::acme::fake_ca::Fault;
use crate::acme::thread::testing::{DAY, START, simulate, slot, wait, with_policy};
use crate::config::model::{Authority, ChallengeKind};

#[test]
fn clock_120_days_ahead_leads_to_one_issuance() {
    simulate("ahead", async |bench| {
        bench.clock.step(120 * DAY as i64);
        bench
            .process(async |process| {
                bench.until("issued", 60, || bench.ca.issued() == 1).await;
                wait(2 * 3600).await;
                assert_eq!(bench.ca.issued(), 1);
                assert!(process.slot("a.test").clock_suspect);
                assert!(process.handle.status().clock_skew > Some(119 * DAY as i64));
            })
            .await;
        assert_eq!(bench.said("check the clock"), 2, "when it was seen, and when it was proved");
        bench.process(async |_| wait(3600).await).await;
        assert_eq!(bench.ca.issued(), 1, "after a restart too");
        bench.clock.step(-120 * DAY as i64);
        bench.process(async |_| wait(3600).await).await;
        assert_eq!(bench.ca.issued(), 1, "and when it is set right");
    });
}

#[test]
fn clock_two_hours_behind_still_gets_a_certificate() {
    simulate("behind", async |bench| {
        bench.clock.step(-2 * 3600);
        bench
            .process(async |process| {
                bench.until("issued", 60, || bench.on_disk("a.test").is_some()).await;
                wait(3600).await;
                assert!(process.handle.status().clock_skew < Some(-7000));
            })
            .await;
        assert_eq!(bench.ca.issued(), 1);
        assert!(bench.said("check the clock") >= 1);
    });
}

#[test]
fn a_clock_that_is_stepped_while_running_leads_to_one_issuance_at_most() {
    simulate("stepped", async |bench| {
        bench
            .process(async |_| {
                bench.until("issued", 60, || bench.ca.issued() == 1).await;
                wait(120).await;
                bench.clock.step(100 * DAY as i64);
                wait(2 * 3600).await;
                assert!(bench.ca.issued() <= 2, "{}", bench.ca.issued());
                bench.clock.step(-100 * DAY as i64);
                let issued = bench.ca.issued();
                wait(2 * 3600).await;
                assert_eq!(bench.ca.issued(), issued);
            })
            .await;
        assert_eq!(bench.said("the clock of this machine jumped"), 2);
    });
}

#[test]
fn expired_at_start_is_served_and_renewed_at_once_without_ari() {
    simulate("expired", async |bench| {
        bench.ca.set(|ca| ca.life = 60);
        bench.process(async |_| bench.until("it", 30, || bench.on_disk("a.test").is_some()).await).await;
        bench.clock.suspend(3600);
        let (asked, served) = (bench.ca.requests(Step::RenewalInfo), bench.served("a.test").len());
        bench.ca.set(|ca| ca.life = 90 * DAY);
        bench
            .process(async |_| {
                assert_eq!(bench.served("a.test").len(), served + 1, "the expired one");
                bench.until("renewed", 20, || bench.ca.issued() == 2).await;
                assert_eq!(bench.ca.requests(Step::RenewalInfo), asked);
            })
            .await;
        assert_eq!(bench.said("has expired and is still served"), 1);
    });
}

#[test]
fn expired_is_withdrawn_if_that_is_wanted() {
    simulate("refused", async |mut bench| {
        bench.acme.serve_expired = false;
        bench.ca.set(|ca| ca.life = 3 * 3600);
        bench
            .process(async |_| {
                bench.until("it", 30, || bench.on_disk("a.test").is_some()).await;
                bench.ca.set(|ca| ca.is_down = true);
                wait(4 * 3600).await;
                assert_eq!(*bench.install.withdrawn.lock().unwrap(), ["a.test"]);
            })
            .await;
        assert!(bench.wanted().loaded.is_empty(), "nor served at a start");
        assert_eq!(bench.said("is no longer served"), 1);
    });
}

#[test]
fn what_was_withdrawn_by_a_wrong_clock_comes_back() {
    simulate("back", async |mut bench| {
        bench.acme.serve_expired = false;
        bench.first_certificates().await;
        bench
            .process(async |_| {
                wait(5).await;
                bench.ca.set(|ca| ca.is_down = true);
                let served = bench.served("a.test").len();
                bench.clock.step(100 * DAY as i64);
                wait(120).await;
                assert_eq!(*bench.install.withdrawn.lock().unwrap(), ["a.test"]);
                assert_eq!(bench.served("a.test").len(), served);
                bench.clock.step(-100 * DAY as i64);
                wait(120).await;
                assert_eq!(bench.served("a.test").len(), served + 1, "put into service again");
                wait(600).await;
                assert_eq!(bench.served("a.test").len(), served + 1, "once");
            })
            .await;
        assert_eq!(bench.said("is served again"), 1);
    });
}

/// A slot at the second authority.
fn elsewhere(name: &str) -> crate::acme::slot::Slot {
    let mut slot = slot(&[name], ChallengeKind::Http01);
    with_policy(&mut slot, |policy| {
        let directory = "https://other.test/directory".to_owned();
        policy.authorities = vec![Authority { directory, preset: None, eab: None }];
    });
    slot
}

#[test]
fn an_authority_whose_clock_is_ahead_ends_no_certificate_of_another() {
    simulate("others", async |mut bench| {
        bench.acme.serve_expired = false;
        bench.slots.push(elsewhere("b.test"));
        bench.first_certificates().await;
        bench.other_ahead.store(1000 * DAY as i64, Ordering::Relaxed);
        bench.clock.suspend(61 * DAY);
        bench.ca.inject(Step::NewOrder, Fault::Refused, 2);
        bench
            .process(async |_| {
                wait(600).await;
                assert!(bench.said("the clock of this machine differs") > 0);
                assert!(bench.install.withdrawn.lock().unwrap().is_empty());
            })
            .await;
        assert_eq!(bench.said("the certificate has expired"), 0);
        assert!(bench.ca.issued() <= 4, "{}", bench.ca.issued());
    });
}

#[test]
fn authorities_whose_clocks_differ_do_not_keep_each_other_from_issuing() {
    simulate("differ", async |mut bench| {
        bench.slots.push(elsewhere("b.test"));
        bench.first_certificates().await;
        bench.other_ahead.store(1200, Ordering::Relaxed);
        bench.latency.store(50, Ordering::Relaxed);
        bench.clock.suspend(61 * DAY);
        // As an attempt at the other authority left it.
        let path = bench.path("budget.json");
        let mut ledger: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        ledger["clock"]["offset"] = 1200.into();
        std::fs::write(&path, ledger.to_string()).unwrap();
        let asked = || bench.ca.requests(Step::Directory) + bench.other.requests(Step::Directory);
        let before = asked();
        bench.process(async |_| bench.until("both", 60, || bench.ca.issued() == 4).await).await;
        assert!(asked() - before <= 8, "{}", asked() - before);
    });
}

#[test]
fn renewal_information_is_asked_for_after_the_clock_was_overruled() {
    simulate("overruled", async |mut bench| {
        bench.ca.set(|ca| ca.life = 200 * DAY);
        bench.first_certificates().await;
        bench.ca.set(|ca| ca.life = 90 * DAY);
        let long = std::mem::replace(&mut bench.slots, vec![slot(&["b.test"], ChallengeKind::Http01)]);
        bench.first_certificates().await;
        bench.slots.extend(long);
        bench.clock.suspend(10 * DAY);
        bench.clock.step(100 * DAY as i64);
        let window = |day: u64| Some((START + day * DAY, START + (day + 1) * DAY));
        bench.ca.set(|ca| ca.window = window(130));
        bench
            .process(async |process| {
                bench.until("b renewed", 60, || bench.ca.issued() == 3).await;
                wait(2 * 3600).await;
                bench.ca.set(|ca| ca.window = window(135));
                wait(DAY).await;
                assert_eq!(process.slot("a.test").window_start, Some(START + 135 * DAY));
            })
            .await;
        assert_eq!(bench.ca.issued(), 3);
    });
}
