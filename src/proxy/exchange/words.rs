//! What the exchange and its engine say to each other.

use crate::upstream::group::{EndpointId, GroupId};
use crate::wire::Span;

/// What the engine has to do for the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Get a connection to an endpoint of `group`, not to `avoid` if there is another; an idle one
    /// only unless `fresh`. Answer with `connected` or `connect_failed`.
    Acquire {
        /// Where to.
        group: GroupId,
        /// The endpoint that has just failed.
        avoid: Option<EndpointId>,
        /// Whether it must be a new connection.
        fresh: bool,
    },
    /// The upstream connection is done with. `keep`: it may serve another request, provided that
    /// nothing unread is in it; `timeout` is what it announced (seconds).
    Release {
        /// Whether it may be used again.
        keep: bool,
        /// `Keep-Alive: timeout=`.
        timeout: Option<u32>,
    },
    /// Close the sending half towards the app, once everything is sent.
    ShutdownUpstream,
    /// The exchange is over once everything is sent to the client.
    Finish(Finish),
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed in order: the answer was whole.
    Close,
    /// It is cut, so that the client sees that the answer is not whole.
    Abort,
}

/// How the client's side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// It will send no more but still reads (TLS close_notify, or FIN on a plain connection).
    HalfClosed,
    /// It is gone.
    Gone,
}

/// One step through upstream bytes: `used` bytes are finished with; what is to be sent to the client is
/// `client_out`, then the bytes of `data`, then the end of the chunk if `ends_chunk`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseStep {
    /// Bytes of the input finished with.
    pub used: usize,
    /// Body bytes, within the input.
    pub data: Span,
    /// Whether CRLF follows.
    pub ends_chunk: bool,
}
