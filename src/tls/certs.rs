//! Certificates as the handshake uses them: a [`CertifiedPair`] read from PEM, an [`Entry`] that one site
//! serves, and the [`Store`] that finds the entry for a name. Whether a certificate is a good one (expired,
//! trusted, covering) is judged elsewhere, from the facts given here.

mod demanded;
mod entry;
mod pair;
mod store;

pub use entry::Entry;
pub use pair::{CertifiedPair, PairError};
pub use store::{Lookup, Store, StoreBuilder};

use std::fmt;

/// Why a site's handshakes cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertsError {
    /// An entry of no certificate.
    NoPair,
    /// The system gives no random bytes.
    NoRandomness,
    /// The cryptography does not support the versions that we speak: a defect of the build.
    Provider,
}

impl fmt::Display for CertsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPair => "no certificate to serve",
            Self::NoRandomness => "the system gives no random bytes",
            Self::Provider => "the cryptography library lacks TLS 1.2 or 1.3",
        })
    }
}

impl std::error::Error for CertsError {}

#[cfg(test)]
pub(in crate::tls) mod tests;
