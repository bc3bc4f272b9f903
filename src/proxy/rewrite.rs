//! Heads are never passed on as they came: each is written anew, field by field, with hop-by-hop fields
//! removed (RFC 9110 §7.6.1) and the proxy's own set afterwards, so that no client can name them away.

use std::net::IpAddr;

use crate::config::model::Server;
use crate::http::field::Name;
use crate::http::head::{FieldLine, RequestHead, ResponseHead, Version};
use crate::http::target::Form;
use crate::http1::framing::Framing;
use crate::http1::request::{self, Request};
use crate::http1::response::Response;
use crate::http1::write;
use crate::proxy::outcome::ConnectionFacts;
use crate::wire::Span;

/// A received head with its bytes and what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Bytes of the head.
    pub bytes: &'a [u8],
    /// Its index.
    pub head: &'a RequestHead,
    /// What is asked.
    pub request: &'a Request,
}

impl<'a> Received<'a> {
    /// The request-target as sent.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.head.target.of(self.bytes)
    }

    /// A part of the target, whose spans are relative to it.
    #[must_use]
    pub fn part(&self, span: Span) -> &'a [u8] {
        span.of(self.target())
    }

    /// `host[:port]` that the request is for: of the target if that is absolute, else of Host.
    #[must_use]
    pub fn authority(&self) -> &'a [u8] {
        match self.request.target.authority {
            Some(span) => self.part(span),
            None => self.fields(Name::Host).next().unwrap_or_default(),
        }
    }

    fn fields(&self, known: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.head.fields.iter().filter(move |line| line.known == known).map(move |line| line.value.of(bytes))
    }
}

