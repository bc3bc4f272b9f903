//! When a certificate is renewed, and commands that ask for it.

use crate::acme::ca::{Reason, Step};
use crate::acme::commands::CommandError;
use crate::acme::fake_ca::Fault;
use crate::acme::status::State;
use crate::acme::thread::testing::{DAY, simulate, slot, wait, with_policy};
use crate::config::model::{ChallengeKind, KeyKind};

#[test]
fn without_renewal_information_it_is_renewed_at_a_third_of_its_life() {
    simulate("backstop", async |bench| {
        bench.ca.set(|ca| ca.has_renewal_info = false);
        bench.first_certificates().await;
        bench
            .process(async |_| {
                bench.clock.suspend(57 * DAY);
                wait(3600).await;
                assert_eq!(bench.ca.issued(), 1, "not yet");
                bench.clock.suspend(3 * DAY);
                bench.until("renewed", 120, || bench.ca.issued() == 2).await;
                wait(5).await;
            })
            .await;
        assert_eq!(bench.on_disk("a.test"), bench.served("a.test").last().map(|pair| pair.serial_hex()));
        assert_eq!(bench.said("the clock of this machine jumped"), 0, "a suspended machine's did not");
    });
}

#[test]
fn a_window_of_renewal_information_is_kept_to_once_with_replaces() {
    simulate("window", async |bench| {
        // Two certificates that the authority asks for lie a day apart at least.
        let start = bench.clock.right() + DAY + 2000;
        bench.ca.set(|ca| ca.window = Some((start, start + 20)));
        bench
            .process(async |process| {
                bench.until("asked", 15 * 60, || process.slot("a.test").window_start == Some(start)).await;
                bench.clock.suspend(DAY);
                wait(60).await;
                assert_eq!(bench.ca.issued(), 1);
                // A refusal would show that it was not the first use of the identifier.
                bench.until("renewed", 2100, || bench.ca.issued() == 2).await;
                assert!((start..start + 60).contains(&bench.clock.right()));
                bench.ca.set(|ca| ca.window = None);
                wait(3600).await;
                assert_eq!(bench.ca.issued(), 2, "once");
            })
            .await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 2);
    });
}

#[test]
fn ari_in_the_past_as_for_a_revoked_certificate_renews_within_a_poll() {
    simulate("past", async |bench| {
        let later = bench.clock.right() + 40 * DAY;
        bench.ca.set(|ca| ca.window = Some((later, later + DAY)));
        bench
            .process(async |process| {
                bench.until("asked", 15 * 60, || process.slot("a.test").window_start.is_some()).await;
                bench.clock.suspend(10 * DAY);
                let now = bench.clock.right();
                bench.ca.set(|ca| ca.window = Some((now - 3600, now - 1800)));
                bench.until("renewed", 7 * 3600, || bench.ca.issued() == 2).await;
            })
            .await;
        assert_eq!(bench.said("its authority moved the time of renewal"), 1);
        assert_eq!(bench.said("see https://ca.test/why"), 1);
    });
}

#[test]
fn ari_malformed_or_backwards_or_404_or_without_retry_after_keeps_the_schedule() {
    simulate("odd-ari", async |bench| {
        let start = bench.clock.right() + 40 * DAY;
        bench.ca.set(|ca| ca.window = Some((start, start + DAY)));
        bench
            .process(async |process| {
                bench.until("asked", 15 * 60, || process.slot("a.test").window_start == Some(start)).await;
                let due = process.slot("a.test").renew_at;
                for change in ["malformed", "backwards", "404"] {
                    let asked = bench.ca.requests(Step::RenewalInfo);
                    match change {
                        "malformed" => bench.ca.inject(
                            Step::RenewalInfo,
                            Fault::Answer(
                                200,
                                "application/json",
                                Vec::new(),
                                "{\"suggestedWindow\":".into(),
                            ),
                            1,
                        ),
                        "backwards" => bench.ca.set(|ca| ca.window = Some((start, start - DAY))),
                        _ => bench.ca.set(|ca| ca.window = None),
                    }
                    bench.clock.suspend(6 * 3600);
                    bench.until(change, 120, || bench.ca.requests(Step::RenewalInfo) > asked).await;
                    wait(2).await;
                    assert_eq!(process.slot("a.test").renew_at, due, "{change}");
                }
                assert_eq!(bench.ca.issued(), 1);
            })
            .await;
        assert_eq!(bench.said("moved"), 0);
    });
}

