//! Certificates and their keys: can they be read, do they belong together, do they cover their host, now.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::disk::read_bounded;
use crate::config::model::{CertificateFiles, HostPattern, Secret, Site, SiteTls};
use crate::config::{Code, Diagnostic, Files, Loaded, Severity, SitePlaces, Spot};
use crate::limits;
use crate::ops::secret;
use crate::tls::certs::{CertifiedPair, PairError};

/// A chain of ten large certificates has 30 KiB.
const PEM_BYTES: u64 = 1024 * 1024;
const DAY: u64 = 24 * 3600;
/// A warning comes this long before the end, or, for short-lived certificates, a sixth of their life.
const SOON: u64 = 14 * DAY;

/// What a certificate, its key, or both are blamed for.
#[derive(Debug)]
struct Fault {
    code: Code,
    blames_key: bool,
    cause: String,
    remedy: String,
}

pub(super) fn check(loaded: &Loaded, environment: &dyn Files, now: u64) -> Vec<Diagnostic> {
    let mut check = Check { loaded, environment, now, diagnostics: Vec::new(), known: HashMap::new() };
    for (site, places) in loaded.model.sites.iter().zip(&loaded.places.sites) {
        if let SiteTls::Files(pairs) = &site.tls {
            for (files, spots) in pairs.iter().zip(&places.pairs) {
                check.pair(files, *spots, Some((site, places)));
            }
        }
    }
    if let (Some(directory), Some(spot)) = (&loaded.model.server.certificates, loaded.places.certificates) {
        check.directory(directory, spot);
    }
    check.diagnostics
}

struct Check<'a> {
    loaded: &'a Loaded,
    environment: &'a dyn Files,
    now: u64,
    diagnostics: Vec<Diagnostic>,
    /// Many sites may share one wildcard certificate: it is read and judged once.
    known: HashMap<CertificateFiles, Option<CertifiedPair>>,
}

impl Check<'_> {
    fn pair(&mut self, files: &CertificateFiles, spots: (Spot, Spot), site: Option<(&Site, &SitePlaces)>) {
        if !self.known.contains_key(files) {
            let pair = self.first_look(files, spots);
            self.known.insert(files.clone(), pair);
        }
        let Some(Some(pair)) = self.known.get(files) else { return };
        let Some((site, places)) = site.filter(|(site, _)| !pair.covers(&site.host)) else { return };
        let cause = format!("{} does not cover `{}`", shown(files.certificate.display()), site.host);
        let remedy = uncovered_remedy(pair.names(), &site.host);
        self.note(Code::CertificateHost, spots.0, Some((places.host, "the site is here")), cause, remedy);
    }

    /// Reads a pair and judges what does not depend on the site.
    fn first_look(&mut self, files: &CertificateFiles, spots: (Spot, Spot)) -> Option<CertifiedPair> {
        let faults = match read_pair(files, self.environment) {
            Ok(pair) => {
                self.time(&pair, files, spots.0);
                self.exposure(&files.key, spots.1);
                return Some(pair);
            }
            Err(faults) => faults,
        };
        for fault in faults {
            let (spot, other, note) = if fault.blames_key {
                (spots.1, spots.0, "the certificate is here")
            } else {
                (spots.0, spots.1, "the key is here")
            };
            let both = fault.code == Code::CertificateRefused && spot != other;
            self.note(fault.code, spot, both.then_some((other, note)), fault.cause, fault.remedy);
        }
        None
    }

    fn time(&mut self, pair: &CertifiedPair, files: &CertificateFiles, spot: Spot) {
        let name = shown(files.certificate.display());
        let (start, end) = (pair.not_before(), pair.not_after());
        let life = end.saturating_sub(start);
        if self.now > end {
            let cause = format!("{name} expired {} ago", days(self.now - end));
            self.note(Code::CertificateTime, spot, None, cause, "renew the certificate");
        } else if self.now < start {
            let cause = format!("{name} is not valid for another {}", days(start - self.now));
            self.note(
                Code::CertificateTime,
                spot,
                None,
                cause,
                "check the clock of this machine (timedatectl)",
            );
        } else if end - self.now < SOON.min(life / 6) {
            let cause = format!("{name} expires in {}", days(end - self.now));
            self.note(Code::CertificateSoon, spot, None, cause, "renew the certificate");
        }
    }

    fn exposure(&mut self, key: &Secret, spot: Spot) {
        // The environment of a process is its user's and root's alone (proc(5), `/proc/pid/environ`).
        let Secret::File(key) = key else { return };
        let mode = fs::metadata(key).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o004 != 0 {
            let cause = format!("every user of this machine can read {}", shown(key.display()));
            self.note(Code::KeyExposed, spot, None, cause, format!("chmod o= {}", key.display()));
        }
    }

    /// Every `NAME.pem` in the directory, with its `NAME.key`.
    fn directory(&mut self, directory: &Path, spot: Spot) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                let cause = format!("{} cannot be listed: {error}", shown(directory.display()));
                self.note(Code::CertificateUnreadable, spot, None, cause, FILE_REMEDY);
                return;
            }
        };
        let mut chains: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        chains.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
        chains.sort();
        for certificate in chains {
            let key = Secret::File(certificate.with_extension("key"));
            self.pair(&CertificateFiles { certificate, key }, (spot, spot), None);
        }
    }

    fn note(
        &mut self,
        code: Code,
        spot: Spot,
        also: Option<(Spot, &str)>,
        cause: String,
        remedy: impl Into<String>,
    ) {
        // Ten thousand warnings of one kind help nobody, and finding their places costs the start.
        if code.severity() == Severity::Warning && self.diagnostics.len() >= limits::CONFIG_DIAGNOSTICS {
            return;
        }
        let sources = &self.loaded.sources;
        self.diagnostics.push(Diagnostic {
            code,
            severity: code.severity(),
            place: spot.place(sources),
            also: also.map(|(spot, note)| (spot.place(sources), note.to_owned())),
            cause,
            remedy: remedy.into(),
        });
    }
}

