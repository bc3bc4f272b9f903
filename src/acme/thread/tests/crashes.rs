//! Answers that are lost, and processes that are killed at any step.

use crate::acme::ca::Step as Request;
use crate::acme::fake_ca::Fault;
use crate::acme::order::Step;
use crate::acme::thread::testing::{Bench, simulate, wait};

fn is_whole(bench: &Bench) {
    let served = bench.served("a.test");
    assert_eq!(bench.on_disk("a.test"), served.last().map(|pair| pair.serial_hex()));
    assert!(bench.store().order("a.test").unwrap().is_none());
}

#[test]
fn an_answer_lost_anywhere_costs_no_second_certificate() {
    for request in
        [Request::NewOrder, Request::Finalize, Request::Certificate, Request::Order, Request::Challenge]
    {
        simulate("lost", async |bench| {
            bench.ca.inject(request, Fault::Lost, 1);
            bench
                .process(async |_| {
                    bench.until(request.word(), 200, || bench.on_disk("a.test").is_some()).await;
                    wait(2).await;
                })
                .await;
            assert_eq!(bench.ca.issued(), 1, "{request:?}");
            let orders = if request == Request::NewOrder { 2 } else { 1 };
            assert_eq!(bench.ca.requests(Request::NewOrder), orders, "{request:?}");
            is_whole(&bench);
        });
    }
}

#[test]
fn killed_at_each_step_it_goes_on_with_one_certificate() {
    for step in Step::ALL {
        simulate("killed", async |mut bench| {
            let reached = bench.hold_at(step);
            bench.process(async |_| bench.until(step.word(), 60, || *reached.lock().unwrap()).await).await;
            bench.gate = None;
            bench
                .process(async |process| {
                    let over = || bench.on_disk("a.test").is_some() && process.slot("a.test").succeeded == 1;
                    bench.until(step.word(), 120, over).await;
                    wait(2).await;
                })
                .await;
            assert_eq!(bench.ca.issued(), 1, "{step:?}");
            assert_eq!(bench.ca.requests(Request::NewOrder), 1, "{step:?}");
            assert_eq!(bench.ca.requests(Request::NewAccount), 1, "{step:?}");
            is_whole(&bench);
        });
    }
}

#[test]
fn killed_at_each_step_of_a_renewal_serves_the_old_one_until_then() {
    for step in Step::ALL {
        simulate("rekilled", async |mut bench| {
            bench.first_certificates().await;
            let old = bench.on_disk("a.test");
            bench.clock.suspend(61 * 24 * 3600);
            let reached = bench.hold_at(step);
            bench.process(async |_| bench.until(step.word(), 60, || *reached.lock().unwrap()).await).await;
            let kept = bench.on_disk("a.test");
            assert_eq!(kept != old, step >= Step::Stored, "{step:?}");
            bench.gate = None;
            bench
                .process(async |process| {
                    assert_eq!(bench.served("a.test").last().map(|pair| pair.serial_hex()), kept, "at once");
                    let over = || bench.on_disk("a.test") != old && process.slot("a.test").succeeded == 1;
                    bench.until(step.word(), 120, over).await;
                    wait(2).await;
                })
                .await;
            assert_eq!(bench.ca.issued(), 2, "{step:?}");
            is_whole(&bench);
        });
    }
}

#[test]
fn a_crash_loop_is_a_failure_in_the_end() {
    simulate("loop", async |mut bench| {
        let reached = bench.hold_at(Step::Presented);
        for _ in 0..4 {
            *reached.lock().unwrap() = false;
            bench.process(async |_| bench.until("it", 60, || *reached.lock().unwrap()).await).await;
        }
        let asked = bench.ca.log().len();
        bench
            .process(async |process| {
                wait(20).await;
                assert_eq!(process.slot("a.test").failures, 1);
            })
            .await;
        assert_eq!(bench.ca.log().len(), asked, "and waits before it asks again");
    });
}

#[test]
fn an_old_order_is_not_resumed() {
    simulate("old", async |mut bench| {
        let reached = bench.hold_at(Step::Placed);
        bench.process(async |_| bench.until("it", 60, || *reached.lock().unwrap()).await).await;
        bench.gate = None;
        bench.clock.suspend(3600);
        bench.process(async |_| bench.until("anew", 120, || bench.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.ca.requests(Request::NewOrder), 2);
        assert_eq!(bench.ca.issued(), 1);
    });
}

#[test]
fn boulders_shared_order_is_lost_by_one_of_two_without_harm() {
    simulate("shared", async |mut bench| {
        bench.ca.set(|ca| ca.shares_orders = true);
        let reached = bench.hold_at(Step::Placed);
        bench.process(async |_| bench.until("placed", 60, || *reached.lock().unwrap()).await).await;
        // The other one, with its own directory, gets the same order and finishes it.
        let other = Bench::beside("shared-other", &bench);
        other.process(async |_| other.until("its own", 60, || other.on_disk("a.test").is_some()).await).await;
        assert_eq!(bench.ca.issued(), 1);
        bench.gate = None;
        bench
            .process(async |_| {
                bench.until("seen", 10, || bench.said("another instance with this account") == 1).await;
                assert!(bench.on_disk("a.test").is_none());
                assert_eq!(bench.served("a.test").len(), 1, "that of the other one");
                wait(50).await;
                assert_eq!(bench.ca.issued(), 1);
                bench.until("its own", 30, || bench.on_disk("a.test").is_some()).await;
            })
            .await;
        assert_ne!(bench.on_disk("a.test"), other.on_disk("a.test"));
    });
}

#[test]
fn killed_before_anything_was_kept_counts_as_a_failure_and_is_said() {
    simulate("unplaced", async |bench| {
        // The directory is never answered, so nothing is on disk but that an order was wanted.
        bench.ca.inject(Request::Directory, Fault::Hang, 1);
        bench.process(async |_| wait(10).await).await;
        bench
            .process(async |_| {
                wait(30).await;
                assert_eq!(bench.said("the process ended before an order was placed"), 1);
                assert_eq!(bench.ca.requests(Request::NewOrder), 0, "a crash loop asks no faster");
                bench.until("a minute later", 60, || bench.on_disk("a.test").is_some()).await;
            })
            .await;
    });
}
