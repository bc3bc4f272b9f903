//! One order: its authorizations, challenges, finalization and certificate (RFC 8555 §7.4, §7.5).

use std::fmt;
use std::time::Duration;

use instant_acme as library;
use tokio::time::{Instant, sleep};

use super::authorization::{
    Authorization, AuthorizationStatus, ChallengeStatus, describe, from_library, library_type, offer,
};
use super::bridge::Bridge;
use super::classify::{self, Tries};
use super::error::{CaError, Failure, Problem, Step, bounded};
use crate::acme::slot::Identifier;
use crate::config::model::ChallengeKind;
use crate::limits;

/// State of an order (RFC 8555 §7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Control over some name is still to be shown.
    Pending,
    /// It waits for the CSR.
    Ready,
    /// The certificate is being made.
    Processing,
    /// The certificate is there.
    Valid,
    /// It failed.
    Invalid,
}

/// An order at an authority, as it was seen last.
pub struct Order {
    inner: library::Order,
    bridge: Bridge,
    status: OrderStatus,
    profile: Option<String>,
    problem: Option<Problem>,
    /// Challenges that this object asked the authority to try.
    tried: Vec<(Identifier, ChallengeKind)>,
    /// Whether authorizations may have changed since they were read.
    is_stale: bool,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("url", &self.url())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Order {
    pub(super) fn new(inner: library::Order, bridge: Bridge) -> Self {
        let mut order = Self {
            inner,
            bridge,
            status: OrderStatus::Pending,
            profile: None,
            problem: None,
            tried: Vec::new(),
            is_stale: false,
        };
        order.look();
        order
    }

    /// Its URL, by which it is found again after a restart.
    #[must_use]
    pub fn url(&self) -> &str {
        self.inner.url()
    }

    /// Its state.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        self.status
    }

    /// The profile that the authority says it has.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Asks for its state.
    ///
    /// # Errors
    /// Those of every request; an invalid order is none.
    pub async fn refresh(&mut self) -> Result<OrderStatus, CaError> {
        let mut tries = Tries::new(Step::Order);
        while let Err(error) = self.inner.refresh().await.map(|_| ()) {
            tries.again(error)?;
        }
        self.is_stale = false;
        self.look();
        Ok(self.status)
    }

    /// Its authorizations, as they are now.
    ///
    /// # Errors
    /// [`Failure::Protocol`] if there are more than a certificate has names, and those of every request.
    pub async fn authorizations(&mut self) -> Result<Vec<Authorization>, CaError> {
        if self.is_stale {
            self.refresh().await?;
        }
        self.fetch_authorizations().await?;
        let count = self.inner.state().authorizations.len();
        let mut found = Vec::with_capacity(count);
        for index in 0..count {
            let mut offers = Vec::new();
            for kind in ChallengeKind::ALL {
                offers.extend(nth(&mut self.inner, index, |handle| offer(handle, kind)).await?);
            }
            found.extend(nth(&mut self.inner, index, |handle| describe(&handle, offers)).await?);
        }
        Ok(found)
    }

    /// Tells the authority that it may look. Nothing is sent if it has looked or is about to, or if the
    /// authorization is not pending. Call [`Self::authorizations`] before.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] if this kind is not on offer, [`Failure::Authorization`] if the
    /// authority looked at once and found nothing, and those of every request.
    pub async fn set_ready(&mut self, identifier: &Identifier, kind: ChallengeKind) -> Result<(), CaError> {
        if self.tried.iter().any(|(name, tried)| name == identifier && *tried == kind) {
            return Ok(());
        }
        self.fetch_authorizations().await?;
        let mut tries = Tries::new(Step::Challenge);
        loop {
            match self.post_challenge(identifier, kind).await {
                Ok(()) => break,
                Err(Posting::NoOffer) => {
                    let text = format!("{} is not on offer for {identifier}", kind.word());
                    return Err(CaError::new(Failure::Unsupported, Step::Challenge, text));
                }
                Err(Posting::Failed(error)) => match tries.again(error) {
                    Ok(()) => {}
                    // Another try whose answer was lost, or another instance, was first.
                    Err(error) if error.failure == Failure::Malformed => {
                        self.is_stale = true;
                        if self.awaits(identifier, kind).await? {
                            return Err(error);
                        }
                        break;
                    }
                    Err(error) => {
                        return Err(classify::challenge_failed(error, identifier.to_string(), kind.word()));
                    }
                },
            }
        }
        self.tried.push((identifier.clone(), kind));
        self.is_stale = true;
        Ok(())
    }

