//! What was written to what is meant: each option read by its kind and bounds from the table of options.
//! Values that cannot be read leave the default and a finding.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::diagnostic::{Code, Findings, Spot};
use super::model::{
    AccessLog, HostPattern, Limits, Log, Metrics, Model, RecordLayer, Server, Timeouts, Tls, Workers,
};
use super::nearest::nearest;
use super::raw::{Node, Raw};
use super::reader::Reader;
use super::value::{self, ValueError};
use super::{Files, Places, Source, acme, dns, endpoint, host, site};

/// Builds the model of all files; without errors among the findings it is valid.
pub(super) fn resolve(
    roots: &[Node],
    sources: &[Source],
    files: &dyn Files,
    findings: &mut Findings,
) -> (Model, Places) {
    let mut reader = Reader { roots, sources, findings };
    let mut places = Places::default();
    let server = server(&mut reader, files, &mut places);
    let tls = tls(&mut reader);
    let limits = bounds(&mut reader);
    let timeouts = timeouts(&mut reader);
    let log = log(&mut reader);
    let metrics = metrics(&mut reader);
    let providers = dns::providers(&mut reader, &mut places);
    let (acme, mut policies) = acme::acme(&mut reader, providers, &server, &mut places);
    let sites = site::sites(&mut reader, &mut policies, &mut places);
    (Model { acme, server, tls, limits, timeouts, log, metrics, sites }, places)
}

fn server(reader: &mut Reader<'_>, files: &dyn Files, places: &mut Places) -> Server {
    let https = listeners(reader, "server.https", 443);
    let http = listeners(reader, "server.http", 80);
    places.https = https.spots;
    places.http = http.spots;
    let certificates = reader.file("server.certificates");
    places.certificates = certificates.as_ref().map(|(_, spot)| *spot);
    let state = reader.file("server.state");
    Server {
        https_given: https.given,
        http_given: http.given,
        https: https.addresses,
        http: http.addresses,
        workers: workers(reader),
        state: state.map_or_else(|| default_state(files), |(path, _)| path),
        admin: admin(reader),
        trusted_proxies: networks(reader),
        proxy_protocol: proxy_protocol(reader),
        default_site: default_site(reader),
        certificates: certificates.map(|(path, _)| path),
        forwarded: reader.flag("server.forwarded").unwrap_or(false),
        underscores: reader.flag("server.underscores").unwrap_or(false),
    }
}

fn admin(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let (path, spot) = reader.file("server.admin")?;
    socket(reader, path, spot)
}

/// A path that the kernel takes for a socket.
fn socket(reader: &mut Reader<'_>, path: PathBuf, spot: Spot) -> Option<PathBuf> {
    if path.as_os_str().len() > endpoint::SOCKET_PATH {
        let cause = format!("the path of the socket is longer than {} bytes", endpoint::SOCKET_PATH);
        reader.findings.note(
            Code::BadFile,
            spot,
            cause,
            "write a shorter one, such as \"/run/lockring.sock\"",
        );
        return None;
    }
    Some(path)
}

struct Listeners {
    addresses: Vec<SocketAddr>,
    spots: Vec<Option<Spot>>,
    given: bool,
}

fn listeners(reader: &mut Reader<'_>, name: &str, default_port: u16) -> Listeners {
    let mut out = Listeners { addresses: Vec::new(), spots: Vec::new(), given: true };
    let Some(node) = reader.node(name) else {
        out.addresses = value::listener(&format!(":{default_port}")).unwrap_or_default();
        out.spots = vec![None; out.addresses.len()];
        out.given = false;
        return out;
    };
    for (text, spot) in node.texts() {
        match value::listener(text) {
            Ok(addresses) => {
                out.spots.extend(addresses.iter().map(|_| Some(spot)));
                out.addresses.extend(addresses);
            }
            Err(error) => {
                let remedy = match error {
                    ValueError::NoPort => format!("add the port: \"{text}:{default_port}\""),
                    ValueError::NoBrackets => "write IPv6 in brackets: \"[::1]:443\"".to_owned(),
                    _ => format!("write \":{default_port}\", or an IP address and a port"),
                };
                reader.refuse(Code::BadAddress, spot, text, error, &remedy);
            }
        }
    }
    out
}

