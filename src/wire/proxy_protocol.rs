//! The PROXY protocol prefix, versions 1 and 2, by HAProxy's specification (`proxy-protocol.txt`, sections
//! 2.1 and 2.2). Who may send one is decided elsewhere; TLVs are stepped over, not kept, and their
//! checksum is not verified.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::Parse;
use super::cursor::Cursor;
use crate::limits;

/// Whom a load balancer in front says it speaks for. Without addresses the peer speaks for itself, or its
/// client has an address that is not an IP one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client.
    pub source: Option<SocketAddr>,
    /// What the client connected to.
    pub destination: Option<SocketAddr>,
}

/// Why bytes are not an acceptable prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// They differ from both signatures.
    NotProxy,
    /// No line end within the 107 bytes of version 1.
    LineTooLong,
    /// A byte of the version 1 line that is not printable, or CR and LF not as a pair.
    BadLineByte,
    /// The version 1 line names a protocol other than TCP4, TCP6 and UNKNOWN.
    UnknownProtocol,
    /// A field of the version 1 line is missing, or one too many.
    BadFields,
    /// An address of the version 1 line is not one of its protocol.
    BadAddress,
    /// A port of the version 1 line is not a number up to 65535 without leading zeros.
    BadPort,
    /// A binary header that is not version 2.
    UnknownVersion,
    /// A version 2 command other than LOCAL and PROXY.
    UnknownCommand,
    /// A version 2 header beyond [`limits::PROXY_V2_BYTES`].
    TooLong,
    /// The version 2 length does not hold the addresses of its family.
    AddressesCut,
    /// A TLV runs past the end of the version 2 header.
    TlvSpill,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotProxy => "no PROXY protocol prefix",
            Self::LineTooLong => "PROXY line longer than 107 bytes",
            Self::BadLineByte => "PROXY line with a byte that does not belong there",
            Self::UnknownProtocol => "PROXY line of an unknown protocol",
            Self::BadFields => "PROXY line with a wrong number of fields",
            Self::BadAddress => "PROXY line with a bad address",
            Self::BadPort => "PROXY line with a bad port",
            Self::UnknownVersion => "PROXY header of an unknown version",
            Self::UnknownCommand => "PROXY header with an unknown command",
            Self::TooLong => "PROXY header too long",
            Self::AddressesCut => "PROXY header too short for its addresses",
            Self::TlvSpill => "PROXY header with a TLV past its end",
        })
    }
}

impl std::error::Error for ProxyError {}

/// Reads a prefix of either version from the first bytes of a connection. `used` is its exact length.
///
/// # Errors
/// [`ProxyError::NotProxy`] at the first byte that differs from both signatures, otherwise what is wrong.
pub fn parse(input: &[u8]) -> Result<Parse<ProxyHeader>, ProxyError> {
    if input.first() == V2_SIGNATURE.first() {
        return parse_v2(input);
    }
    parse_v1(input)
}

/// What starts version 1 (section 2.1).
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// What starts version 2 (section 2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Whether the whole signature is there; an error as soon as a byte differs.
fn signature(input: &[u8], wanted: &[u8]) -> Result<bool, ProxyError> {
    if input.iter().zip(wanted).any(|(is, should)| is != should) {
        return Err(ProxyError::NotProxy);
    }
    Ok(input.len() >= wanted.len())
}

fn parse_v1(input: &[u8]) -> Result<Parse<ProxyHeader>, ProxyError> {
    if !signature(input, V1_SIGNATURE)? {
        return Ok(Parse::Partial);
    }
    let window = input.get(..limits::PROXY_V1_BYTES).unwrap_or(input);
    // Section 2.1: the line ends with CRLF; a lone CR or LF, or any other control byte, is an attack on
    // somebody's line reader.
    let Some(end) = window.iter().position(|byte| !matches!(byte, 0x20..=0x7e)) else {
        let full = window.len() == limits::PROXY_V1_BYTES;
        return if full { Err(ProxyError::LineTooLong) } else { Ok(Parse::Partial) };
    };
    match window.get(end..).unwrap_or_default() {
        [b'\r', b'\n', ..] => {
            let line = window.get(V1_SIGNATURE.len()..end).unwrap_or_default();
            Ok(Parse::Done { value: v1_fields(line)?, used: end + 2 })
        }
        [b'\r'] if window.len() < limits::PROXY_V1_BYTES => Ok(Parse::Partial),
        [b'\r'] => Err(ProxyError::LineTooLong),
        _ => Err(ProxyError::BadLineByte),
    }
}

