//! What goes wrong between a proxy and its authority, and what must come of it.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{APP, one_site, serial, served};
use crate::harness::lockring::{Lockring, Scratch, Setup, binary};
use crate::harness::pebble::{Options, Pebble, program};
use crate::harness::python::tool;
use crate::harness::{Client, eventually};

/// The points at which something has just been written to disk.
const STEPS: [&str; 8] =
    ["prepared", "placed", "presented", "ready", "finalizing", "issued", "stored", "installed"];

#[test]
fn killed_at_any_step_it_goes_on_after_a_restart() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let trust = pebble.trusting();
    for (number, step) in STEPS.iter().enumerate() {
        let state = Scratch::new();
        let name = format!("k{number}.example.com");
        let site = || Setup::new().site(&name, "demo").state(state.path()).certified_by(&pebble, "classic");
        let before = pebble.issued();
        let mut proxy = site().env("LOCKRING_KILL_AT", step).start();
        // An abort runs no more of the program than a kill does.
        assert_eq!(proxy.wait_exit().signal(), Some(6), "it ended at {step}");
        let proxy = site().start();
        let client = served(&proxy, &name, &trust);
        assert!(!serial(&client).is_empty());
        let issued = pebble.issued() - before;
        assert!((1..=2).contains(&issued), "{step}: {issued} certificates");
    }
}

/// Asks a running proxy to renew `name` now.
#[track_caller]
fn renew(proxy: &Lockring, name: &str) {
    let out = Command::new(binary())
        .args(["certs", "renew", name, "--force", "--admin"])
        .arg(proxy.state().join("admin.sock"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn nonces_refused_half_of_the_time_hinder_nothing() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new().env("PEBBLE_WFE_NONCEREJECT", "50"));
    let trust = pebble.trusting();
    let proxy = one_site(&pebble, "classic", "");
    let mut last = serial(&served(&proxy, APP, &trust));
    for _ in 0..5 {
        renew(&proxy, APP);
        last = eventually("the next certificate", || {
            Some(serial(&Client::tls(proxy.https, APP, &trust).ok()?)).filter(|now| *now != last)
        });
    }
    let failures = proxy.messages().iter().filter(|line| line.contains("next try")).count();
    assert_eq!(failures, 0, "{:#?}", proxy.messages());
}

#[test]
fn an_authority_that_has_forgotten_the_account_gets_a_new_one() {
    let program = need!(program(), "pebble");
    let mut pebble = Pebble::start(&program, Options::new());
    let proxy = one_site(&pebble, "classic", "");
    served(&proxy, APP, &pebble.trusting());
    pebble.restart(&program);
    renew(&proxy, APP);
    // The restarted authority has a new root, so only its own certificates are accepted.
    served(&proxy, APP, &pebble.trusting());
    let kept = find(&proxy.state(), ".lost");
    assert_eq!(kept.len(), 1, "the old account is kept: {kept:?}");
}

/// Files below `directory` whose name contains `text`.
fn find(directory: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.file_name().unwrap().to_str().unwrap().contains(text) {
            found.push(path.clone());
        }
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(find(&path, text));
        }
    }
    found
}

#[test]
fn an_authority_that_says_nothing_hinders_nobody_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = socket.read_to_end(&mut Vec::new());
            });
        }
    });
    let mut proxy = Setup::new()
        .site(APP, "demo")
        .site("a.test", "demo")
        .tables(format!(
            "[acme]\ndirectory = \"https://127.0.0.1:{port}/dir\"\nrequest_timeout = \"1s\"\nconnect_timeout = \"1s\""
        ))
        .start();
    let said = proxy.wait_message("next try");
    assert!(said.contains(APP) && said.contains("timed out"), "{said}");
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
}

#[test]
fn an_authority_that_is_down_is_asked_again_later_and_then_serves() {
    let program = need!(program(), "pebble");
    let mut pebble = Pebble::start(&program, Options::new());
    pebble.kill();
    let mut proxy = one_site(&pebble, "classic", "");
    let said = proxy.wait_message("next try");
    assert!(said.contains("refused"), "{said}");
    assert!(Client::tls(proxy.https, APP, &proxy.trust).is_err(), "nothing is served in its place");
    pebble.restart(&program);
    renew(&proxy, APP);
    served(&proxy, APP, &pebble.trusting());
}

