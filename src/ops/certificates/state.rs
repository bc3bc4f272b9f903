//! What is known of every site's certificate, and what is published of it. All of it is changed under one
//! owner; workers see only what is published.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Fault, Marks, Reading};
use super::sites::Sites;
use crate::acme::local_ca::{self, LocalCa};
use crate::acme::slot;
use crate::config::model::{CertificateFiles, HostPattern, Model, Secret, Site, SiteTls};
use crate::handoff::published::Published;
use crate::http::date;
use crate::io::worker::Setup;
use crate::tls::TlsCommon;
use crate::tls::certs::{CertifiedPair, Entry, Store};

/// How far ahead of ours the clock of whoever makes a certificate may be, in seconds.
const CLOCK_TOLERANCE: u64 = 300;
/// Certificates named one by one when many change at once; ten thousand lines help nobody.
const NAMED_CHANGES: usize = 10;

/// A pair on disk.
pub(super) struct Kept {
    /// Where it is.
    pub(super) files: CertificateFiles,
    /// Which states of the files were looked at last.
    pub(super) marks: Marks,
    /// The last good one.
    pub(super) pair: Option<Arc<CertifiedPair>>,
    /// Why what is on disk now is not it.
    pub(super) trouble: Option<Trouble>,
    /// Sites that name these files; none for a pair of the directory.
    pub(super) sites: Vec<u32>,
}

/// A pair on disk that cannot be used now.
pub(super) struct Trouble {
    pub(super) text: String,
    /// Whether the operator knows.
    pub(super) said: bool,
}

/// What a site has beside pairs on disk.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) local: Option<Local>,
    pub(super) acme: Option<Arc<CertifiedPair>>,
}

/// A leaf of the local CA.
pub(super) struct Local {
    pub(super) pair: Arc<CertifiedPair>,
    /// Unix seconds.
    pub(super) renew_at: u64,
}

/// See the module.
pub(super) struct State {
    pub(super) model: Arc<Model>,
    pub(super) common: TlsCommon,
    pub(super) ca: Option<LocalCa>,
    pub(super) published: Published<Setup>,
    pub(super) sites: Sites,
    pub(super) beside: Vec<Beside>,
    pub(super) kept: Vec<Kept>,
    /// Pairs by the files that they are in.
    pub(super) by_path: HashMap<PathBuf, Vec<usize>>,
    /// Pairs of the directory by the names that they cover.
    pub(super) covering: HashMap<HostPattern, Vec<usize>>,
}

impl State {
    /// The pairs that a site should serve now; none if it has to wait.
    pub(super) fn wanted(&self, site: &Site) -> Vec<Arc<CertifiedPair>> {
        match &site.tls {
            SiteTls::Files(files) => files.iter().filter_map(|files| self.pair_in(files)).collect(),
            SiteTls::Acme => {
                let beside = self.beside.get(site.index as usize);
                beside.and_then(|beside| beside.acme.clone()).into_iter().collect()
            }
            SiteTls::Auto => {
                let found = self.in_directory(&site.host);
                if !found.is_empty() {
                    return found;
                }
                let Some(beside) = self.beside.get(site.index as usize) else { return found };
                let local = beside.local.as_ref().map(|local| &local.pair);
                local.or(beside.acme.as_ref()).into_iter().cloned().collect()
            }
        }
    }

    fn pair_in(&self, files: &CertificateFiles) -> Option<Arc<CertifiedPair>> {
        self.place_of(files, false).and_then(|place| self.kept.get(place)?.pair.clone())
    }

    /// The place of the pair in these files: as one of the directory, or as one that sites name.
    pub(super) fn place_of(&self, files: &CertificateFiles, of_directory: bool) -> Option<usize> {
        let is_it = |kept: &Kept| kept.files == *files && kept.sites.is_empty() == of_directory;
        let mut places = self.by_path.get(&files.certificate)?.iter().copied();
        places.find(|place| self.kept.get(*place).is_some_and(is_it))
    }

    /// Pairs of the directory that cover `host`, in the order of their files.
    pub(super) fn in_directory(&self, host: &HostPattern) -> Vec<Arc<CertifiedPair>> {
        let mut places: Vec<usize> = self.covering.get(host).cloned().unwrap_or_default();
        if let HostPattern::Exact(name) = host
            && let Some((_, parent)) = name.split_once('.')
            && !self.covering.is_empty()
        {
            let wildcard = HostPattern::Wildcard(parent.to_owned());
            places.extend(self.covering.get(&wildcard).into_iter().flatten());
        }
        let mut found: Vec<&Kept> = places.iter().filter_map(|place| self.kept.get(*place)).collect();
        found.sort_by(|one, other| one.files.certificate.cmp(&other.files.certificate));
        found.dedup_by(|one, other| one.files.certificate == other.files.certificate);
        found.iter().filter_map(|kept| kept.pair.clone()).collect()
    }

