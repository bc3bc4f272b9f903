//! An authority in this process, for tests: a [`Transport`] without sockets that really keeps accounts,
//! orders and authorizations and issues certificates. It checks nonces and URLs of what it is sent, not
//! signatures. [`Behaviour`] says what kind of authority it is, [`Fault`]s happen at chosen steps, and
//! every request is counted.

mod order;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ca::{Step, base64url};
use super::http_client::{Exchange, Transport, TransportError};
use super::slot::Identifier;

/// URL of its directory.
pub(crate) const DIRECTORY: &str = "https://ca.test/directory";
const BASE: &str = "https://ca.test";

/// Decides a challenge: the name (without `*.`), the kind and the token; `Err` is the problem's detail.
pub(crate) type Validator = Arc<dyn Fn(&Identifier, &str, &str) -> Result<(), String> + Send + Sync>;

/// What kind of authority it is. Times in seconds, since 1970 where they are moments.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) now: u64,
    pub(crate) life: u64,
    pub(crate) profiles: Vec<String>,
    /// Orders come back without the profile that was asked for.
    pub(crate) ignores_profile: bool,
    pub(crate) has_renewal_info: bool,
    /// Window and `Retry-After` of every known certificate; none: 404.
    pub(crate) window: Option<(u64, u64)>,
    pub(crate) window_retry_after: Option<String>,
    /// As Boulder: an order that matches a pending or ready one is that one.
    pub(crate) shares_orders: bool,
    /// As Boulder: `error` of an invalid order stays empty.
    pub(crate) omits_order_error: bool,
    /// Orders come back without `replaces`.
    pub(crate) ignores_replaces: bool,
    pub(crate) authorizations_valid: bool,
    /// Further challenges that nobody knows, one of them without a token.
    pub(crate) odd_challenges: bool,
    pub(crate) requires_external: bool,
    /// Refused nonces, in percent.
    pub(crate) bad_nonces: u64,
    /// Order requests that still say `pending` after a challenge, and `processing` after the CSR.
    pub(crate) polls: u32,
    pub(crate) order_retry_after: Option<String>,
    pub(crate) is_down: bool,
    pub(crate) knows_accounts: bool,
    pub(crate) validator: Validator,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            now: 1_790_000_000,
            life: 90 * 24 * 3600,
            profiles: vec!["classic".to_owned(), "shortlived".to_owned()],
            ignores_profile: false,
            has_renewal_info: true,
            window: None,
            window_retry_after: None,
            shares_orders: false,
            omits_order_error: false,
            ignores_replaces: false,
            authorizations_valid: false,
            odd_challenges: false,
            requires_external: false,
            bad_nonces: 0,
            polls: 0,
            order_retry_after: None,
            is_down: false,
            knows_accounts: true,
            validator: Arc::new(|_, _, _| Ok(())),
        }
    }
}

/// What happens instead of, or after, the right answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing is done, and this is answered: status, content type, further headers, body.
    Answer(u16, &'static str, Vec<(&'static str, String)>, String),
    /// No answer, ever.
    Hang,
    /// It is done, and the connection breaks before the answer.
    Lost,
    /// No connection.
    Refused,
}

impl Fault {
    /// A problem document.
    pub(crate) fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let body =
            json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail}).to_string();
        Self::Answer(status, "application/problem+json", Vec::new(), body)
    }
}

#[derive(Clone)]
struct KeptOrder {
    identifiers: Vec<(String, String)>,
    authorizations: Vec<usize>,
    status: &'static str,
    profile: Option<String>,
    replaces: Option<String>,
    chain: Option<String>,
    polls: u32,
}

struct KeptAuthorization {
    identifier: (String, String),
    is_wildcard: bool,
    status: &'static str,
    challenges: Vec<KeptChallenge>,
}

struct KeptChallenge {
    kind: &'static str,
    token: Option<String>,
    status: &'static str,
    error: Option<String>,
}

