//! Private keys of certificates, requests to sign them, and the certificate that answers TLS-ALPN-01.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SanType,
};
use zeroize::Zeroizing;

use super::slot::Identifier;
use crate::config::model::KeyKind;
use crate::limits;
use crate::tls::certs::{CertifiedPair, PairError};

/// Why there is no key, request or certificate.
#[derive(Debug)]
pub enum KeyError {
    /// The cryptography library or the encoder refused.
    Make(rcgen::Error),
    /// What was made cannot be used for handshakes.
    Pair(PairError),
    /// A name that is not ASCII.
    Name(Identifier),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make(error) => write!(f, "cannot make a key or request: {error}"),
            Self::Pair(error) => write!(f, "cannot use a challenge certificate: {error}"),
            Self::Name(identifier) => write!(f, "{:?} cannot stand in a certificate", identifier.to_string()),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<rcgen::Error> for KeyError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

/// A new private key in PEM (PKCS #8).
///
/// # Errors
/// The system gives no random bytes.
pub fn new_key(kind: KeyKind) -> Result<Zeroizing<String>, KeyError> {
    let algorithm = match kind {
        KeyKind::P256 => &PKCS_ECDSA_P256_SHA256,
        KeyKind::P384 => &PKCS_ECDSA_P384_SHA384,
    };
    Ok(Zeroizing::new(KeyPair::generate_for(algorithm)?.serialize_pem()))
}

/// A request (PKCS #10, RFC 2986) in DER for a certificate of `identifiers` and the key in `key` (PEM). The
/// names are alternative names only; there is no common name, which holds 64 bytes at most.
///
/// # Errors
/// The key is none, or a name cannot stand in a certificate.
pub fn request(key: &str, identifiers: &[Identifier]) -> Result<Vec<u8>, KeyError> {
    let key = KeyPair::from_pem(key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = identifiers.iter().map(alternative_name).collect::<Result<_, _>>()?;
    Ok(params.serialize_request(&key)?.der().to_vec())
}

/// The pair that answers TLS-ALPN-01 (RFC 8737 §3) for `identifier`: self-signed, exactly one name, and the
/// digest (SHA-256) of the key authorization in a critical extension. `now_unix` in seconds.
///
/// # Errors
/// The system gives no random bytes, or the name cannot stand in a certificate.
pub fn challenge_pair(
    identifier: &Identifier,
    digest: &[u8; 32],
    now_unix: u64,
) -> Result<Arc<CertifiedPair>, KeyError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![alternative_name(identifier)?];
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    // Dated back by its life, for a clock that is ahead; up to its life ahead, for one that is behind.
    let life = limits::ACME_CHALLENGE_LIFE;
    let now = Duration::from_secs(now_unix);
    params.not_before = epoch + now.saturating_sub(life);
    params.not_after = epoch + now + life;
    let certificate = params.self_signed(&key)?.pem();
    let key = Zeroizing::new(key.serialize_pem());
    let pair =
        CertifiedPair::for_challenge(certificate.as_bytes(), key.as_bytes()).map_err(KeyError::Pair)?;
    Ok(Arc::new(pair))
}

/// The server name that a validator of TLS-ALPN-01 asks for: the name, or an address's name in the reverse
/// tree (RFC 8738 §6), without a final dot.
#[must_use]
pub fn validation_name(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Identifier::Ip(IpAddr::V6(address)) => {
            let mut name = String::with_capacity(72);
            for octet in address.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
            name + "ip6.arpa"
        }
    }
}

fn alternative_name(identifier: &Identifier) -> Result<SanType, KeyError> {
    match identifier {
        Identifier::Dns(name) => Ia5String::try_from(name.as_str())
            .map(SanType::DnsName)
            .map_err(|_| KeyError::Name(identifier.clone())),
        Identifier::Ip(address) => Ok(SanType::IpAddress(*address)),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequestParams;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn dns(name: &str) -> Identifier {
        Identifier::Dns(name.to_owned())
    }

    #[test]
    fn requests_hold_names_and_no_subject() {
        for kind in [KeyKind::P256, KeyKind::P384] {
            let key = new_key(kind).unwrap();
            let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| Identifier::Ip(text.parse().unwrap()));
            let wanted = [vec![dns("a.example"), dns("*.a.example")], addresses.to_vec()].concat();
            let request = request(&key, &wanted).unwrap();
            let read = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
            let expected: Vec<SanType> = wanted.iter().map(|name| alternative_name(name).unwrap()).collect();
            assert_eq!(read.params.subject_alt_names, expected);
            assert_eq!(read.params.distinguished_name, DistinguishedName::new());
        }
        assert_ne!(*new_key(KeyKind::P256).unwrap(), *new_key(KeyKind::P256).unwrap());
        let key = new_key(KeyKind::P256).unwrap();
        assert!(matches!(request(&key, &[dns("ü.example")]), Err(KeyError::Name(_))));
        assert!(request("no key", &[dns("a.example")]).is_err());
    }

    #[test]
    fn challenge_certificates_have_one_name_and_the_digest() {
        const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";
        let now = 1_790_000_000;
        for identifier in [dns("a.example"), Identifier::Ip("2001:db8::1".parse().unwrap())] {
            let pair = challenge_pair(&identifier, &[7; 32], now).unwrap();
            let der = pair.certified_key().cert.first().unwrap().clone();
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            let names = certificate.subject_alternative_name().unwrap().unwrap().value;
            assert_eq!(names.general_names.len(), 1);
            assert_eq!(pair.names()[0].to_string(), identifier.to_string());
            let extension = certificate
                .extensions()
                .iter()
                .find(|one| one.oid.to_id_string() == ACME_IDENTIFIER)
                .unwrap();
            assert!(extension.critical);
            assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
            assert!(pair.is_ecdsa());
            let other = new_key(KeyKind::P256).unwrap();
            let pem = pem_of(&der);
            assert!(CertifiedPair::for_challenge(pem.as_bytes(), other.as_bytes()).is_err());
            let life = limits::ACME_CHALLENGE_LIFE.as_secs();
            assert_eq!((pair.not_before(), pair.not_after()), (now - life, now + life));
        }
    }

    fn pem_of(der: &[u8]) -> String {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
        let text = crate::acme::ca::base64url::encode(der).replace('-', "+").replace('_', "/");
        let padding = "=".repeat((4 - text.len() % 4) % 4);
        format!("{BEGIN}{text}{padding}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn validators_ask_for_reverse_names() {
        assert_eq!(validation_name(&dns("a.example")), "a.example");
        assert_eq!(validation_name(&Identifier::Ip("127.0.0.1".parse().unwrap())), "1.0.0.127.in-addr.arpa");
        assert_eq!(
            validation_name(&Identifier::Ip("2001:db8::1".parse().unwrap())),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
