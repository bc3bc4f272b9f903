//! Showing control over names (RFC 8555 §8): answers of challenges are put into service, and always taken
//! out again.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::ca::{Authorization, AuthorizationStatus, Offer};
use super::dns::{self, Challenge, Presented, Provider, Standing};
use super::keys::KeyError;
use super::plan::{self, SlotState};
use super::slot::{Identifier, Slot};
use super::store::{SharedAnswer, SharedName};
use crate::config::model::ChallengeKind;

mod board;

pub use board::Board;

/// How long an answer stays after the verdict: authorities look from several places, and a slow one may
/// come when the others have decided.
const LINGER: Duration = Duration::from_secs(30);

/// Why control over a name could not be shown.
#[derive(Debug)]
pub enum SolveError {
    /// No configured kind of challenge both fits the name and is on offer.
    NoChallenge {
        /// The name.
        identifier: Identifier,
        /// What the authority offers.
        offered: Vec<ChallengeKind>,
    },
    /// A record could not be written, or is not seen.
    Dns {
        /// The name.
        identifier: Identifier,
        /// Why.
        error: Box<dns::Error>,
    },
    /// The record that the operator sets (dns-persist-01) does not allow it.
    NotAllowed {
        /// The name.
        identifier: Identifier,
        /// What stands there.
        why: String,
    },
    /// The certificate that answers TLS-ALPN-01 could not be made.
    Key(KeyError),
    /// The authority wants to look at a name that was not asked for. It would get to programs and zones.
    NotAsked(Identifier),
}

impl fmt::Display for SolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChallenge { identifier, offered } => {
                let words: Vec<&str> = offered.iter().map(|kind| kind.word()).collect();
                let words = if words.is_empty() { "none that is known".to_owned() } else { words.join(", ") };
                write!(
                    f,
                    "{identifier}: none of the configured challenges fits; the authority offers {words}"
                )
            }
            Self::Dns { identifier, error } => write!(f, "{identifier}: dns-01: {error}"),
            Self::NotAllowed { identifier, why } => write!(f, "{identifier}: dns-persist-01: {why}"),
            Self::Key(error) => error.fmt(f),
            Self::NotAsked(identifier) => {
                let name = identifier.to_string();
                write!(f, "the authority asks for {name:?}, which is not in the order")
            }
        }
    }
}

impl std::error::Error for SolveError {}

/// A DNS record that was written, or may have been.
pub struct Record {
    provider: Rc<Provider>,
    identifier: Identifier,
    offer: Offer,
    presented: Option<Presented>,
}

impl Record {
    fn challenge(&self) -> Challenge<'_> {
        let domain = match &self.identifier {
            Identifier::Dns(name) => name.strip_prefix("*.").unwrap_or(name),
            Identifier::Ip(_) => "",
        };
        Challenge {
            domain,
            value: &self.offer.dns_value,
            token: &self.offer.token,
            key_authorization: &self.offer.key_authorization,
        }
    }
}

/// Takes records away; gives a line for each that may still be there. Those that are not taken away yet when
/// this is given up go back to [`Board::orphans`].
pub async fn clean(board: &Rc<Board>, records: Vec<Record>) -> Vec<String> {
    let guards = Guards {
        board: Rc::clone(board),
        answers: Vec::new(),
        records,
        lines: Vec::new(),
        ready: Vec::new(),
    };
    guards.finish().await
}

/// Who asks, and by what means.
pub struct Means<'a> {
    /// What is asked for.
    pub slot: &'a Slot,
    /// Which kinds failed before.
    pub state: &'a SlotState,
    /// Writes records, if dns-01 is configured.
    pub provider: Option<Rc<Provider>>,
    /// URL of the account, for dns-persist-01.
    pub account: &'a str,
    /// Names of the authority in such records.
    pub issuers: &'a [String],
    /// Seconds since the epoch.
    pub now: u64,
}

