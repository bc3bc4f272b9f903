//! Tests of orders under way.

use super::{SavedOrder, begin};
use crate::acme::store::Error;
use crate::acme::store::acme::tests::{open, pem};
use crate::acme::store::tests::Scratch;
use std::fs;
use std::io;

const JSON: &[u8] = br#"{"url":"https://ca.test/order/1","step":"ready","created":1800000000}"#;

#[test]
fn an_order_comes_back_as_it_was() {
    let scratch = Scratch::new("order");
    let store = open(&scratch);
    assert_eq!(store.order("*.a.test").unwrap(), None);
    let key = pem("a.test").key;
    store.save_order("*.a.test", &key, b"{}").unwrap();
    assert_eq!(store.order("*.a.test").unwrap(), Some(SavedOrder { key: key.clone(), json: b"{}".to_vec() }));
    store.update_order("*.a.test", JSON).unwrap();
    let again = open(&scratch);
    assert_eq!(again.order("*.a.test").unwrap(), Some(SavedOrder { key, json: JSON.to_vec() }));
    assert_eq!(again.order("a.test").unwrap(), None);
    store.drop_order("*.a.test").unwrap();
    assert_eq!(store.order("*.a.test").unwrap(), None);
    assert!(!store.path().join("orders/%2a.a.test").exists());
    store.drop_order("*.a.test").unwrap();
    assert!(matches!(store.update_order("*.a.test", JSON), Err(Error::Damaged { .. })), "no key, no order");
}

#[test]
fn a_kill_at_any_step_leaves_no_order_with_another_key() {
    let scratch = Scratch::new("order-kill");
    let store = open(&scratch);
    let (old, new) = (pem("a.test").key, pem("a.test").key);
    let mut steps = 0;
    loop {
        store.save_order("a.test", &old, b"1").unwrap();
        let mut left = steps;
        let home = store.home("orders", "a.test").unwrap();
        let done = begin(&home, &new, b"2", &mut |_| {
            left = usize::checked_sub(left, 1).ok_or(io::ErrorKind::Other)?;
            Ok(())
        });
        match store.order("a.test").unwrap() {
            None => assert!(done.is_err()),
            Some(order) if order.key == old => {
                assert_eq!((order.json.as_slice(), done.is_err()), (&b"1"[..], true))
            }
            Some(order) => assert_eq!((order.key == new, order.json.as_slice()), (true, &b"2"[..])),
        }
        if done.is_ok() {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 3, "every step was a stop once");
}

#[test]
fn the_key_is_on_disk_before_anything_says_that_there_is_an_order() {
    let scratch = Scratch::new("order-first");
    let store = open(&scratch);
    let home = store.home("orders", "a.test").unwrap();
    let key = pem("a.test").key;
    let mut seen = Vec::new();
    begin(&home, &key, b"{}", &mut |step| {
        let on_disk = fs::read(home.path.join("key.pem")).is_ok_and(|found| found == key.as_bytes());
        seen.push((step, on_disk, home.path.join("order.json").exists()));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen.last(), Some(&("write an order in", true, false)));
}

#[test]
fn damage_is_told_and_set_aside_with_the_key() {
    let scratch = Scratch::new("order-damage");
    let store = open(&scratch);
    let key = pem("a.test").key;
    let half = &key.as_bytes()[..key.len() / 2];
    let cases: [(&str, &[u8]); 5] = [
        ("order.json", b""),
        ("order.json", b"{\"url\":"),
        ("key.pem", b""),
        ("key.pem", half),
        ("key.pem", b"\xff"),
    ];
    for (name, content) in cases {
        store.save_order("a.test", &key, JSON).unwrap();
        fs::write(store.path().join("orders/a.test").join(name), content).unwrap();
        let error = store.order("a.test").unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{name} {content:?}");
        assert!(!error.to_string().contains("BEGIN"));
        let moved = store.set_order_aside("a.test").unwrap().unwrap();
        assert!(moved.join("key.pem").exists() && moved.join("order.json").exists());
        assert_eq!(store.order("a.test").unwrap(), None);
    }
    assert_eq!(store.set_order_aside("a.test").unwrap(), None);
    store.save_order("a.test", &key, JSON).unwrap();
    fs::remove_file(store.path().join("orders/a.test/key.pem")).unwrap();
    assert!(matches!(store.order("a.test"), Err(Error::Damaged { .. })));
}

#[test]
fn the_key_is_not_shown() {
    let key = pem("a.test").key;
    let secret = key.lines().nth(1).unwrap().to_owned();
    let order = SavedOrder { key, json: JSON.to_vec() };
    let shown = format!("{order:?}");
    assert!(shown.contains("ca.test") && !shown.contains(&secret), "{shown}");
}
