//! Disks that are full, and files that are spoilt.

use std::fs;

use crate::acme::ca::Step;
use crate::acme::status::{Severity, State};
use crate::acme::thread::testing::{DAY, simulate, wait};

#[test]
fn disk_full_before_an_order_asks_nobody() {
    simulate("full-before", async |bench| {
        fs::create_dir_all(bench.path("")).unwrap();
        bench.store();
        // Nothing can be made below a file, whoever tries.
        fs::write(bench.path("plan"), "").unwrap();
        bench
            .process(async |process| {
                bench.until("said", 10, || bench.said("no certificate from ca.test") == 1).await;
                assert!(bench.ca.log().is_empty());
                assert!(process.handle.status().storage_error.is_some());
                assert_eq!(process.handle.status().exit_code(), 1);
                fs::remove_file(bench.path("plan")).unwrap();
                bench.until("room again", 120, || bench.on_disk("a.test").is_some()).await;
                wait(2).await;
                assert_eq!(process.handle.status().storage_error, None);
            })
            .await;
        assert_eq!(bench.said("certificates cannot be stored"), 1);
        assert_eq!(bench.said("certificates can be stored again"), 1);
    });
}

#[test]
fn disk_full_during_the_store_serves_from_memory_and_orders_no_second() {
    simulate("full-during", async |bench| {
        bench.first_certificates().await;
        let old = bench.on_disk("a.test");
        let home = bench.path("certs/a.test");
        let aside = bench.path("certs/aside");
        bench
            .process(async |process| {
                wait(5).await;
                fs::rename(&home, &aside).unwrap();
                // Nothing can be made below a file, whoever tries.
                fs::write(&home, "").unwrap();
                bench.clock.suspend(61 * DAY);
                bench.until("in memory", 60, || process.slot("a.test").state == State::InMemoryOnly).await;
                assert_eq!(bench.ca.issued(), 2);
                assert_eq!(process.slot("a.test").severity, Severity::Error);
                let served = bench.served("a.test").last().unwrap().serial_hex();
                assert_ne!(Some(&served), old.as_ref());
                wait(600).await;
                assert_eq!(bench.ca.requests(Step::NewOrder), 2, "no second order");
                assert_eq!(bench.said("certificates cannot be stored"), 1, "{:?}", bench.said);
                assert_eq!(bench.said("certificates can be stored again"), 0);
                fs::remove_file(&home).unwrap();
                fs::rename(&aside, &home).unwrap();
                assert_eq!(bench.on_disk("a.test"), old, "the old one is intact");
                bench.until("stored", 61, || bench.on_disk("a.test") == Some(served.clone())).await;
                wait(2).await;
                assert_eq!(process.slot("a.test").state, State::Valid);
                assert_eq!(process.handle.status().storage_error, None);
            })
            .await;
    });
}

#[test]
fn corrupt_or_empty_or_mismatched_current_falls_back_or_is_ordered_anew() {
    for spoil in ["", "garbage", "mismatch"] {
        simulate("corrupt", async |bench| {
            bench.first_certificates().await;
            let first = bench.on_disk("a.test");
            bench.clock.suspend(61 * DAY);
            bench
                .process(async |_| {
                    bench.until("second", 60, || bench.on_disk("a.test") != first).await;
                    wait(2).await;
                })
                .await;
            let key = bench.path("certs/a.test/current/key.pem");
            match spoil {
                "mismatch" => {
                    let other = crate::acme::keys::new_key(Default::default()).unwrap();
                    fs::write(&key, other.as_bytes()).unwrap();
                }
                other => fs::write(&key, other).unwrap(),
            }
            bench
                .process(async |_| {
                    let served = bench.served("a.test").last().map(|pair| pair.serial_hex());
                    assert_eq!(served, first, "the generation before, at once");
                    // Something else than the certificate may be the matter: the next one waits its time.
                    wait(3600).await;
                    assert_eq!(bench.ca.issued(), 2);
                    bench.clock.suspend(10 * DAY);
                    bench.until("renewed", 120, || bench.ca.issued() == 3).await;
                    wait(2).await;
                })
                .await;
            assert_eq!(bench.on_disk("a.test"), bench.served("a.test").last().map(|pair| pair.serial_hex()));
            assert_eq!(fs::read_dir(bench.path("corrupt")).unwrap().count(), 1, "kept for people");
            assert!(bench.said("moved to") >= 1);
        });
    }
}

