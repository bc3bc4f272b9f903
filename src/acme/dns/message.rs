//! What a DNS message says (RFC 1035 §4), for the few types that certificates need.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::name::{Name, NameError};

/// Class IN.
pub const CLASS_IN: u16 = 1;
/// Class NONE: an update that takes one record away (RFC 2136 §2.5.4).
pub const CLASS_NONE: u16 = 254;
/// Class ANY: TSIG records (RFC 8945 §4.2).
pub const CLASS_ANY: u16 = 255;
/// Bytes of a character-string (RFC 1035 §3.3).
const STRING_BYTES: usize = 255;

/// Types of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// A name server.
    Ns,
    /// Another name.
    Cname,
    /// Where a zone begins.
    Soa,
    /// Text.
    Txt,
    /// An IPv6 address.
    Aaaa,
    /// Options of the transport (RFC 6891).
    Opt,
    /// A signature of the message (RFC 8945).
    Tsig,
    /// Which authorities may issue (RFC 8659).
    Caa,
    /// Any other, by its number.
    Other(u16),
}

/// Numbers of the types that have a name here.
const KINDS: [(Kind, u16); 9] = [
    (Kind::A, 1),
    (Kind::Ns, 2),
    (Kind::Cname, 5),
    (Kind::Soa, 6),
    (Kind::Txt, 16),
    (Kind::Aaaa, 28),
    (Kind::Opt, 41),
    (Kind::Tsig, 250),
    (Kind::Caa, 257),
];

impl From<u16> for Kind {
    fn from(number: u16) -> Self {
        KINDS.iter().find(|(_, known)| *known == number).map_or(Self::Other(number), |(kind, _)| *kind)
    }
}

impl From<Kind> for u16 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Other(number) => number,
            _ => KINDS.iter().find(|(known, _)| *known == kind).map_or(0, |(_, number)| *number),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Ns => "NS",
            Self::Cname => "CNAME",
            Self::Soa => "SOA",
            Self::Txt => "TXT",
            Self::Aaaa => "AAAA",
            Self::Opt => "OPT",
            Self::Tsig => "TSIG",
            Self::Caa => "CAA",
            Self::Other(number) => return write!(f, "TYPE{number}"),
        })
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A question.
    Query,
    /// A change (RFC 2136).
    Update,
    /// Any other, by its number.
    Other(u8),
}

/// How a server answers (RFC 1035 §4.1.1, RFC 2136 §2.2, RFC 8945 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// All is well.
    NoError,
    /// The server could not read the message.
    FormErr,
    /// The server could not find an answer.
    ServFail,
    /// There is no such name.
    NxDomain,
    /// The server does not do that.
    NotImp,
    /// The server does not want to.
    Refused,
    /// The server has no authority for the zone, or did not accept the signature.
    NotAuth,
    /// A name is not in the zone.
    NotZone,
    /// Any other, by its number.
    Other(u8),
}

/// Numbers of the answers that have a name here.
const RCODES: [(Rcode, u8); 8] = [
    (Rcode::NoError, 0),
    (Rcode::FormErr, 1),
    (Rcode::ServFail, 2),
    (Rcode::NxDomain, 3),
    (Rcode::NotImp, 4),
    (Rcode::Refused, 5),
    (Rcode::NotAuth, 9),
    (Rcode::NotZone, 10),
];

impl From<u8> for Rcode {
    fn from(number: u8) -> Self {
        RCODES.iter().find(|(_, known)| *known == number).map_or(Self::Other(number), |(code, _)| *code)
    }
}

impl Rcode {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            _ => RCODES.iter().find(|(known, _)| *known == self).map_or(0, |(_, number)| *number),
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::NotAuth => "NOTAUTH",
            Self::NotZone => "NOTZONE",
            Self::Other(number) => return write!(f, "RCODE{number}"),
        })
    }
}

/// The fixed part of a message but for its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Ties an answer to its question.
    pub id: u16,
    /// Whether it is an answer.
    pub response: bool,
    /// What it is for.
    pub opcode: Opcode,
    /// Whether the server has authority for the name asked.
    pub authoritative: bool,
    /// Whether something was cut off.
    pub truncated: bool,
    /// Whether the server is asked to find the answer elsewhere.
    pub recursion_desired: bool,
    /// How the server answers.
    pub rcode: Rcode,
}