    /// Remembers a pair on disk that was read for the first time.
    pub(super) fn keep(&mut self, files: CertificateFiles, reading: Reading, sites: Vec<u32>) -> usize {
        let place = self.kept.len();
        self.by_path.entry(files.certificate.clone()).or_default().push(place);
        if let Secret::File(key) = &files.key
            && *key != files.certificate
        {
            self.by_path.entry(key.clone()).or_default().push(place);
        }
        let (pair, trouble) = match reading.pair {
            Ok(pair) => (Some(pair), None),
            Err(faults) => (None, Some(Trouble { text: told(&files, &faults), said: false })),
        };
        let is_of_directory = sites.is_empty();
        self.kept.push(Kept { files, marks: reading.marks, pair, trouble, sites });
        if is_of_directory {
            self.cover(place, true);
        }
        place
    }

    /// Enters a pair of the directory under its names, or takes it out.
    fn cover(&mut self, place: usize, enter: bool) {
        let Some(Some(pair)) = self.kept.get(place).map(|kept| kept.pair.clone()) else { return };
        for name in pair.names() {
            let places = self.covering.entry(name.clone()).or_default();
            places.retain(|other| *other != place);
            if enter {
                places.push(place);
            }
            if places.is_empty() {
                self.covering.remove(name);
            }
        }
    }

    /// Takes what was read anew of a pair. Sites whose pairs changed are added to `sites`; what is to be
    /// said at once is returned.
    pub(super) fn take(
        &mut self,
        place: usize,
        reading: Reading,
        now: u64,
        sites: &mut BTreeSet<u32>,
    ) -> Option<String> {
        let verdict = {
            let kept = self.kept.get(place)?;
            match &reading.pair {
                Err(faults) => Err(told(&kept.files, faults)),
                Ok(pair) => self.worse(kept, pair, now).map_or(Ok(()), Err),
            }
        };
        let kept = self.kept.get_mut(place)?;
        kept.marks = reading.marks;
        match (verdict, reading.pair) {
            (Ok(()), Ok(pair)) => {
                let was_said = kept.trouble.take().is_some_and(|trouble| trouble.said);
                let same = |old: &Arc<CertifiedPair>| old.certified_key().cert == pair.certified_key().cert;
                let shown = kept.files.certificate.display().to_string();
                if kept.pair.as_ref().is_some_and(same) {
                    return was_said.then(|| format!("{shown}: the pair is good again"));
                }
                let text = format!("{shown}: a new certificate, valid until {}", day(pair.not_after()));
                self.replace(place, pair, sites);
                Some(text)
            }
            (verdict, _) => {
                let text = verdict.err().unwrap_or_default();
                if kept.trouble.as_ref().is_none_or(|trouble| trouble.text != text) {
                    kept.trouble = Some(Trouble { text, said: false });
                }
                None
            }
        }
    }

    fn replace(&mut self, place: usize, pair: Arc<CertifiedPair>, sites: &mut BTreeSet<u32>) {
        let Some(kept) = self.kept.get(place) else { return };
        if kept.sites.is_empty() {
            let old = kept.pair.iter().flat_map(|old| old.names());
            for name in old.chain(pair.names()) {
                sites.extend(self.sites.under(name));
            }
            self.cover(place, false);
        } else {
            sites.extend(&kept.sites);
        }
        if let Some(kept) = self.kept.get_mut(place) {
            kept.pair = Some(pair);
        }
        if self.kept.get(place).is_some_and(|kept| kept.sites.is_empty()) {
            self.cover(place, true);
        }
    }

    /// Why a pair that can be read must not replace the one in service.
    fn worse(&self, kept: &Kept, pair: &CertifiedPair, now: u64) -> Option<String> {
        let old = kept.pair.as_ref()?;
        let shown = kept.files.certificate.display();
        if old.not_after() >= now && pair.not_after() < now {
            return Some(format!("{shown}: the new certificate expired on {}", day(pair.not_after())));
        }
        if old.not_after() >= now && pair.not_before() > now + CLOCK_TOLERANCE {
            return Some(format!(
                "{shown}: the new certificate is not valid before {}",
                day(pair.not_before())
            ));
        }
        let hosts = kept.sites.iter().filter_map(|site| self.model.sites.get(*site as usize));
        let mut lost = hosts.map(|site| &site.host).filter(|host| old.covers(host) && !pair.covers(host));
        lost.next().map(|host| format!("{shown}: the new certificate does not cover {host}"))
    }

    /// Publishes what `sites` should serve now, in one step; texts about it. A site that had a certificate
    /// keeps the last one when it should have none, unless `may_end`.
    ///
    /// # Errors
    /// A text that names the site whose handshakes cannot be prepared; then nothing changes.
    pub(super) fn refresh(&self, sites: &BTreeSet<u32>, may_end: bool) -> Result<Vec<String>, String> {
        let mut store: Option<Store> = None;
        let mut texts = Vec::new();
        let setup = self.published.load();
        for site in sites.iter().filter_map(|site| self.model.sites.get(*site as usize)) {
            let pairs = self.wanted(site);
            let served = setup.store.of(&site.host).map(|entry| entry.pairs());
            if pairs.is_empty() && served.is_some() && !may_end {
                texts.push(format!("{}: no certificate covers it any more; the last one stays", site.host));
                continue;
            }
            if is_same(&pairs, served.unwrap_or_default()) {
                continue;
            }
            let entry = match pairs.is_empty() {
                true => None,
                false => Some(self.entry(site, pairs)?),
            };
            store.get_or_insert_with(|| setup.store.clone()).put(&site.host, entry);
        }
        if let Some(store) = store {
            self.published.publish(Arc::new(Setup { store, ..Setup::clone(&setup) }));
        }
        Ok(texts)
    }

