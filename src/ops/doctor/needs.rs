//! What a configuration asks of the machine.

use std::net::IpAddr;

use crate::config::Model;
use crate::config::model::{Upstream, Workers};
use crate::limits;
use crate::ops::startup;

/// What a configuration asks of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Whose needs these are, for the operator.
    pub of: String,
    /// The CPU of each worker, if it is pinned.
    pub workers: Vec<Option<usize>>,
    /// Client connections of one worker.
    pub connections: usize,
    /// Whether an app is reached over TCP.
    pub tcp_upstreams: bool,
    /// Whether one of these is on this machine.
    pub loopback_upstreams: bool,
    /// Whether one of these may be on another machine.
    pub remote_upstreams: bool,
}

impl Needs {
    /// Those of a configuration; `of` names it.
    #[must_use]
    pub fn of(model: &Model, of: &str) -> Self {
        let routes = model.sites.iter().flat_map(|site| &site.routes);
        let hosts = routes.flat_map(|route| &route.to).filter_map(|upstream| match upstream {
            Upstream::Tcp { host, .. } => Some(is_loopback(host)),
            Upstream::Unix(_) | Upstream::Demo => None,
        });
        let hosts: Vec<bool> = hosts.collect();
        Self {
            of: of.to_owned(),
            workers: startup::cpus(&model.server.workers),
            connections: model.limits.connections,
            tcp_upstreams: !hosts.is_empty(),
            loopback_upstreams: hosts.contains(&true),
            remote_upstreams: hosts.contains(&false),
        }
    }

    /// Those of a machine whose configuration is not written yet: a worker per CPU, default limits, apps on
    /// this machine and on others.
    #[must_use]
    pub fn of_defaults() -> Self {
        Self {
            of: "the defaults".to_owned(),
            workers: startup::cpus(&Workers::Auto),
            connections: limits::CONNECTIONS_PER_WORKER,
            tcp_upstreams: true,
            loopback_upstreams: true,
            remote_upstreams: true,
        }
    }

    /// Descriptors for every connection that the limits allow: a client's and an app's, and the process's own.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        let connections = (self.workers.len() as u64).saturating_mul(self.connections as u64);
        connections.saturating_mul(2).saturating_add(limits::RESERVED_DESCRIPTORS)
    }

    /// The same as a limit to set: the next power of two.
    #[must_use]
    pub fn descriptor_limit(&self) -> u64 {
        self.descriptors().checked_next_power_of_two().unwrap_or(u64::MAX)
    }

    /// Bytes of all workers' rings: submission entries (64, and 4 in the index), completion entries (16), and
    /// a page for the heads of each.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        let one = u64::from(limits::RING_ENTRIES) * 68 + u64::from(limits::RING_COMPLETIONS) * 16 + 8192;
        one.saturating_mul(self.workers.len() as u64)
    }

    /// CPUs of the pinned workers, in the order of the workers.
    #[must_use]
    pub fn worker_cpus(&self) -> Vec<usize> {
        self.workers.iter().copied().flatten().collect()
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source};
    use crate::ops::check::Disk;

    fn needs(to: &str) -> Needs {
        let text = format!(
            "[server]\nworkers = \"2-4\"\n[limits]\nconnections = 1000\n[sites]\n\"a.test\" = \"{to}\"\n"
        );
        let source = Source { name: "lockring.toml".to_owned(), text };
        Needs::of(&config::load(source, &Disk).unwrap().model, "a test")
    }

    #[test]
    fn a_configuration_says_what_it_needs() {
        let local = needs("127.0.0.1:8000");
        assert_eq!(local.worker_cpus(), [2, 3, 4]);
        assert_eq!(local.descriptors(), 3 * 1000 * 2 + 64);
        assert_eq!(local.descriptor_limit(), 8192);
        let kinds = |needs: Needs| (needs.tcp_upstreams, needs.loopback_upstreams, needs.remote_upstreams);
        assert_eq!(kinds(local), (true, true, false));
        assert_eq!(kinds(needs("localhost:8000")), (true, true, false));
        assert_eq!(kinds(needs("10.0.0.7:8000")), (true, false, true));
        assert_eq!(kinds(needs("unix:/run/app.sock")), (false, false, false));
    }

    #[test]
    fn without_a_configuration_the_defaults_count() {
        let needs = Needs::of_defaults();
        assert!(!needs.workers.is_empty() && needs.tcp_upstreams);
        assert_eq!(needs.connections, limits::CONNECTIONS_PER_WORKER);
    }
}
