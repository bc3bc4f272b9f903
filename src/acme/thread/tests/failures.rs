//! Authorities that are down, hang, refuse or limit, and challenges that fail.

use std::sync::Arc;

use crate::acme::ca::Step;
use crate::acme::commands;
use crate::acme::fake_ca::Fault;
use crate::acme::status::{Severity, State, Status};
use crate::acme::thread::engine::Engine;
use crate::acme::thread::testing::{DAY, authority, names_refused, simulate, slot, wait, with_policy};
use crate::config::model::{
    Authority, ChallengeKind, DnsMeans, DnsProvider, ExternalAccount, Propagation, Secret,
};

/// An answer with `Retry-After`.
fn later(status: u16, kind: &'static str, seconds: u32, body: &str) -> Fault {
    Fault::Answer(status, kind, vec![("retry-after", seconds.to_string())], body.to_owned())
}

fn limited(seconds: u32, detail: &str) -> Fault {
    let body = format!(r#"{{"type":"urn:ietf:params:acme:error:rateLimited","detail":"{detail}"}}"#);
    later(429, "application/problem+json", seconds, &body)
}

#[test]
fn ca_down_is_tried_after_1_and_10_and_100_minutes() {
    simulate("down", async |bench| {
        bench.ca.set(|ca| ca.is_down = true);
        bench
            .process(async |process| {
                bench.until("first failure", 5, || bench.said("no certificate from ca.test") == 1).await;
                assert_eq!(bench.ca.log(), [Step::Directory]);
                assert_eq!(process.slot("a.test").state, State::Backoff);
                wait(50).await;
                assert_eq!(bench.ca.log().len(), 1, "no second connection within a minute");
                bench.until("second", 20, || bench.ca.log().len() == 2).await;
                wait(9 * 60 - 10).await;
                assert_eq!(bench.ca.log().len(), 2);
                bench.until("third", 150, || bench.ca.log().len() == 3).await;
                bench.ca.set(|ca| ca.is_down = false);
                wait(88 * 60).await;
                assert_eq!(bench.ca.log().len(), 3);
                bench.until("issued on the next", 25 * 60, || bench.on_disk("a.test").is_some()).await;
                bench.until("said so", 5, || process.slot("a.test").failures == 0).await;
                assert_eq!(process.slot("a.test").failed.get("connect"), Some(&3));
            })
            .await;
        assert_eq!(
            bench.said("(attempt 2, next try in 10 min; there is no certificate)")
                + bench.said("(attempt 2, next try in 9 min; there is no certificate)"),
            1
        );
    });
}

#[test]
fn ca_down_at_start_serves_what_is_on_disk() {
    simulate("downstart", async |bench| {
        bench.first_certificates().await;
        bench.ca.set(|ca| ca.is_down = true);
        let before = bench.served("a.test").len();
        let wanted = bench.wanted();
        assert_eq!(wanted.loaded.len(), 1, "without any thread");
        assert_eq!(bench.served("a.test").len(), before + 1);
        drop(wanted);
        bench.process(async |_| wait(3000).await).await;
        assert_eq!(bench.said("no certificate"), 0, "nothing is due");
    });
}

#[test]
fn ca_hangs_and_other_slots_go_on() {
    simulate("hangs", async |mut bench| {
        bench.slots =
            ["a.test", "b.test", "c.test", "d.test"].map(|n| slot(&[n], ChallengeKind::Http01)).into();
        bench.ca.inject(Step::NewOrder, Fault::Hang, 1);
        bench
            .process(async |_| {
                let stored =
                    || bench.slots.iter().filter(|s| bench.on_disk(&s.name.to_string()).is_some()).count();
                bench.until("three others", 50, || stored() == 3).await;
                assert_eq!(bench.said("no certificate"), 0);
                bench.until("the attempt ends", 61, || bench.said("newOrder") == 1).await;
                bench.until("the fourth", 70, || stored() == 4).await;
            })
            .await;
    });
}

#[test]
fn a_503_page_with_retry_after_stops_the_whole_ca() {
    simulate("unavailable", async |mut bench| {
        bench.slots = ["a.test", "b.test", "c.test"].map(|n| slot(&[n], ChallengeKind::Http01)).into();
        bench.ca.inject(Step::NewOrder, later(503, "text/html", 120, "<html>maintenance"), 2);
        bench
            .process(async |process| {
                bench
                    .until("two failures", 5, || bench.said("newOrder at /new-order: status 503") == 2)
                    .await;
                let asked = bench.ca.log().len();
                wait(115).await;
                assert_eq!(bench.ca.log().len(), asked, "nothing at all, of no slot");
                assert_eq!(process.slot("a.test").failed.get("unavailable"), Some(&1));
                let until = process.handle.status().authorities[0].retry_after;
                assert!(until > Some(bench.clock.right()));
                let all = || bench.slots.iter().all(|s| bench.on_disk(&s.name.to_string()).is_some());
                bench.until("all three", 90, all).await;
            })
            .await;
    });
}

#[test]
fn a_429_of_a_day_outlives_a_restart_and_stops_no_other_account() {
    simulate("limited", async |mut bench| {
        bench.ca.inject(Step::NewOrder, limited(86_400, "too many certificates"), 1);
        bench
            .process(async |_| {
                bench.until("refused", 5, || bench.said("too many certificates") == 1).await;
            })
            .await;
        assert_eq!(bench.said("next try in 1 d") + bench.said("next try in 23 h"), 1, "{:?}", bench.said);
        let mac = bench.scratch.path.join("mac");
        std::fs::write(&mac, "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0").unwrap();
        let mut other = slot(&["b.test"], ChallengeKind::Http01);
        let eab = ExternalAccount { kid: "k2".into(), hmac: Secret::File(mac) };
        with_policy(&mut other, |policy| policy.authorities[0].eab = Some(eab));
        bench.slots.push(other);
        let asked = bench.ca.requests(Step::NewOrder);
        bench
            .process(async |_| {
                bench.until("the other account", 60, || bench.on_disk("b.test").is_some()).await;
                bench.clock.suspend(DAY - 200);
                wait(60).await;
                assert_eq!(bench.ca.requests(Step::NewOrder), asked + 1, "that of the other account");
                bench.until("a day later", 300, || bench.on_disk("a.test").is_some()).await;
            })
            .await;
    });
}

#[test]
fn paused_is_blocked_and_its_link_is_said() {
    simulate("paused", async |bench| {
        let detail = "Your account is temporarily prevented from requesting certificates for a.test. \
                      Please visit https://portal.ca.test/unpause?jwt=x";
        bench.ca.inject(Step::NewOrder, limited(3600, detail), 9);
        bench
            .process(async |process| {
                bench.until("refused", 5, || bench.said("https://portal.ca.test/unpause?jwt=x") == 1).await;
                bench.until("blocked", 2, || process.slot("a.test").state == State::Blocked).await;
                assert_eq!(process.slot("a.test").severity, Severity::Error);
                assert_eq!(process.handle.status().exit_code(), 1);
                wait(20 * 3600).await;
                assert_eq!(bench.ca.requests(Step::NewOrder), 1, "once a day");
            })
            .await;
    });
}

#[test]
fn an_invalid_order_without_an_error_names_each_challenges() {
    simulate("invalid", async |mut bench| {
        bench.slots = vec![slot(&["a.test", "b.test"], ChallengeKind::Http01)];
        bench.ca.set(|ca| {
            ca.omits_order_error = true;
            ca.validator = names_refused(&["b.test"]);
        });
        bench
            .process(async |process| {
                bench.until("refused", 60, || bench.said("a.test: no certificate") == 1).await;
                assert_eq!(
                    bench.said("b.test by http-01: unauthorized: no route to b.test"),
                    1,
                    "{:?}",
                    bench.said
                );
                assert_eq!(process.slot("a.test").failed.get("authorization"), Some(&1));
                assert!(bench.served("a.test").is_empty());
                bench.ca.set(|ca| ca.validator = Arc::new(|_, _, _| Ok(())));
                bench.until("mended", 90, || bench.on_disk("a.test").is_some()).await;
            })
            .await;
    });
}

#[test]
fn a_challenge_that_fails_gives_way_to_the_next_kind() {
    simulate("fallback", async |mut bench| {
        with_policy(&mut bench.slots[0], |policy| {
            policy.challenges = vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01];
        });
        bench.ca.set(|ca| {
            ca.validator = Arc::new(|_, kind, _| {
                (kind == "tls-alpn-01").then_some(()).ok_or("port 80 is shut".to_owned())
            });
        });
        bench.process(async |_| bench.until("by 443", 120, || bench.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.said("port 80 is shut"), 1);
    });
}

#[test]
fn an_authority_down_for_an_hour_gives_way_to_the_next() {
    simulate("next", async |mut bench| {
        bench.other.set(|ca| ca.is_down = true);
        with_policy(&mut bench.slots[0], |policy| {
            let first = Authority { directory: "https://other.test/directory".into(), ..authority() };
            policy.authorities.insert(0, first);
        });
        bench
            .process(async |_| {
                wait(55 * 60).await;
                assert!(bench.ca.log().is_empty());
                bench.until("the next", 3 * 3600, || bench.on_disk("a.test").is_some()).await;
            })
            .await;
        assert!(bench.said("no certificate from other.test") >= 2);
        assert_eq!(bench.said("new certificate from ca.test"), 1);
    });
}

#[test]
fn external_account_is_needed_and_given() {
    simulate("eab", async |mut bench| {
        bench.ca.set(|ca| ca.requires_external = true);
        bench
            .process(async |process| {
                bench.until("refused", 5, || bench.said("externalAccountRequired") == 1).await;
                assert_eq!(process.slot("a.test").state, State::Blocked);
            })
            .await;
        let mac = bench.scratch.path.join("mac");
        std::fs::write(&mac, "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\n").unwrap();
        let eab = ExternalAccount { kid: "k1".into(), hmac: Secret::File(mac) };
        with_policy(&mut bench.slots[0], |policy| policy.authorities[0].eab = Some(eab));
        bench.process(async |_| bench.until("at once", 30, || bench.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.said("c2VjcmV0"), 0);
    });
}

#[test]
fn a_profile_that_the_ca_lacks_is_refused_before_an_order() {
    simulate("profile", async |mut bench| {
        with_policy(&mut bench.slots[0], |policy| policy.profile = Some("nope".into()));
        bench
            .process(async |process| {
                bench.until("refused", 5, || bench.said("profile nope is not offered") == 1).await;
                assert_eq!(process.slot("a.test").state, State::Blocked);
            })
            .await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 0);
    });
}

/// A name server that knows no name, and a slot whose records a script writes.
fn scripted(bench: &mut crate::acme::thread::testing::Bench, script: &str) -> std::path::PathBuf {
    let log = bench.scratch.path.join("log");
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = server.recv_from(&mut query) {
            // The question alone, back as an answer: no such name.
            let question = query[12..length].iter().position(|byte| *byte == 0).unwrap() + 12 + 5;
            let mut answer = query[..question].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
            let _ = server.send_to(&answer, from);
        }
    });
    let script = format!("echo $0 $1 >> {}; {script}", log.display());
    let provider = DnsProvider {
        name: "corp".into(),
        means: DnsMeans::Exec {
            command: vec!["/bin/sh".into(), "-c".into(), script],
            raw: false,
            timeout: std::time::Duration::from_secs(1),
        },
        propagation: Propagation::None,
        propagation_timeout: std::time::Duration::from_secs(1),
        resolvers: vec![address],
    };
    bench.slots = vec![slot(&["*.a.test"], ChallengeKind::Dns01)];
    with_policy(&mut bench.slots[0], |policy| policy.dns = Some(Arc::new(provider)));
    log
}

