//! Field names that the proxy has to know (RFC 9110 §5.1: names are case-insensitive).

/// A field name that means something to the proxy; every other one is [`Name::Other`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the name it stands for")]
pub enum Name {
    #[default]
    Other,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Server,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
}

impl Name {
    /// What `name` means, in any case.
    ///
    /// Most names of a head are told apart by first letter and length alone, in line with the parser; the
    /// rest have one candidate each (two for `X-Forwarded-Host` and `-Port`).
    #[inline(always)]
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let lengths = LENGTHS.get(usize::from(first & 0x1f)).copied().unwrap_or_default();
        let is_candidate = name.len() < 32 && lengths >> name.len() & 1 == 1;
        if is_candidate { Self::compared(*first, name) } else { Self::Other }
    }

    #[inline(never)]
    fn compared(first: u8, name: &[u8]) -> Self {
        let (candidate, text): (Self, &[u8]) = match (name.len(), first | 0x20) {
            (2, b't') => (Self::Te, b"te"),
            (3, b'v') => (Self::Via, b"via"),
            (4, b'h') => (Self::Host, b"host"),
            (4, b'd') => (Self::Date, b"date"),
            (6, b'c') => (Self::Cookie, b"cookie"),
            (6, b'e') => (Self::Expect, b"expect"),
            (6, b's') => (Self::Server, b"server"),
            (7, b't') => (Self::Trailer, b"trailer"),
            (7, b'u') => (Self::Upgrade, b"upgrade"),
            (9, b'f') => (Self::Forwarded, b"forwarded"),
            (9, b'x') => (Self::XRealIp, b"x-real-ip"),
            (10, b'c') => (Self::Connection, b"connection"),
            (10, b'k') => (Self::KeepAlive, b"keep-alive"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (14, b'h') => (Self::Http2Settings, b"http2-settings"),
            (15, b'x') => (Self::XForwardedFor, b"x-forwarded-for"),
            (16, b'p') => (Self::ProxyConnection, b"proxy-connection"),
            (16, b'x') if name.ends_with(b"t") || name.ends_with(b"T") => return Self::forwarded_part(name),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            (17, b'x') => (Self::XForwardedProto, b"x-forwarded-proto"),
            (18, b'p') => (Self::ProxyAuthenticate, b"proxy-authenticate"),
            (19, b'p') => (Self::ProxyAuthorization, b"proxy-authorization"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(text) { candidate } else { Self::Other }
    }

    fn forwarded_part(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"x-forwarded-host") {
            Self::XForwardedHost
        } else if name.eq_ignore_ascii_case(b"x-forwarded-port") {
            Self::XForwardedPort
        } else {
            Self::Other
        }
    }
}

/// For the low five bits of a first letter, the lengths of known names as bits.
const LENGTHS: [u32; 32] = lengths();

// Evaluated by the compiler, where an index out of range is a compile error.
#[allow(clippy::indexing_slicing)]
const fn lengths() -> [u32; 32] {
    let mut table = [0; 32];
    let mut letter = b'a';
    while letter <= b'z' {
        table[(letter & 0x1f) as usize] = match letter {
            b'c' => 1 << 6 | 1 << 10 | 1 << 14,
            b'd' => 1 << 4,
            b'e' | b's' => 1 << 6,
            b'f' => 1 << 9,
            b'h' => 1 << 4 | 1 << 14,
            b'k' => 1 << 10,
            b'p' => 1 << 16 | 1 << 18 | 1 << 19,
            b't' => 1 << 2 | 1 << 7 | 1 << 17,
            b'u' => 1 << 7,
            b'v' => 1 << 3,
            b'x' => 1 << 9 | 1 << 15 | 1 << 16 | 1 << 17,
            _ => 0,
        };
        letter += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::Name;

    const ALL: [(&str, Name); 23] = [
        ("Connection", Name::Connection),
        ("Content-Length", Name::ContentLength),
        ("Cookie", Name::Cookie),
        ("Date", Name::Date),
        ("Expect", Name::Expect),
        ("Forwarded", Name::Forwarded),
        ("Host", Name::Host),
        ("HTTP2-Settings", Name::Http2Settings),
        ("Keep-Alive", Name::KeepAlive),
        ("Proxy-Authenticate", Name::ProxyAuthenticate),
        ("Proxy-Authorization", Name::ProxyAuthorization),
        ("Proxy-Connection", Name::ProxyConnection),
        ("Server", Name::Server),
        ("TE", Name::Te),
        ("Trailer", Name::Trailer),
        ("Transfer-Encoding", Name::TransferEncoding),
        ("Upgrade", Name::Upgrade),
        ("Via", Name::Via),
        ("X-Forwarded-For", Name::XForwardedFor),
        ("X-Forwarded-Host", Name::XForwardedHost),
        ("X-Forwarded-Port", Name::XForwardedPort),
        ("X-Forwarded-Proto", Name::XForwardedProto),
        ("X-Real-IP", Name::XRealIp),
    ];

    #[test]
    fn every_known_name_is_known_in_any_case() {
        for (text, name) in ALL {
            assert_eq!(Name::of(text.as_bytes()), name);
            assert_eq!(Name::of(text.to_ascii_lowercase().as_bytes()), name);
            assert_eq!(Name::of(text.to_ascii_uppercase().as_bytes()), name);
        }
    }

    #[test]
    fn a_name_with_one_other_byte_is_another_name() {
        for (text, name) in ALL {
            let places = (0..text.len()).flat_map(|place| (0..=255_u8).map(move |byte| (place, byte)));
            for (place, byte) in places {
                let mut other = text.as_bytes().to_vec();
                other[place] = byte;
                let twin = ALL.iter().find(|(twin, _)| other.eq_ignore_ascii_case(twin.as_bytes()));
                let want = twin.map_or(Name::Other, |twin| twin.1);
                assert_eq!(Name::of(&other), want, "{name:?} with {byte:#x} at {place}");
            }
        }
        assert_eq!(Name::of(b""), Name::Other);
    }
}