fn v1_fields(line: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let line = str::from_utf8(line).map_err(|_| ProxyError::BadLineByte)?;
    let mut fields = line.split(' ');
    match fields.next() {
        Some("TCP4") => v1_addresses::<Ipv4Addr>(fields),
        Some("TCP6") => v1_addresses::<Ipv6Addr>(fields),
        // Section 2.1: the receiver ignores anything before the CRLF.
        Some("UNKNOWN") => Ok(ProxyHeader::default()),
        _ => Err(ProxyError::UnknownProtocol),
    }
}

fn v1_addresses<'a, A: FromStr + Into<IpAddr>>(
    fields: impl Iterator<Item = &'a str>,
) -> Result<ProxyHeader, ProxyError> {
    let mut fields = fields;
    let mut next = || fields.next().ok_or(ProxyError::BadFields);
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (next()?, next()?);
    if fields.next().is_some() {
        return Err(ProxyError::BadFields);
    }
    let address = |text: &str| text.parse::<A>().map(Into::into).map_err(|_| ProxyError::BadAddress);
    Ok(ProxyHeader {
        source: Some(SocketAddr::new(address(source)?, v1_port(source_port)?)),
        destination: Some(SocketAddr::new(address(destination)?, v1_port(destination_port)?)),
    })
}

fn v1_port(text: &str) -> Result<u16, ProxyError> {
    // Section 2.1 forbids leading zeros; a sign, which the number parser would take, is no digit.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(ProxyError::BadPort);
    }
    text.parse().map_err(|_| ProxyError::BadPort)
}

/// What a version 2 header says about the addresses that follow (section 2.2).
enum Command {
    Local,
    Proxy,
}

fn parse_v2(input: &[u8]) -> Result<Parse<ProxyHeader>, ProxyError> {
    const FIXED: usize = 16;
    if !signature(input, V2_SIGNATURE)? {
        return Ok(Parse::Partial);
    }
    let mut fixed = Cursor::new(input.get(V2_SIGNATURE.len()..).unwrap_or_default());
    let Some(version_and_command) = fixed.u8() else { return Ok(Parse::Partial) };
    if version_and_command >> 4 != 2 {
        return Err(ProxyError::UnknownVersion);
    }
    let command = match version_and_command & 0xf {
        0 => Command::Local,
        1 => Command::Proxy,
        _ => return Err(ProxyError::UnknownCommand),
    };
    let (Some(family), Some(length)) = (fixed.u8(), fixed.u16()) else { return Ok(Parse::Partial) };
    let used = FIXED + usize::from(length);
    if used > limits::PROXY_V2_BYTES {
        return Err(ProxyError::TooLong);
    }
    let Some(content) = fixed.take(usize::from(length)) else { return Ok(Parse::Partial) };
    let value = match command {
        // Section 2.2: of a LOCAL connection the receiver discards everything, the family included.
        Command::Local => ProxyHeader::default(),
        Command::Proxy => v2_addresses(family, Cursor::new(content))?,
    };
    Ok(Parse::Done { value, used })
}

fn v2_addresses(family: u8, content: Cursor<'_>) -> Result<ProxyHeader, ProxyError> {
    let mut content = content;
    let header = match family {
        0x11 => v2_pair::<4, Ipv4Addr>(&mut content)?,
        0x21 => v2_pair::<16, Ipv6Addr>(&mut content)?,
        // Datagram and Unix addresses have a known size, so what follows is still checked.
        0x12 => skip(&mut content, 12)?,
        0x22 => skip(&mut content, 36)?,
        0x31 | 0x32 => skip(&mut content, 216)?,
        // Section 2.2: unspecified and unknown families are ignored up to the announced length, because
        // nobody knows where their TLVs start.
        _ => return Ok(ProxyHeader::default()),
    };
    while !content.is_empty() {
        // Section 2.2.7: a type of one byte, a length of two, the value.
        content.u8().and_then(|_kind| content.vec16()).ok_or(ProxyError::TlvSpill)?;
    }
    Ok(header)
}

