//! Names that no site lists: who gets a certificate, what is asked, and what is left when it is over.

#![allow(clippy::disallowed_types, reason = "what a test records is shared with threads of its own")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::acme::ca::Step;
use crate::acme::http_client::{Exchange, Transport, TransportError};
use crate::acme::order;
use crate::acme::thread::testing::{Bench, DAY, names_refused, simulate, slot, wait};
use crate::config::model::{ChallengeKind, HostPattern, OnDemand, Site, SiteTls};
use crate::handoff::wishes::{Waiting, Wisher, wishes};
use crate::limits;

pub(super) const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
pub(super) const SHOP: &str = "a.shop.test";

/// The operator's application: names that it allows, and what it was asked.
#[derive(Clone, Default)]
pub(super) struct Application {
    pub(super) allowed: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    silent: Arc<Mutex<bool>>,
}

impl Application {
    pub(super) fn allow(&self, name: &str) {
        self.allowed.lock().unwrap().push(name.to_owned());
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Transport for Application {
    fn send(&self, request: Request<Bytes>) -> Exchange {
        let query = request.uri().query().unwrap().to_owned();
        let name = query.strip_prefix("domain=").unwrap().split('&').next().unwrap().to_owned();
        self.asked.lock().unwrap().push(query);
        let status = if self.allowed.lock().unwrap().contains(&name) { 200 } else { 404 };
        let silent = *self.silent.lock().unwrap();
        Box::pin(async move {
            if silent {
                return Err(TransportError::ConnectTimeout);
            }
            Ok(Response::builder().status(status).body(Bytes::new()).unwrap())
        })
    }
}

/// A wildcard site `*.shop.test`, names below which are asked about.
pub(super) fn shop(bench: &mut Bench) -> Application {
    let policy = slot(&[SHOP], ChallengeKind::Http01).policy;
    bench.slots.clear();
    bench.sites = vec![Arc::new(Site {
        index: 0,
        host: HostPattern::Wildcard("shop.test".to_owned()),
        tls: SiteTls::Auto,
        acme: Some(policy),
        redirect: true,
        routes: Vec::new(),
    })];
    bench.acme.on_demand = Some(OnDemand {
        ask: Some("http://127.0.0.1:1/may".to_owned()),
        per_hour: 20,
        total: 1000,
        ..OnDemand::nobody()
    });
    let application = Application::default();
    bench.application = Some(Arc::new(application.clone()));
    application
}

/// Clients of the next process.
pub(super) fn clients(bench: &Bench) -> Wisher {
    let (wisher, desk) = wishes(limits::ACME_DEMAND_WAITING, limits::ACME_DEMAND_UNREAD);
    bench.wishes.replace(Some(desk));
    wisher
}

pub(super) async fn decided(bench: &Bench, waiting: &Waiting) {
    bench.until("a verdict", 120, || waiting.is_decided()).await;
}

/// Leaves a wish and waits for its end.
pub(super) async fn wish(bench: &Bench, wisher: &Wisher, name: &str) {
    decided(bench, &wisher.leave(name, CLIENT).unwrap()).await;
}

/// Names of all files of the store that a name on demand left.
fn traces(bench: &Bench, name: &str) -> Vec<String> {
    let places = ["certs", "orders", "plan"].map(|folder| bench.path(folder).join(name));
    places.iter().filter(|place| place.exists()).map(|place| place.display().to_string()).collect()
}

#[test]
fn an_allowed_name_is_ordered_once_served_and_on_disk_at_the_next_start() {
    simulate("demand", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        let wisher = clients(&bench);
        bench
            .process(async |process| {
                let waiting: Vec<Waiting> = (0..3).map(|_| wisher.leave(SHOP, CLIENT).unwrap()).collect();
                for one in &waiting {
                    decided(&bench, one).await;
                }
                assert_eq!(bench.served(SHOP).len(), 1, "the certificate is there when clients are told");
                assert_eq!(process.slot(SHOP).succeeded, 1);
                wish(&bench, &wisher, SHOP).await;
                wait(40).await;
            })
            .await;
        assert_eq!(application.asked(), [format!("domain={SHOP}&remote_ip=192.0.2.7")]);
        assert_eq!(bench.ca.requests(Step::NewOrder), 1);
        assert_eq!(bench.on_disk(SHOP), Some(bench.served(SHOP)[0].serial_hex()));
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                assert_eq!(bench.served(SHOP).len(), 2, "by the start");
                wish(&bench, &wisher, SHOP).await;
                wait(60).await;
            })
            .await;
        assert_eq!(application.asked().len(), 1, "nobody is asked for what is on disk");
        assert_eq!(bench.ca.requests(Step::NewOrder), 1);
        // Without the option it is neither served nor forgotten.
        bench.acme.on_demand = None;
        bench.process(async |_| wait(60).await).await;
        assert_eq!(bench.served(SHOP).len(), 2);
        assert!(bench.on_disk(SHOP).is_some());
    });
}

