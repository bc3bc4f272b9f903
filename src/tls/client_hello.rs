//! A zero-copy view of a ClientHello (RFC 8446 §4.1.2, RFC 5246 §7.4.1.2), taken from the first bytes of a
//! connection, before any session exists. It does not negotiate: [`super::choose`] does, then rustls.
//!
//! ```text
//! input    | 22 3 1 len | fragment | 22 3 1 len | fragment | later bytes
//! one record:   message = the fragment, in place
//! several:      message = fragments one after the other in the caller's scratch
//! message  | 1 len24 | version random session suites compression | extensions |
//! ```

mod error;

pub use error::HelloError;

use super::server_name::{self, NameError};
use crate::limits;
use crate::wire::Parse;
use crate::wire::cursor::Cursor;

/// What a client offers. Lists are kept as their bytes and were checked whole; values nobody knows
/// (GREASE, RFC 8701) are in them as sent.
#[derive(Clone, Copy, Debug)]
pub struct ClientHello<'a> {
    legacy_version: u16,
    random: &'a [u8],
    session_id: &'a [u8],
    cipher_suites: &'a [u8],
    offers: Offers<'a>,
}

/// What the extensions say that choosing needs; `None` where the extension was not sent.
#[derive(Clone, Copy, Debug, Default)]
struct Offers<'a> {
    server_name: Option<&'a [u8]>,
    alpn: Option<&'a [u8]>,
    signature_algorithms: Option<&'a [u8]>,
    supported_versions: Option<&'a [u8]>,
    supported_groups: Option<&'a [u8]>,
    key_share: Option<&'a [u8]>,
}

impl<'a> ClientHello<'a> {
    /// The host name as sent, grammar-checked; not yet normalised (RFC 6066 §3).
    #[must_use]
    pub fn server_name(&self) -> Option<&'a [u8]> {
        self.offers.server_name
    }

    /// The application protocols, most wanted first (RFC 7301 §3.1).
    pub fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut list = Cursor::new(self.offers.alpn.unwrap_or_default());
        std::iter::from_fn(move || list.vec8().map(|protocol| protocol.rest()))
    }

    /// Whether the ALPN extension is there.
    #[must_use]
    pub fn offers_alpn(&self) -> bool {
        self.offers.alpn.is_some()
    }

    /// The signature schemes that the client verifies (RFC 8446 §4.2.3); none if it does not say.
    pub fn signature_schemes(&self) -> impl Iterator<Item = u16> + use<'a> {
        numbers(self.offers.signature_algorithms)
    }

    /// Whether TLS 1.3 is offered (RFC 8446 §4.2.1).
    #[must_use]
    pub fn offers_tls13(&self) -> bool {
        numbers(self.offers.supported_versions).any(|version| version == TLS13)
    }

    /// Whether TLS 1.2 is offered: by supported_versions where it was sent, which is then all that counts
    /// (RFC 8446 §4.2.1), otherwise by legacy_version as the highest one (RFC 5246 §7.4.1.2).
    #[must_use]
    pub fn offers_tls12(&self) -> bool {
        match self.offers.supported_versions {
            None => self.legacy_version >= TLS12,
            versions => numbers(versions).any(|version| version == TLS12),
        }
    }

    /// The cipher suites, most wanted first.
    pub fn cipher_suites(&self) -> impl Iterator<Item = u16> + use<'a> {
        numbers(Some(self.cipher_suites))
    }

    /// The key exchange groups, most wanted first (RFC 8446 §4.2.7).
    pub fn supported_groups(&self) -> impl Iterator<Item = u16> + use<'a> {
        numbers(self.offers.supported_groups)
    }

    /// The groups for which a key share came along, so that no second hello is needed (RFC 8446 §4.2.8).
    pub fn key_share_groups(&self) -> impl Iterator<Item = u16> + use<'a> {
        let mut list = Cursor::new(self.offers.key_share.unwrap_or_default());
        std::iter::from_fn(move || {
            let group = list.u16()?;
            list.vec16().map(|_share| group)
        })
    }

    /// Whether a post-quantum key share (X25519MLKEM768) came along.
    #[must_use]
    pub fn key_shares_x25519mlkem768(&self) -> bool {
        const X25519MLKEM768: u16 = 0x11ec;
        self.key_share_groups().any(|group| group == X25519MLKEM768)
    }

    /// legacy_session_id, at most 32 bytes.
    #[must_use]
    pub fn session_id(&self) -> &'a [u8] {
        self.session_id
    }

    /// The 32 random bytes.
    #[must_use]
    pub fn random(&self) -> &'a [u8] {
        self.random
    }
}

