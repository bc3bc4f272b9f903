//! `lockring trust` and `untrust`: puts the local CA's root where this machine's programs look for roots,
//! and takes it away again. Each store is a line of the report; one that fails hinders no other.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::acme::local_ca::Root;

/// Copies of one certificate that a browser database is searched for; certutil removes one at a time.
const COPIES: usize = 8;

/// Where browser databases lie under a home directory: Chromium's own, its snap's, and below these
/// parents one per Firefox profile (package, XDG, snap, Flatpak).
const CHROMIUM: [&str; 2] = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"];
const FIREFOX: [&str; 4] = [
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];

/// A system-wide store: files in a directory, and a command that makes them count.
#[derive(Clone, Debug)]
pub struct SystemStore {
    /// Its directory for certificates added by hand.
    pub directory: PathBuf,
    /// The command that takes a new file up, with its arguments.
    pub update: Vec<String>,
    /// The command that forgets a file that is gone.
    pub forget: Vec<String>,
}

/// Whose browsers are meant.
#[derive(Clone, Debug)]
pub struct Browsers {
    /// The user's home directory.
    pub home: PathBuf,
    /// Written in front of each command, so that files stay the user's.
    pub run_as: Vec<String>,
}

/// What there is on this machine; made up in tests.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The first whose directory exists is used.
    pub systems: Vec<SystemStore>,
    /// Written in front of commands that need root; `None`: there is no way to become root.
    pub as_root: Option<Vec<String>>,
    /// `None`: no home directory is known.
    pub browsers: Option<Browsers>,
    /// The NSS tool for browser databases.
    pub certutil: OsString,
}

impl Machine {
    /// This machine, seen by the user who runs the command. With `sudo`, browsers are those of the user
    /// who typed it.
    #[must_use]
    pub fn this() -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        // Asking for a password needs somebody who can type it.
        let can_sudo = io::stdin().is_terminal() && is_installed(OsStr::new("sudo"));
        let as_root = match (is_root, can_sudo) {
            (true, _) => Some(Vec::new()),
            (false, true) => Some(vec!["sudo".to_owned()]),
            (false, false) => None,
        };
        let sudo_user = std::env::var("SUDO_USER").ok().filter(|user| is_root && user != "root");
        let browsers = match sudo_user {
            Some(user) => home_of(&user)
                .map(|home| Browsers { home, run_as: vec!["sudo".to_owned(), "-u".to_owned(), user] }),
            None => std::env::home_dir().map(|home| Browsers { home, run_as: Vec::new() }),
        };
        Self { systems: known_systems(), as_root, browsers, certutil: "certutil".into() }
    }
}

fn known_systems() -> Vec<SystemStore> {
    // Debian and Ubuntu, whose updater leaves dangling links unless it begins afresh; Fedora and RHEL;
    // Arch; openSUSE.
    let known = [
        ("/usr/local/share/ca-certificates", "update-ca-certificates", "update-ca-certificates --fresh"),
        ("/etc/pki/ca-trust/source/anchors", "update-ca-trust extract", "update-ca-trust extract"),
        ("/etc/ca-certificates/trust-source/anchors", "trust extract-compat", "trust extract-compat"),
        ("/usr/share/pki/trust/anchors", "update-ca-certificates", "update-ca-certificates"),
    ];
    let words = |command: &str| command.split(' ').map(str::to_owned).collect();
    let row = |(directory, update, forget): (&str, &str, &str)| SystemStore {
        directory: directory.into(),
        update: words(update),
        forget: words(forget),
    };
    known.into_iter().map(row).collect()
}

/// What became of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Changed as asked.
    Done,
    /// Was already as asked.
    Already,
    /// Could not be tried; the text says what to do.
    Skipped(String),
    /// Was tried, and failed for this reason.
    Failed(String),
}

/// What became of every store.
#[derive(Clone, Debug)]
pub struct Report {
    /// Stores by a name that users know, and what became of each.
    pub stores: Vec<(String, Outcome)>,
    /// Where the root lies, for programs with a setting of their own.
    pub root: PathBuf,
}

