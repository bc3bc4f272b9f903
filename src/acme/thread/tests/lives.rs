//! Processes beside each other, and the thread's own defects.

use std::time::{Duration, Instant};

use crate::acme::ca::Step;
use crate::acme::thread::engine::Engine;
use crate::acme::thread::testing::{Bench, simulate, slot, wait};
use crate::acme::thread::{Clock, spawn};
use crate::config::model::ChallengeKind;

#[test]
fn two_instances_on_one_storage_order_once_and_both_serve() {
    simulate("two", async |mut bench| {
        let names: Vec<String> = (0..10).map(|n| format!("s{n}.test")).collect();
        bench.slots = names.iter().map(|name| slot(&[name], ChallengeKind::Http01)).collect();
        let (first, a) = bench.local();
        let (second, b) = bench.local();
        let all = |count: usize| names.iter().all(|name| bench.served(name).len() == count);
        let both = async {
            bench.until("all in both", 120, || all(2)).await;
            assert_eq!(bench.ca.requests(Step::NewOrder), 10);
            assert_eq!(
                [a.handle.status().leader, b.handle.status().leader].iter().filter(|l| **l).count(),
                1
            );
        };
        first.run_until(second.run_until(both)).await;
        let led_first = a.handle.status().leader;
        let (leader, left, right) = if led_first { (first, second, b) } else { (second, first, a) };
        drop(leader);
        left.run_until(async {
            bench.until("takeover", 60, || right.handle.status().leader).await;
            bench.clock.suspend(61 * 24 * 3600);
            bench.until("renewed", 300, || bench.ca.issued() == 20).await;
            wait(5).await;
        })
        .await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 20);
    });
}

#[test]
fn a_panic_of_the_thread_is_caught_and_it_goes_on() {
    let mut bench = Bench::new("panic");
    bench.slots.clear();
    let handle = spawn(bench.outside(), bench.wanted(), None).unwrap();
    let began = Instant::now();
    let until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| handle.status().leader);
    handle.panic();
    until(&|| handle.status().thread_restarts == 1 && handle.status().leader);
    assert_eq!(bench.said("ended by a defect and starts anew in 1 s: a defect that a test asked for"), 1);
    assert_eq!(handle.renew(None, true), Ok(0), "it takes commands again");
    assert!(handle.status().last_tick + 60 > bench.clock.unix());
    assert!(handle.stop(Duration::from_secs(10)));
    assert!(handle.renew(None, true).is_err());
}

#[test]
fn a_process_that_stops_gives_leadership_back_and_is_resumed() {
    simulate("stop", async |mut bench| {
        let reached = bench.hold_at(crate::acme::order::Step::Presented);
        bench
            .process(async |process| {
                bench.until("held", 60, || *reached.lock().unwrap()).await;
                assert!(!bench.install.tokens.lock().unwrap().is_empty());
                process.handle_stop().await;
                assert!(bench.install.tokens.lock().unwrap().is_empty(), "nothing stays in service");
            })
            .await;
        bench.gate = None;
        bench.process(async |_| bench.until("resumed", 30, || bench.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 1);
    });
}

#[test]
fn nobody_knocks_where_another_process_may_open() {
    simulate("knock", async |bench| {
        let (_, _, status) = crate::acme::commands::handle(Default::default());
        let engine = Engine::new(bench.outside(), &bench.wanted(), status, 0);
        assert!(engine.to_knock_with().is_some());
        let follower = bench.store().attend().unwrap();
        assert!(engine.to_knock_with().is_none());
        drop(follower);
        assert!(engine.to_knock_with().is_some());
    });
}