/// Answers of one order. Dropping it takes them out of service at once, and leaves records to
/// [`Board::orphans`].
pub struct Guards {
    board: Rc<Board>,
    answers: Vec<SharedName>,
    records: Vec<Record>,
    lines: Vec<String>,
    /// What the authority may be told to look at.
    pub ready: Vec<(Identifier, ChallengeKind)>,
}

impl Guards {
    /// The authority has decided: records are taken away now, other answers a little later. Gives lines for
    /// the log.
    pub async fn finish(mut self) -> Vec<String> {
        let answers = std::mem::take(&mut self.answers);
        let board = Rc::clone(&self.board);
        if !answers.is_empty() {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LINGER).await;
                answers.iter().for_each(|answer| board.forget(answer));
            });
        }
        let mut lines = std::mem::take(&mut self.lines);
        // Each stays in the list until it is taken away: what is left when this is dropped goes to the orphans.
        while let Some(record) = self.records.last() {
            let cleaned = record.provider.cleanup(&record.challenge(), record.presented.as_ref()).await;
            if let Err(error) = cleaned {
                let name = &record.identifier;
                lines.push(format!("{name}: the record of dns-01 may still be there: {error}"));
            }
            self.records.pop();
        }
        lines
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        self.answers.iter().for_each(|answer| self.board.forget(answer));
        self.board.orphans.borrow_mut().append(&mut self.records);
    }
}

/// Puts an answer into service for each authorization that is pending, and waits until records can be
/// seen. Those that are valid need none (RFC 8555 §7.1.4).
///
/// # Errors
/// [`SolveError`]; what was put into service by then is taken out again.
pub async fn present(
    board: &Rc<Board>,
    means: &Means<'_>,
    authorizations: &[Authorization],
) -> Result<Guards, SolveError> {
    let mut guards = Guards {
        board: Rc::clone(board),
        answers: Vec::new(),
        records: Vec::new(),
        lines: Vec::new(),
        ready: Vec::new(),
    };
    for authorization in authorizations {
        if !is_asked(means.slot, &authorization.identifier) {
            return Err(SolveError::NotAsked(authorization.identifier.clone()));
        }
        if authorization.status == AuthorizationStatus::Pending {
            let offer = choose(means, authorization)?;
            answer(&mut guards, means, &authorization.identifier, offer).await?;
            guards.ready.push((authorization.identifier.clone(), offer.kind));
        }
    }
    if !guards.answers.is_empty() {
        board.spread().await;
    }
    for record in &guards.records {
        let Some(presented) = &record.presented else { continue };
        let seen = record.provider.propagated(&presented.name, &record.offer.dns_value).await;
        seen.map_err(|error| dns_error(&record.identifier, error))?;
    }
    Ok(guards)
}

/// Whether the slot has this name; some authorities give a wildcard's without its `*.`.
fn is_asked(slot: &Slot, identifier: &Identifier) -> bool {
    slot.identifiers.iter().any(|asked| match (asked, identifier) {
        (Identifier::Dns(asked), Identifier::Dns(name)) => {
            asked == name || asked.strip_prefix("*.") == Some(name)
        }
        _ => asked == identifier,
    })
}

/// The configured kind, or the next one that fits and is on offer.
fn choose<'a>(means: &Means<'_>, authorization: &'a Authorization) -> Result<&'a Offer, SolveError> {
    let identifier = &authorization.identifier;
    let configured = &means.slot.policy.challenges;
    let offered = |kind: ChallengeKind| authorization.offers.iter().find(|offer| offer.kind == kind);
    let first = plan::challenge_for(means.state, identifier, configured);
    let others = configured.iter().copied().filter(|kind| plan::usable(identifier, *kind));
    first.into_iter().chain(others).find_map(offered).ok_or_else(|| SolveError::NoChallenge {
        identifier: identifier.clone(),
        offered: authorization.offers.iter().map(|offer| offer.kind).collect(),
    })
}