fn skip(content: &mut Cursor<'_>, size: usize) -> Result<ProxyHeader, ProxyError> {
    content.take(size).map(|_| ProxyHeader::default()).ok_or(ProxyError::AddressesCut)
}

fn v2_pair<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(
    content: &mut Cursor<'_>,
) -> Result<ProxyHeader, ProxyError> {
    let mut read = || {
        let source: A = content.array::<N>()?.into();
        let destination: A = content.array::<N>()?.into();
        let source = SocketAddr::new(source.into(), content.u16()?);
        let destination = SocketAddr::new(destination.into(), content.u16()?);
        Some(ProxyHeader { source: Some(source), destination: Some(destination) })
    };
    read().ok_or(ProxyError::AddressesCut)
}

/// What must hold for any bytes at all: the answer is a total function of the prefix alone, so that bytes
/// behind it or cut from it change nothing. For fuzzing and tests.
#[doc(hidden)]
pub fn fuzz(input: &[u8]) {
    let Ok(Parse::Done { value, used }) = parse(input) else { return };
    let prefix = input.get(..used).unwrap_or_default();
    assert!(parse(prefix) == Ok(Parse::Done { value, used }));
    assert!(parse(prefix.get(..used.saturating_sub(1)).unwrap_or_default()) == Ok(Parse::Partial));
    assert!(used <= limits::PROXY_V1_BYTES.max(limits::PROXY_V2_BYTES));
}

#[cfg(test)]
mod tests {
    use super::{ProxyError, ProxyHeader, V2_SIGNATURE, parse};
    use crate::limits;
    use crate::wire::Parse;

    fn header(source: &str, destination: &str) -> ProxyHeader {
        ProxyHeader { source: Some(source.parse().unwrap()), destination: Some(destination.parse().unwrap()) }
    }

    fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend_from_slice(&[0x20 | command, family]);
        bytes.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    /// Accepted whole, partial on every proper prefix, and untouched by what follows.
    fn accepted(prefix: &[u8], value: ProxyHeader) {
        for end in 0..prefix.len() {
            assert_eq!(parse(&prefix[..end]), Ok(Parse::Partial), "{end}: {}", prefix.escape_ascii());
        }
        assert_eq!(parse(prefix), Ok(Parse::Done { value, used: prefix.len() }));
        let followed = [prefix, b"\x16\x03\x01\x00"].concat();
        super::fuzz(&followed);
        assert_eq!(parse(&followed), Ok(Parse::Done { value, used: prefix.len() }));
    }

    /// Refused whole, and on no prefix accepted or refused for another reason.
    fn refused(input: &[u8], error: ProxyError) {
        assert_eq!(parse(input), Err(error), "{}", input.escape_ascii());
        for end in 0..input.len() {
            let answer = parse(&input[..end]);
            assert!(answer == Ok(Parse::Partial) || answer == Err(error), "{end}: {answer:?}");
        }
    }