    fn entry(&self, site: &Site, pairs: Vec<Arc<CertifiedPair>>) -> Result<Arc<Entry>, String> {
        Entry::new(site.index, pairs, &self.common).map_err(|error| format!("{}: {error}", site.host))
    }

    /// The first store, with all sites, and what is to be said of those without a certificate.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub(super) fn stock(&self) -> Result<(Store, Vec<String>), String> {
        let mut builder = Store::builder();
        let mut warnings = Vec::new();
        for site in &self.model.sites {
            let pairs = self.wanted(site);
            if pairs.is_empty() && slot::is_by_demand(&self.model, site) {
                builder.add_by_demand(&site.host);
            } else if pairs.is_empty() {
                warnings.push(without_certificate(site));
                builder.add_pending(&site.host);
            } else {
                builder.add(&site.host, self.entry(site, pairs)?);
            }
        }
        if self.model.acme.on_demand.is_some() {
            builder.on_demand();
        }
        if let Some(host) = &self.model.server.default_site {
            builder.default_is(host);
        }
        Ok((builder.build(), warnings))
    }

    /// Makes the leafs of the local CA that are due at `now`, those of sites without any included; texts
    /// about them.
    ///
    /// # Errors
    /// A text for the first that cannot be made.
    pub(super) fn local_leafs(&mut self, now: u64, sites: &mut BTreeSet<u32>) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        let Some(ca) = &self.ca else { return Ok(texts) };
        for site in &self.model.sites {
            let due = |local: &Local| local.renew_at <= now;
            let Some(beside) = self.beside.get(site.index as usize) else { continue };
            let is_local = site.tls == SiteTls::Auto && local_ca::is_local(&site.host);
            if !is_local || !beside.local.as_ref().is_none_or(due) {
                continue;
            }
            if beside.local.is_none() && !self.in_directory(&site.host).is_empty() {
                continue;
            }
            let leaf = ca.leaf(&site.host, now).map_err(|error| format!("{}: {error}", site.host))?;
            if let Some(error) = &leaf.unsaved {
                texts.push(format!("{}: the certificate could not be stored: {error}", site.host));
            }
            let pair = CertifiedPair::from_pem(leaf.chain.as_ref(), leaf.key.as_ref());
            let pair = pair.map(Arc::new).map_err(|error| format!("{}: {error}", site.host))?;
            if let Some(beside) = self.beside.get_mut(site.index as usize) {
                beside.local = Some(Local { pair, renew_at: leaf.renew_at() });
            }
            sites.insert(site.index);
        }
        Ok(texts)
    }
}

fn is_same(wanted: &[Arc<CertifiedPair>], served: &[Arc<CertifiedPair>]) -> bool {
    let in_service = |pair: &Arc<CertifiedPair>| served.iter().any(|served| Arc::ptr_eq(served, pair));
    wanted.len() == served.len() && wanted.iter().all(in_service)
}

/// What is wrong with a pair, in one line.
pub(super) fn told(files: &CertificateFiles, faults: &[Fault]) -> String {
    let causes: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let causes = causes.join("; ");
    // Unreadable files are named already.
    match faults.first() {
        Some(Fault::Unreadable { .. }) => causes,
        _ => format!("{}: {causes}", files.certificate.display()),
    }
}

fn without_certificate(site: &Site) -> String {
    let asked_for = site.tls == SiteTls::Acme || !local_ca::is_local(&site.host);
    if site.acme.is_some() && asked_for {
        return format!("{}: a certificate is being obtained; until then clients are refused", site.host);
    }
    format!(
        "{}: no certificate yet, so clients are refused; name one with `tls = {{ cert, key }}` or put a pair into `server.certificates`",
        site.host
    )
}

/// Texts about single certificates, or one about all when there are many.
pub(super) fn summed(texts: Vec<String>) -> Vec<String> {
    let more = texts.len().saturating_sub(NAMED_CHANGES);
    let mut few: Vec<String> = texts.into_iter().take(NAMED_CHANGES).collect();
    if more > 0 {
        few.push(format!("and {more} more likewise"));
    }
    few
}

/// A moment in unix seconds, for people.
fn day(at: u64) -> String {
    let mut text = Vec::new();
    date::write_imf_fixdate(at, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// A pair of the directory: its key lies beside it.
pub(super) fn beside(chain: &Path) -> CertificateFiles {
    CertificateFiles { certificate: chain.to_owned(), key: Secret::File(chain.with_extension("key")) }
}