const FILE_REMEDY: &str = "correct the path, or the permissions for the user that runs lockring";

fn read_pair(files: &CertificateFiles, environment: &dyn Files) -> Result<CertifiedPair, Vec<Fault>> {
    let unreadable =
        |blames_key, cause, remedy| Fault { code: Code::CertificateUnreadable, blames_key, cause, remedy };
    let read = |path: &Path, blames_key: bool| {
        read_bounded(path, PEM_BYTES).map(Zeroizing::new).map_err(|error| {
            let cause = format!("{} cannot be read: {error}", shown(path.display()));
            unreadable(blames_key, cause, FILE_REMEDY.to_owned())
        })
    };
    let key = match &files.key {
        Secret::File(path) => read(path, true),
        Secret::Env(name) => secret::variable(name, environment)
            .map_err(|error| unreadable(true, error.to_string(), error.remedy())),
    };
    let (chain, key) = match (read(&files.certificate, false), key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    CertifiedPair::from_pem(&chain, &key).map_err(|error| {
        let blames_key = match error {
            PairError::NoKey | PairError::BadKey | PairError::EncryptedKey | PairError::KeyMismatch => true,
            PairError::NoCertificate | PairError::BadCertificate(_) | PairError::ChainOrder => false,
        };
        let blamed = if blames_key { shown(&files.key) } else { shown(files.certificate.display()) };
        let cause = format!("{blamed}: {error}");
        vec![Fault { code: Code::CertificateRefused, blames_key, cause, remedy: error.remedy().to_owned() }]
    })
}

fn uncovered_remedy(names: &[HostPattern], host: &HostPattern) -> String {
    let listed: Vec<String> = names.iter().take(NAMES_SHOWN).map(ToString::to_string).collect();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if listed.is_empty() {
        return format!("it names no host at all; use a certificate that names `{host}`");
    }
    format!("it covers {}{more}; use a certificate that names `{host}`", listed.join(", "))
}

const NAMES_SHOWN: usize = 5;

fn shown(place: impl Display) -> String {
    format!("`{place}`")
}

/// In the largest unit that is not zero.
fn days(seconds: u64) -> String {
    match (seconds / DAY, seconds / 3600) {
        (0, 0) => format!("{} min", seconds / 60),
        (0, hours) => format!("{hours} h"),
        (days, _) => format!("{days} d"),
    }
}
