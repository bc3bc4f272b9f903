//! Who may cause a certificate for a name that no site lists: names are checked, answers remembered, and
//! all of it bounded, so that random names cost nothing but a look-up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::orderable;
use crate::acme::slot::Identifier;
use crate::config::model::{Authority, HostPattern, OnDemand};
use crate::limits;

/// The form in which it is written.
const VERSION: u32 = 1;
/// Bytes of a name and of a label (RFC 1035 §2.3.4).
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DemandRefusal {
    /// Not a host name in lower case.
    Grammar,
    /// An address, or a name that ends like one.
    Address,
    /// One label only, or reserved.
    NotPublic,
    /// More labels than [`limits::ACME_DEMAND_LABELS`] below its suffix.
    TooDeep,
    /// Neither allowed by the list nor by the asked URL, or its last order failed lately.
    NotAllowed,
    /// Too many handshakes wait already.
    Busy,
    /// Enough new names in this hour.
    HourlyLimit,
    /// Enough names in all.
    TotalLimit,
}

impl fmt::Display for DemandRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grammar => "not a host name",
            Self::Address => "an address",
            Self::NotPublic => "not a public name",
            Self::TooDeep => "too many labels",
            Self::NotAllowed => "not allowed",
            Self::Busy => "too many handshakes wait",
            Self::HourlyLimit => "enough new names in this hour",
            Self::TotalLimit => "enough names in all",
        })
    }
}

impl std::error::Error for DemandRefusal {}

/// How a handshake goes on. In each case it waits, and says so by [`Demand::left`] when it no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the first: ask the URL, then [`Demand::answered`].
    Ask,
    /// It is the first, and allowed: order, then [`Demand::finished`].
    Order,
    /// Another one asked for the name already.
    Join,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    allowed: bool,
    until: u64,
    /// Tells entries of the same name in the queue apart.
    number: u64,
}

/// The guard. What is to survive a restart is written as JSON: new names of the last hour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Demand {
    version: u32,
    /// When new names were admitted, oldest first.
    admitted: VecDeque<u64>,
    #[serde(skip)]
    answers: HashMap<String, Answer>,
    /// Names by age of their answer.
    #[serde(skip)]
    ages: VecDeque<(u64, String)>,
    #[serde(skip)]
    number: u64,
    /// Names asked or ordered, and handshakes that wait for each.
    #[serde(skip)]
    in_flight: BTreeMap<String, usize>,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            version: VERSION,
            admitted: VecDeque::new(),
            answers: HashMap::new(),
            ages: VecDeque::new(),
            number: 0,
            in_flight: BTreeMap::new(),
        }
    }
}

/// Whether a name may be asked for at all: a host name in lower case, public, and not too deep.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str, authorities: &[Authority]) -> Result<(), DemandRefusal> {
    let labels = name.split('.').count();
    if name.len() > NAME_BYTES || !name.split('.').all(is_label) {
        return Err(DemandRefusal::Grammar);
    }
    // A last label of digits (or 0x…) is read as an address by some (WHATWG URL §3.5).
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(DemandRefusal::Address);
    }
    let identifier = Identifier::Dns(name.to_owned());
    let askable = authorities.iter().any(|authority| orderable(&identifier, authority).is_ok());
    if labels < SUFFIX_LABELS || !askable {
        return Err(DemandRefusal::NotPublic);
    }
    if labels > SUFFIX_LABELS.saturating_add(limits::ACME_DEMAND_LABELS) {
        return Err(DemandRefusal::TooDeep);
    }
    Ok(())
}

/// Labels of a registered name, approximately: the list of public suffixes is not kept.
const SUFFIX_LABELS: usize = 2;

fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    inner && (1..=LABEL_BYTES).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

impl Demand {
    /// The process began.
    pub fn restored(&mut self, now: u64) {
        self.version = VERSION;
        for at in &mut self.admitted {
            *at = (*at).min(now);
        }
    }

