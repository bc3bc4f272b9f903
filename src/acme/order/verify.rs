//! Whether a chain is what was asked for. Nothing that fails here is ever served.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Failed, Issued};
use crate::acme::canary;
use crate::acme::plan::FailureKind;
use crate::acme::slot::Slot;
use crate::acme::store::Pair;
use crate::config::model::Authority;
use crate::tls::certs::{CertifiedPair, PairError};

/// Reads a chain, leaf first, for `key`; `now` by the authority's clock.
pub(super) fn verify(
    slot: &Slot,
    authority: &Authority,
    key: &Zeroizing<String>,
    chain: String,
    now: u64,
) -> Result<Issued, Failed> {
    let bad = |text: String| Failed::new(FailureKind::BadCertificate, format!("the new certificate: {text}"));
    let pair = match CertifiedPair::from_pem(chain.as_bytes(), key.as_bytes()) {
        Ok(pair) => pair,
        Err(PairError::KeyMismatch) => return Err(Failed::lost_order()),
        Err(error) => return Err(bad(error.to_string())),
    };
    // One given by URL may be anybody's, a staging service too.
    let staging = authority.is_staging() || authority.preset.is_none();
    canary::inspect(&pair, &slot.identifiers, staging, now).map_err(|error| bad(error.to_string()))?;
    Ok(Issued { pem: Pair { certificate: chain, key: key.clone() }, pair: Arc::new(pair) })
}
