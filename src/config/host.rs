//! The host of a site, as written in `[sites]`: a name, a wildcard, or an IP address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::{HostPattern, Network};

/// Why a text is not the host of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Nothing there.
    Empty,
    /// A URL instead of a host.
    Url,
    /// A host with a path.
    Path,
    /// A host with a port.
    Port,
    /// Letters outside ASCII.
    NotAscii,
    /// A dot at the end.
    TrailingDot,
    /// A `*` that is not the whole first label.
    Wildcard,
    /// Two dots in a row, or one in front.
    EmptyLabel,
    /// A label of more than 63 bytes, or a name of more than 253 (RFC 1035 §2.3.4).
    TooLong,
    /// A byte other than letter, digit and hyphen, or a hyphen at the edge of a label (RFC 1123 §2.1).
    BadLabel,
    /// A last label of digits: only IPv4 addresses end so, and this is none.
    NotAnIp,
}

impl HostError {
    /// What is wrong with it, as the end of a sentence that starts with the text.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::Url => "is a URL, not a host",
            Self::Path => "has a path",
            Self::Port => "has a port",
            Self::NotAscii => "has letters outside ASCII",
            Self::TrailingDot => "ends in a dot",
            Self::Wildcard => "has a `*` that is not the whole first label",
            Self::EmptyLabel => "has an empty label",
            Self::TooLong => "is too long (63 bytes a label, 253 in all)",
            Self::BadLabel => "has a label that is not made of letters, digits and inner hyphens",
            Self::NotAnIp => "ends in a number but is not an IPv4 address",
        }
    }

    /// What to write instead.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Url => "write the host alone, such as \"app.example.com\"",
            Self::Path => "write the host alone; paths are routes: [[sites.\"HOST\".route]]",
            Self::Port => "leave the port out; the ports are those of [server] https and http",
            Self::NotAscii => "write the A-label, the form that starts with `xn--`",
            Self::TrailingDot => "leave the last dot out",
            Self::Wildcard => "write \"*.example.com\": a wildcard stands for exactly one label, the first",
            Self::NotAnIp => "write four numbers up to 255, such as \"192.0.2.7\"",
            Self::Empty | Self::EmptyLabel | Self::TooLong | Self::BadLabel => {
                "write a host name such as \"app.example.com\""
            }
        }
    }
}

/// Reads a host in lower or upper case; IPv6 with or without brackets.
///
/// # Errors
/// The first thing wrong with it.
pub fn host(text: &str) -> Result<HostPattern, HostError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        return Ok(HostPattern::Ip(IpAddr::from(ip).to_canonical()));
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(HostPattern::Ip(ip.into()));
    }
    if text.contains("://") {
        return Err(HostError::Url);
    }
    if text.contains('/') {
        return Err(HostError::Path);
    }
    if text.contains(':') {
        return Err(HostError::Port);
    }
    if !text.is_ascii() {
        return Err(HostError::NotAscii);
    }
    if text.len() > 1 && text.ends_with('.') {
        return Err(HostError::TrailingDot);
    }
    match text.strip_prefix("*.") {
        Some(parent) => Ok(HostPattern::Wildcard(name(parent)?)),
        None => Ok(HostPattern::Exact(name(text)?)),
    }
}

fn name(text: &str) -> Result<String, HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if text.contains('*') {
        return Err(HostError::Wildcard);
    }
    if text.len() > 253 {
        return Err(HostError::TooLong);
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err(HostError::EmptyLabel);
        }
        if label.len() > 63 {
            return Err(HostError::TooLong);
        }
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !inner || label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::BadLabel);
        }
    }
    // Browsers read a host that ends in a number as an IPv4 address (WHATWG URL §3.5).
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(HostError::NotAnIp);
    }
    Ok(text.to_ascii_lowercase())
}

/// Names that never belong to the public DNS (RFC 6761 §6.2 and §6.3, RFC 8375, ICANN's `.internal`).
pub const LOCAL_SUFFIXES: [&str; 4] = ["localhost", "test", "internal", "home.arpa"];

/// Loopback, private (RFC 1918, RFC 4193) and link-local (RFC 3927, RFC 4291 §2.5.6) networks.
pub const LOCAL_NETWORKS: [Network; 8] = [
    network(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    network(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    network(IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    network(IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    network(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    network(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    network(IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    network(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

const fn network(address: IpAddr, prefix: u8) -> Network {
    Network { address, prefix }
}

/// Whether only the local CA can vouch for this host.
#[must_use]
pub fn is_local(host: &HostPattern) -> bool {
    match host {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => LOCAL_SUFFIXES.iter().any(|suffix| {
            name.strip_suffix(suffix).is_some_and(|above| above.is_empty() || above.ends_with('.'))
        }),
        HostPattern::Ip(ip) => LOCAL_NETWORKS.iter().any(|network| network.contains(*ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case_names_wildcards_and_addresses() {
        assert_eq!(host("App.Example.com"), Ok(HostPattern::Exact("app.example.com".into())));
        assert_eq!(host("localhost"), Ok(HostPattern::Exact("localhost".into())));
        assert_eq!(host("*.Example.org"), Ok(HostPattern::Wildcard("example.org".into())));
        assert_eq!(host("192.0.2.7"), Ok(HostPattern::Ip("192.0.2.7".parse().unwrap())));
        assert_eq!(host("[::1]"), Ok(HostPattern::Ip("::1".parse().unwrap())));
        assert_eq!(host("::ffff:192.0.2.7"), Ok(HostPattern::Ip("192.0.2.7".parse().unwrap())));
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, error) in [
            ("", HostError::Empty),
            (".", HostError::EmptyLabel),
            ("https://a.example", HostError::Url),
            ("a.example/x", HostError::Path),
            ("a.example:443", HostError::Port),
            ("bücher.example", HostError::NotAscii),
            ("a.example.", HostError::TrailingDot),
            ("*", HostError::Wildcard),
            ("*.*.example", HostError::Wildcard),
            ("a*.example", HostError::Wildcard),
            ("*.", HostError::TrailingDot),
            ("a..example", HostError::EmptyLabel),
            ("a_b.example", HostError::BadLabel),
            ("-a.example", HostError::BadLabel),
            ("a b", HostError::BadLabel),
            ("[a]", HostError::BadLabel),
            ("10.0.0.256", HostError::NotAnIp),
            ("8000", HostError::NotAnIp),
        ] {
            assert_eq!(host(text), Err(error), "{text}");
        }
        assert_eq!(host(&"a".repeat(64)), Err(HostError::TooLong));
        assert_eq!(host(&"a.".repeat(127)), Err(HostError::TrailingDot));
        assert_eq!(host(&format!("{}a", "a.".repeat(127))), Err(HostError::TooLong));
    }
}
