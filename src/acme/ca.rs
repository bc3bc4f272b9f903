//! The client of a certificate authority (RFC 8555): accounts, orders, renewal windows, revocation. This
//! is the only module that names the ACME library; what the library hides (HTTP status, `Retry-After`,
//! time limits, answers that are not JSON) is had back by an HTTP client of ours, and every step ends in its result or
//! a [`CaError`] that says what to do next.
//!
//! Nothing here retries, except when a nonce is refused: when to ask again is the caller's decision.
//! Everything runs on the acme thread, on tokio's clock.

mod authorization;
pub(crate) mod base64url;
mod bridge;
mod classify;
pub(crate) mod date;
mod error;
mod order;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use instant_acme as library;
use serde::Deserialize;
use zeroize::Zeroizing;

use self::bridge::Bridge;
use self::classify::Tries;
use super::ari::RenewalInfo;
use super::http_client::Transport;
use super::slot::Identifier;

pub use self::authorization::{Authorization, AuthorizationStatus, ChallengeStatus, Offer};
pub use self::error::{CaError, ChallengeFailure, Facts, Failure, Problem, Refusal, Step, Subproblem};
pub use self::order::{Order, OrderStatus};

/// An authority, by the URL of its directory. Making one asks nothing.
#[derive(Clone)]
pub struct Ca {
    transport: Arc<dyn Transport>,
    directory: String,
    request_timeout: Duration,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The key of an account at the authority's shop (RFC 8555 §7.3.4). Never shown.
pub struct ExternalKey {
    kid: String,
    mac: Zeroizing<Vec<u8>>,
}

impl ExternalKey {
    /// Key identifier and the MAC key's bytes (HMAC-SHA-256).
    #[must_use]
    pub fn new(kid: &str, mac: Zeroizing<Vec<u8>>) -> Self {
        Self { kid: kid.to_owned(), mac }
    }

    /// The same with the MAC key in base64, as shops hand it out: either alphabet, with or without padding,
    /// white space around it. None if it is not that, or empty.
    #[must_use]
    pub fn from_base64(kid: &str, mac: &str) -> Option<Self> {
        let mac = base64url::decode(mac.trim()).filter(|mac| !mac.is_empty())?;
        Some(Self::new(kid, mac))
    }
}

impl fmt::Debug for ExternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Why a certificate is revoked (RFC 5280 §5.3.1): the reasons that a subscriber may give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// None is given.
    #[default]
    Unspecified,
    /// Somebody else has, or may have, the private key.
    KeyCompromise,
    /// There is another one.
    Superseded,
    /// The names are no longer served.
    CessationOfOperation,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Unspecified, Self::KeyCompromise, Self::Superseded, Self::CessationOfOperation];

    /// Its name in RFC 5280.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
        }
    }
}

/// What of an account's bytes is looked at here; the rest is the library's.
#[derive(Deserialize)]
struct Home {
    directory: Option<String>,
}

