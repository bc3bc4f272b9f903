//! What the connections of one simulated worker share, what they note, and how they are broken on purpose.

use std::time::{Duration, Instant};

use lockring::config::model::Model;
use lockring::proxy::exchange::{ConnectFailure, Context};
use lockring::proxy::outcome::{ConnectionFacts, End};
use lockring::proxy::route::Table;
use lockring::upstream::group::EndpointId;
use lockring::upstream::pool::Pool;

use crate::luck::Luck;
use crate::net::{Net, Port, Time};
use crate::stream::{Graves, Stream};

/// How the driver is broken on purpose, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    DropRequestByte,
    DropResponseByte,
    SendPostTwice,
    PoolEverything,
    CloseInsteadOfCut,
    ForgetDeadlines,
    AnswerTwice,
    SilentLog,
}

/// What the log would say.
#[derive(Clone, Debug)]
pub struct Record {
    pub status: u16,
    pub end: End,
    pub reason: Option<&'static str>,
}

/// A try at one request: from which byte of which upstream connection on.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub client: usize,
    pub request: usize,
    pub port: Port,
    pub start: u64,
}

/// How a dial will end.
pub struct Dial {
    pub at: Time,
    pub result: Result<(), ConnectFailure>,
    pub endpoint: EndpointId,
}

/// What all connections share.
pub struct World {
    pub net: Net,
    pub model: Model,
    pub table: Table,
    pub facts: ConnectionFacts,
    pub pool: Pool<Stream>,
    pub graves: Graves,
    pub luck: Luck,
    pub base: Instant,
    pub now: Time,
    pub fault: Option<Fault>,
    /// Chances in a hundred that a dial is refused, unreachable or never answered.
    pub dial_trouble: u64,
    pub attempts: Vec<Attempt>,
    /// Upstream ends of new connections, with their endpoint.
    pub accepted: Vec<(Port, EndpointId)>,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub traced: bool,
}

impl World {
    /// The time as the machines take it.
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.traced {
            let line = format!("{:>12} {}", self.now, text());
            self.trace.push(line);
        }
    }

    pub fn violated(&mut self, text: String) {
        self.note(|| format!("VIOLATION {text}"));
        self.violations.push(text);
    }
}

/// What the machines need to know of the world.
pub fn context<'a>(
    model: &'a Model,
    table: &'a Table,
    facts: &'a ConnectionFacts,
    now: Instant,
) -> Context<'a> {
    Context {
        model,
        table,
        facts,
        entry: None,
        tokens: &lockring::proxy::challenge::NO_TOKENS,
        store: None,
        https_port: 443,
        draining: false,
        now,
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
    }
}