impl Report {
    /// Whether at least one store is now as asked; otherwise the command's exit code is not zero.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.stores.iter().any(|(_, outcome)| matches!(outcome, Outcome::Done | Outcome::Already))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (store, outcome) in &self.stores {
            match outcome {
                Outcome::Done => writeln!(f, "{store}: done")?,
                Outcome::Already => writeln!(f, "{store}: nothing to do")?,
                Outcome::Skipped(reason) => writeln!(f, "{store}: skipped: {reason}")?,
                Outcome::Failed(reason) => writeln!(f, "{store}: failed: {reason}")?,
            }
        }
        let root = self.root.display();
        writeln!(
            f,
            "Without a store: curl --cacert {root} …, NODE_EXTRA_CA_CERTS={root}, SSL_CERT_FILE={root}"
        )
    }
}

/// Puts the root into every store found.
#[must_use]
pub fn trust(root: &Root, machine: &Machine) -> Report {
    report(root, machine, trust_system, trust_browser)
}

/// Takes the root out of every store found: what [`trust`] did, and nothing else.
#[must_use]
pub fn untrust(root: &Root, machine: &Machine) -> Report {
    report(root, machine, untrust_system, untrust_browser)
}

/// What is done to the system's store, and to one browser database.
type OnSystem = fn(&Root, &SystemStore, &Machine) -> Outcome;
type OnBrowser = fn(&Root, &Database<'_>) -> Outcome;

fn report(root: &Root, machine: &Machine, on_system: OnSystem, on_browser: OnBrowser) -> Report {
    let mut stores = Vec::new();
    match machine.systems.iter().find(|system| system.directory.is_dir()) {
        Some(system) => {
            let name = format!("system store ({})", system.directory.display());
            stores.push((name, on_system(root, system, machine)));
        }
        None => {
            stores.push(("system store".to_owned(), Outcome::Skipped("none of a known kind here".to_owned())))
        }
    }
    let Some(browsers) = &machine.browsers else {
        return Report { stores, root: root.path.clone() };
    };
    for directory in databases(&browsers.home) {
        let name = format!("browser store ({})", directory.display());
        let outcome = if is_installed(&machine.certutil) {
            on_browser(root, &Database { directory, browsers, certutil: &machine.certutil })
        } else {
            let remedy = "certutil is missing; install libnss3-tools (Debian) or nss-tools (Fedora)";
            Outcome::Skipped(remedy.to_owned())
        };
        stores.push((name, outcome));
    }
    Report { stores, root: root.path.clone() }
}

fn trust_system(root: &Root, system: &SystemStore, machine: &Machine) -> Outcome {
    let target = system_file(root, system);
    if fs::read_to_string(&target).is_ok_and(|content| content == root.pem) {
        return Outcome::Already;
    }
    // From standard input, since root may be kept from reading a user's files.
    let put = [OsStr::new("install"), OsStr::new("-m"), OsStr::new("0644"), OsStr::new("/dev/stdin")];
    change_system(machine, &[&put[..], &[target.as_os_str()]].concat(), &root.pem, &system.update)
}

fn untrust_system(root: &Root, system: &SystemStore, machine: &Machine) -> Outcome {
    let target = system_file(root, system);
    if fs::symlink_metadata(&target).is_err() {
        return Outcome::Already;
    }
    let remove = [OsStr::new("rm"), OsStr::new("-f"), target.as_os_str()];
    change_system(machine, &remove, "", &system.forget)
}

/// One file per CA, so that several machines' roots can stand side by side.
fn system_file(root: &Root, system: &SystemStore) -> PathBuf {
    system.directory.join(format!("lockring-{}.crt", root.id))
}

fn change_system(machine: &Machine, change: &[&OsStr], input: &str, update: &[String]) -> Outcome {
    let Some(as_root) = &machine.as_root else {
        return Outcome::Skipped("only root may change it; run the command again with sudo".to_owned());
    };
    let update: Vec<&OsStr> = update.iter().map(OsStr::new).collect();
    match run(as_root, change, input).and_then(|_| run(as_root, &update, "")) {
        Ok(_) => Outcome::Done,
        Err(reason) => Outcome::Failed(reason),
    }
}

/// The browser databases under a home directory; those of browsers that never ran are not made.
fn databases(home: &Path) -> Vec<PathBuf> {
    let chromium = CHROMIUM.iter().map(|place| home.join(place));
    let firefox = FIREFOX.iter().flat_map(|place| fs::read_dir(home.join(place)).into_iter().flatten());
    let profiles = firefox.flatten().map(|profile| profile.path());
    let mut found: Vec<PathBuf> =
        chromium.chain(profiles).filter(|directory| directory.join("cert9.db").is_file()).collect();
    found.sort();
    found
}

/// One browser database.
struct Database<'a> {
    directory: PathBuf,
    browsers: &'a Browsers,
    certutil: &'a OsStr,
}

