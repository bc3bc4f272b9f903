//! The client's side of one TLS connection over buffers that the caller owns.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, version};

/// TLS 1.3, AES-128-GCM and X25519 and nothing else, so that every proxy does the same work.
pub fn config(resume: bool) -> io::Result<Arc<ClientConfig>> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![kx_group::X25519];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?;
    let verifier = Arc::new(Unverified);
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = if resume { Resumption::in_memory_sessions(4) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// What the connection can do after it has seen all input.
#[derive(PartialEq)]
pub enum State {
    Handshaking,
    Ready,
    Closed,
}

/// One connection; without a session, bytes pass as they are.
pub struct Tunnel(Option<UnbufferedClientConnection>);

impl Tunnel {
    /// A connection to `name` whose first flight comes with the first [`Tunnel::receive`].
    pub fn new(config: &Arc<ClientConfig>, name: &ServerName<'static>) -> io::Result<Self> {
        let session = UnbufferedClientConnection::new(Arc::clone(config), name.clone());
        session.map(Some).map(Self).map_err(io::Error::other)
    }

    /// A connection without TLS.
    pub fn plain() -> Self {
        Self(None)
    }

    /// Which handshake it was; none before its end.
    pub fn kind(&self) -> Option<HandshakeKind> {
        self.0.as_ref()?.handshake_kind()
    }

    /// Opens the records in `input`: gives plaintext to `take`, adds what is to be sent to `outgoing`, and
    /// says how many bytes of `input` are done with.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        outgoing: &mut Vec<u8>,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<(usize, State)> {
        let Some(session) = &mut self.0 else {
            take(input)?;
            return Ok((input.len(), State::Ready));
        };
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                session.process_tls_records(input.get_mut(used..).unwrap_or_default());
            let end = match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        take(record.payload)?;
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(outgoing, |room| {
                        data.encode(room).map_err(|error| match error {
                            EncodeError::InsufficientSize(size) => Some(size.required_size),
                            EncodeError::AlreadyEncoded => None,
                        })
                    })?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::BlockedHandshake => Some(State::Handshaking),
                ConnectionState::WriteTraffic(_) => Some(State::Ready),
                _ => Some(State::Closed),
            };
            used += discard;
            if let Some(state) = end {
                return Ok((used, state));
            }
        }
    }

    /// Adds `data`, sealed, to `outgoing`.
    pub fn send(&mut self, data: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        let Some(session) = &mut self.0 else {
            outgoing.extend_from_slice(data);
            return Ok(());
        };
        let UnbufferedStatus { state, .. } = session.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            return Err(io::Error::other("the connection cannot send"));
        };
        append(outgoing, |room| traffic.encrypt(data, room).map_err(|error| more(&error)))
    }

    /// Adds close_notify to `outgoing`.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) -> io::Result<()> {
        let Some(session) = &mut self.0 else { return Ok(()) };
        let UnbufferedStatus { state, .. } = session.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return Ok(()) };
        append(outgoing, |room| traffic.queue_close_notify(room).map_err(|error| more(&error)))
    }
}

fn more(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Lets `write` fill the end of `outgoing`; on `Err(Some(n))` it is asked again with `n` bytes of room.
fn append(
    outgoing: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<()> {
    let start = outgoing.len();
    let mut room = outgoing.capacity() - start;
    for _ in 0..2 {
        outgoing.resize(start + room, 0);
        match write(outgoing.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(Some(needed)) => room = needed,
            Err(None) => break,
        }
    }
    Err(io::Error::other("the connection cannot send"))
}

/// Takes any certificate: the peers' work is measured, not ours.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