async fn answer(
    guards: &mut Guards,
    means: &Means<'_>,
    identifier: &Identifier,
    offer: &Offer,
) -> Result<(), SolveError> {
    match offer.kind {
        ChallengeKind::Http01 => give(guards, means, board::http(&offer.token, &offer.key_authorization))?,
        ChallengeKind::TlsAlpn01 => give(guards, means, board::tls(identifier, offer.digest))?,
        ChallengeKind::Dns01 => write(guards, means, identifier, offer).await?,
        ChallengeKind::DnsPersist01 => look_up(means, identifier).await?,
    }
    Ok(())
}

fn give(
    guards: &mut Guards,
    means: &Means<'_>,
    (name, answer): (SharedName, SharedAnswer),
) -> Result<(), SolveError> {
    guards.lines.extend(guards.board.answer(&name, &answer, means.now)?);
    guards.answers.push(name);
    Ok(())
}

async fn write(
    guards: &mut Guards,
    means: &Means<'_>,
    identifier: &Identifier,
    offer: &Offer,
) -> Result<(), SolveError> {
    let Some(provider) = means.provider.clone() else {
        return Err(SolveError::NoChallenge { identifier: identifier.clone(), offered: vec![offer.kind] });
    };
    // Kept before it is written: an answer that was lost may have been a success.
    let record = Record { provider, identifier: identifier.clone(), offer: offer.clone(), presented: None };
    guards.records.push(record);
    let Some(record) = guards.records.last_mut() else { return Ok(()) };
    let written = record.provider.present(&record.challenge()).await;
    record.presented = Some(written.map_err(|error| dns_error(identifier, error))?);
    Ok(())
}

/// Whether the record is there that the operator sets once. Without the authority's names nothing can be
/// looked for, and the authority is the judge.
async fn look_up(means: &Means<'_>, identifier: &Identifier) -> Result<(), SolveError> {
    let Some(provider) = means.provider.as_ref().filter(|_| !means.issuers.is_empty()) else { return Ok(()) };
    let name = identifier.to_string();
    let found =
        dns::persist_present(provider.resolver(), &name, means.issuers, means.account, means.now).await;
    let refuse = |why: String| Err(SolveError::NotAllowed { identifier: identifier.clone(), why });
    match found {
        Ok(Standing::Allowed) => Ok(()),
        Ok(standing) => refuse(standing.to_string()),
        Err(error) => refuse(error.to_string()),
    }
}

fn dns_error(identifier: &Identifier, error: dns::Error) -> SolveError {
    SolveError::Dns { identifier: identifier.clone(), error: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::acme::ca::ChallengeStatus;
    use crate::acme::store::AcmeStore;
    use crate::acme::thread::testing::{Recorder, slot};

    fn pending(name: &str) -> Authorization {
        let offer = Offer {
            kind: ChallengeKind::Http01,
            token: "t".to_owned(),
            key_authorization: "t.k".to_owned(),
            digest: [0; 32],
            dns_value: String::new(),
            status: ChallengeStatus::Pending,
            error: None,
        };
        let identifier = Identifier::Dns(name.to_owned());
        let status = AuthorizationStatus::Pending;
        Authorization { identifier, status, offers: vec![offer], errors: Vec::new() }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_is_answered_for_a_name_that_was_not_asked_for() {
        let install: Arc<Recorder> = Arc::default();
        let scratch = crate::acme::store::tests::Scratch::new("solver");
        let board = Board::new(Arc::clone(&install) as _, AcmeStore::open(&scratch.store()));
        let slot = slot(&["a.test"], ChallengeKind::Http01);
        let state = SlotState::default();
        let means = Means { slot: &slot, state: &state, provider: None, account: "", issuers: &[], now: 0 };
        assert!(present(&board, &means, &[pending("a.test")]).await.is_ok());
        for name in ["b.test", "$(reboot).test", "x.a.test", "test"] {
            assert!(present(&board, &means, &[pending(name)]).await.is_err(), "{name}");
        }
        assert!(install.tokens.lock().unwrap().is_empty());
    }
}