impl Ca {
    /// The authority whose directory is at `directory`. `request_timeout` is from a request sent to the end
    /// of its answer, whatever the transport does.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, directory: &str, request_timeout: Duration) -> Self {
        Self { transport, directory: directory.to_owned(), request_timeout }
    }

    /// URL of the directory.
    #[must_use]
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Registers a new account with a new key (ECDSA on P-256), agreeing to the terms of service. The bytes
    /// are all that is needed to [`Self::open`] it again; they hold the account's key in clear, so whoever
    /// writes them keeps them secret.
    ///
    /// # Errors
    /// [`Failure::Refused`] for `externalAccountRequired` and `userActionRequired`,
    /// [`Failure::Unauthorized`] or [`Failure::Malformed`] when the binding does not fit, and those of
    /// every request.
    pub async fn register(
        &self,
        email: Option<&str>,
        external: Option<&ExternalKey>,
    ) -> Result<(Session, Zeroizing<Vec<u8>>), CaError> {
        let contact = email.map(|email| format!("mailto:{email}"));
        let contacts: Vec<&str> = contact.as_deref().into_iter().collect();
        let account = library::NewAccount {
            contact: &contacts,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external =
            external.map(|external| library::ExternalAccountKey::new(external.kid.clone(), &external.mac));
        let bridge = self.bridge();
        let mut tries = Tries::new(Step::NewAccount);
        let (account, credentials) = loop {
            let builder = library::Account::builder_with_http(Box::new(bridge.clone()));
            match builder.create(&account, self.directory.clone(), external.as_ref()).await {
                Ok(made) => break made,
                Err(error) => tries.again(error)?,
            }
        };
        // Large enough that it never moves, which would leave a copy of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
        serde_json::to_writer(&mut *bytes, &credentials)
            .map_err(|_| CaError::new(Failure::Account, Step::NewAccount, "cannot be written down"))?;
        Ok((Session { account, bridge }, bytes))
    }

    /// Opens an account registered before. Asks for the directory, so this fails while the authority is
    /// down; whether it still knows the account shows at the first request that needs one.
    ///
    /// # Errors
    /// [`Failure::Account`] if the bytes are none, or of another authority's account; and those of every
    /// request.
    pub async fn open(&self, account: &[u8]) -> Result<Session, CaError> {
        let unusable = |why| CaError::new(Failure::Account, Step::Directory, why);
        let home: Home = serde_json::from_slice(account).map_err(|_| unusable("not an account"))?;
        if home.directory.as_deref() != Some(&self.directory) {
            return Err(unusable("an account of another authority"));
        }
        let credentials: library::AccountCredentials =
            serde_json::from_slice(account).map_err(|_| unusable("not an account"))?;
        let bridge = self.bridge();
        let builder = library::Account::builder_with_http(Box::new(bridge.clone()));
        let opened = builder.from_credentials(credentials).await;
        let account = opened.map_err(|error| classify::failed(error, Step::Directory))?;
        Ok(Session { account, bridge })
    }

    fn bridge(&self) -> Bridge {
        Bridge::new(Arc::clone(&self.transport), &self.directory, self.request_timeout)
    }
}

/// An account, with the authority's directory as it was when this was opened: open anew for each renewal.
/// Orders of one session may be driven in turn or at the same time on one thread.
#[derive(Clone)]
pub struct Session {
    account: library::Account,
    bridge: Bridge,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("account", &self.account.id()).finish_non_exhaustive()
    }
}

impl Session {
    /// URL of the account.
    #[must_use]
    pub fn account_url(&self) -> &str {
        self.account.id()
    }

