//! From the app to the client: interim heads, final head, body; and the tunnel after a 101.

use super::{Context, Download, Exchange, ResponseStep, Upload};
use crate::http::head::{ResponseHead, Version};
use crate::http::method::Method;
use crate::http1::body::BodyReader;
use crate::http1::framing::Framing;
use crate::http1::head::HeadLimits;
use crate::http1::response::{self, Response};
use crate::http1::write;
use crate::proxy::outcome::End;
use crate::proxy::rewrite::{self, Delivery};
use crate::wire::{Parse, Span};

impl Exchange {
    /// Takes upstream bytes. Send what [`ResponseStep`] says, then call again while `used > 0` and
    /// [`Exchange::wants_response`].
    pub fn receive_response(&mut self, cx: &Context<'_>, input: &[u8]) -> ResponseStep {
        if input.is_empty() {
            return ResponseStep::default();
        }
        self.since.upstream_read = cx.now;
        match self.download {
            Download::Head => self.receive_response_head(cx, input),
            Download::Body(_) => self.receive_response_body(cx, input),
            Download::Tunnel => {
                ResponseStep { used: input.len(), data: Span::between(0, input.len()), ends_chunk: false }
            }
            Download::Idle | Download::Done => ResponseStep::default(),
        }
    }

    fn receive_response_head(&mut self, cx: &Context<'_>, input: &[u8]) -> ResponseStep {
        if self.outcome.first_byte.is_none() {
            self.outcome.first_byte = Some(cx.now);
            // The app has begun to act: from here on the request is never sent again.
            self.replay.forget();
        }
        let limits = &cx.model.limits;
        let limits = HeadLimits { head: limits.head, target: limits.target, fields: limits.fields };
        let mut head = std::mem::take(&mut self.response_head);
        let used = match self.response_reader.response(input, &limits, &mut head) {
            Ok(Parse::Partial) => 0,
            Ok(Parse::Done { used, .. }) => {
                let bytes = input.get(..used).unwrap_or_default();
                match response::interpret(bytes, &head, self.method) {
                    Ok(response) => self.response_is(cx, bytes, &head, &response),
                    Err(error) => self.bad_response(cx, error.reason()),
                }
                used
            }
            Err(error) => {
                self.bad_response(cx, error.kind.reason());
                input.len()
            }
        };
        self.response_head = head;
        ResponseStep { used, ..ResponseStep::default() }
    }

    fn response_is(&mut self, cx: &Context<'_>, bytes: &[u8], head: &ResponseHead, response: &Response) {
        if response.switching {
            return self.switching(cx, bytes, head);
        }
        if response.interim {
            return self.interim(cx, bytes, head, response);
        }
        self.response_keep_alive = response.keep_alive;
        self.response_timeout = response.keep_alive_timeout;
        let framing = self.delivered_framing(response.framing);
        let unframed = matches!(framing, Framing::UntilClose);
        if unframed || cx.draining {
            self.keep_alive = false;
        }
        self.delivery = Delivery { framing, keep_alive: self.keep_alive, version: self.version };
        self.answered = true;
        self.outcome.status = head.status;
        rewrite::response_head(bytes, head, response, Some(self.delivery), cx.date, &mut self.client_out);
        match response.framing {
            Framing::None | Framing::Length(0) => self.response_is_whole(),
            framing => self.download = Download::Body(BodyReader::new(framing)),
        }
    }

    /// HTTP/1.1 clients can be told where a body of unknown length ends; HTTP/1.0 ones only by a close.
    fn delivered_framing(&self, framing: Framing) -> Framing {
        match framing {
            Framing::Chunked | Framing::UntilClose if self.version == Version::Http10 => Framing::UntilClose,
            Framing::UntilClose => Framing::Chunked,
            other => other,
        }
    }

    /// RFC 9110 §15.2: passed on, except to HTTP/1.0 clients, which do not know them.
    fn interim(&mut self, cx: &Context<'_>, bytes: &[u8], head: &ResponseHead, response: &Response) {
        if !self.interim.spend(1) {
            return self.bad_response(cx, "too-many-interim-responses");
        }
        if self.version != Version::Http10 {
            rewrite::response_head(bytes, head, response, None, cx.date, &mut self.client_out);
        }
    }

    fn switching(&mut self, cx: &Context<'_>, bytes: &[u8], head: &ResponseHead) {
        let whole = matches!(self.upload, Upload::Done);
        if !rewrite::is_offered(&self.offered, bytes, head) || !whole || self.method == Method::Head {
            return self.bad_response(cx, "switched-protocols-unasked");
        }
        rewrite::switching_head(bytes, head, &mut self.client_out);
        self.answered = true;
        self.keep_alive = false;
        self.outcome.status = head.status;
        self.outcome.because(End::Tunnel, "upgraded");
        self.upload = Upload::Tunnel;
        self.download = Download::Tunnel;
        self.shutdown = self.client_half_closed;
        self.since.client_read = cx.now;
    }

    fn receive_response_body(&mut self, cx: &Context<'_>, input: &[u8]) -> ResponseStep {
        let Download::Body(reader) = &mut self.download else { return ResponseStep::default() };
        let step = match reader.next(input) {
            Ok(step) => step,
            Err(error) => {
                self.bad_response(cx, error.reason());
                return ResponseStep { used: input.len(), ..ResponseStep::default() };
            }
        };
        let ends_chunk = matches!(self.delivery.framing, Framing::Chunked) && !step.data.is_empty();
        if ends_chunk {
            write::chunk_start(&mut self.client_out, step.data.len());
        }
        // A last chunk has to follow the data: it is owed until the step is sent.
        if step.end && !ends_chunk {
            self.end_response_body();
        }
        ResponseStep { used: step.used, data: step.data, ends_chunk }
    }

    /// Whether the body has been read to its end and only the last chunk is still owed.
    pub fn end_of_body_is_owed(&mut self) -> bool {
        let owed = matches!(&self.download, Download::Body(reader) if reader.is_done());
        if owed {
            self.end_response_body();
        }
        owed
    }

    fn end_response_body(&mut self) {
        if let Download::Body(reader) = &self.download
            && matches!(self.delivery.framing, Framing::Chunked)
        {
            write::last_chunk(&mut self.client_out, reader.trailers());
        }
        self.response_is_whole();
    }

    /// The response is complete: the upstream connection can serve another request if both directions
    /// ended where they should.
    pub(super) fn response_is_whole(&mut self) {
        self.download = Download::Done;
        let sent_all = matches!(self.upload, Upload::Done) && self.upstream_out.is_empty();
        let keep = self.response_keep_alive && sent_all && self.offered.is_empty();
        self.release(keep);
        self.finish_upload();
    }

    /// What the app sent cannot be understood: 502 if nothing of it was passed on, else a visible cut.
    pub(super) fn bad_response(&mut self, cx: &Context<'_>, reason: &'static str) {
        self.upstream_failed(cx, 502, "The app sent a response that cannot be understood.", reason);
    }
}
