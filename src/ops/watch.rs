//! The thread that looks after certificates: it sees files change, has them read when they have settled,
//! and renews what the local CA signed. The kernel tells of changes by directory, so for each file the
//! directory of every symbolic link on the way to it is watched too: that is where certbot's `live` and
//! Kubernetes' `..data` are exchanged. What the kernel does not tell is found by a sweep.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::certificates::Certificates;
use super::check::now_unix;
use crate::io::sys::{Event, Inotify, Watch};
use crate::limits;

/// How often the local CA's certificates are looked at; renewal is due days before it is needed.
const LOCAL_ROUND: Duration = Duration::from_secs(60);
/// The first sweep, for files that changed between their reading and the first watch.
const FIRST_SWEEP: Duration = Duration::from_secs(1);

/// Starts the thread. It ends when nobody else holds `certificates` any more.
///
/// # Errors
/// The system's, when no thread can be made.
pub fn start(certificates: &Arc<Certificates>, say: fn(&str)) -> io::Result<()> {
    let certificates = Arc::downgrade(certificates);
    std::thread::Builder::new().name("certificates".into()).spawn(move || run(&certificates, say))?;
    Ok(())
}

fn run(certificates: &Weak<Certificates>, say: fn(&str)) {
    let mut watcher = match Inotify::new() {
        Ok(inotify) => Some(Watcher::new(inotify)),
        Err(error) => {
            say(&format!("changes of certificate files are seen late: inotify: {error}"));
            None
        }
    };
    if let (Some(watcher), Some(certificates)) = (&mut watcher, certificates.upgrade()) {
        watcher.begin(&certificates);
    }
    if watcher.as_ref().is_some_and(|watcher| watcher.blind) {
        say("not all certificate files can be watched (fs.inotify.max_user_watches); others are seen late");
    }
    let start = Instant::now();
    let (mut sweep, mut local) = (start + FIRST_SWEEP, start + LOCAL_ROUND);
    let mut unsaid: Option<Instant> = None;
    loop {
        let due = unsaid.map_or(sweep.min(local), |at| at.min(sweep).min(local));
        let patience = due.saturating_duration_since(Instant::now());
        let news = match &mut watcher {
            Some(watcher) => watcher.wait(patience),
            None => {
                std::thread::sleep(patience);
                News::default()
            }
        };
        let Some(certificates) = certificates.upgrade() else { return };
        let now = Instant::now();
        // First watched, then read: what changes in between is told.
        if let Some(watcher) = &mut watcher {
            watcher.follow(&certificates, &news);
        }
        if news.lost || now >= sweep {
            certificates.sweep(now_unix());
            sweep = Instant::now() + limits::CERTIFICATE_SWEEP;
        } else if !news.paths.is_empty() {
            certificates.look_at(&news.paths, now_unix());
        }
        if now >= local {
            certificates.renew_local(now_unix());
            local = now + LOCAL_ROUND;
        }
        if unsaid.is_some_and(|at| now >= at) {
            certificates.say_troubles(now_unix());
        }
        let grace = Instant::now() + limits::CERTIFICATE_GRACE;
        unsaid = certificates.has_unsaid().then(|| unsaid.filter(|at| now < *at).unwrap_or(grace));
    }
}

/// What the kernel told.
#[derive(Debug, Default)]
struct News {
    /// Files to look at.
    paths: BTreeSet<PathBuf>,
    /// Something else may have happened.
    lost: bool,
}

/// Which directories are watched. Files that are in them under their own path need no entry: an event gives
/// their name.
struct Watcher {
    inotify: Inotify,
    watches: HashMap<PathBuf, Watch>,
    directories: HashMap<Watch, PathBuf>,
    /// Files behind links, by what their way depends on.
    dependents: HashMap<(Watch, OsString), BTreeSet<Arc<Path>>>,
    /// The same the other way round.
    linked: HashMap<Arc<Path>, Vec<(Watch, OsString)>>,
    /// The certificate directory: every name in it counts.
    folder: Option<PathBuf>,
    /// Whether there is something that could not be watched.
    blind: bool,
}

impl Watcher {
    fn new(inotify: Inotify) -> Self {
        Self {
            inotify,
            watches: HashMap::new(),
            directories: HashMap::new(),
            dependents: HashMap::new(),
            linked: HashMap::new(),
            folder: None,
            blind: false,
        }
    }

    /// Watches everything.
    fn begin(&mut self, certificates: &Certificates) {
        self.folder = certificates.directory();
        let mut ways = Ways::default();
        if let Some(folder) = self.folder.clone() {
            self.watch(&folder, &mut ways);
            self.watch_directory(&folder);
        }
        for path in certificates.paths() {
            self.watch(&path, &mut ways);
        }
    }

    fn watch_directory(&mut self, directory: &Path) -> Option<Watch> {
        if let Some(watch) = self.watches.get(directory) {
            return Some(*watch);
        }
        match self.inotify.watch(directory) {
            Ok(watch) => {
                self.watches.insert(directory.to_owned(), watch);
                // The certificate directory is known by the path that its files have.
                if self.folder.as_deref() == Some(directory) || !self.directories.contains_key(&watch) {
                    self.directories.insert(watch, directory.to_owned());
                }
                Some(watch)
            }
            Err(error) => {
                self.blind |= error.kind() == io::ErrorKind::StorageFull;
                None
            }
        }
    }

