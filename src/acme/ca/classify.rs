//! From what an authority answered, and what the ACME library makes of it, to a [`Failure`].

use instant_acme as library;
use serde::Deserialize;
use serde_json::Value;

use super::error::{CaError, ChallengeFailure, Failure, Problem, Refusal, Step, Subproblem, bounded};
use crate::limits;

/// Tries of one operation while the authority refuses nonces (RFC 8555 §6.5). The library tries three
/// times within each; an authority behind a balancer may need more.
pub(super) struct Tries {
    step: Step,
    left: u32,
}

impl Tries {
    pub(super) fn new(step: Step) -> Self {
        Self { step, left: limits::ACME_NONCE_TRIES }
    }

    /// The operation came a step forward, so that it may try as often again.
    pub(super) fn progress(&mut self) {
        self.left = limits::ACME_NONCE_TRIES;
    }

    /// Whether to try again after `error`; if not, the error as it is to be told.
    pub(super) fn again(&mut self, error: library::Error) -> Result<(), CaError> {
        let error = failed(error, self.step);
        self.left = self.left.saturating_sub(1);
        if error.failure == Failure::BadNonce && self.left > 0 { Ok(()) } else { Err(error) }
    }
}

/// The library's error at `step` as ours.
pub(super) fn failed(error: library::Error, step: Step) -> CaError {
    match error {
        library::Error::Other(error) => match error.downcast::<CaError>() {
            Ok(ours) => at(*ours, step),
            Err(other) => {
                let text = other.to_string();
                // Its only other text: the order came back without `replaces`.
                let failure = if text.starts_with("replaces field mismatch") {
                    Failure::ReplacesRefused
                } else {
                    Failure::Protocol
                };
                CaError::new(failure, step, text)
            }
        },
        library::Error::Api(problem) => from_api(&problem, step),
        library::Error::Json(_) => CaError::new(Failure::Protocol, step, "not the JSON expected"),
        library::Error::Crypto | library::Error::KeyRejected => {
            CaError::new(Failure::Account, step, "the account's key cannot be used")
        }
        library::Error::Unsupported(what) => CaError::new(Failure::Unsupported, step, what),
        other => CaError::new(Failure::Protocol, step, other.to_string()),
    }
}

/// Refused nonces reach the library as they are; the error of a challenge comes within a success.
fn from_api(problem: &library::Problem, step: Step) -> CaError {
    let problem = from_library(problem);
    let refused_nonce = problem.word() == Some("badNonce");
    let mut error = CaError::bare(Failure::BadNonce, step);
    if refused_nonce {
        error.facts.status = Some(400);
    } else {
        error.failure = failure(0, Some(&problem));
    }
    error.facts.problem = Some(problem);
    error
}

/// `error` with its step named by the operation, unless it was in the way to it.
pub(super) fn at(mut error: CaError, step: Step) -> CaError {
    if !matches!(error.facts.step, Step::Directory | Step::NewNonce) {
        error.facts.step = step;
    }
    error
}

/// What `error` means for an order that was to replace a certificate: authorities answer 409, 400, 404 and
/// 500 to one that they do not like.
pub(super) fn with_replaces(mut error: CaError, replaces: bool) -> CaError {
    use Failure::{Malformed, NotFound, Server};
    if !replaces || error.facts.step != Step::NewOrder {
        return error;
    }
    error.failure = match (error.facts.status, error.failure) {
        (Some(409), Malformed) => Failure::AlreadyReplaced,
        (Some(400 | 404), Malformed | NotFound) | (Some(500), Server) => Failure::ReplacesRefused,
        (_, failure) => failure,
    };
    error
}

