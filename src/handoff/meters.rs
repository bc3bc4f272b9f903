//! What each worker measures, by site and by endpoint, and reads of it from other threads. It belongs to a
//! configuration: the next one takes over what its sites and endpoints have in common with the one before, so
//! that no count goes backwards. A site is given memory by the first request that a worker has for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::histogram::{Histogram, add};
use super::refusals::Refusals;
use crate::telemetry::buckets::Sums;
use crate::upstream::group::EndpointId;

/// Classes of status: 1xx to 5xx.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the module.
#[derive(Debug)]
pub struct Meters {
    sites: Box<[Arc<str>]>,
    endpoints: Box<[Arc<str>]>,
    workers: Box<[Meter]>,
}

/// One worker's part.
#[derive(Debug)]
pub struct Meter {
    own: Arc<Own>,
    sites: Box<[SitePlace]>,
    endpoints: Box<[Arc<EndpointMeter>]>,
}

/// Where a site's figures are on one worker, once there are any.
type SitePlace = Arc<OnceLock<Box<SiteMeter>>>;

/// What a worker measures whatever the site.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Own {
    /// From a whole ClientHello to the end of the handshake.
    pub handshake: Histogram,
    /// Connecting to an upstream, TLS included.
    pub connect: Histogram,
    /// Connections refused before or in the handshake.
    pub tls_failures: Refusals,
    /// Requests refused.
    pub rejects: Refusals,
}

/// What a worker measures of one site.
#[derive(Debug, Default)]
pub struct SiteMeter {
    /// From the first byte of a request to the first byte of its response.
    pub first_byte: Histogram,
    /// From the first byte of a request to the last byte of its response, tunnels apart.
    pub total: Histogram,
    answered: [AtomicU64; CLASSES.len()],
}

impl SiteMeter {
    /// Counts a response with this status. Only the owning worker may call this.
    pub fn answered(&self, status: u16) {
        if let Some(count) = self.answered.get(usize::from(status / 100).wrapping_sub(1)) {
            add(count, 1);
        }
    }
}

/// What a worker measures of one endpoint. Only the owning worker may count.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EndpointMeter {
    requests: AtomicU64,
    connect_failures: AtomicU64,
    in_flight: AtomicU64,
}

impl EndpointMeter {
    /// A request is sent to it.
    pub fn request(&self) {
        add(&self.requests, 1);
    }

    /// It could not be connected to.
    pub fn connect_failure(&self) {
        add(&self.connect_failures, 1);
    }

    /// A request or dial begins (`1`) or ends (`-1`).
    pub fn load_changes(&self, by: i32) {
        let now = self.in_flight.load(Relaxed);
        self.in_flight.store(now.saturating_add_signed(i64::from(by)), Relaxed);
    }
}

/// What all workers measured of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteSums {
    /// As [`SiteMeter::first_byte`].
    pub first_byte: Sums,
    /// As [`SiteMeter::total`].
    pub total: Sums,
    /// Responses by class, as [`CLASSES`].
    pub answered: [u64; CLASSES.len()],
}

/// What all workers measured of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSums {
    /// Requests sent to it, and those sent again.
    pub requests: u64,
    /// Failures to connect.
    pub connect_failures: u64,
    /// Requests and dials under way.
    pub in_flight: u64,
}

impl Meters {
    /// For `workers` workers, with the sites in the order of the model and the endpoints in that of their groups.
    #[must_use]
    pub fn new(sites: Vec<Arc<str>>, endpoints: Vec<Arc<str>>, workers: usize) -> Self {
        let own = (0..workers).map(|_| Arc::default());
        Self::made(sites, endpoints, own, &|_, _| None, &|_, _| None)
    }

    /// For the configuration after this one.
    #[must_use]
    pub fn next(&self, sites: Vec<Arc<str>>, endpoints: Vec<Arc<str>>) -> Self {
        let at_site: HashMap<&str, usize> = self.sites.iter().map(AsRef::as_ref).zip(0..).collect();
        let at_endpoint: HashMap<&str, usize> = self.endpoints.iter().map(AsRef::as_ref).zip(0..).collect();
        let own = self.workers.iter().map(|worker| Arc::clone(&worker.own));
        Self::made(
            sites,
            endpoints,
            own,
            &|worker, name| self.workers.get(worker)?.sites.get(*at_site.get(name)?).cloned(),
            &|worker, label| self.workers.get(worker)?.endpoints.get(*at_endpoint.get(label)?).cloned(),
        )
    }

