//! What can be found out before an order is spent on finding out (RFC 8555 §7.4): whether the names lead
//! here, by addresses of both families; whether CAA records let the authority issue; whether port 80 and 443
//! of these addresses are answered by this very process; whether records of DNS-01 have a place to stand.
//!
//! [`look()`] gathers facts and [`judge()`] says what they mean. An *error* is what would certainly fail: no
//! order is placed. A *warning* is what cannot be known from here, such as an address that a machine behind
//! NAT cannot reach although everybody else can: the order goes on.
//!
//! Which ports: a public authority looks at 80 and 443 of a name, and so does this. An authority that is
//! given by URL may look elsewhere, as test authorities do, so there the ports of our own listeners are
//! tried. Such an authority may also have a view of DNS that this machine has not; unless `[acme]
//! resolvers` names the servers to believe, a name that is not found is then only worth a warning.

mod caa;
mod judge;
mod look;
mod probe;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use caa::CaaVerdict;
pub use judge::{Finding, Problem, Severity, Verdict, judge};
pub use look::{Eyes, look};

use super::dns::LookupError;
use super::dns::lookup::CaaSet;
use super::install::Install;
use super::plan::SlotState;
use super::slot::{Identifier, Slot};
use crate::config::model::{Authority, ChallengeKind, Model, Preset};

/// Port that a public authority connects to for HTTP-01 (RFC 8555 §8.3).
const HTTP: u16 = 80;
/// The same for TLS-ALPN-01 (RFC 8737 §3).
const HTTPS: u16 = 443;

/// What is to be ordered.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The names.
    pub slot: &'a Slot,
    /// Of whom.
    pub authority: &'a Authority,
    /// Which kinds of challenge failed before.
    pub state: &'a SlotState,
    /// The authority's names in CAA records, if it told them; otherwise those of its preset count.
    pub identities: &'a [String],
    /// URL of the account, if there is one.
    pub account: Option<&'a str>,
    /// Whether what this machine's name servers say must be so for the authority too.
    pub strict: bool,
}

impl<'a> Wish<'a> {
    /// For a slot, with what is known without a session.
    #[must_use]
    pub fn new(slot: &'a Slot, authority: &'a Authority, state: &'a SlotState, model: &Model) -> Self {
        let strict = authority.preset.is_some() || !model.acme.resolvers.is_empty();
        Self { slot, authority, state, identities: &[], account: None, strict }
    }

    fn identities(&self) -> Vec<&str> {
        if !self.identities.is_empty() {
            return self.identities.iter().map(String::as_str).collect();
        }
        match self.authority.preset {
            Some(Preset::LetsEncrypt | Preset::LetsEncryptStaging) => vec!["letsencrypt.org"],
            // ZeroSSL issues under Sectigo's names.
            Some(Preset::ZeroSsl) => vec!["sectigo.com", "zerossl.com"],
            None => Vec::new(),
        }
    }
}

/// Where an authority would knock, and whether one of our listeners has that port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whether a listener of ours has it.
    pub ours: bool,
}

/// The ports for both kinds of challenge; none where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// For HTTP-01.
    pub http: Option<Port>,
    /// For TLS-ALPN-01.
    pub https: Option<Port>,
}

impl Ports {
    /// Those that `authority` would look at.
    #[must_use]
    pub fn of(model: &Model, authority: &Authority) -> Self {
        // Trusted peers have to send a prefix, and this machine may be one: the probe sends none.
        if model.server.proxy_protocol {
            return Self::default();
        }
        let choose = |listeners: &[SocketAddr], given: bool, public: u16| {
            let has = |number: u16| listeners.iter().any(|address| address.port() == number);
            if authority.preset.is_some() {
                // Listeners that nobody asked for step aside when their port is not to be had.
                return Some(Port { number: public, ours: given && has(public) });
            }
            // The kernel draws the number for port 0; nobody here knows it.
            let own = listeners.iter().map(SocketAddr::port).find(|number| *number != 0);
            own.map(|number| Port { number, ours: true })
        };
        let server = &model.server;
        Self {
            http: choose(&server.http, server.http_given, HTTP),
            https: choose(&server.https, server.https_given, HTTPS),
        }
    }
}

/// What a look-up gave.
pub type Looked<T> = Result<T, Blind>;

/// Why it gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blind {
    /// An error.
    Lookup(LookupError),
    /// No answer in time.
    Late,
}

/// All that was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Name by name, in the order of the slot.
    pub names: Vec<NameFacts>,
}

/// What was found out of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameFacts {
    /// The name.
    pub identifier: Identifier,
    /// Its addresses, if the authority will connect to it.
    pub addresses: Option<Looked<Vec<IpAddr>>>,
    /// Its CAA records (RFC 8659), if it is a DNS name.
    pub caa: Option<Looked<Option<CaaSet>>>,
    /// Each kind of challenge at each address.
    pub probes: Vec<Probe>,
    /// Where its record of DNS-01 stands, if that is the way: or why that is not known.
    pub record: Option<Result<(), RecordProblem>>,
}

/// Why a record of DNS-01 has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordProblem {
    /// The look-up failed.
    Blind(String),
    /// It took longer than is waited for here; the order itself waits longer.
    Late,
    /// It leads out of the zone that is configured.
    OutsideZone {
        /// Where the record stands, after aliases.
        name: String,
        /// The configured zone.
        zone: String,
    },
    /// No provider is configured.
    NoProvider,
}

/// One knock at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// For which kind.
    pub kind: ChallengeKind,
    /// Where.
    pub address: SocketAddr,
    /// Whether the address is one of this machine.
    pub is_ours: bool,
    /// Whether this machine reaches it through a router that translates addresses, which may answer from
    /// inside with a page of its own and still lead others here.
    pub behind_router: bool,
    /// Whether one of our listeners has the port.
    pub has_listener: bool,
    /// What came of it.
    pub seen: Seen,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This process.
    Ourselves,
    /// The machine refused the connection.
    Refused,
    /// Nobody, or nothing that could be read.
    Silent(String),
    /// Somebody sent us elsewhere; an authority would go there.
    Redirect(String),
    /// Somebody else: what was answered.
    Other(String),
}

/// Looks and judges.
pub async fn preflight(wish: &Wish<'_>, eyes: &Eyes, install: Option<Arc<dyn Install>>) -> Verdict {
    let facts = look(wish, eyes, install).await;
    judge(wish, &facts)
}

#[cfg(test)]
#[path = "preflight/tests.rs"]
mod tests;
