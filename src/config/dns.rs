//! `[dns.NAME]`: how records are written into a zone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::{Code, Spot};
use super::endpoint;
use super::host;
use super::model::{DnsMeans, DnsProvider, HostPattern, Propagation, TsigAlgorithm, TsigKey, Upstream};
use super::nearest::nearest;
use super::raw::{Entry, Node, Raw};
use super::reader::Reader;
use super::value;
use super::{Places, SecretForm, SecretPlace};
use crate::limits;

/// Port of name servers.
const PORT: u16 = 53;

/// All providers, by name; one that cannot be read is there without value, so that naming it is no second
/// mistake.
#[derive(Debug, Default)]
pub(super) struct Providers {
    list: Vec<(String, Spot, Option<Arc<DnsProvider>>)>,
}

impl Providers {
    /// The provider called `name`; one that does not exist is a finding at `spot`.
    pub fn find(&self, reader: &mut Reader<'_>, name: &str, spot: Spot) -> Option<Arc<DnsProvider>> {
        if let Some((_, _, provider)) = self.list.iter().find(|(known, ..)| known == name) {
            return provider.clone();
        }
        let cause = format!("there is no [dns.{name}]");
        let remedy = match (nearest(name, self.names()), self.names().next()) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, Some(_)) => format!("known here: {}", self.names().collect::<Vec<_>>().join(", ")),
            (None, None) => {
                format!("add [dns.{name}] and below it server = \"HOST\" or exec = [\"PROGRAM\"]")
            }
        };
        reader.findings.note(Code::BadChoice, spot, cause, remedy);
        None
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, ..)| name.as_str())
    }
}

/// Reads every `[dns.NAME]`.
pub(super) fn providers(reader: &mut Reader<'_>, places: &mut Places) -> Providers {
    let mut providers = Providers::default();
    let tables = reader.roots.iter().filter_map(|root| root.entry("dns"));
    let entries: Vec<&Entry> = tables.flat_map(|entry| entry.node.entries()).collect();
    for entry in entries.into_iter().filter(|entry| matches!(entry.node.value, Raw::Table(_))) {
        let name = &entry.key;
        if let Some((_, first, _)) = providers.list.iter().find(|(known, ..)| known == name) {
            let cause = format!("[dns.{name}] is set in two files");
            let other = (*first, "it is set here first");
            reader.findings.conflict(Code::DuplicateKey, entry.key_spot, other, cause, "keep one of the two");
            continue;
        }
        let provider = provider(reader, entry, places).map(Arc::new);
        providers.list.push((name.clone(), entry.key_spot, provider));
    }
    providers
}

fn provider(reader: &mut Reader<'_>, entry: &Entry, places: &mut Places) -> Option<DnsProvider> {
    let table = &entry.node;
    let means = means(reader, entry, places);
    let mut propagation_timeout = limits::DNS_PROPAGATION_TIMEOUT;
    if let Some(entry) = table.entry("propagation_timeout") {
        reader.duration_at(&entry.node, "dns.NAME.propagation_timeout", &mut propagation_timeout);
    }
    let propagation = table.entry("propagation").and_then(|entry| propagation(reader, &entry.node));
    let resolvers = table.entry("resolvers").map(|entry| resolvers(reader, &entry.node)).unwrap_or_default();
    Some(DnsProvider {
        name: entry.key.clone(),
        means: means?,
        propagation: propagation.unwrap_or_default(),
        propagation_timeout,
        resolvers,
    })
}

fn means(reader: &mut Reader<'_>, entry: &Entry, places: &mut Places) -> Option<DnsMeans> {
    let table = &entry.node;
    let (server, exec) = (table.entry("server"), table.entry("exec"));
    if let (Some(server), Some(exec)) = (server, exec) {
        let cause = format!("[dns.{}] has two ways to write records", entry.key);
        let other = (server.key_spot, "the server is here");
        let remedy = "keep `server` for updates (RFC 2136) or `exec` for a program";
        reader.findings.conflict(Code::Contradiction, exec.key_spot, other, cause, remedy);
    }
    let (of_other, other): (&[&str], _) =
        if exec.is_some() { (&["zone", "key"], "server") } else { (&["raw", "timeout"], "exec") };
    if exec.is_some() != server.is_some() {
        for stray in of_other.iter().filter_map(|key| table.entry(key)) {
            let cause =
                format!("`{}` belongs to `{other}`, which [dns.{}] does not have", stray.key, entry.key);
            reader.findings.note(Code::Contradiction, stray.key_spot, cause, "remove it");
        }
    }
    match (server, exec) {
        (_, Some(exec)) => program(reader, table, exec, places),
        (Some(server), None) => update(reader, table, server, places),
        (None, None) => {
            let cause = format!("[dns.{}] says no way to write records", entry.key);
            let remedy = "add server = \"HOST\" for updates (RFC 2136), or exec = [\"PROGRAM\"]";
            reader.findings.note(Code::Missing, entry.key_spot, cause, remedy);
            None
        }
    }
}

fn program(reader: &mut Reader<'_>, table: &Node, exec: &Entry, places: &mut Places) -> Option<DnsMeans> {
    let command = reader.command(&exec.node);
    let raw = table.entry("raw").is_some_and(|entry| matches!(entry.node.value, Raw::Flag(true)));
    let mut timeout = limits::DNS_PROGRAM_TIMEOUT;
    if let Some(entry) = table.entry("timeout") {
        reader.duration_at(&entry.node, "dns.NAME.timeout", &mut timeout);
    }
    let command = command?;
    places.programs.extend(command.first().map(|program| (program.clone(), exec.node.spot)));
    Some(DnsMeans::Exec { command, raw, timeout })
}