#[test]
fn a_refusal_is_remembered_and_orders_nothing() {
    simulate("demand-no", async |mut bench| {
        let application = shop(&mut bench);
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                for _ in 0..5 {
                    wish(&bench, &wisher, SHOP).await;
                    wait(50).await;
                }
                assert_eq!(application.asked().len(), 1);
                wait(60).await;
                wish(&bench, &wisher, SHOP).await;
                assert_eq!(application.asked().len(), 2, "after five minutes it is asked again");
                // An application that does not answer allows nothing, and is told of once.
                *application.silent.lock().unwrap() = true;
                application.allow("b.shop.test");
                wish(&bench, &wisher, "b.shop.test").await;
                wish(&bench, &wisher, "c.shop.test").await;
                // Names that nobody serves, and what is no name, are not even asked about.
                let asked = application.asked().len();
                for name in ["other.test", "shop.test", "x_y.shop.test", "a.b.c.d.e.f.shop.test"] {
                    wish(&bench, &wisher, name).await;
                }
                assert_eq!(application.asked().len(), asked);
            })
            .await;
        assert_eq!(bench.said("gives no answer"), 1);
        assert_eq!(bench.ca.requests(Step::NewOrder), 0);
        assert_eq!(bench.store().list().unwrap(), [""; 0]);
    });
}

#[test]
fn random_names_cost_a_question_each_and_nothing_that_stays() {
    simulate("demand-flood", async |mut bench| {
        let application = shop(&mut bench);
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                let mut refused = 0;
                for round in 0..3000 {
                    let name = format!("r{}.shop.test", round % 1000);
                    // More clients than places.
                    let waiting: Vec<_> = (0..12).map(|_| wisher.leave(&name, CLIENT)).collect();
                    refused += waiting.iter().filter(|waiting| waiting.is_err()).count();
                    let left = waiting.into_iter().flatten().collect::<Vec<_>>();
                    while !left.iter().all(Waiting::is_decided) {
                        tokio::task::yield_now().await;
                    }
                }
                assert_eq!(refused, 2 * 3000);
            })
            .await;
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        application.asked().into_iter().for_each(|query| *times.entry(query).or_default() += 1);
        assert_eq!(times.len(), 1000);
        assert!(times.values().all(|times| *times == 1), "at most once in five minutes");
        assert_eq!(bench.ca.log().len(), 0, "no authority hears of them");
        assert_eq!(bench.store().list().unwrap(), [""; 0]);
    });
}

#[test]
fn limits_hold_over_a_restart_and_are_told_once() {
    simulate("demand-limits", async |mut bench| {
        let application = shop(&mut bench);
        bench.acme.on_demand.as_mut().unwrap().per_hour = 2;
        let names: Vec<String> = (0..6).map(|n| format!("s{n}.shop.test")).collect();
        names.iter().for_each(|name| application.allow(name));
        let orders = |bench: &Bench| bench.ca.requests(Step::NewOrder);
        for _ in 0..2 {
            let wisher = clients(&bench);
            bench
                .process(async |_| {
                    for name in &names {
                        wish(&bench, &wisher, name).await;
                    }
                })
                .await;
            assert_eq!(orders(&bench), 2);
        }
        assert_eq!(bench.said("enough new names in this hour"), 2, "once in each process");
        bench.clock.suspend(3700);
        bench.acme.on_demand.as_mut().unwrap().total = 3;
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                for name in names.iter().rev() {
                    wish(&bench, &wisher, name).await;
                }
            })
            .await;
        assert_eq!(orders(&bench), 3);
        assert_eq!(bench.store().list().unwrap().len(), 3);
        assert_eq!(bench.said("enough names in all"), 1);
    });
}

#[test]
fn a_failed_order_leaves_nothing_and_waits_five_minutes() {
    simulate("demand-fails", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        bench.ca.set(|behaviour| behaviour.validator = names_refused(&[SHOP]));
        let wisher = clients(&bench);
        bench
            .process(async |process| {
                wish(&bench, &wisher, SHOP).await;
                assert_eq!(bench.ca.requests(Step::NewOrder), 1);
                assert!(process.handle.status().slots.is_empty());
                for _ in 0..4 {
                    wish(&bench, &wisher, SHOP).await;
                    wait(60).await;
                }
                assert_eq!(bench.ca.requests(Step::NewOrder), 1);
                assert_eq!(traces(&bench, SHOP), [""; 0]);
                wait(70).await;
                bench.ca.set(|behaviour| behaviour.validator = names_refused(&[]));
                wish(&bench, &wisher, SHOP).await;
                assert_eq!(bench.served(SHOP).len(), 1);
            })
            .await;
        assert_eq!(application.asked().len(), 2);
    });
}