impl Database<'_> {
    fn run(&self, words: &[&str], input: &str) -> Result<String, String> {
        let mut database = OsString::from("sql:");
        database.push(&self.directory);
        let mut command = vec![self.certutil, OsStr::new("-d"), &database];
        command.extend(words.iter().map(OsStr::new));
        run(&self.browsers.run_as, &command, input)
    }

    /// The certificate under this name, in PEM.
    fn find(&self, nickname: &str) -> Option<String> {
        self.run(&["-L", "-n", nickname, "-a"], "").ok()
    }

    fn remove(&self, nickname: &str) -> Result<(), String> {
        for _ in 0..COPIES {
            if self.find(nickname).is_none() {
                return Ok(());
            }
            self.run(&["-D", "-n", nickname], "")?;
        }
        Err(format!("more than {COPIES} copies of it"))
    }
}

fn nickname(root: &Root) -> String {
    format!("Lockring local CA {}", root.id)
}

fn trust_browser(root: &Root, database: &Database<'_>) -> Outcome {
    let nickname = nickname(root);
    if database.find(&nickname).is_some_and(|found| same_pem(&found, &root.pem)) {
        return Outcome::Already;
    }
    // `C`: trusted to sign for TLS servers, and for nothing else (no mail, no code).
    let added = database
        .remove(&nickname)
        .and_then(|()| database.run(&["-A", "-t", "C,,", "-n", &nickname, "-a"], &root.pem));
    match added {
        Ok(_) => Outcome::Done,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn untrust_browser(root: &Root, database: &Database<'_>) -> Outcome {
    let nickname = nickname(root);
    if database.find(&nickname).is_none() {
        return Outcome::Already;
    }
    match database.remove(&nickname) {
        Ok(()) => Outcome::Done,
        Err(reason) => Outcome::Failed(reason),
    }
}

/// Whether two PEM texts hold the same, however their lines are broken.
fn same_pem(one: &str, other: &str) -> bool {
    let plain = |text: &str| -> String { text.split_whitespace().collect() };
    plain(one) == plain(other)
}

/// Runs a command with this standard input; its output, or in one line why it failed.
fn run(prefix: &[String], command: &[&OsStr], input: &str) -> Result<String, String> {
    let mut words = prefix.iter().map(OsStr::new).chain(command.iter().copied());
    let name = words.next().ok_or("no command")?;
    let shown = command.first().unwrap_or(&name).to_string_lossy().into_owned();
    let mut child = Command::new(name)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing closes its end; that is no failure.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gave no reason");
    Err(format!("{shown}: {reason} ({})", output.status))
}

/// Whether a program is found, as a shell would find it.
fn is_installed(program: &OsStr) -> bool {
    if Path::new(program).components().count() > 1 {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A user's home directory by the sixth field of the password file.
fn home_of(user: &str) -> Option<PathBuf> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(user))?;
    line.split(':').nth(5).map(PathBuf::from)
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
