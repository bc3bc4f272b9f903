//! A seeded simulation of the HTTP/1 exchange: clients, the proxy's machines, origins and a network that
//! splits, delays, stalls and resets, on one thread with a clock of its own. One seed is one run.
//!
//! `LOCKRING_SIM_SEEDS=N` runs more seeds, `LOCKRING_SIM_SEED=S` runs one and prints what happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod check;
mod client;
mod luck;
mod message;
mod net;
mod origin;
mod proxy;
mod run;
mod spec;
mod stream;

use proxy::Fault;
use run::run;

/// Names the seed when a machine panics in the middle of its run.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("panic in seed {0}: replay with LOCKRING_SIM_SEED={0}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("LOCKRING_SIM_SEED") {
        let _named = Named(seed);
        let report = run(seed, None, true);
        report.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        return;
    }
    let first = number("LOCKRING_SIM_FIRST").unwrap_or(0);
    let seeds = number("LOCKRING_SIM_SEEDS").unwrap_or(512);
    let mut bad = Vec::new();
    let mut counts = [0; 3];
    for seed in first..first + seeds {
        let _named = Named(seed);
        let report = run(seed, None, false);
        counts.iter_mut().zip(report.counts).for_each(|(sum, count)| *sum += count);
        if let Some(violation) = report.violations.first() {
            bad.push(format!("seed {seed}: {violation}"));
        }
    }
    println!("{seeds} seeds: {counts:?} requests, whole answers of apps, requests sent again");
    assert!(bad.is_empty(), "{} of {seeds} seeds, replay with LOCKRING_SIM_SEED:\n{}", bad.len(), bad.join("\n"));
    assert!(seeds < 256 || counts.iter().all(|count| *count > 0), "the runs reach everything: {counts:?}");
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..40 {
        let (first, second) = (run(seed, None, true), run(seed, None, true));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

/// A driver that is broken on purpose is found out, by the check that is there for it.
#[test]
fn a_broken_driver_is_noticed() {
    let faults = [
        (Fault::DropRequestByte, "("),
        (Fault::DropResponseByte, "("),
        (Fault::SendPostTwice, "(d)"),
        (Fault::PoolEverything, "(e)"),
        (Fault::CloseInsteadOfCut, "(b)"),
        (Fault::ForgetDeadlines, "(f)"),
        (Fault::AnswerTwice, "(a)"),
        (Fault::SilentLog, "(h)"),
    ];
    for (fault, mark) in faults {
        let noticed = (0..400).any(|seed| run(seed, Some(fault), false).violations.iter().any(|text| text.starts_with(mark)));
        assert!(noticed, "{fault:?}");
    }
}
