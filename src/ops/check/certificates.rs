//! Certificates and their keys: can they be read, do they belong together, do they cover their host, now.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::model::{CertificateFiles, HostPattern, Secret, Site, SiteTls};
use crate::config::{Code, Diagnostic, Files, Loaded, Severity, SitePlaces, Spot};
use crate::limits;
use crate::ops::certificates::Pairs;
use crate::ops::certificates::files::{self, Reading};
use crate::tls::certs::{CertifiedPair, PairError};

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

/// What is wrong, and all pairs that were read to find out.
pub(super) fn check(loaded: &Loaded, environment: &dyn Files, now: u64) -> (Vec<Diagnostic>, Pairs) {
    let mut check = Check { loaded, environment, now, diagnostics: Vec::new(), known: Pairs::default() };
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
    (check.diagnostics, check.known)
}

struct Check<'a> {
    loaded: &'a Loaded,
    environment: &'a dyn Files,
    now: u64,
    diagnostics: Vec<Diagnostic>,
    /// Many sites may share one wildcard certificate: it is read and judged once.
    known: Pairs,
}

impl Check<'_> {
    fn pair(&mut self, files: &CertificateFiles, spots: (Spot, Spot), site: Option<(&Site, &SitePlaces)>) {
        if self.known.get(files).is_none() {
            let reading = self.first_look(files, spots);
            self.known.keep(files, reading);
        }
        let Some(Ok(pair)) = self.known.get(files).map(|reading| &reading.pair) else { return };
        let pair = Arc::clone(pair);
        let Some((site, places)) = site.filter(|(site, _)| !pair.covers(&site.host)) else { return };
        let cause = format!("{} does not cover `{}`", shown(files.certificate.display()), site.host);
        let remedy = uncovered_remedy(pair.names(), &site.host);
        self.note(Code::CertificateHost, spots.0, Some((places.host, "the site is here")), cause, remedy);
    }

    /// Reads a pair and judges what does not depend on the site.
    fn first_look(&mut self, files: &CertificateFiles, spots: (Spot, Spot)) -> Reading {
        let reading = files::read(files, self.environment);
        let faults = match &reading.pair {
            Ok(pair) => {
                self.time(pair, files, spots.0);
                self.exposure(&files.key, spots.1);
                return reading;
            }
            Err(faults) => faults,
        };
        for fault in faults.iter().map(|fault| Fault::of(fault, files)) {
            let (spot, other, note) = if fault.blames_key {
                (spots.1, spots.0, "the certificate is here")
            } else {
                (spots.0, spots.1, "the key is here")
            };
            let both = fault.code == Code::CertificateRefused && spot != other;
            self.note(fault.code, spot, both.then_some((other, note)), fault.cause, fault.remedy);
        }
        reading
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

impl Fault {
    fn of(fault: &files::Fault, files: &CertificateFiles) -> Self {
        let unreadable =
            |blames_key, cause, remedy| Self { code: Code::CertificateUnreadable, blames_key, cause, remedy };
        match fault {
            files::Fault::Unreadable { path, is_key, error } => {
                let cause = format!("{} cannot be read: {error}", shown(path.display()));
                unreadable(*is_key, cause, FILE_REMEDY.to_owned())
            }
            files::Fault::Variable(error) => unreadable(true, error.to_string(), error.remedy()),
            files::Fault::Refused(error) => {
                let blames_key = match error {
                    PairError::NoKey
                    | PairError::BadKey
                    | PairError::EncryptedKey
                    | PairError::KeyMismatch => true,
                    PairError::NoCertificate | PairError::BadCertificate(_) | PairError::ChainOrder => false,
                };
                let blamed = if blames_key { shown(&files.key) } else { shown(files.certificate.display()) };
                let cause = format!("{blamed}: {error}");
                let remedy = error.remedy().to_owned();
                Self { code: Code::CertificateRefused, blames_key, cause, remedy }
            }
        }
    }
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
