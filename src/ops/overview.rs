//! `lockring status`: the whole process on one page, as text and as JSON. It holds no secret.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::certs::{columns, plain};
use super::running::Running;
use crate::acme::slot;
use crate::acme::status::{Severity, Status};
use crate::handoff::meters::CLASSES;
use crate::io::worker::{Protocol, Setup};
use crate::telemetry::buckets::Sums;
use crate::telemetry::metrics::{Counter, Snapshot};
use crate::tls::certs::CertifiedPair;

/// Everything at about one moment. Times are in seconds since 1970, durations in ms. Unknown fields are
/// ignored and missing ones are empty, so that other versions can be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    /// Release.
    pub release: String,
    /// Number of the process.
    pub pid: u32,
    /// When it was looked at.
    pub at: u64,
    /// When the process began.
    pub started: u64,
    /// Whether it drains.
    pub draining: bool,
    /// Where it listens, as URLs without path.
    pub listeners: Vec<String>,
    /// What each worker has to do.
    pub workers: Vec<WorkerPart>,
    /// Client connections accepted.
    pub accepted: u64,
    /// Requests.
    pub requests: u64,
    /// Connections refused before or in the handshake.
    pub tls_failures: u64,
    /// Times that accepting paused at a limit.
    pub accept_paused: u64,
    /// Access log lines that workers dropped, and those that could not be written.
    pub log_lines_lost: u64,
    /// The sites, in the order of the configuration.
    pub sites: Vec<SitePart>,
    /// The upstreams.
    pub upstreams: Vec<UpstreamPart>,
    /// What is known about certificates from authorities, if there are any.
    pub acme: Option<Status>,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerPart {
    /// Client connections open.
    pub connections: u64,
    /// Of them, those that have waited for a second or longer.
    pub idle: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Upgraded connections open.
    pub tunnels: u64,
    /// Requests so far.
    pub requests: u64,
}

/// One site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SitePart {
    /// Host pattern.
    pub host: String,
    /// Certificates in service; none: clients are refused.
    pub certificates: Vec<CertificatePart>,
    /// Whether its names get certificates of their own when clients ask for them, and none is for itself.
    pub on_demand: bool,
    /// Responses by class of status.
    pub responses: [u64; CLASSES.len()],
    /// Whole requests by bucket of duration ([`crate::telemetry::buckets`]).
    pub durations: Vec<u64>,
    /// Whole requests: half of them were faster.
    pub p50_ms: Option<f64>,
    /// The same for 99 of 100.
    pub p99_ms: Option<f64>,
}

/// One certificate in service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificatePart {
    /// Names on it.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Kind of its key: `ecdsa` or `rsa`.
    pub key: String,
    /// End of validity.
    pub not_after: u64,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamPart {
    /// Where it is.
    pub upstream: String,
    /// Requests sent to it.
    pub requests: u64,
    /// Requests and dials under way.
    pub in_flight: u64,
    /// Failures to connect.
    pub connect_failures: u64,
}

impl CertificatePart {
    /// Of a pair in service.
    #[must_use]
    pub fn of(pair: &CertifiedPair) -> Self {
        Self {
            names: pair.names().iter().map(ToString::to_string).collect(),
            issuer: pair.issuer().to_owned(),
            serial: pair.serial_hex(),
            key: if pair.is_ecdsa() { "ecdsa" } else { "rsa" }.to_owned(),
            not_after: pair.not_after(),
        }
    }
}

impl Overview {
    /// Of the running process; `now` in seconds since 1970.
    #[must_use]
    pub fn of(running: &Running, now: u64) -> Self {
        let setup = running.setup.load();
        let sums = running.sums();
        let lost = sums.get(Counter::LogLinesDropped) + running.log_lost.get();
        Self {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            at: now,
            started: running.began.unix,
            draining: running.drain.has_begun(),
            listeners: running.addresses.iter().map(|(address, protocol)| url(address, *protocol)).collect(),
            workers: running.counters.iter().map(|counters| worker(&counters.snapshot())).collect(),
            accepted: sums.get(Counter::Accepted),
            requests: sums.get(Counter::RequestsHttp1) + sums.get(Counter::RequestsHttp2),
            tls_failures: sums.family("lockring_tls_refused_total"),
            accept_paused: sums.get(Counter::AcceptPaused),
            log_lines_lost: lost,
            sites: sites(&setup),
            upstreams: upstreams(&setup),
            acme: running.acme.as_ref().map(|acme| (*acme.status()).clone()),
        }
    }

