//! Gathering facts: name servers are asked and addresses knocked at, many at the same time, none for long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::probe::{self, Password};
use super::{Blind, Facts, Looked, NameFacts, Port, Ports, Probe, RecordProblem, Wish};
use crate::acme::dns::lookup::{CaaSet, LookupError};
use crate::acme::dns::{self, Name, Resolver};
use crate::acme::install::Install;
use crate::acme::keys;
use crate::acme::plan::usable;
use crate::acme::slot::Identifier;
use crate::config::model::{ChallengeKind, DnsMeans, DnsProvider, Model};
use crate::limits;

/// By what means is looked.
#[derive(Clone, Debug)]
pub struct Eyes {
    resolver: Resolver,
    ports: Ports,
}

impl Eyes {
    /// With the name servers of the configuration, or else the system's, at the ports of `wish`'s authority.
    #[must_use]
    pub fn new(wish: &Wish<'_>, model: &Model) -> Self {
        let resolver = Resolver::configured(&model.acme.resolvers);
        Self { resolver, ports: Ports::of(model, wish.authority) }
    }

    /// With these.
    #[must_use]
    pub fn with(resolver: Resolver, ports: Ports) -> Self {
        Self { resolver, ports }
    }
}

/// Finds out what [`super::judge()`] needs. Without `install` nobody knocks. Names that were not reached in
/// [`limits::PREFLIGHT_TOTAL`] are left out.
pub async fn look(wish: &Wish<'_>, eyes: &Eyes, install: Option<Arc<dyn Install>>) -> Facts {
    let end = Instant::now() + limits::PREFLIGHT_TOTAL;
    let turns = Arc::new(Semaphore::new(limits::PREFLIGHT_AT_ONCE));
    let mut tasks = JoinSet::new();
    for (place, identifier) in wish.slot.identifiers.iter().enumerate() {
        let look = Look {
            identifier: identifier.clone(),
            kinds: fitting(identifier, &wish.slot.policy.challenges),
            dns: wish.slot.policy.dns.clone(),
            eyes: eyes.clone(),
            install: install.clone(),
        };
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            // Never closed.
            let _turn = turns.acquire_owned().await;
            (place, look.look().await)
        });
    }
    let mut names = Vec::new();
    // What is late is dropped with the set.
    while let Ok(Some(done)) = timeout_at(end, tasks.join_next()).await {
        names.extend(done.ok());
    }
    names.sort_by_key(|(place, _)| *place);
    Facts { names: names.into_iter().map(|(_, facts)| facts).collect() }
}

fn fitting(identifier: &Identifier, configured: &[ChallengeKind]) -> Vec<ChallengeKind> {
    configured.iter().copied().filter(|kind| usable(identifier, *kind)).collect()
}

/// One name.
struct Look {
    identifier: Identifier,
    kinds: Vec<ChallengeKind>,
    dns: Option<Arc<DnsProvider>>,
    eyes: Eyes,
    install: Option<Arc<dyn Install>>,
}

impl Look {
    async fn look(self) -> NameFacts {
        let (addresses, caa, record) = tokio::join!(self.addresses(), self.caa(), self.record());
        let found = addresses.as_ref().and_then(|found| found.as_ref().ok());
        let probes = match (found, &self.install) {
            (Some(found), Some(install)) => self.probes(found, install).await,
            _ => Vec::new(),
        };
        NameFacts { identifier: self.identifier, addresses, caa, probes, record }
    }

    fn connects(&self) -> bool {
        self.kinds.iter().any(|kind| matches!(kind, ChallengeKind::Http01 | ChallengeKind::TlsAlpn01))
    }

    async fn addresses(&self) -> Option<Looked<Vec<IpAddr>>> {
        if !self.connects() {
            return None;
        }
        let name = match &self.identifier {
            Identifier::Ip(ip) => return Some(Ok(vec![*ip])),
            Identifier::Dns(name) => Name::parse(name).ok()?,
        };
        let resolver = &self.eyes.resolver;
        let (four, six) = tokio::join!(bounded(resolver.a(&name)), bounded(resolver.aaaa(&name)));
        Some(match (four, six) {
            (Ok(four), Ok(six)) => Ok(both(four, six)),
            // One family is enough to be found by.
            (Ok(four), Err(_)) if !four.is_empty() => Ok(both(four, Vec::new())),
            (Err(_), Ok(six)) if !six.is_empty() => Ok(both(Vec::new(), six)),
            (Err(blind), _) | (_, Err(blind)) => Err(blind),
        })
    }

    async fn caa(&self) -> Option<Looked<Option<CaaSet>>> {
        let Identifier::Dns(name) = &self.identifier else { return None };
        let name = Name::parse(name.strip_prefix("*.").unwrap_or(name)).ok()?;
        Some(bounded(self.eyes.resolver.caa(&name)).await)
    }

