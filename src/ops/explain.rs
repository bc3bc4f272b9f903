//! `lockring explain`: what the running process would do with a request. Nothing here decides: the ClientHello
//! of a usual client and the head of a usual request go through the very code that serves traffic, up to the
//! point where an app would be dialled.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::certs::{columns, plain};
use super::overview::CertificatePart;
use crate::config::model::{PathPattern, Upstream};
use crate::http::authority;
use crate::io::worker::Setup;
use crate::proxy::exchange::{Action, Context, Exchange};
use crate::proxy::outcome::ConnectionFacts;
use crate::tls::certs::Entry;
use crate::tls::choose::choose;
use crate::tls::client_hello;
use crate::upstream::group::{EndpointId, GroupId};
use crate::upstream::resolve::Resolved;
use crate::wire::Parse;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The URL.
    pub url: String,
    /// Address of the client.
    pub from: Option<String>,
    /// Port of the HTTPS listener.
    pub https_port: u16,
}

/// Why there is no explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainError {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// No host, or one that no request can name.
    Host,
    /// A blank, a control character, or something beyond ASCII.
    Byte,
    /// The client's address is none.
    From,
    /// No client of the usual kind can be made.
    Client,
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "write a URL that begins with https:// or http://",
            Self::Host => "the URL has no host that a request could name",
            Self::Byte => "the URL has a character that must be escaped",
            Self::From => "--from takes an IP address",
            Self::Client => "no TLS client can be made for that host",
        })
    }
}

impl std::error::Error for ExplainError {}

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// The URL.
    pub url: String,
    /// The client's address.
    pub from: String,
    /// Whether its forwarding fields are believed.
    pub trusted: bool,
    /// The TLS handshake, over HTTPS.
    pub tls: Option<TlsPart>,
    /// Host pattern of the site.
    pub site: Option<String>,
    /// Path pattern of the route.
    pub route: Option<String>,
    /// The answer, if the proxy gives it by itself.
    pub answer: Option<AnswerPart>,
    /// Where the request may go.
    pub upstreams: Vec<Endpoint>,
    /// Fields that the app gets from the proxy, whatever the client sent.
    pub set: Vec<(String, String)>,
    /// Fields of the client that the app does not get.
    pub removed: Vec<String>,
}

/// The handshake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsPart {
    /// The name that the client sends; addresses are not sent (RFC 6066 §3).
    pub server_name: Option<String>,
    /// Why there is no handshake.
    pub refused: Option<String>,
    /// Certificates of the site chosen, the one that usual clients get first.
    pub certificates: Vec<CertificatePart>,
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerPart {
    /// Status.
    pub status: u16,
    /// Why, as in the access log.
    pub reason: Option<String>,
    /// Where the client is sent.
    pub location: Option<String>,
}

/// An upstream of the route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// As configured.
    pub upstream: String,
    /// What its name resolves to; none for sockets and the demonstration app.
    pub addresses: Vec<String>,
    /// Why it cannot be resolved.
    pub error: Option<String>,
    /// Requests and dials under way.
    pub in_flight: u64,
    /// Failures to connect so far.
    pub connect_failures: u64,
}

/// Says what `setup` does with a request.
///
/// # Errors
/// [`ExplainError`] for what is no request.
pub fn explain(setup: &Setup, resolved: &Resolved, question: &Question) -> Result<Explanation, ExplainError> {
    let asked = Asked::read(question)?;
    let network = |ip| setup.model.server.trusted_proxies.iter().any(|network| network.contains(ip));
    let mut explanation = Explanation {
        url: question.url.clone(),
        from: asked.from.to_string(),
        trusted: network(asked.from),
        ..Explanation::default()
    };
    let mut entry = None;
    if asked.https {
        let (part, found) = handshake(setup, &asked)?;
        let refused = part.refused.is_some();
        explanation.tls = Some(part);
        if refused {
            return Ok(explanation);
        }
        entry = found;
    }
    request(setup, resolved, question, &asked, entry.as_deref(), &mut explanation);
    Ok(explanation)
}

/// A question, read.
struct Asked<'a> {
    https: bool,
    authority: &'a str,
    host: &'a str,
    target: String,
    from: IpAddr,
}

