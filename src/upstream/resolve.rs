//! What the names of upstreams resolve to: the answers, as a value. Looking up is done elsewhere, off the
//! data path.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::config::model::{Model, Upstream};

/// Addresses kept per name: a resolver may answer with any number.
pub const ADDRESSES_PER_NAME: usize = 32;

/// A host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Name or IP literal, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The hosts of all upstreams of a configuration, each once.
#[must_use]
pub fn names(model: &Model) -> BTreeSet<Name> {
    let upstreams = model.sites.iter().flat_map(|site| &site.routes).flat_map(|route| &route.to);
    upstreams
        .filter_map(|upstream| match upstream {
            Upstream::Tcp { host, port, .. } => Some(Name { host: host.clone(), port: *port }),
            Upstream::Unix(_) | Upstream::Demo => None,
        })
        .collect()
}

/// One name's state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Name,
    /// The last good answer; or, while there never was one, why.
    answer: Result<Vec<SocketAddr>, String>,
    /// Why the last look-up failed, if it did.
    failure: Option<String>,
}

/// The newest answers for all names, immutable once published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Sorted by name.
    entries: Vec<Entry>,
}

impl Resolved {
    /// The addresses to try for a host, in order; never empty. IP literals need no entry of their own
    /// look-up, but must have been named like the rest.
    ///
    /// # Errors
    /// Why there is none, as a text for the log and for the 502 answer.
    pub fn lookup(&self, host: &str, port: u16) -> Result<&[SocketAddr], &str> {
        match self.find(host, port) {
            Ok(place) => match self.entries.get(place).map(|entry| &entry.answer) {
                Some(Ok(addresses)) => Ok(addresses),
                Some(Err(reason)) => Err(reason),
                None => Err("not looked up yet"),
            },
            Err(_) => Err("not looked up yet"),
        }
    }

    /// Takes a look-up's result: a good answer replaces the one before, a failure leaves it standing.
    /// Whether that changed anything that [`Resolved::lookup`] or [`Resolved::failures`] tells.
    pub fn take(&mut self, name: &Name, result: Result<Vec<SocketAddr>, String>) -> bool {
        let result = result.and_then(|mut addresses| {
            let mut seen = BTreeSet::new();
            addresses.retain(|address| seen.insert(*address));
            addresses.truncate(ADDRESSES_PER_NAME);
            if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
        });
        let place = self.find(&name.host, name.port);
        let old = place.ok().and_then(|place| self.entries.get(place));
        let next = match (old, result) {
            (_, Ok(addresses)) => Entry { name: name.clone(), answer: Ok(addresses), failure: None },
            (Some(Entry { answer: Ok(kept), .. }), Err(reason)) => {
                Entry { name: name.clone(), answer: Ok(kept.clone()), failure: Some(reason) }
            }
            (_, Err(reason)) => {
                Entry { name: name.clone(), answer: Err(reason.clone()), failure: Some(reason) }
            }
        };
        if old == Some(&next) {
            return false;
        }
        match place {
            Ok(place) => {
                if let Some(entry) = self.entries.get_mut(place) {
                    *entry = next;
                }
            }
            Err(place) => self.entries.insert(place, next),
        }
        true
    }

    /// Forgets all names but these; whether any was forgotten.
    pub fn keep_only(&mut self, names: &BTreeSet<Name>) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| names.contains(&entry.name));
        self.entries.len() < before
    }

    /// Whether every name had at least one look-up.
    #[must_use]
    pub fn covers(&self, names: &BTreeSet<Name>) -> bool {
        names.iter().all(|name| self.find(&name.host, name.port).is_ok())
    }

    /// The names whose last look-up failed, and why; an older answer may still be in use.
    pub fn failures(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.entries.iter().filter_map(|entry| Some((&entry.name, entry.failure.as_deref()?)))
    }

    fn find(&self, host: &str, port: u16) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (entry.name.host.as_str(), entry.name.port).cmp(&(host, port)))
    }
}

/// The address of an IP literal, which needs no look-up.
#[must_use]
pub fn literal(name: &Name) -> Option<SocketAddr> {
    name.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, name.port))
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES_PER_NAME, Name, Resolved, literal};
    use std::collections::BTreeSet;
    use std::net::SocketAddr;

    fn name(host: &str, port: u16) -> Name {
        Name { host: host.to_owned(), port }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn answers_are_found_by_host_and_port() {
        let mut resolved = Resolved::default();
        let (b, a) = (addresses(&["10.0.0.2:80", "10.0.0.2:80", "[::1]:80"]), addresses(&["10.0.0.1:81"]));
        assert!(resolved.take(&name("b", 80), Ok(b)));
        assert!(resolved.take(&name("a", 81), Ok(a.clone())));
        assert_eq!(resolved.lookup("a", 81), Ok(a.as_slice()));
        assert_eq!(resolved.lookup("b", 80).unwrap(), addresses(&["10.0.0.2:80", "[::1]:80"]));
        assert_eq!(resolved.lookup("a", 80), Err("not looked up yet"));
        assert!(!resolved.take(&name("a", 81), Ok(a)), "nothing new");
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer() {
        let mut resolved = Resolved::default();
        let (a, good) = (name("a", 1), addresses(&["10.0.0.1:1"]));
        assert!(resolved.take(&a, Err("no such host".to_owned())));
        assert_eq!(resolved.lookup("a", 1), Err("no such host"));
        assert!(resolved.take(&a, Ok(good.clone())));
        assert_eq!(resolved.failures().count(), 0);
        assert!(resolved.take(&a, Err("timed out".to_owned())));
        assert_eq!(resolved.lookup("a", 1), Ok(good.as_slice()));
        assert!(resolved.take(&a, Ok(Vec::new())), "an empty answer is a failure");
        assert_eq!(resolved.lookup("a", 1), Ok(good.as_slice()));
        assert_eq!(resolved.failures().collect::<Vec<_>>(), [(&a, "the name has no address")]);
    }

    #[test]
    fn names_that_are_gone_are_forgotten_and_answers_are_bounded() {
        let mut resolved = Resolved::default();
        let (a, b) = (name("a", 1), name("b", 1));
        let many = (0..=255).map(|n| SocketAddr::from(([10, 0, 0, n], 1))).collect();
        resolved.take(&a, Ok(many));
        assert_eq!(resolved.lookup("a", 1).unwrap().len(), ADDRESSES_PER_NAME);
        let wanted = BTreeSet::from([b.clone()]);
        assert!(!resolved.covers(&wanted));
        resolved.take(&b, Err("x".to_owned()));
        assert!(resolved.covers(&wanted));
        assert!(resolved.keep_only(&wanted));
        assert!(!resolved.keep_only(&wanted));
        assert!(resolved.lookup("a", 1).is_err());
    }

    #[test]
    fn literals_need_no_look_up() {
        assert_eq!(literal(&name("::1", 8)), Some("[::1]:8".parse().unwrap()));
        assert_eq!(literal(&name("10.0.0.1", 8)), Some("10.0.0.1:8".parse().unwrap()));
        assert_eq!(literal(&name("localhost", 8)), None);
    }
}
