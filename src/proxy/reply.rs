//! Answers of our own: refusals, gateway errors, redirects, and the demonstration app.

use crate::http::method::Method;
use crate::http::status;
use crate::http1::write;
use crate::proxy::outcome::{ConnectionFacts, Outcome};

/// Shape of an answer that the proxy gives by itself.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Status code.
    pub status: u16,
    /// Body text, without line end.
    pub text: &'a str,
    /// `Location`, for redirects.
    pub location: Option<&'a [u8]>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
    /// `Allow`, for 405.
    pub allow: Option<&'a [u8]>,
    /// Whether the body is exactly `text`, for a machine; else it is a line for people.
    pub exact: bool,
}

impl<'a> Reply<'a> {
    /// An answer with a text and nothing else.
    #[must_use]
    pub fn new(status: u16, text: &'a str) -> Self {
        Self { status, text, location: None, retry_after: None, allow: None, exact: false }
    }

    /// Appends the whole answer to `out`; for HEAD without the body (RFC 9110 §9.3.2).
    pub fn write(&self, method: Method, keep_alive: bool, date: &[u8], out: &mut Vec<u8>) {
        write::status_line(out, self.status, status::reason(self.status).as_bytes());
        write::field(out, b"Date", date);
        let kind: &[u8] = if self.exact { b"application/octet-stream" } else { b"text/plain; charset=utf-8" };
        write::field(out, b"Content-Type", kind);
        if let Some(location) = self.location {
            write::field(out, b"Location", location);
        }
        if let Some(allow) = self.allow {
            write::field(out, b"Allow", allow);
        }
        if let Some(seconds) = self.retry_after {
            out.extend_from_slice(b"Retry-After: ");
            write::decimal(out, u64::from(seconds));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Content-Length: ");
        write::decimal(out, self.text.len() as u64 + u64::from(!self.exact));
        out.extend_from_slice(b"\r\n");
        write::field(out, b"Connection", if keep_alive { b"keep-alive" } else { b"close" });
        write::end(out);
        if method != Method::Head {
            out.extend_from_slice(self.text.as_bytes());
            if !self.exact {
                out.push(b'\n');
            }
        }
    }
}

/// What the demonstration app says about a request.
#[must_use]
pub fn demo(outcome: &Outcome, facts: &ConnectionFacts, body_bytes: u64) -> String {
    let target = String::from_utf8_lossy(&outcome.target);
    if target == "/health" {
        return "ok".into();
    }
    let tls = facts.tls.unwrap_or("none");
    format!(
        "Lockring works.\n\nmethod  {}\ntarget  {target}\nhost    {}\nclient  {}\ntls     {tls}{}\nworker  {}\nbody    {body_bytes} bytes",
        String::from_utf8_lossy(&outcome.method),
        String::from_utf8_lossy(&outcome.host),
        facts.client_ip,
        if facts.resumed { " (resumed)" } else { "" },
        facts.worker,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_framed_by_its_length() {
        let mut out = Vec::new();
        let reply = Reply { retry_after: Some(3), ..Reply::new(503, "the app is not there") };
        reply.write(Method::Get, false, b"Sun, 06 Nov 1994 08:49:37 GMT", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(
            text.contains("\r\nContent-Length: 21\r\n") && text.contains("\r\nRetry-After: 3\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\nConnection: close\r\n\r\nthe app is not there\n"), "{text}");
    }

    #[test]
    fn an_exact_answer_has_no_line_end() {
        let mut out = Vec::new();
        Reply { exact: true, ..Reply::new(200, "abc") }.write(Method::Get, true, b"d", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nContent-Type: application/octet-stream\r\nContent-Length: 3\r\n"));
        assert!(text.ends_with("\r\n\r\nabc"), "{text}");
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let mut out = Vec::new();
        Reply::new(404, "no").write(Method::Head, true, b"d", &mut out);
        assert!(out.ends_with(b"Content-Length: 3\r\nConnection: keep-alive\r\n\r\n"));
    }
}