fn workers(reader: &mut Reader<'_>) -> Workers {
    let Some(node) = reader.node("server.workers") else { return Workers::Auto };
    match &node.value {
        Raw::Integer(number) => match usize::try_from(*number) {
            Ok(count) if (1..=value::CPUS).contains(&count) => return Workers::Count(count),
            _ => reader.out_of_range(node.spot, &number.to_string(), "1", &value::CPUS.to_string()),
        },
        Raw::Text(text) => match value::cpus(text) {
            Ok(workers) => return workers,
            Err(error) => {
                let remedy = "write a count (2), or CPUs in quotes (\"0-3,8\")";
                reader.refuse(Code::BadWorkers, node.spot, text, error, remedy);
            }
        },
        _ => {}
    }
    Workers::Auto
}

fn networks(reader: &mut Reader<'_>) -> Vec<super::model::Network> {
    let mut networks = Vec::new();
    let texts = reader.node("server.trusted_proxies").map(Node::texts).unwrap_or_default();
    for (text, spot) in texts {
        match value::network(text) {
            Ok(network) => networks.push(network),
            Err(error) => {
                let remedy = "write \"10.0.0.0/8\", \"fd00::/8\" or one address";
                reader.refuse(Code::BadNetwork, spot, text, error, remedy);
            }
        }
    }
    networks
}

fn proxy_protocol(reader: &mut Reader<'_>) -> bool {
    let wanted = reader.flag("server.proxy_protocol").unwrap_or(false);
    let Some(entry) = reader.entry("server.proxy_protocol") else { return false };
    let trusted = reader.node("server.trusted_proxies").is_some_and(|node| match &node.value {
        Raw::List(list) => !list.is_empty(),
        _ => true,
    });
    if wanted && !trusted {
        let cause = "`proxy_protocol` is on but no peer is trusted to send it";
        let remedy = "name the load balancers in `trusted_proxies`";
        reader.findings.note(Code::Contradiction, entry.key_spot, cause, remedy);
    }
    wanted
}

fn default_site(reader: &mut Reader<'_>) -> Option<super::model::HostPattern> {
    let (text, spot) = reader.text("server.default_site")?;
    match host::host(text) {
        Ok(pattern) => {
            let known = site::hosts(reader.roots);
            if known.contains(&pattern) {
                return Some(pattern);
            }
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            let remedy = match nearest(text, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "name a host of [sites]".to_owned(),
            };
            let cause = format!("there is no site `{pattern}`");
            reader.findings.note(Code::UnknownSite, spot, cause, remedy);
        }
        Err(error) => {
            reader.findings.note(Code::BadHost, spot, format!("`{text}` {}", error.cause()), error.remedy());
        }
    }
    None
}

/// Whether some site serves names that no site lists by themselves.
pub(super) fn has_fallback(reader: &mut Reader<'_>) -> bool {
    let wildcard = |host: &HostPattern| matches!(host, HostPattern::Wildcard(_));
    site::hosts(reader.roots).iter().any(wildcard) || reader.entry("server.default_site").is_some()
}

