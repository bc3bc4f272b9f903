//! Host to site, path to route. One way of matching for one host and for ten thousand.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::model::{HostPattern, Model, PathPattern};
use crate::http::target::{self, TargetError};
use crate::upstream::group::{GroupId, Groups};

/// Sites by host and routes by path, with the groups they lead to. Built once per configuration.
#[derive(Debug, Default)]
pub struct Table {
    exact: HashMap<Box<[u8]>, u32>,
    wildcard: HashMap<Box<[u8]>, u32>,
    ip: HashMap<IpAddr, u32>,
    sites: Vec<Paths>,
    groups: Groups,
}

/// The routes of one site.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<[u8]>, GroupId>,
    /// Longest first, so that the first match is the most specific one.
    prefixes: Vec<(Box<[u8]>, GroupId)>,
}

impl Table {
    /// The table of `model`.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let (groups, by_site) = Groups::of(model);
        let mut table = Self { groups, ..Self::default() };
        for (site, groups) in model.sites.iter().zip(by_site) {
            let index = table.sites.len() as u32;
            match &site.host {
                HostPattern::Exact(name) => {
                    table.exact.insert(name.as_bytes().into(), index);
                }
                HostPattern::Wildcard(parent) => {
                    table.wildcard.insert(parent.as_bytes().into(), index);
                }
                HostPattern::Ip(ip) => {
                    table.ip.insert(ip.to_canonical(), index);
                }
            }
            let mut paths = Paths::default();
            for (route, group) in site.routes.iter().zip(groups) {
                match &route.path {
                    PathPattern::Exact(path) => {
                        paths.exact.insert(path.as_bytes().into(), group);
                    }
                    PathPattern::Prefix(prefix) => paths.prefixes.push((prefix.as_bytes().into(), group)),
                }
            }
            paths.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            table.sites.push(paths);
        }
        table
    }

    /// The site that answers for `host`, a name in normal form (lower case, no trailing dot, no port).
    #[must_use]
    pub fn site(&self, host: &[u8]) -> Option<u32> {
        if let Some(site) = self.exact.get(host) {
            return Some(*site);
        }
        if !self.ip.is_empty() {
            let ip = std::str::from_utf8(host).ok().and_then(|text| text.parse::<IpAddr>().ok());
            if let Some(site) = ip.and_then(|ip| self.ip.get(&ip.to_canonical())) {
                return Some(*site);
            }
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let dot = host.iter().position(|byte| *byte == b'.')?;
        let parent = host.get(dot + 1..)?;
        self.wildcard.get(parent).copied().filter(|_| dot > 0)
    }

    /// The group that answers for `path` (in normal form) on `site`.
    #[must_use]
    pub fn group(&self, site: u32, path: &[u8]) -> Option<GroupId> {
        let paths = self.sites.get(site as usize)?;
        if let Some(group) = paths.exact.get(path) {
            return Some(*group);
        }
        let matches = |prefix: &[u8]| {
            // `/static/` stands for the folder and everything below, so `/static` is in it too.
            path.starts_with(prefix) || prefix.strip_suffix(b"/").is_some_and(|folder| folder == path)
        };
        paths.prefixes.iter().find(|(prefix, _)| matches(prefix)).map(|(_, group)| *group)
    }

    /// The endpoints behind.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }
}

/// The path in the one form that routing looks at, in `scratch` unless it already has that form.
///
/// # Errors
/// A path that has no safe normal form (RFC 3986 §5.2.4): above the root, or hidden dot segments.
pub fn normal_path<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], TargetError> {
    let plain = path.first() == Some(&b'/')
        && !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !path.windows(2).any(|pair| pair == b"/.");
    if plain {
        return Ok(path);
    }
    scratch.clear();
    target::normalise_path(path, scratch)?;
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::exchange::testing::model;

    #[test]
    fn exact_hosts_win_over_wildcards_and_one_label_only_matches() {
        let table = Table::new(&model(&[
            ("app.example.org", "/", "127.0.0.1:1"),
            ("*.example.org", "/", "127.0.0.1:2"),
            ("127.0.0.1", "/", "127.0.0.1:3"),
        ]));
        assert_eq!(table.site(b"app.example.org"), Some(0));
        assert_eq!(table.site(b"b.example.org"), Some(1));
        assert_eq!(table.site(b"a.b.example.org"), None);
        assert_eq!(table.site(b"example.org"), None);
        assert_eq!(table.site(b".example.org"), None);
        assert_eq!(table.site(b"127.0.0.1"), Some(2));
        assert_eq!(table.site(b"other"), None);
    }

    #[test]
    fn the_longest_path_wins_whatever_the_order() {
        let table = Table::new(&model(&[
            ("a.test", "/", "127.0.0.1:1"),
            ("a.test", "/static/*", "127.0.0.1:2"),
            ("a.test", "/static/img/*", "127.0.0.1:3"),
            ("a.test", "/static/one", "127.0.0.1:4"),
        ]));
        let port = |path: &[u8]| {
            let group = table.group(0, path)?;
            let id = table.groups().members(group).first().copied()?;
            table.groups().endpoint(id).map(|endpoint| endpoint.label.to_string())
        };
        assert_eq!(port(b"/x").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(port(b"/static").as_deref(), Some("127.0.0.1:2"));
        assert_eq!(port(b"/static/a").as_deref(), Some("127.0.0.1:2"));
        assert_eq!(port(b"/staticky").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(port(b"/static/img/z").as_deref(), Some("127.0.0.1:3"));
        assert_eq!(port(b"/static/one").as_deref(), Some("127.0.0.1:4"));
    }

    #[test]
    fn the_fast_path_of_normalising_says_what_the_slow_one_says() {
        let pieces: [&[u8]; 9] = [b"/", b"a", b".", b"..", b"%2e", b"%61", b"//", b"~b", b"%2F"];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut path = b"/".to_vec();
            for _ in 0..6 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                path.extend_from_slice(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            let (mut one, mut two) = (Vec::new(), Vec::new());
            let fast = normal_path(&path, &mut one).map(<[u8]>::to_vec);
            let slow = target::normalise_path(&path, &mut two).map(|()| two.clone());
            assert_eq!(fast.is_ok(), slow.is_ok(), "{}", String::from_utf8_lossy(&path));
            if let (Ok(fast), Ok(slow)) = (fast, slow) {
                assert_eq!(fast, slow, "{}", String::from_utf8_lossy(&path));
            }
        }
    }
}