/// Reads a ClientHello from every byte received so far, starting at the first TLS record. `used` is the
/// length of all its records. `scratch` is written only if the hello came in several records.
///
/// # Errors
/// What the client did wrong, as soon as the bytes show it.
pub fn read<'a>(input: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Parse<ClientHello<'a>>, HelloError> {
    if let Some(&first) = input.first()
        && !(CONTENT_TYPES).contains(&first)
    {
        return not_tls(input).map_or(Ok(Parse::Partial), Err);
    }
    let Some(extent) = measure(input)? else { return Ok(Parse::Partial) };
    let message = if extent.records == 1 {
        input.get(limits::RECORD_HEADER..extent.used).unwrap_or_default()
    } else {
        gather(input, extent.used, scratch);
        scratch.as_slice()
    };
    let body = message.get(MESSAGE_HEADER..).unwrap_or_default();
    Ok(Parse::Done { value: read_body(Cursor::new(body))?, used: extent.used })
}

const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
/// change_cipher_spec, alert, handshake, application_data.
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Type and length of a handshake message.
const MESSAGE_HEADER: usize = 4;

/// The refusal of what does not start like TLS; `None` while it may still turn out to be HTTP, which earns
/// its sender an answer that names https.
fn not_tls(input: &[u8]) -> Option<HelloError> {
    // Methods in use have up to 17 letters (`UPDATEREDIRECTREF`).
    const METHOD_BYTES: usize = 18;
    let window = input.get(..METHOD_BYTES).unwrap_or(input);
    let method = window.iter().position(|byte| !byte.is_ascii_uppercase() && *byte != b'-');
    let looks_like_http = match method {
        Some(length) => length > 0 && window.get(length) == Some(&b' '),
        None if window.len() < METHOD_BYTES => return None,
        None => false,
    };
    Some(HelloError::NotTls { looks_like_http })
}

/// Where the records of the hello end.
struct Extent {
    used: usize,
    records: usize,
}

/// Steps over record headers until the message is whole, copying nothing; `None` until it is. Calls with
/// one more byte each stay cheap, because the number of records is bounded.
fn measure(input: &[u8]) -> Result<Option<Extent>, HelloError> {
    let mut cursor = Cursor::new(input);
    let mut start = [0_u8; MESSAGE_HEADER];
    let mut gathered = 0_usize;
    for records in 1..=limits::CLIENT_HELLO_RECORDS {
        let Some(length) = record_header(&mut cursor)? else { return Ok(None) };
        let whole = cursor.len() >= length;
        let here = cursor.take(length.min(cursor.len())).unwrap_or_default();
        for (to, from) in start.iter_mut().skip(gathered).zip(here) {
            *to = *from;
        }
        let announced = message_length(&start, gathered + here.len())?;
        gathered += length;
        // RFC 8446 §5.1: nothing may follow in the record, because keys change after a hello.
        if announced.is_some_and(|announced| gathered > announced) {
            return Err(HelloError::TrailingMessage);
        }
        if !whole {
            return Ok(None);
        }
        if announced == Some(gathered) {
            return Ok(Some(Extent { used: input.len() - cursor.len(), records }));
        }
    }
    Err(HelloError::TooManyRecords)
}

/// The length of the next record, refused as early as its header shows; `None` while that is cut.
fn record_header(cursor: &mut Cursor<'_>) -> Result<Option<usize>, HelloError> {
    match cursor.rest() {
        [kind, ..] if *kind != HANDSHAKE => return Err(HelloError::UnexpectedRecord),
        // RFC 8446 §5.1: the record version is ignored, but every TLS version has major number 3.
        [_, major, ..] if *major != 3 => return Err(HelloError::NotTls { looks_like_http: false }),
        _ => {}
    }
    let Some([_, _, _, high, low]) = cursor.array() else { return Ok(None) };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(HelloError::EmptyRecord),
        length if length > limits::RECORD_PLAINTEXT => Err(HelloError::OversizedRecord),
        length => Ok(Some(length)),
    }
}

/// Length of the whole message with its header, once `known` bytes of it show that.
fn message_length(start: &[u8; MESSAGE_HEADER], known: usize) -> Result<Option<usize>, HelloError> {
    let [kind, high, middle, low] = *start;
    if known >= 1 && kind != CLIENT_HELLO {
        return Err(HelloError::NotClientHello);
    }
    if known < MESSAGE_HEADER {
        return Ok(None);
    }
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > limits::CLIENT_HELLO_BYTES {
        return Err(HelloError::TooLarge);
    }
    Ok(Some(MESSAGE_HEADER + length))
}

