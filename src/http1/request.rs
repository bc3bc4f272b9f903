//! What a well-formed request head asks for (RFC 9112 §3, §6; RFC 9110 §7). Everything ambiguous is
//! refused here, and nothing of it reaches an upstream.

use super::connection::members;
use super::framing::{Framing, FramingFields};
use crate::http::authority::{self, Authority};
use crate::http::field::Name;
use crate::http::head::{FieldLine, RequestHead, Version};
use crate::http::method::Method;
use crate::http::target::{self, Target};
use crate::wire::Span;

pub use super::connection::{ConnectionOptions, is_hop_by_hop, is_named_by_connection};
pub use super::error::{FramingError, RequestError, RequestErrorKind};

/// A request that has one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Form and parts of the target; spans are relative to the target's first byte.
    pub target: Target,
    /// Host and port that the request is for; the span is relative to the head's first byte.
    pub host: Authority,
    /// Whether `host` stands in an absolute target; `Host`, if there is one, says the same.
    pub host_in_target: bool,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection to stay open.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 (Continue) before it sends the body.
    pub expect_continue: bool,
    /// The `Upgrade` value, relative to the head: only with `Connection: upgrade`, in HTTP/1.1, on one
    /// line, and without `h2c`, which is never spoken upstream.
    pub upgrade: Option<Span>,
    /// Options of the `Connection` field.
    pub connection: ConnectionOptions,
}

/// Reads what `head`, with spans over `bytes`, asks for.
///
/// # Errors
/// If the method is not served, target or host are not valid or disagree, the framing is unclear, or an
/// expectation is unknown.
pub fn interpret(bytes: &[u8], head: &RequestHead) -> Result<Request, RequestError> {
    // We serve no CONNECT (not a forward proxy) and no TRACE (it echoes credentials).
    if matches!(head.method, Method::Connect | Method::Trace) {
        return Err(refusal(RequestErrorKind::MethodNotServed, head.method_name));
    }
    let target = target::parse(head.target.of(bytes), head.method)
        .map_err(|error| refusal(RequestErrorKind::Target(error), head.target))?;
    let mut gathered = Gathered::default();
    for line in &head.fields {
        gathered.take(line, bytes)?;
    }
    let (host, host_in_target) = effective_host(bytes, head, &target, gathered.host)?;
    let framing = gathered.framing.of_request(head.version).map_err(|error| gathered.misframed(error))?;
    let is_http11 = head.version != Version::Http10;
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    let connection = gathered.connection;
    Ok(Request {
        target,
        host,
        host_in_target,
        framing,
        keep_alive: connection.persists(head.version),
        // RFC 9110 §10.1.1: of an HTTP/1.0 client the expectation is ignored.
        expect_continue: gathered.expects_continue && is_http11 && has_body,
        upgrade: gathered.upgrade(bytes).filter(|_| connection.upgrade && is_http11),
        connection,
    })
}

/// Calls [`interpret`] on whatever head `data` has, and asserts what must hold of the answer.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    use super::head::{HeadLimits, HeadReader};
    use crate::wire::Parse;
    let limits = HeadLimits { head: 4096, target: 1024, fields: 32 };
    let mut head = RequestHead::default();
    let Ok(Parse::Done { .. }) = HeadReader::default().request(data, &limits, &mut head) else { return };
    let Ok(request) = interpret(data, &head) else { return };
    let count = |name| head.fields.iter().filter(|line| line.known == name).count();
    let (lengths, encodings) = (count(Name::ContentLength), count(Name::TransferEncoding));
    assert!(authority::parse(request.host.host.of(data)).is_ok(), "the host is one");
    assert_eq!(request.framing == Framing::Chunked, encodings == 1, "chunked only if it says so");
    assert_eq!(matches!(request.framing, Framing::Length(_)), lengths == 1, "a length only if it says so");
    assert!(lengths + encodings <= 1 && request.framing != Framing::UntilClose);
    assert!(count(Name::Host) == 1 || (head.version == Version::Http10 && request.host_in_target));
}

