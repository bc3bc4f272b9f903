//! Names on demand while something else changes: the configuration, other names, the process.

#![allow(clippy::disallowed_types, reason = "what a test records is shared with threads of its own")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::demand::{Application, CLIENT, SHOP, clients, decided, shop, wish};
use crate::acme::ca::Step;
use crate::acme::http_client::{Exchange, Transport};
use crate::acme::order;
use crate::acme::thread::testing::{Bench, DAY, names_refused, simulate, slot, wait};
use crate::config::model::{ChallengeKind, HostPattern};

/// An application that takes a second to answer.
struct Slow(Application);

impl Transport for Slow {
    fn send(&self, request: Request<Bytes>) -> Exchange {
        let answer = self.0.send(request);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer.await
        })
    }
}

/// The same file as [`shop`] has, and `SHOP` as a site of its own.
fn listed() -> crate::acme::slot::Slot {
    slot(&[SHOP], ChallengeKind::Http01)
}

async fn held(bench: &Bench, reached: &std::sync::Mutex<bool>) {
    bench.until("the step", 60, || *reached.lock().unwrap()).await;
}

#[test]
fn refused_renewals_do_not_call_each_other_up() {
    simulate("demand-ping-pong", async |mut bench| {
        let application = shop(&mut bench);
        bench.application = Some(Arc::new(Slow(application.clone())));
        let names = [SHOP, "b.shop.test"];
        names.iter().for_each(|name| application.allow(name));
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                for name in names {
                    wish(&bench, &wisher, name).await;
                    bench.install.in_use.lock().unwrap().push(name.to_owned());
                }
                application.allowed.lock().unwrap().clear();
                bench.clock.suspend(62 * DAY);
                wait(1800).await;
            })
            .await;
        let again = application.asked().iter().filter(|query| !query.contains("remote_ip")).count();
        assert!((2..=4).contains(&again), "asked {again} times in half an hour");
        assert!(bench.said("no longer allows") <= 4);
    });
}

#[test]
fn a_site_that_is_listed_while_it_is_ordered_on_demand_stays() {
    simulate("demand-listed", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        bench.ca.set(|behaviour| behaviour.validator = names_refused(&[SHOP]));
        bench.latency.store(1000, std::sync::atomic::Ordering::Relaxed);
        let wisher = clients(&bench);
        bench
            .process(async |process| {
                let waiting = wisher.leave(SHOP, CLIENT).unwrap();
                bench.until("an order", 60, || bench.ca.requests(Step::NewOrder) == 1).await;
                process.handle.reload(bench.model(), vec![listed()]).unwrap();
                decided(&bench, &waiting).await;
                wait(60).await;
                assert!(!process.slot(SHOP).name.is_empty(), "the site has its slot");
                bench.ca.set(|behaviour| behaviour.validator = names_refused(&[]));
                bench.until("served", 7 * 24 * 3600, || !bench.served(SHOP).is_empty()).await;
                assert_eq!(*bench.install.sites.lock().unwrap(), [0]);
            })
            .await;
    });
}

#[test]
fn a_site_that_is_listed_while_the_application_is_asked_stays() {
    simulate("demand-listed-asked", async |mut bench| {
        let application = shop(&mut bench);
        bench.application = Some(Arc::new(Slow(application.clone())));
        application.allow(SHOP);
        bench.ca.set(|behaviour| behaviour.validator = names_refused(&[SHOP]));
        let wisher = clients(&bench);
        bench
            .process(async |process| {
                bench.until("a leader", 60, || process.handle.status().leader).await;
                let waiting = wisher.leave(SHOP, CLIENT).unwrap();
                while application.asked().is_empty() {
                    tokio::task::yield_now().await;
                }
                process.handle.reload(bench.model(), vec![listed()]).unwrap();
                decided(&bench, &waiting).await;
                // The next attempt is a minute later, give or take a tenth.
                wait(30).await;
                assert!(!process.slot(SHOP).name.is_empty(), "the site has its slot");
                assert_eq!(bench.ca.requests(Step::NewOrder), 1);
            })
            .await;
    });
}

#[test]
fn a_client_that_comes_back_joins_the_order_that_was_taken_up() {
    simulate("demand-joins", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        let wisher = clients(&bench);
        let reached = bench.hold_at(order::Step::Ready);
        bench
            .process(async |_| {
                let _waiting = wisher.leave(SHOP, CLIENT).unwrap();
                held(&bench, &reached).await;
            })
            .await;
        bench.gate = None;
        bench.latency.store(1000, std::sync::atomic::Ordering::Relaxed);
        let wisher = clients(&bench);
        bench
            .process(async |process| {
                bench.until("a leader", 60, || process.handle.status().leader).await;
                wish(&bench, &wisher, SHOP).await;
                wait(120).await;
                assert_eq!(bench.served(SHOP).len(), 1, "one order, one certificate");
                assert_eq!(process.slot(SHOP).succeeded, 1);
                assert!(process.slot(SHOP).failed.is_empty());
            })
            .await;
        assert_eq!(bench.ca.requests(Step::Finalize), 1);
    });
}

#[test]
fn what_the_list_no_longer_allows_is_not_renewed_without_a_question() {
    simulate("demand-list", async |mut bench| {
        shop(&mut bench);
        let policy = bench.acme.on_demand.as_mut().unwrap();
        policy.ask = None;
        policy.allow = vec![HostPattern::Exact(SHOP.to_owned())];
        let wisher = clients(&bench);
        bench.process(async |_| wish(&bench, &wisher, SHOP).await).await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 1);
        bench.acme.on_demand.as_mut().unwrap().allow.clear();
        bench
            .process(async |_| {
                bench.install.in_use.lock().unwrap().push(SHOP.to_owned());
                bench.clock.suspend(62 * DAY);
                wait(7200).await;
            })
            .await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 1);
    });
}

#[test]
fn what_a_site_left_on_disk_is_not_given_to_whoever_names_it() {
    simulate("demand-left", async |mut bench| {
        bench.slots = vec![listed()];
        bench.first_certificates().await;
        let application = shop(&mut bench);
        let before = bench.served(SHOP).len();
        let wisher = clients(&bench);
        bench
            .process(async |process| {
                bench.until("a leader", 60, || process.handle.status().leader).await;
                wish(&bench, &wisher, SHOP).await;
            })
            .await;
        assert_eq!(application.asked().len(), 1, "the application decides");
        assert_eq!(bench.served(SHOP).len(), before);
    });
}
