//! AEAD keys of one direction: what seals and opens a record body, with its nonce and its count.
//! The provider is aws-lc-rs, or ring by cargo feature; nothing outside this file knows which.

#[cfg(feature = "crypto-aws-lc")]
use aws_lc_rs::aead;
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
use ring::aead;

use aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroize;

use crate::limits;

/// Bytes of an authentication tag, the same for every suite (RFC 5116 §5, RFC 8439 §2.8).
pub const TAG: usize = 16;
/// Bytes of the nonce that TLS 1.2 AES-GCM records carry (RFC 5288 §3).
pub const EXPLICIT_NONCE: usize = 8;

/// Why a key could not be made or used. The provider never says more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The secrets are of a suite that this record layer does not carry.
    UnknownSuite,
    /// The provider refused the key bytes (wrong length: a defect).
    KeyRefused,
    /// The sequence number would wrap (RFC 8446 §5.3, RFC 5246 §6.1).
    SequenceExhausted,
    /// The provider refused to seal (body too long: a defect).
    SealRefused,
    /// The tag does not match (RFC 8446 §5.2).
    TagMismatch,
}

/// How a suite protects a record body; it decides the format of TLS 1.2 records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-GCM with a key of 16 bytes.
    Aes128Gcm,
    /// AES-GCM with a key of 32 bytes.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439), a key of 32 bytes.
    ChaCha20Poly1305,
}

impl Cipher {
    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// Bytes of a key.
    pub(super) fn key_len(self) -> usize {
        self.algorithm().key_len()
    }
}

/// An expanded key. aws-lc keeps it behind a pointer of its own.
#[cfg(feature = "crypto-aws-lc")]
type Expanded = LessSafeKey;
/// An expanded key; ring's is 500 bytes, which a resting connection should not hold.
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
type Expanded = Box<LessSafeKey>;

#[cfg(feature = "crypto-aws-lc")]
fn expand(key: UnboundKey) -> Expanded {
    LessSafeKey::new(key)
}

#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
fn expand(key: UnboundKey) -> Expanded {
    Box::new(LessSafeKey::new(key))
}

/// Bytes of the longest key.
const KEY_MAX: usize = 32;

/// The key of one direction with its static nonce and the number of records it has carried.
///
/// ```text
/// made ──seal, open──> awake (with the provider's tables, about 600 bytes) ──rest──> resting
///                        ^──────────────────────seal, open──────────────────────────┘
/// ```
pub struct TrafficKey {
    /// The provider's expanded key; `None` while resting.
    awake: Option<Expanded>,
    /// The key itself, of which the tables are made again.
    key: [u8; KEY_MAX],
    iv: [u8; NONCE_LEN],
    /// Sequence number of the next record. Never wraps, so no nonce is used twice.
    sequence: u64,
    cipher: Cipher,
}

