//! Tests of trusting and untrusting, in directories of their own; browser databases only where certutil
//! is installed.

use super::{Browsers, Machine, Outcome, SystemStore, is_installed, trust, untrust};
use crate::acme::local_ca::{LocalCa, Root};
use crate::acme::store::tests::Scratch;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

const NOW: u64 = 1_800_000_000;

fn root(scratch: &Scratch) -> Root {
    LocalCa::open(&scratch.store(), NOW).unwrap().root().clone()
}

/// A machine whose update command is this, and which may change its system store.
fn machine(scratch: &Scratch, update: &[&str]) -> Machine {
    let directory = scratch.path.join("anchors");
    fs::create_dir_all(&directory).unwrap();
    let update: Vec<String> = update.iter().map(|word| (*word).to_owned()).collect();
    let fails = vec!["false".to_owned()];
    let missing =
        SystemStore { directory: scratch.path.join("missing"), update: fails.clone(), forget: fails };
    Machine {
        systems: vec![missing, SystemStore { directory, forget: update.clone(), update }],
        as_root: Some(Vec::new()),
        browsers: None,
        certutil: "certutil".into(),
    }
}

fn outcomes(report: &super::Report) -> Vec<&Outcome> {
    report.stores.iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn the_system_store_gets_one_file_and_loses_it_again() {
    let scratch = Scratch::new("system");
    let root = root(&scratch);
    let updated = scratch.path.join("updated");
    let machine = machine(&scratch, &["touch", updated.to_str().unwrap()]);
    let neighbour = scratch.path.join("anchors/other.crt");
    fs::write(&neighbour, "other").unwrap();
    let file = scratch.path.join(format!("anchors/lockring-{}.crt", root.id));

    assert_eq!(outcomes(&untrust(&root, &machine)), [&Outcome::Already]);
    let report = trust(&root, &machine);
    assert_eq!(outcomes(&report), [&Outcome::Done]);
    assert!(report.succeeded() && updated.exists());
    assert!(report.to_string().contains(&format!("curl --cacert {}", root.path.display())));
    assert_eq!(fs::read_to_string(&file).unwrap(), root.pem);
    assert_eq!(outcomes(&trust(&root, &machine)), [&Outcome::Already]);
    assert_eq!(outcomes(&untrust(&root, &machine)), [&Outcome::Done]);
    assert!(!file.exists() && neighbour.exists());
}

#[test]
fn the_updater_of_debian_takes_the_file() {
    if !is_installed(OsStr::new("update-ca-certificates")) {
        return;
    }
    let scratch = Scratch::new("debian");
    let place = |name: &str| scratch.path.join(name).to_str().unwrap().to_owned();
    for directory in ["bundle", "packaged", "hooks"] {
        fs::create_dir(scratch.path.join(directory)).unwrap();
    }
    let other = Scratch::new("packaged");
    let packaged_root = self::root(&other).pem;
    fs::write(scratch.path.join("packaged/other.crt"), &packaged_root).unwrap();
    fs::write(scratch.path.join("conf"), "other.crt\n").unwrap();
    let [anchors, bundle, packaged, hooks, conf] =
        ["anchors", "bundle", "packaged", "hooks", "conf"].map(place);
    let options = ["--localcertsdir", &anchors, "--etccertsdir", &bundle, "--certsdir", &packaged];
    let update =
        [&["update-ca-certificates"], &options[..], &["--hooksdir", &hooks, "--certsconf", &conf]].concat();
    let mut machine = machine(&scratch, &update);
    machine.systems[1].forget.push("--fresh".to_owned());
    let root = root(&scratch);
    let roots = || fs::read_to_string(scratch.path.join("bundle/ca-certificates.crt")).unwrap();
    let report = trust(&root, &machine);
    assert!(report.succeeded(), "{report}");
    assert_eq!(roots(), format!("{packaged_root}{}", root.pem));
    assert_eq!(outcomes(&untrust(&root, &machine)), [&Outcome::Done]);
    assert_eq!(roots(), packaged_root);
    let links = fs::read_dir(scratch.path.join("bundle")).unwrap();
    assert_eq!(links.count(), 3, "the bundle and the two links of the other root");
}

#[test]
fn a_store_that_cannot_be_changed_says_why() {
    let scratch = Scratch::new("refuse");
    let root = root(&scratch);
    let failing = trust(&root, &machine(&scratch, &["false"]));
    assert!(matches!(outcomes(&failing)[..], [Outcome::Failed(reason)] if reason.starts_with("false: ")));
    assert!(!failing.succeeded());
    fs::remove_dir_all(scratch.path.join("anchors")).unwrap();
    let nobody = Machine { as_root: None, ..machine(&scratch, &["true"]) };
    let skipped = trust(&root, &nobody);
    assert!(matches!(outcomes(&skipped)[..], [Outcome::Skipped(reason)] if reason.contains("sudo")));
    let nothing = Machine { systems: Vec::new(), ..machine(&scratch, &["true"]) };
    assert!(!trust(&root, &nothing).succeeded());
}

fn with_browsers(scratch: &Scratch, machine: Machine) -> Machine {
    let home = scratch.path.join("home");
    Machine { systems: Vec::new(), browsers: Some(Browsers { home, run_as: Vec::new() }), ..machine }
}

#[test]
fn databases_without_certutil_name_the_package() {
    let scratch = Scratch::new("certutil");
    let profile = scratch.path.join("home/.mozilla/firefox/abc.default");
    fs::create_dir_all(&profile).unwrap();
    fs::create_dir_all(scratch.path.join("home/.mozilla/firefox/Crash Reports")).unwrap();
    fs::write(profile.join("cert9.db"), "").unwrap();
    let machine = with_browsers(&scratch, machine(&scratch, &["true"]));
    let machine = Machine { certutil: scratch.path.join("none").into(), ..machine };
    let report = trust(&root(&scratch), &machine);
    let [_, Outcome::Skipped(reason)] = outcomes(&report)[..] else { panic!("{report}") };
    assert!(reason.contains("libnss3-tools"));
    assert!(!report.succeeded());
}

/// The trust that a database gives to each of our names.
fn listed(database: &Path) -> Vec<String> {
    let list = Command::new("certutil").arg("-L").arg("-d").arg(database).output().unwrap();
    let text = String::from_utf8(list.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("Lockring")).map(str::to_owned).collect()
}

#[test]
fn browser_databases_get_the_root_for_tls_servers_only_and_lose_it_again() {
    if !is_installed(OsStr::new("certutil")) {
        return;
    }
    let scratch = Scratch::new("nss");
    let home = scratch.path.join("home");
    let databases = [".pki/nssdb", ".mozilla/firefox/abc.default", "snap/firefox/common/.mozilla/firefox/x"]
        .map(|place| home.join(place));
    for database in &databases {
        fs::create_dir_all(database).unwrap();
        let made =
            Command::new("certutil").args(["-N", "--empty-password", "-d"]).arg(database).status().unwrap();
        assert!(made.success());
    }
    let machine = with_browsers(&scratch, machine(&scratch, &["true"]));
    let root = root(&scratch);
    assert_eq!(outcomes(&trust(&root, &machine))[1..], [&Outcome::Done; 3]);
    assert_eq!(outcomes(&trust(&root, &machine))[1..], [&Outcome::Already; 3]);
    for database in &databases {
        let lines = listed(database);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(&root.id) && lines[0].trim_end().ends_with("C,,"), "{lines:?}");
    }
    // A root that was signed again takes the place of the one before it.
    let late = LocalCa::open(&scratch.store(), root.not_after).unwrap().root().clone();
    assert_eq!(outcomes(&trust(&late, &machine))[1..], [&Outcome::Done; 3]);
    assert_eq!(listed(&databases[0]).len(), 1);
    assert_eq!(outcomes(&untrust(&late, &machine))[1..], [&Outcome::Done; 3]);
    assert_eq!(outcomes(&untrust(&late, &machine))[1..], [&Outcome::Already; 3]);
    assert!(databases.iter().all(|database| listed(database).is_empty()));
}
