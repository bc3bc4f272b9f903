//! From the client to the app: head, route, body.

use super::{Action, Context, Download, Exchange, Finish, Link, Upload};
use crate::config::model::{Site, Upstream};
use crate::http::authority;
use crate::http::head::Version;
use crate::http::target::Form;
use crate::http1::body::{BodyError, BodyReader};
use crate::http1::framing::Framing;
use crate::http1::head::HeadLimits;
use crate::http1::{request, write};
use crate::limits;
use crate::proxy::outcome::{End, TARGET_KEPT};
use crate::proxy::reply::{self, Reply};
use crate::proxy::rewrite::{self, Received};
use crate::proxy::route;
use crate::upstream::group::GroupId;
use crate::wire::Parse;

/// Why a request is not forwarded; the body of the answer says it.
struct Refusal {
    status: u16,
    text: &'static str,
    reason: &'static str,
}

impl Exchange {
    /// Takes client bytes; returns how many are finished with. Call again while it returns more than 0
    /// and [`Exchange::wants_request`].
    pub fn receive_request(&mut self, cx: &Context<'_>, input: &[u8]) -> usize {
        if input.is_empty() {
            return 0;
        }
        self.since.client_read = cx.now;
        let used = match self.upload {
            Upload::Head => self.receive_head(cx, input),
            Upload::Body(_) | Upload::Discard(..) => self.receive_body(cx, input),
            Upload::Tunnel => {
                self.upstream_out.extend_from_slice(input);
                input.len()
            }
            Upload::Done => 0,
        };
        self.outcome.bytes_in += used as u64;
        used
    }

    fn receive_head(&mut self, cx: &Context<'_>, input: &[u8]) -> usize {
        if self.since.head.is_none() {
            // RFC 9112 §2.2: an empty line before the request line is tolerated, once.
            if input == b"\r" {
                return 0;
            }
            // It begins no request: a client that sends it after a body and waits is idle, not slow.
            if input.starts_with(b"\r\n") && !self.empty_line {
                self.empty_line = true;
                return 2;
            }
            self.since.head = Some(cx.now);
            self.outcome.reset(cx.now);
        }
        let limits = &cx.model.limits;
        let limits = HeadLimits { head: limits.head, target: limits.target, fields: limits.fields };
        let mut head = std::mem::take(&mut self.request_head);
        let parsed = self.request_reader.request(input, &limits, &mut head);
        let used = match parsed {
            Ok(Parse::Partial) => 0,
            Ok(Parse::Done { used, .. }) => {
                self.outcome.head_done = Some(cx.now);
                self.version = head.version;
                self.outcome.version = head.version;
                self.method = head.method;
                self.outcome.method.extend_from_slice(head.method_name.of(input));
                let target = head.target.of(input);
                self.outcome.target.extend_from_slice(target.get(..TARGET_KEPT).unwrap_or(target));
                let bytes = input.get(..used).unwrap_or_default();
                match request::interpret(bytes, &head) {
                    Ok(request) => self.accept(cx, &Received { bytes, head: &head, request: &request }),
                    Err(error) => self.refuse_malformed(cx, error.status(), error.reason(), error.at),
                }
                used
            }
            Err(error) => {
                self.refuse_malformed(cx, error.kind.status(), error.kind.reason(), error.at);
                input.len()
            }
        };
        self.request_head = head;
        used
    }

    /// The head is well formed: find out where it goes, and write the head that goes there.
    fn accept(&mut self, cx: &Context<'_>, received: &Received<'_>) {
        let request = received.request;
        self.keep_alive = request.keep_alive && !cx.draining;
        self.framing = request.framing;
        self.outcome.host.extend_from_slice(received.authority());
        if cx.facts.trusted {
            self.outcome.client = rewrite::forwarded_client(received, &cx.model.server);
        }
        self.upload = match request.framing {
            Framing::None | Framing::UntilClose | Framing::Length(0) => Upload::Done,
            framing => Upload::Body(BodyReader::new(framing)),
        };
        match self.destination(cx, received) {
            Ok(Some(group)) => self.forward(cx, received, group),
            Ok(None) => {}
            Err(refusal) => {
                self.keep_alive &= refusal.status != 413;
                self.outcome.because(End::Refused, refusal.reason);
                self.answer(cx, &Reply::new(refusal.status, refusal.text));
            }
        }
    }

