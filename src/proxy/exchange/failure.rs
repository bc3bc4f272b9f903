//! What goes wrong, and what it answers: before the head of a response, with a status; after it, with a
//! visible cut.

use super::{ClientEnd, Context, Download, Exchange, Finish, Link, Timer, Upload};
use crate::proxy::outcome::End;
use crate::proxy::reply::Reply;
use crate::proxy::retry::Failure;
use crate::upstream::group::EndpointId;

/// Why there is no upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nobody listens.
    Refused,
    /// No answer within the connect timeout.
    TimedOut,
    /// The name has no address.
    Unresolved,
    /// TLS to the app failed: certificate, name or protocol.
    Tls,
    /// Any other error of the network.
    Unreachable,
    /// Every connection that may be opened to it is in use.
    Exhausted,
}

impl ConnectFailure {
    fn reason(self) -> &'static str {
        match self {
            Self::Refused => "connect-refused",
            Self::TimedOut => "connect-timeout",
            Self::Unresolved => "name-not-resolved",
            Self::Tls => "upstream-tls-failed",
            Self::Unreachable => "connect-failed",
            Self::Exhausted => "upstream-connections-exhausted",
        }
    }

    fn reply(self) -> Reply<'static> {
        match self {
            Self::Refused => {
                Reply::new(502, "The app refused the connection: it is not running, or not on this port.")
            }
            Self::TimedOut => Reply::new(504, "The app did not accept the connection in time."),
            Self::Unresolved => Reply::new(502, "The name of the app's host does not resolve."),
            Self::Tls => Reply::new(502, "The TLS session with the app failed."),
            Self::Unreachable => Reply::new(502, "The app cannot be reached."),
            Self::Exhausted => {
                Reply { retry_after: Some(1), ..Reply::new(503, "Every connection to the app is in use.") }
            }
        }
    }
}

impl Exchange {
    /// There is no connection to `endpoint`.
    pub fn connect_failed(
        &mut self,
        cx: &Context<'_>,
        endpoint: Option<EndpointId>,
        failure: ConnectFailure,
    ) {
        if self.link != Link::Wanted {
            return;
        }
        self.outcome.endpoint = endpoint.or(self.outcome.endpoint);
        let endpoints = self.group.map_or(0, |group| cx.table.groups().members(group).len());
        if self.replay.allows(Failure::NotConnected, self.is_idempotent(), endpoints) {
            return self.send_again(cx, endpoint);
        }
        self.link = Link::Closed;
        let end =
            if failure == ConnectFailure::TimedOut { End::UpstreamTimeout } else { End::UpstreamFailed };
        self.outcome.because(end, failure.reason());
        self.answer(cx, &failure.reply());
    }

    /// The upstream connection ended: in order (`error` false) or not. `untouched`: nothing that was
    /// sent for this request was acknowledged by the peer's TCP.
    pub fn upstream_closed(&mut self, cx: &Context<'_>, error: bool, untouched: bool) {
        let Link::Open { reused, .. } = self.link else { return };
        match &mut self.download {
            Download::Head if self.outcome.first_byte.is_none() => {
                let failure = if reused { Failure::Reused { untouched } } else { Failure::Fresh };
                if self.replay.allows(failure, self.is_idempotent(), 1) {
                    self.release(false);
                    return self.send_again(cx, None);
                }
                let reason = if error { "upstream-reset" } else { "upstream-closed-early" };
                self.upstream_failed(cx, 502, "The app closed the connection without an answer.", reason);
            }
            Download::Head => {
                self.upstream_failed(
                    cx,
                    502,
                    "The app closed the connection in the middle of its answer.",
                    "response-head-cut",
                );
            }
            Download::Body(reader) => {
                if !error && reader.finish().is_ok() {
                    self.response_keep_alive = false;
                    self.end_until_close();
                } else {
                    self.upstream_failed(cx, 502, "", "response-body-cut");
                }
            }
            Download::Tunnel => {
                self.download = Download::Done;
                self.upload = Upload::Done;
                self.release(false);
                self.finish(if error { Finish::Abort } else { Finish::Close });
            }
            Download::Idle | Download::Done => self.release(false),
        }
    }

    fn end_until_close(&mut self) {
        if !self.end_of_body_is_owed() {
            self.response_is_whole();
        }
    }

    /// The app takes no more bytes; its answer may still come.
    pub fn upstream_stopped_reading(&mut self) {
        self.upstream_out.clear();
        self.response_keep_alive = false;
    }

    /// Sends the request again on another connection.
    fn send_again(&mut self, cx: &Context<'_>, avoid: Option<EndpointId>) {
        self.upstream_out.clear();
        self.upstream_out.extend_from_slice(self.replay.sent());
        // A connection that was idle may be dead like the one before it: only a new one is sure.
        self.acquire(cx, avoid, true);
    }

