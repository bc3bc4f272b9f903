//! An authority as Let's Encrypt describes its own: limits by token bucket, renewal information, outages.
//! It keeps true time, and panics when a client reaches a limit.

use std::collections::{BTreeMap, BTreeSet};

use super::{DAY, HOUR, MINUTE};
use crate::acme::plan::{Certificate, RenewalInfo, Window};

/// A bucket of `burst` that gains one each `refill` seconds.
#[derive(Clone, Default)]
struct Bucket {
    full_at: u64,
}

impl Bucket {
    fn take(&mut self, burst: u64, refill: u64, now: u64) -> bool {
        let full_at = self.full_at.max(now) + refill;
        let fits = full_at <= now + burst * refill;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

/// How it fails for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Nobody answers.
    Refused,
    /// 503, with this `Retry-After`.
    Unavailable(u64),
    /// Every authorization fails: the operator's fault.
    Authorizations,
}

pub struct Authority {
    pub directory: String,
    pub life: u64,
    pub has_ari: bool,
    pub limited: bool,
    /// `(from, to, how)` in true time, not overlapping.
    pub outages: Vec<(u64, u64, Outage)>,
    /// Certificates not after this serial are revoked.
    pub revoked_up_to: u64,
    /// Windows lie in the past, always.
    pub stuck: bool,
    serial: u64,
    replaced: BTreeSet<String>,
    issued: BTreeMap<String, (u64, u64)>,
    orders: Bucket,
    sets: BTreeMap<String, Bucket>,
    failures: BTreeMap<String, Bucket>,
    consecutive: BTreeMap<String, u32>,
    /// When orders were accepted.
    pub order_times: Vec<u64>,
    /// Orders that said what they replace.
    pub replacing: usize,
    /// Requests for renewal information.
    pub polls: usize,
    /// Connections, answered or not.
    pub contacts: Vec<u64>,
}

impl Authority {
    pub fn new(directory: &str, life: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            life,
            has_ari: true,
            limited: true,
            outages: Vec::new(),
            revoked_up_to: 0,
            stuck: false,
            serial: 0,
            replaced: BTreeSet::new(),
            issued: BTreeMap::new(),
            orders: Bucket::default(),
            sets: BTreeMap::new(),
            failures: BTreeMap::new(),
            consecutive: BTreeMap::new(),
            order_times: Vec::new(),
            replacing: 0,
            polls: 0,
            contacts: Vec::new(),
        }
    }

    pub fn outage(&self, now: u64) -> Option<Outage> {
        self.outages.iter().find(|(from, to, _)| (*from..*to).contains(&now)).map(|outage| outage.2)
    }

    /// The longest stretch within `from..to` in which it answers and authorizations succeed.
    pub fn longest_good_stretch(&self, from: u64, to: u64) -> u64 {
        let mut bad: Vec<(u64, u64)> = self.outages.iter().map(|(from, to, _)| (*from, *to)).collect();
        bad.sort_unstable();
        let (mut at, mut longest) = (from, 0);
        for (start, end) in bad {
            if start < to && end > from {
                longest = longest.max(start.saturating_sub(at));
                at = at.max(end);
            }
        }
        longest.max(to.saturating_sub(at))
    }

    /// Whether an order that names what it replaces is exempt from limits; an error refuses `replaces`.
    fn replacement(&mut self, replaces: &str, now: u64) -> Result<bool, ()> {
        let (from, to) = *self.issued.get(replaces).ok_or(())?;
        if !self.replaced.insert(replaces.to_owned()) {
            return Err(());
        }
        self.replacing += 1;
        Ok((from..to).contains(&now))
    }

    /// An order for one set of names; whether all went well, or what the client has to hear.
    pub fn order(
        &mut self,
        names: &[String],
        replaces: Option<&str>,
        now: u64,
    ) -> Result<Certificate, &'static str> {
        let set = names.join(" ");
        let exempt = match replaces {
            Some(id) => self.replacement(id, now).map_err(|()| "alreadyReplaced")?,
            None => false,
        };
        self.order_times.push(now);
        if self.limited && !exempt {
            assert!(self.orders.take(300, 36, now), "orders of the account at {now}");
        }
        let fails = self.outage(now) == Some(Outage::Authorizations);
        let failures = self.consecutive.entry(set.clone()).or_default();
        if fails {
            *failures += 1;
            assert!(*failures < 1152, "paused at {now}");
            for name in names {
                let bucket = self.failures.entry(name.clone()).or_default();
                assert!(!self.limited || bucket.take(5, 12 * MINUTE, now), "failures of {name} at {now}");
            }
            return Err("unauthorized");
        }
        *failures = 0;
        let bucket = self.sets.entry(set).or_default();
        let fits = bucket.take(5, 34 * HOUR, now);
        assert!(!self.limited || exempt || fits, "certificates of one set at {now}");
        self.serial += 1;
        let backdated = HOUR.min(self.life / 100);
        let id = self.serial.to_string();
        let (not_before, not_after) = (now - backdated, now - backdated + self.life);
        self.issued.insert(id.clone(), (0, 0));
        let window = self.window(&id, not_before, not_after, now);
        self.issued.insert(id.clone(), (window.start, window.end));
        Ok(Certificate {
            ari_id: Some(id),
            not_before,
            not_after,
            directory: self.directory.clone(),
            identifiers: names.to_vec(),
            key: "p256".to_owned(),
            profile: None,
        })
    }

    fn window(&self, id: &str, not_before: u64, not_after: u64, now: u64) -> Window {
        let revoked = id.parse::<u64>().unwrap() <= self.revoked_up_to;
        if revoked || self.stuck {
            return Window { start: now - HOUR, end: now - HOUR / 2 };
        }
        let life = not_after - not_before;
        let middle = if life < 10 * DAY { not_before + life / 2 } else { not_before + life / 3 * 2 };
        let half = (life / 100).max(1);
        Window { start: middle - half, end: middle + half }
    }

    pub fn renewal_info(&mut self, certificate: &Certificate, now: u64, jitter: f64) -> Option<RenewalInfo> {
        self.polls += 1;
        assert!(now < certificate.not_after, "asked for an expired certificate");
        assert_eq!(certificate.directory, self.directory, "asked for another's certificate");
        if !self.has_ari {
            return None;
        }
        let id = certificate.ari_id.clone().unwrap();
        let window = self.window(&id, certificate.not_before, certificate.not_after, now);
        self.issued.insert(id, (window.start, window.end));
        let retry_after = 6 * HOUR as i64 + (HOUR as f64 * 1.2 * jitter) as i64;
        let explanation = (window.end < now).then(|| "https://ca.example/why".to_owned());
        Some(RenewalInfo { window, explanation, retry_after: Some(retry_after.unsigned_abs()) })
    }
}
