//! Names that no public authority can vouch for, so that it is never asked.

use std::fmt;
use std::net::IpAddr;

use crate::acme::slot::Identifier;
use crate::config::model::Authority;

/// Suffixes reserved for special use (RFC 2606, RFC 6761, RFC 6762, RFC 7686, RFC 8375, ICANN's
/// `.internal`).
const RESERVED: [&str; 13] = [
    "alt",
    "example",
    "example.com",
    "example.net",
    "example.org",
    "home.arpa",
    "internal",
    "invalid",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "test",
];

/// Why an identifier cannot be ordered from an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unorderable {
    /// It stands below a reserved suffix.
    Reserved(&'static str),
    /// It has one label only.
    SingleLabel,
    /// The address is not one of the public internet.
    PrivateAddress,
}

impl fmt::Display for Unorderable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(suffix) => write!(f, "no public authority vouches for names under {suffix:?}"),
            Self::SingleLabel => f.write_str("no public authority vouches for a name of one label"),
            Self::PrivateAddress => f.write_str("no public authority vouches for an address of this kind"),
        }
    }
}

impl std::error::Error for Unorderable {}

/// Whether the authority may be asked for the identifier. An authority given by URL may be a private one
/// and is asked for anything.
///
/// # Errors
/// Why a public authority would refuse.
pub fn orderable(identifier: &Identifier, authority: &Authority) -> Result<(), Unorderable> {
    if authority.preset.is_none() {
        return Ok(());
    }
    match identifier {
        Identifier::Dns(name) => public_name(name.strip_prefix("*.").unwrap_or(name)),
        Identifier::Ip(address) if is_public(*address) => Ok(()),
        Identifier::Ip(_) => Err(Unorderable::PrivateAddress),
    }
}

/// Whether a lower-case name can belong to the public DNS.
fn public_name(name: &str) -> Result<(), Unorderable> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Some(suffix) = RESERVED.iter().find(|suffix| is_under(name, suffix)) {
        return Err(Unorderable::Reserved(suffix));
    }
    if name.contains('.') { Ok(()) } else { Err(Unorderable::SingleLabel) }
}

fn is_under(name: &str, suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len());
    let end = start.and_then(|start| Some((name.get(..start)?, name.get(start..)?)));
    end.is_some_and(|(above, end)| {
        end.eq_ignore_ascii_case(suffix) && (above.is_empty() || above.ends_with('.'))
    })
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = matches!(
                (a, b, c),
                (0 | 10 | 127, _, _)
                    | (100, 64..=127, _)
                    | (172, 16..=31, _)
                    | (192, 168, _)
                    | (169, 254, _)
                    | (192, 0, 0 | 2)
                    | (198, 18 | 19, _)
                    | (198, 51, 100)
                    | (203, 0, 113)
                    | (224..=255, _, _)
            );
            !special
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public(IpAddr::V4(v4));
            }
            // Global unicast is 2000::/3; documentation prefixes and Teredo lie in it.
            let [first, second, ..] = v6.segments();
            let documentation = (first == 0x2001 && second == 0x0db8) || (first == 0x3fff && second < 0x1000);
            first & 0xe000 == 0x2000 && !documentation && (first, second) != (0x2001, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Preset;

    fn authority(preset: Option<Preset>) -> Authority {
        Authority { directory: "https://ca.test/".to_owned(), preset, eab: None }
    }

    #[test]
    fn public_authorities_are_asked_for_public_names_only() {
        let dns = |name: &str| Identifier::Dns(name.to_owned());
        let ip = |text: &str| Identifier::Ip(text.parse().unwrap());
        let refused = [
            (dns("example"), Unorderable::Reserved("example")),
            (dns("a.example.com"), Unorderable::Reserved("example.com")),
            (dns("example.net"), Unorderable::Reserved("example.net")),
            (dns("*.example.org"), Unorderable::Reserved("example.org")),
            (dns("a.test"), Unorderable::Reserved("test")),
            (dns("a.invalid"), Unorderable::Reserved("invalid")),
            (dns("localhost"), Unorderable::Reserved("localhost")),
            (dns("db.internal"), Unorderable::Reserved("internal")),
            (dns("printer.local"), Unorderable::Reserved("local")),
            (dns("nas.home.arpa"), Unorderable::Reserved("home.arpa")),
            (dns("*.home.arpa"), Unorderable::Reserved("home.arpa")),
            (dns("app"), Unorderable::SingleLabel),
            (dns("*.com"), Unorderable::SingleLabel),
        ];
        let addresses = [
            "10.1.2.3",
            "127.0.0.1",
            "192.168.0.1",
            "172.31.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ];
        let addresses = addresses.map(|text| (ip(text), Unorderable::PrivateAddress));
        for (identifier, reason) in refused.into_iter().chain(addresses) {
            for preset in Preset::ALL {
                assert_eq!(orderable(&identifier, &authority(Some(preset))), Err(reason), "{identifier}");
            }
            assert_eq!(orderable(&identifier, &authority(None)), Ok(()), "a private authority may");
        }
        let fine = ["lockring.dev", "*.lockring.dev", "myexample.com", "a.latest", "example.co", "test.de"];
        let fine = fine.map(dns).into_iter().chain(["8.8.8.8", "172.32.0.1", "2606:4700::1"].map(ip));
        for identifier in fine {
            assert_eq!(orderable(&identifier, &authority(Some(Preset::LetsEncrypt))), Ok(()), "{identifier}");
        }
    }
}