    /// Waits until the authority has looked at all challenges: the order is then ready, or further. Asks
    /// nothing if that is known. The waits between looks are the authority's, or grow from one second.
    ///
    /// # Errors
    /// [`Failure::Authorization`] or [`Failure::OrderInvalid`], [`Failure::Timeout`] after `patience`, and
    /// those of every request.
    pub async fn poll_ready(&mut self, patience: Duration) -> Result<OrderStatus, CaError> {
        self.poll(patience, |status| status != OrderStatus::Pending).await
    }

    /// Sends the CSR (DER). Its key has to be on disk before: if the answer is lost, the certificate is made
    /// nevertheless. Nothing is sent if the order is processing or valid.
    ///
    /// # Errors
    /// [`Failure::Refused`] with `badCSR` (the order stays ready), [`Failure::OrderNotReady`], and
    /// those of every request.
    pub async fn finalize(&mut self, csr: &[u8]) -> Result<OrderStatus, CaError> {
        if matches!(self.status, OrderStatus::Processing | OrderStatus::Valid) {
            return Ok(self.status);
        }
        let mut tries = Tries::new(Step::Finalize);
        loop {
            let Err(error) = self.inner.finalize_csr(csr).await else { break };
            let Err(error) = tries.again(error) else { continue };
            // After a lost answer the order is further than we know.
            if error.failure == Failure::OrderNotReady
                && matches!(self.refresh().await?, OrderStatus::Processing | OrderStatus::Valid)
            {
                break;
            }
            return Err(error);
        }
        self.look();
        Ok(self.status)
    }

    /// Waits for the certificate and fetches its chain in PEM, leaf first. Whether it is the certificate
    /// that was asked for is still to be looked at.
    ///
    /// # Errors
    /// [`Failure::OrderNotReady`] if the order waits for the CSR, [`Failure::OrderInvalid`],
    /// [`Failure::Timeout`] after `patience`, and those of every request.
    pub async fn poll_certificate(&mut self, patience: Duration) -> Result<String, CaError> {
        let status = self.poll(patience, |status| status != OrderStatus::Processing).await?;
        if status != OrderStatus::Valid {
            let text = "the order waits for a CSR";
            return Err(CaError::new(Failure::OrderNotReady, Step::Certificate, text));
        }
        let mut tries = Tries::new(Step::Certificate);
        let chain = loop {
            match self.inner.certificate().await {
                Ok(chain) => break chain.unwrap_or_default(),
                Err(error) => tries.again(error)?,
            }
        };
        if !chain.contains("-----BEGIN CERTIFICATE-----") {
            return Err(CaError::new(Failure::Protocol, Step::Certificate, "no certificate in the answer"));
        }
        Ok(chain)
    }

    /// Looks until `is_done`, or the order is invalid.
    async fn poll(
        &mut self,
        patience: Duration,
        is_done: impl Fn(OrderStatus) -> bool,
    ) -> Result<OrderStatus, CaError> {
        let end = Instant::now() + patience;
        let mut pause = limits::ACME_POLL_FIRST;
        let mut asked: Option<Duration> = None;
        loop {
            if self.status == OrderStatus::Invalid {
                return Err(self.invalid().await);
            }
            if is_done(self.status) {
                return Ok(self.status);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{:?} after {} s", self.status, patience.as_secs()).to_lowercase();
                let mut error =
                    CaError::new(Failure::Timeout, Step::Order, format!("the order is still {text}"));
                error.facts.retry_after = asked;
                return Err(error);
            }
            let wait = asked.map_or(pause, |asked| asked.max(limits::ACME_POLL_FIRST));
            sleep(wait.min(left)).await;
            pause = (pause * 4 / 3).min(limits::ACME_POLL_LONGEST);
            self.refresh().await?;
            asked = self.bridge.retry_after(Some(self.inner.url()));
        }
    }

