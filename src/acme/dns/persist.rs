//! Records of dns-persist-01 (draft-ietf-acme-dns-persist): set once by the operator, read here and never
//! written. Their content is an issue value of CAA (RFC 8659 §4.2).

use std::fmt;

use super::lookup::{LookupError, Resolver};
use super::name::{Name, NameError};

/// The label in front of a name.
const LABEL: &str = "_validation-persist";

/// What stands at a name, seen from one account and issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A record allows the issuance.
    Allowed,
    /// No record names this issuer.
    Missing,
    /// Records name this issuer, but for another account: that of the last one.
    OtherAccount(String),
    /// A record for this account does not allow wildcards.
    NoWildcard,
    /// A record for this account ended at this Unix time.
    Expired(u64),
    /// A record of this issuer is malformed.
    Malformed(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("the record is there"),
            Self::Missing => f.write_str("no record names this authority"),
            Self::OtherAccount(uri) => write!(f, "the record is for another account, {uri}"),
            Self::NoWildcard => f.write_str("the record lacks policy=wildcard"),
            Self::Expired(until) => write!(f, "the record ended at Unix time {until}"),
            Self::Malformed(text) => write!(f, "the record is malformed: {text}"),
        }
    }
}

/// Name and content of the record for `identifier` (`example.com` or `*.example.com`), which the operator
/// is to set. `persist_until`: Unix time after which it does not count.
///
/// # Errors
/// What is wrong with the identifier.
pub fn expected_persist_record(
    identifier: &str,
    issuer: &str,
    account: &str,
    wildcard: bool,
    persist_until: Option<u64>,
) -> Result<(Name, String), NameError> {
    let name = Name::parse(identifier.strip_prefix("*.").unwrap_or(identifier))?.child(LABEL)?;
    let mut value = format!("{issuer}; accounturi={account}");
    if wildcard || identifier.starts_with("*.") {
        value.push_str("; policy=wildcard");
    }
    if let Some(until) = persist_until {
        value.push_str(&format!("; persistUntil={until}"));
    }
    Ok((name, value))
}

/// Whether a record that allows the issuance is there. `issuers`: the issuer domain names that the
/// challenge offers; `now`: Unix time.
///
/// # Errors
/// Why the records could not be looked up.
pub async fn persist_present(
    resolver: &Resolver,
    identifier: &str,
    issuers: &[String],
    account: &str,
    now: u64,
) -> Result<Standing, PersistError> {
    let wildcard = identifier.starts_with("*.");
    let base = identifier.strip_prefix("*.").unwrap_or(identifier);
    let name = Name::parse(base).and_then(|name| name.child(LABEL)).map_err(PersistError::Name)?;
    let texts = resolver.txt(&name).await.map_err(PersistError::Lookup)?;
    Ok(standing(&texts, issuers, account, wildcard, now))
}

/// Why it is not known whether a record is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersistError {
    /// The identifier.
    Name(NameError),
    /// A look-up.
    Lookup(LookupError),
}

