//! Which waits there are, from when each is measured, and which is over first.

use std::time::{Duration, Instant};

use super::{Download, Exchange, Link, Upload};
use crate::config::model::Timeouts;

/// Which wait has lasted too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Between requests.
    Idle,
    /// A head that does not end.
    Head,
    /// A request body that does not go on.
    Body,
    /// Connecting.
    Connect,
    /// No response.
    FirstByte,
    /// A response that does not go on, or an app that does not read.
    BetweenBytes,
    /// A client that does not read.
    Write,
    /// A tunnel in which nobody speaks.
    Tunnel,
}

/// Which direction waits for its peer to take bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// The client.
    pub client: bool,
    /// The app.
    pub upstream: bool,
}

/// Moments from which waits are measured.
#[derive(Debug)]
pub(super) struct Since {
    pub(super) client_read: Instant,
    pub(super) client_write: Instant,
    pub(super) head: Option<Instant>,
    pub(super) dial: Instant,
    pub(super) upstream_read: Instant,
    pub(super) upstream_write: Instant,
}

impl Exchange {
    /// When the current wait is over, and which one it is.
    #[must_use]
    pub fn deadline(&self, timeouts: &Timeouts, blocked: Blocked) -> Option<(Instant, Timer)> {
        let since = &self.since;
        let mut first: Option<(Instant, Timer)> = None;
        let mut wait = |from: Instant, limit: Duration, timer: Timer| {
            let at = from + limit;
            if first.is_none_or(|(earliest, _)| at < earliest) {
                first = Some((at, timer));
            }
        };
        if blocked.client {
            wait(since.client_write, timeouts.write, Timer::Write);
        }
        if blocked.upstream {
            wait(since.upstream_write, timeouts.between_bytes, Timer::BetweenBytes);
        }
        match (&self.upload, since.head) {
            (Upload::Head, None) => wait(since.client_read, timeouts.idle, Timer::Idle),
            (Upload::Head, Some(begun)) => wait(begun, timeouts.head, Timer::Head),
            (Upload::Body(_), _) if !blocked.upstream && self.link != Link::Wanted => {
                wait(since.client_read.max(since.upstream_write), timeouts.body, Timer::Body);
            }
            (Upload::Discard(..), _) => wait(since.client_read, timeouts.body, Timer::Body),
            _ => {}
        }
        match self.download {
            Download::Idle if self.link == Link::Wanted => wait(since.dial, timeouts.connect, Timer::Connect),
            Download::Head if !blocked.upstream && !matches!(self.upload, Upload::Body(_)) => {
                wait(since.upstream_read, timeouts.first_byte, Timer::FirstByte);
            }
            // While the client takes nothing, nothing is read from the app: that is not the app's delay.
            Download::Body(_) if !blocked.client => {
                wait(since.upstream_read.max(since.client_write), timeouts.between_bytes, Timer::BetweenBytes);
            }
            Download::Tunnel => {
                wait(since.upstream_read.max(since.client_read), timeouts.tunnel, Timer::Tunnel);
            }
            _ => {}
        }
        first
    }
}
