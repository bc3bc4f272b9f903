//! Knocking at our own door: the questions that an authority would ask, at one address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

#[cfg(feature = "crypto-aws-lc")]
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
use ring::rand::{SecureRandom, SystemRandom};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Seen;
use crate::acme::ca::base64url;
use crate::acme::keys::validation_name;
use crate::acme::slot::Identifier;
use crate::limits;
use crate::tls::provider;

/// Protocol of TLS-ALPN-01 (RFC 8737 §6.2).
const ALPN: &[u8] = b"acme-tls/1";
const USER_AGENT: &str = concat!("lockring/", env!("CARGO_PKG_VERSION"));

/// What only this process knows until it is asked.
pub(super) struct Password {
    /// A token like those of authorities.
    pub token: String,
    /// What is answered for it.
    pub key_authorization: String,
    /// The digest in the certificate of TLS-ALPN-01.
    pub digest: [u8; 32],
}

impl Password {
    /// None: the system gives no random bytes.
    pub(super) fn new() -> Option<Self> {
        let mut bytes = [[0; 32]; 3];
        for part in &mut bytes {
            SystemRandom::new().fill(part).ok()?;
        }
        let [token, answer, digest] = bytes;
        let token = format!("lockring-probe-{}", base64url::encode(&token));
        let key_authorization = format!("{token}.{}", base64url::encode(&answer));
        Some(Self { token, key_authorization, digest })
    }
}

/// Whether `ip` is an address of this machine, which the kernel would send to from itself; and whether a router
/// between translates addresses, so that it is public and what is sent to it comes from a private one.
pub(super) fn way_to(ip: IpAddr) -> (bool, bool) {
    if ip.is_loopback() {
        return (true, false);
    }
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a datagram socket sends nothing; it chooses the source address.
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.map_or((false, false), |source| {
        let source = source.ip();
        (source == ip, is_private(source) && !is_private(ip))
    })
}

/// RFC 1918, RFC 6598, RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Asks as HTTP-01 does (RFC 8555 §8.3).
pub(super) async fn http(address: SocketAddr, identifier: &Identifier, password: &Password) -> Seen {
    let host = match identifier {
        Identifier::Ip(ip @ IpAddr::V6(_)) => format!("[{ip}]"),
        other => other.to_string(),
    };
    let request = format!(
        "GET /.well-known/acme-challenge/{} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n",
        password.token
    );
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        read(&mut stream, password.key_authorization.as_bytes()).await
    };
    match timeout(limits::PREFLIGHT_PROBE, ask).await {
        Err(_) => Seen::Silent("no answer in time".to_owned()),
        Ok(Err(error)) => failed(&error),
        Ok(Ok(answer)) => read_answer(&answer, password.key_authorization.as_bytes()),
    }
}

/// The answer until it has what is looked for, ends, or is too long for what it should be.
async fn read(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = match stream.read(&mut piece).await {
            Ok(count) => count,
            // A reset after an answer takes nothing from it.
            Err(_) if !answer.is_empty() => 0,
            Err(error) => return Err(error),
        };
        answer.extend(piece.iter().take(count));
        if count == 0 || answer.len() > limits::PREFLIGHT_ANSWER_BYTES || has(&answer, wanted) {
            return Ok(answer);
        }
    }
}

fn has(answer: &[u8], wanted: &[u8]) -> bool {
    answer.windows(wanted.len()).any(|window| window == wanted)
}

/// Who sent an HTTP answer.
pub(super) fn read_answer(answer: &[u8], wanted: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|_| is_http);
    let Some(status) = status else {
        let what = if answer.is_empty() { "the connection was closed" } else { "it does not speak HTTP" };
        return if answer.is_empty() { Seen::Silent(what.to_owned()) } else { Seen::Other(what.to_owned()) };
    };
    if status == 200 && has(answer, wanted) {
        return Seen::Ourselves;
    }
    let location = lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case("location").then(|| value.trim())
    });
    match location {
        Some(location) if (300..400).contains(&status) => Seen::Redirect(shown(location)),
        _ => Seen::Other(format!("status {status}")),
    }
}

/// Asks as TLS-ALPN-01 does (RFC 8737 §3): a handshake whose certificate has to be `leaf`.
pub(super) async fn tls(address: SocketAddr, identifier: &Identifier, leaf: CertificateDer<'static>) -> Seen {
    let set_up = || {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
        let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).ok()?.dangerous();
        let ours = Arc::new(Ours {
            leaf,
            schemes: provider().signature_verification_algorithms.supported_schemes(),
        });
        let mut config = builder.with_custom_certificate_verifier(ours).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Some((config, ServerName::try_from(validation_name(identifier)).ok()?))
    };
    let Some((config, name)) = set_up() else {
        return Seen::Silent("TLS cannot be set up".to_owned());
    };
    let ask = async {
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map(|_| ()).map_err(|error| refused(&error))
    };
    match timeout(limits::PREFLIGHT_PROBE, ask).await {
        Err(_) => Seen::Silent("no answer in time".to_owned()),
        Ok(Err(seen)) => seen,
        Ok(Ok(())) => Seen::Ourselves,
    }
}

fn failed(error: &io::Error) -> Seen {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Seen::Refused,
        _ => Seen::Silent(error.to_string()),
    }
}

/// A handshake that failed: rustls' errors travel in those of the socket.
fn refused(error: &io::Error) -> Seen {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            Seen::Other("another certificate".to_owned())
        }
        Some(inner) => Seen::Other(inner.to_string()),
        None => failed(error),
    }
}

/// Takes one certificate alone. It is random, so whoever shows it has it from this process; its signatures are
/// not looked at, since the critical extension of RFC 8737 §3 makes verifiers refuse it.
#[derive(Debug)]
struct Ours {
    leaf: CertificateDer<'static>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Ours {
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
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A stranger's text, for people.
fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().flat_map(char::escape_debug).take(LONGEST).collect()
}
