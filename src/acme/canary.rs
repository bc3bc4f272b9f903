//! The last look at a certificate before it goes into service: an authority's answer is believed in
//! nothing. A pair that fails here is never served.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::slot::Identifier;
use crate::config::model::HostPattern;
use crate::tls::certs::CertifiedPair;
use crate::tls::provider;

/// How far ahead of ours the authority's clock may be, in seconds.
const CLOCK_TOLERANCE: u64 = 300;
/// Flights of a handshake: TLS 1.2 takes four, TLS 1.3 three, and one to see that nothing is left.
const FLIGHTS: u32 = 8;
/// What Let's Encrypt's staging issuers have in their name.
const STAGING: &str = "(STAGING)";

/// Why a certificate must not go into service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryError {
    /// It does not cover a name that was asked for.
    Uncovered(Identifier),
    /// It begins in more than five minutes, at this moment (unix seconds): our clock may be behind.
    NotYetValid(u64),
    /// It ended at this moment (unix seconds): our clock may be ahead.
    Expired(u64),
    /// The certificate at this place of the chain cannot be read; 0 is the leaf.
    Unreadable(usize),
    /// The certificate at this place is not issued by the one after it.
    BrokenChain(usize),
    /// A staging service issued it, and none was asked.
    Staging(String),
    /// The private key does not belong to it.
    KeyMismatch,
    /// No handshake can be made with it.
    Handshake(&'static str, String),
}

impl fmt::Display for CanaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered(identifier) => write!(f, "the certificate does not cover {identifier}"),
            Self::NotYetValid(at) => write!(f, "the certificate is not valid before {at} (unix time)"),
            Self::Expired(at) => write!(f, "the certificate expired at {at} (unix time)"),
            Self::Unreadable(place) => write!(f, "certificate {place} of the chain cannot be read"),
            Self::BrokenChain(place) => {
                write!(f, "certificate {place} of the chain is not issued by the one after it")
            }
            Self::Staging(issuer) => write!(f, "a staging service issued the certificate: {issuer}"),
            Self::KeyMismatch => f.write_str("the private key does not belong to the certificate"),
            Self::Handshake(version, cause) => {
                write!(f, "no {version} handshake with the certificate: {cause}")
            }
        }
    }
}

impl std::error::Error for CanaryError {}

/// Whether `pair`, got for the names `wanted`, can go into service at `now` (unix seconds). `staging`:
/// whether it was asked of a staging service. Signatures of the chain are not verified: which roots clients
/// trust is not known here.
///
/// # Errors
/// The first reason why not.
pub fn inspect(
    pair: &CertifiedPair,
    wanted: &[Identifier],
    staging: bool,
    now: u64,
) -> Result<(), CanaryError> {
    if let Some(missing) = wanted.iter().find(|identifier| !pair.covers(&host(identifier))) {
        return Err(CanaryError::Uncovered(missing.clone()));
    }
    if pair.not_before() > now.saturating_add(CLOCK_TOLERANCE) {
        return Err(CanaryError::NotYetValid(pair.not_before()));
    }
    if pair.not_after() <= now {
        return Err(CanaryError::Expired(pair.not_after()));
    }
    chain(&pair.certified_key().cert, staging)?;
    pair.certified_key().keys_match().map_err(|_| CanaryError::KeyMismatch)?;
    for (version, name) in [(&rustls::version::TLS12, "TLS 1.2"), (&rustls::version::TLS13, "TLS 1.3")] {
        shake(pair, wanted.first(), version).map_err(|cause| CanaryError::Handshake(name, cause))?;
    }
    Ok(())
}

fn host(identifier: &Identifier) -> HostPattern {
    match identifier {
        Identifier::Ip(ip) => HostPattern::Ip(*ip),
        Identifier::Dns(name) => match name.strip_prefix("*.") {
            Some(parent) => HostPattern::Wildcard(parent.to_owned()),
            None => HostPattern::Exact(name.clone()),
        },
    }
}

