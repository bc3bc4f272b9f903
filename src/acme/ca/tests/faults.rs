//! What goes wrong on the way to an authority and back.

use super::*;

fn html(status: u16, headers: Vec<(&'static str, String)>) -> Fault {
    Fault::Answer(status, "text/html", headers, "<html>Bad gateway</html>".to_owned())
}

async fn failing_order(fake: &FakeCa, fault: Fault) -> CaError {
    let session = session(fake).await;
    fake.inject(Step::NewOrder, fault, 1);
    session.new_order(&names(&["a.example"]), None, None).await.unwrap_err()
}

#[test]
fn a_silent_authority_ends_by_the_time_limit() {
    run(async {
        let fake = FakeCa::new();
        let before = tokio::time::Instant::now();
        let error = failing_order(&fake, Fault::Hang).await;
        assert_eq!(error.failure, Failure::Timeout);
        assert_eq!(before.elapsed(), TIMEOUT);
        assert_eq!(error.to_string(), "newOrder at /new-order: timed out: no answer within 60 s");

        for step in [Step::Directory, Step::NewNonce, Step::NewAccount] {
            fake.inject(step, Fault::Hang, 1);
            let error = client(&fake).register(None, None).await.unwrap_err();
            assert_eq!((error.failure.clone(), error.step()), (Failure::Timeout, step));
        }
    });
}

#[test]
fn refused_connections_until_it_is_well_again() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        fake.inject(Step::NewNonce, Fault::Refused, u32::MAX);
        for _ in 0..3 {
            let error = session.new_order(&names(&["a.example"]), None, None).await.unwrap_err();
            assert_eq!((error.failure.clone(), error.step()), (Failure::Connect, Step::NewNonce));
        }
        assert_eq!(fake.requests(Step::NewOrder), 0);
        fake.heal();
        session.new_order(&names(&["a.example"]), None, None).await.unwrap();
    });
}

#[test]
fn html_pages_are_typed_by_their_status() {
    run(async {
        let fake = FakeCa::new();
        let error = failing_order(&fake, html(503, vec![("retry-after", "120".to_owned())])).await;
        assert_eq!(error.failure, Failure::Server);
        assert!(error.is_authority_side() && !error.is_blocked());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
        assert_eq!(error.facts.date, Some(Behaviour::default().now));
        let text = error.to_string();
        assert!(text.starts_with("newOrder at /new-order: status 503, "), "{text}");
        assert!(text.ends_with("no problem document (text/html); retry after 120 s"), "{text}");

        assert_eq!(failing_order(&fake, html(502, Vec::new())).await.failure, Failure::Server);
        assert_eq!(failing_order(&fake, html(404, Vec::new())).await.failure, Failure::NotFound);
        assert_eq!(failing_order(&fake, html(400, Vec::new())).await.failure, Failure::Protocol);
        assert_eq!(failing_order(&fake, html(200, Vec::new())).await.failure, Failure::Protocol);
        let redirect = vec![("location", "https://elsewhere.test/".to_owned())];
        let error = failing_order(&fake, html(302, redirect)).await;
        assert_eq!((error.failure, error.facts.status), (Failure::Protocol, Some(302)));
        // Said to be a page, so its JSON is not believed.
        let page = Fault::Answer(403, "text/html", Vec::new(), "{\"type\":\"urn:x\"}".to_owned());
        assert_eq!(failing_order(&fake, page).await.facts.problem, None);
    });
}

#[test]
fn retry_after_may_be_a_date() {
    run(async {
        let fake = FakeCa::new();
        let headers = |value: &str| {
            vec![("retry-after", value.to_owned()), ("date", "Sun, 06 Nov 2033 08:00:00 GMT".to_owned())]
        };
        for (value, waits) in [
            ("Sun, 06 Nov 2033 09:00:00 GMT", Some(3600)),
            ("Sun, 06 Nov 2033 07:00:00 GMT", Some(0)),
            ("86400", Some(86_400)),
            ("99999999999999999999999", Some(7 * 86_400)),
            ("soon", None),
            ("", None),
        ] {
            let error = failing_order(&fake, html(503, headers(value))).await;
            assert_eq!(error.retry_after(), waits.map(Duration::from_secs), "{value}");
        }
    });
}

#[test]
fn rate_limits_and_pauses() {
    run(async {
        let fake = FakeCa::new();
        let error = failing_order(&fake, Fault::problem(429, "rateLimited", "too many certificates")).await;
        assert_eq!(error.failure, Failure::RateLimited);
        assert_eq!(error.facts.problem.as_ref().unwrap().detail.as_deref(), Some("too many certificates"));
        assert_eq!(failing_order(&fake, html(429, Vec::new())).await.failure, Failure::RateLimited);

        let detail = "Your account is temporarily prevented from requesting certificates for a.example and \
                      possibly others. Please visit: https://portal.ca.test/sfe/v1/unpause?jwt=abc.";
        let error = failing_order(&fake, Fault::problem(429, "rateLimited", detail)).await;
        let portal = Some("https://portal.ca.test/sfe/v1/unpause?jwt=abc".to_owned());
        assert_eq!(error.failure, Failure::Paused { portal });
        assert!(error.is_blocked());
    });
}