/// Root's place is the system's; another user's is below the home directory (XDG Base Directory).
#[must_use]
pub fn default_state(files: &dyn Files) -> PathBuf {
    let given = |name: &str| files.env(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    if files.is_root() {
        return PathBuf::from("/var/lib/lockring");
    }
    if let Some(state) = given("XDG_STATE_HOME") {
        return state.join("lockring");
    }
    match given("HOME") {
        Some(home) => home.join(".local/state/lockring"),
        None => PathBuf::from("/var/lib/lockring"),
    }
}

fn tls(reader: &mut Reader<'_>) -> Tls {
    let words = [("own", RecordLayer::Own), ("rustls", RecordLayer::Rustls)];
    let node = reader.node("tls.records");
    let records = node.and_then(|node| reader.choice(node, "record layer", &words)).unwrap_or_default();
    Tls { records }
}

fn bounds(reader: &mut Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    reader.count("limits.connections", &mut limits.connections);
    reader.bytes("limits.head", &mut limits.head);
    // A head that was made smaller makes the default target smaller with it.
    limits.target = limits.target.min(limits.head / 2);
    reader.bytes("limits.target", &mut limits.target);
    reader.count("limits.fields", &mut limits.fields);
    limits.body = reader.size("limits.body").flatten();
    reader.count("limits.pool_idle", &mut limits.pool_idle);
    reader.count("limits.upstream_connections", &mut limits.upstream_connections);
    if limits.target >= limits.head {
        let cause = format!(
            "`target` ({}) does not fit in `head` ({})",
            value::show_size(limits.target as u64),
            value::show_size(limits.head as u64)
        );
        let remedy = "make `head` larger or `target` smaller";
        let note = "the head is bounded here";
        match (reader.entry("limits.target"), reader.entry("limits.head")) {
            (Some(target), Some(head)) => {
                let other = (head.key_spot, note);
                reader.findings.conflict(Code::Contradiction, target.key_spot, other, cause, remedy);
            }
            (Some(only), None) | (None, Some(only)) => {
                reader.findings.note(Code::Contradiction, only.key_spot, cause, remedy);
            }
            (None, None) => {}
        }
    }
    limits
}

fn timeouts(reader: &mut Reader<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    reader.duration("timeouts.hello", &mut timeouts.hello);
    reader.duration("timeouts.handshake", &mut timeouts.handshake);
    reader.duration("timeouts.head", &mut timeouts.head);
    reader.duration("timeouts.body", &mut timeouts.body);
    reader.duration("timeouts.idle", &mut timeouts.idle);
    reader.duration("timeouts.connect", &mut timeouts.connect);
    reader.duration("timeouts.first_byte", &mut timeouts.first_byte);
    reader.duration("timeouts.between_bytes", &mut timeouts.between_bytes);
    reader.duration("timeouts.write", &mut timeouts.write);
    reader.duration("timeouts.tunnel", &mut timeouts.tunnel);
    reader.duration("timeouts.pool_idle", &mut timeouts.pool_idle);
    reader.duration("timeouts.drain", &mut timeouts.drain);
    timeouts
}

fn log(reader: &mut Reader<'_>) -> Log {
    if let Some((text, spot)) = reader.text("log.format")
        && text != "json"
    {
        reader.findings.note(Code::BadChoice, spot, format!("there is no format `{text}`"), "write \"json\"");
    }
    let access = match reader.text("log.access") {
        None => AccessLog::default(),
        Some(("off", _)) => AccessLog::Off,
        Some(("stdout", _)) => AccessLog::Stdout,
        Some((text, spot)) if text.contains('/') => match reader.path(text, spot) {
            Some(path) => AccessLog::File(path),
            None => AccessLog::default(),
        },
        Some((text, spot)) => {
            // A word without a slash is more often a mistyped choice than a file in the current directory.
            let remedy = match nearest(text, ["off", "stdout"].into_iter()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "write \"off\", \"stdout\" or a path with a `/`".to_owned(),
            };
            reader.findings.note(Code::BadChoice, spot, format!("`{text}` is not a place for lines"), remedy);
            AccessLog::default()
        }
    };
    Log { access }
}

fn metrics(reader: &mut Reader<'_>) -> Metrics {
    let mut metrics = Metrics::default();
    let texts = reader.node("metrics.listen").map(Node::texts).unwrap_or_default();
    for (text, spot) in texts {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = reader.path(path, spot);
            metrics.socket = path.and_then(|path| socket(reader, path, spot));
            continue;
        }
        match value::listener(text) {
            Ok(addresses) => metrics.addresses.extend(addresses),
            Err(error) => {
                let remedy = "write an IP address and a port, such as \"127.0.0.1:9090\", or \"unix:PATH\"";
                reader.refuse(Code::BadAddress, spot, text, error, remedy);
            }
        }
    }
    metrics
}
