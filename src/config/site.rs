//! `[sites]`: hosts, certificates, routes and upstreams.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::acme::{Owner, Policies};
use super::diagnostic::{Code, Spot};
use super::endpoint::upstream;
use super::host::host;
use super::model::{
    AcmePolicy, CertificateFiles, HostPattern, PathPattern, Route, Secret, Site, SiteTls, Upstream,
};
use super::path::pattern;
use super::raw::{Entry, Node, Raw};
use super::reader::Reader;
use super::secret::{Written, secret};
use super::{Places, RoutePlaces, SitePlaces};

/// The hosts of all sites that can be read.
pub(super) fn hosts(roots: &[Node]) -> Vec<HostPattern> {
    entries(roots).filter_map(|entry| host(&entry.key).ok()).collect()
}

fn entries(roots: &[Node]) -> impl Iterator<Item = &Entry> {
    roots.iter().filter_map(|root| root.entry("sites")).flat_map(|sites| sites.node.entries())
}

/// All sites in the order written, and their places.
pub(super) fn sites(reader: &mut Reader<'_>, policies: &mut Policies, places: &mut Places) -> Vec<Arc<Site>> {
    let mut sites = Vec::new();
    let mut seen: HashMap<HostPattern, Spot> = HashMap::new();
    for entry in entries(reader.roots) {
        let pattern = match host(&entry.key) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let cause = format!("`{}` {}", entry.key, error.cause());
                reader.findings.note(Code::BadHost, entry.key_spot, cause, error.remedy());
                None
            }
        };
        // The rest is read even below a wrong host, so that its errors show in the same run.
        let (tls, pairs) = tls(reader, &entry.node);
        let (routes, route_places) = routes(reader, entry);
        let acme = acme(reader, policies, entry, pattern.as_ref(), places);
        let asks = entry.node.entry("acme").is_some_and(|acme| matches!(acme.node.value, Raw::Table(_)));
        let tls = if asks && acme.is_some() && tls == SiteTls::Auto { SiteTls::Acme } else { tls };
        let redirect = entry.node.entry("redirect").is_none_or(|e| !matches!(e.node.value, Raw::Flag(false)));
        let Some(pattern) = pattern else { continue };
        if let Some(first) = seen.insert(pattern.clone(), entry.key_spot) {
            let cause = format!("the host `{pattern}` has two sites");
            let other = (first, "the first is here");
            reader.findings.conflict(Code::DuplicateHost, entry.key_spot, other, cause, "join them");
        }
        let index = u32::try_from(sites.len()).unwrap_or(u32::MAX);
        sites.push(Arc::new(Site { index, host: pattern, tls, acme, redirect, routes }));
        places.sites.push(SitePlaces { host: entry.key_spot, pairs, routes: route_places });
    }
    sites
}

fn acme(
    reader: &mut Reader<'_>,
    policies: &mut Policies,
    site: &Entry,
    host: Option<&HostPattern>,
    places: &mut Places,
) -> Option<Arc<AcmePolicy>> {
    let (acme, tls) = (site.node.entry("acme"), site.node.entry("tls"));
    if let (Some(acme), Some(tls)) = (acme, tls)
        && matches!(acme.node.value, Raw::Table(_))
    {
        let cause =
            format!("site `{}` names both certificate files and how to ask for a certificate", site.key);
        let other = (tls.key_spot, "the files are named here");
        reader.findings.conflict(Code::Contradiction, acme.key_spot, other, cause, "keep one of the two");
    }
    let owner = Owner { host, spot: site.key_spot, has_files: tls.is_some() };
    policies.of(reader, acme, &owner, places)
}

fn tls(reader: &mut Reader<'_>, site: &Node) -> (SiteTls, Vec<(Spot, Spot)>) {
    let Some(entry) = site.entry("tls") else { return (SiteTls::Auto, Vec::new()) };
    let mut files = Vec::new();
    let mut spots = Vec::new();
    for (table, spot) in tables(entry) {
        let certificate = required(reader, table, spot, "cert", certificate);
        let key = required(reader, table, spot, "key", key);
        if let (Some((certificate, at)), Some((key, key_at))) = (certificate, key) {
            files.push(CertificateFiles { certificate, key });
            spots.push((at, key_at));
        }
    }
    if matches!(&entry.node.value, Raw::List(list) if list.is_empty()) {
        let remedy = "write tls = { cert = \"…\", key = \"…\" }, or leave `tls` out";
        reader.findings.note(Code::Missing, entry.key_spot, "`tls` names no certificate", remedy);
    }
    (if files.is_empty() { SiteTls::Auto } else { SiteTls::Files(files) }, spots)
}

/// The tables of an option that takes one or several, each with the place to blame for what it lacks.
fn tables(entry: &Entry) -> Vec<(&Node, Spot)> {
    match &entry.node.value {
        Raw::Table(_) => vec![(&entry.node, entry.key_spot)],
        Raw::List(list) => {
            list.iter().filter(|n| matches!(n.value, Raw::Table(_))).map(|n| (n, n.spot)).collect()
        }
        _ => Vec::new(),
    }
}

