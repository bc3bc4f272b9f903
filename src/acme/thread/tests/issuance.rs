//! What goes well, or odd but well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::acme::ca::Step;
use crate::acme::order;
use crate::acme::slot::Identifier;
use crate::acme::status::State;
use crate::acme::thread::testing::{simulate, slot, wait, with_policy};
use crate::config::model::{ChallengeKind, HostPattern};

#[test]
fn a_first_certificate_is_ordered_stored_and_served() {
    simulate("first", async |bench| {
        bench
            .process(async |process| {
                bench.until("in service", 60, || !bench.served("a.test").is_empty()).await;
                bench.until("valid", 5, || process.slot("a.test").state == State::Valid).await;
                let status = process.handle.status();
                assert!(status.leader);
                assert_eq!(status.exit_code(), 0);
                assert_eq!(status.slots[0].succeeded, 1);
                assert!(status.slots[0].renew_at > status.slots[0].not_before);
                assert!(!bench.install.tokens.lock().unwrap().is_empty(), "kept for slow validators");
                wait(31).await;
                assert!(bench.install.tokens.lock().unwrap().is_empty(), "and then forgotten");
            })
            .await;
        assert_eq!(bench.on_disk("a.test"), Some(bench.served("a.test")[0].serial_hex()));
        assert!(bench.store().order("a.test").unwrap().is_none(), "the order is over");
        assert_eq!(bench.said("new certificate from ca.test, ends in 90 d"), 1);
        let status = std::fs::read(bench.path("status.json")).unwrap();
        assert!(!String::from_utf8(status).unwrap().contains("PRIVATE"));
        // The next start serves it before it asks anybody.
        let asked = bench.ca.log().len();
        bench
            .process(async |process| {
                assert_eq!(bench.served("a.test").len(), 2, "by the start");
                wait(50).await;
                assert_eq!(process.slot("a.test").state, State::Valid);
            })
            .await;
        assert_eq!(bench.ca.log().len(), asked);
    });
}

#[test]
fn every_kind_of_name_is_shown() {
    simulate("kinds", async |mut bench| {
        bench.slots = vec![
            slot(&["a.test", "b.test", "c.test"], ChallengeKind::Http01),
            slot(&["d.test"], ChallengeKind::TlsAlpn01),
        ];
        let ip = "192.0.2.7".parse().unwrap();
        bench.slots[1].identifiers.push(Identifier::Ip(ip));
        with_policy(&mut bench.slots[1], |policy| policy.names.push(HostPattern::Ip(ip)));
        bench
            .process(async |_| {
                bench
                    .until("both", 60, || bench.on_disk("a.test").and(bench.on_disk("d.test")).is_some())
                    .await;
                wait(31).await;
            })
            .await;
        assert_eq!(bench.served("a.test")[0].names().len(), 3);
        assert_eq!(bench.served("d.test")[0].names().len(), 2);
        assert!(bench.install.names.lock().unwrap().is_empty(), "taken out of service");
        assert_eq!(bench.ca.requests(Step::NewAccount), 1, "one account for all");
    });
}

#[test]
fn authz_already_valid_or_order_born_ready_need_no_challenge() {
    simulate("ready", async |bench| {
        bench.ca.set(|ca| ca.authorizations_valid = true);
        bench.process(async |_| bench.until("it", 60, || bench.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.ca.requests(Step::Challenge), 0);
        assert!(bench.install.tokens.lock().unwrap().is_empty());
    });
}

#[test]
fn unknown_challenge_types_and_missing_tokens_are_ignored() {
    simulate("odd", async |bench| {
        bench.ca.set(|ca| ca.odd_challenges = true);
        bench.process(async |_| bench.until("it", 60, || bench.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.ca.requests(Step::Challenge), 1);
    });
}

#[test]
fn half_of_all_nonces_refused_does_not_matter() {
    simulate("nonces", async |mut bench| {
        bench.ca.set(|ca| ca.bad_nonces = 50);
        let names = ["a.test", "b.test", "c.test", "d.test", "e.test"];
        bench.slots = names.iter().map(|name| slot(&[name], ChallengeKind::Http01)).collect();
        bench
            .process(async |_| {
                bench.until("all", 60, || names.iter().all(|name| bench.on_disk(name).is_some())).await;
            })
            .await;
        assert_eq!(bench.ca.issued(), 5);
        assert_eq!(bench.said("no certificate"), 0);
    });
}

#[test]
fn two_orders_at_once_and_no_more() {
    simulate("atonce", async |mut bench| {
        let names = ["a.test", "b.test", "c.test", "d.test"];
        bench.slots = names.iter().map(|name| slot(&[name], ChallengeKind::Http01)).collect();
        let counts: Arc<AtomicUsize> = Arc::default();
        let placed = Arc::clone(&counts);
        // Each order that is placed is held there.
        bench.gate = Some(Arc::new(move |_, step| {
            if step == order::Step::Placed {
                placed.fetch_add(1, Ordering::Relaxed);
            }
            step == order::Step::Placed
        }));
        bench.process(async |_| wait(200).await).await;
        assert_eq!(counts.load(Ordering::Relaxed), 2);
        assert_eq!(bench.ca.requests(Step::NewOrder), 2);
    });
}

#[test]
fn a_pair_is_exported_and_the_hook_told() {
    simulate("export", async |mut bench| {
        let (out, log) = (bench.scratch.path.join("out"), bench.scratch.path.join("log"));
        std::fs::create_dir(&out).unwrap();
        bench.acme.export = Some(out.clone());
        let script =
            format!("echo $LOCKRING_EVENT $LOCKRING_NAME $LOCKRING_CERTIFICATE >> {}", log.display());
        bench.acme.hook = Some(vec!["/bin/sh".into(), "-c".into(), script]);
        bench
            .process(async |_| {
                // Programs run in real time.
                tokio::time::resume();
                let told = || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 2);
                while !told() {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        let text = std::fs::read_to_string(&log).unwrap();
        let current = bench.path("certs/a.test/current/certificate.pem");
        assert_eq!(text, format!("obtaining a.test\nobtained a.test {}\n", current.display()));
        let pem = std::fs::read(out.join("a.test.pem")).unwrap();
        let key = std::fs::read(out.join("a.test.key")).unwrap();
        assert!(crate::tls::certs::CertifiedPair::from_pem(&pem, &key).is_ok());
    });
}

#[test]
fn a_hook_that_refuses_stops_the_order() {
    simulate("veto", async |mut bench| {
        bench.acme.hook = Some(vec!["/bin/sh".into(), "-c".into(), "echo not today; exit 3".into()]);
        bench
            .process(async |_| {
                tokio::time::resume();
                while bench.said("the hook forbids it") == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        assert_eq!(bench.said("a.test: no certificate from ca.test: the hook forbids it"), 1);
        assert!(bench.said("not today") >= 1, "the hook's own words");
        assert!(bench.ca.log().is_empty(), "nobody was asked");
    });
}

#[test]
fn a_name_that_no_public_authority_vouches_for_is_said_once_and_never_asked() {
    simulate("unorderable", async |mut bench| {
        with_policy(&mut bench.slots[0], |policy| {
            policy.authorities[0].preset = Some(crate::config::model::Preset::LetsEncrypt);
        });
        bench
            .process(async |process| {
                wait(3 * 3600).await;
                assert_eq!(process.slot("a.test").state, State::Blocked);
                assert_eq!(process.handle.status().exit_code(), 1);
            })
            .await;
        assert!(bench.ca.log().is_empty());
        assert_eq!(bench.said("error: a.test: no public authority vouches for names under"), 1);
    });
}
