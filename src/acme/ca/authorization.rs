//! What an authority wants to know about one name (RFC 8555 §7.1.4), and the challenges that it offers.

use instant_acme as library;

use super::classify;
use super::error::{ChallengeFailure, Problem, bounded};
use crate::acme::slot::Identifier;
use crate::config::model::ChallengeKind;
use crate::limits;

/// State of an authorization (RFC 8555 §7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationStatus {
    /// Control is still to be shown.
    Pending,
    /// Control was shown, now or before.
    Valid,
    /// It failed.
    Invalid,
    /// It is no longer of use: revoked, expired or deactivated.
    Over,
}

/// State of a challenge (RFC 8555 §7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeStatus {
    /// Nobody asked for it to be tried.
    Pending,
    /// The authority tries it.
    Processing,
    /// It was met.
    Valid,
    /// It failed.
    Invalid,
}

/// What an authority wants to know about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The name as it was ordered, with `*.` for a wildcard.
    pub identifier: Identifier,
    /// Its state.
    pub status: AuthorizationStatus,
    /// The challenges on offer, of every kind that we know; kinds that the library does not know of and
    /// challenges that lack their token are left out.
    pub offers: Vec<Offer>,
    /// Errors of challenges of any kind, known or not.
    pub errors: Vec<ChallengeFailure>,
}

/// One way to show control. Its texts are secrets of no one: the world may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub kind: ChallengeKind,
    /// Token: 1 to 128 of `A-Z a-z 0-9 - _`; empty for `dns-persist-01`.
    pub token: String,
    /// Token and thumbprint (RFC 8555 §8.1): the content for HTTP-01.
    pub key_authorization: String,
    /// SHA-256 of the key authorization, for TLS-ALPN-01.
    pub digest: [u8; 32],
    /// The same in base64url: the TXT record's value for DNS-01.
    pub dns_value: String,
    /// Its state.
    pub status: ChallengeStatus,
    /// Why it failed.
    pub error: Option<Problem>,
}

impl Authorization {
    /// Its challenges' errors; if it is invalid or over without any, one that says so.
    #[must_use]
    pub fn failures(&self) -> Vec<ChallengeFailure> {
        let is_failed = matches!(self.status, AuthorizationStatus::Invalid | AuthorizationStatus::Over);
        if !self.errors.is_empty() || !is_failed {
            return self.errors.clone();
        }
        let detail = Some("the authorization is no longer valid".to_owned());
        let problem = Problem { detail, ..Problem::default() };
        vec![ChallengeFailure { identifier: self.identifier.to_string(), challenge: None, problem }]
    }
}

/// One authorization as ours; none if its identifier is none of ours.
pub(super) fn describe(
    handle: &library::AuthorizationHandle<'_>,
    offers: Vec<Offer>,
) -> Option<Authorization> {
    let status = match handle.status {
        library::AuthorizationStatus::Pending => AuthorizationStatus::Pending,
        library::AuthorizationStatus::Valid => AuthorizationStatus::Valid,
        library::AuthorizationStatus::Invalid => AuthorizationStatus::Invalid,
        _ => AuthorizationStatus::Over,
    };
    let identifier = from_library(&handle.identifier())?;
    let errors = handle.challenges.iter().take(limits::ACME_PROBLEMS).filter_map(|challenge| {
        let problem = classify::from_library(challenge.error.as_ref()?);
        let challenge = Some(bounded(type_word(&challenge.r#type).to_owned()));
        Some(ChallengeFailure { identifier: identifier.to_string(), challenge, problem })
    });
    let errors = errors.collect();
    Some(Authorization { identifier, status, offers, errors })
}

/// A challenge of this kind, if it is on offer.
pub(super) fn offer(handle: library::AuthorizationHandle<'_>, kind: ChallengeKind) -> Option<Offer> {
    // Moved, since the library's borrow lasts as long as the handle's type says.
    let mut handle = handle;
    let challenge = handle.challenge(library_type(kind))?;
    let token = &challenge.token;
    let needs_none = token.is_empty() && kind == ChallengeKind::DnsPersist01;
    if !needs_none && !is_token(token) {
        return None;
    }
    let authorization = challenge.key_authorization();
    let mut digest = [0; 32];
    digest.iter_mut().zip(authorization.digest().as_ref()).for_each(|(to, from)| *to = *from);
    Some(Offer {
        kind,
        token: token.clone(),
        key_authorization: authorization.as_str().to_owned(),
        digest,
        dns_value: authorization.dns_value(),
        status: challenge_status(challenge.status),
        error: challenge.error.as_ref().map(classify::from_library),
    })
}

/// Characters of base64url (RFC 8555 §8.1): it becomes part of a path and of a record.
fn is_token(token: &str) -> bool {
    (1..=128).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn challenge_status(status: library::ChallengeStatus) -> ChallengeStatus {
    match status {
        library::ChallengeStatus::Pending => ChallengeStatus::Pending,
        library::ChallengeStatus::Processing => ChallengeStatus::Processing,
        library::ChallengeStatus::Valid => ChallengeStatus::Valid,
        library::ChallengeStatus::Invalid => ChallengeStatus::Invalid,
    }
}

/// The library's name of a kind.
pub(super) fn library_type(kind: ChallengeKind) -> library::ChallengeType {
    match kind {
        ChallengeKind::Http01 => library::ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => library::ChallengeType::TlsAlpn01,
        ChallengeKind::Dns01 => library::ChallengeType::Dns01,
        ChallengeKind::DnsPersist01 => library::ChallengeType::Unknown(kind.word().to_owned()),
    }
}

fn type_word(kind: &library::ChallengeType) -> &str {
    match kind {
        library::ChallengeType::Http01 => "http-01",
        library::ChallengeType::Dns01 => "dns-01",
        library::ChallengeType::TlsAlpn01 => "tls-alpn-01",
        library::ChallengeType::DeviceAttest01 => "device-attest-01",
        library::ChallengeType::Unknown(word) => word,
        _ => "unknown",
    }
}

/// As the library sends it.
pub(super) fn to_library(identifier: &Identifier) -> library::Identifier {
    match identifier {
        Identifier::Dns(name) => library::Identifier::Dns(name.clone()),
        Identifier::Ip(address) => library::Identifier::Ip(*address),
    }
}

/// As it was ordered; none if it is no kind of ours.
pub(super) fn from_library(authorized: &library::AuthorizedIdentifier<'_>) -> Option<Identifier> {
    match authorized.identifier {
        // Some authorities keep the `*.` in the name too.
        library::Identifier::Dns(name) if authorized.wildcard && !name.starts_with("*.") => {
            Some(Identifier::Dns(bounded(format!("*.{}", name.to_ascii_lowercase()))))
        }
        library::Identifier::Dns(name) => Some(Identifier::Dns(bounded(name.to_ascii_lowercase()))),
        library::Identifier::Ip(address) => Some(Identifier::Ip(*address)),
        _ => None,
    }
}
