//! Which site a ClientHello gets, or why none, before any session exists. Only what a refusal needs is
//! compared here; the handshake itself negotiates.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::alert;
use super::certs::{Entry, Lookup, Store};
use super::client_hello::ClientHello;
use super::policy::{ALPN_ACME, ALPN_H2, ALPN_HTTP11};
use super::server_name::{self, ServerName};

/// The application protocol that the handshake will agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1`.
    Http11,
    /// `h2`.
    H2,
    /// `acme-tls/1`: a CA validates; no request follows.
    AcmeTls1,
    /// The client sent no list: HTTP/1.1 without saying so.
    None,
}

/// Why a hello gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No server name, and no default for that.
    NoServerName,
    /// A server name that no site has.
    UnknownServerName,
    /// The site's certificate is not there yet.
    CertificateNotReady,
    /// No site lists the name, and it may have a certificate on demand: whoever can waits for that.
    OnDemand,
    /// A challenge was asked for that is not pending.
    NoChallenge,
    /// The client's application protocols are none of ours (RFC 7301 §3.2).
    NoProtocolInCommon,
    /// Neither TLS 1.2 nor TLS 1.3 is offered.
    NoVersionInCommon,
    /// The client verifies no signature that the site's keys make.
    NoSignatureInCommon,
}

impl Refusal {
    /// The fatal alert to send.
    #[must_use]
    pub fn alert(self) -> u8 {
        match self {
            Self::NoServerName | Self::UnknownServerName | Self::CertificateNotReady | Self::OnDemand => {
                alert::UNRECOGNIZED_NAME
            }
            Self::NoChallenge | Self::NoProtocolInCommon => alert::NO_APPLICATION_PROTOCOL,
            Self::NoVersionInCommon => alert::PROTOCOL_VERSION,
            Self::NoSignatureInCommon => alert::HANDSHAKE_FAILURE,
        }
    }

    /// A fixed word for logs and counters.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoServerName => "no-server-name",
            Self::UnknownServerName => "unknown-server-name",
            Self::CertificateNotReady => "certificate-not-ready",
            Self::OnDemand => "on-demand",
            Self::NoChallenge => "no-challenge",
            Self::NoProtocolInCommon => "no-protocol-in-common",
            Self::NoVersionInCommon => "no-version-in-common",
            Self::NoSignatureInCommon => "no-signature-in-common",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

/// What a hello gets.
#[derive(Clone, Debug)]
pub struct Chosen<'s> {
    /// The site's entry, with the configuration for the handshake.
    pub entry: &'s Arc<Entry>,
    /// The application protocol.
    pub alpn: Alpn,
    /// The normalised name asked for; empty if none was.
    pub server_name: ServerName,
}

/// The entry for a hello that came in on the `local` address. No allocation.
///
/// # Errors
/// The first of: version, name, certificate, protocol, signature that does not fit.
pub fn choose<'s>(store: &'s Store, hello: &ClientHello<'_>, local: IpAddr) -> Result<Chosen<'s>, Refusal> {
    if !hello.offers_tls13() && !hello.offers_tls12() {
        return Err(Refusal::NoVersionInCommon);
    }
    let mut server_name = ServerName::new();
    let named = match hello.server_name() {
        None => None,
        Some(name) => {
            server_name::normalise(name, &mut server_name).map_err(|_| Refusal::UnknownServerName)?;
            Some(server_name.as_bytes())
        }
    };
    let entry = if asks_for_challenge(hello) {
        named.and_then(|name| store.find_challenge(name)).ok_or(Refusal::NoChallenge)?
    } else {
        match store.find(named, local) {
            Lookup::Found(entry) => entry,
            Lookup::NoName => return Err(Refusal::NoServerName),
            Lookup::Unknown => return Err(Refusal::UnknownServerName),
            Lookup::NotReady => return Err(Refusal::CertificateNotReady),
            Lookup::OnDemand => return Err(Refusal::OnDemand),
        }
    };
    let alpn = protocol(hello, entry)?;
    if !has_signature(hello, entry) {
        return Err(Refusal::NoSignatureInCommon);
    }
    Ok(Chosen { entry, alpn, server_name })
}

/// RFC 8737 §3: the validating CA offers `acme-tls/1` and nothing else.
fn asks_for_challenge(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn();
    offered.next() == Some(ALPN_ACME) && offered.next().is_none()
}

/// The first of our protocols that the client offers, which is how rustls picks too (RFC 7301 §3.2).
fn protocol(hello: &ClientHello<'_>, entry: &Entry) -> Result<Alpn, Refusal> {
    if !hello.offers_alpn() {
        return Ok(Alpn::None);
    }
    let ours = &entry.config().alpn_protocols;
    let common = ours.iter().find(|ours| hello.alpn().any(|offered| offered == ours.as_slice()));
    match common.map(Vec::as_slice) {
        Some(ALPN_HTTP11) => Ok(Alpn::Http11),
        Some(ALPN_H2) => Ok(Alpn::H2),
        Some(ALPN_ACME) => Ok(Alpn::AcmeTls1),
        _ => Err(Refusal::NoProtocolInCommon),
    }
}

/// Whether a key of the entry makes a signature that the client verifies. RFC 8446 §4.2.3: in TLS 1.3
/// schemes with PKCS #1 padding are for certificates only.
fn has_signature(hello: &ClientHello<'_>, entry: &Entry) -> bool {
    const RSA_PKCS1: [u16; 3] = [0x0401, 0x0501, 0x0601];
    let tls13 = hello.offers_tls13();
    hello
        .signature_schemes()
        .filter(|offered| !tls13 || !RSA_PKCS1.contains(offered))
        .any(|offered| entry.pairs().iter().any(|pair| pair.schemes().contains(&offered.into())))
}

#[cfg(test)]
mod tests;