impl fmt::Display for PersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Lookup(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PersistError {}

/// The best of the records.
fn standing(texts: &[Vec<u8>], issuers: &[String], account: &str, wildcard: bool, now: u64) -> Standing {
    let mut best = Standing::Missing;
    for text in texts {
        let text = String::from_utf8_lossy(text);
        let found = judge(&text, issuers, account, wildcard, now);
        if rank(&found) > rank(&best) {
            best = found;
        }
    }
    best
}

/// Nearer to allowed is higher.
fn rank(standing: &Standing) -> u8 {
    match standing {
        Standing::Missing => 0,
        Standing::Malformed(_) => 1,
        Standing::OtherAccount(_) => 2,
        Standing::Expired(_) => 3,
        Standing::NoWildcard => 4,
        Standing::Allowed => 5,
    }
}

fn judge(text: &str, issuers: &[String], account: &str, wildcard: bool, now: u64) -> Standing {
    let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
    let issuer = parts.next().unwrap_or_default().trim_end_matches('.');
    if !issuers.iter().any(|known| known.trim_end_matches('.').eq_ignore_ascii_case(issuer)) {
        return Standing::Missing;
    }
    let malformed = || Standing::Malformed(text.escape_debug().to_string());
    let (mut uri, mut policy, mut until) = (None, None, None);
    for part in parts.filter(|part| !part.is_empty()) {
        let Some((tag, value)) = part.split_once('=') else { return malformed() };
        let (tag, value) = (tag.trim_end(), value.trim_start());
        let slot = match tag.to_ascii_lowercase().as_str() {
            "accounturi" => &mut uri,
            "policy" => &mut policy,
            "persistuntil" => &mut until,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return malformed();
        }
    }
    let until = match until.map(str::parse::<u64>) {
        Some(Err(_)) => return malformed(),
        Some(Ok(until)) => Some(until),
        None => None,
    };
    match uri {
        None => malformed(),
        Some(other) if other != account => Standing::OtherAccount(other.escape_debug().to_string()),
        Some(_) if until.is_some_and(|until| until < now) => Standing::Expired(until.unwrap_or_default()),
        Some(_) if wildcard && !policy.is_some_and(|policy| policy.eq_ignore_ascii_case("wildcard")) => {
            Standing::NoWildcard
        }
        Some(_) => Standing::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing, expected_persist_record, standing};

    const ACCOUNT: &str = "https://ca.example/acct/1";

    fn look(texts: &[&str], wildcard: bool) -> Standing {
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        standing(&texts, &["ca.example".to_owned(), "other.example".to_owned()], ACCOUNT, wildcard, 1000)
    }

    #[test]
    fn the_record_that_is_printed_is_the_record_that_is_looked_for() {
        let (name, value) = expected_persist_record("a.example", "ca.example", ACCOUNT, false, None).unwrap();
        assert_eq!(name.to_string(), "_validation-persist.a.example.");
        assert_eq!(value, "ca.example; accounturi=https://ca.example/acct/1");
        assert_eq!(look(&[&value], false), Standing::Allowed);
        assert_eq!(look(&[&value], true), Standing::NoWildcard);
        let (name, value) =
            expected_persist_record("*.a.example", "ca.example", ACCOUNT, false, Some(2000)).unwrap();
        assert_eq!(name.to_string(), "_validation-persist.a.example.");
        assert!(value.ends_with("; policy=wildcard; persistUntil=2000"), "{value}");
        assert_eq!(look(&[&value], true), Standing::Allowed);
        let (_, value) = expected_persist_record("a.example", "ca.example", ACCOUNT, true, None).unwrap();
        assert_eq!(look(&[&value], true), Standing::Allowed);
        assert!(expected_persist_record("a b", "ca.example", ACCOUNT, true, None).is_err());
    }

    #[test]
    fn what_does_not_allow_says_why() {
        let other = "ca.example; accounturi=https://ca.example/acct/2";
        let cases = [
            ("", Standing::Missing),
            ("ca.invalid; accounturi=https://ca.example/acct/1", Standing::Missing),
            (other, Standing::OtherAccount("https://ca.example/acct/2".to_owned())),
            ("ca.example; accounturi=https://ca.example/acct/1; persistUntil=999", Standing::Expired(999)),
            ("ca.example", Standing::Malformed("ca.example".to_owned())),
            ("ca.example; x", Standing::Malformed("ca.example; x".to_owned())),
        ];
        for (text, expected) in cases {
            assert_eq!(look(&[text], false), expected, "{text}");
        }
        for text in [
            "ca.example; accounturi=https://ca.example/acct/1; accounturi=https://ca.example/acct/1",
            "ca.example; accounturi=https://ca.example/acct/1; persistUntil=soon",
        ] {
            assert!(matches!(look(&[text], false), Standing::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn spelling_is_free_where_the_draft_frees_it_and_the_best_record_counts() {
        let free = "CA.Example. ;AccountURI = https://ca.example/acct/1;POLICY=WildCard; future=1;";
        assert_eq!(look(&[free], true), Standing::Allowed);
        let other = "ca.example; accounturi=https://ca.example/acct/2";
        assert_eq!(look(&[free, other], true), Standing::Allowed);
        assert_eq!(look(&[other, free, ""], true), Standing::Allowed);
    }
}
