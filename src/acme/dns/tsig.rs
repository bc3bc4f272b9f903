//! Transaction signatures (RFC 8945): a request signed with a shared key, and the answer's signature
//! verified. Truncated signatures are not accepted.

use std::fmt;

#[cfg(feature = "crypto-aws-lc")]
use aws_lc_rs::hmac;
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
use ring::hmac;
use zeroize::Zeroizing;

use super::codec::{append_signature, set_additionals};
use super::message::{CLASS_ANY, Message, Rcode, Tsig};
use super::name::{Name, NameError};
use crate::config::model::{TsigAlgorithm, TsigKey};

/// Seconds by which clocks may differ (RFC 8945 §10 recommends it).
const FUDGE: u16 = 300;
/// Error numbers of a signature (RFC 8945 §3).
const BADSIG: u16 = 16;
const BADKEY: u16 = 17;
const BADTIME: u16 = 18;
const BADTRUNC: u16 = 22;

/// Why a signature was not accepted, by the server or here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TsigError {
    /// The server does not know the key (BADKEY); Knot says so of one that the zone does not let in, too.
    UnknownKey(Name),
    /// The server knows the key but not this secret or algorithm (BADSIG).
    WrongSecret(Name),
    /// Clocks differ by so many seconds (BADTIME): positive if the server's is ahead.
    Clock(i64),
    /// The server gives another number.
    Server(u16),
    /// The answer is not signed.
    Unsigned,
    /// The answer is signed with another key or algorithm.
    OtherKey,
    /// The answer's signature is wrong.
    Forged,
    /// The answer was signed at another time: seconds as in [`Self::Clock`].
    Stale(i64),
}

impl fmt::Display for TsigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |seconds: i64| {
            let direction = if seconds < 0 { "behind" } else { "ahead of" };
            format!("its clock is {} s {direction} this machine's", seconds.unsigned_abs())
        };
        match self {
            Self::UnknownKey(name) => {
                write!(
                    f,
                    "the server does not know the key {name} with this algorithm, or not for this zone (BADKEY)"
                )
            }
            Self::WrongSecret(name) => {
                write!(f, "the server has another secret for the key {name} (BADSIG)")
            }
            Self::Clock(seconds) => {
                write!(f, "the server did not accept the time of signing: {} (BADTIME)", clock(*seconds))
            }
            Self::Server(BADTRUNC) => f.write_str("the server wants a longer signature (BADTRUNC)"),
            Self::Server(number) => write!(f, "the server refused the signature with TSIG error {number}"),
            Self::Unsigned => f.write_str("the server's answer is not signed"),
            Self::OtherKey => f.write_str("the server's answer is signed with another key"),
            Self::Forged => f.write_str(
                "the signature of the server's answer is wrong: another secret, or a forged answer",
            ),
            Self::Stale(seconds) => {
                write!(f, "the server's answer was signed at another time: {}", clock(*seconds))
            }
        }
    }
}

impl std::error::Error for TsigError {}

/// Why a configured key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Its name.
    Name(NameError),
    /// Its secret is not base64, or empty. The secret is in no message.
    Secret,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the TSIG key's name is none: {error}"),
            Self::Secret => f.write_str("the TSIG key's secret is not base64"),
        }
    }
}

impl std::error::Error for KeyError {}

/// A shared key.
#[derive(Clone)]
pub struct Key {
    name: Name,
    algorithm: TsigAlgorithm,
    secret: Zeroizing<Vec<u8>>,
}

