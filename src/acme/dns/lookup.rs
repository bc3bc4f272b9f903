//! A stub resolver: asks the system's name servers, or given ones, and follows aliases.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::codec;
use super::message::{CLASS_IN, Caa, Data, Header, Kind, Message, Opcode, Question, Rcode, Record, Soa};
use super::name::Name;
use super::transport::{self, within};
use crate::limits;

/// Where the system lists its name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Bytes read of it.
const RESOLV_CONF_BYTES: usize = 64 * 1024;
/// Port of DNS.
const PORT: u16 = 53;
/// Bytes of the largest datagram.
const DATAGRAM_BYTES: usize = 65_535;

/// Why a name could not be looked up. That it does not exist is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// There is no name server to ask.
    NoServers,
    /// No server answered: the last one, and what it did.
    Unreachable {
        /// What was asked.
        name: Name,
        /// Its type.
        kind: Kind,
        /// The server asked last.
        server: SocketAddr,
        /// What became of it.
        reason: String,
    },
    /// A server answered that it cannot or will not.
    Answer {
        /// What was asked.
        name: Name,
        /// Its type.
        kind: Kind,
        /// The server.
        server: SocketAddr,
        /// Its answer.
        rcode: Rcode,
    },
    /// Aliases without an end.
    Chain(Name),
    /// No server tells in which zone a name is.
    NoZone(Name),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServers => f.write_str("no name server is known"),
            Self::Unreachable { name, kind, server, reason } => {
                write!(f, "looking up {kind} of {name}: name server {server}: {reason}")
            }
            Self::Answer { name, kind, server, rcode } => {
                write!(f, "looking up {kind} of {name}: name server {server} answers {rcode}")
            }
            Self::Chain(name) => write!(f, "{name} has more than {} aliases in a row", limits::DNS_CHAIN),
            Self::NoZone(name) => write!(f, "no name server tells in which zone {name} is"),
        }
    }
}

impl std::error::Error for LookupError {}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name at the end of the aliases; the name asked if there are none.
    pub name: Name,
    /// Whether that name exists, with or without records of the type.
    pub exists: bool,
    /// Records of the type at that name.
    pub records: Vec<Record>,
    /// Start of the zone that has authority for the name, if a server told.
    pub zone: Option<(Name, Soa)>,
}

impl Answer {
    /// Texts among the records, each joined from its strings.
    #[must_use]
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let strings = self.records.iter().filter_map(|record| match &record.data {
            Data::Txt(strings) => Some(strings.concat()),
            _ => None,
        });
        strings.collect()
    }
}

/// The zone that a name is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: Name,
    /// The start of its authority.
    pub soa: Soa,
}

/// CAA records that count for a name (RFC 8659 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaSet {
    /// The name that has them: the one asked, or the nearest parent with any.
    pub name: Name,
    /// The records; never empty.
    pub records: Vec<Caa>,
}

/// How name servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    timeout: Duration,
    tries: usize,
    recursion: bool,
    tcp: bool,
    /// Port of authoritative servers, which are found by name.
    port: u16,
}

