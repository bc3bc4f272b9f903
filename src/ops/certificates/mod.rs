//! The owner of the certificates in service: from files that sites name, the certificate directory, the
//! local CA and authorities on the network, with the answers to their challenges. Every change publishes a
//! new [`Setup`], which workers see at their next connection; all that did not change is shared with the
//! one before.

pub(in crate::ops) mod files;
mod sites;
mod state;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use self::files::{Marks, Reading};
use self::sites::Sites;
use self::state::{Beside, State, beside, summed, told};
use super::check::Disk;
use crate::acme::install::Install;
use crate::acme::keys::validation_name;
use crate::acme::local_ca::{self, LocalCa, Root};
use crate::acme::slot::{self, Identifier, Slot};
use crate::acme::store::Store as StateStore;
use crate::config::model::{AccessLog, CertificateFiles, HostPattern, Model, SiteTls};
use crate::handoff::meters::Meters;
use crate::handoff::published::Published;
use crate::io::worker::Setup;
use crate::proxy::challenge::Tokens;
use crate::proxy::route::Table;
use crate::tls::TlsCommon;
use crate::tls::certs::{CertifiedPair, Entry, Store};

/// Pairs that were read already, by where they are.
#[derive(Default)]
pub struct Pairs {
    known: HashMap<CertificateFiles, Reading>,
}

impl Pairs {
    /// What was read of these files, if they were.
    pub(in crate::ops) fn get(&self, files: &CertificateFiles) -> Option<&Reading> {
        self.known.get(files)
    }

    /// Keeps what was read.
    pub(in crate::ops) fn keep(&mut self, files: &CertificateFiles, reading: Reading) {
        self.known.insert(files.clone(), reading);
    }

    fn take(&mut self, files: &CertificateFiles) -> Reading {
        self.known.remove(files).unwrap_or_else(|| files::read(files, &Disk))
    }
}

/// Control-side threads (start, files, the acme thread) take turns here; no worker ever does.
#[expect(clippy::disallowed_types, reason = "workers are given what is published, never this")]
type Turn<T> = std::sync::Mutex<T>;

/// See the module.
pub struct Certificates {
    state: Turn<State>,
    published: Published<Setup>,
    root: Option<Root>,
    say: fn(&str),
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads what `model` names, except what `pairs` has already, and publishes it. `now` in unix seconds;
    /// `say` tells the operator.
    ///
    /// # Errors
    /// A text that names the site and the cause, when a certificate that the configuration names cannot be
    /// used, or the local CA or the directory cannot.
    pub fn open(model: &Arc<Model>, mut pairs: Pairs, now: u64, say: fn(&str)) -> Result<Self, String> {
        let tls = |error: &dyn fmt::Display| format!("TLS: {error}");
        let common = TlsCommon::new(super::check::now_unix).map_err(|error| tls(&error))?;
        let upstream_tls = crate::tls::client::client_config(system_roots()).map_err(|error| tls(&error))?;
        let table = Table::new(model);
        let published = Published::new(Arc::new(Setup {
            model: Arc::clone(model),
            meters: Arc::new(meters(model, &table)),
            table: Arc::new(table),
            store: Store::default(),
            tokens: Tokens::default(),
            upstream_tls: Arc::new(upstream_tls),
            logs: model.log.access != AccessLog::Off,
        }));
        let mut state = State {
            model: Arc::clone(model),
            common,
            ca: open_local_ca(model, now)?,
            published: published.clone(),
            sites: Sites::of(model),
            beside: model.sites.iter().map(|_| Beside::default()).collect(),
            kept: Vec::new(),
            by_path: HashMap::new(),
            covering: HashMap::new(),
        };
        read_named(&mut state, &mut pairs)?;
        if let Some(directory) = &model.server.certificates {
            read_directory(&mut state, directory, &mut pairs, say)?;
        }
        state.local_leafs(now, &mut BTreeSet::new())?.iter().for_each(|text| say(text));
        let (store, warnings) = state.stock()?;
        summed(warnings).iter().for_each(|warning| say(warning));
        published.publish(Arc::new(Setup { store, ..Setup::clone(&published.load()) }));
        let root = state.ca.as_ref().map(|ca| ca.root().clone());
        Ok(Self { state: Turn::new(state), published, root, say })
    }

