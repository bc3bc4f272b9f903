//! Signatures as RFC 8945 has them, and each reason not to accept one.

use super::{Key, KeyError, TsigError, algorithm_word, base64};
use crate::acme::dns::codec::{read, write};
use crate::acme::dns::message::{CLASS_IN, Header, Kind, Message, Opcode, Question, Signature};
use crate::acme::dns::name::Name;
use crate::config::model::{Secret, TsigAlgorithm, TsigKey};

const NOW: u64 = 1_800_000_000;

fn key(name: &str, algorithm: TsigAlgorithm, secret: &str) -> Key {
    let key = TsigKey { name: name.to_owned(), algorithm, secret: Secret::Env("UNUSED".to_owned()) };
    Key::new(&key, secret.as_bytes()).unwrap()
}

fn ours() -> Key {
    key("Acme.Key.", TsigAlgorithm::HmacSha256, " c2VjcmV0LXNlY3JldC1zZWNyZXQ=\n")
}

fn query() -> Vec<u8> {
    write(&Message {
        header: Header::request(4711, Opcode::Query, false),
        questions: vec![Question {
            name: Name::parse("a.example").unwrap(),
            kind: Kind::Txt,
            class: CLASS_IN,
        }],
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        tsig: None,
    })
}

/// An answer to a request with signature `mac`, signed as a server would with `key`.
fn answered(key: &Key, mac: &[u8], now: u64, error: u16, other: &[u8]) -> Vec<u8> {
    let mut answer = query();
    answer[2] |= 0x80;
    let mut tsig = crate::acme::dns::message::Tsig {
        algorithm: key.algorithm_name(),
        time: now,
        fudge: 300,
        mac: Vec::new(),
        original_id: 4711,
        error,
        other: other.to_vec(),
    };
    let length = u16::try_from(mac.len()).unwrap().to_be_bytes();
    let signed = [&length, mac, &answer, &key.variables(&tsig)].concat();
    tsig.mac = super::hmac::sign(&key.hmac(), &signed).as_ref().to_vec();
    super::append_signature(&mut answer, &key.name, &tsig);
    answer
}

fn verify(key: &Key, bytes: &[u8], mac: &[u8]) -> Result<(), TsigError> {
    key.verify(bytes, &read(bytes).unwrap(), mac, NOW)
}

#[test]
fn a_request_is_signed_and_its_answer_verified_with_each_algorithm() {
    let all = [TsigAlgorithm::HmacSha256, TsigAlgorithm::HmacSha384, TsigAlgorithm::HmacSha512];
    for (algorithm, bytes) in all.into_iter().zip([32, 48, 64]) {
        let key = key("k", algorithm, "c2VjcmV0");
        let mut request = query();
        let mac = key.sign(&mut request, NOW);
        assert_eq!(mac.len(), bytes);
        let Some(Signature { key: name, tsig, at }) = read(&request).unwrap().tsig else {
            panic!("unsigned")
        };
        assert_eq!((name, &tsig.mac, tsig.time, at), (key.name.clone(), &mac, NOW, query().len()));
        assert_eq!(tsig.algorithm.to_string(), format!("{}.", algorithm_word(algorithm)));
        assert_eq!(verify(&key, &answered(&key, &mac, NOW, 0, b""), &mac), Ok(()));
        assert_eq!(verify(&key, &answered(&key, b"other", NOW, 0, b""), &mac), Err(TsigError::Forged));
    }
}

#[test]
fn the_identifier_may_have_changed_on_the_way_but_nothing_else() {
    let key = ours();
    let mac = key.sign(&mut query(), NOW);
    let answer = answered(&key, &mac, NOW, 0, b"");
    let mut forwarded = answer.clone();
    forwarded[0] ^= 1;
    assert_eq!(verify(&key, &forwarded, &mac), Ok(()));
    for place in [2, 3, 13, query().len() - 1, answer.len() - 20] {
        let mut changed = answer.clone();
        changed[place] ^= 1;
        assert_eq!(verify(&key, &changed, &mac), Err(TsigError::Forged), "byte {place}");
    }
}

