//! Every certificate that can be found: those of authorities and of the local CA in the state directory, and
//! the files that the configuration names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Place, columns, plain};
use crate::acme::status::{SlotStatus, State};
use crate::acme::store::{AcmeStore, Pair, Store};
use crate::config::model::{CertificateFiles, Model, Secret, SiteTls};
use crate::http::date::iso_date;
use crate::ops::certificates::files::read;
use crate::ops::check::Disk;
use crate::tls::certs::CertifiedPair;

const DAY: u64 = 24 * 3600;

/// Where a certificate comes from.
enum Source {
    Authority,
    LocalCa,
    File(PathBuf),
}

impl Source {
    fn word(&self) -> String {
        match self {
            Self::Authority => "authority".to_owned(),
            Self::LocalCa => "local CA".to_owned(),
            Self::File(path) => plain(&path.display().to_string()),
        }
    }
}

struct Item {
    name: String,
    source: Source,
    pair: Option<Arc<CertifiedPair>>,
    /// Chain and key, of those that the state directory has.
    pem: Option<Pair>,
    generation: Option<u64>,
    /// What is wrong with it.
    fault: Option<String>,
    slot: Option<SlotStatus>,
}

pub(super) struct Inventory {
    items: Vec<Item>,
    /// What could not be looked at.
    notes: Vec<String>,
}

impl Inventory {
    /// Looks everywhere. What cannot be read is told in its place, never an end.
    pub fn of(place: &Place) -> Self {
        let mut found = Self { items: Vec::new(), notes: Vec::new() };
        if place.state.is_dir() {
            match Store::open(&place.state) {
                Ok(store) => {
                    found.authorities(&store, place);
                    found.local_ca(&store);
                }
                Err(error) => found.notes.push(error.to_string()),
            }
        }
        if let Some(model) = &place.model {
            found.files(model);
        }
        found
    }

    fn authorities(&mut self, store: &Store, place: &Place) {
        let mut slots = super::acme::known(place).map(|known| known.status.slots).unwrap_or_default();
        // Whoever only looks makes nothing.
        if store.path().join("acme").is_dir() {
            let acme = AcmeStore::open_for_reading(store);
            let names = acme.list().unwrap_or_else(|error| {
                self.notes.push(error.to_string());
                Vec::new()
            });
            for name in names {
                let at = slots.iter().position(|slot| slot.name == name);
                let slot = at.map(|at| slots.remove(at));
                self.items.push(kept(&acme, name, slot));
            }
        }
        let absent = slots.into_iter().map(|slot| Item { slot: Some(slot.clone()), ..empty(slot.name) });
        self.items.extend(absent);
    }

    fn local_ca(&mut self, store: &Store) {
        let path = store.path().join("local-ca").join("leafs");
        if !path.is_dir() {
            return;
        }
        let dir = match store.dir("local-ca").and_then(|dir| dir.dir("leafs")) {
            Ok(dir) => dir,
            Err(error) => return self.notes.push(error.to_string()),
        };
        for name in names_below(&path) {
            let mut item = Item { source: Source::LocalCa, ..empty(name) };
            match dir.pair(&item.name) {
                Ok(Some(pem)) => item.take(pem),
                Ok(None) => continue,
                Err(error) => item.fault = Some(error.to_string()),
            }
            self.items.push(item);
        }
    }

    fn files(&mut self, model: &Model) {
        for site in &model.sites {
            let SiteTls::Files(files) = &site.tls else { continue };
            let host = site.host.to_string();
            self.items.extend(files.iter().map(|files| of_file(host.clone(), files)));
        }
        let Some(directory) = &model.server.certificates else { return };
        let Ok(entries) = fs::read_dir(directory) else {
            self.notes.push(format!("{} cannot be listed", directory.display()));
            return;
        };
        let mut chains: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        chains.retain(|path| path.extension().is_some_and(|ext| ext == "pem" || ext == "crt"));
        chains.sort();
        for certificate in chains.into_iter().filter(|path| path.with_extension("key").exists()) {
            let key = Secret::File(certificate.with_extension("key"));
            let stem = certificate.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            self.items.push(of_file(stem, &CertificateFiles { certificate, key }));
        }
    }

    /// One line each.
    pub fn table(&self, now: u64) -> String {
        let headings = ["NAME", "ISSUER", "NOT AFTER", "DAYS LEFT", "SOURCE", "STATE"];
        let mut rows = vec![headings.map(str::to_owned)];
        rows.extend(self.items.iter().map(|item| item.row(now)));
        let mut out = if self.items.is_empty() { "no certificates\n".to_owned() } else { columns(&rows) };
        for note in &self.notes {
            out.push_str(&format!("not shown: {}\n", plain(note)));
        }
        out
    }

    /// All that is known of the certificates with this name on them.
    pub fn show(&self, name: &str, now: u64) -> Option<String> {
        let shown: Vec<String> =
            self.items.iter().filter(|item| item.is_named(name)).map(|item| item.show(now)).collect();
        (!shown.is_empty()).then(|| shown.join("\n"))
    }

    /// Chain and key of a certificate in the state directory.
    pub fn pem(self, name: &str) -> Option<Pair> {
        self.items.into_iter().filter(|item| item.is_named(name)).find_map(|item| item.pem)
    }
}

fn empty(name: String) -> Item {
    Item { name, source: Source::Authority, pair: None, pem: None, generation: None, fault: None, slot: None }
}

