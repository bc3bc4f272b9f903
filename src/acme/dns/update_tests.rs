//! Updates against a server that answers as it should not; real servers are in the integration tests.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::codec::write;
use super::super::message::{CLASS_NONE, Data, Kind, Opcode, Rcode};
use super::super::test_server::{name, reply, start};
use super::super::tsig::{Key, TsigError};
use super::{Change, Primary, UpdateError, request};
use crate::config::model::{Secret, TsigAlgorithm, TsigKey};

fn key() -> Key {
    let key = TsigKey {
        name: "k".to_owned(),
        algorithm: TsigAlgorithm::HmacSha256,
        secret: Secret::Env("UNUSED".to_owned()),
    };
    Key::new(&key, b"c2VjcmV0").unwrap()
}

async fn change(server: SocketAddr, key: Option<Key>) -> Result<(), UpdateError> {
    let primary = Primary { timeout: Duration::from_millis(500), ..Primary::new(server, key) };
    primary.change(&name("example"), &name("_acme-challenge.example"), b"v", Change::Add).await
}

async fn server_of(rcode: Rcode) -> SocketAddr {
    start(move |request, _| {
        let mut message = reply(request, Vec::new());
        message.header.rcode = rcode;
        message.tsig = None;
        vec![write(&message)]
    })
    .await
}

#[test]
fn one_record_is_added_or_that_one_removed() {
    let add = request(&name("example"), &name("a.example"), b"v", Change::Add);
    assert_eq!((add.header.opcode, add.questions[0].kind), (Opcode::Update, Kind::Soa));
    assert_eq!((add.authorities[0].ttl, &add.authorities[0].data), (60, &Data::txt(b"v")));
    let remove = request(&name("example"), &name("a.example"), b"v", Change::Remove);
    assert_eq!((remove.authorities[0].class, remove.authorities[0].ttl), (CLASS_NONE, 0));
    assert!(add.answers.is_empty() && remove.answers.is_empty(), "no prerequisites");
}

#[tokio::test]
async fn an_unsigned_yes_is_not_believed_but_a_no_is_told() {
    let yes = server_of(Rcode::NoError).await;
    assert_eq!(change(yes, None).await, Ok(()));
    assert_eq!(change(yes, Some(key())).await, Err(UpdateError::Signature(TsigError::Unsigned)));
    let no = change(server_of(Rcode::Refused).await, Some(key())).await.unwrap_err();
    assert!(no.to_string().contains("does not let the key k. change TXT records"), "{no}");
    let no = change(server_of(Rcode::Refused).await, None).await.unwrap_err();
    assert!(no.to_string().contains("without a key"), "{no}");
    for rcode in [Rcode::NotAuth, Rcode::NotZone] {
        let no = change(server_of(rcode).await, Some(key())).await.unwrap_err();
        assert!(matches!(no, UpdateError::WrongZone { .. }), "{no}");
    }
    let no = change(server_of(Rcode::ServFail).await, None).await.unwrap_err();
    assert!(no.to_string().ends_with("failed with SERVFAIL"), "{no}");
}

#[tokio::test]
async fn servers_that_are_dead_mute_or_confused_are_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let error = change(dead, None).await.unwrap_err().to_string();
    assert!(error.contains(&dead.to_string()) && error.contains("refused"), "{error}");
    // The kernel accepts, and nobody reads.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = change(mute.local_addr().unwrap(), None).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 0.5 s"), "{error}");
    let confused = start(|request, _| {
        let mut message = reply(request, Vec::new());
        message.header.id ^= 1;
        vec![write(&message)]
    })
    .await;
    let error = change(confused, None).await.unwrap_err().to_string();
    assert!(error.contains("another request"), "{error}");
    let garbage = start(|_, _| vec![vec![1, 2, 3]]).await;
    let error = change(garbage, None).await.unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
    let closing = start(|_, _| Vec::new()).await;
    assert!(matches!(change(closing, None).await, Err(UpdateError::Unreachable { .. })));
    assert!(matches!(Primary::resolve("a host without a port").await, Err(UpdateError::NoServer { .. })));
}

#[tokio::test]
async fn a_name_outside_its_zone_is_not_sent() {
    let primary = Primary::new(SocketAddr::from(([127, 0, 0, 1], 1)), None);
    let error = primary.change(&name("example"), &name("a.other"), b"v", Change::Add).await.unwrap_err();
    assert_eq!(error.to_string(), "a.other. is not in the zone example.");
}