/// The secret is not shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// From the configuration, and the secret as its file or variable holds it: base64, white space around.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(key: &TsigKey, secret: &[u8]) -> Result<Self, KeyError> {
        let name = Name::parse(&key.name).map_err(KeyError::Name)?;
        let secret =
            base64(secret.trim_ascii()).filter(|secret| !secret.is_empty()).ok_or(KeyError::Secret)?;
        Ok(Self { name, algorithm: key.algorithm, secret })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Signs a message at `now` (Unix time); gives the signature, with which the answer's is verified.
    pub(super) fn sign(&self, message: &mut Vec<u8>, now: u64) -> Vec<u8> {
        let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
        let mut tsig = Tsig {
            algorithm: self.algorithm_name(),
            time: now,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id: id,
            error: 0,
            other: Vec::new(),
        };
        let signed = [message.as_slice(), &self.variables(&tsig)].concat();
        tsig.mac = hmac::sign(&self.hmac(), &signed).as_ref().to_vec();
        append_signature(message, &self.name, &tsig);
        tsig.mac
    }

    /// Verifies an answer, whose bytes were read as `message`, to a request with signature `request_mac`.
    ///
    /// # Errors
    /// Why the server did not accept the request's signature, or why its own is not accepted.
    pub(super) fn verify(
        &self,
        bytes: &[u8],
        message: &Message,
        request_mac: &[u8],
        now: u64,
    ) -> Result<(), TsigError> {
        let Some(signature) = &message.tsig else { return Err(TsigError::Unsigned) };
        let tsig = &signature.tsig;
        // These two answers cannot be signed (RFC 8945 §5.3.2): their worth is what they tell.
        match tsig.error {
            BADKEY => return Err(TsigError::UnknownKey(self.name.clone())),
            BADSIG => return Err(TsigError::WrongSecret(self.name.clone())),
            _ => {}
        }
        if signature.key != self.name || tsig.algorithm != self.algorithm_name() {
            return Err(TsigError::OtherKey);
        }
        let mut signed = u16::try_from(request_mac.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        signed.extend_from_slice(request_mac);
        let mut unsigned = bytes.get(..signature.at).unwrap_or_default().to_vec();
        set_additionals(&mut unsigned, |count| count.saturating_sub(1));
        if let Some(id) = unsigned.first_chunk_mut() {
            *id = tsig.original_id.to_be_bytes();
        }
        signed.extend_from_slice(&unsigned);
        signed.extend_from_slice(&self.variables(tsig));
        hmac::verify(&self.hmac(), &signed, &tsig.mac).map_err(|_| TsigError::Forged)?;
        let ahead = |time: u64| i64::try_from(time).unwrap_or(i64::MAX).saturating_sub_unsigned(now);
        match tsig.error {
            0 if ahead(tsig.time).unsigned_abs() > u64::from(tsig.fudge.min(FUDGE)) => {
                Err(TsigError::Stale(ahead(tsig.time)))
            }
            0 => Ok(()),
            BADTIME => Err(TsigError::Clock(ahead(server_time(tsig)))),
            number => Err(TsigError::Server(number)),
        }
    }

    fn hmac(&self) -> hmac::Key {
        let algorithm = match self.algorithm {
            TsigAlgorithm::HmacSha256 => hmac::HMAC_SHA256,
            TsigAlgorithm::HmacSha384 => hmac::HMAC_SHA384,
            TsigAlgorithm::HmacSha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, &self.secret)
    }

    fn algorithm_name(&self) -> Name {
        // The names are valid (see the test), so the root never stands in for one.
        Name::parse(algorithm_word(self.algorithm)).unwrap_or_else(|_| Name::root())
    }

    /// What is signed beside the message (RFC 8945 §4.3.3).
    fn variables(&self, tsig: &Tsig) -> Vec<u8> {
        let mut out = self.name.wire().to_vec();
        out.extend_from_slice(&CLASS_ANY.to_be_bytes());
        out.extend_from_slice(&0u32.to_be_bytes());
        out.extend_from_slice(tsig.algorithm.wire());
        let [_, _, time @ ..] = tsig.time.to_be_bytes();
        out.extend_from_slice(&time);
        out.extend_from_slice(&tsig.fudge.to_be_bytes());
        out.extend_from_slice(&tsig.error.to_be_bytes());
        out.extend_from_slice(&u16::try_from(tsig.other.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&tsig.other);
        out
    }
}

/// Whether an answer without acceptable signature may still be believed when it says no: a server that does
/// not know the key, or none at all, cannot sign its refusal. It is never believed when it says yes.
pub(super) fn is_plain_refusal(message: &Message) -> bool {
    message.tsig.is_none() && message.header.rcode != Rcode::NoError
}

/// Name of an algorithm (RFC 8945 §6).
fn algorithm_word(algorithm: TsigAlgorithm) -> &'static str {
    match algorithm {
        TsigAlgorithm::HmacSha256 => "hmac-sha256",
        TsigAlgorithm::HmacSha384 => "hmac-sha384",
        TsigAlgorithm::HmacSha512 => "hmac-sha512",
    }
}

/// The server's time in a BADTIME answer; without it, its time of signing, which repeats the request's.
fn server_time(tsig: &Tsig) -> u64 {
    let time: Option<&[u8; 6]> = tsig.other.as_slice().try_into().ok();
    time.map_or(tsig.time, |time| time.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Decodes base64 (RFC 4648 §4) with or without padding.
fn base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let (digits, _) = text.split_at_checked(text.len() - padding)?;
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(digits.len() / 4 * 3 + 3));
    let (mut bits, mut held) = (0u32, 0u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.extend(u8::try_from(bits >> held & 0xff));
        }
    }
    // Bits left over are zero, so that a secret has one spelling.
    (bits & ((1 << held) - 1) == 0).then_some(out)
}

#[cfg(test)]
#[path = "tsig_tests.rs"]
mod tests;
