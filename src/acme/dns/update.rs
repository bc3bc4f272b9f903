//! Dynamic updates (RFC 2136): one TXT record added to whatever stands at a name, or that one taken away.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::codec;
use super::message::{
    CLASS_IN, CLASS_NONE, Data, Header, Kind, Message, Opcode, Question, Rcode, Record, Soa,
};
use super::name::Name;
use super::transport::{self, within};
use super::tsig::{self, Key, TsigError};
use crate::limits;

/// Why an update was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// The name of the server could not be looked up.
    NoServer {
        /// `host:port` as configured.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server could not be reached, or did not answer.
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// Why.
        reason: String,
    },
    /// REFUSED: its policy does not allow it.
    Refused {
        /// What was to be changed.
        name: Name,
        /// In which zone.
        zone: Name,
        /// The key that signed, if any.
        key: Option<Name>,
    },
    /// NOTAUTH or NOTZONE: the server does not have that zone, or the name is not in it.
    WrongZone {
        /// What was to be changed.
        name: Name,
        /// In which zone.
        zone: Name,
        /// Which of the two.
        rcode: Rcode,
    },
    /// Any other answer.
    Answer {
        /// In which zone.
        zone: Name,
        /// The answer.
        rcode: Rcode,
    },
    /// A signature.
    Signature(TsigError),
    /// The record's name is not in the configured zone.
    OutsideZone {
        /// Name.
        name: Name,
        /// Zone.
        zone: Name,
    },
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer { server, reason } => write!(f, "cannot look up DNS server {server}: {reason}"),
            Self::Unreachable { server, reason } => write!(f, "DNS server {server}: {reason}"),
            Self::Refused { name, zone, key: Some(key) } => write!(
                f,
                "the server does not let the key {key} change TXT records of {name} in the zone {zone} (REFUSED)"
            ),
            Self::Refused { name, zone, key: None } => {
                write!(f, "the server lets nobody change {name} in the zone {zone} without a key (REFUSED)")
            }
            Self::WrongZone { name, zone, rcode } => {
                write!(f, "the server has no authority for {name} in the zone {zone} ({rcode})")
            }
            Self::Answer { zone, rcode } => write!(f, "the update of the zone {zone} failed with {rcode}"),
            Self::Signature(error) => error.fmt(f),
            Self::OutsideZone { name, zone } => write!(f, "{name} is not in the zone {zone}"),
        }
    }
}

impl std::error::Error for UpdateError {}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record is added to those of its name (RFC 2136 §2.5.1); nothing happens if it is there.
    Add,
    /// That record alone is taken away (RFC 2136 §2.5.4); nothing happens if it is not there.
    Remove,
}

/// A primary server and how its answers are trusted.
#[derive(Clone, Debug)]
pub struct Primary {
    /// Where it is.
    pub address: SocketAddr,
    /// The key that signs; none: unsigned.
    pub key: Option<Key>,
    /// Waiting for each answer.
    pub timeout: Duration,
    /// Unix time, for signatures.
    pub now: fn() -> u64,
}

impl Primary {
    /// With the usual time-out and the system's clock.
    #[must_use]
    pub fn new(address: SocketAddr, key: Option<Key>) -> Self {
        Self { address, key, timeout: limits::DNS_UPDATE_TIMEOUT, now: unix_time }
    }

    /// Looks `host:port` up as the system does, hosts file and all; never empty.
    ///
    /// # Errors
    /// [`UpdateError::NoServer`].
    pub async fn resolve(server: &str) -> Result<Vec<SocketAddr>, UpdateError> {
        let failed =
            |error: io::Error| UpdateError::NoServer { server: server.to_owned(), reason: error.to_string() };
        let look = async { tokio::net::lookup_host(server).await.map(Iterator::collect) };
        let mut found: Vec<SocketAddr> = within(limits::DNS_UPDATE_TIMEOUT, look).await.map_err(failed)?;
        found.truncate(limits::CONNECT_ADDRESSES);
        if found.is_empty() { Err(failed(io::Error::other("it has no address"))) } else { Ok(found) }
    }