impl<'a> Asked<'a> {
    fn read(question: &'a Question) -> Result<Self, ExplainError> {
        let url = question.url.as_str();
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ExplainError::Byte);
        }
        let schemes = [("https://", true), ("http://", false)];
        let (rest, https) = schemes
            .into_iter()
            .find_map(|(scheme, https)| Some((url.strip_prefix(scheme)?, https)))
            .ok_or(ExplainError::Scheme)?;
        // A fragment is never sent (RFC 3986 §3.5).
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let span = authority::parse(authority.as_bytes()).map_err(|_| ExplainError::Host)?.host;
        let host = std::str::from_utf8(span.of(authority.as_bytes())).map_err(|_| ExplainError::Host)?;
        let from = question.from.as_deref().map(str::parse::<IpAddr>).transpose();
        let from = from.map_err(|_| ExplainError::From)?.unwrap_or(FROM);
        Ok(Self { https, authority, host, target, from: from.to_canonical() })
    }
}

/// A client without another address: one of those kept for documentation (RFC 5737), which nobody trusts.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Lets a usual client greet.
fn handshake(setup: &Setup, asked: &Asked<'_>) -> Result<(TlsPart, Option<Arc<Entry>>), ExplainError> {
    let bare = asked.host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let local = bare.parse::<IpAddr>().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| ExplainError::Client)?;
    let mut client =
        ClientConnection::new(Arc::clone(&setup.upstream_tls), name).map_err(|_| ExplainError::Client)?;
    let (mut bytes, mut scratch) = (Vec::new(), Vec::new());
    client.write_tls(&mut bytes).map_err(|_| ExplainError::Client)?;
    let hello = match client_hello::read(&bytes, &mut scratch) {
        Ok(Parse::Done { value, .. }) => value,
        Ok(Parse::Partial) | Err(_) => return Err(ExplainError::Client),
    };
    let server_name = hello.server_name().map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(match choose(&setup.store, &hello, local) {
        Ok(chosen) => {
            let pairs = chosen.entry.pairs().iter();
            let certificates = pairs.map(|pair| CertificatePart::of(pair)).collect();
            (TlsPart { server_name, refused: None, certificates }, Some(Arc::clone(chosen.entry)))
        }
        Err(refusal) => {
            let refused = Some(refusal.reason().to_owned());
            (TlsPart { server_name, refused, certificates: Vec::new() }, None)
        }
    })
}

/// What clients send that a proxy has to do something about; values that cannot be mistaken for others.
const CLIENT_FIELDS: [(&str, &str); 10] = [
    ("User-Agent", "explain"),
    ("Accept", "*/*"),
    ("Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Host", "forwarded.invalid"),
    ("X-Real-IP", "203.0.113.7"),
    ("Forwarded", "for=203.0.113.7"),
    ("X_Under_Score", "1"),
];

