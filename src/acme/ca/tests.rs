//! Tests of the CA client against an authority in this process, on paused time: the way to a certificate.

mod faults;
mod orders;

use super::*;
use crate::acme::fake_ca::{Behaviour, DIRECTORY, FakeCa, Fault};
use crate::acme::keys;
use crate::config::model::{ChallengeKind, KeyKind};
use crate::tls::certs::CertifiedPair;

const TIMEOUT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs on a clock that jumps to the next timer when nothing else is to do.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

fn client(fake: &FakeCa) -> Ca {
    Ca::new(Arc::new(fake.clone()), DIRECTORY, TIMEOUT)
}

async fn session(fake: &FakeCa) -> Session {
    client(fake).register(None, None).await.unwrap().0
}

fn names(names: &[&str]) -> Vec<Identifier> {
    names
        .iter()
        .map(|name| name.parse().map_or_else(|_| Identifier::Dns((*name).to_owned()), Identifier::Ip))
        .collect()
}

/// Every challenge of the first kind on offer is met.
async fn answer(order: &mut Order) -> Result<(), CaError> {
    for authorization in order.authorizations().await? {
        if authorization.status == AuthorizationStatus::Pending {
            let kind = authorization.offers.first().unwrap().kind;
            order.set_ready(&authorization.identifier, kind).await?;
        }
    }
    Ok(())
}

/// From a new order to a chain and the key that it belongs to.
async fn issue(session: &Session, wanted: &[Identifier]) -> Result<CertifiedPair, CaError> {
    let key = keys::new_key(KeyKind::P256).unwrap();
    let mut order = session.new_order(wanted, Some("classic"), None).await?;
    answer(&mut order).await?;
    order.poll_ready(PATIENCE).await?;
    order.finalize(&keys::request(&key, wanted).unwrap()).await?;
    let chain = order.poll_certificate(PATIENCE).await?;
    Ok(CertifiedPair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

#[test]
fn a_certificate_for_names_wildcards_and_addresses() {
    run(async {
        let fake = FakeCa::new();
        fake.set(|behaviour| behaviour.polls = 2);
        let session = session(&fake).await;
        let wanted = names(&["a.example", "*.a.example", "192.0.2.7", "2001:db8::1"]);
        let pair = issue(&session, &wanted).await.unwrap();
        let covered: Vec<String> = pair.names().iter().map(ToString::to_string).collect();
        for name in &wanted {
            assert!(covered.contains(&name.to_string()), "{name} in {covered:?}");
        }
        assert_eq!(pair.certified_key().cert.len(), 2, "the chain has the authority's certificate");
        assert!(fake.root().contains("BEGIN CERTIFICATE"));
        assert_eq!(fake.issued(), 1);
        assert_eq!(fake.requests(Step::Challenge), 4);
        assert_eq!(fake.requests(Step::Directory), 1);
    });
}

/// Whoever drives an order may do so in a spawned task.
#[test]
fn operations_may_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let fake = FakeCa::new();
    is_send(&async move {
        let session = client(&fake).register(None, None).await?.0;
        session.revoke(b"", Reason::default()).await?;
        session.renewal_info("").await?;
        issue(&session, &[]).await
    });
}

#[test]
fn an_account_is_opened_again_from_its_bytes() {
    run(async {
        let fake = FakeCa::new();
        let ca = client(&fake);
        let (session, bytes) = ca.register(Some("ops@example.com"), None).await.unwrap();
        let again = ca.open(&bytes).await.unwrap();
        assert_eq!(again.account_url(), session.account_url());
        assert_eq!(again.thumbprint(), session.thumbprint());
        issue(&again, &names(&["a.example"])).await.unwrap();

        let other = Ca::new(Arc::new(fake.clone()), "https://ca.test/directory2", TIMEOUT);
        assert_eq!(other.open(&bytes).await.unwrap_err().failure, Failure::Account);
        let before = fake.log().len();
        for bad in [
            &b"{}"[..],
            b"",
            b"[",
            br#"{"directory":"https://ca.test/directory","id":"x","key_pkcs8":"AAAA"}"#,
        ] {
            assert_eq!(ca.open(bad).await.unwrap_err().failure, Failure::Account);
        }
        assert!(fake.log().len() <= before + 1, "a key that is none may show after the directory");
        fake.set(|behaviour| behaviour.is_down = true);
        let down = ca.open(&bytes).await.unwrap_err();
        assert_eq!((down.failure.clone(), down.step()), (Failure::Connect, Step::Directory));
    });
}

#[test]
fn what_the_directory_says() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        assert_eq!(session.profiles(), ["classic", "shortlived"]);
        assert!(session.has_renewal_info());
        assert_eq!(session.caa_identities(), ["ca.test"]);
        let now = Behaviour::default().now;
        assert_eq!(session.authority_time(), Some(now));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(session.authority_time(), Some(now + 100));
    });
}