fn update(reader: &mut Reader<'_>, table: &Node, server: &Entry, places: &mut Places) -> Option<DnsMeans> {
    let server = match &server.node.value {
        Raw::Text(text) => host_port(reader, text, server.node.spot),
        _ => None,
    };
    let zone = table.entry("zone").and_then(|entry| zone(reader, &entry.node));
    let key = match table.entry("key") {
        Some(entry) if matches!(entry.node.value, Raw::Table(_)) => Some(tsig(reader, entry, places)),
        _ => None,
    };
    let key = match key {
        Some(None) => return None,
        Some(key) => key,
        None => None,
    };
    Some(DnsMeans::Update { server: server?, zone, key })
}

fn host_port(reader: &mut Reader<'_>, text: &str, spot: Spot) -> Option<String> {
    match endpoint::tcp(text, Some(PORT), false) {
        Ok(Upstream::Tcp { host, port, .. }) if host.contains(':') => Some(format!("[{host}]:{port}")),
        Ok(Upstream::Tcp { host, port, .. }) => Some(format!("{host}:{port}")),
        Ok(_) => None,
        Err(error) => {
            let cause = format!("`{text}` {}", error.cause());
            let remedy = "write a host and, unless it is 53, a port: \"ns1.example.com:53\"";
            reader.findings.note(Code::BadAddress, spot, cause, remedy);
            None
        }
    }
}

fn zone(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let Raw::Text(text) = &node.value else { return None };
    match host::host(text.strip_suffix('.').unwrap_or(text)) {
        Ok(HostPattern::Exact(name)) => Some(name),
        Ok(_) => {
            let cause = format!("`{text}` is not a zone");
            reader.findings.note(Code::BadName, node.spot, cause, "write its name, such as \"example.com\"");
            None
        }
        Err(error) => {
            let cause = format!("`{text}` {}", error.cause());
            reader.findings.note(Code::BadName, node.spot, cause, "write its name, such as \"example.com\"");
            None
        }
    }
}

const ALGORITHMS: [(&str, TsigAlgorithm); 3] = [
    ("hmac-sha256", TsigAlgorithm::HmacSha256),
    ("hmac-sha384", TsigAlgorithm::HmacSha384),
    ("hmac-sha512", TsigAlgorithm::HmacSha512),
];

fn tsig(reader: &mut Reader<'_>, entry: &Entry, places: &mut Places) -> Option<TsigKey> {
    let table = &entry.node;
    for (key, example) in [("name", "\"acme.\""), ("secret", "\"file:PATH\"")] {
        if table.entry(key).is_none() {
            let cause = format!("the TSIG key has no `{key}`");
            reader.findings.note(Code::Missing, entry.key_spot, cause, format!("add {key} = {example}"));
        }
    }
    let name = table.entry("name").and_then(|entry| key_name(reader, &entry.node));
    let algorithm = table
        .entry("algorithm")
        .and_then(|entry| reader.choice(&entry.node, "TSIG algorithm", &ALGORITHMS))
        .unwrap_or_default();
    let secret = table.entry("secret").and_then(|entry| Some((reader.secret(&entry.node)?, entry.node.spot)));
    if let Some((secret, spot)) = &secret {
        let form = SecretForm::Base64;
        places.secrets.push(SecretPlace { secret: secret.clone(), form, spot: *spot });
    }
    Some(TsigKey { name: name?, algorithm, secret: secret?.0 })
}

/// The name of a key is a domain name (RFC 8945 §4.2), often with `_`, which no host has.
fn key_name(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let name = reader.label(node, "a TSIG key")?.to_ascii_lowercase();
    let bare = name.strip_suffix('.').unwrap_or(&name);
    let good = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    if bare.len() > 253 || !bare.split('.').all(good) {
        let cause = format!("`{name}` is not the name of a TSIG key");
        let remedy = "write it as it stands in the configuration of the name server, such as \"acme.\"";
        reader.findings.note(Code::BadName, node.spot, cause, remedy);
        return None;
    }
    Some(bare.to_owned())
}

fn propagation(reader: &mut Reader<'_>, node: &Node) -> Option<Propagation> {
    let words = [
        ("authoritative", Propagation::Authoritative),
        ("resolver", Propagation::Resolver),
        ("none", Propagation::None),
    ];
    let Raw::Text(text) = &node.value else { return None };
    let Some(rest) = text.strip_prefix("wait") else {
        return reader.choice(node, "way to look for records", &words);
    };
    match value::duration(rest.trim_start_matches(' ')) {
        Ok(time) if time <= LONGEST_WAIT => Some(Propagation::Wait(time)),
        Ok(_) => {
            reader.out_of_range(
                node.spot,
                text,
                "wait 0s",
                &format!("wait {}", value::show_duration(LONGEST_WAIT)),
            );
            None
        }
        Err(error) => {
            reader.refuse(Code::BadDuration, node.spot, text, error, "write a time after it: \"wait 30s\"");
            None
        }
    }
}

/// The time after which resolvers forget most records (RFC 1912 §2.2: a day at most, commonly an hour).
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) fn resolvers(reader: &mut Reader<'_>, node: &Node) -> Vec<SocketAddr> {
    let mut resolvers = Vec::new();
    for (text, spot) in node.texts() {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)).or_else(|_| text.parse());
        match address {
            Ok(address) if address.port() != 0 => resolvers.push(address),
            _ => {
                let cause = format!("`{text}` is not the address of a name server");
                let remedy =
                    "write an IP address and, unless it is 53, a port: \"192.0.2.53\" or \"[::1]:5353\"";
                reader.findings.note(Code::BadAddress, spot, cause, remedy);
            }
        }
    }
    resolvers
}
