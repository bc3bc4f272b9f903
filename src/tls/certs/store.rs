//! Which entry answers for a name: exact names, then wildcards of one label; IP addresses and the default
//! for clients that send no name. One lookup path for one name and for ten thousand.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Entry;
use super::demanded::Demanded;
use super::pair::parent_of;
use crate::config::model::HostPattern;

/// Entries of one page: what changing one entry copies. A store of 10,000 sites has then 79 pages, so
/// that a change costs some two hundred counts of holders.
const PAGE: usize = 128;

/// All entries by name. A copy shares everything with its origin, and [`Store::put`] on it copies only the
/// page that the entry is on, so both the change and the end of the old store cost little.
#[derive(Clone, Debug, Default)]
pub struct Store {
    places: Arc<Places>,
    /// `None`: a known site that waits for its certificate.
    pages: Vec<Arc<Vec<Option<Arc<Entry>>>>>,
    challenge: Arc<HashMap<Box<[u8]>, Arc<Entry>>>,
    /// There if certificates are obtained on demand.
    demanded: Option<Demanded>,
}

/// Where the entry of a name is: its page and its place there, as one number.
#[derive(Clone, Debug, Default)]
struct Places {
    exact: HashMap<Box<[u8]>, u32>,
    wildcard: HashMap<Box<[u8]>, u32>,
    ip: HashMap<IpAddr, u32>,
    default: Option<u32>,
    /// Wildcards without a certificate whose names are obtained one by one.
    by_demand: HashSet<u32>,
}

impl Places {
    fn of(&self, host: &HostPattern) -> Option<u32> {
        let place = match host {
            HostPattern::Exact(name) => self.exact.get(name.as_bytes()),
            HostPattern::Wildcard(parent) => self.wildcard.get(parent.as_bytes()),
            HostPattern::Ip(ip) => self.ip.get(&ip.to_canonical()),
        };
        place.copied()
    }

    fn set(&mut self, host: &HostPattern, place: u32) {
        match host {
            HostPattern::Exact(name) => self.exact.insert(name.as_bytes().into(), place),
            HostPattern::Wildcard(parent) => self.wildcard.insert(parent.as_bytes().into(), place),
            HostPattern::Ip(ip) => self.ip.insert(ip.to_canonical(), place),
        };
    }
}

/// What the store knows about a name.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'s> {
    /// The entry to serve.
    Found(&'s Arc<Entry>),
    /// The client sent no name, and neither the local address nor a default answers for that.
    NoName,
    /// No site has this name.
    Unknown,
    /// A site has it, but its certificate is not there yet.
    NotReady,
    /// No site lists it, and it may have a certificate on demand.
    OnDemand,
}

