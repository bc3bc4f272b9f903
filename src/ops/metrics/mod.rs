//! The page of metrics: what the workers counted, certificates in service, renewal, and the process. Labels are
//! hosts, upstreams and workers of the configuration, so that traffic cannot make new ones.

mod process;
mod server;

use super::overview::CertificatePart;
use super::running::Running;
use crate::acme::slot;
use crate::acme::status::write_metrics;
use crate::handoff::meters::{CLASSES, EndpointSums, Meter, Meters, SiteSums};
use crate::io::worker::Setup;
use crate::telemetry::buckets::Sums;
use crate::telemetry::exposition::Page;
use crate::telemetry::metrics::{Counter, Kind};

use process::Usage;
pub use server::{MakePage, Server, serve};

/// Name, kind, the value of one member, help.
type Family<T, V> = (&'static str, Kind, fn(&T) -> V, &'static str);

/// The text of a scrape.
#[must_use]
pub fn page(running: &Running) -> Vec<u8> {
    let setup = running.setup.load();
    let mut page = Page::default();
    page.counters(&running.sums());
    let name = "lockring_log_lines_lost_total";
    page.family(name, Kind::Counter, "Access log lines that could not be written.");
    page.value(name, &[], running.log_lost.get());
    workers(&mut page, running);
    durations(&mut page, &setup.meters);
    sites(&mut page, &setup.meters);
    upstreams(&mut page, &setup.meters);
    certificates(&mut page, &setup);
    if let Some(acme) = &running.acme {
        page.append_with(|out| write_metrics(&acme.status(), out));
    }
    process(&mut page, running);
    page.into_text()
}

/// What tells an idle worker from a busy one.
fn workers(page: &mut Page, running: &Running) {
    let families = [
        (
            "lockring_worker_connections_open",
            Kind::Gauge,
            Counter::ConnectionsOpen,
            "Client connections open.",
        ),
        (
            "lockring_worker_connections_idle",
            Kind::Gauge,
            Counter::ConnectionsIdle,
            "Client connections at rest.",
        ),
        ("lockring_worker_requests_open", Kind::Gauge, Counter::RequestsOpen, "Requests in progress."),
        ("lockring_worker_requests_total", Kind::Counter, Counter::RequestsHttp1, "Requests over HTTP/1."),
        ("lockring_worker_buffers_free", Kind::Gauge, Counter::BuffersFree, "Buffers of one record kept."),
        (
            "lockring_worker_bulk_buffers_in_use",
            Kind::Gauge,
            Counter::BulkBuffersInUse,
            "Buffers of many records.",
        ),
        ("lockring_worker_upstream_idle", Kind::Gauge, Counter::PoolIdle, "Idle upstream connections kept."),
    ];
    for (name, kind, counter, help) in families {
        page.family(name, kind, help);
        for (number, counters) in running.counters.iter().enumerate() {
            page.value(name, &[("worker", &number.to_string())], counters.get(counter));
        }
    }
}

fn durations(page: &mut Page, meters: &Meters) {
    let summed = |sum: &dyn Fn(&Meter, &mut Sums)| {
        let mut sums = Sums::default();
        meters.workers().iter().for_each(|meter| sum(meter, &mut sums));
        sums
    };
    let name = "lockring_tls_handshake_duration_seconds";
    page.family(name, Kind::Histogram, "From a whole ClientHello to the end of the handshake.");
    page.histogram(name, &[], &summed(&|meter, sums| meter.own().handshake.sum_into(sums)));
    let name = "lockring_upstream_connect_duration_seconds";
    page.family(name, Kind::Histogram, "Connecting to an upstream, TLS included.");
    page.histogram(name, &[], &summed(&|meter, sums| meter.own().connect.sum_into(sums)));
}

