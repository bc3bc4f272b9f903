//! From facts to findings; pure, so that every combination can be shown to it.

use std::fmt;
use std::net::SocketAddr;

use super::caa::{self, Asker, CaaVerdict, relevant_tag};
use super::{Blind, Facts, NameFacts, Probe, RecordProblem, Seen, Wish};
use crate::acme::plan::{SlotState, Unorderable, challenge_for, orderable, usable};
use crate::acme::slot::Identifier;
use crate::config::model::ChallengeKind;
use crate::limits;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may go wrong: the order is placed.
    Warning,
    /// It would go wrong: no order is placed.
    Error,
}

/// Something that stands, or may stand, in the way of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its weight.
    pub severity: Severity,
    /// The name it is about; none: all of them.
    pub name: Option<Identifier>,
    /// What it is.
    pub problem: Problem,
}

impl Finding {
    /// What to change.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.problem.remedy(self.name.as_ref())
    }

    /// A finding about the clock: the authority's time less the local one, in seconds. A certificate that is
    /// new would not be valid here if that is far off.
    #[must_use]
    pub fn of_clock(skew: i64) -> Option<Self> {
        let seconds = skew.unsigned_abs();
        if seconds <= limits::ACME_CLOCK_SKEW.as_secs() {
            return None;
        }
        let bound = if skew > 0 { limits::PREFLIGHT_CLOCK_BEHIND } else { limits::PREFLIGHT_CLOCK_AHEAD };
        let severity = if seconds > bound.as_secs() { Severity::Error } else { Severity::Warning };
        Some(Self { severity, name: None, problem: Problem::Clock(skew) })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{name}` {}", self.problem),
            None => self.problem.fmt(f),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No public authority is asked for it.
    Unorderable(Unorderable),
    /// It has no address.
    NoAddress,
    /// Its addresses could not be looked up.
    Addresses(Blind),
    /// Its CAA records could not be looked up.
    CaaUnknown(Blind),
    /// They are in the way, or may be.
    Caa {
        /// What they say.
        verdict: CaaVerdict,
        /// The name that has them.
        at: String,
        /// The record that would help, as zone files have it.
        add: Option<String>,
    },
    /// Every address of one family is answered by somebody else.
    Elsewhere {
        /// The kind of challenge tried.
        kind: ChallengeKind,
        /// The addresses.
        addresses: Vec<SocketAddr>,
        /// What the first one answers.
        answer: String,
        /// Whether those of the other family lead here.
        others_right: bool,
    },
    /// One address of several is answered by somebody else.
    PartlyElsewhere(ChallengeKind, SocketAddr, String),
    /// An address of this machine refuses. The flag: although a listener of ours has the port.
    Refused(ChallengeKind, SocketAddr, bool),
    /// An address cannot be reached from here.
    Unreachable(ChallengeKind, SocketAddr, String),
    /// An address sends whoever asks elsewhere.
    Redirected(ChallengeKind, SocketAddr, String),
    /// The record of DNS-01 has no place.
    Record(RecordProblem),
    /// The authority's time less the local one, in seconds.
    Clock(i64),
    /// The state directory cannot be written, and why.
    Store(String),
    /// Nobody knocked, and why.
    NotProbed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unorderable(why) => write!(f, "cannot be ordered: {why}"),
            Self::NoAddress => f.write_str("has no address, so no authority finds this machine by it"),
            Self::Addresses(why) => write!(f, "cannot be looked up: {why}"),
            Self::CaaUnknown(why) => write!(f, "has CAA records that cannot be looked up: {why}"),
            Self::Caa { verdict, at, .. } => {
                write!(f, "may not be certified by this authority: {}", caa_text(verdict, at))
            }
            Self::Elsewhere { kind, addresses, answer, others_right } => {
                let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "leads to somebody else at {} ({}: {answer})", shown.join(", "), kind.word())?;
                match (others_right, is_ipv6(addresses)) {
                    (true, true) => f.write_str(", and authorities prefer IPv6"),
                    _ => Ok(()),
                }
            }
            Self::PartlyElsewhere(kind, address, answer) => {
                write!(
                    f,
                    "leads to somebody else at {address}, one of its addresses ({}: {answer})",
                    kind.word()
                )
            }
            Self::Refused(kind, address, true) => {
                write!(f, "leads to {address} of this machine, where no listener answers ({})", kind.word())
            }
            Self::Refused(kind, address, false) => {
                write!(
                    f,
                    "leads to {address} of this machine, but lockring does not listen on that port ({})",
                    kind.word()
                )
            }
            Self::Unreachable(kind, address, why) => {
                write!(f, "cannot be reached from here at {address} ({}: {why})", kind.word())
            }
            Self::Redirected(kind, address, to) => {
                write!(f, "is redirected at {address} to {to} ({})", kind.word())
            }
            Self::Record(problem) => problem.fmt(f),
            Self::Clock(skew) if *skew > 0 => {
                write!(f, "the clock of this machine is {skew} s behind the authority's")
            }
            Self::Clock(skew) => {
                write!(f, "the clock of this machine is {} s ahead of the authority's", skew.unsigned_abs())
            }
            Self::Store(why) => write!(f, "certificates cannot be stored: {why}"),
            Self::NotProbed(why) => write!(f, "was not tried from here: {why}"),
        }
    }
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(error) => error.fmt(f),
            Self::Late => f.write_str("no answer in time"),
        }
    }
}

impl fmt::Display for RecordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blind(why) => write!(f, "has no place for its record of dns-01: {why}"),
            Self::Late => f.write_str("has a place for its record of dns-01 that was not found in time"),
            Self::OutsideZone { name, zone } => {
                write!(f, "has its record of dns-01 at {name}, which is not in the zone {zone}")
            }
            Self::NoProvider => f.write_str("needs dns-01, and no [dns.NAME] is configured for it"),
        }
    }
}

fn caa_text(verdict: &CaaVerdict, at: &str) -> String {
    match verdict {
        CaaVerdict::Allowed => format!("CAA at {at} allows it"),
        CaaVerdict::Unknown => format!("CAA at {at} names authorities, and this one does not tell its name"),
        CaaVerdict::Others(values) => format!("CAA at {at} allows only {values}"),
        CaaVerdict::OtherAccount(uri) => format!("CAA at {at} allows only the account {uri}"),
        CaaVerdict::OtherMethod(methods) => format!("CAA at {at} allows only the challenges {methods}"),
        CaaVerdict::Critical(tag) => format!("CAA at {at} has the critical tag {tag}, which nobody knows"),
    }
}

fn is_ipv6(addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(SocketAddr::is_ipv6)
}

impl Problem {
    fn remedy(&self, name: Option<&Identifier>) -> String {
        let name = name.map_or_else(|| "the name".to_owned(), ToString::to_string);
        match self {
            Self::Unorderable(_) => "name an authority of your own, or write acme = false".to_owned(),
            Self::NoAddress => {
                format!("add an A or AAAA record of {name} that leads here, or use the challenge dns-01")
            }
            Self::Addresses(_) | Self::CaaUnknown(_) => {
                "check the name servers of this machine and of the zone".to_owned()
            }
            Self::Caa { add: Some(record), .. } => format!("add the record: {record}"),
            Self::Caa { .. } => "correct the record".to_owned(),
            Self::Elsewhere { addresses, .. } => {
                let record = if is_ipv6(addresses) { "AAAA" } else { "A" };
                format!(
                    "correct or remove the {record} record of {name}, or let that address lead to this process"
                )
            }
            Self::PartlyElsewhere(..) => {
                "let all addresses lead to this process, or use the challenge dns-01".to_owned()
            }
            Self::Refused(_, address, true) => {
                format!("listen on {address} too, or remove the record that leads there")
            }
            Self::Refused(_, address, false) => {
                format!("listen on port {}, unless something redirects it to a port of ours", address.port())
            }
            Self::Unreachable(_, address, _) => {
                format!("if others cannot reach it either, open port {} in the firewall", address.port())
            }
            Self::Redirected(..) => {
                "make sure that requests below /.well-known/acme-challenge/ end here".to_owned()
            }
            Self::Record(RecordProblem::Blind(_) | RecordProblem::Late) => {
                format!("correct _acme-challenge.{name}, or the resolvers of its [dns.NAME]")
            }
            Self::Record(RecordProblem::OutsideZone { .. }) => {
                "correct `zone`, or the CNAME record".to_owned()
            }
            Self::Record(RecordProblem::NoProvider) => "add a [dns.NAME], and dns = \"NAME\"".to_owned(),
            Self::Clock(_) => "set the clock, and keep it right: timedatectl set-ntp true".to_owned(),
            Self::Store(_) => "make the state directory writable for the user that runs lockring".to_owned(),
            Self::NotProbed(_) => {
                "start lockring, or run the check as the user that may listen there".to_owned()
            }
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// All that was found.
    pub findings: Vec<Finding>,
    /// Names for which another kind of challenge than the first one looks right, with the kind.
    pub better: Vec<(Identifier, ChallengeKind)>,
}

impl Verdict {
    /// Whether no order is to be placed.
    #[must_use]
    pub fn forbids(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Lines of one weight, with their remedies.
    #[must_use]
    pub fn lines(&self, severity: Severity) -> Vec<String> {
        let of = self.findings.iter().filter(|finding| finding.severity == severity);
        of.map(|finding| format!("{finding}; {}", finding.remedy())).collect()
    }

    /// Makes `state` choose the kinds that look right.
    pub fn steer(&self, state: &mut SlotState, configured: &[ChallengeKind]) {
        for (identifier, kind) in &self.better {
            let mut fitting = configured.iter().copied().filter(|kind| usable(identifier, *kind));
            let mut before = None;
            let reached = fitting.find(|other| {
                let found = other == kind;
                before = if found { before } else { Some(*other) };
                found
            });
            match (reached, before) {
                (Some(_), Some(before)) => {
                    state.challenges.insert(identifier.to_string(), before.word().to_owned())
                }
                (Some(_), None) => state.challenges.remove(&identifier.to_string()),
                (None, _) => None,
            };
        }
    }
}

/// How a kind of challenge stands for a name, the better the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Bad,
    Unsure,
    Good,
}

type Noted = (Severity, Problem);

/// What the facts mean for the wish.
#[must_use]
pub fn judge(wish: &Wish<'_>, facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    for name in &facts.names {
        if let Err(why) = orderable(&name.identifier, wish.authority) {
            verdict.note(name, vec![(Severity::Error, Problem::Unorderable(why))]);
            continue;
        }
        judge_name(wish, name, &mut verdict);
    }
    verdict
}

impl Verdict {
    fn note(&mut self, name: &NameFacts, noted: Vec<Noted>) {
        for (severity, problem) in noted {
            let finding = Finding { severity, name: Some(name.identifier.clone()), problem };
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

fn judge_name(wish: &Wish<'_>, name: &NameFacts, verdict: &mut Verdict) {
    let configured = &wish.slot.policy.challenges;
    let Some(first) = challenge_for(wish.state, &name.identifier, configured) else { return };
    let (standing, noted) = judge_kind(wish, name, first);
    let others = configured.iter().copied().filter(|kind| *kind != first && usable(&name.identifier, *kind));
    let judged = others.map(|kind| (kind, judge_kind(wish, name, kind)));
    // The first of the best: what is configured first is preferred.
    let best = judged.reduce(|best, other| if other.1.0 > best.1.0 { other } else { best });
    match best {
        Some((kind, (its, its_noted))) if its > standing => {
            verdict.better.push((name.identifier.clone(), kind));
            // What is wrong with the way that is not taken is worth knowing.
            let lowered = noted.into_iter().map(|(_, problem)| (Severity::Warning, problem)).collect();
            verdict.note(name, lowered);
            verdict.note(name, its_noted);
        }
        _ => verdict.note(name, noted),
    }
}

fn judge_kind(wish: &Wish<'_>, name: &NameFacts, kind: ChallengeKind) -> (Standing, Vec<Noted>) {
    let mut noted = Vec::new();
    noted.extend(judge_caa(wish, name, kind));
    let mut seen = true;
    match kind {
        ChallengeKind::Http01 | ChallengeKind::TlsAlpn01 => {
            noted.extend(judge_addresses(wish, name));
            let probes: Vec<&Probe> = name.probes.iter().filter(|probe| probe.kind == kind).collect();
            seen = probes.iter().any(|probe| probe.seen == Seen::Ourselves);
            noted.extend(judge_probes(kind, &probes));
        }
        ChallengeKind::Dns01 => {
            if let Some(Err(problem)) = &name.record {
                let is_sure = match problem {
                    RecordProblem::Blind(_) => wish.strict,
                    RecordProblem::Late => false,
                    RecordProblem::OutsideZone { .. } | RecordProblem::NoProvider => true,
                };
                noted.push((weight(is_sure), Problem::Record(problem.clone())));
            }
        }
        // The operator's record is looked at when the account is known.
        ChallengeKind::DnsPersist01 => {}
    }
    let worst = noted.iter().map(|(severity, _)| *severity).max();
    let standing = match worst {
        Some(Severity::Error) => Standing::Bad,
        None if seen => Standing::Good,
        _ => Standing::Unsure,
    };
    (standing, noted)
}

fn weight(is_sure: bool) -> Severity {
    if is_sure { Severity::Error } else { Severity::Warning }
}

fn judge_addresses(wish: &Wish<'_>, name: &NameFacts) -> Option<Noted> {
    match name.addresses.as_ref()? {
        Ok(found) if found.is_empty() => Some((weight(wish.strict), Problem::NoAddress)),
        Ok(_) => None,
        // Name servers that are out of order here need not be so for the authority.
        Err(blind) => Some((Severity::Warning, Problem::Addresses(blind.clone()))),
    }
}

fn judge_caa(wish: &Wish<'_>, name: &NameFacts, kind: ChallengeKind) -> Option<Noted> {
    let set = match name.caa.as_ref()? {
        Ok(Some(set)) => set,
        Ok(None) => return None,
        Err(blind) => return wish.strict.then(|| (Severity::Warning, Problem::CaaUnknown(blind.clone()))),
    };
    let identities = wish.identities();
    let wildcard = name.identifier.is_wildcard();
    let asker = Asker { identities: &identities, account: wish.account, kind, wildcard };
    let verdict = caa::judge(set, &asker);
    let severity = match verdict {
        CaaVerdict::Allowed => return None,
        CaaVerdict::Unknown => Severity::Warning,
        _ => Severity::Error,
    };
    let parameters = match &verdict {
        CaaVerdict::OtherAccount(_) => {
            wish.account.map(|uri| format!("; accounturi={uri}")).unwrap_or_default()
        }
        CaaVerdict::OtherMethod(_) => format!("; validationmethods={}", kind.word()),
        _ => String::new(),
    };
    let helps = !matches!(verdict, CaaVerdict::Critical(_));
    let add = identities.first().filter(|_| helps).map(|identity| {
        format!("{} CAA 0 {} \"{identity}{parameters}\"", set.name, relevant_tag(set, wildcard))
    });
    Some((severity, Problem::Caa { verdict, at: set.name.to_string(), add }))
}

fn judge_probes(kind: ChallengeKind, probes: &[&Probe]) -> Vec<Noted> {
    let (six, four): (Vec<&Probe>, Vec<&Probe>) = probes.iter().partition(|probe| probe.address.is_ipv6());
    let leads_here = |family: &[&Probe]| family.iter().any(|probe| probe.seen == Seen::Ourselves);
    let mut noted = judge_family(kind, &six, leads_here(&four));
    noted.extend(judge_family(kind, &four, leads_here(&six)));
    noted
}

fn judge_family(kind: ChallengeKind, probes: &[&Probe], others_right: bool) -> Vec<Noted> {
    let elsewhere = probes.iter().filter_map(|probe| match &probe.seen {
        Seen::Other(answer) => Some((probe.address, answer.clone())),
        _ => None,
    });
    let elsewhere: Vec<(SocketAddr, String)> = elsewhere.collect();
    if let Some((_, answer)) = elsewhere.first().filter(|_| elsewhere.len() == probes.len()) {
        let answer = answer.clone();
        let addresses = elsewhere.into_iter().map(|(address, _)| address).collect();
        let sure = !probes.iter().any(|probe| probe.behind_router);
        return vec![(weight(sure), Problem::Elsewhere { kind, addresses, answer, others_right })];
    }
    let one = |probe: &&&Probe| {
        let address = probe.address;
        Some(match &probe.seen {
            Seen::Ourselves => return None,
            Seen::Other(answer) => {
                (Severity::Warning, Problem::PartlyElsewhere(kind, address, answer.clone()))
            }
            // Without a listener there a firewall may redirect what comes from outside, and only that.
            Seen::Refused if probe.is_ours => {
                (weight(probe.has_listener), Problem::Refused(kind, address, probe.has_listener))
            }
            Seen::Refused => {
                (Severity::Warning, Problem::Unreachable(kind, address, "connection refused".to_owned()))
            }
            Seen::Silent(why) => (Severity::Warning, Problem::Unreachable(kind, address, why.clone())),
            Seen::Redirect(to) => (Severity::Warning, Problem::Redirected(kind, address, to.clone())),
        })
    };
    probes.iter().filter_map(|probe| one(&probe)).collect()
}