fn kept(acme: &AcmeStore, name: String, slot: Option<SlotStatus>) -> Item {
    let mut item = Item { slot, ..empty(name) };
    match acme.pair(&item.name) {
        Ok(found) => {
            if let crate::acme::store::Found::Spoilt { faults, .. } = &found {
                item.fault = faults.first().map(ToString::to_string);
            }
            if let Some(kept) = found.kept() {
                item.generation = Some(kept.generation);
                item.pair = Some(kept.pair);
                item.pem = Some(kept.pem);
            }
        }
        Err(error) => item.fault = Some(error.to_string()),
    }
    item
}

fn of_file(name: String, files: &CertificateFiles) -> Item {
    let mut item = Item { source: Source::File(files.certificate.clone()), ..empty(name) };
    match read(files, &Disk).pair {
        Ok(pair) => item.pair = Some(pair),
        Err(faults) => {
            item.fault = Some(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
    }
    item
}

/// Names of the directories below `path`, as `store` writes them: `%XX` for what a file's name cannot have.
fn names_below(path: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(path).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let mut names: Vec<String> =
        entries.iter().filter_map(|entry| decoded(entry.file_name().to_str()?)).collect();
    names.sort();
    names
}

/// `None` for names that `store` does not write.
fn decoded(name: &str) -> Option<String> {
    let mut pieces = name.split('%');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        out.push(char::from(u8::from_str_radix(code, 16).ok()?));
        out.push_str(rest);
    }
    (!name.starts_with('.')).then_some(out)
}

impl Item {
    fn take(&mut self, pem: Pair) {
        match CertifiedPair::from_pem(pem.certificate.as_bytes(), pem.key.as_bytes()) {
            Ok(pair) => self.pair = Some(Arc::new(pair)),
            Err(error) => self.fault = Some(error.to_string()),
        }
        self.pem = Some(pem);
    }

    fn is_named(&self, name: &str) -> bool {
        let on_it = |pair: &CertifiedPair| pair.names().iter().any(|other| other.to_string() == name);
        self.name == name || self.pair.as_deref().is_some_and(on_it)
    }

    /// What is going on with it.
    fn state(&self, now: u64) -> String {
        if let Some(pair) = &self.pair {
            if now > pair.not_after() {
                return "expired".to_owned();
            }
            if now < pair.not_before() {
                return "not yet valid".to_owned();
            }
        }
        match (&self.slot, &self.pair, &self.fault) {
            (Some(slot), _, _) if slot.state != State::Empty => slot.state.word().to_owned(),
            (_, Some(_), None) => "valid".to_owned(),
            (_, Some(_), Some(_)) => "valid, an older one".to_owned(),
            (_, None, Some(_)) => "unusable".to_owned(),
            (_, None, None) => "none yet".to_owned(),
        }
    }

    fn row(&self, now: u64) -> [String; 6] {
        let dash = || "-".to_owned();
        let pair = self.pair.as_deref();
        [
            plain(&self.name),
            pair.map_or_else(dash, |pair| plain(pair.issuer())),
            pair.map_or_else(dash, |pair| iso_date(pair.not_after())),
            pair.map_or_else(dash, |pair| days_left(pair.not_after(), now)),
            self.source.word(),
            self.state(now),
        ]
    }

    fn show(&self, now: u64) -> String {
        let mut lines = vec![["name:".to_owned(), plain(&self.name)]];
        let mut line = |key: &str, value: String| lines.push([format!("{key}:"), value]);
        line("source", self.source.word());
        line("state", self.state(now));
        if let Some(pair) = &self.pair {
            let names: Vec<String> = pair.names().iter().map(ToString::to_string).collect();
            line("covers", names.join(", "));
            line("issuer", plain(pair.issuer()));
            line("serial", pair.serial_hex());
            line("key", if pair.is_ecdsa() { "ECDSA" } else { "RSA or other" }.to_owned());
            line("not before", iso_date(pair.not_before()));
            let left = days_left(pair.not_after(), now);
            line("not after", format!("{} ({left} days left)", iso_date(pair.not_after())));
        }
        if let Some(generation) = self.generation {
            line("generation", generation.to_string());
        }
        if let Some(slot) = &self.slot {
            slot.issuer.iter().for_each(|issuer| line("authority", plain(issuer)));
            slot.profile.iter().for_each(|profile| line("profile", plain(profile)));
            slot.renew_at.iter().for_each(|at| line("renewal due", iso_date(*at)));
            slot.last_error.iter().for_each(|error| line("last error", plain(error)));
        }
        self.fault.iter().for_each(|fault| line("fault", plain(fault)));
        columns(&lines)
    }
}

/// Whole days, negative after the end.
fn days_left(end: u64, now: u64) -> String {
    match end.checked_sub(now) {
        Some(left) => (left / DAY).to_string(),
        None => format!("-{}", (now - end).div_ceil(DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directories_are_read_back() {
        assert_eq!(decoded("%2a.app.test").as_deref(), Some("*.app.test"));
        assert_eq!(decoded("fd00%3a%3a1").as_deref(), Some("fd00::1"));
        for name in [".new-1-2-3", "%2", "%zz", "%é"] {
            assert_eq!(decoded(name), None, "{name}");
        }
    }

    #[test]
    fn days_count_down_and_go_on_below_zero() {
        assert_eq!(days_left(10 * DAY + 5, 5), "10");
        assert_eq!(days_left(DAY - 1, 0), "0");
        assert_eq!(days_left(0, 1), "-1");
    }
}