fn request(
    setup: &Setup,
    resolved: &Resolved,
    question: &Question,
    asked: &Asked<'_>,
    entry: Option<&Entry>,
    explanation: &mut Explanation,
) {
    let facts = ConnectionFacts {
        client: SocketAddr::new(asked.from, 0),
        client_ip: asked.from.to_string(),
        trusted: explanation.trusted,
        tls: asked.https.then_some("TLSv1.3"),
        resumed: false,
        worker: 0,
    };
    let now = Instant::now();
    let context = Context {
        model: &setup.model,
        table: &setup.table,
        facts: &facts,
        entry,
        store: Some(&setup.store),
        tokens: &setup.tokens,
        https_port: question.https_port,
        draining: false,
        now,
        date: b"",
    };
    let mut head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", asked.target, asked.authority);
    for (name, value) in CLIENT_FIELDS {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    let mut exchange = Exchange::new(now);
    exchange.receive_request(&context, head.as_bytes());
    let site = exchange.outcome().site;
    explanation.site =
        site.and_then(|site| setup.model.sites.get(site as usize)).map(|site| site.host.to_string());
    let demo = exchange.outcome().endpoint;
    match exchange.next_action() {
        Some(Action::Acquire { group, .. }) => {
            explanation.route = route(setup, group);
            let members = setup.table.groups().members(group);
            explanation.upstreams = members.iter().filter_map(|id| endpoint(setup, resolved, *id)).collect();
            let sent = String::from_utf8_lossy(exchange.upstream_out()).into_owned();
            (explanation.set, explanation.removed) = difference(&sent);
        }
        _ if demo.is_some() => {
            explanation.upstreams = demo.and_then(|id| endpoint(setup, resolved, id)).into_iter().collect();
        }
        _ => {
            let location = String::from_utf8_lossy(exchange.client_out()).into_owned();
            let location = fields(&location).find(|(name, _)| *name == "Location");
            let location = location.map(|(_, value)| value.to_owned());
            let outcome = exchange.outcome();
            let reason = outcome.reason.map(str::to_owned);
            explanation.answer = Some(AnswerPart { status: outcome.status, reason, location });
        }
    }
}

/// The pattern of the route that leads to `group`: groups are numbered in the order of all routes.
fn route(setup: &Setup, group: GroupId) -> Option<String> {
    let mut routes = setup.model.sites.iter().flat_map(|site| &site.routes);
    routes.nth(group.0 as usize).map(|route| match &route.path {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    })
}

fn endpoint(setup: &Setup, resolved: &Resolved, id: EndpointId) -> Option<Endpoint> {
    let endpoint = setup.table.groups().endpoint(id)?;
    let sums = setup.meters.endpoint(id.0 as usize);
    let mut part = Endpoint {
        upstream: endpoint.label.to_string(),
        in_flight: sums.in_flight,
        connect_failures: sums.connect_failures,
        ..Endpoint::default()
    };
    if let Upstream::Tcp { host, port, .. } = &endpoint.upstream {
        match resolved.lookup(host, *port) {
            Ok(addresses) => part.addresses = addresses.iter().map(ToString::to_string).collect(),
            Err(error) => part.error = Some(error.to_owned()),
        }
    }
    Some(part)
}

fn fields(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.lines().skip(1).filter_map(|line| line.split_once(": "))
}

/// Fields of the new head that are not the client's, and fields of the client that are not in it.
fn difference(sent: &str) -> (Vec<(String, String)>, Vec<String>) {
    let is_kept = |field: &(&str, &str)| CLIENT_FIELDS.contains(field);
    let set =
        fields(sent).filter(|field| !is_kept(field)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let gone = |(name, value): &&(&str, &str)| !fields(sent).any(|field| field == (*name, *value));
    let removed = CLIENT_FIELDS.iter().filter(gone).map(|(name, _)| (*name).to_owned()).collect();
    (set, removed)
}

impl Explanation {
    /// As JSON, ending in a line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Its types have no map, so this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rows = Vec::new();
        let mut row = |what: &str, text: String| rows.push([what.to_owned(), plain(&text)]);
        row("url", self.url.clone());
        let believed = if self.trusted { "believed" } else { "not believed" };
        row("client", format!("{}, whose forwarding fields are {believed}", self.from));
        if let Some(tls) = &self.tls {
            row("server name", tls.server_name.clone().unwrap_or_else(|| "none: an address".to_owned()));
            for pair in &tls.certificates {
                let names = pair.names.join(", ");
                row(
                    "certificate",
                    format!("{names} ({}, serial {}, by {})", pair.key, pair.serial, pair.issuer),
                );
            }
            if let Some(reason) = &tls.refused {
                row("refused", format!("{reason}: the handshake ends with an alert"));
            }
        }
        self.site.iter().for_each(|site| row("site", site.clone()));
        self.route.iter().for_each(|route| row("route", route.clone()));
        if let Some(answer) = &self.answer {
            let reason = answer.reason.as_deref().unwrap_or("answered here");
            row("answer", format!("{}: {reason}", answer.status));
            answer.location.iter().for_each(|location| row("location", location.clone()));
        }
        for upstream in &self.upstreams {
            let figures =
                format!("{} in flight, {} connect failures", upstream.in_flight, upstream.connect_failures);
            let place = match &upstream.error {
                Some(error) => format!(" -> {error}"),
                None if upstream.addresses.is_empty() => String::new(),
                None => format!(" -> {}", upstream.addresses.join(", ")),
            };
            row("upstream", format!("{}{place} ({figures})", upstream.upstream));
        }
        self.set.iter().for_each(|(name, value)| row("set", format!("{name}: {value}")));
        if !self.removed.is_empty() {
            row("not passed on", self.removed.join(", "));
        }
        columns(&rows)
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