    /// Watches every directory on the way to `path` in which a link or the file itself can be exchanged.
    fn watch(&mut self, path: &Path, ways: &mut Ways) {
        let way = ways.to(path);
        let known = self.linked.remove(path).unwrap_or_default();
        for place in known {
            if let Some(files) = self.dependents.get_mut(&place) {
                files.remove(path);
                if files.is_empty() {
                    self.dependents.remove(&place);
                }
            }
        }
        if let [(directory, name)] = &*way {
            let watch = self.watch_directory(directory);
            let known = watch.and_then(|watch| self.directories.get(&watch));
            if watch.is_none() || known.is_some_and(|known| known.join(name) == path) {
                return;
            }
        }
        let path: Arc<Path> = path.into();
        let mut places = Vec::new();
        for (directory, name) in way {
            if let Some(watch) = self.watch_directory(&directory) {
                let place = (watch, name);
                self.dependents.entry(place.clone()).or_default().insert(Arc::clone(&path));
                places.push(place);
            }
        }
        self.linked.insert(path, places);
    }

    /// Waits for news, and then until files have settled.
    fn wait(&mut self, patience: Duration) -> News {
        let mut news = News::default();
        if !self.inotify.wait(patience) {
            return news;
        }
        let end = Instant::now() + limits::CERTIFICATE_SETTLE_MOST;
        loop {
            match self.inotify.read() {
                Ok(events) => events.into_iter().for_each(|event| self.take(event, &mut news)),
                Err(_) => news.lost = true,
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.inotify.wait(left.min(limits::CERTIFICATE_SETTLE)) {
                return news;
            }
        }
    }

    fn take(&mut self, event: Event, news: &mut News) {
        match event {
            Event::Lost => news.lost = true,
            Event::Gone(watch) => {
                self.inotify.forget(watch);
                self.watches.retain(|_, other| *other != watch);
                self.directories.remove(&watch);
                news.lost = true;
            }
            Event::Name(watch, name) => {
                if let Some(directory) = self.directories.get(&watch) {
                    news.paths.insert(directory.join(&name));
                }
                let files = self.dependents.get(&(watch, name)).into_iter().flatten();
                news.paths.extend(files.map(|path| path.to_path_buf()));
                news.lost |= self.folder.as_ref().is_some_and(|folder| news.paths.contains(folder));
            }
        }
    }

    /// After news: ways to files may lead elsewhere, and there may be new links.
    fn follow(&mut self, certificates: &Certificates, news: &News) {
        if news.lost {
            return self.begin(certificates);
        }
        let mut ways = Ways::default();
        for path in &news.paths {
            let is_new_link = self.folder.is_some()
                && path.parent() == self.folder.as_deref()
                && path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
            if is_new_link || self.linked.contains_key(&**path) || certificates.knows(path) {
                self.watch(path, &mut ways);
            }
        }
    }
}

/// Ways to files, with those to their directories found once.
#[derive(Default)]
struct Ways {
    known: HashMap<PathBuf, (PathBuf, Vec<(PathBuf, OsString)>)>,
}

impl Ways {
    /// Every place at which an exchange changes what `path` leads to: directory, and the name in it.
    fn to(&mut self, path: &Path) -> Vec<(PathBuf, OsString)> {
        let Ok(path) = std::path::absolute(path) else { return Vec::new() };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
        let (directory, mut way) = match self.known.get(parent) {
            Some(known) => known.clone(),
            None => {
                let known = follow(parent);
                self.known.insert(parent.to_owned(), known.clone());
                known
            }
        };
        let file = directory.join(name);
        if file.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            way.extend(follow(&file).1);
        }
        // What is there, or should be.
        let last = if way.is_empty() { file.clone() } else { follow(&file).0 };
        if let (Some(directory), Some(name)) = (last.parent(), last.file_name()) {
            way.push((directory.to_owned(), name.to_owned()));
        }
        way
    }
}

/// Where an absolute path leads, as far as it can be followed, and the links on the way; the name that is
/// missing counts as one.
fn follow(path: &Path) -> (PathBuf, Vec<(PathBuf, OsString)>) {
    let mut at = PathBuf::from("/");
    let mut links = Vec::new();
    let mut left: VecDeque<PathBuf> = parts(path);
    while let Some(part) = left.pop_front() {
        let next = at.join(&part);
        if part.as_os_str() == ".." {
            at.pop();
            continue;
        }
        match std::fs::read_link(&next) {
            Ok(target) if links.len() < limits::CERTIFICATE_LINKS as usize => {
                links.push((at.clone(), part.into_os_string()));
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).into_iter().rev() {
                    left.push_front(part);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                links.push((at.clone(), part.into_os_string()));
                at = next;
            }
            _ => at = next,
        }
    }
    (at, links)
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    let is_part = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_part).map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