/// Everything it knows.
struct State {
    behaviour: Behaviour,
    faults: Vec<(Step, Fault, u32)>,
    log: Vec<Step>,
    nonces: HashSet<String>,
    count: u64,
    accounts: Vec<Value>,
    orders: Vec<KeptOrder>,
    authorizations: Vec<KeptAuthorization>,
    /// By [`super::ari::certificate_id`]: whether it was replaced.
    certificates: HashMap<String, bool>,
    revoked: Vec<Vec<u8>>,
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

/// The authority; copies are the same one.
#[derive(Clone)]
pub(crate) struct FakeCa {
    state: Arc<watch::Sender<State>>,
}

type Reply = Result<(u16, Vec<(&'static str, String)>, Value), (u16, &'static str, String)>;

impl FakeCa {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        let state = State {
            behaviour: Behaviour::default(),
            faults: Vec::new(),
            log: Vec::new(),
            nonces: HashSet::new(),
            count: 0,
            accounts: Vec::new(),
            orders: Vec::new(),
            authorizations: Vec::new(),
            certificates: HashMap::new(),
            revoked: Vec::new(),
            issuer: Issuer::new(params, key),
            root,
        };
        Self { state: Arc::new(watch::Sender::new(state)) }
    }

    /// Changes its ways.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        self.state.send_modify(|state| change(&mut state.behaviour));
    }

    /// The next `times` requests of this step go wrong.
    pub(crate) fn inject(&self, step: Step, fault: Fault, times: u32) {
        self.state.send_modify(|state| state.faults.push((step, fault, times)));
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.state.send_modify(|state| state.faults.clear());
    }

    /// Every request so far, in order.
    pub(crate) fn log(&self) -> Vec<Step> {
        self.state.borrow().log.clone()
    }

    /// Requests of one step so far.
    pub(crate) fn requests(&self, step: Step) -> usize {
        self.state.borrow().log.iter().filter(|logged| **logged == step).count()
    }

    /// Certificates issued so far.
    pub(crate) fn issued(&self) -> usize {
        self.state.borrow().certificates.len()
    }

    /// Certificates (DER) revoked so far.
    pub(crate) fn revoked(&self) -> Vec<Vec<u8>> {
        self.state.borrow().revoked.clone()
    }

    /// Its own certificate in PEM.
    pub(crate) fn root(&self) -> String {
        self.state.borrow().root.clone()
    }
}

impl Transport for FakeCa {
    fn send(&self, request: Request<Bytes>) -> Exchange {
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let step = step_of(request.uri().path());
            let mut outcome = Err(TransportError::Connect("connection refused".to_owned()));
            let mut fault = None;
            state.send_modify(|state| {
                state.log.push(step);
                if state.behaviour.is_down {
                    return;
                }
                fault = state.fault(step);
                outcome = match &fault {
                    Some(Fault::Answer(status, kind, headers, body)) => {
                        Ok(state.respond(*status, kind, headers.clone(), body.clone()))
                    }
                    Some(Fault::Hang | Fault::Refused) => return,
                    Some(Fault::Lost) | None => Ok(state.answer(step, &request)),
                };
            });
            match fault {
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::Lost) => Err(TransportError::Connect("connection reset".to_owned())),
                _ => outcome,
            }
        })
    }
}

fn step_of(path: &str) -> Step {
    match path.split('/').nth(1).unwrap_or_default() {
        "directory" => Step::Directory,
        "nonce" => Step::NewNonce,
        "account" => Step::NewAccount,
        "new-order" => Step::NewOrder,
        "order" => Step::Order,
        "authorization" => Step::Authorization,
        "challenge" => Step::Challenge,
        "finalize" => Step::Finalize,
        "certificate" => Step::Certificate,
        "ari" => Step::RenewalInfo,
        "revoke" => Step::Revoke,
        other => panic!("a URL that was never given: {other}"),
    }
}

fn refuse<T>(status: u16, kind: &'static str, detail: &str) -> Result<T, (u16, &'static str, String)> {
    Err((status, kind, detail.to_owned()))
}

fn numbers(path: &str) -> Vec<usize> {
    path.split('/').filter_map(|word| word.parse().ok()).collect()
}

