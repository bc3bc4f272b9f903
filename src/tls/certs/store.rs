//! Which entry answers for a name: exact names, then wildcards of one label; IP addresses and the default
//! for clients that send no name. One lookup path for one name and for ten thousand.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Entry;
use super::pair::parent_of;
use crate::config::model::HostPattern;

/// All entries by name; built once, then only read.
#[derive(Debug, Default)]
pub struct Store {
    exact: HashMap<Box<[u8]>, Slot>,
    wildcard: HashMap<Box<[u8]>, Slot>,
    ip: HashMap<IpAddr, Slot>,
    challenge: HashMap<Box<[u8]>, Arc<Entry>>,
    default: Option<Slot>,
}

/// A known site: with its certificate, or waiting for it.
#[derive(Clone, Debug)]
enum Slot {
    Ready(Arc<Entry>),
    Pending,
}

impl Slot {
    fn lookup(&self) -> Lookup<'_> {
        match self {
            Self::Ready(entry) => Lookup::Found(entry),
            Self::Pending => Lookup::NotReady,
        }
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
}

impl Store {
    /// An empty store to fill.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder { store: Self::default() }
    }

    /// The entry for a normalised `name`; without one, for the address that the client connected to, then
    /// the default. An exact name hides a wildcard even while it waits, because the sites may differ.
    #[must_use]
    pub fn find(&self, name: Option<&[u8]>, local: IpAddr) -> Lookup<'_> {
        let Some(name) = name else {
            let slot = self.ip.get(&local.to_canonical()).or(self.default.as_ref());
            return slot.map_or(Lookup::NoName, Slot::lookup);
        };
        let wildcard = || parent_of(name).and_then(|parent| self.wildcard.get(parent));
        self.exact.get(name).or_else(wildcard).map_or(Lookup::Unknown, Slot::lookup)
    }

    /// The entry of a pending TLS-ALPN-01 challenge for a normalised name (RFC 8737 §3).
    #[must_use]
    pub fn find_challenge(&self, name: &[u8]) -> Option<&Arc<Entry>> {
        self.challenge.get(name)
    }
}

/// A store being filled. A later entry for the same host replaces an earlier one.
#[derive(Debug)]
pub struct StoreBuilder {
    store: Store,
}

impl StoreBuilder {
    /// `entry` answers for `host`.
    pub fn add(&mut self, host: &HostPattern, entry: Arc<Entry>) -> &mut Self {
        self.put(host, Slot::Ready(entry))
    }

    /// `host` is a site whose certificate is not there yet.
    pub fn add_pending(&mut self, host: &HostPattern) -> &mut Self {
        self.put(host, Slot::Pending)
    }

    /// `entry` answers clients that send no name.
    pub fn default(&mut self, entry: Arc<Entry>) -> &mut Self {
        self.store.default = Some(Slot::Ready(entry));
        self
    }

    /// Clients that send no name belong to a site whose certificate is not there yet.
    pub fn default_pending(&mut self) -> &mut Self {
        self.store.default = Some(Slot::Pending);
        self
    }

    /// `entry`, made by [`Entry::for_challenge`], answers the challenge for a normalised name; for an IP
    /// address that is its reverse name (RFC 8738 §6).
    pub fn challenge(&mut self, name: &[u8], entry: Arc<Entry>) -> &mut Self {
        self.store.challenge.insert(name.into(), entry);
        self
    }

    /// The filled store.
    #[must_use]
    pub fn build(self) -> Store {
        self.store
    }

    fn put(&mut self, host: &HostPattern, slot: Slot) -> &mut Self {
        match host {
            HostPattern::Exact(name) => self.store.exact.insert(name.as_bytes().into(), slot),
            HostPattern::Wildcard(parent) => self.store.wildcard.insert(parent.as_bytes().into(), slot),
            HostPattern::Ip(ip) => self.store.ip.insert(ip.to_canonical(), slot),
        };
        self
    }
}
