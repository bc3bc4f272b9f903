//! Renewal while clients come and go, and what a start needs of the authority: nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lockring::acme::store::{AcmeStore, Found, Store};

use super::{APP, Load, leaf_pem, one_site, serial, served};
use crate::harness::lockring::Scratch;
use crate::harness::pebble::{Options, Pebble, program};
use crate::harness::{Client, Setup, eventually, long};

/// Certificates of a minute are renewed about every thirty seconds.
#[test]
fn certificates_of_a_minute_are_renewed_under_load_without_one_failure() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let names = ["a.example.com", "b.example.com", "c.example.com"];
    let mut setup = Setup::new().workers(2).certified_by(&pebble, "tiny");
    for name in names {
        setup = setup.site(name, "demo");
    }
    let proxy = setup.start();
    let trust = pebble.trusting();
    for name in names {
        served(&proxy, name, &trust);
    }
    let load = Load::start(&proxy, &names, &trust, 2, 1);
    let time = Duration::from_secs(if long() { 300 } else { 70 });
    let end = Instant::now() + time;
    let mut seen: Vec<BTreeSet<String>> = vec![BTreeSet::new(); names.len()];
    while Instant::now() < end {
        for (name, serials) in names.iter().zip(&mut seen) {
            serials.insert(serial(&Client::tls(proxy.https, name, &trust).unwrap()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let answers = load.answers();
    load.stop();
    let changes: Vec<usize> = seen.iter().map(|serials| serials.len() - 1).collect();
    println!("{time:?}: {answers} requests, none failed; certificates replaced {changes:?} times");
    let least = if long() { 6 } else { 1 };
    assert!(changes.iter().all(|changes| *changes >= least), "{changes:?}");
    assert!(answers > 1000, "the load was one: {answers}");
}

#[test]
fn a_start_serves_from_disk_while_the_authority_is_down() {
    let program = need!(program(), "pebble");
    let mut pebble = Pebble::start(&program, Options::new());
    let state = Scratch::new();
    let site = || Setup::new().site(APP, "demo").state(state.path()).certified_by(&pebble, "classic");
    let trust = pebble.trusting();
    let proxy = site().start();
    let first = serial(&served(&proxy, APP, &trust));
    drop(proxy);
    let again = site();
    pebble.kill();
    let proxy = again.start();
    let client = Client::tls(proxy.https, APP, &trust).expect("it is served as soon as it is ready");
    assert_eq!(serial(&client), first);
}

#[test]
fn a_renewal_window_in_the_past_renews_at_once_and_says_what_is_replaced() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let proxy = one_site(&pebble, "tiny", "");
    let trust = pebble.trusting();
    let client = served(&proxy, APP, &trust);
    let first = serial(&client);
    pebble.set_renewal_info(
        &leaf_pem(&client),
        "{\"suggestedWindow\":{\"start\":\"2020-01-01T00:00:00Z\",\"end\":\"2020-01-02T00:00:00Z\"}}",
    );
    eventually("a certificate in place of the first", || {
        let client = Client::tls(proxy.https, APP, &trust).ok()?;
        (serial(&client) != first).then_some(())
    });
    assert!(
        pebble.log().iter().any(|line| line.contains("is a replacement of")),
        "the order names the certificate that it replaces"
    );
}

/// Killed again and again while certificates of a minute come and go, by an authority that refuses nonces.
#[test]
fn a_proxy_that_is_killed_again_and_again_keeps_every_certificate() {
    let program = need!(program(), "pebble");
    let (sites, kills) = if long() { (20, 30) } else { (6, 4) };
    let pebble = Pebble::start(&program, Options::new().env("PEBBLE_WFE_NONCEREJECT", "20"));
    let state = Scratch::new();
    let names: Vec<String> = (0..sites).map(|n| format!("s{n}.example.com")).collect();
    let start = || {
        let setup = names.iter().fold(Setup::new(), |setup, name| setup.site(name, "demo"));
        setup.state(state.path()).certified_by(&pebble, "tiny").start()
    };
    for _ in 0..kills {
        let mut proxy = start();
        std::thread::sleep(Duration::from_secs(10));
        proxy.signal("KILL");
        proxy.wait_exit();
    }
    let proxy = start();
    let trust = pebble.trusting();
    for name in &names {
        served(&proxy, name, &trust);
    }
    let store = AcmeStore::open_for_reading(&Store::open(state.path()).unwrap());
    for name in &names {
        // What is kept is a pair whose key belongs to its chain.
        assert!(matches!(store.pair(name), Ok(Found::Current(_))), "{name}: {:?}", store.pair(name));
    }
    let orders = pebble.log().iter().filter(|line| line.contains("Added order")).count();
    let issued = pebble.issued();
    println!("{kills} kills, {sites} sites: {orders} orders, {issued} certificates");
    assert!(issued >= sites && orders * 10 <= issued * 13 + 10, "{orders} orders, {issued} certificates");
}