async fn really_until(holds: impl Fn() -> bool) {
    tokio::time::resume();
    while !holds() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[test]
fn dns_hook_writes_and_cleans_up() {
    simulate("dnsok", async |mut bench| {
        let log = scripted(&mut bench, "exit 0");
        bench.process(async |_| really_until(|| bench.on_disk("*.a.test").is_some()).await).await;
        let text = std::fs::read_to_string(log).unwrap();
        assert_eq!(text, "present _acme-challenge.a.test.\ncleanup _acme-challenge.a.test.\n");
    });
}

#[test]
fn dns_hook_fails_or_hangs_with_its_output_and_cleanup() {
    for (name, script, said) in [
        ("dnsfail", "echo zone locked; test $0 = cleanup", "zone locked"),
        ("dnshang", "test $0 = cleanup || sleep 60", "killed"),
    ] {
        simulate(name, async |mut bench| {
            let log = scripted(&mut bench, script);
            let cleaned = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("cleanup"));
            bench.process(async |_| really_until(|| bench.said(said) > 0 && cleaned()).await).await;
            assert_eq!(
                bench.said("*.a.test: no certificate from ca.test: *.a.test: dns-01:"),
                1,
                "{:?}",
                bench.said
            );
            assert_eq!(bench.ca.requests(Step::Challenge), 0, "nothing was there to look at");
        });
    }
}

#[test]
fn an_account_that_another_order_registered_meanwhile_is_not_lost() {
    simulate("lost-twice", async |bench| {
        let (_, _, status) = commands::handle(Status::default());
        let engine = Engine::new(bench.outside(), &bench.wanted(), status, 0);
        let word = "ca.test/directory";
        engine.store().save_account(word, br#"{"id":"https://ca.test/account/2"}"#).unwrap();
        engine.lose_account(&authority(), "https://ca.test/account/1").unwrap();
        assert!(engine.store().account(word).unwrap().is_some());
        engine.lose_account(&authority(), "https://ca.test/account/2").unwrap();
        assert!(engine.store().account(word).unwrap().is_none());
        engine.lose_account(&authority(), "https://ca.test/account/2").unwrap();
    });
}