    /// Where the record of DNS-01 stands, and whether that is in the configured zone.
    async fn record(&self) -> Option<Result<(), RecordProblem>> {
        let Identifier::Dns(name) = &self.identifier else { return None };
        if !self.kinds.contains(&ChallengeKind::Dns01) {
            return None;
        }
        let Some(config) = &self.dns else { return Some(Err(RecordProblem::NoProvider)) };
        let configured = Resolver::configured(&config.resolvers);
        let resolver = if config.resolvers.is_empty() { &self.eyes.resolver } else { &configured };
        let blind = |why: String| Err(RecordProblem::Blind(why));
        let found = timeout(limits::PREFLIGHT_LOOKUP, dns::effective_name(resolver, name)).await;
        let at = match found {
            Ok(Ok(at)) => at,
            Ok(Err(error)) => return Some(blind(error.to_string())),
            Err(_) => return Some(Err(RecordProblem::Late)),
        };
        let DnsMeans::Update { zone: Some(zone), .. } = &config.means else { return Some(Ok(())) };
        let Ok(zone) = Name::parse(zone) else { return Some(Ok(())) };
        if at.is_within(&zone) {
            return Some(Ok(()));
        }
        Some(Err(RecordProblem::OutsideZone { name: at.to_string(), zone: zone.to_string() }))
    }

    /// Puts an answer into service and knocks at every address for it.
    async fn probes(&self, addresses: &[IpAddr], install: &Arc<dyn Install>) -> Vec<Probe> {
        let Some(password) = Password::new().map(Arc::new) else { return Vec::new() };
        let mut knocks: JoinSet<Probe> = JoinSet::new();
        let mut answers = Answers { install, token: None, name: None };
        let wants = |kind: ChallengeKind| self.kinds.contains(&kind);
        if let Some(port) = self.eyes.ports.http.filter(|_| wants(ChallengeKind::Http01)) {
            install.answer_http(&password.token, &password.key_authorization);
            answers.token = Some(&password.token);
            for address in bounded_families(addresses, port) {
                let (identifier, password) = (self.identifier.clone(), Arc::clone(&password));
                knocks.spawn(async move {
                    let seen = probe::http(address, &identifier, &password).await;
                    knocked(ChallengeKind::Http01, address, port, seen)
                });
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let pair = keys::challenge_pair(&self.identifier, &password.digest, now).ok();
        let leaf =
            pair.as_ref().and_then(|pair| Some(pair.certified_key().cert.first()?.clone().into_owned()));
        let port = self.eyes.ports.https.filter(|_| wants(ChallengeKind::TlsAlpn01));
        if let (Some(port), Some(pair), Some(leaf)) = (port, pair, leaf) {
            install.answer_tls(&self.identifier, pair);
            answers.name = Some(&self.identifier);
            for address in bounded_families(addresses, port) {
                let (identifier, leaf) = (self.identifier.clone(), leaf.clone());
                knocks.spawn(async move {
                    let seen = probe::tls(address, &identifier, leaf).await;
                    knocked(ChallengeKind::TlsAlpn01, address, port, seen)
                });
            }
        }
        let mut probes = Vec::new();
        while let Some(done) = knocks.join_next().await {
            probes.extend(done.ok());
        }
        probes.sort_by_key(|probe| (probe.kind.word(), probe.address));
        probes
    }
}

fn knocked(kind: ChallengeKind, address: SocketAddr, port: Port, seen: super::Seen) -> Probe {
    let (is_ours, behind_router) = probe::way_to(address.ip());
    Probe { kind, address, is_ours, behind_router, has_listener: port.ours, seen }
}

/// At most [`limits::ACME_ADDRESSES`] of each family, with the port.
fn bounded_families(addresses: &[IpAddr], port: Port) -> Vec<SocketAddr> {
    let (four, six): (Vec<&IpAddr>, Vec<&IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv4());
    let [four, six] = [four, six].map(|ips| ips.into_iter().take(limits::ACME_ADDRESSES));
    four.chain(six).map(|ip| SocketAddr::new(*ip, port.number)).collect()
}

/// Takes answers out of service again, also when nobody waits for the look any more.
struct Answers<'a> {
    install: &'a Arc<dyn Install>,
    token: Option<&'a str>,
    name: Option<&'a Identifier>,
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.install.forget_http(token);
        }
        if let Some(name) = self.name {
            self.install.forget_tls(name);
        }
    }
}

async fn bounded<T>(look_up: impl Future<Output = Result<T, LookupError>>) -> Looked<T> {
    match timeout(limits::PREFLIGHT_LOOKUP, look_up).await {
        Ok(done) => done.map_err(Blind::Lookup),
        Err(_) => Err(Blind::Late),
    }
}

fn both(four: Vec<Ipv4Addr>, six: Vec<Ipv6Addr>) -> Vec<IpAddr> {
    four.into_iter().map(IpAddr::from).chain(six.into_iter().map(IpAddr::from)).collect()
}