/// Appends the head that goes to the app.
pub fn request_head(received: &Received<'_>, facts: &ConnectionFacts, server: &Server, out: &mut Vec<u8>) {
    request_line(received, out);
    write::field(out, b"Host", received.authority());
    for line in &received.head.fields {
        if passes(
            line,
            received.bytes,
            &received.head.fields,
            received.request.connection.names_others,
            server,
        ) {
            write::field(out, line.name.of(received.bytes), line.value.of(received.bytes));
        }
    }
    match received.request.framing {
        Framing::Length(length) => content_length(out, length),
        Framing::Chunked => write::field(out, b"Transfer-Encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
    if received.request.expect_continue {
        write::field(out, b"Expect", b"100-continue");
    }
    if let Some(upgrade) = received.request.upgrade {
        write::field(out, b"Connection", b"upgrade");
        write::field(out, b"Upgrade", upgrade.of(received.bytes));
    }
    forwarding_fields(received, facts, server, out);
    // RFC 9110 §7.6.3: a gateway sends Via in each request that it forwards.
    let version: &[u8] =
        if received.head.version == Version::Http10 { b"1.0 lockring" } else { b"1.1 lockring" };
    write::field(out, b"Via", version);
    write::end(out);
}

fn request_line(received: &Received<'_>, out: &mut Vec<u8>) {
    let method = received.head.method_name.of(received.bytes);
    let target = &received.request.target;
    if !matches!(target.form, Form::Absolute) {
        return write::request_line(out, method, received.target());
    }
    // RFC 9112 §3.2.2: the origin server gets origin-form, `*` for an OPTIONS without path.
    out.extend_from_slice(method);
    out.push(b' ');
    let path = received.part(target.path);
    match (path, target.query) {
        (b"", None) if method == b"OPTIONS" => out.push(b'*'),
        (b"", _) => out.push(b'/'),
        _ => out.extend_from_slice(path),
    }
    if let Some(query) = target.query {
        out.push(b'?');
        out.extend_from_slice(received.part(query));
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    write::decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Whether a field of a request is passed on as it is.
fn passes(line: &FieldLine, bytes: &[u8], fields: &[FieldLine], names_others: bool, server: &Server) -> bool {
    let name = line.name.of(bytes);
    match line.known {
        // Written by the proxy itself.
        Name::Host | Name::ContentLength | Name::Expect | Name::Forwarded | Name::Http2Settings => {
            return false;
        }
        Name::XForwardedFor | Name::XForwardedHost | Name::XForwardedPort | Name::XForwardedProto => {
            return false;
        }
        Name::XRealIp => return false,
        known if request::is_hop_by_hop(known) => return false,
        _ => {}
    }
    if is_forwarding(name) || name.contains(&b'_') && !(server.underscores && has_harmless_twin(name)) {
        return false;
    }
    !(names_others && request::is_named_by_connection(bytes, fields, name))
}

/// Whether a name is of the `X-Forwarded-` family, of which apps believe more than the usual three.
fn is_forwarding(name: &[u8]) -> bool {
    name.get(..FORWARDING.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORWARDING))
}

const FORWARDING: &[u8] = b"X-Forwarded-";

/// `X_Forwarded_For` is `X-Forwarded-For` to every CGI-like app: whether the name with hyphens is
/// nothing that the proxy decides.
fn has_harmless_twin(name: &[u8]) -> bool {
    let mut twin = [0; 32];
    let Some(twin) = twin.get_mut(..name.len()) else { return true };
    for (to, from) in twin.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    Name::of(twin) == Name::Other && !is_forwarding(twin)
}

/// The client that trusted proxies in front name: the last address in `X-Forwarded-For` that is not
/// itself a trusted proxy.
#[must_use]
pub fn forwarded_client(received: &Received<'_>, server: &Server) -> Option<IpAddr> {
    let mut client = None;
    let values: Vec<&[u8]> = received.fields(Name::XForwardedFor).collect();
    for entry in values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let Some(ip) = std::str::from_utf8(entry).ok().and_then(|text| text.trim().parse::<IpAddr>().ok())
        else {
            break;
        };
        client = Some(ip.to_canonical());
        if !server.trusted_proxies.iter().any(|network| network.contains(ip)) {
            break;
        }
    }
    client
}

/// Whether the protocol that a 101 response names is among those `offered` (RFC 9110 §7.8).
#[must_use]
pub fn is_offered(offered: &[u8], bytes: &[u8], head: &ResponseHead) -> bool {
    let mut named = head.fields.iter().filter(|line| line.known == Name::Upgrade);
    let (Some(line), None) = (named.next(), named.next()) else { return false };
    let protocol = line.value.of(bytes);
    let mut all = offered.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    !protocol.is_empty() && all.any(|one| one.eq_ignore_ascii_case(protocol))
}

/// `X-Forwarded-*` and, if configured, `Forwarded` (RFC 7239): what a trusted peer sent is continued,
/// what any other client sent is replaced.
fn forwarding_fields(received: &Received<'_>, facts: &ConnectionFacts, server: &Server, out: &mut Vec<u8>) {
    let proto: &[u8] = if facts.tls.is_some() { b"https" } else { b"http" };
    let host = received.authority();
    let told = |known: Name| received.fields(known).next().filter(|_| facts.trusted);
    out.extend_from_slice(b"X-Forwarded-For: ");
    continued(received, Name::XForwardedFor, facts, out);
    out.extend_from_slice(facts.client_ip.as_bytes());
    out.extend_from_slice(b"\r\n");
    write::field(out, b"X-Forwarded-Proto", told(Name::XForwardedProto).unwrap_or(proto));
    write::field(out, b"X-Forwarded-Host", told(Name::XForwardedHost).unwrap_or(host));
    if let Some(port) = told(Name::XForwardedPort) {
        write::field(out, b"X-Forwarded-Port", port);
    }
    if let Some(ip) = told(Name::XRealIp) {
        write::field(out, b"X-Real-IP", ip);
    }
    if server.forwarded {
        out.extend_from_slice(b"Forwarded: ");
        continued(received, Name::Forwarded, facts, out);
        // RFC 7239 §6: an IPv6 address is bracketed and quoted.
        let (open, close) =
            if facts.client.is_ipv6() && facts.client_ip.contains(':') { ("\"[", "]\"") } else { ("", "") };
        for piece in [b"for=".as_slice(), open.as_bytes(), facts.client_ip.as_bytes(), close.as_bytes()] {
            out.extend_from_slice(piece);
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(proto);
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\"\r\n");
    }
}

fn continued(received: &Received<'_>, known: Name, facts: &ConnectionFacts, out: &mut Vec<u8>) {
    if facts.trusted {
        for value in received.fields(known).filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
}

/// How the body of a response is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Framing on the client's side.
    pub framing: Framing,
    /// Whether the client's connection goes on afterwards.
    pub keep_alive: bool,
    /// Version that the client speaks.
    pub version: Version,
}

/// Appends the head of a final or interim response for the client.
pub fn response_head(
    bytes: &[u8],
    head: &ResponseHead,
    response: &Response,
    delivery: Option<Delivery>,
    date: &[u8],
    out: &mut Vec<u8>,
) {
    write::status_line(out, head.status, head.reason.of(bytes));
    let names_others = response.connection.names_others;
    let mut dated = false;
    for line in &head.fields {
        dated |= line.known == Name::Date;
        // A response without body by rule (HEAD, 304) keeps the length that it announces.
        let length = line.known == Name::ContentLength
            && !delivery.is_some_and(|d| matches!(d.framing, Framing::None) && head.status != 204);
        let named = names_others && request::is_named_by_connection(bytes, &head.fields, line.name.of(bytes));
        if !length && !named && !request::is_hop_by_hop(line.known) {
            write::field(out, line.name.of(bytes), line.value.of(bytes));
        }
    }
    if let Some(delivery) = delivery {
        if !dated {
            // RFC 9110 §6.6.1: a recipient with a clock adds the date that is missing.
            write::field(out, b"Date", date);
        }
        match delivery.framing {
            Framing::Length(length) => content_length(out, length),
            Framing::Chunked => write::field(out, b"Transfer-Encoding", b"chunked"),
            Framing::None | Framing::UntilClose => {}
        }
        if !delivery.keep_alive {
            write::field(out, b"Connection", b"close");
        } else if delivery.version == Version::Http10 {
            write::field(out, b"Connection", b"keep-alive");
        }
    }
    write::end(out);
}

/// Appends the head of a 101 response: the one that names the new protocol (RFC 9110 §7.8).
pub fn switching_head(bytes: &[u8], head: &ResponseHead, out: &mut Vec<u8>) {
    write::status_line(out, head.status, head.reason.of(bytes));
    for line in &head.fields {
        match line.known {
            Name::Upgrade => write::field(out, b"Upgrade", line.value.of(bytes)),
            Name::ContentLength => {}
            known if request::is_hop_by_hop(known) => {}
            _ => write::field(out, line.name.of(bytes), line.value.of(bytes)),
        }
    }
    write::field(out, b"Connection", b"upgrade");
    write::end(out);
}
