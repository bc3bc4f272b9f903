//! `check --online`, name by name: what the acme thread finds out before an order, with the place in the file
//! of the site that is to blame. A lockring that runs is asked to look; while none does, the check listens itself
//! for as long as it looks.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::stand::Stand;
use crate::acme::dns::Resolver;
use crate::acme::install::Install;
use crate::acme::plan::{SlotState, orderable};
use crate::acme::preflight::{Eyes, Finding, Ports, Problem, Severity, Verdict, Wish, preflight};
use crate::acme::slot::Slot;
use crate::acme::store::{AcmeStore, Store};
use crate::config::model::{Authority, ChallengeKind};
use crate::config::{Code, Diagnostic, Loaded, Spot};
use crate::io::sys;
use crate::ops::admin::{self, Answer, Doubt, Looked, Request};

/// Names that are looked at: people read no more, and each may take seconds.
const NAMES_ASKED: usize = 100;
/// Certificates that are looked at together.
const AT_ONCE: usize = 8;

/// What is known before.
pub(super) struct Known {
    /// Names of authorities in CAA records, by directory.
    pub identities: BTreeMap<String, Vec<String>>,
    /// Name servers.
    pub resolver: Resolver,
}

/// Looks at the names of all slots. With `stand` their addresses are knocked at.
pub(super) async fn check(
    loaded: &Loaded,
    slots: &[Slot],
    known: &Known,
    stand: Option<Stand>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let running = match &stand {
        Some(stand) if !stand.refusals().is_empty() => ask_running(loaded),
        _ => Vec::new(),
    };
    let install = stand.as_ref().map(Stand::install);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut names = 0;
    let mut knocks = false;
    for slot in slots {
        let Some(authority) = first_asked(slot) else { continue };
        let name = slot.name.to_string();
        if let Some(looked) = running.iter().find(|looked| looked.name == name) {
            found.extend(looked.findings.iter().map(|doubt| told(loaded, spot(loaded, slot), doubt)));
            continue;
        }
        names += slot.identifiers.len();
        if names > NAMES_ASKED {
            break;
        }
        knocks |= slot.policy.challenges.iter().any(|kind| connects(*kind));
        let state = SlotState::default();
        let wish = Wish::new(slot, authority, &state, &loaded.model);
        let mut ports = Ports::of(&loaded.model, authority);
        if let Some(stand) = &stand {
            ports.http = ports.http.filter(|_| stand.has_http());
            ports.https = ports.https.filter(|_| stand.has_https());
        }
        let look = One {
            slot: slot.clone(),
            authority: authority.clone(),
            identities: known.identities.get(&authority.directory).cloned().unwrap_or_default(),
            strict: wish.strict,
            eyes: Eyes::with(known.resolver.clone(), ports),
            install: install.clone(),
        };
        let (turns, spot) = (Arc::clone(&turns), spot(loaded, slot));
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (spot, look.look().await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let Ok((spot, verdict)) = done else { continue };
        found.extend(verdict.findings.iter().map(|finding| diagnostic(loaded, spot, finding)));
    }
    // Looking at a machine that nobody can be found by needs no listener.
    for why in stand.iter().flat_map(Stand::refusals).filter(|_| knocks).take(1) {
        let problem = Problem::NotProbed(why.clone());
        let finding = Finding { severity: Severity::Warning, name: None, problem };
        found.push(diagnostic(loaded, Spot::file(0), &finding));
    }
    found
}

fn connects(kind: ChallengeKind) -> bool {
    matches!(kind, ChallengeKind::Http01 | ChallengeKind::TlsAlpn01)
}

/// What the lockring that has the listeners sees: only what leads to it leads to the right place.
fn ask_running(loaded: &Loaded) -> Vec<Looked> {
    match admin::call(&loaded.model.server.admin_path(), &Request::Look {}) {
        Ok(Answer::Looked { certificates }) => certificates,
        // Nobody is there, or an older one: then it is said that nobody knocked.
        _ => Vec::new(),
    }
}

fn told(loaded: &Loaded, spot: Spot, doubt: &Doubt) -> Diagnostic {
    let (severity, code) = if doubt.error {
        (crate::config::Severity::Error, Code::OrderFails)
    } else {
        (crate::config::Severity::Warning, Code::OrderDoubtful)
    };
    let (cause, remedy) = (doubt.cause.clone(), doubt.remedy.clone());
    Diagnostic { code, severity, place: spot.place(&loaded.sources), also: None, cause, remedy }
}

/// The authority that would be asked; names that none takes are told by the check of the file.
fn first_asked(slot: &Slot) -> Option<&Authority> {
    let asked =
        |authority: &&Authority| slot.identifiers.iter().all(|name| orderable(name, authority).is_ok());
    slot.policy.authorities.iter().find(asked)
}

fn spot(loaded: &Loaded, slot: &Slot) -> Spot {
    let place = slot.sites.first().and_then(|index| loaded.places.sites.get(*index as usize));
    place.map_or(Spot::file(0), |place| place.host)
}

/// One certificate.
struct One {
    slot: Slot,
    authority: Authority,
    identities: Vec<String>,
    strict: bool,
    eyes: Eyes,
    install: Option<Arc<dyn Install>>,
}

impl One {
    async fn look(self) -> Verdict {
        let state = SlotState::default();
        let wish = Wish {
            slot: &self.slot,
            authority: &self.authority,
            state: &state,
            identities: &self.identities,
            // Which account it will be is known to the process that has it.
            account: None,
            strict: self.strict,
        };
        preflight(&wish, &self.eyes, self.install).await
    }
}

/// What is wrong with clock and store, for all names: `skew` is the authority's time less the local one.
pub(super) fn machine(loaded: &Loaded, skew: Option<i64>) -> Vec<Diagnostic> {
    let clock = skew.and_then(Finding::of_clock);
    let store = store(loaded).map(|why| Finding {
        severity: Severity::Error,
        name: None,
        problem: Problem::Store(why),
    });
    clock.iter().chain(&store).map(|finding| diagnostic(loaded, Spot::file(0), finding)).collect()
}

/// Why certificates cannot be stored. Only a directory that is there and this user's is tried: another's would
/// be given files that its owner cannot read.
fn store(loaded: &Loaded) -> Option<String> {
    let state = &loaded.model.server.state;
    let acme = state.join(AcmeStore::DIRECTORY);
    let owner = std::fs::symlink_metadata(acme).ok()?.uid();
    if owner != sys::user_id() {
        return None;
    }
    let store = match Store::open(state) {
        Ok(store) => AcmeStore::open(&store),
        Err(error) => return Some(error.to_string()),
    };
    store.probe().err().map(|error| error.to_string())
}

fn diagnostic(loaded: &Loaded, spot: Spot, finding: &Finding) -> Diagnostic {
    let (severity, code) = match (finding.severity, &finding.problem) {
        (Severity::Error, _) => (crate::config::Severity::Error, Code::OrderFails),
        (Severity::Warning, Problem::NoAddress | Problem::Addresses(_)) => {
            (crate::config::Severity::Warning, Code::NoAddress)
        }
        (Severity::Warning, _) => (crate::config::Severity::Warning, Code::OrderDoubtful),
    };
    Diagnostic {
        code,
        severity,
        place: spot.place(&loaded.sources),
        also: None,
        cause: finding.to_string(),
        remedy: finding.remedy(),
    }
}
