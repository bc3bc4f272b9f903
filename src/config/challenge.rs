//! `challenge` and `dns`: how control over names is shown, and whether it can be for the names of a site.

use std::sync::Arc;

use super::acme::{Owner, Usable};
use super::diagnostic::{Code, Spot};
use super::dns::Providers;
use super::host::is_local;
use super::model::{AcmePolicy, ChallengeKind, DnsProvider, HostPattern};
use super::raw::{Entry, Raw};
use super::reader::Reader;

/// What one table says.
#[derive(Debug, Default)]
pub(super) struct Said {
    kinds: Option<(Vec<ChallengeKind>, Spot)>,
    dns: Option<(Option<Arc<DnsProvider>>, Spot)>,
}

/// Reads `challenge` and `dns`.
pub(super) fn challenges(
    reader: &mut Reader<'_>,
    challenge: Option<&Entry>,
    dns: Option<&Entry>,
    providers: &Providers,
) -> Said {
    let kinds = challenge.and_then(|entry| Some((kinds(reader, entry)?, entry.key_spot)));
    let dns = dns.and_then(|entry| match &entry.node.value {
        Raw::Text(name) => Some((providers.find(reader, name, entry.node.spot), entry.key_spot)),
        _ => None,
    });
    Said { kinds, dns }
}

fn kinds(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<ChallengeKind>> {
    let words = ChallengeKind::ALL.map(|kind| (kind.word(), kind));
    let mut kinds = Vec::new();
    let texts = entry.node.texts();
    if texts.is_empty() && matches!(&entry.node.value, Raw::List(list) if list.is_empty()) {
        let remedy = "name at least one, or leave `challenge` out";
        reader.findings.note(Code::Missing, entry.key_spot, "the list of challenges is empty", remedy);
    }
    for (text, spot) in texts {
        match reader.word(text, spot, "challenge", &words) {
            Some(kind) if !kinds.contains(&kind) => kinds.push(kind),
            _ => {}
        }
    }
    if kinds.is_empty() { None } else { Some(kinds) }
}

impl Said {
    /// What holds, with what stands above. Whoever names a provider means to use it: then `dns-01` is the only
    /// challenge unless others are named.
    pub fn over(
        &self,
        above: &Self,
        reader: &mut Reader<'_>,
        usable: Usable,
    ) -> (Vec<ChallengeKind>, Option<Arc<DnsProvider>>) {
        let dns = self.dns.as_ref().or(above.dns.as_ref());
        let kinds = match (self, above) {
            (Self { kinds: Some((kinds, _)), .. }, _) => kinds.clone(),
            (Self { dns: Some(_), .. }, _) => vec![ChallengeKind::Dns01],
            (_, Self { kinds: Some((kinds, _)), .. }) => kinds.clone(),
            (_, Self { dns: Some(_), .. }) => vec![ChallengeKind::Dns01],
            _ => default_kinds(usable),
        };
        let by_dns = kinds.contains(&ChallengeKind::Dns01);
        if let Some((own, spot)) = &self.kinds {
            self.judge(own, *spot, dns.is_some(), reader, usable);
        }
        let provider = dns.and_then(|(provider, _)| provider.clone());
        (kinds, provider.filter(|_| by_dns))
    }

    fn judge(
        &self,
        kinds: &[ChallengeKind],
        spot: Spot,
        has_dns: bool,
        reader: &mut Reader<'_>,
        usable: Usable,
    ) {
        let by_dns = kinds.contains(&ChallengeKind::Dns01);
        if by_dns && !has_dns {
            let cause = "`dns-01` is named, but not how its records are written";
            let remedy = "add dns = \"NAME\" and a table [dns.NAME] with `server` or `exec`";
            reader.findings.note(Code::Missing, spot, cause, remedy);
        }
        if !kinds.iter().any(|kind| kind.can_be_answered(usable)) {
            let (kind, key) = match kinds.first() {
                Some(ChallengeKind::Http01) => ("http-01", "http = [\":80\"]"),
                _ => ("tls-alpn-01", "https = [\":443\"]"),
            };
            let cause = format!("`{kind}` cannot be answered: there is no listener for it");
            let remedy = format!("add {key} to [server], or name another challenge");
            reader.findings.note(Code::Contradiction, spot, cause, remedy);
        }
    }
}

impl ChallengeKind {
    fn can_be_answered(self, usable: Usable) -> bool {
        match self {
            Self::Http01 => usable.http,
            Self::TlsAlpn01 => usable.https,
            Self::Dns01 | Self::DnsPersist01 => true,
        }
    }

    fn is_by_dns(self) -> bool {
        matches!(self, Self::Dns01 | Self::DnsPersist01)
    }
}

/// Those that need nothing but the listeners; a server has at least one kind.
fn default_kinds(usable: Usable) -> Vec<ChallengeKind> {
    let mut kinds = vec![ChallengeKind::TlsAlpn01, ChallengeKind::Http01];
    kinds.retain(|kind| kind.can_be_answered(usable));
    if kinds.is_empty() { vec![ChallengeKind::TlsAlpn01] } else { kinds }
}

/// Whether each name of a site can be shown to be ours: wildcards only by DNS (RFC 8555 §8.4), IP addresses
/// only without (RFC 8738 §7).
pub(super) fn judge(
    reader: &mut Reader<'_>,
    policy: &AcmePolicy,
    owner: &Owner<'_>,
    names: &[(HostPattern, Spot)],
    provider: Option<&str>,
) {
    let Some(host) = owner.host.filter(|host| !is_local(host)) else { return };
    let by_dns = policy.challenges.iter().any(|kind| kind.is_by_dns());
    let otherwise = policy.challenges.iter().any(|kind| !kind.is_by_dns());
    for (name, spot) in std::iter::once((host, owner.spot)).chain(names.iter().map(|(name, at)| (name, *at)))
    {
        match name {
            HostPattern::Wildcard(_) if !by_dns => {
                let cause = format!("a certificate for `{name}` takes the challenge dns-01");
                reader.findings.note(Code::Challenge, spot, cause, wildcard_remedy(policy, provider));
            }
            HostPattern::Ip(_) if !otherwise => {
                let cause = format!("a certificate for `{name}` takes a challenge other than dns-01");
                let remedy = "add \"tls-alpn-01\" or \"http-01\" to `challenge`";
                reader.findings.note(Code::Challenge, spot, cause, remedy);
            }
            _ => {}
        }
    }
}

fn wildcard_remedy(policy: &AcmePolicy, provider: Option<&str>) -> String {
    match (provider, &policy.dns) {
        (Some(_), Some(_)) => "add \"dns-01\" to `challenge`".to_owned(),
        (Some(name), None) => {
            format!(
                "give its site acme = {{ dns = \"{name}\" }}, or name a certificate: tls = {{ cert, key }}"
            )
        }
        (None, _) => "add [dns.NAME] (how records are written) and dns = \"NAME\" to [acme], or name a \
                      certificate: tls = { cert, key }"
            .to_owned(),
    }
}