/// What the field lines say, each checked alone.
#[derive(Default)]
struct Gathered {
    host: Option<Span>,
    framing: FramingFields,
    connection: ConnectionOptions,
    expects_continue: bool,
    upgrade: Option<Span>,
    upgrade_repeats: bool,
}

impl Gathered {
    fn take(&mut self, line: &FieldLine, bytes: &[u8]) -> Result<(), RequestError> {
        match line.known {
            Name::Host => self.host(line)?,
            Name::ContentLength => {
                self.framing.content_length(line, bytes).map_err(|error| self.misframed(error))?;
            }
            Name::TransferEncoding => {
                self.framing.transfer_encoding(line, bytes).map_err(|error| self.misframed(error))?;
            }
            Name::Connection => self.connection.add(line.value.of(bytes)),
            Name::Expect => self.expectation(line, bytes)?,
            Name::Upgrade => self.upgrade_repeats |= self.upgrade.replace(line.value).is_some(),
            _ => {}
        }
        Ok(())
    }

    fn host(&mut self, line: &FieldLine) -> Result<(), RequestError> {
        // RFC 9112 §3.2: more than one Host line is refused, equal ones as well.
        match self.host.replace(line.value) {
            None => Ok(()),
            Some(_) => Err(refusal(RequestErrorKind::RepeatedHost, line.name)),
        }
    }

    fn expectation(&mut self, line: &FieldLine, bytes: &[u8]) -> Result<(), RequestError> {
        // RFC 9110 §10.1.1: the only expectation there is; it never changes the framing.
        self.expects_continue = line.value.of(bytes).eq_ignore_ascii_case(b"100-continue");
        if self.expects_continue {
            Ok(())
        } else {
            Err(refusal(RequestErrorKind::UnknownExpectation, line.value))
        }
    }

    fn misframed(&self, error: FramingError) -> RequestError {
        RequestError { kind: RequestErrorKind::Framing(error), at: self.framing.at() }
    }

    fn upgrade(&self, bytes: &[u8]) -> Option<Span> {
        let offered = self.upgrade.filter(|value| !self.upgrade_repeats && !value.is_empty())?;
        let has_h2c = members(offered.of(bytes)).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"));
        (!has_h2c).then_some(offered)
    }
}

/// The host that the request is for (RFC 9112 §3.2, §3.3) and whether it stands in the target.
fn effective_host(
    bytes: &[u8],
    head: &RequestHead,
    target: &Target,
    host: Option<Span>,
) -> Result<(Authority, bool), RequestError> {
    let in_field = match host {
        Some(value) => Some(authority_at(bytes, value)?),
        // RFC 9112 §3.2: HTTP/1.1 without Host is refused. HTTP/1.0 may lack it if the target names one.
        None if head.version == Version::Http10 && target.authority.is_some() => None,
        None => return Err(refusal(RequestErrorKind::MissingHost, head.method_name)),
    };
    let in_target = match target.authority {
        Some(span) => Some(authority_at(bytes, span.shifted(head.target.start as usize))?),
        None => None,
    };
    match (in_target, in_field) {
        (None, None) => Err(refusal(RequestErrorKind::MissingHost, head.method_name)),
        (None, Some(field)) => Ok((field, false)),
        (Some(target_host), None) => Ok((target_host, true)),
        (Some(target_host), Some(field)) => {
            let default_port = if target.scheme_https { 443 } else { 80 };
            let port = |authority: Authority| authority.port.unwrap_or(default_port);
            let agree = authority::same_host(target_host.host.of(bytes), field.host.of(bytes))
                && port(target_host) == port(field);
            if agree {
                Ok((target_host, true))
            } else {
                Err(refusal(RequestErrorKind::HostMismatch, field.host))
            }
        }
    }
}

fn authority_at(bytes: &[u8], value: Span) -> Result<Authority, RequestError> {
    let authority =
        authority::parse(value.of(bytes)).map_err(|error| refusal(RequestErrorKind::Host(error), value))?;
    Ok(Authority { host: authority.host.shifted(value.start as usize), port: authority.port })
}

fn refusal(kind: RequestErrorKind, place: Span) -> RequestError {
    RequestError { kind, at: place.start as usize }
}
