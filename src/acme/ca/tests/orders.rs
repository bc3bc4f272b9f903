//! Orders: challenges, polling, lost answers, profiles, replacement.

use super::*;

async fn ready_order(session: &Session) -> Order {
    let mut order = session.new_order(&names(&["a.example"]), Some("classic"), None).await.unwrap();
    answer(&mut order).await.unwrap();
    assert_eq!(order.poll_ready(PATIENCE).await.unwrap(), OrderStatus::Ready);
    order
}

#[test]
fn offers_hold_what_is_to_be_shown() {
    run(async {
        let fake = FakeCa::new();
        fake.set(|behaviour| behaviour.odd_challenges = true);
        let session = session(&fake).await;
        let mut order = session.new_order(&names(&["a.example", "*.a.example"]), None, None).await.unwrap();
        let found = order.authorizations().await.unwrap();
        let identifiers: Vec<String> = found.iter().map(|one| one.identifier.to_string()).collect();
        assert_eq!(identifiers, ["a.example", "*.a.example"]);
        let kinds: Vec<ChallengeKind> = found[0].offers.iter().map(|offer| offer.kind).collect();
        assert_eq!(kinds, ChallengeKind::ALL, "what is unknown is left out");
        assert_eq!(found[1].offers.len(), 2);
        let offer = &found[0].offers[0];
        assert_eq!(offer.key_authorization, format!("{}.{}", offer.token, session.thumbprint()));
        assert_eq!(offer.dns_value, base64url::encode(&offer.digest));
        assert_eq!(found[0].offers[3].token, "", "dns-persist-01 has none");

        // A known kind whose token is missing or no token is not on offer.
        for token in ["", ",\"token\":\"../../etc\"", ",\"token\":\"\""] {
            let body = format!(
                "{{\"status\":\"pending\",\"identifier\":{{\"type\":\"dns\",\"value\":\"a.example\"}},\"challenges\":\
                 [{{\"type\":\"http-01\",\"url\":\"https://ca.test/challenge/0/0\",\"status\":\"pending\"{token}}}]}}"
            );
            let mut order = session.order(order.url()).await.unwrap();
            fake.inject(Step::Authorization, Fault::Answer(200, "application/json", Vec::new(), body), 2);
            assert!(order.authorizations().await.unwrap().iter().all(|one| one.offers.is_empty()));
        }
    });
}

#[test]
fn challenges_are_asked_for_once() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let wanted = names(&["a.example"]);
        let mut order = session.new_order(&wanted, None, None).await.unwrap();
        order.set_ready(&wanted[0], ChallengeKind::Http01).await.unwrap();
        order.set_ready(&wanted[0], ChallengeKind::Http01).await.unwrap();
        assert_eq!(fake.requests(Step::Challenge), 1);
        // After a restart the authority knows.
        let mut order = session.order(order.url()).await.unwrap();
        order.set_ready(&wanted[0], ChallengeKind::Http01).await.unwrap();
        assert_eq!(fake.requests(Step::Challenge), 1);
        let error = order.set_ready(&names(&["b.example"])[0], ChallengeKind::Http01).await.unwrap_err();
        assert_eq!(error.failure, Failure::Unsupported);
    });
}

#[test]
fn a_challenge_whose_answer_was_lost_counts() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let wanted = names(&["a.example"]);
        let mut order = session.new_order(&wanted, None, None).await.unwrap();
        fake.inject(Step::Challenge, Fault::Lost, 1);
        let lost = order.set_ready(&wanted[0], ChallengeKind::Http01).await.unwrap_err();
        assert_eq!((lost.failure.clone(), lost.step()), (Failure::Connect, Step::Challenge));
        order.set_ready(&wanted[0], ChallengeKind::Http01).await.unwrap();
        assert_eq!(order.poll_ready(PATIENCE).await.unwrap(), OrderStatus::Ready);
    });
}

#[test]
fn an_order_born_ready_needs_no_challenge_and_no_wait() {
    run(async {
        let fake = FakeCa::new();
        fake.set(|behaviour| behaviour.authorizations_valid = true);
        let session = session(&fake).await;
        let before = tokio::time::Instant::now();
        issue(&session, &names(&["a.example"])).await.unwrap();
        assert_eq!(fake.requests(Step::Challenge), 0);
        assert_eq!(before.elapsed(), Duration::ZERO);
    });
}

#[test]
fn an_invalid_order_names_every_challenge() {
    for omits_order_error in [false, true] {
        run(async {
            let fake = FakeCa::new();
            fake.set(|behaviour| {
                behaviour.omits_order_error = omits_order_error;
                behaviour.validator = Arc::new(|identifier, kind, _| match identifier.to_string().as_str() {
                    "good.example" => Ok(()),
                    name => Err(format!("{kind}: 192.0.2.1: Connection refused for {name}")),
                });
            });
            let session = session(&fake).await;
            let error =
                issue(&session, &names(&["good.example", "x.example", "y.example"])).await.unwrap_err();
            let Failure::Authorization(failures) = &error.failure else { panic!("{error}") };
            let failed: Vec<&str> = failures.iter().map(|failure| failure.identifier.as_str()).collect();
            assert_eq!(failed, ["x.example", "y.example"]);
            assert_eq!(failures[0].challenge.as_deref(), Some("http-01"));
            assert_eq!(error.facts.problem.is_some(), !omits_order_error);
            let text = error.to_string();
            assert!(text.contains("x.example by http-01: unauthorized: http-01: 192.0.2.1"), "{text}");
            assert!(!error.is_authority_side() && !error.is_blocked());
        });
    }
}

