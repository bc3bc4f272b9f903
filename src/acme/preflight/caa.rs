//! CAA records (RFC 8659) and their parameters (RFC 8657), seen from one authority and account.

use crate::acme::dns::lookup::CaaSet;
use crate::acme::dns::message::Caa;
use crate::config::model::ChallengeKind;

/// Tags that authorities are known to understand (IANA's registry); others forbid when they are critical.
const KNOWN: [&str; 7] =
    ["issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"];

/// What the records that count for a name say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaaVerdict {
    /// The authority may issue.
    Allowed,
    /// Whether it may depends on its names, which are not known.
    Unknown,
    /// The records name others, or nobody: the values found.
    Others(String),
    /// They name the authority, but for another account: its `accounturi`.
    OtherAccount(String),
    /// They name the authority, but not for this kind of challenge: its `validationmethods`.
    OtherMethod(String),
    /// A critical tag that nobody knows.
    Critical(String),
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The authority's names.
    pub identities: &'a [&'a str],
    /// URL of the account, if known.
    pub account: Option<&'a str>,
    /// Kind of challenge.
    pub kind: ChallengeKind,
    /// Whether the name is a wildcard.
    pub wildcard: bool,
}

/// The tag that counts for a name: `issuewild` for wildcards where there is one (RFC 8659 §4.3).
pub(super) fn relevant_tag(set: &CaaSet, wildcard: bool) -> &'static str {
    let has_wild = set.records.iter().any(|record| record.tag == "issuewild");
    if wildcard && has_wild { "issuewild" } else { "issue" }
}

pub(super) fn judge(set: &CaaSet, asker: &Asker<'_>) -> CaaVerdict {
    let critical = set.records.iter().find(|one| one.critical && !KNOWN.contains(&one.tag.as_str()));
    if let Some(record) = critical {
        return CaaVerdict::Critical(shown(record.tag.as_bytes()));
    }
    let tag = relevant_tag(set, asker.wildcard);
    let records: Vec<&Caa> = set.records.iter().filter(|record| record.tag == tag).collect();
    if records.is_empty() {
        return CaaVerdict::Allowed;
    }
    let values = records.iter().map(|record| format!("\"{}\"", shown(&record.value)));
    let mut verdict = CaaVerdict::Others(values.collect::<Vec<_>>().join(", "));
    for record in records {
        // What cannot be read names nobody (RFC 8659 §4.2).
        let Some(value) = Value::read(&record.value) else { continue };
        if value.issuer.is_empty() {
            continue;
        }
        if asker.identities.is_empty() {
            return CaaVerdict::Unknown;
        }
        if !asker.identities.iter().any(|known| known.eq_ignore_ascii_case(value.issuer)) {
            continue;
        }
        verdict = match value.permits(asker) {
            Ok(()) => return CaaVerdict::Allowed,
            Err(why) => why,
        };
    }
    verdict
}

/// An issuer's name and parameters (RFC 8659 §4.2).
struct Value<'a> {
    issuer: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Value<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
        let issuer = parts.next()?.trim_end_matches('.');
        if issuer.contains([' ', '\t']) {
            return None;
        }
        let parameters = parts.filter(|part| !part.is_empty()).map(|part| {
            let (tag, value) = part.split_once('=')?;
            Some((tag.trim_matches([' ', '\t']), value.trim_matches([' ', '\t'])))
        });
        Some(Self { issuer, parameters: parameters.collect::<Option<_>>()? })
    }

    /// Whether account and kind fit (RFC 8657 §3, §4). A parameter that stands twice fits nobody.
    fn permits(&self, asker: &Asker<'_>) -> Result<(), CaaVerdict> {
        let all = |wanted: &'static str| {
            let of = self.parameters.iter().filter(move |(tag, _)| tag.eq_ignore_ascii_case(wanted));
            of.map(|(_, value)| *value).collect::<Vec<_>>()
        };
        match (all("accounturi").as_slice(), asker.account) {
            ([], _) | ([_], None) => {}
            ([uri], Some(account)) if *uri == account => {}
            (uris, _) => return Err(CaaVerdict::OtherAccount(shown(uris.join(", ").as_bytes()))),
        }
        match all("validationmethods").as_slice() {
            [] => Ok(()),
            [methods] if methods.split(',').any(|method| method.trim() == asker.kind.word()) => Ok(()),
            methods => Err(CaaVerdict::OtherMethod(shown(methods.join(", ").as_bytes()))),
        }
    }
}

