//! An upstream as written: `host:port`, `:port`, a bare port, `http://…`, `https://…`, `unix:PATH`, `demo`.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::model::Upstream;
use super::value::port_number;

/// Why a text is not an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// Nothing there.
    Empty,
    /// A scheme other than `http` and `https`.
    Scheme,
    /// A path, query or fragment behind the port.
    Path,
    /// `user@` in front of the host.
    User,
    /// No port, and no scheme that gives one.
    NoPort,
    /// A port that is not 1 to 65535.
    BadPort,
    /// An IPv6 address without brackets.
    NoBrackets,
    /// A host that is neither a name nor an IP address.
    BadHost,
    /// A socket path that is empty, holds a NUL, or is longer than a socket address (`sun_path`).
    BadSocket,
}

impl UpstreamError {
    /// What is wrong with it, as the end of a sentence that starts with the text.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::Scheme => "has a scheme other than http and https",
            Self::Path => "has a path",
            Self::User => "has a user name",
            Self::NoPort => "has no port",
            Self::BadPort => "has a port that is not a number from 1 to 65535",
            Self::NoBrackets => "is an IPv6 address without brackets",
            Self::BadHost => "has a host that is neither a name nor an IP address",
            Self::BadSocket => "is not the path of a Unix socket (1 to 107 bytes)",
        }
    }

    /// What to write instead.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Path => "leave the path out: the path of each request is passed on as it is",
            Self::User => "leave the user name out: the application's own credentials come from the client",
            Self::NoBrackets => "write \"[::1]:8000\"",
            Self::BadSocket => "write \"unix:/run/app.sock\"",
            Self::Scheme => "write \"127.0.0.1:8000\" or \"https://app.internal\"",
            Self::NoPort => "add the port: \"127.0.0.1:8000\", or \":8000\" for this machine",
            Self::Empty | Self::BadPort | Self::BadHost => {
                "write \"127.0.0.1:8000\", \":8000\", \"unix:/run/app.sock\" or \"https://app.internal\""
            }
        }
    }
}

/// Reads an upstream; the path of a Unix socket is kept as written.
///
/// # Errors
/// The first thing wrong with it.
pub fn upstream(text: &str) -> Result<Upstream, UpstreamError> {
    if text.is_empty() {
        return Err(UpstreamError::Empty);
    }
    if text == "demo" {
        return Ok(Upstream::Demo);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let usable = !path.is_empty() && path.len() <= SOCKET_PATH && !path.contains('\0');
        return if usable { Ok(Upstream::Unix(PathBuf::from(path))) } else { Err(UpstreamError::BadSocket) };
    }
    if let Some(rest) = text.strip_prefix("https://") {
        return tcp(rest, Some(443), true);
    }
    if let Some(rest) = text.strip_prefix("http://") {
        return tcp(rest, Some(80), false);
    }
    if text.contains("://") {
        return Err(UpstreamError::Scheme);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Upstream::Tcp { host: LOOPBACK.into(), port: port(text)?, tls: false });
    }
    if let Some(digits) = text.strip_prefix(':')
        && !digits.starts_with(':')
    {
        return Ok(Upstream::Tcp { host: LOOPBACK.into(), port: port(digits)?, tls: false });
    }
    tcp(text, None, false)
}

/// Where `:8000` is: most development servers listen on IPv4 only.
const LOOPBACK: &str = "127.0.0.1";
/// Bytes of `sun_path` without the NUL.
pub(super) const SOCKET_PATH: usize = 107;

/// `host:port` with a port to take if none is written.
pub(super) fn tcp(text: &str, default_port: Option<u16>, tls: bool) -> Result<Upstream, UpstreamError> {
    if text.contains(['/', '?', '#']) {
        return Err(UpstreamError::Path);
    }
    if text.contains('@') {
        return Err(UpstreamError::User);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(UpstreamError::NoBrackets);
    }
    let (host, written_port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(UpstreamError::BadHost)?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(UpstreamError::BadHost);
            }
            match after.strip_prefix(':') {
                Some(digits) => (host, Some(digits)),
                None if after.is_empty() => (host, None),
                None => return Err(UpstreamError::BadHost),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, digits)) => (host, Some(digits)),
            None => (text, None),
        },
    };
    if !is_host(host, tls) {
        return Err(UpstreamError::BadHost);
    }
    let port = match written_port {
        Some(digits) => port(digits)?,
        None => default_port.ok_or(UpstreamError::NoPort)?,
    };
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    };
    Ok(Upstream::Tcp { host, port, tls })
}

fn port(digits: &str) -> Result<u16, UpstreamError> {
    port_number(digits).filter(|port| *port != 0).ok_or(UpstreamError::BadPort)
}

/// Names inside a cluster have underscores and, against search lists, a last dot; a certificate has neither.
fn is_host(text: &str, tls: bool) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = if tls { text } else { text.strip_suffix('.').unwrap_or(text) };
    let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || (b == b'_' && !tls);
    let label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(byte) && !label.starts_with('-')
    };
    let number_last = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && !number_last && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Result<Upstream, UpstreamError> {
        Ok(Upstream::Tcp { host: host.into(), port, tls })
    }

    #[test]
    fn every_form() {
        assert_eq!(upstream("8000"), tcp("127.0.0.1", 8000, false));
        assert_eq!(upstream(":8000"), tcp("127.0.0.1", 8000, false));
        assert_eq!(upstream("App_1:9000"), tcp("app_1", 9000, false));
        assert_eq!(upstream("app.svc.cluster.local.:80"), tcp("app.svc.cluster.local.", 80, false));
        assert_eq!(upstream("[::1]:9000"), tcp("::1", 9000, false));
        assert_eq!(upstream("https://app.internal"), tcp("app.internal", 443, true));
        assert_eq!(upstream("https://[::1]:8443"), tcp("::1", 8443, true));
        assert_eq!(upstream("http://app:3000"), tcp("app", 3000, false));
        assert_eq!(upstream("unix:/run/a.sock"), Ok(Upstream::Unix("/run/a.sock".into())));
        assert_eq!(upstream("demo"), Ok(Upstream::Demo));
    }

    #[test]
    fn shown_forms_read_back() {
        for text in ["127.0.0.1:8000", "[::1]:9000", "https://a.example:443", "unix:/run/a.sock", "demo"] {
            assert_eq!(upstream(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, error) in [
            ("", UpstreamError::Empty),
            ("ftp://x:1", UpstreamError::Scheme),
            ("http://x:80/", UpstreamError::Path),
            ("https://u@x", UpstreamError::User),
            ("localhost", UpstreamError::NoPort),
            ("[::1]", UpstreamError::NoPort),
            ("0", UpstreamError::BadPort),
            (":0", UpstreamError::BadPort),
            ("a:", UpstreamError::BadPort),
            ("a:65536", UpstreamError::BadPort),
            ("::1", UpstreamError::NoBrackets),
            ("[x]:1", UpstreamError::BadHost),
            ("[::1]x:1", UpstreamError::BadHost),
            ("10.0.0.256:1", UpstreamError::BadHost),
            ("a b:1", UpstreamError::BadHost),
            ("https://a_b", UpstreamError::BadHost),
            ("unix:", UpstreamError::BadSocket),
            ("unix:a\0", UpstreamError::BadSocket),
        ] {
            assert_eq!(upstream(text), Err(error), "{text}");
        }
        assert_eq!(upstream(&format!("unix:/{}", "a".repeat(107))), Err(UpstreamError::BadSocket));
    }
}