    /// Thumbprint of the account's key (RFC 7638): what follows the token in a key authorization.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        self.account.key_thumbprint()
    }

    /// Names of the profiles that the directory lists, sorted.
    #[must_use]
    pub fn profiles(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.account.profiles().map(|profile| profile.name).collect();
        names.sort_unstable();
        names
    }

    /// Whether the directory has renewal information (RFC 9773).
    #[must_use]
    pub fn has_renewal_info(&self) -> bool {
        self.bridge.directory().is_some_and(|directory| directory.renewal_info.is_some())
    }

    /// Names that CAA records may give this authority (RFC 8659), if the directory lists them.
    #[must_use]
    pub fn caa_identities(&self) -> Vec<String> {
        self.bridge.directory().map(|directory| directory.meta.caa_identities.clone()).unwrap_or_default()
    }

    /// The authority's present time in seconds since 1970: `Date` of its last answer and the time since.
    #[must_use]
    pub fn authority_time(&self) -> Option<u64> {
        self.bridge.authority_time()
    }

    /// Orders a certificate. A `profile` that the directory does not list is refused before anything is
    /// asked, and one that the order does not come back with, after. `replaces` is the
    /// [`super::ari::certificate_id`] of the certificate that this one is to follow; without renewal information
    /// at this authority it is left out.
    ///
    /// # Errors
    /// [`Failure::Refused`]; [`Failure::AlreadyReplaced`] and [`Failure::ReplacesRefused`], after which
    /// the same without `replaces` may do; and those of every request.
    pub async fn new_order(
        &self,
        identifiers: &[Identifier],
        profile: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Order, CaError> {
        let invalid_profile =
            |text: String| Err(CaError::new(Failure::Refused(Refusal::InvalidProfile), Step::NewOrder, text));
        let known = self.profiles();
        if let Some(profile) = profile.filter(|profile| !known.contains(profile)) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return invalid_profile(format!("profile {profile} is not offered; profiles: {known}"));
        }
        let identifiers: Vec<library::Identifier> =
            identifiers.iter().map(authorization::to_library).collect();
        let mut wish = library::NewOrder::new(&identifiers);
        if let Some(profile) = profile {
            wish = wish.profile(profile);
        }
        let replaces = replaces.filter(|_| self.has_renewal_info()).and_then(|id| id.split_once('.'));
        if let Some((authority, serial)) = replaces {
            wish = wish.replaces(library::CertificateIdentifier {
                authority_key_identifier: authority.into(),
                serial: serial.into(),
            });
        }
        let mut tries = Tries::new(Step::NewOrder);
        let made = loop {
            match self.account.new_order(&wish).await {
                Ok(made) => break made,
                Err(error) => {
                    tries.again(error).map_err(|error| classify::with_replaces(error, replaces.is_some()))?;
                }
            }
        };
        let order = Order::new(made, self.bridge.clone());
        match profile {
            Some(asked) if order.profile() != Some(asked) => {
                let found = order.profile().unwrap_or("none");
                invalid_profile(format!("asked for profile {asked}, got an order with {found}"))
            }
            _ => Ok(order),
        }
    }

    /// An order made before, by its URL.
    ///
    /// # Errors
    /// [`Failure::NotFound`] or [`Failure::Unauthorized`] if it is gone or somebody else's, and those of
    /// every request.
    pub async fn order(&self, url: &str) -> Result<Order, CaError> {
        let mut tries = Tries::new(Step::Order);
        loop {
            match self.account.order(url.to_owned()).await {
                Ok(found) => return Ok(Order::new(found, self.bridge.clone())),
                Err(error) => tries.again(error)?,
            }
        }
    }

    /// When the authority would like a certificate to be renewed (RFC 9773 §4), by its
    /// [`super::ari::certificate_id`].
    ///
    /// # Errors
    /// [`Failure::Unsupported`] without renewal information, [`Failure::NotFound`] if the certificate is
    /// unknown, [`Failure::Protocol`] if the window ends before it starts, and those of every request.
    pub async fn renewal_info(&self, certificate_id: &str) -> Result<RenewalInfo, CaError> {
        let directory = self.bridge.directory();
        let Some(base) = directory.as_ref().and_then(|directory| directory.renewal_info.as_deref()) else {
            let text = "the directory has no renewal information";
            return Err(CaError::new(Failure::Unsupported, Step::RenewalInfo, text));
        };
        let url = format!("{}/{certificate_id}", base.trim_end_matches('/'));
        let answer = self.bridge.get(&url, Step::RenewalInfo).await?;
        RenewalInfo::read(answer.body(), self.bridge.retry_after(None)).map_err(|error| {
            let mut failed = CaError::new(Failure::Protocol, Step::RenewalInfo, error.to_string());
            failed.facts.status = Some(answer.status().as_u16());
            failed.facts.retry_after = self.bridge.retry_after(None);
            failed
        })
    }

    /// Revokes a certificate (DER) that this account ordered. Revoked before is no error.
    ///
    /// # Errors
    /// [`Failure::Unauthorized`] if it is another account's, and those of every request.
    pub async fn revoke(&self, certificate: &[u8], reason: Reason) -> Result<(), CaError> {
        let certificate = certificate.into();
        let reason = match reason {
            Reason::Unspecified => None,
            Reason::KeyCompromise => Some(library::RevocationReason::KeyCompromise),
            Reason::Superseded => Some(library::RevocationReason::Superseded),
            Reason::CessationOfOperation => Some(library::RevocationReason::CessationOfOperation),
        };
        let request = library::RevocationRequest { certificate: &certificate, reason };
        let mut tries = Tries::new(Step::Revoke);
        loop {
            match self.account.revoke(&request).await {
                Ok(()) => return Ok(()),
                Err(error) => match tries.again(error) {
                    Err(error) if is_revoked(&error) => return Ok(()),
                    other => other?,
                },
            }
        }
    }
}

fn is_revoked(error: &CaError) -> bool {
    error.facts.problem.as_ref().and_then(Problem::word) == Some("alreadyRevoked")
}

#[cfg(test)]
mod tests;
