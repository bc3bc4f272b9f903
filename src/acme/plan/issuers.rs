//! Which authority is asked: the first, unless it is itself in trouble for long.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failure::FailureKind;
use super::names::orderable;
use super::state::{Certificate, SlotState};
use crate::acme::slot::Slot;
use crate::config::model::Authority;
use crate::limits;

/// An authority's own failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// The first.
    pub first_at: u64,
    /// The last.
    pub last_at: u64,
}

/// What budgets are counted by: the directory, and the external account if there is one. An authority's
/// limits are per account, and one account is used per such key.
#[must_use]
pub fn account_key(authority: &Authority) -> String {
    match &authority.eab {
        Some(eab) => format!("{} {}", authority.directory, eab.kid),
        None => authority.directory.clone(),
    }
}

/// What is asked for, as one text: when it changes, an earlier failure says nothing any more.
pub(super) fn asked(slot: &Slot) -> String {
    let names: Vec<String> = slot.identifiers.iter().map(ToString::to_string).collect();
    let authorities: Vec<String> = slot.policy.authorities.iter().map(account_key).collect();
    let challenges: Vec<&str> = slot.policy.challenges.iter().map(|kind| kind.word()).collect();
    let dns = slot.policy.dns.as_ref().map_or("", |dns| dns.name.as_str());
    [
        names.join(" "),
        authorities.join(" "),
        challenges.join(" "),
        dns.to_owned(),
        slot.policy.key.word().to_owned(),
        slot.policy.profile.clone().unwrap_or_default(),
        slot.policy.email.clone().unwrap_or_default(),
    ]
    .join("\n")
}

/// Counts a failure for or against the authority: an answer about a name shows that it works.
pub(super) fn note(trouble: &mut BTreeMap<String, Trouble>, directory: &str, kind: FailureKind, now: u64) {
    if kind.is_authority_side() {
        let known = trouble.entry(directory.to_owned()).or_insert(Trouble { first_at: now, last_at: now });
        known.last_at = now;
    } else if kind.is_blocked() || kind == FailureKind::Authorization {
        trouble.remove(directory);
    }
}

/// Places in the policy of authorities that may be asked for these names.
pub(super) fn candidates(slot: &Slot) -> Result<Vec<(usize, &Authority)>, super::Unorderable> {
    let mut found = Vec::new();
    let mut refusal = None;
    for (index, authority) in slot.policy.authorities.iter().enumerate() {
        match slot.identifiers.iter().try_for_each(|identifier| orderable(identifier, authority)) {
            Ok(()) => found.push((index, authority)),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    match refusal {
        Some(reason) if found.is_empty() => Err(reason),
        _ => Ok(found),
    }
}

/// When trouble is enough to ask the next authority, counted from its first failure.
fn given_up_at(trouble: &Trouble, certificate: Option<&Certificate>, now: u64) -> u64 {
    let late = certificate.is_some_and(|certificate| certificate.left(now) < certificate.life() / 4);
    let life = certificate.map_or(limits::ACME_REFERENCE_LIFE.as_secs(), Certificate::life);
    let patience = if late { 0 } else { super::scaled(limits::ACME_NEXT_AUTHORITY, life) };
    trouble.first_at.saturating_add(patience)
}

/// The authority whose turn it is, and when that will change although nothing happens. `closed`: until
/// when one may not be contacted.
pub(super) fn choose<'a>(
    state: &SlotState,
    candidates: &[(usize, &'a Authority)],
    closed: impl Fn(&Authority) -> u64,
    now: u64,
) -> Option<(usize, &'a Authority, Option<u64>)> {
    let mut given_up = Vec::new();
    for (index, authority) in candidates {
        let Some(trouble) = state.trouble.get(&authority.directory) else {
            return Some((*index, *authority, None));
        };
        let changes_at = given_up_at(trouble, state.certificate.as_ref(), now);
        if now < changes_at {
            let changes_at = (candidates.len() > 1).then_some(changes_at);
            return Some((*index, *authority, changes_at));
        }
        given_up.push((closed(authority).max(now), trouble.last_at, *index, *authority));
    }
    // All are in trouble: in turn, those first that may be contacted.
    let (_, _, index, authority) =
        given_up.into_iter().min_by_key(|(open_at, last, ..)| (*open_at, *last))?;
    Some((index, authority, None))
}