#[test]
fn a_name_in_use_is_renewed_and_another_one_ends() {
    simulate("demand-renewal", async |mut bench| {
        let application = shop(&mut bench);
        let [used, unused, gone] = [SHOP, "b.shop.test", "c.shop.test"];
        [used, unused, gone].iter().for_each(|name| application.allow(name));
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                for name in [used, unused, gone] {
                    wish(&bench, &wisher, name).await;
                }
                bench.install.in_use.lock().unwrap().extend([used.to_owned(), gone.to_owned()]);
                application.allowed.lock().unwrap().retain(|name| name != gone);
                for _ in 0..92 {
                    bench.clock.suspend(DAY);
                    wait(130).await;
                }
                assert_eq!(bench.served(used).len(), 2, "renewed");
                assert_eq!((bench.served(unused).len(), bench.served(gone).len()), (1, 1));
                assert_eq!(*bench.install.withdrawn.lock().unwrap(), [unused, gone]);
                assert_eq!((traces(&bench, unused), traces(&bench, gone)), (Vec::new(), Vec::new()));
                assert_eq!(bench.said("has expired"), 0, "an end that was to come is no alarm");
                // The next client waits as the first did.
                wish(&bench, &wisher, unused).await;
                assert_eq!(bench.served(unused).len(), 2);
            })
            .await;
        let again: Vec<String> =
            application.asked().into_iter().filter(|q| !q.contains("remote_ip")).collect();
        assert!(again.contains(&format!("domain={used}")) && again.contains(&format!("domain={gone}")));
        assert!(!again.contains(&format!("domain={unused}")), "a name that nobody wants is not asked about");
        assert!(bench.said("no longer allows") >= 1);
    });
}

#[test]
fn a_silent_application_does_not_end_what_it_allowed() {
    simulate("demand-silent", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        let wisher = clients(&bench);
        bench
            .process(async |_| {
                wish(&bench, &wisher, SHOP).await;
                bench.install.in_use.lock().unwrap().push(SHOP.to_owned());
                *application.silent.lock().unwrap() = true;
                bench.clock.suspend(62 * DAY);
                bench.until("renewed", 300, || bench.served(SHOP).len() == 2).await;
            })
            .await;
    });
}

#[test]
fn an_order_that_a_kill_interrupted_goes_on() {
    simulate("demand-kill", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        let wisher = clients(&bench);
        let reached = bench.hold_at(order::Step::Ready);
        bench
            .process(async |_| {
                let waiting = wisher.leave(SHOP, CLIENT).unwrap();
                bench.until("the step", 60, || *reached.lock().unwrap()).await;
                assert!(!waiting.is_decided());
                // A client that leaves makes room, and its order goes on.
                drop(waiting);
            })
            .await;
        bench.gate = None;
        bench.process(async |_| bench.until("served", 60, || bench.served(SHOP).len() == 1).await).await;
        assert_eq!(bench.ca.requests(Step::NewOrder), 1);
        assert_eq!(application.asked().len(), 1);
    });
}

#[test]
fn a_process_that_does_not_lead_refuses_and_takes_what_the_leader_stored() {
    simulate("demand-follower", async |mut bench| {
        let application = shop(&mut bench);
        application.allow(SHOP);
        let first = clients(&bench);
        let (leader, a) = bench.local();
        leader.run_until(async { bench.until("a leader", 60, || a.handle.status().leader).await }).await;
        let second = clients(&bench);
        let (follower, b) = bench.local();
        let both = async {
            wait(5).await;
            assert!(!b.handle.status().leader);
            wish(&bench, &second, SHOP).await;
            assert_eq!(bench.ca.requests(Step::NewOrder), 0);
            wish(&bench, &first, SHOP).await;
            assert_eq!(bench.served(SHOP).len(), 1);
            wish(&bench, &second, SHOP).await;
            assert_eq!(bench.served(SHOP).len(), 2, "from disk");
        };
        leader.run_until(follower.run_until(both)).await;
        assert_eq!(application.asked().len(), 1);
    });
}

#[test]
fn a_thread_that_ends_by_a_defect_leaves_nobody_waiting() {
    let mut bench = Bench::new("demand-panic");
    let application = shop(&mut bench);
    *application.silent.lock().unwrap() = true;
    let (wisher, desk) = wishes(2, 8);
    let handle = crate::acme::thread::spawn(bench.outside(), bench.wanted(), Some(desk)).unwrap();
    let began = std::time::Instant::now();
    let until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|| handle.status().leader);
    handle.panic();
    until(&|| handle.status().thread_restarts == 1 && handle.status().leader);
    let waiting = wisher.leave(SHOP, CLIENT).unwrap();
    until(&|| waiting.is_decided());
    assert_eq!(application.asked().len(), 1, "the thread after it hears of clients");
    assert!(handle.stop(Duration::from_secs(10)));
}