impl Header {
    /// Of a question or a change.
    #[must_use]
    pub fn request(id: u16, opcode: Opcode, recursion_desired: bool) -> Self {
        Self {
            id,
            response: false,
            opcode,
            authoritative: false,
            truncated: false,
            recursion_desired,
            rcode: Rcode::NoError,
        }
    }
}

/// What is asked; in an update, the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Name.
    pub name: Name,
    /// Type.
    pub kind: Kind,
    /// Class.
    pub class: u16,
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name.
    pub name: Name,
    /// Class.
    pub class: u16,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// Type and content.
    pub data: Data,
}

/// A record's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// See [`Kind::A`].
    A(Ipv4Addr),
    /// See [`Kind::Aaaa`].
    Aaaa(Ipv6Addr),
    /// See [`Kind::Ns`].
    Ns(Name),
    /// See [`Kind::Cname`].
    Cname(Name),
    /// See [`Kind::Soa`].
    Soa(Soa),
    /// Its character-strings in order; readers join them.
    Txt(Vec<Vec<u8>>),
    /// See [`Kind::Caa`].
    Caa(Caa),
    /// See [`Kind::Tsig`].
    Tsig(Tsig),
    /// Payload size that the sender takes by UDP; its options are not read.
    Opt(u16),
    /// Any other, unread.
    Other {
        /// Type.
        kind: u16,
        /// Content.
        bytes: Vec<u8>,
    },
}

/// Start of a zone (RFC 1035 §3.3.13); timers are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// The primary server.
    pub primary: Name,
    /// Version of the zone.
    pub serial: u32,
}

/// Certification authority authorization (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caa {
    /// Whether an authority that does not know the tag must not issue.
    pub critical: bool,
    /// `issue`, `issuewild` and so on, lower-case.
    pub tag: String,
    /// Its value as written.
    pub value: Vec<u8>,
}

/// A transaction signature (RFC 8945 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tsig {
    /// Algorithm, as a name.
    pub algorithm: Name,
    /// Unix time of signing, 48 bits.
    pub time: u64,
    /// Seconds by which clocks may differ.
    pub fudge: u16,
    /// The signature.
    pub mac: Vec<u8>,
    /// Identifier that the message had when it was signed.
    pub original_id: u16,
    /// Why the server did not accept the request's signature, or 0.
    pub error: u16,
    /// The server's time, if that is why.
    pub other: Vec<u8>,
}

impl Data {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
            Self::Ns(_) => Kind::Ns,
            Self::Cname(_) => Kind::Cname,
            Self::Soa(_) => Kind::Soa,
            Self::Txt(_) => Kind::Txt,
            Self::Caa(_) => Kind::Caa,
            Self::Tsig(_) => Kind::Tsig,
            Self::Opt(_) => Kind::Opt,
            Self::Other { kind, .. } => Kind::from(*kind),
        }
    }

    /// A text in as few character-strings as can hold it.
    #[must_use]
    pub fn txt(value: &[u8]) -> Self {
        if value.is_empty() {
            return Self::Txt(vec![Vec::new()]);
        }
        Self::Txt(value.chunks(STRING_BYTES).map(<[u8]>::to_vec).collect())
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What is asked (RFC 2136: the zone).
    pub questions: Vec<Question>,
    /// Answers (RFC 2136: prerequisites).
    pub answers: Vec<Record>,
    /// Authorities (RFC 2136: changes).
    pub authorities: Vec<Record>,
    /// Anything else, but for the signature.
    pub additionals: Vec<Record>,
    /// The signature, if it has one.
    pub tsig: Option<Signature>,
}

/// A signature and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name of the key.
    pub key: Name,
    /// Its record.
    pub tsig: Tsig,
    /// Bytes of the message before that record.
    pub at: usize,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// It ends in the middle.
    Cut,
    /// Bytes stand behind its last record.
    Excess,
    /// A name.
    Name(NameError),
    /// More records than any answer has here.
    TooManyRecords,
    /// A record's content does not fill its length, or not as its type demands.
    Content(Kind),
    /// A signature that is not the last record (RFC 8945 §5.1).
    MisplacedSignature,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the message is cut off"),
            Self::Excess => f.write_str("bytes stand behind the message"),
            Self::Name(error) => error.fmt(f),
            Self::TooManyRecords => f.write_str("the message has too many records"),
            Self::Content(kind) => write!(f, "a {kind} record is malformed"),
            Self::MisplacedSignature => f.write_str("a signature is not the last record"),
        }
    }
}

impl std::error::Error for MessageError {}

impl From<NameError> for MessageError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}