/// The text at `key`, as `read` understands it.
fn required<T>(
    reader: &mut Reader<'_>,
    table: &Node,
    around: Spot,
    key: &str,
    read: fn(&mut Reader<'_>, &str, Spot) -> Option<T>,
) -> Option<(T, Spot)> {
    let Some(entry) = table.entry(key) else {
        let other = if key == "cert" { "key" } else { "cert" };
        let cause = format!("`tls` has no `{key}`");
        let remedy = format!("add {key} = \"PATH\" beside `{other}`");
        reader.findings.note(Code::Missing, around, cause, remedy);
        return None;
    };
    let Raw::Text(text) = &entry.node.value else { return None };
    Some((read(reader, text, entry.node.spot)?, entry.node.spot))
}

fn certificate(reader: &mut Reader<'_>, text: &str, spot: Spot) -> Option<PathBuf> {
    if text.starts_with("env:") {
        let cause = "`cert` is no secret, so it is read from a file, never from an environment variable";
        let remedy = "write the path of the PEM file; only `key` may be \"env:NAME\"";
        reader.findings.note(Code::BadFile, spot, cause, remedy);
        return None;
    }
    reader.path(text, spot)
}

fn key(reader: &mut Reader<'_>, text: &str, spot: Spot) -> Option<Secret> {
    match secret(text) {
        Ok(Written::Path(path)) => reader.path(path, spot).map(Secret::File),
        Ok(Written::Variable(name)) => Some(Secret::Env(name.to_owned())),
        Err(error) => {
            reader.findings.note(Code::BadSecret, spot, error.cause(), error.remedy());
            None
        }
    }
}

fn routes(reader: &mut Reader<'_>, site: &Entry) -> (Vec<Route>, Vec<RoutePlaces>) {
    let mut routes = Vec::new();
    let mut places = Vec::new();
    let listed = site.node.entry("route").map(tables).unwrap_or_default();
    for (table, spot) in &listed {
        if let Some((route, place)) = route(reader, table, *spot) {
            routes.push(route);
            places.push(place);
        }
    }
    let (to, spot) = match &site.node.value {
        Raw::Text(_) | Raw::List(_) => (Some(&site.node), site.node.spot),
        _ => {
            let entry = site.node.entry("to");
            (entry.map(|e| &e.node), entry.map_or(site.key_spot, |e| e.key_spot))
        }
    };
    match to {
        Some(node) => {
            let (to, spots) = upstreams(reader, node, spot);
            if !to.is_empty() {
                routes.push(Route { path: PathPattern::Prefix("/".to_owned()), to });
                places.push(RoutePlaces { path: spot, to: spots });
            }
        }
        None if listed.is_empty() && matches!(site.node.value, Raw::Table(_)) => {
            let cause = format!("site `{}` says nowhere to send its requests", site.key);
            reader.findings.note(Code::Missing, spot, cause, "add to = \"127.0.0.1:8000\"");
        }
        None => {}
    }
    (routes, places)
}

fn route(reader: &mut Reader<'_>, table: &Node, spot: Spot) -> Option<(Route, RoutePlaces)> {
    for (key, example) in [("path", "\"/static/*\""), ("to", "\"127.0.0.1:8080\"")] {
        if table.entry(key).is_none() {
            let cause = format!("the route has no `{key}`");
            reader.findings.note(Code::Missing, spot, cause, format!("add {key} = {example}"));
        }
    }
    let to = table.entry("to").map(|e| upstreams(reader, &e.node, e.key_spot));
    let path = table.entry("path")?;
    let Raw::Text(text) = &path.node.value else { return None };
    let pattern = match pattern(text) {
        Ok(pattern) => pattern,
        Err(error) => {
            let cause = format!("`{text}` {}", error.cause());
            reader.findings.note(Code::BadPath, path.node.spot, cause, error.remedy());
            return None;
        }
    };
    let (to, spots) = to.filter(|(to, _)| !to.is_empty())?;
    Some((Route { path: pattern, to }, RoutePlaces { path: path.node.spot, to: spots }))
}

fn upstreams(reader: &mut Reader<'_>, node: &Node, around: Spot) -> (Vec<Upstream>, Vec<Spot>) {
    let mut to: Vec<Upstream> = Vec::new();
    let mut spots = Vec::new();
    if matches!(&node.value, Raw::List(list) if list.is_empty()) {
        let remedy = "name at least one, such as \"127.0.0.1:8000\"";
        reader.findings.note(Code::Missing, around, "the list of upstreams is empty", remedy);
    }
    for (text, spot) in node.texts() {
        match upstream(text) {
            Ok(endpoint) => {
                let endpoint = match endpoint {
                    // An abstract socket has no directory.
                    Upstream::Unix(path) if !text.starts_with("unix:@") => {
                        Upstream::Unix(reader.directory(spot).join(path))
                    }
                    other => other,
                };
                if to.contains(&endpoint) {
                    let cause = format!("`{text}` is listed twice");
                    reader.findings.note(Code::UpstreamTwice, spot, cause, "remove one");
                } else {
                    to.push(endpoint);
                    spots.push(spot);
                }
            }
            Err(error) => {
                let cause = format!("`{text}` {}", error.cause());
                reader.findings.note(Code::BadUpstream, spot, cause, error.remedy());
            }
        }
    }
    (to, spots)
}