    /// What workers read.
    #[must_use]
    pub fn published(&self) -> &Published<Setup> {
        &self.published
    }

    /// The root of the local CA, if any site needs it.
    #[must_use]
    pub fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// Whether the certificate directory has a pair for `host`.
    #[must_use]
    pub fn has_files(&self, host: &HostPattern) -> bool {
        self.with(|state| !state.in_directory(host).is_empty())
    }

    /// Every file to watch: those that sites name, and those of the directory that are links.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.with(|state| {
            let directory = state.model.server.certificates.as_deref();
            let is_inside = |path: &Path| directory.is_some() && path.parent() == directory;
            let watched = |path: &&PathBuf| {
                !is_inside(path) || path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
            };
            state.by_path.keys().filter(watched).cloned().collect()
        })
    }

    /// Whether a pair is in this file.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.with(|state| state.by_path.contains_key(path))
    }

    /// The certificate directory.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.with(|state| state.model.server.certificates.clone())
    }

    /// Reads the pairs in `paths` anew, and those of the directory that are new.
    pub(super) fn look_at(&self, paths: &BTreeSet<PathBuf>, now: u64) {
        self.with(|state| {
            let mut places = BTreeSet::new();
            for path in paths {
                places.extend(state.by_path.get(path).into_iter().flatten());
                if state.model.server.certificates.as_deref() == path.parent() {
                    add_new(state, files::chains_of(path).into_iter().flatten(), &mut places);
                }
            }
            self.read(state, places, now);
        });
    }

    /// Compares every file with what was read of it, reads anew what differs or could not be used, and
    /// looks for new pairs in the directory.
    pub(super) fn sweep(&self, now: u64) {
        self.with(|state| {
            let differs =
                |kept: &state::Kept| kept.trouble.is_some() || Marks::now(&kept.files) != kept.marks;
            let kept = state.kept.iter().enumerate();
            let mut places: BTreeSet<usize> =
                kept.filter(|(_, kept)| differs(kept)).map(|(place, _)| place).collect();
            let directory = state.model.server.certificates.clone();
            // A directory that cannot be listed now was listed once: what it held stays.
            let chains = directory.and_then(|directory| files::list(&directory).ok()).unwrap_or_default();
            add_new(state, chains.into_iter().map(|(chain, _)| chain), &mut places);
            self.read(state, places, now);
        });
    }

    fn read(&self, state: &mut State, places: BTreeSet<usize>, now: u64) {
        let (mut sites, mut texts) = (BTreeSet::new(), Vec::new());
        for place in places {
            let Some(files) = state.kept.get(place).map(|kept| kept.files.clone()) else { continue };
            texts.extend(state.take(place, files::read(&files, &Disk), now, &mut sites));
        }
        match state.refresh(&sites, false) {
            Ok(more) => texts.extend(more),
            Err(error) => texts.push(error),
        }
        summed(texts).iter().for_each(|text| (self.say)(text));
    }

    /// Whether there are pairs that cannot be used for a reason that was not said yet.
    pub(super) fn has_unsaid(&self) -> bool {
        self.with(|state| state.kept.iter().any(is_unsaid))
    }

    /// Reads those once more, and says the reason if it is still there.
    pub(super) fn say_troubles(&self, now: u64) {
        self.with(|state| {
            let kept = state.kept.iter().enumerate();
            let places: BTreeSet<usize> =
                kept.filter(|(_, kept)| is_unsaid(kept)).map(|(place, _)| place).collect();
            self.read(state, places, now);
            let mut texts = Vec::new();
            for kept in state.kept.iter_mut().filter(|kept| is_unsaid(kept)) {
                let Some(trouble) = &mut kept.trouble else { continue };
                trouble.said = true;
                let stays = if kept.pair.is_some() { "; the one read before stays in service" } else { "" };
                texts.push(format!("{}{stays}", trouble.text));
            }
            summed(texts).iter().for_each(|text| (self.say)(text));
        });
    }

    /// Renews certificates of the local CA that are due.
    pub(super) fn renew_local(&self, now: u64) {
        self.with(|state| {
            let mut sites = BTreeSet::new();
            let made = state.local_leafs(now, &mut sites);
            match made.and_then(|texts| Ok([texts, state.refresh(&sites, false)?].concat())) {
                Ok(texts) => texts.iter().for_each(|text| (self.say)(text)),
                Err(error) => (self.say)(&format!("certificates could not be renewed: {error}")),
            }
            if !sites.is_empty() {
                (self.say)("certificates of the local CA were renewed");
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A thread that ended in the middle of a change has published the whole of it or nothing.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes what `change` makes of the setup, unless it says that nothing changed.
    fn change(&self, change: impl FnOnce(&State, &mut Setup) -> bool) {
        self.with(|state| {
            let mut setup = Setup::clone(&self.published.load());
            if change(state, &mut setup) {
                self.published.publish(Arc::new(setup));
            }
        });
    }

    fn set_acme(&self, slot: &Slot, pair: Option<&Arc<CertifiedPair>>) -> Result<(), String> {
        self.with(|state| {
            let hosts = slot.sites.iter().filter_map(|site| state.model.sites.get(*site as usize));
            let mut hosts = hosts.map(|site| &site.host);
            if let Some(pair) = pair
                && let Some(host) = hosts.find(|host| !pair.covers(host))
            {
                return Err(format!("the certificate does not cover {host}"));
            }
            let mut before = Vec::new();
            for site in &slot.sites {
                if let Some(beside) = state.beside.get_mut(*site as usize) {
                    before.push((*site, std::mem::replace(&mut beside.acme, pair.cloned())));
                }
            }
            let sites = slot.sites.iter().copied().collect();
            let result = state.refresh(&sites, pair.is_none()).map(|_| ());
            for (site, old) in before.into_iter().filter(|_| result.is_err()) {
                if let Some(beside) = state.beside.get_mut(site as usize) {
                    beside.acme = old;
                }
            }
            result
        })
    }
}

/// A name that no site lists has its certificate in the store alone: it goes when the process does, and
/// comes from disk again.
fn install_on_demand(
    state: &State,
    setup: &mut Setup,
    slot: &Slot,
    pair: Arc<CertifiedPair>,
) -> Result<(), String> {
    let name = slot.name.to_string();
    if !pair.covers(&slot.name) {
        return Err(format!("the certificate does not cover {name}"));
    }
    let site = slot::serving_site(&state.model, &name).ok_or("no site serves it")?;
    let entry = Entry::on_demand(site.index, pair, &state.common).map_err(|error| error.to_string())?;
    match setup.store.put_demanded(name.as_bytes(), Some(entry)) {
        true => Ok(()),
        false => Err("nothing is obtained on demand".to_owned()),
    }
}

impl Install for Certificates {
    fn install(&self, slot: &Slot, pair: Arc<CertifiedPair>) -> Result<(), String> {
        if !slot.is_on_demand() {
            return self.set_acme(slot, Some(&pair));
        }
        let mut result = Ok(());
        self.change(|state, setup| {
            result = install_on_demand(state, setup, slot, pair);
            result.is_ok()
        });
        result
    }

    fn withdraw(&self, slot: &Slot) {
        if slot.is_on_demand() {
            let name = slot.name.to_string();
            return self.change(|_, setup| setup.store.put_demanded(name.as_bytes(), None));
        }
        // Nothing is made, so nothing can fail.
        let _ = self.set_acme(slot, None);
    }

    fn is_in_use(&self, slot: &Slot) -> bool {
        let setup = self.published.peek();
        setup.store.demanded(slot.name.to_string().as_bytes()).is_some_and(|entry| entry.is_in_use())
    }

    fn answer_http(&self, token: &str, key_authorization: &str) {
        self.change(|_, setup| setup.tokens.put(token, key_authorization));
    }

    fn answer_tls(&self, identifier: &Identifier, pair: Arc<CertifiedPair>) {
        self.change(|state, setup| {
            // An address has a site under its text.
            let site = setup.table.site(identifier.to_string().as_bytes()).unwrap_or_default();
            match Entry::for_challenge(site, pair, &state.common) {
                Ok(entry) => setup.store.put_challenge(validation_name(identifier).as_bytes(), entry),
                Err(error) => (self.say)(&format!("{identifier}: {error}")),
            }
            true
        });
    }

    fn forget_http(&self, token: &str) {
        self.change(|_, setup| setup.tokens.end(token));
    }

    fn forget_tls(&self, identifier: &Identifier) {
        self.change(|_, setup| setup.store.end_challenge(validation_name(identifier).as_bytes()));
    }
}

fn is_unsaid(kept: &state::Kept) -> bool {
    kept.trouble.as_ref().is_some_and(|trouble| !trouble.said)
}

/// Remembers chains of the directory that were not known; they are read as any that changed.
fn add_new(state: &mut State, chains: impl Iterator<Item = PathBuf>, places: &mut BTreeSet<usize>) {
    for chain in chains {
        let files = beside(&chain);
        if state.place_of(&files, true).is_none() && chain.exists() {
            let reading = Reading { marks: Marks::default(), pair: Err(Vec::new()) };
            places.insert(state.keep(files, reading, Vec::new()));
        }
    }
}

/// What the workers of `model` measure.
fn meters(model: &Model, table: &Table) -> Meters {
    let sites = model.sites.iter().map(|site| site.host.to_string().into()).collect();
    let endpoints = table.groups().endpoints().iter().map(|endpoint| Arc::clone(&endpoint.label)).collect();
    Meters::new(sites, endpoints, super::startup::cpus(&model.server.workers).len())
}

fn system_roots() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn open_local_ca(model: &Model, now: u64) -> Result<Option<LocalCa>, String> {
    let is_local = |host: &HostPattern| local_ca::is_local(host);
    if !model.sites.iter().any(|site| site.tls == SiteTls::Auto && is_local(&site.host)) {
        return Ok(None);
    }
    let store = StateStore::open(&model.server.state).map_err(|error| error.to_string())?;
    LocalCa::open(&store, now).map(Some).map_err(|error| error.to_string())
}

/// The pairs that sites name.
fn read_named(state: &mut State, pairs: &mut Pairs) -> Result<(), String> {
    for site in &Arc::clone(&state.model).sites {
        let SiteTls::Files(named) = &site.tls else { continue };
        for files in named {
            if let Some(kept) = state.place_of(files, false).and_then(|place| state.kept.get_mut(place)) {
                kept.sites.push(site.index);
                continue;
            }
            let reading = pairs.take(files);
            if let Err(faults) = &reading.pair {
                return Err(format!("{}: {}", site.host, told(files, faults)));
            }
            state.keep(files.clone(), reading, vec![site.index]);
        }
    }
    Ok(())
}

/// The pairs of the directory. One that cannot be used is passed over and named, so that one bad file does
/// not stop the others.
fn read_directory(
    state: &mut State,
    directory: &Path,
    pairs: &mut Pairs,
    say: fn(&str),
) -> Result<(), String> {
    let chains = files::list(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for (chain, _) in chains {
        let files = beside(&chain);
        let reading = pairs.take(&files);
        let place = state.keep(files, reading, Vec::new());
        if let Some(trouble) = state.kept.get_mut(place).and_then(|kept| kept.trouble.as_mut()) {
            trouble.said = true;
            say(&trouble.text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