/// Writes the fragments of the records in `input[..used]` into `scratch`, one after the other.
fn gather(input: &[u8], used: usize, scratch: &mut Vec<u8>) {
    scratch.clear();
    let mut cursor = Cursor::new(input.get(..used).unwrap_or_default());
    while let Some(fragment) = cursor.array::<3>().and_then(|_| cursor.vec16()) {
        scratch.extend_from_slice(fragment.rest());
    }
}

/// RFC 8446 §4.1.2, after the message header.
fn read_body(body: Cursor<'_>) -> Result<ClientHello<'_>, HelloError> {
    const RANDOM: usize = 32;
    const SESSION_ID: usize = 32;
    let mut body = body;
    let legacy_version = body.u16().ok_or(HelloError::Malformed)?;
    let random = body.take(RANDOM).ok_or(HelloError::Malformed)?;
    let session_id = body.vec8().ok_or(HelloError::Malformed)?.rest();
    let cipher_suites = body.vec16().ok_or(HelloError::Malformed)?.rest();
    let compression = body.vec8().ok_or(HelloError::Malformed)?.rest();
    if session_id.len() > SESSION_ID {
        return Err(HelloError::SessionIdTooLong);
    }
    if cipher_suites.is_empty() || !cipher_suites.len().is_multiple_of(2) {
        return Err(HelloError::BadCipherSuites);
    }
    // RFC 5246 §7.4.1.2: a hello of before extensions may end here.
    let offers = if body.is_empty() { Offers::default() } else { read_extensions(&mut body)? };
    if !body.is_empty() {
        return Err(HelloError::Malformed);
    }
    let hello = ClientHello { legacy_version, random, session_id, cipher_suites, offers };
    // RFC 8446 §4.1.2: exactly the null method in TLS 1.3; RFC 5246 §7.4.1.2: the null method among others.
    let null_only = compression == [0];
    if !compression.contains(&0) || (hello.offers_tls13() && !null_only) {
        return Err(HelloError::BadCompression);
    }
    Ok(hello)
}

/// Extension types that are read (RFC 8446 §4.2); all others are stepped over.
mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
}

fn read_extensions<'a>(body: &mut Cursor<'a>) -> Result<Offers<'a>, HelloError> {
    let mut list = body.vec16().ok_or(HelloError::Malformed)?;
    let mut offers = Offers::default();
    let mut seen = Seen::new();
    while !list.is_empty() {
        let kind = list.u16().ok_or(HelloError::Malformed)?;
        let content = list.vec16().ok_or(HelloError::Malformed)?;
        seen.add(kind)?;
        match kind {
            extension::SERVER_NAME => offers.server_name = Some(read_server_name(content)?),
            extension::ALPN => offers.alpn = Some(read_alpn(content)?),
            extension::SIGNATURE_ALGORITHMS => offers.signature_algorithms = Some(list16(content)?),
            extension::SUPPORTED_GROUPS => offers.supported_groups = Some(list16(content)?),
            extension::SUPPORTED_VERSIONS => offers.supported_versions = Some(list8(content)?),
            extension::KEY_SHARE => offers.key_share = Some(read_key_share(content)?),
            // RFC 8446 §4.2.11: it must be the last one, because its binders cover all before it.
            extension::PRE_SHARED_KEY if !list.is_empty() => return Err(HelloError::PreSharedKeyNotLast),
            _ => {}
        }
    }
    Ok(offers)
}

/// Extension types met so far. Those below 64, nearly all in use, are bits; the others a short list.
struct Seen {
    low: u64,
    high: [u16; limits::CLIENT_HELLO_EXTENSIONS],
    high_count: usize,
    count: usize,
}

impl Seen {
    const fn new() -> Self {
        Self { low: 0, high: [0; limits::CLIENT_HELLO_EXTENSIONS], high_count: 0, count: 0 }
    }

    /// RFC 8446 §4.2: no two extensions of one type.
    fn add(&mut self, kind: u16) -> Result<(), HelloError> {
        self.count += 1;
        if self.count > limits::CLIENT_HELLO_EXTENSIONS {
            return Err(HelloError::TooManyExtensions);
        }
        if kind < 64 {
            let bit = 1_u64 << kind;
            let again = self.low & bit != 0;
            self.low |= bit;
            return if again { Err(HelloError::DuplicateExtension) } else { Ok(()) };
        }
        if self.high.iter().take(self.high_count).any(|seen| *seen == kind) {
            return Err(HelloError::DuplicateExtension);
        }
        let slot = self.high.get_mut(self.high_count).ok_or(HelloError::TooManyExtensions)?;
        *slot = kind;
        self.high_count += 1;
        Ok(())
    }
}

