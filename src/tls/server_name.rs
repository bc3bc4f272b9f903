//! Host names as TLS carries them: the grammar that a name must satisfy, and its normal form in a fixed
//! array. Names are bytes with a length; a NUL is just another refused byte, never an end.

use std::fmt;

/// Bytes of a name, a trailing dot included (RFC 1035 §2.3.4).
pub const NAME_BYTES: usize = 253;
/// Bytes of a label (RFC 1035 §2.3.4).
const LABEL_BYTES: usize = 63;

/// A lower-case host name without trailing dot, in place.
#[derive(Clone, Copy)]
pub struct ServerName {
    bytes: [u8; NAME_BYTES],
    len: u8,
}

impl ServerName {
    /// Room for a name, empty so far.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; NAME_BYTES], len: 0 }
    }

    /// The name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Default for ServerName {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for ServerName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ServerName {}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// Why bytes are not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing there, or just a dot.
    Empty,
    /// More than 253 bytes.
    TooLong,
    /// A label of no or more than 63 bytes.
    BadLabelLength,
    /// A byte other than letters, digits, hyphen, underscore and dot.
    BadByte,
    /// A label starts or ends with a hyphen (RFC 1123 §2.1).
    EdgeHyphen,
    /// The last label is a number, as in an IPv4 address.
    LooksLikeAddress,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 253 bytes",
            Self::BadLabelLength => "a label of the name is empty or longer than 63 bytes",
            Self::BadByte => "the name holds a byte that host names do not have",
            Self::EdgeHyphen => "a label of the name starts or ends with a hyphen",
            Self::LooksLikeAddress => "the name is an IP address, or ends like one",
        })
    }
}

impl std::error::Error for NameError {}

/// Writes `name` into `out`: lower-case, without its trailing dot. No allocation.
///
/// # Errors
/// Those of [`check`]; `out` is then unchanged.
pub fn normalise(name: &[u8], out: &mut ServerName) -> Result<(), NameError> {
    let name = check(name)?;
    let mut lowered = [0; NAME_BYTES];
    let room = lowered.get_mut(..name.len()).ok_or(NameError::TooLong)?;
    room.copy_from_slice(name);
    room.make_ascii_lowercase();
    out.len = u8::try_from(name.len()).map_err(|_| NameError::TooLong)?;
    out.bytes = lowered;
    Ok(())
}

/// The name without its trailing dot, if it is one: labels of letters, digits, hyphens and underscores
/// (RFC 1123 §2.1; underscores are in wide use), the last one not a number.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(name: &[u8]) -> Result<&[u8], NameError> {
    if name.len() > NAME_BYTES {
        return Err(NameError::TooLong);
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let mut last: &[u8] = &[];
    for label in name.split(|&byte| byte == b'.') {
        check_label(label)?;
        last = label;
    }
    if is_number(last) { Err(NameError::LooksLikeAddress) } else { Ok(name) }
}

fn check_label(label: &[u8]) -> Result<(), NameError> {
    if !(1..=LABEL_BYTES).contains(&label.len()) {
        return Err(NameError::BadLabelLength);
    }
    if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(NameError::BadByte);
    }
    if label.starts_with(b"-") || label.ends_with(b"-") {
        return Err(NameError::EdgeHyphen);
    }
    Ok(())
}

/// Whether URL parsers would take a name with this last label for an IPv4 address (the URL Standard's
/// "ends in a number"): decimal, or hexadecimal after `0x`.
fn is_number(label: &[u8]) -> bool {
    match label.split_first_chunk::<2>() {
        Some((b"0x" | b"0X", digits)) => digits.iter().all(u8::is_ascii_hexdigit),
        _ => label.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::{NameError, ServerName, check, normalise};

    fn normal(name: &[u8]) -> Result<Vec<u8>, NameError> {
        let mut out = ServerName::new();
        normalise(name, &mut out).map(|()| out.as_bytes().to_vec())
    }

    #[test]
    fn names_are_lowered_and_lose_one_dot() {
        assert_eq!(normal(b"App.Example.COM").unwrap(), b"app.example.com");
        assert_eq!(normal(b"app.example.com.").unwrap(), b"app.example.com");
        assert_eq!(normal(b"_dmarc.x-y.1a").unwrap(), b"_dmarc.x-y.1a");
        assert_eq!(normal(b"localhost").unwrap(), b"localhost");
        assert_eq!(normal(b"1.0.0.127.in-addr.arpa").unwrap(), b"1.0.0.127.in-addr.arpa");
    }

    #[test]
    fn what_is_not_a_name_is_refused_and_leaves_the_output_alone() {
        let long_label = [b'a'; 64];
        let mut too_long = b"a.".repeat(126);
        too_long.extend_from_slice(b"bb");
        let cases: &[(&[u8], NameError)] = &[
            (b"", NameError::Empty),
            (b".", NameError::Empty),
            (b"a..b", NameError::BadLabelLength),
            (b".a", NameError::BadLabelLength),
            (b"a.b..", NameError::BadLabelLength),
            (&long_label, NameError::BadLabelLength),
            (&too_long, NameError::TooLong),
            (b"good.example\0.evil.example", NameError::BadByte),
            (b"good.example\0", NameError::BadByte),
            (b"*.example.com", NameError::BadByte),
            (b"a b.example", NameError::BadByte),
            ("b\u{fc}cher.example".as_bytes(), NameError::BadByte),
            (b"-a.example", NameError::EdgeHyphen),
            (b"a-.example", NameError::EdgeHyphen),
            (b"127.0.0.1", NameError::LooksLikeAddress),
            (b"127.0.0.1.", NameError::LooksLikeAddress),
            (b"a.0x7F", NameError::LooksLikeAddress),
            (b"a.0x", NameError::LooksLikeAddress),
            (b"::1", NameError::BadByte),
            (b"[::1]", NameError::BadByte),
        ];
        for (name, error) in cases {
            let mut out = ServerName::new();
            normalise(b"kept.example", &mut out).unwrap();
            assert_eq!(normalise(name, &mut out), Err(*error), "{}", name.escape_ascii());
            assert_eq!(out.as_bytes(), b"kept.example");
        }
    }

    #[test]
    fn the_grammar_is_that_of_the_library_that_verifies() {
        let alphabet = b"a-_.0x1Z*\0";
        let mut name = Vec::new();
        for number in 0..200_000_usize {
            name.clear();
            let mut rest = number;
            while rest > 0 {
                name.push(alphabet[rest % alphabet.len()]);
                rest /= alphabet.len();
            }
            let theirs =
                str::from_utf8(&name).is_ok_and(|text| rustls::pki_types::DnsName::try_from(text).is_ok());
            assert_eq!(check(&name).is_ok(), theirs, "{}", name.escape_ascii());
        }
    }
}