impl Store {
    /// An empty store to fill.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder {
            places: Places::default(),
            entries: Vec::new(),
            challenge: HashMap::new(),
            demanded: None,
        }
    }

    /// The entry for a normalised `name`; without one, for the address that the client connected to, then
    /// the default. An exact name hides a wildcard even while it waits, because the sites may differ.
    #[must_use]
    pub fn find(&self, name: Option<&[u8]>, local: IpAddr) -> Lookup<'_> {
        let places = &*self.places;
        let (place, none) = match name {
            None => (places.ip.get(&local.to_canonical()).or(places.default.as_ref()), Lookup::NoName),
            Some(name) => {
                let wildcard = || parent_of(name).and_then(|parent| places.wildcard.get(parent));
                (places.exact.get(name).or_else(wildcard), Lookup::Unknown)
            }
        };
        match place.map(|place| self.at(*place)) {
            Some(Some(entry)) => Lookup::Found(entry),
            found => {
                let otherwise = if found.is_none() { none } else { Lookup::NotReady };
                self.find_demanded(name, place.copied()).unwrap_or(otherwise)
            }
        }
    }

    /// What is obtained on demand, unless a site at `place` has the name for itself.
    fn find_demanded(&self, name: Option<&[u8]>, place: Option<u32>) -> Option<Lookup<'_>> {
        let (name, demanded) = (name?, self.demanded.as_ref()?);
        if place.is_some_and(|place| !self.places.by_demand.contains(&place)) {
            return None;
        }
        Some(demanded.get(name).map_or(Lookup::OnDemand, Lookup::Found))
    }

    /// The entry on demand for a normalised name.
    #[must_use]
    pub fn demanded(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        self.demanded.as_ref()?.get(name)
    }

    /// `entry`, made by [`Entry::on_demand`], answers for a normalised name that no site lists; with `None`
    /// there is none any more. Whether anything is obtained on demand; if not, nothing changes.
    pub fn put_demanded(&mut self, name: &[u8], entry: Option<Arc<Entry>>) -> bool {
        let Some(demanded) = &mut self.demanded else { return false };
        demanded.put(name, entry);
        true
    }

    /// The entry of a pending TLS-ALPN-01 challenge for a normalised name (RFC 8737 §3).
    #[must_use]
    pub fn find_challenge(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        self.challenge.get(name)
    }

    /// The entry that answers for the site `host` itself.
    #[must_use]
    pub fn of(&self, host: &HostPattern) -> Option<&Arc<Entry>> {
        self.at(self.places.of(host)?)
    }

    /// `entry` answers for the site `host` from now on; with `None` it waits for its certificate. Whether
    /// the store knows `host`; if not, nothing changes.
    pub fn put(&mut self, host: &HostPattern, entry: Option<Arc<Entry>>) -> bool {
        let Some(place) = self.places.of(host) else { return false };
        let page = self.pages.get_mut(place as usize / PAGE).map(Arc::make_mut);
        let Some(slot) = page.and_then(|page| page.get_mut(place as usize % PAGE)) else { return false };
        *slot = entry;
        true
    }

    /// `entry`, made by [`Entry::for_challenge`], answers the challenge for a normalised name; for an IP
    /// address that is its reverse name (RFC 8738 §6).
    pub fn put_challenge(&mut self, name: &[u8], entry: Arc<Entry>) {
        Arc::make_mut(&mut self.challenge).insert(name.into(), entry);
    }

    /// The challenge for a normalised name is over; whether there was one.
    pub fn end_challenge(&mut self, name: &[u8]) -> bool {
        self.challenge.contains_key(name) && Arc::make_mut(&mut self.challenge).remove(name).is_some()
    }

    fn at(&self, place: u32) -> Option<&Arc<Entry>> {
        self.pages.get(place as usize / PAGE)?.get(place as usize % PAGE)?.as_ref()
    }
}

/// A store being filled. A later entry for the same host replaces an earlier one.
#[derive(Debug)]
pub struct StoreBuilder {
    places: Places,
    entries: Vec<Option<Arc<Entry>>>,
    challenge: HashMap<Box<[u8]>, Arc<Entry>>,
    demanded: Option<Demanded>,
}

impl StoreBuilder {
    /// `entry` answers for `host`.
    pub fn add(&mut self, host: &HostPattern, entry: Arc<Entry>) -> &mut Self {
        self.push(host, Some(entry))
    }

    /// `host` is a site whose certificate is not there yet.
    pub fn add_pending(&mut self, host: &HostPattern) -> &mut Self {
        self.push(host, None)
    }

    /// Names that no site lists may have certificates on demand.
    pub fn on_demand(&mut self) -> &mut Self {
        self.demanded = Some(Demanded::default());
        self
    }

    /// The names of the wildcard `host` have certificates on demand while it has none itself.
    pub fn add_by_demand(&mut self, host: &HostPattern) -> &mut Self {
        self.push(host, None);
        self.places.by_demand.extend(self.places.of(host));
        self
    }

    /// Clients that send no name get what `host`, which was added before, has.
    pub fn default_is(&mut self, host: &HostPattern) -> &mut Self {
        self.places.default = self.places.of(host);
        self
    }

    /// See [`Store::put_challenge`].
    pub fn challenge(&mut self, name: &[u8], entry: Arc<Entry>) -> &mut Self {
        self.challenge.insert(name.into(), entry);
        self
    }

    /// The filled store.
    #[must_use]
    pub fn build(self) -> Store {
        let mut pages = Vec::with_capacity(self.entries.len().div_ceil(PAGE));
        let mut entries = self.entries.into_iter();
        loop {
            let page: Vec<_> = entries.by_ref().take(PAGE).collect();
            if page.is_empty() {
                break;
            }
            pages.push(Arc::new(page));
        }
        Store {
            places: Arc::new(self.places),
            pages,
            challenge: Arc::new(self.challenge),
            demanded: self.demanded,
        }
    }

    fn push(&mut self, host: &HostPattern, entry: Option<Arc<Entry>>) -> &mut Self {
        let known = self.places.of(host).and_then(|place| self.entries.get_mut(place as usize));
        if let Some(slot) = known {
            *slot = entry;
        } else {
            self.places.set(host, self.entries.len() as u32);
            self.entries.push(entry);
        }
        self
    }
}
