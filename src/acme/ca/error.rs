//! Why a step with an authority failed: what a state machine has to tell apart ([`Failure`]), and what the
//! authority said, for people ([`Facts`]). Texts of an authority are untrusted: bounded when read, escaped
//! when shown.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::limits;

/// Why a step failed. All of it is fit for a log: it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaError {
    /// What to do about it depends on this.
    pub failure: Failure,
    /// What was said, for people.
    pub facts: Box<Facts>,
}

/// What a failed step was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: name look-up, TCP, a proxy's refusal, or a connection that broke before the answer.
    /// After the request was sent, the authority may have acted on it.
    Connect,
    /// No answer within the request's time, or no verdict within the patience of the caller. The authority
    /// may have acted.
    Timeout,
    /// The authority's own TLS: its certificate is not trusted, or the handshake failed.
    Tls,
    /// The authority is in trouble: 5xx, or `serverInternal`.
    Server,
    /// Too many requests: 429, or `rateLimited`.
    RateLimited,
    /// The account may not ask for these names until a person has visited a page.
    Paused {
        /// That page, if one was named; starts with `https://`.
        portal: Option<String>,
    },
    /// The authority will never grant this request as it is.
    Refused(Refusal),
    /// Control over names was not shown: the error of each challenge. Never empty.
    Authorization(Vec<ChallengeFailure>),
    /// The order is invalid and no challenge says why.
    OrderInvalid,
    /// Nonces were refused again and again (RFC 8555 §6.5).
    BadNonce,
    /// The authority does not know the account (`accountDoesNotExist`): register anew, once.
    AccountUnknown,
    /// The account may not do this (401, 403, `unauthorized`): deactivated, somebody else's order, or
    /// external account binding that does not fit.
    Unauthorized,
    /// There is nothing at this URL (404, 410): at [`Step::Order`] the order is gone, at
    /// [`Step::RenewalInfo`] the certificate is unknown.
    NotFound,
    /// The certificate to replace has been replaced before (RFC 9773 §5): order once without `replaces`.
    AlreadyReplaced,
    /// Refused or not confirmed, maybe because of `replaces`: order once without.
    ReplacesRefused,
    /// The order is not in the state that this step needs (`orderNotReady`, 403).
    OrderNotReady,
    /// The authority calls the request wrong, and it is none of the above.
    Malformed,
    /// An answer that breaks the protocol or a bound: not JSON, a redirect, too large, a field missing.
    Protocol,
    /// The account's own bytes are no account of this authority.
    Account,
    /// A precondition that the caller has to fix: see the text.
    Unsupported,
}

/// What the authority will never grant (RFC 8555 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `rejectedIdentifier`.
    RejectedIdentifier,
    /// `unsupportedIdentifier`.
    UnsupportedIdentifier,
    /// `badCSR`.
    BadCsr,
    /// `caa`.
    Caa,
    /// `invalidProfile`, or a profile that the directory does not list, or another one in the order.
    InvalidProfile,
    /// `externalAccountRequired`.
    ExternalAccountRequired,
    /// `userActionRequired`.
    UserActionRequired,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RejectedIdentifier,
        Self::UnsupportedIdentifier,
        Self::BadCsr,
        Self::Caa,
        Self::InvalidProfile,
        Self::ExternalAccountRequired,
        Self::UserActionRequired,
    ];

    /// The end of its problem type.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RejectedIdentifier => "rejectedIdentifier",
            Self::UnsupportedIdentifier => "unsupportedIdentifier",
            Self::BadCsr => "badCSR",
            Self::Caa => "caa",
            Self::InvalidProfile => "invalidProfile",
            Self::ExternalAccountRequired => "externalAccountRequired",
            Self::UserActionRequired => "userActionRequired",
        }
    }
}

/// What is asked of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The directory (RFC 8555 §7.1.1).
    Directory,
    /// A nonce.
    NewNonce,
    /// An account.
    NewAccount,
    /// An order.
    NewOrder,
    /// The state of an order.
    Order,
    /// The state of an authorization.
    Authorization,
    /// A challenge that is to be tried.
    Challenge,
    /// The CSR.
    Finalize,
    /// The chain.
    Certificate,
    /// A renewal window (RFC 9773).
    RenewalInfo,
    /// A revocation.
    Revoke,
}

impl Step {
    /// Its word in logs: RFC 8555's name of the resource.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "newNonce",
            Self::NewAccount => "newAccount",
            Self::NewOrder => "newOrder",
            Self::Order => "order",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
            Self::RenewalInfo => "renewalInfo",
            Self::Revoke => "revokeCert",
        }
    }
}

/// What was asked and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What was asked.
    pub step: Step,
    /// Path of the URL asked, if a request was made.
    pub path: Option<String>,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The problem document of the answer (RFC 7807).
    pub problem: Option<Problem>,
    /// What else is known, in our words.
    pub text: Option<String>,
    /// `Retry-After` of the answer, from now on; at most [`limits::ACME_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
    /// `Date` of the answer, in seconds since 1970.
    pub date: Option<u64>,
}

/// A problem document (RFC 7807, RFC 8555 §6.7), its texts cut to a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// `type`, such as `urn:ietf:params:acme:error:caa`.
    pub kind: Option<String>,
    /// `detail`.
    pub detail: Option<String>,
    /// `subproblems`, one for each identifier.
    pub subproblems: Vec<Subproblem>,
}

impl Problem {
    /// The type without the prefix that all ACME types share.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        let kind = self.kind.as_deref()?;
        Some(kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind))
    }
}

/// What is wrong with one identifier (RFC 8555 §6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subproblem {
    /// The name or address, as the authority wrote it.
    pub identifier: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `detail`.
    pub detail: Option<String>,
}