    /// The group that the request goes to; `None` if it was answered here.
    fn destination(&mut self, cx: &Context<'_>, received: &Received<'_>) -> Result<Option<GroupId>, Refusal> {
        let refusal = |status, text, reason| Refusal { status, text, reason };
        let path = received.part(received.request.target.path);
        if cx.entry.is_none()
            && let Some(authorization) = cx.tokens.answer(self.method, path)
        {
            self.outcome.because(End::Complete, "challenge-answered");
            self.answer(cx, &Reply { exact: true, ..Reply::new(200, authorization) });
            return Ok(None);
        }
        if let (Framing::Length(length), Some(limit)) = (self.framing, cx.model.limits.body)
            && length > limit
        {
            return Err(refusal(413, "The request body is larger than this server takes.", "body-too-large"));
        }
        let host = received.authority();
        let span = authority::parse(host).map(|authority| authority.host).unwrap_or_default();
        self.host.clear();
        authority::normalise_host(span.of(host), &mut self.host);
        let path = if matches!(received.request.target.form, Form::Asterisk) { b"*" } else { path };
        let path: &[u8] = if path.is_empty() { b"/" } else { path };
        // `*` is the whole server (RFC 9112 §3.2.4): it goes where the root goes.
        let path = if path == b"*" { b"/" } else { path };
        let normal = route::normal_path(path, &mut self.path)
            .map_err(|_| refusal(400, "The path has no safe form.", "path-not-normal"))?;
        if cx.entry.is_some_and(|entry| !entry.covers(&self.host)) {
            return Err(refusal(421, "This connection is not for that host.", "host-not-covered"));
        }
        // A name that no site lists has been given one with its certificate.
        let demanded = || match cx.entry {
            Some(entry) => entry.is_on_demand().then(|| entry.site()),
            None => cx.store?.demanded(&self.host).map(|entry| entry.site()),
        };
        let site = cx.table.site(&self.host).or_else(demanded);
        let Some((index, site)) = site.and_then(|index| Some((index, cx.model.sites.get(index as usize)?)))
        else {
            return Err(refusal(404, "There is no site of that name here.", "unknown-host"));
        };
        self.outcome.site = Some(index);
        let group = cx.table.group(index, normal);
        if cx.entry.is_none() && site.redirect {
            self.redirect(cx, received, site);
            return Ok(None);
        }
        group.map(Some).ok_or_else(|| refusal(404, "No route of this site matches the path.", "no-route"))
    }

    /// Plain HTTP is answered with the same place over HTTPS; 308 keeps method and body (RFC 9110 §15.4.9).
    fn redirect(&mut self, cx: &Context<'_>, received: &Received<'_>, site: &Site) {
        debug_assert!(site.redirect, "only sites that redirect");
        let mut location = b"https://".to_vec();
        let host = received.authority();
        let span = authority::parse(host).map(|authority| authority.host).unwrap_or_default();
        location.extend_from_slice(span.of(host));
        if cx.https_port != 443 {
            location.push(b':');
            write::decimal(&mut location, u64::from(cx.https_port));
        }
        let target = &received.request.target;
        let path = received.part(target.path);
        location.extend_from_slice(if path.first() == Some(&b'/') { path } else { b"/" });
        if let Some(query) = target.query {
            location.push(b'?');
            location.extend_from_slice(received.part(query));
        }
        let reply = Reply { location: Some(&location), ..Reply::new(308, "This site is served over HTTPS.") };
        self.outcome.because(End::Complete, "redirected-to-https");
        self.answer(cx, &reply);
    }

