//! What is so on this machine: read from `/proc` and `/sys`, judged elsewhere. What cannot be read is absent,
//! never guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::cards::{self, Card};
use super::knobs;
use crate::io::sys::{self, RingFlags};

/// What is so on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Major and minor version of the kernel.
    pub kernel: Option<(u32, u32)>,
    /// What io_uring takes, or the error number with which it is refused.
    pub ring: Result<RingFlags, i32>,
    /// Kernel settings by their `sysctl` name, blanks between values single.
    pub settings: BTreeMap<&'static str, String>,
    /// Soft and hard limit of open descriptors.
    pub descriptors: Option<(u64, u64)>,
    /// Soft and hard limit of locked memory, bytes.
    pub locked_memory: Option<(u64, u64)>,
    /// CPUs that run.
    pub cpus: Vec<usize>,
    /// Features of the first CPU, by the names of `/proc/cpuinfo`.
    pub features: BTreeSet<String>,
    /// What governs the frequency of the CPUs; empty where nothing does.
    pub governors: BTreeSet<String>,
    /// Whether something disciplines the clock.
    pub clock: Option<bool>,
    /// Whether `irqbalance` runs.
    pub irqbalance: bool,
    /// Network cards.
    pub cards: Vec<Card>,
}

impl Facts {
    /// Those of the machine that this runs on.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let root = Path::new("/");
        let mut facts = Self::read(root);
        facts.ring = sys::ring_flags().map_err(|error| error.raw_os_error().unwrap_or_default());
        facts.clock = sys::clock_is_disciplined().or(facts.clock);
        facts
    }

    /// What the files below `root` tell; io_uring counts as refused without a reason.
    pub(super) fn read(root: &Path) -> Self {
        let limits = text(root, "proc/self/limits").unwrap_or_default();
        let cpuinfo = text(root, "proc/cpuinfo").unwrap_or_default();
        let online = text(root, "sys/devices/system/cpu/online").unwrap_or_default();
        // systemd-timesyncd leaves this file once the clock is right; no file says nothing.
        let synchronised = root.join("run/systemd/timesync/synchronized").exists().then_some(true);
        Self {
            kernel: text(root, "proc/sys/kernel/osrelease").and_then(|text| version(&text)),
            ring: Err(0),
            settings: settings(root),
            descriptors: limit(&limits, "Max open files"),
            locked_memory: limit(&limits, "Max locked memory"),
            cpus: cpu_list(&online),
            features: features(&cpuinfo),
            governors: governors(root),
            clock: synchronised,
            irqbalance: runs(root, "irqbalance"),
            cards: cards::read(root),
        }
    }

    /// A setting.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// Whether the kernel is this version or a newer one; `false` if it is not known.
    #[must_use]
    pub fn kernel_has(&self, version: (u32, u32)) -> bool {
        self.kernel.is_some_and(|kernel| kernel >= version)
    }
}

/// A file's text without the line feed at its end.
pub(super) fn text(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok().map(|text| text.trim_end().to_owned())
}

/// Entries of a directory, sorted by name.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn settings(root: &Path) -> BTreeMap<&'static str, String> {
    let read = |key: &&'static str| {
        let path = format!("proc/sys/{}", key.replace('.', "/"));
        let text = text(root, &path)?;
        Some((*key, text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    knobs::keys().iter().filter_map(read).collect()
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Soft and hard figure of a row of `/proc/self/limits`, whose columns are parted by two blanks or more.
fn limit(table: &str, name: &str) -> Option<(u64, u64)> {
    let row = table.lines().find_map(|line| line.strip_prefix(name))?;
    let mut columns = row.split_whitespace();
    let mut figure = || {
        let column = columns.next()?;
        if column == "unlimited" { Some(u64::MAX) } else { column.parse().ok() }
    };
    Some((figure()?, figure()?))
}

/// `0-3,8` to numbers; a part that is none is left out.
pub(super) fn cpu_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (last < CPUS_MAX).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Linux's own bound of CPUs is 8192; more is not a list of CPUs.
const CPUS_MAX: usize = 8192;

/// `flags` (x86) or `Features` (ARM) of the first CPU.
fn features(cpuinfo: &str) -> BTreeSet<String> {
    let line = cpuinfo.lines().find_map(|line| {
        let (name, words) = line.split_once(':')?;
        matches!(name.trim(), "flags" | "Features").then_some(words)
    });
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn governors(root: &Path) -> BTreeSet<String> {
    let policies = entries(&root.join("sys/devices/system/cpu/cpufreq"));
    policies.iter().filter_map(|policy| text(policy, "scaling_governor")).collect()
}

fn runs(root: &Path, name: &str) -> bool {
    let processes = entries(&root.join("proc"));
    processes.iter().any(|process| text(process, "comm").is_some_and(|comm| comm == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6"), None);
        let table = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\nMax locked memory         8388608              unlimited            bytes";
        assert_eq!(limit(table, "Max open files"), Some((1024, 524_288)));
        assert_eq!(limit(table, "Max locked memory"), Some((8_388_608, u64::MAX)));
        assert_eq!(limit(table, "Max nice priority"), None);
        assert_eq!(cpu_list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(cpu_list("a,5,3-99999999999,"), [5]);
        assert!(features("processor : 0\nflags\t\t: fpu aes\nflags : none\n").contains("aes"));
        assert!(features("Features\t: fp aes pmull\n").contains("pmull"));
        assert!(features("").is_empty());
    }

    #[test]
    fn this_machine_can_be_read() {
        let facts = Facts::of_this_machine();
        assert!(facts.kernel_has((4, 0)), "{:?}", facts.kernel);
        assert!(!facts.cpus.is_empty() && facts.descriptors.is_some());
        assert!(facts.setting("net.core.somaxconn").is_some());
    }

    #[test]
    fn an_empty_root_tells_nothing() {
        let facts = Facts::read(Path::new("/nonexistent"));
        assert!(facts.settings.is_empty() && facts.cards.is_empty() && facts.kernel.is_none());
        assert!(!facts.irqbalance && facts.clock.is_none() && !facts.kernel_has((0, 0)));
    }
}