#[test]
fn refusals_have_their_words() {
    run(async {
        let fake = FakeCa::new();
        for refusal in Refusal::ALL {
            let error = failing_order(&fake, Fault::problem(400, refusal.word(), "no")).await;
            assert_eq!(error.failure, Failure::Refused(refusal));
        }
        let body = r#"{"type":"urn:ietf:params:acme:error:compound","subproblems":[{"type":
            "urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","identifier":{"type":"dns","value":"b.test"}},
            {"identifier":{"type":"odd","value":7}}]}"#;
        let fault =
            Fault::Answer(400, "application/problem+json; charset=utf-8", Vec::new(), body.to_owned());
        let error = failing_order(&fake, fault).await;
        assert_eq!(error.failure, Failure::Refused(Refusal::RejectedIdentifier));
        assert!(error.to_string().contains("b.test: rejectedIdentifier: no"), "{error}");
        for (status, kind, failure) in [
            (400, "malformed", Failure::Malformed),
            (500, "serverInternal", Failure::Server),
            (403, "unauthorized", Failure::Unauthorized),
            (403, "orderNotReady", Failure::OrderNotReady),
            (418, "teapot", Failure::Malformed),
        ] {
            assert_eq!(failing_order(&fake, Fault::problem(status, kind, "no")).await.failure, failure);
        }
    });
}

#[test]
fn hostile_texts_are_bounded_and_escaped() {
    run(async {
        let fake = FakeCa::new();
        let detail = format!("\u{1b}[31mred\r\nsecond line\u{202e}{}", "x".repeat(100_000));
        let error = failing_order(&fake, Fault::problem(400, "malformed", &detail)).await;
        let text = error.to_string();
        assert!(text.len() < 2 * crate::limits::ACME_TEXT_BYTES, "{}", text.len());
        assert!(text.contains("red") && !text.contains(['\u{1b}', '\r', '\n', '\u{202e}']));
    });
}

#[test]
fn large_answers_are_refused() {
    run(async {
        let fake = FakeCa::new();
        let large = " ".repeat(crate::limits::ACME_ANSWER_BYTES + 1);
        let fault = Fault::Answer(201, "application/json", Vec::new(), large);
        let error = failing_order(&fake, fault).await;
        assert_eq!(error.failure, Failure::Protocol);
        assert!(error.to_string().contains("too large"), "{error}");
    });
}

#[test]
fn other_urls_than_https_are_not_asked() {
    run(async {
        let fake = FakeCa::new();
        for directory in ["http://ca.test/directory", "ca.test", "/directory"] {
            let ca = Ca::new(Arc::new(fake.clone()), directory, TIMEOUT);
            assert_eq!(ca.register(None, None).await.unwrap_err().failure, Failure::Protocol, "{directory}");
        }
        assert_eq!(fake.log(), []);
        let session = session(&fake).await;
        assert_eq!(session.order("http://ca.test/order/0").await.unwrap_err().failure, Failure::Protocol);
        assert_eq!(fake.requests(Step::Order), 0);
    });
}

#[test]
fn nonces_may_be_refused_often() {
    for percent in [20, 50] {
        run(async {
            let fake = FakeCa::new();
            fake.set(|behaviour| behaviour.bad_nonces = percent);
            let session = session(&fake).await;
            for round in 0..20 {
                let wanted = names(&["a.example", "b.example", "c.example"]);
                issue(&session, &wanted)
                    .await
                    .unwrap_or_else(|error| panic!("{percent} %, {round}: {error}"));
            }
            assert_eq!(fake.issued(), 20);
        });
    }
}

#[test]
fn nonces_always_refused_end_cleanly() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        fake.set(|behaviour| behaviour.bad_nonces = 100);
        let before = fake.log().len();
        let error = session.new_order(&names(&["a.example"]), None, None).await.unwrap_err();
        assert_eq!((error.failure.clone(), error.step()), (Failure::BadNonce, Step::NewOrder));
        let requests = fake.log().len() - before;
        assert!((30..50).contains(&requests), "{requests}");

        let before = fake.log().len();
        assert_eq!(client(&fake).register(None, None).await.unwrap_err().failure, Failure::BadNonce);
        let requests = fake.log().len() - before;
        assert!((30..50).contains(&requests), "{requests}");
    });
}

#[test]
fn a_nonce_without_content_is_taken() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let nonce = vec![("replay-nonce", "made-up".to_owned())];
        fake.inject(Step::NewNonce, Fault::Answer(204, "", nonce, String::new()), 1);
        // The first nonce is not one of the authority's, so the operation goes on with the next.
        session.new_order(&names(&["a.example"]), None, None).await.unwrap();
    });
}