#[test]
fn an_invalid_order_without_any_reason() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let mut order = ready_order(&session).await;
        let body = r#"{"status":"invalid","authorizations":[],"finalize":"https://ca.test/finalize/0","error":
            {"type":"urn:ietf:params:acme:error:caa","detail":"CAA forbids"}}"#;
        let bare = r#"{"status":"invalid","authorizations":[],"finalize":"https://ca.test/finalize/0"}"#;
        fake.inject(Step::Order, Fault::Answer(200, "application/json", Vec::new(), body.to_owned()), 2);
        order.refresh().await.unwrap();
        let error = order.poll_certificate(PATIENCE).await.unwrap_err();
        assert_eq!(error.failure, Failure::Refused(Refusal::Caa));
        fake.inject(Step::Order, Fault::Answer(200, "application/json", Vec::new(), bare.to_owned()), 2);
        order.refresh().await.unwrap();
        let error = order.poll_ready(PATIENCE).await.unwrap_err();
        assert_eq!(error.failure, Failure::OrderInvalid);
        assert_eq!(error.to_string(), "order: the order is invalid");
    });
}

#[test]
fn polling_waits_longer_each_time_and_ends() {
    run(async {
        let fake = FakeCa::new();
        fake.set(|behaviour| behaviour.polls = 1000);
        let session = session(&fake).await;
        let mut order = session.new_order(&names(&["a.example"]), None, None).await.unwrap();
        answer(&mut order).await.unwrap();
        let before = (tokio::time::Instant::now(), fake.requests(Step::Order));
        let error = order.poll_ready(PATIENCE).await.unwrap_err();
        assert_eq!(error.failure, Failure::Timeout);
        assert_eq!(before.0.elapsed(), PATIENCE);
        let asked = fake.requests(Step::Order) - before.1;
        assert!((10..25).contains(&asked), "{asked}");
        assert!(error.to_string().contains("still pending after 120 s"), "{error}");

        fake.set(|behaviour| behaviour.order_retry_after = Some("50".to_owned()));
        let before = (tokio::time::Instant::now(), fake.requests(Step::Order));
        let error = order.poll_ready(PATIENCE).await.unwrap_err();
        assert_eq!(
            (error.failure.clone(), error.retry_after()),
            (Failure::Timeout, Some(Duration::from_secs(50)))
        );
        assert_eq!(before.0.elapsed(), PATIENCE);
        assert!(fake.requests(Step::Order) - before.1 <= 4);
    });
}

#[test]
fn a_lost_order_answer_leaves_the_shared_order() {
    run(async {
        let fake = FakeCa::new();
        fake.set(|behaviour| behaviour.shares_orders = true);
        let session = session(&fake).await;
        let wanted = names(&["a.example"]);
        fake.inject(Step::NewOrder, Fault::Lost, 1);
        assert_eq!(session.new_order(&wanted, None, None).await.unwrap_err().failure, Failure::Connect);
        let first = session.new_order(&wanted, None, None).await.unwrap();
        let second = session.new_order(&wanted, None, None).await.unwrap();
        assert_eq!(first.url(), second.url());
    });
}

#[test]
fn lost_answers_of_finalization_and_download_are_resumed_by_url() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let wanted = names(&["a.example"]);
        let key = keys::new_key(KeyKind::P384).unwrap();
        let csr = keys::request(&key, &wanted).unwrap();
        let mut order = ready_order(&session).await;
        fake.inject(Step::Finalize, Fault::Lost, 1);
        assert_eq!(order.finalize(&csr).await.unwrap_err().failure, Failure::Connect);
        // The same object: the authority says `orderNotReady`, and the order is further.
        assert_eq!(order.finalize(&csr).await.unwrap(), OrderStatus::Valid);
        let mut order = session.order(order.url()).await.unwrap();
        assert_eq!(order.status(), OrderStatus::Valid);
        assert_eq!(order.finalize(b"not sent").await.unwrap(), OrderStatus::Valid);
        fake.inject(Step::Certificate, Fault::Lost, 1);
        let lost = order.poll_certificate(PATIENCE).await.unwrap_err();
        assert_eq!((lost.failure.clone(), lost.step()), (Failure::Connect, Step::Certificate));
        let mut order = session.order(order.url()).await.unwrap();
        let chain = order.poll_certificate(PATIENCE).await.unwrap();
        CertifiedPair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!((fake.issued(), fake.requests(Step::NewOrder)), (1, 1));
    });
}