#[test]
fn already_replaced_is_ordered_without_replaces_in_the_same_attempt() {
    simulate("replaced", async |bench| {
        let later = bench.clock.right() + 40 * DAY;
        bench.ca.set(|ca| ca.window = Some((later, later + DAY)));
        bench
            .process(async |process| {
                bench.until("asked", 15 * 60, || process.slot("a.test").window_start.is_some()).await;
                bench.ca.inject(Step::NewOrder, Fault::problem(409, "alreadyReplaced", "it is"), 1);
                assert_eq!(process.handle_renew(Some("a.test"), true).await, Ok(1));
                bench.until("renewed", 20, || bench.ca.issued() == 2).await;
            })
            .await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 3);
        assert_eq!(bench.said("no certificate"), 0, "one attempt, no failure");
    });
}

#[test]
fn account_lost_is_registered_anew_once() {
    simulate("lost", async |bench| {
        bench.first_certificates().await;
        bench.ca.set(|ca| ca.knows_accounts = false);
        bench
            .process(async |process| {
                wait(2).await;
                assert_eq!(process.handle_renew(None, true).await, Ok(1));
                bench.until("renewed", 30, || bench.ca.issued() == 2).await;
                wait(2).await;
            })
            .await;
        assert_eq!(bench.ca.requests(Step::NewAccount), 2);
        let account = bench.path("accounts/ca.test%2fdirectory/account.json");
        assert!(account.is_file() && account.with_extension("json.lost").is_file());
        assert_eq!(bench.said("does not know the account any more"), 1);
    });
}

#[test]
fn commands_are_carried_out_or_refused_by_name() {
    simulate("commands", async |bench| {
        bench.first_certificates().await;
        bench
            .process(async |process| {
                wait(2).await;
                let unknown = CommandError::Unknown("x.test".into());
                assert_eq!(process.handle_renew(Some("x.test"), false).await, Err(unknown));
                assert_eq!(process.handle_renew(Some("a.test"), false).await, Ok(0));
                wait(30).await;
                assert_eq!(bench.ca.issued(), 1, "it was not due");
                let before = bench.served("a.test").last().unwrap().certified_key().cert[0].to_vec();
                process.handle_revoke("a.test", Reason::KeyCompromise).await.unwrap();
                assert_eq!(bench.ca.revoked(), [before]);
                bench.until("a new one", 120, || bench.ca.issued() == 2).await;
            })
            .await;
    });
}

#[test]
fn a_reload_adds_removes_and_changes_slots() {
    simulate("reload", async |mut bench| {
        bench.slots.push(slot(&["b.test"], ChallengeKind::Http01));
        bench.first_certificates().await;
        bench
            .process(async |process| {
                wait(2).await;
                let mut changed = slot(&["a.test"], ChallengeKind::Http01);
                with_policy(&mut changed, |policy| policy.key = KeyKind::P384);
                let slots = vec![changed, slot(&["c.test"], ChallengeKind::Http01)];
                // A changed wish waits for the spacing of its set.
                bench.clock.suspend(3600);
                process.handle.reload(bench.model(), slots).unwrap();
                bench
                    .until("both", 120, || bench.ca.issued() == 4 && bench.on_disk("c.test").is_some())
                    .await;
                wait(2).await;
                let names: Vec<String> =
                    process.handle.status().slots.iter().map(|slot| slot.name.clone()).collect();
                assert_eq!(names, ["a.test", "c.test"]);
                assert_eq!(process.slot("a.test").state, State::Valid);
            })
            .await;
    });
}

#[test]
fn an_order_under_way_serves_the_sites_of_a_later_reload() {
    simulate("sites", async |bench| {
        bench.ca.set(|ca| ca.polls = 4);
        bench
            .process(async |process| {
                bench.until("answered", 60, || !bench.install.tokens.lock().unwrap().is_empty()).await;
                let mut moved = bench.slots.clone();
                moved[0].sites = vec![7];
                process.handle.reload(bench.model(), moved).unwrap();
                bench.until("issued", 60, || !bench.served("a.test").is_empty()).await;
                assert_eq!(*bench.install.sites.lock().unwrap(), [7]);
                assert_eq!(bench.ca.requests(Step::NewOrder), 1, "the same order");
            })
            .await;
    });
}

#[test]
fn a_slot_that_is_removed_gives_its_place_at_the_account_back() {
    simulate("places", async |mut bench| {
        let public = |name: &str| {
            let mut slot = slot(&[name], ChallengeKind::Http01);
            with_policy(&mut slot, |policy| {
                for authority in &mut policy.authorities {
                    authority.preset = Some(crate::config::model::Preset::LetsEncrypt);
                }
            });
            slot
        };
        bench.slots = vec![public("a.lockring.dev"), public("b.lockring.dev")];
        bench.ca.inject(Step::NewOrder, crate::acme::fake_ca::Fault::Hang, 2);
        bench
            .process(async |process| {
                bench.until("both ordered", 30, || bench.ca.requests(Step::NewOrder) == 2).await;
                process.handle.reload(bench.model(), vec![public("c.lockring.dev")]).unwrap();
                bench.until("the third", 120, || bench.on_disk("c.lockring.dev").is_some()).await;
            })
            .await;
    });
}