/// What an answer with this status and problem is about; status 0: there is none.
pub(super) fn failure(status: u16, problem: Option<&Problem>) -> Failure {
    let word = problem.and_then(Problem::word);
    if let Some(portal) = problem.and_then(paused) {
        return Failure::Paused { portal };
    }
    if let Some(refusal) = problem.and_then(refusal) {
        return Failure::Refused(refusal);
    }
    match (word, status) {
        (Some("badNonce"), _) => Failure::BadNonce,
        (Some("accountDoesNotExist"), _) => Failure::AccountUnknown,
        (Some("alreadyReplaced"), _) => Failure::AlreadyReplaced,
        (Some("orderNotReady"), _) => Failure::OrderNotReady,
        (Some("rateLimited"), _) | (_, 429) => Failure::RateLimited,
        (Some("serverInternal"), _) | (_, 500..=599) => Failure::Server,
        (Some("unauthorized"), _) | (_, 401 | 403) => Failure::Unauthorized,
        (_, 404 | 410) => Failure::NotFound,
        // Without a problem document it is not the ACME server that speaks.
        (None, _) => Failure::Protocol,
        (Some(_), 0 | 400..=499) => Failure::Malformed,
        (Some(_), _) => Failure::Protocol,
    }
}

fn refusal(problem: &Problem) -> Option<Refusal> {
    let of = |kind: Option<&str>| {
        let word = kind?.rsplit(':').next()?;
        Refusal::ALL.into_iter().find(|refusal| refusal.word() == word)
    };
    // Several names in trouble may come as `compound`, or as the problem of the first one.
    of(problem.kind.as_deref())
        .or_else(|| problem.subproblems.iter().find_map(|subproblem| of(subproblem.kind.as_deref())))
}

/// Whether Let's Encrypt has paused the account for these names; and the page that ends it.
fn paused(problem: &Problem) -> Option<Option<String>> {
    let detail = problem.detail.as_deref().filter(|_| problem.word() == Some("rateLimited"))?;
    let link = detail.split_whitespace().find(|word| word.starts_with("https://"));
    let is_paused = detail.contains("temporarily prevented from requesting certificates")
        || link.is_some_and(|link| link.contains("/unpause"));
    is_paused.then(|| link.map(|link| link.trim_end_matches(['.', ',', ')']).to_owned()))
}

#[derive(Deserialize)]
struct RawProblem {
    #[serde(rename = "type")]
    kind: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    subproblems: Vec<RawSubproblem>,
}

#[derive(Deserialize)]
struct RawSubproblem {
    identifier: Option<RawIdentifier>,
    #[serde(rename = "type")]
    kind: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct RawIdentifier {
    value: Option<Value>,
}

/// A problem document, if this is one; bounded.
pub(super) fn read_problem(body: &[u8]) -> Option<Problem> {
    let raw: RawProblem = serde_json::from_slice(body).ok()?;
    let subproblems = raw.subproblems.into_iter().take(limits::ACME_PROBLEMS).map(|raw| {
        let identifier = raw.identifier.and_then(|identifier| match identifier.value? {
            Value::String(text) => Some(bounded(text)),
            _ => None,
        });
        Subproblem { identifier, kind: raw.kind.map(bounded), detail: raw.detail.map(bounded) }
    });
    let subproblems = subproblems.collect();
    Some(Problem { kind: raw.kind.map(bounded), detail: raw.detail.map(bounded), subproblems })
}

/// The library's problem as ours; bounded.
pub(super) fn from_library(problem: &library::Problem) -> Problem {
    let copy = |text: &Option<String>| text.clone().map(bounded);
    let subproblems = problem.subproblems.iter().take(limits::ACME_PROBLEMS).map(|subproblem| Subproblem {
        identifier: subproblem.identifier.as_ref().map(|name| bounded(name.authorized(false).to_string())),
        kind: copy(&subproblem.r#type),
        detail: copy(&subproblem.detail),
    });
    let subproblems = subproblems.collect();
    Problem { kind: copy(&problem.r#type), detail: copy(&problem.detail), subproblems }
}

/// A challenge's error that came with the answer to it.
pub(super) fn challenge_failed(mut error: CaError, identifier: String, challenge: &str) -> CaError {
    let answered = error.facts.status.is_none() && error.failure != Failure::BadNonce;
    if let Some(problem) = error.facts.problem.take_if(|_| answered) {
        let challenge = Some(challenge.to_owned());
        error.failure = Failure::Authorization(vec![ChallengeFailure { identifier, challenge, problem }]);
    }
    error
}

/// This machine's time, for an authority that sends no `Date`.
pub(super) fn unix_now() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs())
}
