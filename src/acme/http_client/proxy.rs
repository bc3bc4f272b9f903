//! Which proxy leads to an authority, from the environment as curl reads it: `https_proxy` or `HTTPS_PROXY`,
//! and `no_proxy` or `NO_PROXY`.

use std::fmt;
use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::acme::ca::base64url;
use crate::config::model::Network;

/// Proxies for HTTPS; by default none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// An HTTP proxy that is spoken to in clear.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<Zeroizing<String>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// An entry of `no_proxy`.
#[derive(Clone, Debug)]
enum Exception {
    All,
    /// The name and all below it, on one port or all.
    Name(String, Option<u16>),
    Network(Network),
}

/// Why a proxy variable cannot be used. Its value is not shown: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// Not `http://[USER:PASSWORD@]HOST[:PORT]`.
    NotAProxy,
    /// A scheme other than `http`.
    Scheme,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAProxy => "HTTPS_PROXY is not of the form http://HOST:PORT",
            Self::Scheme => "HTTPS_PROXY names a proxy that is not http://",
        })
    }
}

impl std::error::Error for ProxyError {}

impl Proxies {
    /// From variables of the environment, given by name; lower case wins, empty is not set.
    ///
    /// # Errors
    /// The proxy's URL is none.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let set = |names: [&str; 2]| names.into_iter().find_map(|name| get(name).filter(|v| !v.is_empty()));
        let Some(url) = set(["https_proxy", "HTTPS_PROXY"]).map(Zeroizing::new) else {
            return Ok(Self::default());
        };
        let exceptions = set(["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let exceptions = exceptions.split([',', ' ']).filter_map(Exception::read).collect();
        Ok(Self { proxy: Some(Proxy::read(url.trim())?), exceptions })
    }

    /// The proxy for a host, if it is not to be reached directly.
    pub(super) fn for_host(&self, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        (!self.exceptions.iter().any(|exception| exception.covers(host, port))).then_some(proxy)
    }
}

impl Exception {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let (address, prefix) = match bare.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (bare, None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let whole = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.unwrap_or(whole);
            return (prefix <= whole).then_some(Self::Network(Network { address, prefix }));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        (!name.is_empty()).then(|| Self::Name(name.to_ascii_lowercase(), port))
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Name(name, of) => {
                of.is_none_or(|of| of == port)
                    && host
                        .strip_suffix(name.as_str())
                        .is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            Self::Network(network) => host.parse().is_ok_and(|address| network.contains(address)),
        }
    }
}

impl Proxy {
    fn read(url: &str) -> Result<Self, ProxyError> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ProxyError::Scheme),
            None => url,
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let authority: http::uri::Authority = place.parse().map_err(|_| ProxyError::NotAProxy)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // A port that is none is left out by the parser of authorities.
        let has_port = place.rsplit(']').next().is_some_and(|end| end.contains(':'));
        if host.is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(ProxyError::NotAProxy);
        }
        let authorization = match user {
            Some(user) => Some(basic(&decoded(user).ok_or(ProxyError::NotAProxy)?)),
            None => None,
        };
        // curl's default port.
        Ok(Self { host, port: authority.port_u16().unwrap_or(1080), authorization })
    }

    /// The head of a request for a tunnel to `authority`.
    pub(super) fn connect_head(&self, authority: &str) -> Zeroizing<String> {
        let mut head = Zeroizing::new(String::with_capacity(1024));
        head.push_str(&format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"));
        if let Some(authorization) = &self.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head
    }
}

/// `USER:PASSWORD` as a field value (RFC 7617).
fn basic(user: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(base64url::encode(user));
    let mut value = Zeroizing::new(String::with_capacity(text.len() + 10));
    value.push_str("Basic ");
    value.extend(text.chars().map(|c| match c {
        '-' => '+',
        '_' => '/',
        other => other,
    }));
    for _ in 0..(4 - text.len() % 4) % 4 {
        value.push('=');
    }
    value
}

/// With percent-encoding undone.
fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
                u8::try_from(high.to_digit(16)? << 4 | low.to_digit(16)?).ok()?
            }
            other => other,
        };
        out.push(byte);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let variables = variables.to_vec();
        Proxies::from_environment(|name| {
            variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn no_variable_no_proxy() {
        assert!(proxies(&[]).unwrap().for_host("ca.example", 443).is_none());
        assert!(proxies(&[("HTTPS_PROXY", ""), ("HTTP_PROXY", "http://p:1")]).unwrap().proxy.is_none());
    }

    #[test]
    fn lower_case_wins_and_forms_are_read() {
        let of = |url: &str| {
            let proxy =
                proxies(&[("https_proxy", url), ("HTTPS_PROXY", "http://other:1")]).unwrap().proxy.unwrap();
            (proxy.host, proxy.port)
        };
        assert_eq!(of("http://proxy.example:3128/"), ("proxy.example".to_owned(), 3128));
        assert_eq!(of("proxy.example:3128"), ("proxy.example".to_owned(), 3128));
        assert_eq!(of("HTTP://[::1]:8"), ("::1".to_owned(), 8));
        assert_eq!(of("http://10.0.0.1"), ("10.0.0.1".to_owned(), 1080));
        for (bad, error) in [
            ("https://p:1", ProxyError::Scheme),
            ("socks5://p:1", ProxyError::Scheme),
            ("http://", ProxyError::NotAProxy),
            ("http://p:x", ProxyError::NotAProxy),
            ("http://p:99999", ProxyError::NotAProxy),
            ("http://a%zz@p:1", ProxyError::NotAProxy),
        ] {
            assert_eq!(proxies(&[("HTTPS_PROXY", bad)]).map(|_| ()), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_password_goes_to_the_proxy_only() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://me:p%40ss%3F%3E@p:1")]).unwrap();
        let proxy = proxies.for_host("ca.example", 443).unwrap();
        let head = proxy.connect_head("ca.example:443");
        assert_eq!(
            *head,
            "CONNECT ca.example:443 HTTP/1.1\r\nHost: ca.example:443\r\n\
             Proxy-Authorization: Basic bWU6cEBzcz8+\r\n\r\n"
        );
        let shown = format!("{proxies:?}");
        assert!(shown.contains("\"p\"") && !shown.contains("bWU6") && !shown.contains("p@ss"), "{shown}");
    }

    #[test]
    fn exceptions_are_names_below_addresses_and_networks() {
        let exceptions = "internal.example, .corp,*.dev,ca.example:14000 10.0.0.0/8,fd00::/8,[::1],192.0.2.1";
        let proxies = proxies(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", exceptions)]).unwrap();
        let direct = |host, port| proxies.for_host(host, port).is_none();
        for host in [
            "internal.example",
            "a.internal.example",
            "a.corp",
            "corp",
            "x.dev",
            "10.1.2.3",
            "fd00::1",
            "::1",
            "192.0.2.1",
        ] {
            assert!(direct(host, 443), "{host}");
        }
        for host in ["xinternal.example", "example", "11.0.0.1", "fe00::1", "192.0.2.11", "ca.example"] {
            assert!(!direct(host, 443), "{host}");
        }
        assert!(direct("ca.example", 14000));
        let all = [("HTTPS_PROXY", "p:1"), ("no_proxy", "*"), ("NO_PROXY", "x")];
        assert!(
            super::Proxies::from_environment(|name| {
                all.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
            .unwrap()
            .for_host("ca.example", 443)
            .is_none()
        );
    }
}
