//! What one certificate is asked for: a *slot* is a set of names and a kind of key. Its certificates come
//! and go; the slot stays, and so does its place on disk.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::acme::local_ca;
use crate::config::model::{AcmePolicy, ChallengeKind, HostPattern, Model, Site, SiteTls};

/// One certificate to have.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The host of the first site that wants it, and its name on disk and in commands.
    pub name: HostPattern,
    /// What the certificate has to cover, sorted, without repetition: the host, and the policy's names.
    pub identifiers: Vec<Identifier>,
    /// How it is asked for.
    pub policy: Arc<AcmePolicy>,
    /// Places in the model of the sites that it serves; none for a name on demand, which no site lists.
    pub sites: Vec<u32>,
}

/// A name that an authority validates (RFC 8555 §9.7.7, RFC 8738).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identifier {
    /// A lower-case DNS name in A-labels, or `*.` and one.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl Identifier {
    /// Whether it is a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }
}

impl From<&HostPattern> for Identifier {
    fn from(host: &HostPattern) -> Self {
        match host {
            HostPattern::Ip(ip) => Self::Ip(*ip),
            other => Self::Dns(other.to_string()),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl Slot {
    /// The slots of a configuration: one for each site that an authority on the network has to serve. A site
    /// whose host another site's policy names is served by that site's certificate. `has_files`: whether
    /// the certificate directory has a pair for a host.
    #[must_use]
    pub fn all(model: &Model, has_files: impl Fn(&HostPattern) -> bool) -> Vec<Self> {
        let wanted: Vec<(&Site, &Arc<AcmePolicy>)> = model
            .sites
            .iter()
            .filter(|site| match site.tls {
                SiteTls::Acme => true,
                SiteTls::Auto => !local_ca::is_local(&site.host) && !has_files(&site.host),
                SiteTls::Files(_) => false,
            })
            .filter(|site| !is_by_demand(model, site))
            .filter_map(|site| Some((&**site, site.acme.as_ref()?)))
            .collect();
        let carriers = wanted.iter().filter(|(_, policy)| !policy.names.is_empty());
        let carried: HashSet<&HostPattern> = carriers
            .flat_map(|(site, policy)| policy.names.iter().filter(|name| **name != site.host))
            .collect();
        let mut slots: Vec<Self> = wanted
            .iter()
            .filter(|(site, policy)| !policy.names.is_empty() || !carried.contains(&site.host))
            .map(|(site, policy)| Self::new(site, policy))
            .collect();
        for (site, _) in &wanted {
            let home = slots.iter_mut().find(|slot| slot.covers(&site.host));
            if let Some(slot) = home.filter(|slot| !slot.sites.contains(&site.index)) {
                slot.sites.push(site.index);
            }
        }
        slots
    }

    /// The slot of a name that no site lists, in the policy of the site that serves it; `None` if that one
    /// asks no authority, or nothing is obtained on demand.
    #[must_use]
    pub fn on_demand(model: &Model, name: &str) -> Option<Self> {
        model.acme.on_demand.as_ref()?;
        let policy = serving_site(model, name)?.acme.as_ref()?;
        let policy = match policy.names.is_empty() {
            true => Arc::clone(policy),
            // Those are for the certificate of the site itself.
            false => Arc::new(AcmePolicy { names: Vec::new(), ..AcmePolicy::clone(policy) }),
        };
        Some(Self {
            name: HostPattern::Exact(name.to_owned()),
            identifiers: vec![Identifier::Dns(name.to_owned())],
            policy,
            sites: Vec::new(),
        })
    }

    /// Whether it is for a name that no site lists.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        self.sites.is_empty()
    }

    fn new(site: &Site, policy: &Arc<AcmePolicy>) -> Self {
        let mut identifiers: Vec<Identifier> =
            std::iter::once(&site.host).chain(&policy.names).map(Identifier::from).collect();
        identifiers.sort_unstable();
        identifiers.dedup();
        Self { name: site.host.clone(), identifiers, policy: Arc::clone(policy), sites: vec![site.index] }
    }

    fn covers(&self, host: &HostPattern) -> bool {
        self.identifiers.contains(&Identifier::from(host))
    }
}

/// The site that serves a name on demand: the one with the longest wildcard above it, at any depth, or the
/// default site.
#[must_use]
pub fn serving_site<'m>(model: &'m Model, name: &str) -> Option<&'m Site> {
    let above = |site: &&Arc<Site>| match &site.host {
        HostPattern::Wildcard(parent) => {
            let front = name.strip_suffix(parent.as_str()).filter(|front| front.len() > 1);
            front.is_some_and(|front| front.ends_with('.')).then_some(parent.len())
        }
        _ => None,
    };
    let longest = model.sites.iter().filter(|site| above(site).is_some()).max_by_key(above);
    let default = || {
        let host = model.server.default_site.as_ref()?;
        model.sites.iter().find(|site| site.host == *host)
    };
    longest.or_else(default).map(|site| &**site)
}

/// Whether the names of a wildcard site are obtained one by one: no challenge of its policy is for
/// wildcards.
#[must_use]
pub fn is_by_demand(model: &Model, site: &Site) -> bool {
    let for_wildcards =
        |kind: &ChallengeKind| matches!(kind, ChallengeKind::Dns01 | ChallengeKind::DnsPersist01);
    let policy = site.acme.as_ref().filter(|_| model.acme.on_demand.is_some());
    matches!(site.host, HostPattern::Wildcard(_))
        && match site.tls {
            SiteTls::Acme => true,
            SiteTls::Auto => !local_ca::is_local(&site.host),
            SiteTls::Files(_) => false,
        }
        && policy.is_some_and(|policy| !policy.challenges.iter().any(for_wildcards))
}
