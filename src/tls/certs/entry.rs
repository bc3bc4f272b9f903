//! What one site serves: its pairs in order of preference, and the rustls configuration made of them.

use std::sync::{Arc, OnceLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};

use super::{CertifiedPair, CertsError};
use crate::tls::policy::TlsCommon;

/// A site's certificates and configuration; immutable and shared by all workers.
#[derive(Debug)]
pub struct Entry {
    site: u32,
    pairs: Arc<Pairs>,
    config: Arc<ServerConfig>,
    challenge: bool,
    /// For a name on demand: filled when a client first asks for it.
    use_seen: Option<OnceLock<()>>,
}

impl Entry {
    /// For the site with this place in the model. ECDSA pairs are preferred; the others are for clients
    /// that do not verify ECDSA.
    ///
    /// # Errors
    /// [`CertsError::NoPair`] without a pair.
    pub fn new(
        site: u32,
        pairs: Vec<Arc<CertifiedPair>>,
        crypto: &TlsCommon,
    ) -> Result<Arc<Self>, CertsError> {
        Self::make(site, pairs, crypto, None)
    }

    /// For a name that no site lists, served by the site with this place.
    ///
    /// # Errors
    /// [`CertsError::Provider`] for a defect of the build.
    pub fn on_demand(
        site: u32,
        pair: Arc<CertifiedPair>,
        crypto: &TlsCommon,
    ) -> Result<Arc<Self>, CertsError> {
        Self::make(site, vec![pair], crypto, Some(OnceLock::new()))
    }

    fn make(
        site: u32,
        pairs: Vec<Arc<CertifiedPair>>,
        crypto: &TlsCommon,
        use_seen: Option<OnceLock<()>>,
    ) -> Result<Arc<Self>, CertsError> {
        let pairs = Pairs::new(pairs)?;
        let config = crypto.server_config(Arc::clone(&pairs) as _, pairs.binding())?;
        Ok(Arc::new(Self { site, pairs, config: Arc::new(config), challenge: false, use_seen }))
    }

    /// For a TLS-ALPN-01 challenge (RFC 8737 §3): speaks `acme-tls/1` alone.
    ///
    /// # Errors
    /// [`CertsError::Provider`] for a defect of the build.
    pub fn for_challenge(
        site: u32,
        pair: Arc<CertifiedPair>,
        crypto: &TlsCommon,
    ) -> Result<Arc<Self>, CertsError> {
        let pairs = Pairs::new(vec![pair])?;
        let config = crypto.challenge_config(Arc::clone(&pairs) as _)?;
        Ok(Arc::new(Self { site, pairs, config: Arc::new(config), challenge: true, use_seen: None }))
    }

    /// The configuration for this site's handshakes.
    #[must_use]
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether this is for a challenge: the handshake is all, no request may follow (RFC 8737 §3).
    #[must_use]
    pub fn is_for_challenge(&self) -> bool {
        self.challenge
    }

    /// Whether this is for a name that no site lists.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        self.use_seen.is_some()
    }

    /// A client asks for it. Of an entry on demand the first one is remembered; that is all it costs.
    pub fn note_use(&self) {
        if let Some(seen) = &self.use_seen {
            seen.get_or_init(|| ());
        }
    }

    /// Whether a client has asked for this entry on demand.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.use_seen.as_ref().is_some_and(|seen| seen.get().is_some())
    }

    /// The site's place in the model.
    #[must_use]
    pub fn site(&self) -> u32 {
        self.site
    }

    /// Whether every certificate that a client of this entry may have been shown covers the normalised
    /// host name.
    #[must_use]
    pub fn covers(&self, host: &[u8]) -> bool {
        self.pairs.0.iter().all(|pair| pair.covers_name(host))
    }

    /// The pairs, most wanted first.
    #[must_use]
    pub fn pairs(&self) -> &[Arc<CertifiedPair>] {
        &self.pairs.0
    }
}

/// Pairs, most wanted first; never empty.
#[derive(Debug)]
struct Pairs(Vec<Arc<CertifiedPair>>);

impl Pairs {
    fn new(mut pairs: Vec<Arc<CertifiedPair>>) -> Result<Arc<Self>, CertsError> {
        if pairs.is_empty() {
            return Err(CertsError::NoPair);
        }
        pairs.sort_by_key(|pair| pair.rank());
        Ok(Arc::new(Self(pairs)))
    }

    /// What tickets are bound to: the names of the site's certificates, so that they survive a renewal
    /// but open nowhere else.
    fn binding(&self) -> Vec<u8> {
        let mut names: Vec<String> =
            self.0.iter().flat_map(|pair| pair.names()).map(ToString::to_string).collect();
        names.sort_unstable();
        names.dedup();
        // Names have no NUL, so joining them cannot make two lists alike.
        names.join("\0").into_bytes()
    }
}

impl ResolvesServerCert for Pairs {
    /// The first pair whose key signs with a scheme that the client verifies. rustls has already left out
    /// schemes that do not go with the negotiated version and cipher suites.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.signature_schemes();
        let fits = |scheme: &SignatureScheme| offered.contains(scheme);
        self.0
            .iter()
            .find(|pair| pair.schemes().iter().any(fits))
            .map(|pair| Arc::clone(pair.certified_key()))
    }
}