impl Resolver {
    /// Over these servers, in their order; [`limits::DNS_SERVERS`] of them at most.
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self {
            servers: servers.iter().copied().take(limits::DNS_SERVERS).collect(),
            timeout: limits::DNS_QUERY_TIMEOUT,
            tries: limits::DNS_TRIES,
            recursion: true,
            tcp: false,
            port: PORT,
        }
    }

    /// Over the name servers that the system lists in `/etc/resolv.conf`; the one of this machine if it
    /// lists none, as resolv.conf(5) has it. The file is read anew by each call.
    #[must_use]
    pub fn system() -> Self {
        let content = std::fs::read(RESOLV_CONF).unwrap_or_default();
        let content = content.get(..RESOLV_CONF_BYTES).unwrap_or(&content);
        Self::new(&name_servers(&String::from_utf8_lossy(content)))
    }

    /// The servers of a configuration, or else the system's.
    #[must_use]
    pub fn configured(servers: &[SocketAddr]) -> Self {
        if servers.is_empty() { Self::system() } else { Self::new(servers) }
    }

    /// One server that is asked over TCP for what it has authority for.
    #[must_use]
    pub fn authoritative(server: SocketAddr) -> Self {
        Self { recursion: false, tcp: true, tries: 1, ..Self::new(&[server]) }
    }

    /// Waits for so long for each server's answer.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Takes authoritative servers, which are found by name, to listen on this port instead of 53.
    #[must_use]
    pub fn authoritative_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// How long each server's answer is waited for.
    #[must_use]
    pub fn query_timeout(&self) -> Duration {
        self.timeout
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// IPv4 addresses of a name; empty if it has none.
    ///
    /// # Errors
    /// Why none could be looked up.
    pub async fn a(&self, name: &Name) -> Result<Vec<Ipv4Addr>, LookupError> {
        let found = self.query(name, Kind::A).await?.records.into_iter();
        Ok(found.filter_map(|record| if let Data::A(ip) = record.data { Some(ip) } else { None }).collect())
    }

    /// IPv6 addresses of a name; empty if it has none.
    ///
    /// # Errors
    /// As [`Self::a`].
    pub async fn aaaa(&self, name: &Name) -> Result<Vec<Ipv6Addr>, LookupError> {
        let found = self.query(name, Kind::Aaaa).await?.records.into_iter();
        Ok(found
            .filter_map(|record| if let Data::Aaaa(ip) = record.data { Some(ip) } else { None })
            .collect())
    }

    /// Texts at a name, each joined from its strings; empty if it has none.
    ///
    /// # Errors
    /// As [`Self::a`].
    pub async fn txt(&self, name: &Name) -> Result<Vec<Vec<u8>>, LookupError> {
        Ok(self.query(name, Kind::Txt).await?.texts())
    }

    /// Name servers of a zone; empty if the name is none.
    ///
    /// # Errors
    /// As [`Self::a`].
    pub async fn ns(&self, zone: &Name) -> Result<Vec<Name>, LookupError> {
        let found = self.query(zone, Kind::Ns).await?.records.into_iter();
        Ok(found
            .filter_map(|record| if let Data::Ns(name) = record.data { Some(name) } else { None })
            .collect())
    }

    /// The name at the end of a name's aliases: itself if it is none.
    ///
    /// # Errors
    /// As [`Self::a`], and [`LookupError::Chain`].
    pub async fn cname(&self, name: &Name) -> Result<Name, LookupError> {
        // Asked for TXT, servers follow the chain on their own, across zones; asked for CNAME, one link.
        Ok(self.query(name, Kind::Txt).await?.name)
    }

    /// The zone that a name is in; the name need not exist, but must not be an alias.
    ///
    /// # Errors
    /// As [`Self::a`], and [`LookupError::NoZone`].
    pub async fn soa(&self, name: &Name) -> Result<Zone, LookupError> {
        let mut at = Some(name.clone());
        while let Some(asked) = at {
            let found = self.query(&asked, Kind::Soa).await?;
            if let Some((zone, soa)) = found.zone.filter(|(zone, _)| name.is_within(zone)) {
                return Ok(Zone { name: zone, soa });
            }
            at = asked.parent().filter(|parent| !parent.is_root());
        }
        Err(LookupError::NoZone(name.clone()))
    }

    /// The CAA records that count for a name: its own, or those of its nearest parent that has any
    /// (RFC 8659 §3). A wildcard is asked for by the name behind `*.`.
    ///
    /// # Errors
    /// As [`Self::a`]; then an authority would not issue.
    pub async fn caa(&self, name: &Name) -> Result<Option<CaaSet>, LookupError> {
        let mut at = Some(name.clone());
        while let Some(asked) = at.filter(|name| !name.is_root()) {
            let found = self.query(&asked, Kind::Caa).await?.records.into_iter();
            let records: Vec<Caa> = found
                .filter_map(|record| if let Data::Caa(caa) = record.data { Some(caa) } else { None })
                .collect();
            if !records.is_empty() {
                return Ok(Some(CaaSet { name: asked, records }));
            }
            at = asked.parent();
        }
        Ok(None)
    }

    /// Addresses of a name server with the port of authoritative servers, IPv4 first.
    pub(super) async fn addresses(&self, server: &Name) -> Result<Vec<SocketAddr>, LookupError> {
        let four = self.a(server).await.map(|ips| ips.into_iter().map(IpAddr::from).collect::<Vec<_>>());
        let six = self.aaaa(server).await.map(|ips| ips.into_iter().map(IpAddr::from).collect::<Vec<_>>());
        let ips = match (four, six) {
            (Ok(four), Ok(six)) => [four, six].concat(),
            // One family is enough to ask the server.
            (Ok(ips), Err(_)) | (Err(_), Ok(ips)) if !ips.is_empty() => ips,
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        Ok(ips.into_iter().take(limits::DNS_SERVERS).map(|ip| SocketAddr::new(ip, self.port)).collect())
    }

    /// Looks up records of a type, through aliases.
    ///
    /// # Errors
    /// As [`Self::a`], and [`LookupError::Chain`].
    pub async fn query(&self, name: &Name, kind: Kind) -> Result<Answer, LookupError> {
        let mut at = name.clone();
        let mut links = 0;
        loop {
            let message = self.ask(&at, kind).await?;
            let end =
                follow(&message, &at, kind, &mut links).ok_or_else(|| LookupError::Chain(name.clone()))?;
            let records: Vec<Record> =
                message.answers.iter().filter(|record| is(record, &end, kind)).cloned().collect();
            let exists = message.header.rcode != Rcode::NxDomain;
            let zone = zone_of(&message, &end);
            // A server without recursion ends a chain where its zones end: then the next link is asked for.
            let ended = records.is_empty() && zone.is_none() && exists && end != at;
            if !ended {
                return Ok(Answer { name: end, exists, records, zone });
            }
            at = end;
        }
    }

    /// Asks the servers in turn until one answers with a positive or negative answer.
    async fn ask(&self, name: &Name, kind: Kind) -> Result<Message, LookupError> {
        let mut last = LookupError::NoServers;
        for _ in 0..self.tries {
            for server in &self.servers {
                match self.ask_one(*server, name, kind).await {
                    Ok(message) if is_answer(&message) => return Ok(message),
                    Ok(message) => {
                        let rcode = message.header.rcode;
                        last = LookupError::Answer { name: name.clone(), kind, server: *server, rcode };
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        last = LookupError::Unreachable { name: name.clone(), kind, server: *server, reason };
                    }
                }
            }
        }
        Err(last)
    }

    async fn ask_one(&self, server: SocketAddr, name: &Name, kind: Kind) -> io::Result<Message> {
        let question = Question { name: name.clone(), kind, class: CLASS_IN };
        if self.tcp {
            return within(self.timeout, self.over_tcp(server, &question, true)).await;
        }
        let mut edns = true;
        let mut answer = within(self.timeout, self.over_udp(server, &question, edns)).await?;
        if answer.as_ref().is_some_and(|answer| knows_no_edns(answer.header.rcode)) {
            edns = false;
            answer = within(self.timeout, self.over_udp(server, &question, edns)).await?;
        }
        match answer {
            Some(answer) => Ok(answer),
            None => within(self.timeout, self.over_tcp(server, &question, edns)).await,
        }
    }

    fn request(&self, question: &Question, edns: bool) -> io::Result<(u16, Vec<u8>)> {
        let id = transport::random_id()?;
        let opt =
            Record { name: Name::root(), class: CLASS_IN, ttl: 0, data: Data::Opt(limits::DNS_UDP_PAYLOAD) };
        let message = Message {
            header: Header::request(id, Opcode::Query, self.recursion),
            questions: vec![question.clone()],
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: if edns { vec![opt] } else { Vec::new() },
            tsig: None,
        };
        Ok((id, codec::write(&message)))
    }

    async fn over_tcp(&self, server: SocketAddr, question: &Question, edns: bool) -> io::Result<Message> {
        let (id, request) = self.request(question, edns)?;
        let bytes = transport::tcp(server, &request).await?;
        let message = codec::read(&bytes).map_err(io::Error::other)?;
        if matches(&message, id, question) {
            Ok(message)
        } else {
            Err(io::Error::other("the answer is to another question"))
        }
    }

    /// Waits for the answer that fits; others are somebody's guesses and are passed over. `None`: it does
    /// not fit into a datagram.
    async fn over_udp(
        &self,
        server: SocketAddr,
        question: &Question,
        edns: bool,
    ) -> io::Result<Option<Message>> {
        let (id, request) = self.request(question, edns)?;
        let socket = transport::udp(server).await?;
        socket.send(&request).await?;
        let mut datagram = vec![0; DATAGRAM_BYTES];
        loop {
            let length = socket.recv(&mut datagram).await?;
            let bytes = datagram.get(..length).unwrap_or_default();
            // What is cut need not be readable.
            if codec::glance(bytes)
                .is_some_and(|header| header.response && header.truncated && header.id == id)
            {
                return Ok(None);
            }
            match codec::read(bytes) {
                Ok(message) if matches(&message, id, question) => return Ok(Some(message)),
                _ => {}
            }
        }
    }
}

/// Whether a message answers this request. A server that cannot read a question need not repeat it.
fn matches(message: &Message, id: u16, question: &Question) -> bool {
    let header = &message.header;
    let repeats = match message.questions.as_slice() {
        [] => matches!(header.rcode, Rcode::FormErr | Rcode::NotImp | Rcode::Refused | Rcode::ServFail),
        [one] => one == question,
        _ => false,
    };
    header.response && header.id == id && header.opcode == Opcode::Query && repeats
}

/// What servers answer that do not know EDNS (RFC 6891 §7).
fn knows_no_edns(rcode: Rcode) -> bool {
    matches!(rcode, Rcode::FormErr | Rcode::NotImp)
}

fn is_answer(message: &Message) -> bool {
    matches!(message.header.rcode, Rcode::NoError | Rcode::NxDomain)
}

fn is(record: &Record, name: &Name, kind: Kind) -> bool {
    record.class == CLASS_IN && record.name == *name && record.data.kind() == kind
}

/// The name at the end of the aliases that start at `name`; `None` if there are too many in all.
fn follow(message: &Message, name: &Name, kind: Kind, links: &mut usize) -> Option<Name> {
    let mut at = name.clone();
    loop {
        let has_records = message.answers.iter().any(|record| is(record, &at, kind));
        let alias = message.answers.iter().find_map(|record| match &record.data {
            Data::Cname(target) if record.name == at && record.class == CLASS_IN => Some(target),
            _ => None,
        });
        let Some(target) = alias.filter(|_| !has_records) else { return Some(at) };
        *links += 1;
        if *links > limits::DNS_CHAIN {
            return None;
        }
        at = target.clone();
    }
}

/// The start of authority that a message has for `name`: as the answer, or beside a negative answer.
fn zone_of(message: &Message, name: &Name) -> Option<(Name, Soa)> {
    let mut records = message.answers.iter().chain(&message.authorities);
    records.find_map(|record| match &record.data {
        Data::Soa(soa) if record.class == CLASS_IN && name.is_within(&record.name) => {
            Some((record.name.clone(), soa.clone()))
        }
        _ => None,
    })
}

/// The name servers of a resolv.conf(5); other lines do not matter here.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let listed: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            words.next().filter(|word| *word == "nameserver")?;
            address(words.next()?)
        })
        .take(limits::DNS_SERVERS)
        .collect();
    if listed.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { listed }
}

/// An address; link-local ones may name their interface by its number.
fn address(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        Some((ip, scope)) => {
            let ip: Ipv6Addr = ip.parse().ok()?;
            let scope = scope.parse().ok()?;
            Some(std::net::SocketAddrV6::new(ip, PORT, 0, scope).into())
        }
        None => text.parse().ok().map(|ip| SocketAddr::new(ip, PORT)),
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