/// A challenge that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeFailure {
    /// The name, `*.` and a name, or the address.
    pub identifier: String,
    /// Kind of the challenge, such as `http-01`; none if the authorization failed without any challenge's
    /// error.
    pub challenge: Option<String>,
    /// Its error.
    pub problem: Problem,
}

impl CaError {
    /// Of a step that no answer belongs to, in our words.
    pub(crate) fn new(failure: Failure, step: Step, text: impl Into<String>) -> Self {
        let mut error = Self::bare(failure, step);
        error.facts.text = Some(bounded(text.into()));
        error
    }

    /// Of a step, without a word.
    pub(crate) fn bare(failure: Failure, step: Step) -> Self {
        let facts = Facts {
            step,
            path: None,
            status: None,
            problem: None,
            text: None,
            retry_after: None,
            date: None,
        };
        Self { failure, facts: Box::new(facts) }
    }

    /// What was asked.
    #[must_use]
    pub fn step(&self) -> Step {
        self.facts.step
    }

    /// How long the authority asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.facts.retry_after
    }

    /// Whether the fault is the authority's or the way to it, and another authority may do better
    /// (connection, time, TLS, 5xx, 429, broken answers).
    #[must_use]
    pub fn is_authority_side(&self) -> bool {
        use Failure::{BadNonce, Connect, Protocol, RateLimited, Server, Timeout, Tls};
        matches!(self.failure, Connect | Timeout | Tls | Server | RateLimited | BadNonce | Protocol)
    }

    /// Whether the authority refused the request itself, so that asking again soon is no use.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(self.failure, Failure::Paused { .. } | Failure::Refused(_))
    }

    /// Whether an order without `replaces` may do better.
    #[must_use]
    pub fn is_about_replaces(&self) -> bool {
        matches!(self.failure, Failure::AlreadyReplaced | Failure::ReplacesRefused)
    }
}

impl std::error::Error for CaError {}

/// One line: the step, the path, the HTTP status, the problem and our words; never a control character.
impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        f.write_str(facts.step.word())?;
        if let Some(path) = &facts.path {
            write!(f, " at {}", Escaped(path))?;
        }
        f.write_str(": ")?;
        if let Some(status) = facts.status {
            write!(f, "status {status}, ")?;
        }
        match (&self.failure, &facts.problem) {
            // The problem names the refusal.
            (Failure::Refused(_), Some(_)) => f.write_str("refused")?,
            (failure, _) => f.write_str(failure.phrase())?,
        }
        if let Some(problem) = &facts.problem {
            write!(f, ": {problem}")?;
        }
        if let Some(text) = &facts.text {
            write!(f, ": {}", Escaped(text))?;
        }
        match &self.failure {
            Failure::Authorization(failures) => {
                for failure in failures.iter().take(SHOWN) {
                    write!(f, "; {failure}")?;
                }
                if failures.len() > SHOWN {
                    write!(f, "; and {} more", failures.len() - SHOWN)?;
                }
            }
            Failure::Paused { portal: Some(portal) } => write!(f, "; visit {}", Escaped(portal))?,
            _ => {}
        }
        if let Some(wait) = facts.retry_after {
            write!(f, "; retry after {} s", wait.as_secs())?;
        }
        Ok(())
    }
}

impl Failure {
    fn phrase(&self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Timeout => "timed out",
            Self::Tls => "TLS to the authority failed",
            Self::Server => "the authority is in trouble",
            Self::RateLimited => "rate limited",
            Self::Paused { .. } => "paused by the authority",
            Self::Refused(refusal) => refusal.word(),
            Self::Authorization(_) => "validation failed",
            Self::OrderInvalid => "the order is invalid",
            Self::BadNonce => "nonces refused",
            Self::AccountUnknown => "account unknown to the authority",
            Self::Unauthorized => "not authorized",
            Self::NotFound => "not found",
            Self::AlreadyReplaced => "certificate already replaced",
            Self::ReplacesRefused => "refused together with `replaces`",
            Self::OrderNotReady => "order not ready",
            Self::Malformed => "request refused as malformed",
            Self::Protocol => "unusable answer",
            Self::Account => "unusable account",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_problem(f, self.word(), self.detail.as_deref())?;
        for subproblem in self.subproblems.iter().take(SHOWN) {
            f.write_str("; ")?;
            if let Some(identifier) = &subproblem.identifier {
                write!(f, "{}: ", Escaped(identifier))?;
            }
            let kind = subproblem.kind.as_deref();
            write_problem(
                f,
                kind.map(|kind| kind.rsplit(':').next().unwrap_or(kind)),
                subproblem.detail.as_deref(),
            )?;
        }
        if self.subproblems.len() > SHOWN {
            write!(f, "; and {} more", self.subproblems.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl fmt::Display for ChallengeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.identifier))?;
        if let Some(challenge) = &self.challenge {
            write!(f, " by {}", Escaped(challenge))?;
        }
        write!(f, ": {}", self.problem)
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, kind: Option<&str>, detail: Option<&str>) -> fmt::Result {
    match (kind, detail) {
        (Some(kind), Some(detail)) => write!(f, "{}: {}", Escaped(kind), Escaped(detail)),
        (Some(text), None) | (None, Some(text)) => write!(f, "{}", Escaped(text)),
        (None, None) => f.write_str("no reason given"),
    }
}

/// Names and subproblems shown in one line; the rest is counted.
const SHOWN: usize = 10;

/// Text of others in a line of ours: what is not plainly printable is written as its number.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() {
                f.write_char(c)?;
            } else {
                write!(f, "{}", c.escape_unicode())?;
            }
        }
        Ok(())
    }
}

/// Cut to what is kept of one text of an authority.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > limits::ACME_TEXT_BYTES {
        let end =
            (0..=limits::ACME_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}
