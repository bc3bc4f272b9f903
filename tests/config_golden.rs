//! Every diagnostic as users see it: `tests/data/config/NAME.toml` is checked and compared with
//! `NAME.expected`. `UPDATE_GOLDEN=1` writes the expected files anew; read the difference before keeping it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lockring::config::{self, Code, Files, Source, render};
use lockring::ops::check::{Disk, Report, semantic};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

/// The disk of a stage, with an environment of its own instead of that of whoever runs the test.
struct Fixed<'a>(&'a Path);

impl Files for Fixed<'_> {
    fn read(&self, path: &Path) -> Result<String, String> {
        Disk.read(path)
    }

    fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
        Disk.glob(pattern, base)
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "KEY_EMPTY" => Some("\n".to_owned()),
            "KEY_DAMAGED" => Some("hunter2".to_owned()),
            "MAC" | "TSIG" => Some("zWNDZM6eQGHWpSRTPal5".to_owned()),
            "MAC_DAMAGED" => Some("hunter 2".to_owned()),
            "KEY_A" => fs::read_to_string(self.0.join("a.key")).ok(),
            "KEY_B" => fs::read_to_string(self.0.join("b.key")).ok(),
            _ => None,
        }
    }

    fn is_root(&self) -> bool {
        true
    }
}

/// The data with certificates made for this run, so that no key lies in the repository.
struct Stage {
    directory: PathBuf,
    listener: TcpListener,
}

impl Stage {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("lockring-golden-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("parts")).unwrap();
        for part in fs::read_dir(data().join("parts")).unwrap() {
            let part = part.unwrap();
            fs::copy(part.path(), directory.join("parts").join(part.file_name())).unwrap();
        }
        let stage = Self { directory, listener: TcpListener::bind("127.0.0.1:0").unwrap() };
        stage.pair("a", (2040, 1, 1), 0o600);
        stage.pair("b", (2040, 1, 1), 0o600);
        stage.pair("old", (2025, 12, 1), 0o600);
        stage.pair("soon", (2026, 1, 4), 0o600);
        stage.pair("open", (2040, 1, 1), 0o644);
        stage.secret("tsig", 0o600);
        stage.secret("open_tsig", 0o604);
        stage
    }

    fn pair(&self, name: &str, end: (i32, u8, u8), mode: u32) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(end.0, end.1, end.2);
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(self.directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        let path = self.directory.join(format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn secret(&self, name: &str, mode: u32) {
        let path = self.directory.join(format!("{name}.key"));
        fs::write(&path, "dGhpcyBpcyBhIHNlY3JldA==\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn report(&self, name: &str) -> Report {
        let text = fs::read_to_string(data().join(format!("{name}.toml"))).unwrap();
        // An ephemeral port has five digits, as its stand-in has letters: no column moves.
        let text = text.replace("PORT0", &self.port());
        let name = self.directory.join(format!("{name}.toml")).display().to_string();
        let fixed = Fixed(&self.directory);
        let diagnostics = match config::load(Source { name, text }, &fixed) {
            Ok(loaded) => {
                let mut diagnostics = loaded.warnings.clone();
                diagnostics.extend(semantic(&loaded, &fixed, NOW));
                diagnostics
            }
            Err(diagnostics) => diagnostics,
        };
        Report { diagnostics }
    }

    fn port(&self) -> String {
        self.listener.local_addr().unwrap().port().to_string()
    }

    /// Without what differs from run to run.
    fn settled(&self, text: &str) -> String {
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        text.replace(&format!("{}/", self.directory.display()), "")
            .replace(
                &format!("`{}` (process {})", own.trim_end(), std::process::id()),
                "`PROCESS` (process PID)",
            )
            .replace(&format!("kill {}", std::process::id()), "kill PID")
            .replace(&self.port(), "PORT0")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config")
}

fn names() -> Vec<String> {
    let files = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Compares with a file, or writes it.
fn golden(path: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    Err(format!("{}:\n--- expected\n{expected}\n--- actual\n{actual}", path.display()))
}

#[test]
fn diagnostics_read_as_expected() {
    let stage = Stage::new("text");
    let mut shown: Vec<Code> = Vec::new();
    let mut different = Vec::new();
    for name in names() {
        let report = stage.report(&name);
        shown.extend(report.diagnostics.iter().map(|d| d.code));
        let text = stage.settled(&render::text(&report.diagnostics));
        different.extend(golden(&data().join(format!("{name}.expected")), &text).err());
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    // Only the network shows these, which is tested beside their code.
    shown.extend([Code::AuthorityUnfit, Code::NoAddress, Code::OrderFails, Code::OrderDoubtful]);
    let unseen: Vec<&str> =
        Code::ALL.iter().filter(|code| !shown.contains(code)).map(|code| code.id()).collect();
    assert!(unseen.is_empty(), "no file shows {unseen:?}");
}

#[test]
fn json_reads_as_expected() {
    let stage = Stage::new("json");
    let report = stage.report("duplicate_host");
    let value: serde_json::Value = serde_json::from_str(&render::json(&report.diagnostics)).unwrap();
    let text = stage.settled(&serde_json::to_string_pretty(&value).unwrap());
    golden(&data().join("duplicate_host.json"), &(text + "\n")).unwrap();
}

#[test]
fn places_point_at_the_text_they_blame() {
    let stage = Stage::new("places");
    for name in names() {
        let text = fs::read_to_string(data().join(format!("{name}.toml"))).unwrap();
        let own = stage.directory.join(format!("{name}.toml")).display().to_string();
        for diagnostic in stage.report(&name).diagnostics {
            let place = diagnostic.place;
            if *place.file != *own || place.line == 0 || name == "address_in_use" {
                continue;
            }
            let line = text.lines().nth(place.line as usize - 1).unwrap_or("");
            let hides = place.excerpt.contains("****");
            assert!(
                hides
                    || line == place.excerpt
                    || line.starts_with(&place.excerpt)
                    || line.contains(&place.excerpt),
                "{name}"
            );
            assert_eq!(hides, hides && line != place.excerpt, "{name}");
            assert!(text.get(place.span.clone()).is_some(), "{name}");
            let before: usize = text.lines().take(place.line as usize - 1).map(|line| line.len() + 1).sum();
            let column = line.get(..place.span.start - before).map(|lead| lead.chars().count() + 1);
            assert_eq!(column, Some(place.col as usize), "{name}");
        }
    }
}