#[test]
fn an_authority_that_takes_its_time_is_waited_for_with_one_order() {
    let program = need!(program(), "pebble");
    let options = Options::new().env("PEBBLE_VA_NOSLEEP", "").env("PEBBLE_VA_SLEEPTIME", "8");
    let pebble = Pebble::start(&program, options);
    let proxy = one_site(&pebble, "classic", "");
    served(&proxy, APP, &pebble.trusting());
    let orders = pebble.log().iter().filter(|line| line.contains("Added order")).count();
    assert_eq!(orders, 1, "{:#?}", pebble.log());
}

#[test]
fn two_processes_on_one_state_directory_order_each_name_once_and_serve_the_same() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let state = Scratch::new();
    let names: Vec<String> = (0..5).map(|n| format!("d{n}.example.com")).collect();
    let setup = || {
        let setup = names.iter().fold(Setup::new(), |setup, name| setup.site(name, "demo"));
        setup.state(state.path()).certified_by(&pebble, "classic")
    };
    let trust = pebble.trusting();
    let first = setup().start();
    let mut second = setup().listen(0, 0).start();
    for name in &names {
        let serials = [&first, &second].map(|proxy| serial(&served(proxy, name, &trust)));
        assert_eq!(serials[0], serials[1], "{name}");
    }
    assert_eq!(pebble.issued(), names.len());
    first.signal("KILL");
    second.wait_message("this process renews certificates");
}

#[test]
fn an_authority_that_comes_to_the_process_that_does_not_order_finds_the_answer_there() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let trust = pebble.trusting();
    for kind in ["http-01", "tls-alpn-01"] {
        let state = Scratch::new();
        let name = format!("{kind}.example.com");
        let setup = || {
            let challenge = format!("challenge = \"{kind}\"");
            let setup = Setup::new().site(&name, "demo").state(state.path());
            setup.certified_with(&pebble, "classic", &challenge)
        };
        let mut leader = setup().listen(0, 0).start();
        // Nobody is where the authority looks.
        leader.wait_message("next try");
        let mut follower = setup().start();
        follower.wait_message("another process renews certificates");
        renew(&leader, &name);
        let serials = [&leader, &follower].map(|proxy| serial(&served(proxy, &name, &trust)));
        assert_eq!(serials[0], serials[1], "{kind}");
        let failures = leader.messages().iter().filter(|line| line.contains("next try")).count();
        assert_eq!(failures, 1, "only the first: {:#?}", leader.messages());
    }
}

#[test]
fn a_full_disk_before_the_order_costs_no_order_and_one_after_it_is_served_from_memory() {
    let program = need!(program(), "pebble");
    need!(tool("mount"), "mount");
    let pebble = Pebble::start(&program, Options::new());
    let state = Tmpfs::mount("1m");
    std::fs::write(state.path().join("ballast"), vec![0; 1020 * 1024]).unwrap();
    let mut proxy =
        Setup::new().site(APP, "demo").state(state.path()).certified_by(&pebble, "classic").start();
    let said = proxy.wait_message("No space left");
    assert!(said.contains("/acme/"), "it names the file: {said}");
    assert!(!pebble.log().iter().any(|line| line.contains("Added order")), "no order was made");
    std::fs::remove_file(state.path().join("ballast")).unwrap();
    renew(&proxy, APP);
    served(&proxy, APP, &pebble.trusting());
}

/// A small file system of its own.
struct Tmpfs(Scratch);

impl Tmpfs {
    fn mount(size: &str) -> Self {
        let scratch = Scratch::new();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(scratch.path())
            .status()
            .unwrap();
        assert!(status.success(), "a tmpfs can be mounted");
        Self(scratch)
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_busy_machine_delays_a_renewal_but_does_not_prevent_it() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let proxy = one_site(&pebble, "classic", "");
    let trust = pebble.trusting();
    let first = serial(&served(&proxy, APP, &trust));
    let burners: Vec<std::process::Child> =
        (0..4).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()).collect();
    let began = Instant::now();
    renew(&proxy, APP);
    let deadline = began + Duration::from_secs(30);
    let renewed = loop {
        let now = serial(&Client::tls(proxy.https, APP, &trust).unwrap());
        if now != first || Instant::now() > deadline {
            break now != first;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    for mut burner in burners {
        let _ = burner.kill();
        let _ = burner.wait();
    }
    println!("renewed on a busy machine after {:?}", began.elapsed());
    assert!(renewed);
}

#[test]
fn a_defect_of_the_acme_thread_does_not_touch_traffic() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let mut proxy = Setup::new()
        .site(APP, "demo")
        .site("a.test", "demo")
        .env("LOCKRING_PANIC_AT", "placed")
        .certified_by(&pebble, "classic")
        .start();
    proxy.wait_message("acme thread");
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
    served(&proxy, APP, &pebble.trusting());
}