#[test]
fn a_bad_csr_leaves_the_order_ready() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let mut order = ready_order(&session).await;
        let key = keys::new_key(KeyKind::P256).unwrap();
        let other = keys::request(&key, &names(&["b.example"])).unwrap();
        assert_eq!(order.finalize(&other).await.unwrap_err().failure, Failure::Refused(Refusal::BadCsr));
        assert_eq!(order.poll_certificate(PATIENCE).await.unwrap_err().failure, Failure::OrderNotReady);
        order.finalize(&keys::request(&key, &names(&["a.example"])).unwrap()).await.unwrap();
        order.poll_certificate(PATIENCE).await.unwrap();
    });
}

#[test]
fn an_order_that_is_gone_and_a_chain_that_is_none() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let gone = session.order("https://ca.test/order/99").await.unwrap_err();
        assert_eq!((gone.failure.clone(), gone.step()), (Failure::NotFound, Step::Order));
        let mut order = ready_order(&session).await;
        let key = keys::new_key(KeyKind::P256).unwrap();
        order.finalize(&keys::request(&key, &names(&["a.example"])).unwrap()).await.unwrap();
        for body in ["", "<html>"] {
            fake.inject(Step::Certificate, Fault::Answer(200, "text/html", Vec::new(), body.to_owned()), 1);
            assert_eq!(order.poll_certificate(PATIENCE).await.unwrap_err().failure, Failure::Protocol);
        }
    });
}

#[test]
fn profiles_are_checked_before_and_after() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let wanted = names(&["a.example"]);
        let invalid = Failure::Refused(Refusal::InvalidProfile);
        let error = session.new_order(&wanted, Some("nope"), None).await.unwrap_err();
        assert_eq!(error.failure, invalid);
        assert!(error.to_string().contains("profiles: classic, shortlived"), "{error}");
        assert_eq!(fake.requests(Step::NewOrder), 0, "refused before anything is asked");
        let order = session.new_order(&wanted, Some("shortlived"), None).await.unwrap();
        assert_eq!(order.profile(), Some("shortlived"));
        fake.set(|behaviour| behaviour.ignores_profile = true);
        let error = session.new_order(&wanted, Some("classic"), None).await.unwrap_err();
        assert_eq!((error.failure, fake.requests(Step::NewOrder)), (invalid, 2));
    });
}

#[test]
fn replacement_is_refused_in_its_own_way() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let wanted = names(&["a.example"]);
        let pair = issue(&session, &wanted).await.unwrap();
        let id = crate::acme::ari::certificate_id(pair.certified_key().cert.first().unwrap()).unwrap();
        session.new_order(&wanted, None, Some(&id)).await.unwrap();
        let again = session.new_order(&wanted, None, Some(&id)).await.unwrap_err();
        assert_eq!(again.failure, Failure::AlreadyReplaced);
        assert!(again.is_about_replaces());
        let unknown = session.new_order(&wanted, None, Some("AAAA.AQ")).await.unwrap_err();
        assert_eq!(unknown.failure, Failure::ReplacesRefused);
        for (status, kind, failure) in [
            (409, "malformed", Failure::AlreadyReplaced),
            (404, "malformed", Failure::ReplacesRefused),
            (500, "serverInternal", Failure::ReplacesRefused),
            (503, "serverInternal", Failure::Server),
            (429, "rateLimited", Failure::RateLimited),
            (400, "rejectedIdentifier", Failure::Refused(Refusal::RejectedIdentifier)),
        ] {
            fake.inject(Step::NewOrder, Fault::problem(status, kind, "no"), 1);
            assert_eq!(session.new_order(&wanted, None, Some(&id)).await.unwrap_err().failure, failure);
        }
        let pair = issue(&session, &wanted).await.unwrap();
        let id = crate::acme::ari::certificate_id(pair.certified_key().cert.first().unwrap()).unwrap();
        fake.set(|behaviour| behaviour.ignores_replaces = true);
        let mismatch = session.new_order(&wanted, None, Some(&id)).await.unwrap_err();
        assert_eq!(mismatch.failure, Failure::ReplacesRefused);

        fake.set(|behaviour| behaviour.has_renewal_info = false);
        let plain = client(&fake).register(None, None).await.unwrap().0;
        plain.new_order(&wanted, None, Some(&id)).await.unwrap();
    });
}

#[test]
fn a_flood_of_authorizations_is_refused() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let many = vec!["\"https://ca.test/authorization/0\""; 5000].join(",");
        let body = format!(
            "{{\"status\":\"pending\",\"authorizations\":[{many}],\"finalize\":\"https://ca.test/finalize/0\"}}"
        );
        let location = vec![("location", "https://ca.test/order/0".to_owned())];
        fake.inject(Step::NewOrder, Fault::Answer(201, "application/json", location, body), 1);
        let mut order = session.new_order(&names(&["a.example"]), None, None).await.unwrap();
        assert_eq!(order.authorizations().await.unwrap_err().failure, Failure::Protocol);
        assert_eq!(fake.requests(Step::Authorization), 0);
    });
}
