//! What all handshakes of the process share: the cryptography, versions, groups, and ticket keys. Made
//! once; every site's rustls configuration is made from it.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certs::CertsError;
use super::tickets::{SiteTickets, TicketKeys};
use super::traffic::Capture;

#[cfg(feature = "crypto-aws-lc")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "crypto-aws-lc"))]
use rustls::crypto::ring as library;

/// Protocol name of HTTP/1.1 (RFC 7301 §6).
pub const ALPN_HTTP11: &[u8] = b"http/1.1";
/// Protocol name of HTTP/2 (RFC 9113 §3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// Protocol name of the TLS-ALPN-01 challenge (RFC 8737 §6.2).
pub const ALPN_ACME: &[u8] = b"acme-tls/1";

/// Versions spoken; older ones are gone (RFC 8996).
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Key exchange groups, most wanted first: post-quantum hybrid, then by cost.
#[cfg(feature = "crypto-aws-lc")]
const GROUPS: &[&dyn SupportedKxGroup] = &[
    library::kx_group::X25519MLKEM768,
    library::kx_group::X25519,
    library::kx_group::SECP256R1,
    library::kx_group::SECP384R1,
];
/// Key exchange groups, most wanted first; this library has no post-quantum one.
#[cfg(not(feature = "crypto-aws-lc"))]
const GROUPS: &[&dyn SupportedKxGroup] =
    &[library::kx_group::X25519, library::kx_group::SECP256R1, library::kx_group::SECP384R1];

/// The cryptography behind every handshake; AWS-LC where both features are on.
#[must_use]
pub fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: GROUPS.to_vec(), ..library::default_provider() }
}

/// What all sites' handshakes have in common.
#[derive(Debug)]
pub struct TlsCommon {
    provider: Arc<CryptoProvider>,
    tickets: Arc<TicketKeys>,
    alpn: Vec<Vec<u8>>,
}

impl TlsCommon {
    /// With fresh ticket keys. `clock` gives seconds since any fixed moment; it is read when tickets are
    /// made and opened, because rustls passes no time along.
    ///
    /// # Errors
    /// [`CertsError::NoRandomness`] if the system gives no random bytes.
    pub fn new(clock: fn() -> u64) -> Result<Self, CertsError> {
        let provider = provider();
        let tickets = TicketKeys::new(provider.secure_random, clock).ok_or(CertsError::NoRandomness)?;
        Ok(Self {
            provider: Arc::new(provider),
            tickets: Arc::new(tickets),
            alpn: vec![ALPN_HTTP11.to_vec()],
        })
    }

    /// The cryptography.
    #[must_use]
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// A site's configuration: tickets bound to `binding` by authentication, never a server-side store.
    pub(super) fn server_config(
        &self,
        resolver: Arc<dyn ResolvesServerCert>,
        binding: Vec<u8>,
    ) -> Result<ServerConfig, CertsError> {
        let mut config = self.bare_config(resolver)?;
        config.alpn_protocols.clone_from(&self.alpn);
        config.ticketer = Arc::new(SiteTickets::new(Arc::clone(&self.tickets), binding));
        // HTTP/1.1 clients open connections in pairs and more, and should not use a ticket twice
        // (RFC 8446 §C.4), so one would leave every second connection with a full handshake.
        config.send_tls13_tickets = 2;
        Ok(config)
    }

    /// A configuration for the TLS-ALPN-01 challenge: that protocol alone, no tickets (RFC 8737 §3).
    pub(super) fn challenge_config(
        &self,
        resolver: Arc<dyn ResolvesServerCert>,
    ) -> Result<ServerConfig, CertsError> {
        let mut config = self.bare_config(resolver)?;
        config.alpn_protocols = vec![ALPN_ACME.to_vec()];
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn bare_config(&self, resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, CertsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&VERSIONS)
            .map_err(|_| CertsError::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // A store would be a lock shared by all workers; tickets carry their session themselves.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Our record layer takes over after the handshake.
        config.enable_secret_extraction = true;
        // And makes the keys of later generations, of secrets that rustls tells a key log only.
        config.key_log = Arc::new(Capture);
        // Early data can be replayed (RFC 8446 §8), and requests are not ours to judge.
        config.max_early_data_size = 0;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::provider;

    #[test]
    fn groups_are_offered_in_the_order_of_the_design() {
        let groups: Vec<u16> = provider().kx_groups.iter().map(|group| group.name().into()).collect();
        let all = [0x11ec, 0x001d, 0x0017, 0x0018];
        let wanted = if cfg!(feature = "crypto-aws-lc") { &all[..] } else { &all[1..] };
        assert_eq!(groups, wanted);
    }
}
