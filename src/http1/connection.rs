//! The `Connection` field (RFC 9110 §7.6.1): options of this hop, and names of fields that end here.

use crate::http::field::Name;
use crate::http::head::{FieldLine, Version};

/// What `Connection` asks for, over all of its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Any other option, which may name a field that must not be forwarded.
    pub names_others: bool,
}

impl ConnectionOptions {
    /// Adds the options of one `Connection` value.
    pub(super) fn add(&mut self, value: &[u8]) {
        for option in members(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_others = true;
            }
        }
    }

    /// Whether the connection stays open after the message (RFC 9112 §9.3).
    pub(super) fn persists(self, version: Version) -> bool {
        !self.close && (self.keep_alive || version != Version::Http10)
    }
}

/// Whether a `Connection` line among `fields` names the field `name` (any case), which then must not be
/// forwarded. Fields that the proxy sets itself are set after this stripping.
#[must_use]
pub fn is_named_by_connection(bytes: &[u8], fields: &[FieldLine], name: &[u8]) -> bool {
    let lines = fields.iter().filter(|line| line.known == Name::Connection);
    lines.flat_map(|line| members(line.value.of(bytes))).any(|option| option.eq_ignore_ascii_case(name))
}

/// Whether a field ends at this hop even if `Connection` does not name it (RFC 9110 §7.6.1; the `Proxy-*`
/// and `HTTP2-Settings` fields are addressed to a proxy, and that is us).
#[must_use]
pub fn is_hop_by_hop(known: Name) -> bool {
    matches!(
        known,
        Name::Connection
            | Name::Http2Settings
            | Name::KeepAlive
            | Name::ProxyAuthenticate
            | Name::ProxyAuthorization
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
    )
}

/// The members of a list without their blanks; empty ones are skipped (RFC 9110 §5.6.1.2).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// `bytes` without SP and HTAB at both ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{ConnectionOptions, is_named_by_connection, members};
    use crate::http::field::Name;
    use crate::http::head::{FieldLine, Version};
    use crate::wire::Span;

    #[test]
    fn lists_have_blanks_and_empty_members_rfc_9110_5_6_1() {
        let list: Vec<_> = members(b" a ,,\tb\t, c d ,").collect();
        assert_eq!(list, [&b"a"[..], b"b", b"c d"]);
        assert_eq!(members(b" , ").count(), 0);
    }

    #[test]
    fn persistence_rfc_9112_9_3() {
        let persists = |value: &[u8], version| {
            let mut options = ConnectionOptions::default();
            options.add(value);
            options.persists(version)
        };
        assert!(persists(b"", Version::Http11) && !persists(b"", Version::Http10));
        assert!(persists(b"Keep-Alive", Version::Http10));
        assert!(!persists(b"keep-alive, CLOSE", Version::Http10));
        assert!(!persists(b"x, close", Version::Http11));
    }

    #[test]
    fn names_are_compared_whole_and_in_any_case() {
        let bytes = b"close, X-Secret,x";
        let line = FieldLine { known: Name::Connection, name: Span::default(), value: Span::between(0, 17) };
        assert!(is_named_by_connection(bytes, &[line], b"x-secret"));
        assert!(is_named_by_connection(bytes, &[line], b"X"));
        assert!(!is_named_by_connection(bytes, &[line], b"secret"));
        assert!(!is_named_by_connection(bytes, &[FieldLine { known: Name::Via, ..line }], b"x"));
    }
}