    fn made(
        sites: Vec<Arc<str>>,
        endpoints: Vec<Arc<str>>,
        own: impl Iterator<Item = Arc<Own>>,
        site: &dyn Fn(usize, &str) -> Option<SitePlace>,
        endpoint: &dyn Fn(usize, &str) -> Option<Arc<EndpointMeter>>,
    ) -> Self {
        let workers = own.enumerate().map(|(worker, own)| Meter {
            own,
            sites: sites.iter().map(|name| site(worker, name).unwrap_or_default()).collect(),
            endpoints: endpoints.iter().map(|label| endpoint(worker, label).unwrap_or_default()).collect(),
        });
        let workers = workers.collect();
        Self { sites: sites.into(), endpoints: endpoints.into(), workers }
    }

    /// A worker's part.
    #[must_use]
    pub fn of(&self, worker: u16) -> Option<&Meter> {
        self.workers.get(usize::from(worker))
    }

    /// The parts of all workers.
    #[must_use]
    pub fn workers(&self) -> &[Meter] {
        &self.workers
    }

    /// Host patterns of the sites.
    #[must_use]
    pub fn sites(&self) -> &[Arc<str>] {
        &self.sites
    }

    /// Labels of the endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<str>] {
        &self.endpoints
    }

    /// What all workers measured of a site; `None` before its first request.
    #[must_use]
    pub fn site(&self, index: usize) -> Option<SiteSums> {
        let mut sums: Option<SiteSums> = None;
        let of_workers = self.workers.iter().filter_map(|worker| worker.sites.get(index)?.get());
        for meter in of_workers {
            let sums = sums.get_or_insert_default();
            meter.first_byte.sum_into(&mut sums.first_byte);
            meter.total.sum_into(&mut sums.total);
            for (sum, count) in sums.answered.iter_mut().zip(&meter.answered) {
                *sum = sum.wrapping_add(count.load(Relaxed));
            }
        }
        sums
    }

    /// What all workers measured of an endpoint.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> EndpointSums {
        let mut sums = EndpointSums::default();
        for meter in self.workers.iter().filter_map(|worker| worker.endpoints.get(index)) {
            sums.requests = sums.requests.wrapping_add(meter.requests.load(Relaxed));
            sums.connect_failures = sums.connect_failures.wrapping_add(meter.connect_failures.load(Relaxed));
            sums.in_flight = sums.in_flight.wrapping_add(meter.in_flight.load(Relaxed));
        }
        sums
    }
}

impl Meter {
    /// What is measured whatever the site.
    #[must_use]
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// A site's part, for its worker.
    #[must_use]
    pub fn site(&self, index: u32) -> Option<&SiteMeter> {
        self.sites.get(index as usize).map(|site| &**site.get_or_init(Box::default))
    }

    /// An endpoint's part.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&EndpointMeter> {
        self.endpoints.get(id.0 as usize).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    fn labels(labels: &[&str]) -> Vec<Arc<str>> {
        labels.iter().map(|label| (*label).into()).collect()
    }

    #[test]
    fn the_next_configuration_goes_on_counting_wherever_a_site_stands() {
        let meters = Meters::new(names(&["a", "b"]), labels(&["x", "y"]), 2);
        for worker in [0, 1] {
            let meter = meters.of(worker).unwrap();
            meter.site(1).unwrap().answered(404);
            meter.site(1).unwrap().total.observe(Duration::from_millis(1));
            meter.endpoint(EndpointId(0)).unwrap().request();
            meter.endpoint(EndpointId(0)).unwrap().load_changes(1);
            meter.own().connect.observe(Duration::from_millis(1));
        }
        assert!(meters.of(2).is_none() && meters.site(0).is_none());
        let next = meters.next(names(&["b", "c"]), labels(&["z", "x"]));
        // A request that was begun under the one before ends there.
        meters.of(0).unwrap().endpoint(EndpointId(0)).unwrap().load_changes(-1);
        let sums = next.site(0).unwrap();
        assert_eq!((sums.answered, sums.total.count()), ([0, 0, 0, 2, 0], 2));
        assert!(next.site(1).is_none());
        assert_eq!(next.endpoint(1), EndpointSums { requests: 2, connect_failures: 0, in_flight: 1 });
        assert_eq!(next.endpoint(0), EndpointSums::default());
        let mut connect = Sums::default();
        next.workers().iter().for_each(|worker| worker.own().connect.sum_into(&mut connect));
        assert_eq!(connect.count(), 2);
    }

    #[test]
    fn statuses_outside_of_the_classes_are_no_answers() {
        let meter = SiteMeter::default();
        [0, 99, 600, 200].into_iter().for_each(|status| meter.answered(status));
        let counts: Vec<u64> = meter.answered.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(counts, [0, 1, 0, 0, 0]);
    }
}
