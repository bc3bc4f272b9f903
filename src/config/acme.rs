//! `[acme]` and a site's `acme`: which authorities are asked, how, and for what. Sites that say nothing of
//! their own share one policy.

use std::path::PathBuf;
use std::sync::Arc;

use super::authority::{Directory, account, directory, with_account};
use super::challenge::{Said as Challenges, challenges, judge};
use super::diagnostic::{Code, Spot};
use super::dns::{Providers, resolvers};
use super::host::host;
use super::model::{Acme, AcmePolicy, ExternalAccount, HostPattern, KeyKind, OnDemand, Scheduling, Server};
use super::raw::{Entry, Raw};
use super::reader::Reader;
use super::url::{HTTP_OR_HTTPS, url};
use super::{Places, resolve};
use crate::limits;

/// What one table says; what it does not say comes from the table above it.
#[derive(Debug, Default)]
pub(super) struct Said {
    directory: Option<Directory>,
    eab: Option<(ExternalAccount, Spot)>,
    email: Option<String>,
    profile: Option<String>,
    challenges: Challenges,
    key: Option<KeyKind>,
    names: Vec<(HostPattern, Spot)>,
}

/// The policies of sites, made as they are met.
pub(super) struct Policies {
    above: Said,
    providers: Providers,
    /// What holds for sites that say nothing.
    common: Option<Arc<AcmePolicy>>,
    /// The latest others: neighbours in a file are often alike.
    others: Vec<Arc<AcmePolicy>>,
    /// Whether wildcard sites may be there for names asked for by clients.
    on_demand: bool,
    /// Whether a directory of pairs may have what a wildcard site needs.
    has_pairs: bool,
    usable: Usable,
}

/// Kinds of listener there are, and so of challenges that can be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usable {
    pub https: bool,
    pub http: bool,
}

/// How many policies are compared with a new one, so that a file of many sites is read in linear time.
const COMPARED: usize = 16;

/// A site as far as its policy depends on it.
pub(super) struct Owner<'a> {
    /// Its host, if that can be read.
    pub host: Option<&'a HostPattern>,
    /// Where the host is written.
    pub spot: Spot,
    /// Whether it names certificate files.
    pub has_files: bool,
}

/// Reads `[acme]`.
pub(super) fn acme(
    reader: &mut Reader<'_>,
    providers: Providers,
    server: &Server,
    places: &mut Places,
) -> (Acme, Policies) {
    let mut said = said(reader, &|reader, key| reader.entry(&format!("acme.{key}")), &providers, places);
    let top = reader.node("email").and_then(|node| reader.email(node));
    said.email = said.email.or(top);
    let acme = process(reader, places);
    let usable = Usable { https: !server.https.is_empty(), http: !server.http.is_empty() };
    let common = policy(reader, &Said::default(), &said, usable).map(Arc::new);
    let on_demand = acme.on_demand.is_some();
    let has_pairs = server.certificates.is_some();
    let policies =
        Policies { above: said, providers, common, others: Vec::new(), on_demand, has_pairs, usable };
    (acme, policies)
}

impl Policies {
    /// The policy of a site by its `acme`, if it has one.
    pub fn of(
        &mut self,
        reader: &mut Reader<'_>,
        entry: Option<&Entry>,
        owner: &Owner<'_>,
        places: &mut Places,
    ) -> Option<Arc<AcmePolicy>> {
        let (policy, names) = match entry {
            None => (self.common.clone()?, Vec::new()),
            Some(Entry { node, .. }) if matches!(node.value, Raw::Flag(false)) => return None,
            Some(Entry { node, .. }) => {
                let mut said = said(reader, &|_, key| node.entry(key), &self.providers, places);
                let policy = policy(reader, &self.above, &said, self.usable)?;
                (self.shared(policy), std::mem::take(&mut said.names))
            }
        };
        if !owner.has_files && !self.has_pairs && !self.on_demand {
            judge(reader, &policy, owner, &names, self.providers.names().next());
        }
        Some(policy)
    }

    fn shared(&mut self, policy: AcmePolicy) -> Arc<AcmePolicy> {
        let known = self.common.iter().chain(self.others.iter().rev().take(COMPARED));
        if let Some(equal) = known.into_iter().find(|known| ***known == policy) {
            return Arc::clone(equal);
        }
        let policy = Arc::new(policy);
        self.others.push(Arc::clone(&policy));
        policy
    }
}

