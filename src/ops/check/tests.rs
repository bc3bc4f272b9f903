//! Checks over real files, sockets and certificates made on the spot.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::config::Code;

/// A directory of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockring-check-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// `NAME.pem` and `NAME.key`, valid in the years 2020 to 2039.
    fn pair(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2040, 1, 1);
        self.write(&format!("{name}.pem"), &parameters.self_signed(&key).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn check(&self, text: &str, now: u64) -> Vec<(Code, String)> {
        let report = check(&self.write("lockring.toml", text), now);
        report.diagnostics.iter().map(|d| (d.code, d.cause.clone())).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
/// 2040-01-01.
const END: u64 = 2_208_988_800;
const HIGH: &str = "[server]\nhttps = \"127.0.0.1:0\"\nhttp = []\n";

fn with_pair(cert: &str, key: &str) -> String {
    format!("{HIGH}[sites.\"a.example\"]\nto = \":1\"\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n")
}

#[test]
fn a_right_configuration_has_nothing_to_say() {
    let scratch = Scratch::new("right");
    scratch.pair("a", "a.example");
    assert_eq!(scratch.check(&with_pair("a.pem", "a.key"), NOW), []);
}

#[test]
fn certificates_are_judged_by_key_host_and_time() {
    let scratch = Scratch::new("certs");
    scratch.pair("a", "a.example");
    scratch.pair("b", "*.b.example");
    let codes = |cert, key, now| {
        let found = scratch.check(&with_pair(cert, key), now);
        found.into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    assert_eq!(codes("a.pem", "b.key", NOW), [Code::CertificateRefused]);
    assert_eq!(codes("none.pem", "none.key", NOW), [Code::CertificateUnreadable; 2]);
    assert_eq!(codes("a.key", "a.key", NOW), [Code::CertificateRefused]);
    assert_eq!(codes("b.pem", "b.key", NOW), [Code::CertificateHost]);
    assert_eq!(codes("a.pem", "a.key", END + 1), [Code::CertificateTime]);
    assert_eq!(codes("a.pem", "a.key", 0), [Code::CertificateTime]);
    assert_eq!(codes("a.pem", "a.key", END - 24 * 3600), [Code::CertificateSoon]);
    fs::set_permissions(scratch.0.join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(codes("a.pem", "a.key", NOW), [Code::KeyExposed]);
}

/// The disk with an environment of the test's own.
struct Environment(BTreeMap<&'static str, String>);

impl Files for Environment {
    fn read(&self, path: &Path) -> Result<String, String> {
        Disk.read(path)
    }

    fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
        Disk.glob(pattern, base)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn is_root(&self) -> bool {
        false
    }
}

#[test]
fn keys_in_the_environment_are_judged_and_never_shown() {
    let scratch = Scratch::new("environment");
    scratch.pair("a", "a.example");
    scratch.pair("b", "b.example");
    let path = scratch.write("lockring.toml", &with_pair("a.pem", "env:A_KEY"));
    let key = |name: &str| fs::read_to_string(scratch.0.join(name)).unwrap();
    let report = |value: Option<String>| {
        let environment = Environment(value.map(|value| ("A_KEY", value)).into_iter().collect());
        let diagnostics = semantic(&check_file(&path).unwrap(), &environment, NOW);
        Report { diagnostics }
    };
    assert_eq!(report(Some(key("a.key"))), Report::default());
    let damaged = key("a.key").replace("MI", "?!");
    for (value, code, cause) in [
        (None, Code::CertificateUnreadable, "variable `A_KEY` is not set"),
        (Some(String::new()), Code::CertificateUnreadable, "variable `A_KEY` is empty"),
        (Some(" \n\t".to_owned()), Code::CertificateUnreadable, "variable `A_KEY` is empty"),
        (Some("hunter2".to_owned()), Code::CertificateRefused, "`env:A_KEY`: no private key"),
        (Some(damaged), Code::CertificateRefused, "`env:A_KEY`: the private key cannot be used"),
        (Some(key("b.key")), Code::CertificateRefused, "`env:A_KEY`: the private key does not belong"),
    ] {
        let report = report(value.clone());
        let [found] = report.diagnostics.as_slice() else { panic!("{report:?}") };
        assert_eq!((found.code, found.place.line), (code, 6));
        assert!(found.cause.contains(cause), "{}", found.cause);
        assert_eq!(found.place.excerpt.get(found.place.indent..), Some("\"env:A_KEY\" }"));
        let shown = report.render(Format::Text) + &report.render(Format::Json) + &format!("{report:?}");
        let secrets = value.iter().flat_map(|value| value.lines());
        for line in secrets.filter(|line| line.len() > 4 && !line.starts_with("-----")) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
}

#[test]
fn a_directory_of_pairs_is_judged_whole() {
    let scratch = Scratch::new("directory");
    scratch.pair("certs/a", "a.example");
    scratch.write("certs/b.pem", "nothing");
    let text = format!("{HIGH}certificates = \"certs\"\n[sites]\n\"a.example\" = \":1\"\n");
    let found = scratch.check(&text, NOW);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Code::CertificateUnreadable);
    assert!(found[0].1.contains("b.key"), "{}", found[0].1);
    let text = text.replace("\"certs\"", "\"absent\"");
    assert_eq!(scratch.check(&text, NOW)[0].0, Code::CertificateUnreadable);
}

#[test]
fn an_address_in_use_names_the_process() {
    let scratch = Scratch::new("in-use");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!("[server]\nhttps = \"127.0.0.1:{port}\"\nhttp = []\n[sites]\na = \"demo\"\n");
    let found = scratch.check(&text, NOW);
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    if comm.trim_end() == "lockring" {
        assert_eq!(found, []);
    } else {
        assert_eq!(found[0].0, Code::AddressInUse);
        assert!(found[0].1.contains(&std::process::id().to_string()), "{}", found[0].1);
    }
}

#[test]
fn foreign_addresses_and_own_ones_are_told_apart() {
    let scratch = Scratch::new("foreign");
    let text = "[server]\nhttps = \"192.0.2.1:8443\"\nhttp = []\n[sites]\nlocalhost = \"192.0.2.1:8443\"\n";
    let codes: Vec<Code> = scratch.check(text, NOW).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [Code::OwnListener]);
    let text =
        text.replace("\"192.0.2.1:8443\"\nhttp = []\n[sites]", "\"192.0.2.1:1443\"\nhttp = []\n[sites]");
    let codes: Vec<Code> = scratch.check(&text, NOW).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [Code::AddressRefused]);
}

#[test]
fn files_are_included_from_the_directory_of_the_main_one() {
    let scratch = Scratch::new("include");
    scratch.write("sites/b.toml", "[sites]\n\"b.example\" = \":2\"\n");
    scratch.write("sites/a.toml", "[sites]\n\"a.example\" = \":1\"\n");
    scratch.write("sites/.hidden.toml", "[");
    scratch.write("sites/readme", "[");
    let main = scratch.write("lockring.toml", &format!("include = [\"sit?s/*.toml\", \"none/*\"]\n{HIGH}"));
    let loaded = check_file(&main).unwrap();
    let hosts: Vec<String> = loaded.model.sites.iter().map(|site| site.host.to_string()).collect();
    assert_eq!(hosts, ["a.example", "b.example"]);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn what_cannot_be_read_is_one_error() {
    let scratch = Scratch::new("unreadable");
    for path in [scratch.0.join("absent.toml"), scratch.0.clone()] {
        let report = check(&path, NOW);
        assert_eq!(report.exit_code(), 1);
        assert!(report.render(Format::Text).starts_with(&path.display().to_string()));
        assert!(report.render(Format::Json).starts_with("[{\"also\":null,\"cause\":"));
    }
    fs::write(scratch.0.join("latin1.toml"), b"# \xe9").unwrap();
    let found = check(&scratch.0.join("latin1.toml"), NOW);
    assert!(found.diagnostics[0].cause.contains("byte 3 is not UTF-8"));
}