    /// The client's side ended. A half-close is told once everything that came before it is taken.
    pub fn client_closed(&mut self, end: ClientEnd) {
        let whole = matches!(self.upload, Upload::Done);
        match (&self.upload, end) {
            (Upload::Tunnel, ClientEnd::HalfClosed) => self.shutdown = true,
            (Upload::Head, _) if self.since.head.is_none() => self.finish(Finish::Close),
            // It still reads: the answer is owed, and if it is a tunnel, the end is passed on.
            (_, ClientEnd::HalfClosed) if whole => self.client_half_closed = true,
            _ => self.client_is_gone(end, whole),
        }
    }

    fn client_is_gone(&mut self, end: ClientEnd, whole: bool) {
        let tunnel = self.is_tunnel();
        self.outcome.because(End::ClientClosed, if whole { "client-gone" } else { "request-cut" });
        if !self.answered {
            self.outcome.status = 499;
        }
        if tunnel {
            self.outcome.end = End::Tunnel;
        }
        // A reset would also destroy answers to earlier requests that are still on their way; it is only
        // needed where a part of this answer could be taken for the whole.
        let reads_on = end == ClientEnd::HalfClosed && !self.answered;
        self.upload = Upload::Done;
        self.download = Download::Done;
        self.release(false);
        self.finish(if reads_on { Finish::Close } else { Finish::Abort });
    }

    /// A wait has lasted too long.
    pub fn expired(&mut self, cx: &Context<'_>, timer: Timer) {
        match timer {
            Timer::Idle => self.finish(Finish::Close),
            Timer::Head => self.client_is_slow(cx, "head-timeout"),
            // The answer is out already and whole; only the connection cannot go on.
            Timer::Body if matches!(self.upload, Upload::Discard(..)) => {
                self.upload = Upload::Done;
                self.finish(Finish::Close);
            }
            Timer::Body if self.answered => {
                self.keep_alive = false;
                self.outcome.because(End::ClientTimeout, "body-timeout");
                self.release(false);
                self.finish(Finish::Abort);
            }
            Timer::Body => self.client_is_slow(cx, "body-timeout"),
            Timer::Connect => {
                self.release(false);
                self.link = Link::Wanted;
                self.connect_failed(cx, self.outcome.endpoint, ConnectFailure::TimedOut);
            }
            Timer::FirstByte => {
                self.upstream_timed_out(cx, "The app did not answer in time.", "first-byte-timeout");
            }
            Timer::BetweenBytes => {
                self.upstream_timed_out(
                    cx,
                    "The app stopped in the middle of the exchange.",
                    "between-bytes-timeout",
                );
            }
            Timer::Write => {
                self.outcome.because(End::ClientTimeout, "write-timeout");
                self.release(false);
                self.finish(Finish::Abort);
            }
            Timer::Tunnel => {
                self.outcome.because(End::Tunnel, "tunnel-timeout");
                self.release(false);
                self.finish(Finish::Close);
            }
        }
    }

    /// The drain deadline has come.
    pub fn cut(&mut self) {
        self.outcome.because(End::Drained, "drain-deadline");
        self.release(false);
        self.finish(Finish::Abort);
    }

    fn client_is_slow(&mut self, cx: &Context<'_>, reason: &'static str) {
        self.outcome.because(End::ClientTimeout, reason);
        self.keep_alive = false;
        self.upload = Upload::Done;
        self.answer(cx, &Reply::new(408, "The request did not arrive in time."));
    }

    fn upstream_timed_out(&mut self, cx: &Context<'_>, text: &'static str, reason: &'static str) {
        self.outcome.because(End::UpstreamTimeout, reason);
        self.upstream_failed(cx, 504, text, reason);
    }

    /// Answers with `status` if nothing of a response was passed on; else cuts, so that the client sees
    /// that the answer is not whole.
    pub(super) fn upstream_failed(
        &mut self,
        cx: &Context<'_>,
        status: u16,
        text: &'static str,
        reason: &'static str,
    ) {
        self.outcome.because(End::UpstreamFailed, reason);
        if self.answered {
            self.download = Download::Done;
            self.upload = Upload::Done;
            self.release(false);
            return self.finish(Finish::Abort);
        }
        self.answer(cx, &Reply::new(status, text));
    }

    /// Gives an answer of our own and ends the exchange.
    pub(super) fn answer(&mut self, cx: &Context<'_>, reply: &Reply<'_>) {
        debug_assert!(!self.answered, "one request, one answer");
        self.release(false);
        self.answered = true;
        self.download = Download::Done;
        self.outcome.status = reply.status;
        let few = match &self.upload {
            Upload::Body(reader) => {
                reader.remaining_length().is_some_and(|left| left <= crate::limits::DRAIN_BODY_BYTES)
            }
            _ => true,
        };
        self.keep_alive &= few && !cx.draining;
        reply.write(self.method, self.keep_alive, cx.date, &mut self.client_out);
        self.finish_upload();
    }
}
