//! Which kind of challenge a name is shown with.

use super::state::SlotState;
use crate::acme::slot::Identifier;
use crate::config::model::ChallengeKind;

/// Whether control over the identifier can be shown by this kind: wildcards only through DNS (RFC 8555
/// §7.1.3), IP addresses only by connecting to them (RFC 8738 §4).
#[must_use]
pub fn usable(identifier: &Identifier, kind: ChallengeKind) -> bool {
    let by_dns = matches!(kind, ChallengeKind::Dns01 | ChallengeKind::DnsPersist01);
    match identifier {
        Identifier::Ip(_) => !by_dns,
        Identifier::Dns(_) => by_dns || !identifier.is_wildcard(),
    }
}

/// The kind to show control over `identifier` with: the first of `configured` that is usable, or the one
/// after the kind that failed last. `None`: none is usable. If the authority does not offer it, take the
/// next usable one that it offers.
#[must_use]
pub fn challenge_for(
    state: &SlotState,
    identifier: &Identifier,
    configured: &[ChallengeKind],
) -> Option<ChallengeKind> {
    let fitting = || configured.iter().copied().filter(|kind| usable(identifier, *kind));
    let failed = state.challenges.get(&identifier.to_string());
    let after = failed.and_then(|word| {
        let mut rest = fitting();
        rest.find(|kind| kind.word() == word)?;
        rest.next()
    });
    after.or_else(|| fitting().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChallengeKind::{Dns01, DnsPersist01, Http01, TlsAlpn01};

    #[test]
    fn kinds_fit_identifiers_and_take_turns() {
        let name = Identifier::Dns("a.lockring.dev".to_owned());
        let wildcard = Identifier::Dns("*.lockring.dev".to_owned());
        let address = Identifier::Ip("8.8.8.8".parse().unwrap());
        let mut state = SlotState::default();
        let all = [TlsAlpn01, Dns01, Http01, DnsPersist01];
        let choose = |state: &SlotState, identifier| challenge_for(state, identifier, &all);
        assert_eq!(choose(&state, &name), Some(TlsAlpn01));
        assert_eq!(choose(&state, &wildcard), Some(Dns01));
        assert_eq!(choose(&state, &address), Some(TlsAlpn01));
        assert_eq!(challenge_for(&state, &wildcard, &[Http01, TlsAlpn01]), None);
        assert_eq!(challenge_for(&state, &address, &[Dns01, DnsPersist01]), None);
        for identifier in [&name, &wildcard, &address] {
            let failed = choose(&state, identifier).unwrap();
            state.challenges.insert(identifier.to_string(), failed.word().to_owned());
        }
        assert_eq!(choose(&state, &name), Some(Dns01));
        assert_eq!(choose(&state, &wildcard), Some(DnsPersist01));
        assert_eq!(choose(&state, &address), Some(Http01));
        state.challenges.insert(name.to_string(), DnsPersist01.word().to_owned());
        assert_eq!(choose(&state, &name), Some(TlsAlpn01), "from the front again");
        state.challenges.insert(name.to_string(), "later-01".to_owned());
        assert_eq!(choose(&state, &name), Some(TlsAlpn01), "a kind that is not configured");
    }
}