    /// Changes one TXT record.
    ///
    /// # Errors
    /// Why it was not changed.
    pub async fn change(
        &self,
        zone: &Name,
        name: &Name,
        value: &[u8],
        change: Change,
    ) -> Result<(), UpdateError> {
        if !name.is_within(zone) {
            return Err(UpdateError::OutsideZone { name: name.clone(), zone: zone.clone() });
        }
        let answer = self.exchange(request(zone, name, value, change)).await?;
        let key = self.key.as_ref().map(|key| key.name().clone());
        let (name, zone) = (name.clone(), zone.clone());
        match answer.header.rcode {
            Rcode::NoError => Ok(()),
            Rcode::Refused => Err(UpdateError::Refused { name, zone, key }),
            // Without a signature NOTAUTH can only be about the zone (RFC 8945 §5.2.1 has it beside TSIG).
            rcode @ (Rcode::NotAuth | Rcode::NotZone) => Err(UpdateError::WrongZone { name, zone, rcode }),
            rcode => Err(UpdateError::Answer { zone, rcode }),
        }
    }

    /// The zone that a name is in, as far as this server knows: the primary of a zone knows best, since
    /// resolvers may see another one (split horizon). `None` if it does not tell.
    ///
    /// # Errors
    /// [`UpdateError::Unreachable`] and [`UpdateError::Signature`].
    pub async fn zone_of(&self, name: &Name) -> Result<Option<(Name, Soa)>, UpdateError> {
        let mut message = empty(Opcode::Query);
        message.questions.push(Question { name: name.clone(), kind: Kind::Soa, class: CLASS_IN });
        let answer = self.exchange(message).await?;
        let mut records = answer.answers.into_iter().chain(answer.authorities);
        Ok(records.find_map(|record| match record.data {
            Data::Soa(soa) if record.class == CLASS_IN && name.is_within(&record.name) => {
                Some((record.name, soa))
            }
            _ => None,
        }))
    }

    /// Sends a request, signed if there is a key, and takes its answer if that is signed likewise.
    async fn exchange(&self, mut message: Message) -> Result<Message, UpdateError> {
        let unreachable =
            |error: io::Error| UpdateError::Unreachable { server: self.address, reason: error.to_string() };
        message.header.id = transport::random_id().map_err(unreachable)?;
        let mut request = codec::write(&message);
        let mac = self.key.as_ref().map(|key| key.sign(&mut request, (self.now)()));
        let bytes =
            within(self.timeout, transport::tcp(self.address, &request)).await.map_err(unreachable)?;
        let answer = codec::read(&bytes).map_err(|error| unreachable(io::Error::other(error)))?;
        let header = &answer.header;
        let fits =
            header.response && header.id == message.header.id && header.opcode == message.header.opcode;
        if !fits {
            return Err(unreachable(io::Error::other("the answer is to another request")));
        }
        match (&self.key, mac) {
            (Some(_), Some(_)) if tsig::is_plain_refusal(&answer) => {}
            (Some(key), Some(mac)) => {
                key.verify(&bytes, &answer, &mac, (self.now)()).map_err(UpdateError::Signature)?;
            }
            _ => {}
        }
        Ok(answer)
    }
}

fn empty(opcode: Opcode) -> Message {
    Message {
        header: Header::request(0, opcode, false),
        questions: Vec::new(),
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        tsig: None,
    }
}

/// The message of one change (RFC 2136 §2.3 and §2.5).
fn request(zone: &Name, name: &Name, value: &[u8], change: Change) -> Message {
    let (class, ttl) = match change {
        Change::Add => (CLASS_IN, limits::DNS_RECORD_TTL),
        Change::Remove => (CLASS_NONE, 0),
    };
    let mut message = empty(Opcode::Update);
    message.questions.push(Question { name: zone.clone(), kind: Kind::Soa, class: CLASS_IN });
    message.authorities.push(Record { name: name.clone(), class, ttl, data: Data::txt(value) });
    message
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