fn sites(page: &mut Page, meters: &Meters) {
    // Sites without a request are left out: ten thousand idle ones would be most of the page.
    let names = meters.sites().iter().enumerate();
    let sites: Vec<(&str, SiteSums)> =
        names.filter_map(|(index, name)| Some((&**name, meters.site(index)?))).collect();
    let name = "lockring_site_responses_total";
    page.family(
        name,
        Kind::Counter,
        "Responses by site and class of status; a site appears with its first request.",
    );
    for (site, sums) in &sites {
        for (class, count) in CLASSES.iter().zip(sums.answered) {
            page.value(name, &[("site", site), ("class", class)], count);
        }
    }
    let name = "lockring_site_first_byte_duration_seconds";
    page.family(name, Kind::Histogram, "From the first byte of a request to the first byte of its response.");
    sites.iter().for_each(|(site, sums)| page.histogram(name, &[("site", site)], &sums.first_byte));
    let name = "lockring_site_request_duration_seconds";
    page.family(
        name,
        Kind::Histogram,
        "From the first byte of a request to the last of its response, tunnels apart.",
    );
    sites.iter().for_each(|(site, sums)| page.histogram(name, &[("site", site)], &sums.total));
}

fn upstreams(page: &mut Page, meters: &Meters) {
    let families: [Family<EndpointSums, u64>; 3] = [
        (
            "lockring_upstream_requests_total",
            Kind::Counter,
            |sums| sums.requests,
            "Requests begun, retries included.",
        ),
        (
            "lockring_upstream_connect_failures_total",
            Kind::Counter,
            |sums| sums.connect_failures,
            "Failures to connect.",
        ),
        (
            "lockring_upstream_requests_open",
            Kind::Gauge,
            |sums| sums.in_flight,
            "Requests and dials under way.",
        ),
    ];
    let sums: Vec<EndpointSums> = (0..meters.endpoints().len()).map(|index| meters.endpoint(index)).collect();
    for (name, kind, value, help) in families {
        page.family(name, kind, help);
        for (label, sums) in meters.endpoints().iter().zip(&sums) {
            page.value(name, &[("upstream", label)], value(sums));
        }
    }
}

fn certificates(page: &mut Page, setup: &Setup) {
    let name = "lockring_certificate_not_after_timestamp_seconds";
    page.family(name, Kind::Gauge, "End of validity of each certificate in service, Unix time.");
    let mut waiting = 0_u64;
    for site in &setup.model.sites {
        let Some(entry) = setup.store.of(&site.host) else {
            waiting += u64::from(!slot::is_by_demand(&setup.model, site));
            continue;
        };
        let host = site.host.to_string();
        for (place, pair) in entry.pairs().iter().enumerate() {
            let pair = CertificatePart::of(pair);
            let place = place.to_string();
            page.value(name, &[("site", &host), ("pair", &place), ("key", &pair.key)], pair.not_after);
        }
    }
    let name = "lockring_sites_without_certificate";
    page.family(name, Kind::Gauge, "Sites that refuse clients because they have no certificate.");
    page.value(name, &[], waiting);
}

/// Names as every exporter of a process has them.
fn process(page: &mut Page, running: &Running) {
    let name = "lockring_build_info";
    page.family(name, Kind::Gauge, "1, with the release.");
    page.value(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let name = "lockring_draining";
    page.family(name, Kind::Gauge, "1 while the process drains.");
    page.value(name, &[], u8::from(running.drain.has_begun()));
    let name = "process_start_time_seconds";
    page.family(name, Kind::Gauge, "When the process began, Unix time.");
    page.value(name, &[], running.began.unix);
    let name = "lockring_uptime_seconds";
    page.family(name, Kind::Gauge, "How long the process has run.");
    page.value(name, &[], running.began.at.elapsed().as_secs_f64());
    let usage = Usage::now();
    let families: [Family<Usage, Option<f64>>; 6] = [
        ("process_cpu_seconds_total", Kind::Counter, |usage| usage.cpu_seconds, "CPU time used."),
        ("process_resident_memory_bytes", Kind::Gauge, |usage| usage.resident_bytes, "Resident memory."),
        ("process_virtual_memory_bytes", Kind::Gauge, |usage| usage.virtual_bytes, "Virtual memory."),
        ("process_threads", Kind::Gauge, |usage| usage.threads, "Threads."),
        ("process_open_fds", Kind::Gauge, |usage| usage.descriptors, "Open file descriptors."),
        ("process_max_fds", Kind::Gauge, |usage| usage.descriptors_max, "The most there may be."),
    ];
    for (name, kind, value, help) in families {
        if let Some(value) = value(&usage) {
            page.family(name, kind, help);
            page.value(name, &[], value);
        }
    }
}