    fn forward(&mut self, cx: &Context<'_>, received: &Received<'_>, group: GroupId) {
        self.group = Some(group);
        let members = cx.table.groups().members(group);
        let demo = |id: &_| cx.table.groups().endpoint(*id).is_some_and(|e| e.upstream == Upstream::Demo);
        if members.first().is_some_and(demo) {
            self.demo = true;
            self.outcome.endpoint = members.first().copied();
            if received.request.expect_continue && self.version != Version::Http10 {
                self.client_out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            return self.upload_progressed(cx);
        }
        self.awaits_continue = received.request.expect_continue;
        self.offered.clear();
        if let Some(upgrade) = received.request.upgrade {
            self.offered.extend_from_slice(upgrade.of(received.bytes));
        }
        rewrite::request_head(received, cx.facts, &cx.model.server, &mut self.upstream_out);
        self.replay.hold(&self.upstream_out);
        self.acquire(cx, None, false);
    }

    /// Asks for an upstream connection.
    pub(super) fn acquire(
        &mut self,
        cx: &Context<'_>,
        avoid: Option<crate::upstream::group::EndpointId>,
        fresh: bool,
    ) {
        let Some(group) = self.group else { return };
        self.link = Link::Wanted;
        self.download = Download::Idle;
        self.since.dial = cx.now;
        self.replay.attempt();
        self.outcome.attempts = self.replay.attempts();
        self.acquire = Some(Action::Acquire { group, avoid, fresh });
    }

    fn receive_body(&mut self, cx: &Context<'_>, input: &[u8]) -> usize {
        let (reader, discarding) = match &mut self.upload {
            Upload::Body(reader) => (reader, false),
            Upload::Discard(reader, _) => (reader, true),
            _ => return 0,
        };
        let step = match reader.next(input) {
            Ok(step) => step,
            Err(error) => {
                self.body_is_malformed(cx, &error);
                return input.len();
            }
        };
        let data = step.data.of(input);
        self.awaits_continue = false;
        self.body_bytes += data.len() as u64;
        if discarding {
            self.discarded(step.used as u64, step.end);
            return step.used;
        }
        if cx.model.limits.body.is_some_and(|limit| self.body_bytes > limit) {
            self.body_is_too_large(cx);
            return step.used;
        }
        let before = self.upstream_out.len();
        if !self.demo {
            self.send_body(data, step.end);
            self.replay.hold(self.upstream_out.get(before..).unwrap_or_default());
        }
        if step.end {
            self.upload = Upload::Done;
            self.upload_progressed(cx);
        }
        step.used
    }

    fn body_is_too_large(&mut self, cx: &Context<'_>) {
        self.outcome.because(End::Refused, "body-too-large");
        self.keep_alive = false;
        if self.answered {
            // The app's answer is under way: a second one in the middle of it would be taken for its body.
            self.upload = Upload::Done;
            self.download = Download::Done;
            self.release(false);
            return self.finish(Finish::Abort);
        }
        self.answer(cx, &Reply::new(413, "The request body is larger than this server takes."));
    }

    /// Body bytes as the app gets them. A chunk is announced only for bytes in hand.
    fn send_body(&mut self, data: &[u8], end: bool) {
        let chunked = matches!(self.framing, Framing::Chunked);
        if !data.is_empty() {
            if chunked {
                write::chunk_start(&mut self.upstream_out, data.len());
            }
            self.upstream_out.extend_from_slice(data);
            if chunked {
                write::chunk_end(&mut self.upstream_out);
            }
        }
        if end
            && chunked
            && let Upload::Body(reader) = &self.upload
        {
            write::last_chunk(&mut self.upstream_out, reader.trailers());
        }
    }

    /// The request is whole: the demonstration app can answer.
    fn upload_progressed(&mut self, cx: &Context<'_>) {
        if self.demo && matches!(self.upload, Upload::Done) && !self.answered {
            let text = reply::demo(&self.outcome, cx.facts, self.body_bytes);
            self.answer(cx, &Reply::new(200, &text));
        }
    }

    fn discarded(&mut self, bytes: u64, end: bool) {
        let Upload::Discard(_, left) = &mut self.upload else { return };
        *left = left.saturating_sub(bytes);
        let exhausted = *left == 0 && !end;
        if end || exhausted {
            self.upload = Upload::Done;
            let keep = self.keep_alive && !exhausted;
            self.finish(if keep { Finish::KeepAlive } else { Finish::Close });
        }
    }

    fn body_is_malformed(&mut self, cx: &Context<'_>, error: &BodyError) {
        if matches!(self.upload, Upload::Discard(..)) {
            // The answer is out already; the connection cannot go on.
            self.upload = Upload::Done;
            return self.finish(Finish::Close);
        }
        self.upload = Upload::Done;
        self.refuse_malformed(cx, 400, error.reason(), 0);
        self.outcome.at = None;
    }

    /// 400 and its kin: answered, closed, nothing more of the connection is read.
    fn refuse_malformed(&mut self, cx: &Context<'_>, status: u16, reason: &'static str, at: usize) {
        self.outcome.at = Some(at as u32);
        self.outcome.because(End::Refused, reason);
        self.keep_alive = false;
        self.upload = Upload::Done;
        let text = match status {
            408 => "The request did not arrive in time.",
            414 => "The request target is too long.",
            417 => "The expectation cannot be met.",
            431 => "The request head is too large.",
            405 => "This method is not served.",
            505 => "This HTTP version is not served.",
            501 => "This is not served.",
            _ => "The request is malformed or ambiguous.",
        };
        let allow: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        let allow = (status == 405).then_some(allow);
        if self.answered {
            self.release(false);
            return self.finish(Finish::Abort);
        }
        self.answer(cx, &Reply { allow, ..Reply::new(status, text) });
    }

    /// Request body bytes that are still to come after the answer: thrown away if they are few, so that
    /// the connection can go on; else the connection ends.
    pub(super) fn finish_upload(&mut self) {
        match std::mem::replace(&mut self.upload, Upload::Done) {
            Upload::Body(reader) => {
                let few = reader.remaining_length().is_some_and(|left| left <= limits::DRAIN_BODY_BYTES);
                if self.keep_alive && few {
                    self.upload = Upload::Discard(reader, limits::DRAIN_BODY_BYTES);
                    return;
                }
                self.keep_alive = false;
                self.finish(Finish::Close);
            }
            _ => self.finish(if self.keep_alive { Finish::KeepAlive } else { Finish::Close }),
        }
    }
}