#[test]
fn account_binding_is_sent_and_never_shown() {
    run(async {
        let fake = FakeCa::new();
        fake.set(|behaviour| behaviour.requires_external = true);
        let ca = client(&fake);
        let missing = ca.register(None, None).await.unwrap_err();
        assert_eq!(missing.failure, Failure::Refused(Refusal::ExternalAccountRequired));
        assert!(missing.is_blocked());

        let mac = "c2VjcmV0LW1hYy1rZXktYnl0ZXM=";
        let key = ExternalKey::from_base64("kid-1", &format!(" {mac}\n")).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("kid-1"));
        ca.register(None, Some(&key)).await.unwrap();
        let detail = "the MAC is not right";
        fake.inject(Step::NewAccount, Fault::problem(403, "unauthorized", detail), 1);
        let wrong = ca.register(None, Some(&key)).await.unwrap_err();
        assert_eq!(wrong.failure, Failure::Unauthorized);
        assert!(wrong.to_string().contains(detail), "{wrong}");
        for text in [shown, wrong.to_string(), format!("{wrong:?}")] {
            assert!(!text.contains("secret-mac") && !text.contains("c2VjcmV0"), "{text}");
        }
        assert!(ExternalKey::from_base64("kid", "").is_none());
        assert!(ExternalKey::from_base64("kid", "not base64!").is_none());
    });
}

#[test]
fn sessions_and_orders_show_no_key() {
    run(async {
        let fake = FakeCa::new();
        let (session, bytes) = client(&fake).register(None, None).await.unwrap();
        let order = session.new_order(&names(&["a.example"]), None, None).await.unwrap();
        let account: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let key = account["key_pkcs8"].as_str().unwrap();
        assert!(key.len() > 100);
        let shown = format!("{session:?} {order:?} {:?}", client(&fake));
        assert!(!shown.contains(&key[..20]), "{shown}");
    });
}

#[test]
fn an_unknown_account_is_told_apart() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        fake.set(|behaviour| behaviour.knows_accounts = false);
        let error = session.new_order(&names(&["a.example"]), None, None).await.unwrap_err();
        assert_eq!(error.failure, Failure::AccountUnknown);
        assert_eq!(error.facts.status, Some(400));
    });
}

#[test]
fn revocation_is_done_once_and_twice_is_no_error() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        session.revoke(b"certificate", Reason::Superseded).await.unwrap();
        session.revoke(b"certificate", Reason::default()).await.unwrap();
        assert_eq!(fake.revoked(), [b"certificate".to_vec()]);
        assert_eq!(fake.requests(Step::Revoke), 2);
    });
}

#[test]
fn renewal_windows() {
    run(async {
        let fake = FakeCa::new();
        let session = session(&fake).await;
        let pair = issue(&session, &names(&["a.example"])).await.unwrap();
        let id = crate::acme::ari::certificate_id(pair.certified_key().cert.first().unwrap()).unwrap();
        let unknown = session.renewal_info(&id).await.unwrap_err();
        assert_eq!((unknown.failure.clone(), unknown.facts.status), (Failure::NotFound, Some(404)));
        assert_eq!(unknown.step(), Step::RenewalInfo);

        fake.set(|behaviour| behaviour.window = Some((1_800_000_000, 1_800_086_400)));
        let info = session.renewal_info(&id).await.unwrap();
        assert_eq!((info.start, info.end), (1_800_000_000, 1_800_086_400));
        assert_eq!(info.explanation.as_deref(), Some("https://ca.test/why"));
        assert_eq!(info.retry_after, Duration::from_secs(6 * 3600), "no Retry-After");
        for (sent, waits) in [("1", 60), ("7200", 7200), ("99999999", 86_400)] {
            fake.set(|behaviour| behaviour.window_retry_after = Some(sent.to_owned()));
            assert_eq!(session.renewal_info(&id).await.unwrap().retry_after, Duration::from_secs(waits));
        }
        fake.set(|behaviour| behaviour.window = Some((1_800_000_000, 1_800_000_000)));
        let backwards = session.renewal_info(&id).await.unwrap_err();
        assert_eq!(backwards.failure, Failure::Protocol);
        let html =
            Fault::Answer(503, "text/html", vec![("retry-after", "120".to_owned())], "<html>".to_owned());
        fake.inject(Step::RenewalInfo, html, 1);
        let down = session.renewal_info(&id).await.unwrap_err();
        assert_eq!(
            (down.failure.clone(), down.retry_after()),
            (Failure::Server, Some(Duration::from_secs(120)))
        );
        let malformed =
            Fault::Answer(200, "application/json", Vec::new(), "{\"suggestedWindow\":3}".to_owned());
        fake.inject(Step::RenewalInfo, malformed, 1);
        assert_eq!(session.renewal_info(&id).await.unwrap_err().failure, Failure::Protocol);

        fake.set(|behaviour| behaviour.has_renewal_info = false);
        let fresh = client(&fake).register(None, None).await.unwrap().0;
        assert_eq!(fresh.renewal_info(&id).await.unwrap_err().failure, Failure::Unsupported);
    });
}
