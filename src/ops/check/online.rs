//! `check --online`: whether the authorities answer and can do what is asked of them, and whether the names can be
//! found, before the first order is spent on finding out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::now_unix;
use super::preflight::{self, Known};
use super::stand::Stand;
use crate::acme::ca::date::http_date;
use crate::acme::dns::Resolver;
use crate::acme::http_client::{Https, Proxies, Transport};
use crate::acme::plan::orderable;
use crate::acme::slot::Slot;
use crate::config::model::{AcmePolicy, Authority};
use crate::config::{Code, Diagnostic, Loaded, Spot};

/// Names of one authority that are taken.
const IDENTITIES: usize = 16;
const USER_AGENT: &str = concat!("lockring/", env!("CARGO_PKG_VERSION"));

/// What the network says. Asks the authorities for their directories, and name servers for addresses.
pub(super) fn check(loaded: &Loaded) -> Vec<Diagnostic> {
    let acme = &loaded.model.acme;
    let set_up = || -> Result<_, String> {
        let proxies = Proxies::from_environment(|name| std::env::var(name).ok());
        let proxies = proxies.map_err(|error| error.to_string())?;
        let https = Https::new(acme.ca_file.as_deref(), proxies, acme.connect_timeout);
        let https = https.map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok((https, runtime.map_err(|error| error.to_string())?))
    };
    match set_up() {
        Ok((https, runtime)) => runtime.block_on(async {
            let stand = Stand::start(&loaded.model.server);
            ask(loaded, &https, &Resolver::configured(&acme.resolvers), Some(stand)).await
        }),
        Err(cause) => {
            let cause = format!("authorities cannot be asked: {cause}");
            vec![diagnostic(loaded, Code::AuthorityUnfit, Spot::file(0), cause, NETWORK_REMEDY)]
        }
    }
}

const NETWORK_REMEDY: &str = "check the URL, the network and, for a private authority, [acme] ca_file";

async fn ask(
    loaded: &Loaded,
    transport: &dyn Transport,
    resolver: &Resolver,
    stand: Option<Stand>,
) -> Vec<Diagnostic> {
    let slots = Slot::all(&loaded.model, |_| false);
    let spot = |slot: &Slot| {
        let place = slot.sites.first().and_then(|index| loaded.places.sites.get(*index as usize));
        place.map_or(Spot::file(0), |place| place.host)
    };
    let mut found = Vec::new();
    let mut asked: Vec<(&Authority, Option<&str>)> = Vec::new();
    let mut known = Known { identities: BTreeMap::new(), resolver: resolver.clone() };
    let mut skew = None;
    for slot in &slots {
        for authority in slot.policy.authorities.iter().filter(|authority| is_asked(slot, authority)) {
            let wanted = (authority, slot.policy.profile.as_deref());
            if asked.contains(&wanted) {
                continue;
            }
            asked.push(wanted);
            let answer = directory(transport, authority, loaded.model.acme.request_timeout).await;
            let judged = answer.and_then(|(directory, date)| {
                skew = skew.or_else(|| date.map(|date| date.wrapping_sub(now_unix()).cast_signed()));
                known.identities.insert(authority.directory.clone(), identities(&directory));
                suits(&directory, authority, &slot.policy)
            });
            if let Err((cause, remedy)) = judged {
                found.push(diagnostic(loaded, Code::AuthorityUnfit, spot(slot), cause, remedy));
            }
        }
    }
    if !slots.is_empty() {
        found.extend(preflight::machine(loaded, skew));
    }
    found.extend(preflight::check(loaded, &slots, &known, stand).await);
    found
}

/// The authority's names in CAA records (RFC 8555 §9.7.6).
fn identities(directory: &Value) -> Vec<String> {
    let listed = directory.get("meta").and_then(|meta| meta.get("caaIdentities")).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).take(IDENTITIES).collect()
}

fn is_asked(slot: &Slot, authority: &Authority) -> bool {
    slot.identifiers.iter().all(|identifier| orderable(identifier, authority).is_ok())
}