impl TrafficKey {
    /// A key that continues at record `sequence` of `secrets`.
    ///
    /// # Errors
    /// [`KeyError::UnknownSuite`] for secrets of a suite added to rustls later.
    pub fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, KeyError> {
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
            _ => return Err(KeyError::UnknownSuite),
        };
        let iv = iv.as_ref().try_into().map_err(|_| KeyError::KeyRefused)?;
        let mut this = Self::from_parts(cipher, key.as_ref(), iv)?;
        this.sequence = sequence;
        Ok(this)
    }

    /// A key that has carried nothing yet.
    ///
    /// # Errors
    /// [`KeyError::KeyRefused`] for a key of another length than the cipher's.
    pub(super) fn from_parts(cipher: Cipher, key: &[u8], iv: [u8; NONCE_LEN]) -> Result<Self, KeyError> {
        let mut this = Self { awake: None, key: [0; KEY_MAX], iv, sequence: 0, cipher };
        if key.len() != cipher.key_len() {
            return Err(KeyError::KeyRefused);
        }
        for (kept, &byte) in this.key.iter_mut().zip(key) {
            *kept = byte;
        }
        Ok(this)
    }

    /// Gives the provider's tables back. The next record makes them again, which takes about as long
    /// as sealing some hundred bytes, so this is for a connection that waits.
    pub fn rest(&mut self) {
        self.awake = None;
    }

    /// The expanded key, made if it is not there.
    fn wake<'a>(
        awake: &'a mut Option<Expanded>,
        cipher: Cipher,
        key: &[u8; KEY_MAX],
    ) -> Result<&'a Expanded, KeyError> {
        if awake.is_none() {
            let algorithm = cipher.algorithm();
            let key = key.get(..algorithm.key_len()).ok_or(KeyError::KeyRefused)?;
            let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::KeyRefused)?;
            *awake = Some(expand(key));
        }
        awake.as_ref().ok_or(KeyError::KeyRefused)
    }

    /// Sequence number of the next record, which is the number of records under this key in TLS 1.3.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How this key protects a body.
    #[must_use]
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Whether the key has carried all the data it should (RFC 8446 §5.5).
    #[must_use]
    pub fn is_worn(&self) -> bool {
        let limit = match self.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => limits::RECORDS_PER_AES_KEY,
            // Only the sequence number bounds it; the rest is kept for a KeyUpdate and alerts.
            Cipher::ChaCha20Poly1305 => u64::MAX - 1024,
        };
        self.sequence >= limit
    }

    /// The explicit part of the next sealing nonce of TLS 1.2 AES-GCM. It is the IV's own last bytes
    /// xor the sequence number, as rustls used for the Finished under the same key, so none repeats.
    #[must_use]
    pub fn explicit_nonce(&self) -> [u8; EXPLICIT_NONCE] {
        let [_, _, _, _, explicit @ ..] = self.nonce();
        explicit
    }

    /// Seals `body` in place for the next record and gives the tag that follows it.
    ///
    /// # Errors
    /// [`KeyError::SequenceExhausted`], and nothing is sealed; [`KeyError::SealRefused`].
    pub fn seal(&mut self, associated: &[u8], body: &mut [u8]) -> Result<Tag, KeyError> {
        let next = self.sequence.checked_add(1).ok_or(KeyError::SequenceExhausted)?;
        let nonce = Nonce::assume_unique_for_key(self.nonce());
        let key = Self::wake(&mut self.awake, self.cipher, &self.key)?;
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(associated), body)
            .map_err(|_| KeyError::SealRefused)?;
        self.sequence = next;
        Ok(tag)
    }

    /// Opens `body`, the ciphertext and its tag, in place; the plaintext is everything before the tag.
    /// `explicit` is the nonce that a TLS 1.2 AES-GCM record carries.
    ///
    /// # Errors
    /// [`KeyError::TagMismatch`], also for a body shorter than a tag; `body` is garbage then.
    /// [`KeyError::SequenceExhausted`], and nothing is opened.
    pub fn open(
        &mut self,
        associated: &[u8],
        explicit: Option<[u8; EXPLICIT_NONCE]>,
        body: &mut [u8],
    ) -> Result<(), KeyError> {
        let next = self.sequence.checked_add(1).ok_or(KeyError::SequenceExhausted)?;
        let mut nonce = self.nonce();
        if let (Some(explicit), Some(part)) = (explicit, nonce.last_chunk_mut()) {
            *part = explicit;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plaintext_len = body.len().checked_sub(TAG).ok_or(KeyError::TagMismatch)?;
        let (ciphertext, tag) = body.split_at_mut_checked(plaintext_len).ok_or(KeyError::TagMismatch)?;
        let key = Self::wake(&mut self.awake, self.cipher, &self.key)?;
        open_separate(key, nonce, associated, tag, ciphertext)?;
        self.sequence = next;
        Ok(())
    }

    /// RFC 8446 §5.3: the sequence number, padded to the left, xor the IV.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        if let Some(part) = nonce.last_chunk_mut::<8>() {
            *part = (u64::from_be_bytes(*part) ^ self.sequence).to_be_bytes();
        }
        nonce
    }

    /// Pretends that `sequence` records went before.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }
}