    /// What has to survive a restart.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self { admitted: self.admitted.clone(), ..Self::default() }
    }

    /// A handshake for `name` arrived; `held`: names that have a certificate on demand already.
    ///
    /// # Errors
    /// Why it is refused at once.
    pub fn admit(
        &mut self,
        name: &str,
        policy: &OnDemand,
        authorities: &[Authority],
        held: usize,
        now: u64,
    ) -> Result<Admission, DemandRefusal> {
        check_name(name, authorities)?;
        let answer = self.answers.get(name).filter(|answer| now < answer.until).map(|answer| answer.allowed);
        if answer == Some(false) {
            return Err(DemandRefusal::NotAllowed);
        }
        let waiting: usize = self.in_flight.values().sum();
        if waiting >= limits::ACME_DEMAND_WAITING {
            return Err(DemandRefusal::Busy);
        }
        if let Some(waiting) = self.in_flight.get_mut(name) {
            *waiting = waiting.saturating_add(1);
            return Ok(Admission::Join);
        }
        // Names whose handshakes have left are still asked for.
        if self.in_flight.len() >= limits::ACME_DEMAND_WAITING {
            return Err(DemandRefusal::Busy);
        }
        let allowed = answer == Some(true) || is_listed(policy, name);
        if !allowed && policy.ask.is_none() {
            return Err(DemandRefusal::NotAllowed);
        }
        self.room(policy, held.saturating_add(self.in_flight.len()), now)?;
        self.in_flight.insert(name.to_owned(), 1);
        if allowed {
            self.admitted.push_back(now);
            return Ok(Admission::Order);
        }
        Ok(Admission::Ask)
    }

    /// The URL answered, or did not (`allowed` is false then). On `Ok`, order, then [`Demand::finished`].
    ///
    /// # Errors
    /// Why the name is refused after all.
    pub fn answered(
        &mut self,
        name: &str,
        allowed: bool,
        policy: &OnDemand,
        held: usize,
        now: u64,
    ) -> Result<(), DemandRefusal> {
        self.remember(name, allowed, now);
        let others = self.in_flight.len().saturating_sub(1);
        let room = self.room(policy, held.saturating_add(others), now);
        let verdict = if allowed { room } else { Err(DemandRefusal::NotAllowed) };
        match verdict {
            Ok(()) => self.admitted.push_back(now),
            Err(_) => drop(self.in_flight.remove(name)),
        }
        verdict
    }

    /// The order ended. A failed one is not tried again for [`limits::ACME_DEMAND_REFUSED`].
    pub fn finished(&mut self, name: &str, issued: bool, now: u64) {
        self.in_flight.remove(name);
        if !issued {
            self.remember(name, false, now);
        }
    }

    /// A handshake no longer waits.
    pub fn left(&mut self, name: &str) {
        if let Some(waiting) = self.in_flight.get_mut(name) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// Answers remembered.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Whether one more name may be had beside those held or in flight.
    fn room(&mut self, policy: &OnDemand, others: usize, now: u64) -> Result<(), DemandRefusal> {
        let window = limits::ACME_DEMAND_WINDOW.as_secs();
        while self.admitted.front().is_some_and(|at| at.saturating_add(window) <= now) {
            self.admitted.pop_front();
        }
        if others >= policy.total {
            return Err(DemandRefusal::TotalLimit);
        }
        if self.admitted.len() >= policy.per_hour {
            return Err(DemandRefusal::HourlyLimit);
        }
        Ok(())
    }

    fn remember(&mut self, name: &str, allowed: bool, now: u64) {
        let life = if allowed { limits::ACME_DEMAND_ALLOWED } else { limits::ACME_DEMAND_REFUSED };
        self.number = self.number.wrapping_add(1);
        let answer = Answer { allowed, until: now.saturating_add(life.as_secs()), number: self.number };
        self.answers.insert(name.to_owned(), answer);
        self.ages.push_back((self.number, name.to_owned()));
        while self.ages.len() > limits::ACME_DEMAND_ANSWERS {
            let Some((number, oldest)) = self.ages.pop_front() else { break };
            if self.answers.get(&oldest).is_some_and(|answer| answer.number == number) {
                self.answers.remove(&oldest);
            }
        }
    }
}

/// Whether a name is allowed without asking.
#[must_use]
pub fn is_listed(policy: &OnDemand, name: &str) -> bool {
    policy.allow.iter().any(|pattern| covers(pattern, name))
}

/// A wildcard stands for any number of labels here, as the list only permits.
fn covers(pattern: &HostPattern, name: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => exact == name,
        HostPattern::Wildcard(parent) => {
            name.strip_suffix(parent.as_str()).is_some_and(|above| above.len() > 1 && above.ends_with('.'))
        }
        HostPattern::Ip(_) => false,
    }
}

#[cfg(test)]
#[path = "demand_tests.rs"]
mod tests;