type Fault = (String, &'static str);

async fn directory(
    transport: &dyn Transport,
    authority: &Authority,
    patience: Duration,
) -> Result<(Value, Option<u64>), Fault> {
    let url = &authority.directory;
    let failed = |why: String| (format!("`{url}` {why}"), NETWORK_REMEDY);
    let request = http::Request::get(url).header(http::header::USER_AGENT, USER_AGENT).body(Bytes::new());
    let request = request.map_err(|error| failed(format!("cannot be asked: {error}")))?;
    let answer = tokio::time::timeout(patience, transport.send(request)).await;
    let answer = answer.map_err(|_| failed("does not answer in time".to_owned()))?;
    let answer = answer.map_err(|error| failed(format!("does not answer: {error}")))?;
    if answer.status() != http::StatusCode::OK {
        return Err(failed(format!("answers with status {}", answer.status().as_u16())));
    }
    let directory: Option<Value> = serde_json::from_slice(answer.body()).ok();
    let whole = |directory: &Value| {
        ["newNonce", "newAccount", "newOrder"]
            .iter()
            .all(|key| directory.get(key).is_some_and(Value::is_string))
    };
    let date = answer.headers().get(http::header::DATE).and_then(|date| http_date(date.to_str().ok()?));
    let directory = directory.filter(whole).map(|directory| (directory, date));
    directory.ok_or_else(|| failed("is not the directory of an ACME authority".to_owned()))
}

/// Whether it can do what the policy asks (RFC 8555 §7.1.1, and the draft of profiles).
fn suits(directory: &Value, authority: &Authority, policy: &AcmePolicy) -> Result<(), Fault> {
    let url = &authority.directory;
    let meta = directory.get("meta");
    let required = meta.and_then(|meta| meta.get("externalAccountRequired")).and_then(Value::as_bool);
    if required == Some(true) && authority.eab.is_none() {
        let cause = format!("`{url}` asks for an external account");
        return Err((cause, "add eab = { kid = \"…\", hmac = \"file:PATH\" } beside its `directory`"));
    }
    let Some(profile) = &policy.profile else { return Ok(()) };
    let profiles = meta.and_then(|meta| meta.get("profiles")).and_then(Value::as_object);
    if profiles.is_some_and(|profiles| profiles.contains_key(profile)) {
        return Ok(());
    }
    let known: Vec<&str> = profiles.into_iter().flatten().map(|(name, _)| name.as_str()).take(16).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let known: String = known.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    Err((format!("`{url}` has no profile `{profile}`; it lists: {known}"), "name one of them in `profile`"))
}

fn diagnostic(loaded: &Loaded, code: Code, spot: Spot, cause: String, remedy: &str) -> Diagnostic {
    Diagnostic {
        code,
        severity: code.severity(),
        place: spot.place(&loaded.sources),
        also: None,
        cause,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::acme::http_client::{Exchange, TransportError};
    use crate::config::{Files, Source, load};

    struct Nothing;

    impl Files for Nothing {
        fn read(&self, _: &Path) -> Result<String, String> {
            Err("there are no files".to_owned())
        }

        fn glob(&self, _: &str, _: &Path) -> Result<Vec<PathBuf>, String> {
            Ok(Vec::new())
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }

        fn is_root(&self) -> bool {
            true
        }
    }

    /// Answers each host's directory with what stands for it.
    struct Canned;

    impl Transport for Canned {
        fn send(&self, request: http::Request<Bytes>) -> Exchange {
            assert_eq!(request.method(), http::Method::GET);
            let host = request.uri().host().unwrap_or_default().to_owned();
            let whole = r#"{"newNonce":"n","newAccount":"a","newOrder":"o","meta":{META}}"#;
            let (status, body) = match host.as_str() {
                "good.internal" => {
                    (200, whole.replace("{META}", r#"{"profiles":{"tiny":"x","big\u001b":"y"}}"#))
                }
                "eab.internal" => (200, whole.replace("{META}", r#"{"externalAccountRequired":true}"#)),
                "down.internal" => (503, "<html>".to_owned()),
                "other.internal" => (200, "{}".to_owned()),
                _ => return Box::pin(async { Err(TransportError::ConnectTimeout) }),
            };
            Box::pin(
                async move { Ok(http::Response::builder().status(status).body(Bytes::from(body)).unwrap()) },
            )
        }
    }

    /// Asked over no name server at all.
    fn found(sites: &str) -> Vec<(Code, String)> {
        let text = format!("[sites]\n{sites}\n");
        let loaded = load(Source { name: "f".into(), text }, &Nothing).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(ask(&loaded, &Canned, &Resolver::new(&[]), None));
        found.into_iter().map(|diagnostic| (diagnostic.code, diagnostic.cause)).collect()
    }

    fn site(host: &str, authority: &str, more: &str) -> String {
        let acme =
            format!("directory = \"https://{authority}.internal/d\", challenge = \"dns-persist-01\"{more}");
        format!("\"{host}\" = {{ to = \"demo\", acme = {{ {acme} }} }}\n")
    }

    #[test]
    fn authorities_are_asked_once_for_what_the_policies_need() {
        assert_eq!(found(&site("a.example", "good", "")), []);
        assert_eq!(found(&site("a.example", "good", ", profile = \"tiny\"")), []);
        let two = site("a.example", "down", "") + &site("b.example", "down", "");
        let told = found(&two);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1.contains("status 503"));
        for (authority, more, part) in [
            ("good", ", profile = \"huge\"", "it lists: big?, tiny"),
            ("eab", "", "asks for an external account"),
            ("other", "", "is not the directory"),
            ("absent", "", "no connection in time"),
        ] {
            let told = found(&site("a.example", authority, more));
            assert!(told.len() == 1 && told[0].0 == Code::AuthorityUnfit, "{told:?}");
            assert!(told[0].1.contains(part), "{told:?}");
        }
    }

    #[test]
    fn nobody_is_asked_for_what_is_not_ordered() {
        assert_eq!(found("\"a.example\" = \"demo\"\nlocalhost = \"demo\"\n"), []);
        assert_eq!(found("\"app.lockring.org\" = { to = \"demo\", acme = false }\n"), []);
    }

    #[test]
    fn names_that_cannot_be_found_are_told() {
        let acme = "acme = { directory = \"https://good.internal/d\" }";
        let told = found(&format!("\"a.example\" = {{ to = \"demo\", {acme} }}\n"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == Code::NoAddress && told[0].1.contains("a.example"), "{told:?}");
    }
}