/// The tag is given apart because the one-slice form moves the plaintext onto itself after opening.
#[cfg(feature = "crypto-aws-lc")]
fn open_separate(
    key: &LessSafeKey,
    nonce: Nonce,
    associated: &[u8],
    tag: &[u8],
    ciphertext: &mut [u8],
) -> Result<(), KeyError> {
    key.open_in_place_separate_tag(nonce, Aad::from(associated), tag, ciphertext)
        .map(|_| ())
        .map_err(|_| KeyError::TagMismatch)
}

/// The same with ring, which takes a typed tag and the range that is ciphertext.
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
fn open_separate(
    key: &LessSafeKey,
    nonce: Nonce,
    associated: &[u8],
    tag: &[u8],
    ciphertext: &mut [u8],
) -> Result<(), KeyError> {
    let tag = Tag::try_from(tag).map_err(|_| KeyError::TagMismatch)?;
    key.open_in_place_separate_tag(nonce, Aad::from(associated), tag, ciphertext, 0..)
        .map(|_| ())
        .map_err(|_| KeyError::TagMismatch)
}

impl Drop for TrafficKey {
    /// aws-lc wipes its tables and rustls its copies; these are ours.
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl std::fmt::Debug for TrafficKey {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrafficKey")
            .field("sequence", &self.sequence)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cipher, KEY_MAX, KeyError, TrafficKey};

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// The client's application traffic key of RFC 8448 §3.
    fn rfc8448() -> TrafficKey {
        let mut key = [0; KEY_MAX];
        key[..16].copy_from_slice(&bytes("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51"));
        let iv = bytes("5b 78 92 3d ee 08 57 90 33 e5 23 d9").try_into().unwrap();
        TrafficKey { awake: None, key, iv, sequence: 0, cipher: Cipher::Aes128Gcm }
    }

    const RFC8448_RECORD: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 \
        f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd \
        1e 3d ea e6 3a ee bb 21 69 49 15 e4";

    #[test]
    fn the_record_of_rfc8448_section_3_is_sealed_and_opened() {
        let record = bytes(RFC8448_RECORD);
        let (header, body) = record.split_at(5);
        let mut inner: Vec<u8> = (0..50).chain([23]).collect();
        let plain = inner.clone();
        let tag = rfc8448().seal(header, &mut inner).unwrap();
        assert_eq!([&inner[..], tag.as_ref()].concat(), body);
        let mut body = body.to_vec();
        rfc8448().open(header, None, &mut body).unwrap();
        assert_eq!(&body[..51], plain);
    }

    #[test]
    fn only_what_succeeds_counts() {
        let record = bytes(RFC8448_RECORD);
        let mut key = rfc8448();
        assert_eq!(key.open(b"other", None, &mut record[5..].to_vec()), Err(KeyError::TagMismatch));
        assert_eq!(key.sequence(), 0);
        key.open(&record[..5], None, &mut record[5..].to_vec()).unwrap();
        assert_eq!(key.sequence(), 1);
        key.skip_to(u64::MAX);
        assert_eq!(key.seal(b"", &mut []).err(), Some(KeyError::SequenceExhausted));
        assert_eq!(key.open(b"", None, &mut [0; 16]), Err(KeyError::SequenceExhausted));
    }

    #[test]
    fn the_nonce_is_the_iv_xor_the_sequence_number() {
        let mut key = rfc8448();
        let first = key.nonce();
        key.skip_to(0x0102_0304_0506_0708);
        let later = key.nonce();
        assert_eq!(first, key.iv);
        assert_eq!(later[..4], first[..4]);
        let changed: Vec<u8> = first[4..].iter().zip(&later[4..]).map(|(a, b)| a ^ b).collect();
        assert_eq!(changed, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(key.explicit_nonce(), later[4..]);
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", rfc8448());
        assert_eq!(shown, "TrafficKey { sequence: 0, cipher: Aes128Gcm, .. }");
    }
}
