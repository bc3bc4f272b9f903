//! From what went wrong to what the plan has to know of it.

use crate::acme::ca::{self, CaError, Refusal, Step};
use crate::acme::keys::KeyError;
use crate::acme::plan::{Failure, FailureKind};
use crate::acme::solver::SolveError;
use crate::acme::store;
use crate::config::model::ChallengeKind;

/// What helps when the authority wants an account of its own shop to be named, or does not take the one named.
const EAB_REMEDY: &str =
    "correct or add `eab = { kid = \"…\", hmac = \"file:…\" }` beside the authority's `directory`";

/// Why an attempt ended without a certificate.
#[derive(Debug)]
pub struct Failed {
    /// For the plan, and for people.
    pub failure: Failure,
    /// The authority's time when it answered, if it did.
    pub date: Option<u64>,
    /// The authority does not know the account: registering anew may help, once.
    pub account_unknown: bool,
    /// The order that is kept on disk may still lead to a certificate.
    pub resumable: bool,
    /// The order that is kept on disk cannot be found at the authority.
    pub order_gone: bool,
}

impl Failed {
    /// Of this kind, without an answer of an authority.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            failure: Failure::new(kind, text),
            date: None,
            account_unknown: false,
            resumable: false,
            order_gone: false,
        }
    }
}

impl From<CaError> for Failed {
    fn from(error: CaError) -> Self {
        let kind = kind(&error);
        let mut text = error.to_string();
        if error.failure == ca::Failure::Tls && speaks_of_time(&text) {
            text.push_str(
                "; the authority's certificate is not valid by the clock of this machine: check the clock",
            );
        }
        if kind == FailureKind::ExternalAccountRequired {
            text.push_str("; ");
            text.push_str(EAB_REMEDY);
        }
        let mut failed = Self::new(kind, text);
        failed.failure.retry_after = error.retry_after().map(|wait| wait.as_secs());
        if let ca::Failure::Authorization(failures) = &error.failure {
            failed.failure.names = failures
                .iter()
                .filter_map(|failure| {
                    let kind = failure.challenge.as_deref().and_then(challenge_kind)?;
                    Some((failure.identifier.clone(), kind))
                })
                .collect();
        }
        failed.date = error.facts.date;
        failed.account_unknown = error.failure == ca::Failure::AccountUnknown;
        failed.order_gone = error.step() == Step::Order
            && matches!(error.failure, ca::Failure::NotFound | ca::Failure::Unauthorized);
        failed.resumable = error.is_authority_side();
        failed
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self { resumable: true, ..Self::new(FailureKind::Storage, error.to_string()) }
    }
}

impl From<KeyError> for Failed {
    fn from(error: KeyError) -> Self {
        Self::new(FailureKind::Other, error.to_string())
    }
}

impl From<SolveError> for Failed {
    fn from(error: SolveError) -> Self {
        let kind = match &error {
            SolveError::NoChallenge { .. } => FailureKind::NoChallenge,
            SolveError::Dns { .. } | SolveError::NotAllowed { .. } => FailureKind::Dns,
            SolveError::Key(_) => FailureKind::Other,
            SolveError::NotAsked(_) => FailureKind::Protocol,
        };
        Self::new(kind, error.to_string())
    }
}

fn challenge_kind(word: &str) -> Option<ChallengeKind> {
    ChallengeKind::ALL.into_iter().find(|kind| kind.word() == word)
}

/// Whether a TLS error is about the dates of a certificate, which a wrong clock here explains best.
fn speaks_of_time(text: &str) -> bool {
    ["NotValidYet", "not valid yet", "Expired", "expired"].iter().any(|word| text.contains(word))
}

fn kind(error: &CaError) -> FailureKind {
    use ca::Failure as Of;
    let unavailable = error.facts.status == Some(503);
    match &error.failure {
        Of::Connect | Of::Timeout | Of::Tls => FailureKind::Connect,
        Of::Server | Of::RateLimited if unavailable => FailureKind::Unavailable,
        Of::Server => FailureKind::Server,
        Of::RateLimited => FailureKind::RateLimited,
        Of::Paused { .. } => FailureKind::Paused,
        Of::Refused(refusal) => refused(*refusal),
        Of::Authorization(_) | Of::OrderInvalid => FailureKind::Authorization,
        // A binding that the authority does not accept: only a person has the right one.
        Of::Unauthorized | Of::Malformed if error.step() == Step::NewAccount => {
            FailureKind::ExternalAccountRequired
        }
        Of::BadNonce | Of::OrderNotReady | Of::Protocol => FailureKind::Protocol,
        Of::AccountUnknown
        | Of::Unauthorized
        | Of::NotFound
        | Of::AlreadyReplaced
        | Of::ReplacesRefused
        | Of::Malformed
        | Of::Account
        | Of::Unsupported => FailureKind::Other,
    }
}

fn refused(refusal: Refusal) -> FailureKind {
    match refusal {
        Refusal::RejectedIdentifier => FailureKind::RejectedIdentifier,
        Refusal::UnsupportedIdentifier => FailureKind::UnsupportedIdentifier,
        Refusal::BadCsr => FailureKind::BadCsr,
        Refusal::Caa => FailureKind::Caa,
        Refusal::InvalidProfile => FailureKind::InvalidProfile,
        Refusal::ExternalAccountRequired => FailureKind::ExternalAccountRequired,
        Refusal::UserActionRequired => FailureKind::UserActionRequired,
    }
}