#[test]
fn a_state_directory_of_a_newer_version_is_served_from_and_not_written() {
    simulate("newer", async |bench| {
        bench.first_certificates().await;
        fs::write(bench.path("VERSION"), "999\n").unwrap();
        bench.clock.suspend(61 * DAY);
        let asked = bench.ca.log().len();
        bench
            .process(async |process| {
                wait(200).await;
                assert!(!process.handle.status().leader);
                assert_eq!(process.handle.status().exit_code(), 1);
            })
            .await;
        assert_eq!(bench.served("a.test").len(), 2, "at the start");
        assert_eq!(bench.ca.log().len(), asked);
        assert_eq!(bench.said("newer version of lockring"), 1, "said once");
    });
}

#[test]
fn a_damaged_plan_or_account_is_set_aside() {
    simulate("damaged", async |bench| {
        bench.first_certificates().await;
        fs::write(bench.path("plan/a.test/plan.json"), "{").unwrap();
        fs::write(bench.path("budget.json"), "").unwrap();
        fs::write(bench.path("accounts/ca.test%2fdirectory/account.json"), "[]").unwrap();
        bench.clock.suspend(61 * DAY);
        bench
            .process(async |_| {
                bench.until("renewed", 120, || bench.ca.issued() == 2).await;
                wait(2).await;
            })
            .await;
        assert_eq!(bench.ca.requests(Step::NewAccount), 2);
        assert_eq!(bench.said("it begins anew"), 2);
    });
}

#[test]
fn what_is_in_memory_only_outlives_a_loss_of_leadership() {
    simulate("memory", async |bench| {
        bench.first_certificates().await;
        let old = bench.on_disk("a.test");
        let (home, aside) = (bench.path("certs/a.test"), bench.path("certs/aside"));
        let lock = bench.path("LOCK");
        bench
            .process(async |process| {
                wait(5).await;
                fs::rename(&home, &aside).unwrap();
                fs::write(&home, "").unwrap();
                bench.clock.suspend(61 * DAY);
                bench.until("in memory", 60, || process.slot("a.test").state == State::InMemoryOnly).await;
                let served = bench.served("a.test").last().unwrap().serial_hex();
                fs::remove_file(&lock).unwrap();
                fs::create_dir(&lock).unwrap();
                bench.until("follows", 60, || !process.handle.status().leader).await;
                fs::remove_file(&home).unwrap();
                fs::rename(&aside, &home).unwrap();
                assert_eq!(bench.on_disk("a.test"), old);
                fs::remove_dir(&lock).unwrap();
                bench.until("leads", 60, || process.handle.status().leader).await;
                bench.until("stored", 120, || bench.on_disk("a.test") == Some(served.clone())).await;
                wait(600).await;
                assert_eq!(bench.served("a.test").last().unwrap().serial_hex(), served);
                assert_eq!(bench.ca.issued(), 2, "no second order");
            })
            .await;
    });
}

#[test]
fn a_start_with_nothing_to_do_writes_no_plan() {
    simulate("idle-start", async |bench| {
        bench.first_certificates().await;
        bench.ca.set(|ca| ca.is_down = true);
        let inode =
            |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(bench.path(path)).unwrap());
        let files = ["plan/a.test/plan.json", "budget.json"];
        let before = files.map(inode);
        bench.process(async |_| wait(2).await).await;
        assert_eq!(files.map(inode), before);
    });
}
