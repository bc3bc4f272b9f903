//! TLS towards an upstream: the same verbs as [`super::session`], with our side as the client.

use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::record::{OwnRecords, Records, Schedule};
use super::session::{Facts, Feed, HandshakeStep, SessionError};

/// Sessions remembered for resumption by one configuration: a few per upstream name.
const REMEMBERED_SESSIONS: usize = 256;

/// A configuration for connections to upstreams: certificates verified against `roots`, TLS 1.2 and
/// 1.3, ALPN `http/1.1`, resumption, and keys that [`Records`] may take over.
///
/// # Errors
/// [`SessionError::Refused`] when the provider has no suites for these versions (FIPS builds).
pub fn client_config(roots: RootCertStore) -> Result<ClientConfig, SessionError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(SessionError::Refused)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
    Ok(config)
}

/// The provider chosen by cargo feature.
#[cfg(feature = "crypto-aws-lc")]
pub(super) fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The provider chosen by cargo feature.
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
pub(super) fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// A client's handshake in progress. The first call of `receive`, with an empty input, gives the
/// ClientHello.
pub struct ClientHandshake {
    connection: UnbufferedClientConnection,
    feed: Feed,
}

impl ClientHandshake {
    /// A handshake with the server `name`, which its certificate must cover. `config` must have
    /// `enable_secret_extraction` and no early data.
    ///
    /// # Errors
    /// [`SessionError::Refused`] for a configuration that rustls cannot use.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, SessionError> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(SessionError::Refused)?;
        Ok(Self { connection, feed: Feed::default() })
    }

    /// Consumes handshake records from the front of `input`, which is decrypted in place, and appends
    /// what must be sent to `out`. A certificate chain may be spread over records of up to 64 KiB in
    /// all; nothing of it is used before it is whole, so the input must have room for it.
    ///
    /// # Errors
    /// A [`SessionError`], which is final; the alert for the peer, if there can be one, is in `out`.
    pub fn receive(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<HandshakeStep, SessionError> {
        self.feed.receive(&mut self.connection, input, out)
    }

    /// Hands the keys over. Everything in `out` must be sent before what [`Records`] seals.
    ///
    /// # Errors
    /// [`SessionError::NotDone`] before `receive` said so, [`SessionError::Records`].
    pub fn finish(self) -> Result<(Records, Facts), SessionError> {
        self.finish_own().map(|(records, facts)| (records.into(), facts))
    }

    pub(super) fn finish_own(self) -> Result<(OwnRecords, Facts), SessionError> {
        let facts = Facts::of(&self.connection);
        let (secrets, kernel) =
            self.connection.dangerous_into_kernel_connection().map_err(|_| SessionError::NotDone)?;
        let schedule = if facts.tls13 { Schedule::Client(Box::new(kernel)) } else { Schedule::Tls12 };
        Ok((OwnRecords::new(&secrets, schedule).map_err(SessionError::Records)?, facts))
    }
}