#[test]
fn each_reason_is_named() {
    let key = ours();
    let mac = key.sign(&mut query(), NOW);
    let unsigned = query();
    assert_eq!(verify(&key, &unsigned, &mac), Err(TsigError::Unsigned));
    let fails = |bytes: &[u8]| verify(&key, bytes, &mac).unwrap_err().to_string();
    assert!(fails(&answered(&key, &mac, NOW, 17, b"")).contains("does not know the key acme.key. "));
    assert!(fails(&answered(&key, &mac, NOW, 16, b"")).contains("another secret for the key acme.key."));
    let server = (NOW - 1000).to_be_bytes();
    let late = fails(&answered(&key, &mac, NOW, 18, &server[2..]));
    assert!(late.contains("its clock is 1000 s behind this machine's"), "{late}");
    assert!(fails(&answered(&key, &mac, NOW, 22, b"")).contains("longer signature"));
    assert!(fails(&answered(&key, &mac, NOW, 99, b"")).contains("99"));
    assert_eq!(verify(&key, &answered(&key, &mac, NOW + 301, 0, b""), &mac), Err(TsigError::Stale(301)));
    assert_eq!(verify(&key, &answered(&key, &mac, NOW - 300, 0, b""), &mac), Ok(()));
    let other = self::key("other", TsigAlgorithm::HmacSha256, "c2VjcmV0");
    assert_eq!(verify(&key, &answered(&other, &mac, NOW, 0, b""), &mac), Err(TsigError::OtherKey));
    let longer = self::key("acme.key", TsigAlgorithm::HmacSha512, "c2VjcmV0");
    assert_eq!(verify(&key, &answered(&longer, &mac, NOW, 0, b""), &mac), Err(TsigError::OtherKey));
}

#[test]
fn a_truncated_signature_is_not_accepted() {
    let key = ours();
    let mac = key.sign(&mut query(), NOW);
    let bytes = answered(&key, &mac, NOW, 0, b"");
    for length in [0, 16, 31] {
        let mut cut = read(&bytes).unwrap();
        cut.tsig.as_mut().unwrap().tsig.mac.truncate(length);
        assert_eq!(key.verify(&bytes, &cut, &mac, NOW), Err(TsigError::Forged));
    }
}

#[test]
fn secrets_are_base64_and_never_shown() {
    for (text, bytes) in [
        ("", &b""[..]),
        ("Zg==", b"f"),
        ("Zg", b"f"),
        ("Zm8=", b"fo"),
        ("Zm9v", b"foo"),
        ("+/+/", b"\xfb\xff\xbf"),
    ] {
        assert_eq!(base64(text.as_bytes()).unwrap().as_slice(), bytes, "{text}");
    }
    for text in ["Z", "Zg=", "Zg===", "Zm9v=", "Zh", "Zm9", "Z g=", "====", "Zm_v"] {
        assert_eq!(base64(text.as_bytes()), None, "{text}");
    }
    let config = TsigKey {
        name: "k".to_owned(),
        algorithm: TsigAlgorithm::HmacSha256,
        secret: Secret::Env("UNUSED".to_owned()),
    };
    for secret in ["", "hunter2!", " \n"] {
        let error = Key::new(&config, secret.as_bytes()).unwrap_err();
        assert_eq!(error, KeyError::Secret);
        assert!(!error.to_string().contains("hunter2"));
    }
    assert!(matches!(
        Key::new(&TsigKey { name: "a b".to_owned(), ..config }, b"Zm9v"),
        Err(KeyError::Name(_))
    ));
    let shown = format!("{:?}", ours());
    assert!(shown.contains("acme.key.") && !shown.contains("secret"), "{shown}");
}
