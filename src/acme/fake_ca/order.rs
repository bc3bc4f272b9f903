//! The fake authority's authorizations, challenges, and the way of an order to its certificate.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{CertificateSigningRequestParams, SanType, SerialNumber};
use serde_json::{Value, json};

use super::{BASE, KeptAuthorization, KeptChallenge, Reply, State, refuse};
use crate::acme::ari;
use crate::acme::ca::base64url;
use crate::acme::slot::Identifier;

impl State {
    pub(super) fn new_authorization(&mut self, (kind, value): &(String, String)) -> KeptAuthorization {
        let is_wildcard = value.starts_with("*.");
        let mut kinds = if is_wildcard { vec!["dns-01"] } else { vec!["http-01", "tls-alpn-01", "dns-01"] };
        if self.behaviour.odd_challenges {
            kinds.splice(0..0, ["carrier-pigeon-01", "dns-persist-01"]);
        }
        let challenges = kinds.into_iter().map(|kind| KeptChallenge {
            kind,
            token: (kind != "dns-persist-01").then(|| format!("token-{}_{kind}", self.random())),
            status: "pending",
            error: None,
        });
        KeptAuthorization {
            identifier: (kind.clone(), value.trim_start_matches("*.").to_owned()),
            is_wildcard,
            challenges: challenges.collect(),
            status: if self.behaviour.authorizations_valid { "valid" } else { "pending" },
        }
    }

    /// A request for an order moves it on.
    pub(super) fn see_order(&mut self, number: usize) -> Reply {
        if number >= self.orders.len() {
            return refuse(404, "malformed", "no such order");
        }
        self.advance(number);
        let retry = self.behaviour.order_retry_after.clone().map(|value| ("retry-after", value));
        Ok((200, retry.into_iter().collect(), self.order(number)))
    }

    fn advance(&mut self, number: usize) {
        let order = &mut self.orders[number];
        let statuses: Vec<_> =
            order.authorizations.iter().map(|at| self.authorizations[*at].status).collect();
        let next = match order.status {
            "pending" if statuses.contains(&"invalid") => "invalid",
            "pending" if statuses.iter().all(|status| *status == "valid") => "ready",
            "processing" => "valid",
            _ => return,
        };
        match order.polls {
            0 => (order.status, order.polls) = (next, self.behaviour.polls),
            _ => order.polls -= 1,
        }
    }

    pub(super) fn order(&self, number: usize) -> Value {
        let order = &self.orders[number];
        let identifiers: Vec<Value> =
            order.identifiers.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
        let authorizations: Vec<String> =
            order.authorizations.iter().map(|at| format!("{BASE}/authorization/{at}")).collect();
        let mut body = json!({
            "status": order.status, "identifiers": identifiers, "authorizations": authorizations,
            "finalize": format!("{BASE}/finalize/{number}"),
        });
        if order.status == "valid" {
            body["certificate"] = json!(format!("{BASE}/certificate/{number}"));
        }
        if order.status == "invalid" && !self.behaviour.omits_order_error {
            body["error"] =
                json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": "order failed"});
        }
        for (name, value) in [("profile", &order.profile), ("replaces", &order.replaces)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }

    pub(super) fn authorization(&self, number: usize) -> Value {
        let one = &self.authorizations[number];
        let challenges = (0..one.challenges.len()).map(|at| self.shown_challenge(number, at));
        json!({
            "status": one.status, "wildcard": one.is_wildcard, "challenges": challenges.collect::<Vec<_>>(),
            "identifier": {"type": one.identifier.0, "value": one.identifier.1},
        })
    }

    fn shown_challenge(&self, number: usize, at: usize) -> Value {
        let challenge = &self.authorizations[number].challenges[at];
        let mut body = json!({
            "type": challenge.kind, "url": format!("{BASE}/challenge/{number}/{at}"), "status": challenge.status,
        });
        if let Some(token) = &challenge.token {
            body["token"] = json!(token);
        }
        if let Some(detail) = &challenge.error {
            body["error"] = json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": detail});
        }
        body
    }

    pub(super) fn challenge(&mut self, number: usize, at: usize) -> Reply {
        let authorization = &mut self.authorizations[number];
        let (kind, value) = &authorization.identifier;
        let identifier = match value.parse::<IpAddr>() {
            Ok(address) if kind == "ip" => Identifier::Ip(address),
            _ => Identifier::Dns(value.clone()),
        };
        let challenge = &mut authorization.challenges[at];
        if authorization.status != "pending" || challenge.status != "pending" {
            return refuse(400, "malformed", "the challenge is not pending");
        }
        let shown = challenge.token.clone().unwrap_or_default();
        let verdict = (self.behaviour.validator)(&identifier, challenge.kind, &shown);
        challenge.error = verdict.err();
        challenge.status = if challenge.error.is_none() { "valid" } else { "invalid" };
        authorization.status = challenge.status;
        for order in self.orders.iter_mut().filter(|order| order.authorizations.contains(&number)) {
            order.polls = self.behaviour.polls;
        }
        // As authorities do: the answer is sent before the verdict.
        let mut body = self.shown_challenge(number, at);
        body["status"] = json!("processing");
        body.as_object_mut().unwrap().remove("error");
        Ok((200, Vec::new(), body))
    }

    pub(super) fn finalize(&mut self, number: usize, payload: &Value) -> Reply {
        if self.orders[number].polls == 0 {
            self.advance_pending(number);
        }
        if self.orders[number].status != "ready" {
            return refuse(403, "orderNotReady", "not ready");
        }
        let csr = base64url::decode(payload["csr"].as_str().unwrap()).unwrap().to_vec();
        let Ok(mut csr) = CertificateSigningRequestParams::from_der(&csr.into()) else {
            return refuse(400, "badCSR", "cannot be read");
        };
        let mut names: Vec<String> = csr.params.subject_alt_names.iter().map(name_of).collect();
        let mut wanted: Vec<String> =
            self.orders[number].identifiers.iter().map(|(_, value)| value.clone()).collect();
        names.sort();
        wanted.sort();
        if names != wanted {
            return refuse(400, "badCSR", "other names");
        }
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        csr.params.not_before = epoch + Duration::from_secs(self.behaviour.now - 3600);
        csr.params.not_after = epoch + Duration::from_secs(self.behaviour.now + self.behaviour.life);
        csr.params.use_authority_key_identifier_extension = true;
        let serial = self.random().to_be_bytes();
        csr.params.serial_number =
            Some(SerialNumber::from_slice(&[&[0x80 | serial[4]], &serial[..]].concat()));
        let certificate = csr.signed_by(&self.issuer).unwrap();
        self.certificates.insert(ari::certificate_id(certificate.der()).unwrap(), false);
        let order = &mut self.orders[number];
        order.chain = Some(format!("{}{}", certificate.pem(), self.root));
        order.status = "processing";
        order.polls = self.behaviour.polls;
        if self.behaviour.polls == 0 {
            order.status = "valid";
        }
        Ok((200, Vec::new(), self.order(number)))
    }

    fn advance_pending(&mut self, number: usize) {
        if self.orders[number].status == "pending" {
            self.advance(number);
        }
    }
}

fn name_of(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.as_str().to_owned(),
        SanType::IpAddress(address) => address.to_string(),
        other => panic!("a name of another kind: {other:?}"),
    }
}