    /// As JSON, ending in a line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Its types have no map with keys other than texts, so this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Whether a person should look: a site without a certificate, or renewal that fails.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        let expired = |site: &SitePart| {
            !site.on_demand && site.certificates.iter().all(|pair| pair.not_after < self.at)
        };
        let renewal = self.acme.as_ref().is_some_and(|acme| acme.severity() >= Severity::Error);
        renewal || self.sites.iter().any(expired)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let state = if self.draining { "draining" } else { "running" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "lockring {} {state}, process {}, for {}\nlistening on {}",
            plain(&self.release),
            self.pid,
            span(self.at.saturating_sub(self.started)),
            self.listeners.join(", "),
        );
        let open: u64 = self.workers.iter().map(|worker| worker.connections).sum();
        let _ = writeln!(
            out,
            "connections {open} open, {} accepted, {} refused in TLS; requests {}; log lines lost {}",
            self.accepted, self.tls_failures, self.requests, self.log_lines_lost
        );
        out.push('\n');
        out += &columns(&self.worker_rows());
        out.push('\n');
        out += &columns(&self.site_rows());
        out.push('\n');
        out += &columns(&self.upstream_rows());
        if let Some(acme) = &self.acme {
            let failing = acme.slots.iter().filter(|slot| slot.severity >= Severity::Error).count();
            let _ = writeln!(
                out,
                "\nauthorities: {} certificates, {failing} failing; `lockring acme status` tells more",
                acme.slots.len()
            );
        }
        out
    }

    fn worker_rows(&self) -> Vec<[String; 6]> {
        let mut rows =
            vec![["WORKER", "OPEN", "IDLE", "IN FLIGHT", "TUNNELS", "REQUESTS"].map(str::to_owned)];
        rows.extend(self.workers.iter().enumerate().map(|(number, worker)| {
            let figures = [
                number as u64,
                worker.connections,
                worker.idle,
                worker.in_flight,
                worker.tunnels,
                worker.requests,
            ];
            figures.map(|figure| figure.to_string())
        }));
        rows
    }

    fn site_rows(&self) -> Vec<[String; 7]> {
        let mut rows =
            vec![["SITE", "CERTIFICATE", "2XX+3XX", "4XX", "5XX", "P50 MS", "P99 MS"].map(str::to_owned)];
        rows.extend(self.sites.iter().map(|site| {
            let [_, ok, moved, refused, failed] = site.responses;
            [
                plain(&site.host),
                site.days_left(self.at),
                (ok + moved).to_string(),
                refused.to_string(),
                failed.to_string(),
                ms(site.p50_ms),
                ms(site.p99_ms),
            ]
        }));
        rows
    }

    fn upstream_rows(&self) -> Vec<[String; 4]> {
        let mut rows = vec![["UPSTREAM", "REQUESTS", "IN FLIGHT", "CONNECT FAILURES"].map(str::to_owned)];
        rows.extend(self.upstreams.iter().map(|upstream| {
            [
                plain(&upstream.upstream),
                upstream.requests.to_string(),
                upstream.in_flight.to_string(),
                upstream.connect_failures.to_string(),
            ]
        }));
        rows
    }
}

impl SitePart {
    /// How long the certificate that ends first is still valid.
    #[must_use]
    pub fn days_left(&self, now: u64) -> String {
        match self.certificates.iter().map(|pair| pair.not_after).min() {
            None if self.on_demand => "on demand".to_owned(),
            None => "none".to_owned(),
            Some(end) if end < now => "expired".to_owned(),
            Some(end) => format!("{} left", span(end - now)),
        }
    }
}