    /// Why the order is invalid: Boulder leaves its error empty, so the authorizations are read again.
    async fn invalid(&mut self) -> CaError {
        self.is_stale = true;
        let found = self.authorizations().await;
        let failures = found.map(|found| found.iter().flat_map(Authorization::failures).collect::<Vec<_>>());
        let mut error = match failures {
            Ok(failures) if !failures.is_empty() => {
                CaError::bare(Failure::Authorization(failures), Step::Authorization)
            }
            Ok(_) => CaError::bare(Failure::OrderInvalid, Step::Order),
            Err(error) => {
                let text = format!("its authorizations cannot be read: {error}");
                CaError::new(Failure::OrderInvalid, Step::Order, text)
            }
        };
        // A refusal stays one wherever it is told: CAA records are looked at again while finalizing.
        let told = self.problem.as_ref().map(|problem| classify::failure(0, Some(problem)));
        if let (Failure::OrderInvalid, Some(told)) = (&error.failure, told)
            && matches!(told, Failure::Refused(_) | Failure::RateLimited | Failure::Server)
        {
            error.failure = told;
        }
        error.facts.problem = self.problem.clone();
        error
    }

    fn look(&mut self) {
        let state = self.inner.state();
        self.status = match state.status {
            library::OrderStatus::Pending => OrderStatus::Pending,
            library::OrderStatus::Ready => OrderStatus::Ready,
            library::OrderStatus::Processing => OrderStatus::Processing,
            library::OrderStatus::Valid => OrderStatus::Valid,
            library::OrderStatus::Invalid => OrderStatus::Invalid,
        };
        self.profile = state.profile.clone().map(bounded);
        self.problem = state.error.as_ref().map(classify::from_library);
    }

    /// Makes the library fetch each authorization that it does not have.
    async fn fetch_authorizations(&mut self) -> Result<(), CaError> {
        if self.inner.state().authorizations.len() > limits::ACME_PROBLEMS {
            let text = "more authorizations than a certificate has names";
            return Err(CaError::new(Failure::Protocol, Step::Order, text));
        }
        let mut tries = Tries::new(Step::Authorization);
        let mut furthest = 0;
        loop {
            let mut list = self.inner.authorizations();
            let mut at = 0;
            let refused = loop {
                match list.next().await {
                    None => return Ok(()),
                    Some(Ok(_)) => at += 1,
                    Some(Err(error)) => break error,
                }
            };
            if at > furthest {
                furthest = at;
                tries.progress();
            }
            tries.again(refused)?;
        }
    }

    async fn post_challenge(&mut self, wanted: &Identifier, kind: ChallengeKind) -> Result<(), Posting> {
        let mut list = self.inner.authorizations();
        while let Some(next) = list.next().await {
            let mut handle = next.map_err(Posting::Failed)?;
            if from_library(&handle.identifier()).as_ref() != Some(wanted) {
                continue;
            }
            if handle.status != library::AuthorizationStatus::Pending {
                return Ok(());
            }
            let Some(mut challenge) = handle.challenge(library_type(kind)) else {
                return Err(Posting::NoOffer);
            };
            if challenge.status != library::ChallengeStatus::Pending {
                return Ok(());
            }
            return challenge.set_ready().await.map_err(Posting::Failed);
        }
        Err(Posting::NoOffer)
    }

    /// Whether the challenge is still to be asked for, as the authority sees it now.
    async fn awaits(&mut self, identifier: &Identifier, kind: ChallengeKind) -> Result<bool, CaError> {
        let found = self.authorizations().await?;
        let one = found.iter().find(|authorization| authorization.identifier == *identifier);
        Ok(one.is_none_or(|authorization| {
            authorization.status == AuthorizationStatus::Pending
                && authorization
                    .offers
                    .iter()
                    .any(|offer| offer.kind == kind && offer.status == ChallengeStatus::Pending)
        }))
    }
}

/// Why a challenge was not asked for.
enum Posting {
    NoOffer,
    Failed(library::Error),
}

/// What `look` makes of an authorization that was fetched before, which therefore asks nothing; none if
/// there are fewer.
async fn nth<T>(
    order: &mut library::Order,
    index: usize,
    look: impl FnOnce(library::AuthorizationHandle<'_>) -> Option<T>,
) -> Result<Option<T>, CaError> {
    let mut list = order.authorizations();
    for _ in 0..index {
        if list.next().await.is_none() {
            return Ok(None);
        }
    }
    match list.next().await {
        Some(Ok(handle)) => Ok(look(handle)),
        Some(Err(error)) => Err(classify::failed(error, Step::Authorization)),
        None => Ok(None),
    }
}
