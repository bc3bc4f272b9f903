//! A certificate chain with its private key, read from PEM, and the facts that others judge it by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::config::model::HostPattern;
use crate::tls::provider;
use crate::tls::server_name::{self, ServerName};

/// A chain, leaf first, its key, and the leaf's facts.
#[derive(Debug)]
pub struct CertifiedPair {
    key: Arc<CertifiedKey>,
    schemes: Vec<SignatureScheme>,
    names: Vec<HostPattern>,
    not_before: u64,
    not_after: u64,
    serial: String,
    issuer: String,
}

/// Why PEM texts are not a usable pair. The caller knows the files and says which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairError {
    /// The chain text has no certificate.
    NoCertificate,
    /// A PEM section or a certificate in it cannot be read; the parser's words.
    BadCertificate(String),
    /// The key text has no private key.
    NoKey,
    /// The key text has a damaged section, or a key of a kind or size that cannot sign for TLS.
    BadKey,
    /// The private key needs a passphrase.
    EncryptedKey,
    /// The key belongs to another certificate than the first of the chain.
    KeyMismatch,
    /// The key belongs to a later certificate of the chain: the chain is in the wrong order.
    ChainOrder,
}

impl PairError {
    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoCertificate => {
                "give a PEM file with `-----BEGIN CERTIFICATE-----`: the site's certificate first, then intermediates"
            }
            Self::BadCertificate(_) => {
                "copy the file again, or convert DER: openssl x509 -inform der -in FILE"
            }
            Self::NoKey => {
                "give the PEM text with `-----BEGIN PRIVATE KEY-----` that belongs to the certificate"
            }
            Self::BadKey => {
                "use an ECDSA P-256 or P-384, Ed25519 or RSA (2048 bits and more) key in PEM form"
            }
            Self::EncryptedKey => {
                "remove the passphrase: openssl pkey -in FILE -out NEW, and keep NEW at mode 0600"
            }
            Self::KeyMismatch => {
                "give the key that this certificate was requested with, or request a new certificate"
            }
            Self::ChainOrder => "put the site's own certificate first in the file, then its intermediates",
        }
    }
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate in the certificate file"),
            Self::BadCertificate(detail) => write!(f, "the certificate cannot be read: {detail}"),
            Self::NoKey => f.write_str("no private key where the key should be"),
            Self::BadKey => f.write_str("the private key cannot be used"),
            Self::EncryptedKey => f.write_str("the private key is encrypted"),
            Self::KeyMismatch => f.write_str("the private key does not belong to the certificate"),
            Self::ChainOrder => {
                f.write_str("the first certificate is not the one the private key belongs to")
            }
        }
    }
}

impl std::error::Error for PairError {}

impl CertifiedPair {
    /// Reads a chain (leaf first) and its private key (PKCS #8, PKCS #1 or SEC 1), both PEM, which may be
    /// the same text.
    ///
    /// # Errors
    /// What is wrong with either, or that they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        Self::read(chain, key, CertifiedKey::keys_match)
    }

    /// [`Self::from_pem`] for the pair of a TLS-ALPN-01 challenge. Its critical extension (RFC 8737 §3) is
    /// one that rustls, looking as a client would, refuses.
    ///
    /// # Errors
    /// What is wrong with either, or that they do not belong together.
    pub fn for_challenge(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        Self::read(chain, key, |certified| {
            let key = certified.key.public_key();
            let parsed = certified.end_entity_cert().ok().and_then(|leaf| parse(leaf).ok());
            match key.zip(parsed) {
                Some((key, leaf)) if key.as_ref() == leaf.public_key().raw => Ok(()),
                _ => Err(rustls::InconsistentKeys::KeyMismatch.into()),
            }
        })
    }

    fn read(
        chain: &[u8],
        key: &[u8],
        keys_match: impl Fn(&CertifiedKey) -> Result<(), rustls::Error>,
    ) -> Result<Self, PairError> {
        let provider = provider();
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PairError::BadCertificate(error.to_string()))?;
        let Some(leaf) = chain.first() else { return Err(PairError::NoCertificate) };
        let facts = Facts::read(leaf)?;
        for certificate in chain.iter().skip(1) {
            parse(certificate)?;
        }
        let signing = signing_key(key, &provider)?;
        let certified = CertifiedKey::new(chain, Arc::clone(&signing));
        match keys_match(&certified) {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(mismatch(&certified)),
            Err(error) => return Err(PairError::BadCertificate(error.to_string())),
        }
        let schemes =
            SCHEMES.into_iter().filter(|scheme| signing.choose_scheme(&[*scheme]).is_some()).collect();
        let Facts { names, not_before, not_after, serial, issuer } = facts;
        Ok(Self { key: Arc::new(certified), schemes, names, not_before, not_after, serial, issuer })
    }

    /// Whether clients that ask for `host` accept this certificate's names. A wildcard is covered by the
    /// same wildcard only.
    #[must_use]
    pub fn covers(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Exact(name) => self.covers_name(name.as_bytes()),
            HostPattern::Wildcard(_) | HostPattern::Ip(_) => self.names.contains(host),
        }
    }

    /// [`Self::covers`] for a normalised host name.
    pub(super) fn covers_name(&self, host: &[u8]) -> bool {
        let parent = parent_of(host);
        let ip = || std::str::from_utf8(host).ok()?.parse::<std::net::IpAddr>().ok();
        self.names.iter().any(|name| match name {
            HostPattern::Exact(name) => name.as_bytes() == host,
            HostPattern::Wildcard(name) => Some(name.as_bytes()) == parent,
            HostPattern::Ip(of_certificate) => ip() == Some(*of_certificate),
        })
    }

    /// Start of validity, Unix seconds.
    #[must_use]
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Last moment of validity, Unix seconds.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// The subject alternative names that can be served; the subject's common name counts for nothing
    /// (RFC 9525 §6.4.4).
    #[must_use]
    pub fn names(&self) -> &[HostPattern] {
        &self.names
    }

    /// Whether the key is an ECDSA one.
    #[must_use]
    pub fn is_ecdsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::ECDSA
    }

    /// Chain and key as rustls takes them.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The serial number, lower-case hexadecimal without leading zero bytes.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        self.serial.clone()
    }

    /// The issuer's distinguished name, for people.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The schemes that the key can sign with.
    pub(in crate::tls) fn schemes(&self) -> &[SignatureScheme] {
        &self.schemes
    }

    /// Place in the order of preference: the cheapest signature first.
    pub(super) fn rank(&self) -> u8 {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        }
    }
}