/// A duration in ms as a cell.
pub(super) fn ms(duration: Option<f64>) -> String {
    duration.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
}

/// The share of `sums` in ms.
pub(super) fn quantile_ms(sums: &Sums, share: f64) -> Option<f64> {
    sums.quantile(share).map(|micros| (micros / 10.0).round() / 100.0)
}

/// Seconds, in the largest unit of which there are two.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds} s"), |(length, unit)| format!("{} {unit}", seconds / length))
}

fn url(address: &std::net::SocketAddr, protocol: Protocol) -> String {
    let scheme = if protocol == Protocol::Https { "https" } else { "http" };
    format!("{scheme}://{address}")
}

fn worker(counters: &Snapshot) -> WorkerPart {
    WorkerPart {
        connections: counters.get(Counter::ConnectionsOpen),
        idle: counters.get(Counter::ConnectionsIdle),
        in_flight: counters.get(Counter::RequestsOpen),
        tunnels: counters.get(Counter::TunnelsOpen),
        requests: counters.get(Counter::RequestsHttp1) + counters.get(Counter::RequestsHttp2),
    }
}

fn sites(setup: &Setup) -> Vec<SitePart> {
    let sites = setup.model.sites.iter().enumerate();
    let parts = sites.map(|(index, site)| {
        let pairs = setup.store.of(&site.host).map(|entry| entry.pairs()).unwrap_or_default();
        let sums = setup.meters.site(index).unwrap_or_default();
        SitePart {
            host: site.host.to_string(),
            certificates: pairs.iter().map(|pair| CertificatePart::of(pair)).collect(),
            on_demand: slot::is_by_demand(&setup.model, site),
            responses: sums.answered,
            durations: sums.total.counts().to_vec(),
            p50_ms: quantile_ms(&sums.total, 0.5),
            p99_ms: quantile_ms(&sums.total, 0.99),
        }
    });
    parts.collect()
}

fn upstreams(setup: &Setup) -> Vec<UpstreamPart> {
    let labels = setup.meters.endpoints().iter().enumerate();
    let parts = labels.map(|(index, label)| {
        let sums = setup.meters.endpoint(index);
        UpstreamPart {
            upstream: label.to_string(),
            requests: sums.requests,
            in_flight: sums.in_flight,
            connect_failures: sums.connect_failures,
        }
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Overview {
        let pair = CertificatePart { not_after: 1_000_000 + 40 * 86_400, ..CertificatePart::default() };
        Overview {
            at: 1_000_000,
            started: 999_000,
            workers: vec![WorkerPart { connections: 3, ..WorkerPart::default() }],
            sites: vec![SitePart {
                host: "a.test".into(),
                certificates: vec![pair],
                responses: [0, 5, 1, 2, 3],
                p50_ms: Some(1.25),
                ..SitePart::default()
            }],
            ..Overview::default()
        }
    }

    #[test]
    fn a_page_tells_the_figures() {
        let text = example().text();
        assert!(text.contains("for 16 min"), "{text}");
        let site = text.lines().find(|line| line.starts_with("a.test")).unwrap();
        assert_eq!(
            site.split_whitespace().collect::<Vec<_>>(),
            "a.test 40 d left 6 2 3 1.2 -".split(' ').collect::<Vec<_>>()
        );
        assert!(!example().is_degraded());
    }

    #[test]
    fn json_comes_back_and_a_site_without_certificate_is_degraded() {
        let mut overview = example();
        assert_eq!(serde_json::from_str::<Overview>(&overview.to_json()).unwrap(), overview);
        assert!(serde_json::from_str::<Overview>("{\"pid\":3,\"new\":1}").is_ok());
        overview.at += 50 * 86_400;
        assert!(overview.is_degraded() && overview.text().contains("expired"));
        overview.sites[0].certificates.clear();
        assert!(overview.is_degraded() && overview.text().contains("none"));
        overview.sites[0].on_demand = true;
        assert!(!overview.is_degraded() && overview.text().contains("on demand"));
    }
}
