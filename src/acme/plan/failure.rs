//! Why an attempt failed, in the few kinds that lead to different next steps.

use serde::{Deserialize, Serialize};

use crate::config::model::ChallengeKind;

/// What stopped an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// No connection to the authority, no TLS, or no answer in time.
    Connect,
    /// The authority answered 5xx other than 503, or `serverInternal`.
    Server,
    /// 503: the authority asks everybody to stay away for a while.
    Unavailable,
    /// 429 or `rateLimited`.
    RateLimited,
    /// An answer that cannot be read, or breaks RFC 8555.
    Protocol,
    /// A challenge was judged invalid (RFC 8555 §8.2), or the order without a reason.
    Authorization,
    /// A DNS record could not be written, or was not seen in time.
    Dns,
    /// CAA records forbid this authority (RFC 8659).
    Caa,
    /// `rejectedIdentifier`.
    RejectedIdentifier,
    /// `unsupportedIdentifier`.
    UnsupportedIdentifier,
    /// `badCSR`.
    BadCsr,
    /// The authority does not know the profile.
    InvalidProfile,
    /// `externalAccountRequired`, or a binding that was refused.
    ExternalAccountRequired,
    /// `userActionRequired`: terms of service.
    UserActionRequired,
    /// 429 that only a click in the authority's portal ends.
    Paused,
    /// No challenge of the configured kinds fits a name, or the authority offers none of them.
    NoChallenge,
    /// The certificate that came does not fit what was asked, or is not valid now.
    BadCertificate,
    /// The certificate belongs to another key: another instance finished the same order.
    LostOrder,
    /// The state directory cannot be written, so nothing was ordered.
    Storage,
    /// A look at names, addresses and CAA records found what an order would fail at; none was placed.
    Preflight,
    /// The process ended in the middle.
    Interrupted,
    /// A hook refused.
    Vetoed,
    /// None of these, or a kind that a later version wrote.
    #[serde(other)]
    Other,
}

impl FailureKind {
    /// Whether the authority refused what was asked, so that only a change by a person helps: tried once a
    /// day, an error at once.
    #[must_use]
    pub fn is_blocked(self) -> bool {
        matches!(
            self,
            Self::Caa
                | Self::RejectedIdentifier
                | Self::UnsupportedIdentifier
                | Self::BadCsr
                | Self::InvalidProfile
                | Self::ExternalAccountRequired
                | Self::UserActionRequired
                | Self::Paused
                | Self::NoChallenge
        )
    }

    /// Whether the authority itself is in trouble, so that another one may help.
    #[must_use]
    pub fn is_authority_side(self) -> bool {
        matches!(self, Self::Connect | Self::Server | Self::Unavailable | Self::RateLimited | Self::Protocol)
    }
}

/// A failed attempt, as the driver saw it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Kind.
    pub kind: FailureKind,
    /// One line for the operator, without secrets; cut at [`crate::limits::ACME_FAILURE_BYTES`].
    pub text: String,
    /// `Retry-After` in seconds from now (RFC 9110 §10.2.3), if the authority gave one.
    pub retry_after: Option<u64>,
    /// Identifiers whose authorization failed, and the kind of challenge tried.
    pub names: Vec<(String, ChallengeKind)>,
}

impl Failure {
    /// A failure without `Retry-After` and names.
    #[must_use]
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after: None, names: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_kinds_are_read_as_other() {
        let read = |text: &str| serde_json::from_str::<FailureKind>(text).ok();
        assert_eq!(read("\"rate_limited\""), Some(FailureKind::RateLimited));
        assert_eq!(read("\"from_a_later_version\""), Some(FailureKind::Other));
        let kinds = [FailureKind::Caa, FailureKind::Paused, FailureKind::BadCsr, FailureKind::NoChallenge];
        assert!(kinds.iter().all(|kind| kind.is_blocked() && !kind.is_authority_side()));
    }
}
