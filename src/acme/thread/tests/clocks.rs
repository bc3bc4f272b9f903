//! Clocks that are wrong or jump, and certificates that have ended.

use crate::acme::ca::Step;
use crate::acme::thread::testing::{DAY, simulate, wait};

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