/// RFC 6066 §3: a list of names, of which only host_name is defined, at most one of each type.
fn read_server_name(content: Cursor<'_>) -> Result<&[u8], HelloError> {
    let mut content = content;
    let mut list = only(content.vec16(), &content)?;
    let kind = list.u8();
    let name = list.vec16();
    let (Some(0), Some(name), true) = (kind, name, list.is_empty()) else {
        return Err(HelloError::BadServerName);
    };
    match server_name::check(name.rest()) {
        Ok(_) => Ok(name.rest()),
        Err(_) if is_address(name.rest()) => Err(HelloError::ServerNameIsAddress),
        Err(NameError::Empty) => Err(HelloError::BadServerName),
        Err(_) => Err(HelloError::ServerNameGrammar),
    }
}

fn is_address(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

/// RFC 7301 §3.1: at least one protocol, none of them empty.
fn read_alpn(content: Cursor<'_>) -> Result<&[u8], HelloError> {
    let mut content = content;
    let list = only(content.vec16(), &content)?;
    let mut protocols = list;
    while !protocols.is_empty() {
        let protocol = protocols.vec8().ok_or(HelloError::BadExtension)?;
        if protocol.is_empty() {
            return Err(HelloError::BadExtension);
        }
    }
    non_empty(list)
}

/// RFC 8446 §4.2.8: pairs of a group and a share that is not empty; the list itself may be.
fn read_key_share(content: Cursor<'_>) -> Result<&[u8], HelloError> {
    let mut content = content;
    let list = only(content.vec16(), &content)?;
    let mut shares = list;
    while !shares.is_empty() {
        let share = shares.u16().and_then(|_group| shares.vec16()).ok_or(HelloError::BadExtension)?;
        if share.is_empty() {
            return Err(HelloError::BadExtension);
        }
    }
    Ok(list.rest())
}

/// Two-byte values after a two-byte length, at least one.
fn list16(content: Cursor<'_>) -> Result<&[u8], HelloError> {
    let mut content = content;
    pairs(only(content.vec16(), &content)?)
}

/// Two-byte values after a one-byte length, at least one.
fn list8(content: Cursor<'_>) -> Result<&[u8], HelloError> {
    let mut content = content;
    pairs(only(content.vec8(), &content)?)
}

fn pairs(list: Cursor<'_>) -> Result<&[u8], HelloError> {
    if list.len().is_multiple_of(2) { non_empty(list) } else { Err(HelloError::BadExtension) }
}

fn non_empty(list: Cursor<'_>) -> Result<&[u8], HelloError> {
    if list.is_empty() { Err(HelloError::BadExtension) } else { Ok(list.rest()) }
}

/// The vector, if it was there and nothing follows it in its frame.
fn only<'a>(vector: Option<Cursor<'a>>, frame: &Cursor<'a>) -> Result<Cursor<'a>, HelloError> {
    vector.filter(|_| frame.is_empty()).ok_or(HelloError::BadExtension)
}

/// The big-endian two-byte values of a checked list.
fn numbers(list: Option<&[u8]>) -> impl Iterator<Item = u16> {
    list.unwrap_or_default().as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
}

/// What must hold for any bytes at all: the answer is a total function of the hello alone, so that bytes
/// behind it or cut from it change nothing, and every list ends. For fuzzing and tests.
#[doc(hidden)]
pub fn fuzz(input: &[u8]) {
    let mut scratch = Vec::new();
    let Ok(Parse::Done { value, used }) = read(input, &mut scratch) else { return };
    let lists = value.cipher_suites().count() + value.signature_schemes().count();
    let lists = lists + value.supported_groups().count() + value.key_share_groups().count();
    let lists = lists + value.alpn().count();
    assert!(used <= input.len() && lists <= used);
    let mut scratch = Vec::new();
    let hello = input.get(..used).unwrap_or_default();
    assert!(matches!(read(hello, &mut scratch), Ok(Parse::Done { used: again, .. }) if again == used));
    let cut = hello.get(..used.saturating_sub(1)).unwrap_or_default();
    assert!(matches!(read(cut, &mut scratch), Ok(Parse::Partial)));
}

#[cfg(test)]
mod tests;
