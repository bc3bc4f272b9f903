//! The application traffic secrets of a TLS 1.3 server and what a KeyUpdate makes of them (RFC 8446 §7.1 to
//! §7.3). rustls would keep them in a state of 0.9 KiB, most of it fields for QUIC; here they are 0.1 KiB.
//! rustls tells secrets to a key log only, so ours is one that remembers them until the handshake
//! takes them. They go nowhere else.

use std::cell::RefCell;

use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use rustls::{KeyLog, SupportedCipherSuite, Tls13CipherSuite};
use zeroize::{Zeroize, Zeroizing};

use super::keys::{Cipher, KeyError, TrafficKey};

/// Names of the secrets in a key log.
const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
/// Bytes of the longest secret, SHA-384's.
const SECRET_MAX: usize = 48;

/// A secret, padded with zeros.
type Secret = Zeroizing<[u8; SECRET_MAX]>;

/// The two secrets of one connection.
#[derive(Default)]
struct Pair {
    client: Option<Secret>,
    server: Option<Secret>,
}

thread_local! {
    /// The secrets of the handshake that this thread is at: rustls logs them while it is called.
    static SEEN: RefCell<Pair> = const { RefCell::new(Pair { client: None, server: None }) };
}

/// The key log of a server configuration whose connections keep their own secrets.
#[derive(Debug)]
pub struct Capture;

impl KeyLog for Capture {
    fn will_log(&self, label: &str) -> bool {
        label == CLIENT || label == SERVER
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let Some(secret) = padded(secret) else { return };
        SEEN.with_borrow_mut(|seen| match label {
            CLIENT => seen.client = Some(secret),
            SERVER => seen.server = Some(secret),
            _ => {}
        });
    }
}

fn padded(secret: &[u8]) -> Option<Secret> {
    let mut padded = Zeroizing::new([0; SECRET_MAX]);
    padded.get_mut(..secret.len())?.copy_from_slice(secret);
    Some(padded)
}

/// What rustls told since the last call, if it was both secrets.
pub(super) fn take_seen() -> Option<Seen> {
    let Pair { client, server } = SEEN.take();
    Some(Seen { client: client?, server: server? })
}

/// Both secrets of a handshake whose suite is not known yet.
pub(super) struct Seen {
    client: Secret,
    server: Secret,
}

/// The secrets of a server's connection, from which a KeyUpdate makes the next ones.
pub(super) struct TrafficSecrets {
    suite: &'static Tls13CipherSuite,
    client: [u8; SECRET_MAX],
    server: [u8; SECRET_MAX],
}

impl TrafficSecrets {
    /// The secrets under the suite that was agreed on; `None` for one of TLS 1.2.
    pub(super) fn new(seen: &Seen, suite: SupportedCipherSuite) -> Option<Self> {
        let suite = suite.tls13().filter(|suite| suite.common.hash_provider.output_len() <= SECRET_MAX)?;
        Some(Self { suite, client: *seen.client, server: *seen.server })
    }

    /// The server's next key, to seal with.
    pub(super) fn next_tx(&mut self, cipher: Cipher) -> Result<TrafficKey, KeyError> {
        next(self.suite, &mut self.server, cipher)
    }

    /// The client's next key, to open with.
    pub(super) fn next_rx(&mut self, cipher: Cipher) -> Result<TrafficKey, KeyError> {
        next(self.suite, &mut self.client, cipher)
    }
}

impl Drop for TrafficSecrets {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

/// RFC 8446 §7.2: the secret of the next generation, and its key and nonce (§7.3).
fn next(
    suite: &Tls13CipherSuite,
    secret: &mut [u8; SECRET_MAX],
    cipher: Cipher,
) -> Result<TrafficKey, KeyError> {
    let length = suite.common.hash_provider.output_len();
    let secret = secret.get_mut(..length).ok_or(KeyError::KeyRefused)?;
    let old = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    expand_label(old.as_ref(), b"traffic upd", secret)?;
    let new = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    let mut key = Zeroizing::new([0_u8; 32]);
    let key = key.get_mut(..cipher.key_len()).ok_or(KeyError::KeyRefused)?;
    let mut iv = Zeroizing::new([0_u8; 12]);
    expand_label(new.as_ref(), b"key", key)?;
    expand_label(new.as_ref(), b"iv", &mut *iv)?;
    TrafficKey::from_parts(cipher, key, *iv)
}

/// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
fn expand_label(secret: &dyn HkdfExpander, label: &[u8], out: &mut [u8]) -> Result<(), KeyError> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = (out.len() as u16).to_be_bytes();
    let label_length = [(PREFIX.len() + label.len()) as u8];
    secret.expand_slice(&[&length, &label_length, PREFIX, label, &[0]], out).map_err(|_| KeyError::KeyRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8448 §3: the server's secret of that handshake and the key and nonce made of it.
    #[test]
    fn labels_are_expanded_as_in_rfc8448() {
        let bytes = |hex: &str| -> Vec<u8> {
            let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
            digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        };
        let secret = bytes(
            "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43",
        );
        let suites = crate::tls::provider().cipher_suites;
        let suite = suites.iter().find_map(|suite| {
            suite.tls13().filter(|suite| suite.common.suite == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256)
        });
        let expander = suite.unwrap().hkdf_provider.expander_for_okm(&OkmBlock::new(&secret));
        let (mut key, mut iv) = ([0; 16], [0; 12]);
        expand_label(expander.as_ref(), b"key", &mut key).unwrap();
        expand_label(expander.as_ref(), b"iv", &mut iv).unwrap();
        assert_eq!(key.to_vec(), bytes("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56"));
        assert_eq!(iv.to_vec(), bytes("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
    }

    #[test]
    fn only_both_secrets_together_are_taken_and_only_once() {
        Capture.log(CLIENT, &[], &[1; 32]);
        assert!(take_seen().is_none());
        Capture.log(SERVER, &[], &[2; 32]);
        assert!(take_seen().is_none(), "the first one was forgotten");
        Capture.log(CLIENT, &[], &[1; 48]);
        Capture.log(SERVER, &[], &[2; 48]);
        Capture.log("EXPORTER_SECRET", &[], &[3; 48]);
        let seen = take_seen().unwrap();
        assert_eq!((*seen.client, *seen.server), ([1; 48], [2; 48]));
        assert!(take_seen().is_none());
        assert!(!Capture.will_log("CLIENT_RANDOM"));
    }
}
