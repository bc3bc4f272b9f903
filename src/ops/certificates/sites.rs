//! Which sites a certificate's names are for.

use std::collections::HashMap;

use crate::config::model::{HostPattern, Model, SiteTls};

/// Sites that take what the certificate directory has, by host.
#[derive(Debug, Default)]
pub(super) struct Sites {
    hosts: HashMap<HostPattern, u32>,
    /// Sites of whole names by what follows the first label.
    parents: HashMap<String, Vec<u32>>,
}

impl Sites {
    pub(super) fn of(model: &Model) -> Self {
        let mut sites = Self::default();
        if model.server.certificates.is_none() {
            return sites;
        }
        for site in model.sites.iter().filter(|site| site.tls == SiteTls::Auto) {
            sites.hosts.insert(site.host.clone(), site.index);
            if let HostPattern::Exact(name) = &site.host
                && let Some((_, parent)) = name.split_once('.')
            {
                sites.parents.entry(parent.to_owned()).or_default().push(site.index);
            }
        }
        sites
    }

    /// Sites whose host a certificate of this name covers.
    pub(super) fn under(&self, name: &HostPattern) -> impl Iterator<Item = u32> {
        let parent = match name {
            HostPattern::Wildcard(parent) => self.parents.get(parent),
            _ => None,
        };
        self.hosts.get(name).into_iter().chain(parent.into_iter().flatten()).copied()
    }
}