/// The name after the first label, which a wildcard certificate must name (RFC 9525 §6.3).
pub(super) fn parent_of(host: &[u8]) -> Option<&[u8]> {
    let dot = host.iter().position(|byte| *byte == b'.')?;
    host.get(dot + 1..).filter(|parent| dot > 0 && !parent.is_empty())
}

/// Every scheme a server key may sign with in TLS 1.2 or 1.3 (RFC 8446 §4.2.3), SHA-1 left out.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

fn signing_key(pem: &[u8], provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, PairError> {
    // `ENCRYPTED PRIVATE KEY` (RFC 7468 §11) and OpenSSL's older `Proc-Type: 4,ENCRYPTED`.
    if pem.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(PairError::EncryptedKey);
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => PairError::NoKey,
        _ => PairError::BadKey,
    })?;
    provider.key_provider.load_private_key(key).map_err(|_| PairError::BadKey)
}

/// Tells a foreign key from a chain in the wrong order, which is the commoner mistake.
fn mismatch(certified: &CertifiedKey) -> PairError {
    let belongs = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
    };
    if certified.cert.iter().skip(1).any(belongs) { PairError::ChainOrder } else { PairError::KeyMismatch }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PairError> {
    match X509Certificate::from_der(certificate.as_ref()) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(PairError::BadCertificate("bytes after the certificate".to_owned())),
        Err(error) => Err(PairError::BadCertificate(error.to_string())),
    }
}

struct Facts {
    names: Vec<HostPattern>,
    not_before: u64,
    not_after: u64,
    serial: String,
    issuer: String,
}

impl Facts {
    fn read(leaf: &CertificateDer<'_>) -> Result<Self, PairError> {
        let leaf = parse(leaf)?;
        let bad = |error: x509_parser::error::X509Error| PairError::BadCertificate(error.to_string());
        let alternatives = leaf.subject_alternative_name().map_err(bad)?;
        let mut names = Vec::new();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            if let Some(name) = pattern(name).filter(|name| !names.contains(name)) {
                names.push(name);
            }
        }
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Ok(Self {
            names,
            not_before: seconds(leaf.validity().not_before),
            not_after: seconds(leaf.validity().not_after),
            serial: hex(leaf.raw_serial()),
            issuer: leaf.issuer().to_string(),
        })
    }
}

/// A subject alternative name as a pattern. Names that no host can have (with a NUL, or a `*` that is not
/// the whole first label) cover nothing and are left out; none is ever cut short.
fn pattern(name: &GeneralName<'_>) -> Option<HostPattern> {
    match name {
        GeneralName::DNSName(name) => match name.strip_prefix("*.") {
            Some(parent) => normal(parent).map(HostPattern::Wildcard),
            None => normal(name).map(HostPattern::Exact),
        },
        GeneralName::IPAddress(bytes) => ip(bytes).map(HostPattern::Ip),
        _ => None,
    }
}

fn normal(name: &str) -> Option<String> {
    let mut normal = ServerName::new();
    server_name::normalise(name.as_bytes(), &mut normal).ok()?;
    str::from_utf8(normal.as_bytes()).ok().map(str::to_owned)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    bytes.iter().skip(start).fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