/// Finds an option of the table by its last name.
type Find<'r, 'a> = dyn Fn(&mut Reader<'a>, &str) -> Option<&'r Entry> + 'r;

fn said<'r, 'a>(
    reader: &mut Reader<'a>,
    find: &Find<'r, 'a>,
    providers: &Providers,
    places: &mut Places,
) -> Said {
    let directory = find(reader, "directory").and_then(|entry| directory(reader, entry, places));
    let eab = find(reader, "eab").and_then(|entry| Some((account(reader, entry, places)?, entry.key_spot)));
    let email = find(reader, "email").and_then(|entry| reader.email(&entry.node));
    let profile = find(reader, "profile").and_then(|entry| reader.label(&entry.node, "a profile"));
    let key = find(reader, "key").and_then(|entry| {
        reader.choice(&entry.node, "kind of key", &[("p256", KeyKind::P256), ("p384", KeyKind::P384)])
    });
    let (challenge, dns) = (find(reader, "challenge"), find(reader, "dns"));
    let challenges = challenges(reader, challenge, dns, providers);
    let names = find(reader, "names").map(|entry| names(reader, entry)).unwrap_or_default();
    Said { directory, eab, email, profile, challenges, key, names }
}

/// What a table means, with what stands above it. A finding is said of the table that makes it.
fn policy(reader: &mut Reader<'_>, above: &Said, said: &Said, usable: Usable) -> Option<AcmePolicy> {
    // An account belongs to the authorities beside which it is written.
    let (directory, eab) = match &said.directory {
        Some(own) => (Some(own), said.eab.as_ref()),
        None => (above.directory.as_ref(), said.eab.as_ref().or(above.eab.as_ref())),
    };
    let speaks = said.directory.is_some() || said.eab.is_some();
    let authorities = with_account(reader, directory, eab, speaks)?;
    let (challenges, dns) = said.challenges.over(&above.challenges, reader, usable);
    Some(AcmePolicy {
        authorities,
        email: said.email.clone().or_else(|| above.email.clone()),
        profile: said.profile.clone().or_else(|| above.profile.clone()),
        challenges,
        dns,
        key: said.key.or(above.key).unwrap_or_default(),
        names: said.names.iter().map(|(name, _)| name.clone()).collect(),
    })
}

fn names(reader: &mut Reader<'_>, entry: &Entry) -> Vec<(HostPattern, Spot)> {
    let mut names: Vec<(HostPattern, Spot)> = Vec::new();
    for (text, spot) in entry.node.texts() {
        match host(text) {
            Ok(name) if names.iter().any(|(known, _)| *known == name) => {}
            Ok(name) => names.push((name, spot)),
            Err(error) => {
                let cause = format!("`{text}` {}", error.cause());
                reader.findings.note(Code::BadName, spot, cause, error.remedy());
            }
        }
    }
    // The host of the site is on the certificate too.
    if names.len() >= limits::ACME_NAMES {
        let cause = format!("a certificate has at most {} names", limits::ACME_NAMES);
        let remedy = "leave some out: a site without `acme` has a certificate of its own";
        reader.findings.note(Code::OutOfRange, entry.key_spot, cause, remedy);
        names.clear();
    }
    names
}

/// What holds for the whole process.
fn process(reader: &mut Reader<'_>, places: &mut Places) -> Acme {
    let mut acme = Acme::default();
    reader.duration("acme.request_timeout", &mut acme.request_timeout);
    reader.duration("acme.connect_timeout", &mut acme.connect_timeout);
    reader.duration("acme.order_timeout", &mut acme.order_timeout);
    if let Some((path, spot)) = reader.file("acme.ca_file") {
        acme.ca_file = Some(path);
        places.ca_file = Some(spot);
    }
    if let Some(node) = reader.node("acme.resolvers") {
        acme.resolvers = resolvers(reader, node);
    }
    let words = [("nice", Scheduling::Nice), ("idle", Scheduling::Idle), ("normal", Scheduling::Normal)];
    if let Some(node) = reader.node("acme.scheduling") {
        acme.scheduling = reader.choice(node, "way of scheduling", &words).unwrap_or_default();
    }
    if let Some(node) = reader.node("acme.on_expired") {
        let words = [("serve", true), ("refuse", false)];
        acme.serve_expired = reader.choice(node, "treatment of expired certificates", &words).unwrap_or(true);
    }
    if let Some(node) = reader.node("acme.hook") {
        acme.hook = reader.command(node);
        let program = acme.hook.as_ref().and_then(|command| command.first());
        places.programs.extend(program.map(|program| (program.clone(), node.spot)));
    }
    acme.export = export(reader);
    acme.on_demand = on_demand(reader);
    acme
}

fn export(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let (path, spot) = reader.file("acme.export")?;
    let pairs = reader.file("server.certificates");
    if let Some((_, other)) = pairs.filter(|(pairs, _)| *pairs == path) {
        let cause = "`export` writes into the directory that `certificates` reads";
        let remedy = "a pair found there would end its own renewal: name another directory";
        let other = (other, "it is read here");
        reader.findings.conflict(Code::Contradiction, spot, other, cause, remedy);
    }
    Some(path)
}

fn on_demand(reader: &mut Reader<'_>) -> Option<OnDemand> {
    let entry = reader.entry("acme.on_demand")?;
    if !matches!(entry.node.value, Raw::Table(_)) {
        return None;
    }
    let mut demand = OnDemand {
        ask: None,
        allow: Vec::new(),
        per_hour: limits::ON_DEMAND_PER_HOUR,
        total: limits::ON_DEMAND_TOTAL,
        ask_timeout: limits::ON_DEMAND_ASK_TIMEOUT,
    };
    if let Some((text, spot)) = reader.text("acme.on_demand.ask") {
        demand.ask = url(reader, text, spot, HTTP_OR_HTTPS);
    }
    if let Some(entry) = reader.entry("acme.on_demand.allow") {
        demand.allow = names(reader, entry).into_iter().map(|(name, _)| name).collect();
    }
    reader.count("acme.on_demand.per_hour", &mut demand.per_hour);
    reader.count("acme.on_demand.total", &mut demand.total);
    reader.duration("acme.on_demand.ask_timeout", &mut demand.ask_timeout);
    let says = |key: &str| entry.node.entry(key).is_some();
    if !says("ask") && !says("allow") {
        let cause = "anybody could have certificates made for any name";
        let remedy = "add ask = \"URL\" of an application that decides, or allow = [\"*.example.com\"]";
        reader.findings.note(Code::Missing, entry.key_spot, cause, remedy);
    }
    if !resolve::has_fallback(reader) {
        let cause = "no site would serve names that no site lists";
        let remedy = "add a wildcard site, or default_site = \"HOST\" to [server]";
        reader.findings.note(Code::Contradiction, entry.key_spot, cause, remedy);
    }
    Some(demand)
}
