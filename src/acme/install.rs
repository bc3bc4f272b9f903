//! What the acme thread asks of whoever holds the certificates in service. A call returns when workers see
//! the change at their next connection; none of them waits for it.

use std::sync::Arc;

use super::slot::{Identifier, Slot};
use crate::tls::certs::CertifiedPair;

/// Puts certificates and answers of challenges into service.
pub trait Install: Send + Sync {
    /// Serves `pair` to the clients of the slot's sites from now on. It has passed the canary: see there.
    ///
    /// # Errors
    /// A text that says why it cannot be served; then the pair before it stays.
    fn install(&self, slot: &Slot, pair: Arc<CertifiedPair>) -> Result<(), String>;

    /// Whether a client has asked for the certificate of a slot on demand since it is in service.
    fn is_in_use(&self, slot: &Slot) -> bool {
        let _ = slot;
        false
    }

    /// Withdraws what `slot` serves: its clients are refused until there is another one.
    fn withdraw(&self, slot: &Slot);

    /// Answers HTTP-01 (RFC 8555 §8.3) for `token` on every plain listener, whatever the host.
    fn answer_http(&self, token: &str, key_authorization: &str);

    /// Answers TLS-ALPN-01 (RFC 8737) for `identifier` with a pair made for that.
    fn answer_tls(&self, identifier: &Identifier, pair: Arc<CertifiedPair>);

    /// No longer answers HTTP-01 for `token`; nothing happens if it never did.
    fn forget_http(&self, token: &str);

    /// No longer answers TLS-ALPN-01 for `identifier`; nothing happens if it never did.
    fn forget_tls(&self, identifier: &Identifier);
}