    #[test]
    fn version_1_section_2_1() {
        accepted(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            header("192.0.2.1:56324", "198.51.100.2:443"),
        );
        accepted(b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", header("[2001:db8::1]:65535", "[::1]:0"));
        accepted(b"PROXY UNKNOWN\r\n", ProxyHeader::default());
        accepted(b"PROXY UNKNOWN ffff:f...f:ffff x 65535 \r\n", ProxyHeader::default());
        let mut longest = b"PROXY UNKNOWN ".to_vec();
        longest.resize(limits::PROXY_V1_BYTES - 2, b'f');
        longest.extend_from_slice(b"\r\n");
        accepted(&longest, ProxyHeader::default());
    }

    #[test]
    fn version_1_refusals() {
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n", ProxyError::BadFields);
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n", ProxyError::BadFields);
        refused(b"PROXY TCP4  192.0.2.1 198.51.100.2 1\r\n", ProxyError::BadAddress);
        refused(b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", ProxyError::BadAddress);
        refused(b"PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::BadAddress);
        refused(b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n", ProxyError::BadAddress);
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n", ProxyError::BadPort);
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n", ProxyError::BadPort);
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n", ProxyError::BadPort);
        refused(b"PROXY TCP4 192.0.2.1 198.51.100.2  2\r\n", ProxyError::BadPort);
        refused(b"PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n", ProxyError::UnknownProtocol);
        refused(b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", ProxyError::UnknownProtocol);
        refused(b"PROXY UNKNOWN\n", ProxyError::BadLineByte);
        refused(b"PROXY UNKNOWN\rX", ProxyError::BadLineByte);
        refused(b"PROXY UNKNOWN \0\r\n", ProxyError::BadLineByte);
        refused(b"PROXY TCP4 192.0.2.1\t198.51.100.2 1 2\r\n", ProxyError::BadLineByte);
        let mut long = b"PROXY UNKNOWN ".to_vec();
        long.resize(limits::PROXY_V1_BYTES, b'f');
        refused(&long, ProxyError::LineTooLong);
        *long.last_mut().unwrap() = b'\r';
        long.push(b'\n');
        refused(&long, ProxyError::LineTooLong);
    }

    #[test]
    fn another_protocol_shows_at_its_first_byte() {
        for input in [&b"\x16"[..], b"G", b"PRI", b"PROXX", b"\r\n\r\n\0\r\nQUIX", b"\0"] {
            assert_eq!(parse(input), Err(ProxyError::NotProxy));
        }
        assert_eq!(parse(b""), Ok(Parse::Partial));
    }

    const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];

    #[test]
    fn version_2_section_2_2() {
        let inet = header("192.0.2.1:56324", "198.51.100.2:443");
        accepted(&v2(1, 0x11, &INET), inet);
        let with_tlvs = [&INET[..], &[1, 0, 2, b'h', b'2', 4, 0, 0]].concat();
        accepted(&v2(1, 0x11, &with_tlvs), inet);
        let mut inet6 = [0; 36];
        inet6[15] = 1;
        inet6[31] = 2;
        inet6[33] = 9;
        accepted(&v2(1, 0x21, &inet6), header("[::1]:9", "[::2]:0"));
    }

    #[test]
    fn headers_without_usable_addresses_are_stepped_over() {
        let none = ProxyHeader::default();
        accepted(&v2(0, 0, b""), none);
        accepted(&v2(0, 0x11, &INET), none);
        accepted(&v2(0, 0x11, b"\xff\xff\xff"), none);
        accepted(&v2(1, 0, b""), none);
        accepted(&v2(1, 0x12, &INET), none);
        accepted(&v2(1, 0x31, &[b'/'; 216]), none);
        for family in [0x13, 0x41, 0x40, 0xff, 0x01] {
            accepted(&v2(1, family, b"anything at all"), none);
        }
        accepted(&v2(1, 0xff, &vec![7; limits::PROXY_V2_BYTES - 16]), none);
    }

    #[test]
    fn version_2_refusals() {
        refused(&v2(1, 0x11, &INET[..11]), ProxyError::AddressesCut);
        refused(&v2(1, 0x11, b""), ProxyError::AddressesCut);
        refused(&v2(1, 0x21, &[0; 35]), ProxyError::AddressesCut);
        refused(&v2(1, 0x31, &[0; 215]), ProxyError::AddressesCut);
        refused(&v2(2, 0x11, &INET), ProxyError::UnknownCommand);
        let spill = |tail: &[u8]| v2(1, 0x11, &[&INET[..], tail].concat());
        refused(&spill(&[1]), ProxyError::TlvSpill);
        refused(&spill(&[1, 0]), ProxyError::TlvSpill);
        refused(&spill(&[1, 0, 3, b'h', b'2']), ProxyError::TlvSpill);
        refused(&spill(&[4, 0, 0, 1, 0xff, 0xff]), ProxyError::TlvSpill);
        let mut version_1 = v2(1, 0x11, &INET);
        version_1[12] = 0x11;
        refused(&version_1, ProxyError::UnknownVersion);
        refused(&v2(1, 0x11, &vec![0; limits::PROXY_V2_BYTES - 15]), ProxyError::TooLong);
    }
}