impl State {
    fn fault(&mut self, step: Step) -> Option<Fault> {
        let (_, fault, left) = self.faults.iter_mut().find(|(at, _, left)| *at == step && *left > 0)?;
        *left -= 1;
        Some(fault.clone())
    }

    /// The same sequence in each run, spread evenly.
    fn random(&mut self) -> u64 {
        self.count += 1;
        let mixed = (self.count ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32
    }

    fn respond(
        &mut self,
        status: u16,
        kind: &str,
        headers: Vec<(&'static str, String)>,
        body: String,
    ) -> Response<Bytes> {
        let nonce = format!("nonce-{}", self.random());
        self.nonces.insert(nonce.clone());
        let mut date = Vec::new();
        crate::http::date::write_imf_fixdate(self.behaviour.now, &mut date);
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        let ours = [("content-type", kind.to_owned()), ("replay-nonce", nonce)];
        let date = ("date", String::from_utf8(date).unwrap());
        // Headers of a fault take the place of these.
        for (name, value) in ours.into_iter().chain([date]).chain(headers) {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    }

    fn answer(&mut self, step: Step, request: &Request<Bytes>) -> Response<Bytes> {
        match self.act(step, request) {
            Ok((status, headers, Value::String(text))) => {
                self.respond(status, "application/pem-certificate-chain", headers, text)
            }
            Ok((status, headers, body)) => {
                self.respond(status, "application/json", headers, body.to_string())
            }
            Err((status, kind, detail)) => {
                let Fault::Answer(status, media, headers, body) = Fault::problem(status, kind, &detail)
                else {
                    unreachable!()
                };
                self.respond(status, media, headers, body)
            }
        }
    }

    fn act(&mut self, step: Step, request: &Request<Bytes>) -> Reply {
        let path = request.uri().path().to_owned();
        match step {
            Step::Directory => return Ok((200, Vec::new(), self.directory())),
            Step::NewNonce => return Ok((200, Vec::new(), Value::Null)),
            Step::RenewalInfo => return self.renewal_info(&path),
            _ => {}
        }
        assert_eq!(request.method(), Method::POST);
        let payload = self.open(step, request)?;
        let number = numbers(&path).first().copied().unwrap_or_default();
        match step {
            Step::NewAccount => self.new_account(&payload),
            Step::NewOrder => self.new_order(&payload),
            Step::Order => self.see_order(number),
            Step::Authorization => Ok((200, Vec::new(), self.authorization(number))),
            Step::Challenge => self.challenge(number, numbers(&path)[1]),
            Step::Finalize => self.finalize(number, &payload),
            Step::Certificate => {
                let Some(chain) = self.orders[number].chain.clone() else {
                    return refuse(404, "malformed", "none");
                };
                let link = format!("<{BASE}/certificate/{number}/alternate>;rel=\"alternate\"");
                Ok((200, vec![("link", link)], Value::String(chain)))
            }
            _ => {
                let der = base64url::decode(payload["certificate"].as_str().unwrap()).unwrap().to_vec();
                if self.revoked.contains(&der) {
                    return refuse(400, "alreadyRevoked", "it is");
                }
                self.revoked.push(der);
                Ok((200, Vec::new(), json!({})))
            }
        }
    }

    /// The payload of a JWS, once its nonce, URL and account are good.
    fn open(&mut self, step: Step, request: &Request<Bytes>) -> Result<Value, (u16, &'static str, String)> {
        let read = |text: &Value| base64url::decode(text.as_str().unwrap()).unwrap().to_vec();
        let jws: Value = serde_json::from_slice(request.body()).unwrap();
        let header: Value = serde_json::from_slice(&read(&jws["protected"])).unwrap();
        assert_eq!(header["url"].as_str().unwrap(), request.uri().to_string());
        let is_known = self.nonces.remove(header["nonce"].as_str().unwrap());
        if !is_known || self.random() % 100 < self.behaviour.bad_nonces {
            return refuse(400, "badNonce", "try again");
        }
        let by_key = step == Step::NewAccount;
        assert_eq!(header.get("jwk").is_some(), by_key, "key or account");
        let account = header["kid"].as_str().and_then(|kid| numbers(kid).first().copied());
        let is_known = account.is_some_and(|account| account < self.accounts.len());
        if !(by_key || is_known && self.behaviour.knows_accounts) {
            return refuse(400, "accountDoesNotExist", "who are you");
        }
        let payload = read(&jws["payload"]);
        Ok(if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).unwrap() })
    }

    fn directory(&self) -> Value {
        let profiles: serde_json::Map<String, Value> =
            self.behaviour.profiles.iter().map(|name| (name.clone(), json!("a profile"))).collect();
        let mut directory = json!({
            "newNonce": format!("{BASE}/nonce"), "newAccount": format!("{BASE}/account"),
            "newOrder": format!("{BASE}/new-order"), "revokeCert": format!("{BASE}/revoke"),
            "keyChange": format!("{BASE}/key-change"),
            "meta": {"termsOfService": format!("{BASE}/terms"), "caaIdentities": ["ca.test"], "profiles": profiles},
        });
        if self.behaviour.has_renewal_info {
            directory["renewalInfo"] = json!(format!("{BASE}/ari"));
        }
        directory
    }

    fn renewal_info(&self, path: &str) -> Reply {
        let id = path.trim_start_matches("/ari/");
        let known = self.behaviour.window.filter(|_| self.certificates.contains_key(id));
        let Some((start, end)) = known else { return refuse(404, "malformed", "unknown certificate") };
        let window = json!({"start": rfc3339(start), "end": rfc3339(end)});
        let body = json!({"suggestedWindow": window, "explanationURL": "https://ca.test/why"});
        let retry = self.behaviour.window_retry_after.clone().map(|value| ("retry-after", value));
        Ok((200, retry.into_iter().collect(), body))
    }

    fn new_account(&mut self, payload: &Value) -> Reply {
        if self.behaviour.requires_external && payload.get("externalAccountBinding").is_none() {
            return refuse(403, "externalAccountRequired", "bind it");
        }
        self.accounts.push(payload.clone());
        self.behaviour.knows_accounts = true;
        let url = format!("{BASE}/account/{}", self.accounts.len() - 1);
        Ok((201, vec![("location", url)], json!({"status": "valid"})))
    }

    fn new_order(&mut self, payload: &Value) -> Reply {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let wanted = payload["identifiers"].as_array().unwrap().iter();
        let identifiers: Vec<(String, String)> =
            wanted.map(|one| (text(&one["type"]).unwrap(), text(&one["value"]).unwrap())).collect();
        if self.behaviour.shares_orders {
            let same = |order: &KeptOrder| {
                order.identifiers == identifiers && ["pending", "ready"].contains(&order.status)
            };
            if let Some(number) = self.orders.iter().position(same) {
                return Ok((201, vec![("location", format!("{BASE}/order/{number}"))], self.order(number)));
            }
        }
        let replaces = text(&payload["replaces"]);
        match replaces.as_ref().map(|id| self.certificates.get_mut(id)) {
            Some(None) => return refuse(400, "malformed", "replaces an unknown certificate"),
            Some(Some(true)) => return refuse(409, "alreadyReplaced", "it is"),
            Some(Some(used)) => *used = true,
            None => {}
        }
        let mut authorizations = Vec::new();
        for identifier in &identifiers {
            let one = self.new_authorization(identifier);
            self.authorizations.push(one);
            authorizations.push(self.authorizations.len() - 1);
        }
        self.orders.push(KeptOrder {
            identifiers,
            authorizations,
            status: if self.behaviour.authorizations_valid { "ready" } else { "pending" },
            profile: text(&payload["profile"]).filter(|_| !self.behaviour.ignores_profile),
            replaces: replaces.filter(|_| !self.behaviour.ignores_replaces),
            chain: None,
            polls: 0,
        });
        let number = self.orders.len() - 1;
        Ok((201, vec![("location", format!("{BASE}/order/{number}"))], self.order(number)))
    }
}

/// A moment as RFC 3339 writes it.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let (month, day) = (u8::from(time.month()), time.day());
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