/// Bytes of a stranger, for people.
fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    String::from_utf8_lossy(bytes).chars().flat_map(char::escape_debug).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::dns::Name;

    const ACCOUNT: &str = "https://ca.example/acct/1";

    fn set(records: &[(bool, &str, &str)]) -> CaaSet {
        let records = records.iter().map(|(critical, tag, value)| Caa {
            critical: *critical,
            tag: (*tag).to_owned(),
            value: value.as_bytes().to_vec(),
        });
        CaaSet { name: Name::parse("a.example").unwrap(), records: records.collect() }
    }

    fn look(records: &[(bool, &str, &str)], wildcard: bool) -> CaaVerdict {
        let identities = ["ca.example", "ca2.example"];
        let asker =
            Asker { identities: &identities, account: Some(ACCOUNT), kind: ChallengeKind::Http01, wildcard };
        judge(&set(records), &asker)
    }

    fn issue(value: &str) -> CaaVerdict {
        look(&[(false, "issue", value)], false)
    }

    #[test]
    fn issuers_are_found_and_others_forbid() {
        for value in [
            "ca.example",
            " CA.Example. ; x=y",
            "ca2.example;",
            "ca.example; validationmethods=dns-01, http-01",
        ] {
            assert_eq!(issue(value), CaaVerdict::Allowed, "{value}");
        }
        for value in ["", ";", "other.example", "ca.example x", "ca.example; broken", "sub.ca.example"] {
            assert_eq!(issue(value), CaaVerdict::Others(format!("\"{value}\"")), "{value}");
        }
        assert_eq!(
            look(&[(false, "issue", "other.example"), (false, "issue", "ca.example")], false),
            CaaVerdict::Allowed
        );
        assert_eq!(look(&[(false, "iodef", "mailto:a@example.com")], false), CaaVerdict::Allowed);
    }

    #[test]
    fn wildcards_have_a_tag_of_their_own() {
        let both = [(false, "issue", "ca.example"), (false, "issuewild", ";")];
        assert_eq!(look(&both, false), CaaVerdict::Allowed);
        assert_eq!(look(&both, true), CaaVerdict::Others("\";\"".to_owned()));
        assert_eq!(
            look(&[(false, "issue", "other.example")], true),
            CaaVerdict::Others("\"other.example\"".to_owned())
        );
        assert_eq!(look(&[(false, "issuewild", ";")], false), CaaVerdict::Allowed);
    }

    #[test]
    fn parameters_bind_to_account_and_method() {
        assert_eq!(issue(&format!("ca.example; accounturi={ACCOUNT}")), CaaVerdict::Allowed);
        let other = "https://ca.example/acct/2";
        assert_eq!(
            issue(&format!("ca.example; accounturi={other}")),
            CaaVerdict::OtherAccount(other.to_owned())
        );
        assert_eq!(
            issue("ca.example; validationmethods=dns-01"),
            CaaVerdict::OtherMethod("dns-01".to_owned())
        );
        let twice = format!("ca.example; accounturi={ACCOUNT}; accounturi={ACCOUNT}");
        assert!(matches!(issue(&twice), CaaVerdict::OtherAccount(_)));
        let one_fits = [(false, "issue", "ca.example; accounturi=x"), (false, "issue", "ca.example")];
        assert_eq!(look(&one_fits, false), CaaVerdict::Allowed);
        let nobody = Asker {
            identities: &["ca.example"],
            account: None,
            kind: ChallengeKind::Http01,
            wildcard: false,
        };
        assert_eq!(
            judge(&set(&[(false, "issue", "ca.example; accounturi=x")]), &nobody),
            CaaVerdict::Allowed
        );
    }

    #[test]
    fn unknown_critical_tags_forbid_and_unknown_authorities_cannot_tell() {
        assert_eq!(look(&[(true, "future", "x")], false), CaaVerdict::Critical("future".to_owned()));
        assert_eq!(look(&[(false, "future", "x")], false), CaaVerdict::Allowed);
        assert_eq!(look(&[(true, "issue", "ca.example")], false), CaaVerdict::Allowed);
        let stranger = Asker { identities: &[], account: None, kind: ChallengeKind::Http01, wildcard: false };
        assert_eq!(judge(&set(&[(false, "issue", "ca.example")]), &stranger), CaaVerdict::Unknown);
        assert_eq!(judge(&set(&[(false, "issue", ";")]), &stranger), CaaVerdict::Others("\";\"".to_owned()));
    }

    #[test]
    fn what_strangers_wrote_is_escaped() {
        assert_eq!(
            look(&[(false, "issue", "a\u{1b}[31m")], false),
            CaaVerdict::Others("\"a\\u{1b}[31m\"".to_owned())
        );
    }
}