fn chain(chain: &[CertificateDer<'_>], staging: bool) -> Result<(), CanaryError> {
    let mut issuer: Option<Vec<u8>> = None;
    for (place, der) in chain.iter().enumerate() {
        let Ok((rest, certificate)) = X509Certificate::from_der(der) else {
            return Err(CanaryError::Unreadable(place));
        };
        if !rest.is_empty() {
            return Err(CanaryError::Unreadable(place));
        }
        if issuer.is_some_and(|issuer| issuer != certificate.subject().as_raw()) {
            return Err(CanaryError::BrokenChain(place.saturating_sub(1)));
        }
        issuer = Some(certificate.issuer().as_raw().to_vec());
        let name = certificate.issuer().to_string();
        if !staging && name.contains(STAGING) {
            return Err(CanaryError::Staging(name));
        }
    }
    Ok(())
}

/// A whole handshake in memory, between a server that has the pair and a client that takes it alone.
fn shake(
    pair: &CertifiedPair,
    name: Option<&Identifier>,
    version: &'static SupportedProtocolVersion,
) -> Result<(), String> {
    let provider = Arc::new(provider());
    let key = Arc::clone(pair.certified_key());
    let leaf = key.cert.first().ok_or("no certificate")?.clone().into_owned();
    let text = |error: rustls::Error| error.to_string();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .map_err(text)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { leaf, provider }))
        .with_no_client_auth();
    let mut server = ServerConnection::new(Arc::new(server)).map_err(text)?;
    let mut client = ClientConnection::new(Arc::new(client), server_name(name)?).map_err(text)?;
    for _ in 0..FLIGHTS {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).map_err(|error| error.to_string())?;
        }
        let mut sent = Cursor::new(flight);
        while server.read_tls(&mut sent).is_ok_and(|length| length > 0) {
            server.process_new_packets().map_err(text)?;
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).map_err(|error| error.to_string())?;
        }
        let mut sent = Cursor::new(flight);
        while client.read_tls(&mut sent).is_ok_and(|length| length > 0) {
            client.process_new_packets().map_err(text)?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err("it does not end".to_owned())
}

/// The name that the client asks for; some host for a wildcard.
fn server_name(identifier: Option<&Identifier>) -> Result<ServerName<'static>, String> {
    let name = match identifier {
        Some(Identifier::Ip(ip)) => return Ok(ServerName::IpAddress((*ip).into())),
        Some(Identifier::Dns(name)) => name.replacen('*', "canary", 1),
        None => "localhost".to_owned(),
    };
    ServerName::try_from(name).map_err(|error| error.to_string())
}

/// Takes one certificate and no other; that the server has its key is verified as ever.
#[derive(Debug)]
struct Pinned {
    leaf: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.leaf {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::{CanaryError, inspect};
    use crate::acme::slot::Identifier;
    use crate::tls::certs::CertifiedPair;

    /// Between the dates of the certificates made here.
    const NOW: u64 = 1_500_000_000;
    const BEGIN: u64 = 1_400_025_600;
    const END: u64 = 1_600_041_600;

    fn params(subject: &str, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2014, 5, 14);
        params.not_after = date_time_ymd(2020, 9, 14);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params
    }

    /// A CA's issuer and its certificate in PEM.
    fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    fn pair(
        kind: &'static rcgen::SignatureAlgorithm,
        issuer: &str,
        next: &str,
        names: &[&str],
    ) -> CertifiedPair {
        let (signer, mut issuer_pem) = authority(issuer);
        if next != issuer {
            issuer_pem = authority(next).1;
        }
        let key = KeyPair::generate_for(kind).unwrap();
        let leaf = params("leaf", names).signed_by(&key, &signer).unwrap().pem();
        let chain = leaf + &issuer_pem;
        CertifiedPair::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn dns(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|name| Identifier::Dns((*name).to_owned())).collect()
    }

    #[test]
    fn a_good_pair_of_every_kind_shakes_hands() {
        let names = ["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"];
        let mut wanted = dns(&["*.b.example", "a.example"]);
        wanted.extend([Identifier::Ip("192.0.2.1".parse().unwrap())]);
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let pair = pair(kind, "CA", "CA", &names);
            assert_eq!(inspect(&pair, &wanted, false, NOW), Ok(()));
            assert_eq!(inspect(&pair, &[Identifier::Ip("2001:db8::1".parse().unwrap())], false, NOW), Ok(()));
        }
    }

    #[test]
    fn names_and_dates_are_judged() {
        let pair = pair(&rcgen::PKCS_ECDSA_P256_SHA256, "CA", "CA", &["a.example"]);
        let at = |now| inspect(&pair, &dns(&["a.example"]), false, now);
        assert_eq!(at(BEGIN - 300), Ok(()));
        assert_eq!(at(BEGIN - 301), Err(CanaryError::NotYetValid(BEGIN)));
        assert_eq!(at(END - 1), Ok(()));
        assert_eq!(at(END), Err(CanaryError::Expired(END)));
        for missing in ["b.example", "*.example", "x.a.example"] {
            let wanted = dns(&["a.example", missing]);
            let error = inspect(&pair, &wanted, false, NOW).unwrap_err();
            assert_eq!(error, CanaryError::Uncovered(wanted[1].clone()));
            assert!(error.to_string().contains(missing));
        }
    }

    #[test]
    fn a_chain_of_strangers_and_a_staging_issuer_are_refused() {
        let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
        let strangers = pair(kind, "CA", "Other CA", &["a.example"]);
        let wanted = dns(&["a.example"]);
        assert_eq!(inspect(&strangers, &wanted, false, NOW), Err(CanaryError::BrokenChain(0)));
        let staging = pair(kind, "(STAGING) Dubious Durian", "(STAGING) Dubious Durian", &["a.example"]);
        assert!(matches!(inspect(&staging, &wanted, false, NOW), Err(CanaryError::Staging(_))));
        assert_eq!(inspect(&staging, &wanted, true, NOW), Ok(()));
    }
}
