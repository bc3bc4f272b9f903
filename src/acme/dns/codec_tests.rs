//! What is read and written, and every refusal.

use super::{fuzz, read, write};
use crate::acme::dns::message::{
    CLASS_ANY, CLASS_IN, Caa, Data, Header, Kind, Message, MessageError, Opcode, Question, Rcode, Record,
    Signature, Soa, Tsig,
};
use crate::acme::dns::name::{Name, NameError};
use crate::limits;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn record(owner: &str, data: Data) -> Record {
    Record { name: name(owner), class: CLASS_IN, ttl: 60, data }
}

fn whole() -> Message {
    let mut header = Header::request(7, Opcode::Update, true);
    header.rcode = Rcode::Other(15);
    (header.response, header.truncated, header.authoritative) = (true, true, true);
    let tsig = Tsig {
        algorithm: name("hmac-sha256"),
        time: 0x1234_5678_9abc,
        fudge: 300,
        mac: vec![1; 32],
        original_id: 9,
        error: 18,
        other: vec![0, 1, 2, 3, 4, 5],
    };
    let opt = Record { name: Name::root(), class: 1232, ttl: 0, data: Data::Opt(1232) };
    Message {
        header,
        questions: vec![Question { name: name("a.example"), kind: Kind::Caa, class: CLASS_IN }],
        answers: vec![
            record("a.example", Data::A([192, 0, 2, 1].into())),
            record("a.example", Data::Aaaa([1; 16].into())),
            record("a.example", Data::Cname(name("b.example"))),
            record("a.example", Data::Txt(vec![vec![b'x'; 255], Vec::new(), vec![0, 255]])),
            record(
                "a.example",
                Data::Caa(Caa { critical: true, tag: "issue".to_owned(), value: b"ca".to_vec() }),
            ),
        ],
        authorities: vec![
            record("example", Data::Ns(name("ns.example"))),
            record("example", Data::Soa(Soa { primary: name("ns.example"), serial: 5 })),
            record("example", Data::Other { kind: 65280, bytes: vec![1, 2, 3] }),
            Record { class: CLASS_ANY, ttl: 0, ..record("x", Data::Other { kind: 16, bytes: Vec::new() }) },
        ],
        additionals: vec![opt],
        tsig: Some(Signature { key: name("key"), tsig, at: 0 }),
    }
}

#[test]
fn what_is_written_is_read() {
    let mut message = whole();
    let bytes = write(&message);
    let read = read(&bytes).unwrap();
    let at = read.tsig.as_ref().unwrap().at;
    message.tsig.as_mut().unwrap().at = at;
    assert_eq!(read, message);
    assert_eq!(bytes.get(at..at + 5), Some(&b"\x03key\0"[..]));
    fuzz(&bytes);
}

#[test]
fn every_cut_and_every_excess_is_refused() {
    let bytes = write(&whole());
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        fuzz(&bytes[..end]);
    }
    assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(MessageError::Excess));
    assert_eq!(read(&[0; 65_536]), Err(MessageError::Excess));
    assert_eq!(read(&bytes[..5]), Err(MessageError::Cut));
}

#[test]
fn every_changed_byte_is_read_or_refused() {
    let bytes = write(&whole());
    for place in 0..bytes.len() {
        for change in [1, 0x40, 0xc0, 0xff] {
            let mut other = bytes.clone();
            other[place] ^= change;
            fuzz(&other);
        }
    }
}

/// A message with one record in its answers, as bytes after its owner, the root.
fn answer(record: &[u8]) -> Vec<u8> {
    [b"\0\0\0\0\0\0\0\x01\0\0\0\0\0", record].concat()
}

#[test]
fn contents_that_do_not_fill_their_length_are_refused() {
    let cases: [(Kind, &[u8]); 22] = [
        (Kind::A, b"\0\x01\0\x01\0\0\0\0\0\x03\x01\x02\x03"),
        (Kind::A, b"\0\x01\0\x01\0\0\0\0\0\x05\x01\x02\x03\x04\x05"),
        (Kind::Aaaa, b"\0\x1c\0\x01\0\0\0\0\0\x04\x01\x02\x03\x04"),
        (Kind::Ns, b"\0\x02\0\x01\0\0\0\0\0\x02\0\0"),
        (Kind::Ns, b"\0\x02\0\x01\0\0\0\0\0\x02\x01a"),
        (Kind::Cname, b"\0\x05\0\x01\0\0\0\0\0\x02\xc0\x40"),
        (Kind::Cname, b"\0\x05\0\x01\0\0\0\0\0\x04\x01a\0\0"),
        (Kind::Soa, b"\0\x06\0\x01\0\0\0\0\0\x03\0\0\0"),
        (Kind::Soa, b"\0\x06\0\x01\0\0\0\0\0\x15\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (Kind::Soa, b"\0\x06\0\x01\0\0\0\0\0\x01\0"),
        (Kind::Txt, b"\0\x10\0\x01\0\0\0\0\0\x02\x02a"),
        (Kind::Txt, b"\0\x10\0\x01\0\0\0\0\0\x03\x01a\x01"),
        (Kind::Caa, b"\x01\x01\0\x01\0\0\0\0\0\x01\0"),
        (Kind::Caa, b"\x01\x01\0\x01\0\0\0\0\0\x02\0\0"),
        (Kind::Caa, b"\x01\x01\0\x01\0\0\0\0\0\x03\0\x02a"),
        (Kind::Caa, b"\x01\x01\0\x01\0\0\0\0\0\x03\0\x01-"),
        (Kind::Caa, b"\x01\x01\0\x01\0\0\0\0\0\x03\0\x01\xff"),
        (Kind::Tsig, b"\0\xfa\0\xff\0\0\0\0\0\x01\0"),
        (Kind::Tsig, b"\0\xfa\0\xff\0\0\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
        (Kind::Tsig, b"\0\xfa\0\x01\0\0\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (Kind::Tsig, b"\0\xfa\0\xff\0\0\0\x01\0\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (Kind::Tsig, b"\0\xfa\0\xff\0\0\0\0\0\0"),
    ];
    for (kind, bytes) in cases {
        assert_eq!(read(&answer(bytes)), Err(MessageError::Content(kind)), "{bytes:?}");
    }
}

#[test]
fn a_signature_stands_last() {
    let mut bytes = write(&whole());
    let at = read(&bytes).unwrap().tsig.unwrap().at;
    let signature = bytes[at..].to_vec();
    bytes.extend_from_slice(&signature);
    bytes[11] += 1;
    assert_eq!(read(&bytes), Err(MessageError::MisplacedSignature));
    let elsewhere = [&b"\0\0\0\0\0\0\0\x01\0\0\0\0"[..], &signature].concat();
    assert_eq!(read(&elsewhere), Err(MessageError::MisplacedSignature));
}

#[test]
fn records_are_counted() {
    let message = |count: usize| {
        let mut message = whole();
        message.questions.clear();
        message.authorities.clear();
        message.additionals.clear();
        message.tsig = None;
        message.answers = vec![record("a", Data::A([0; 4].into())); count];
        write(&message)
    };
    assert!(read(&message(limits::DNS_RECORDS)).is_ok());
    assert_eq!(read(&message(limits::DNS_RECORDS + 1)), Err(MessageError::TooManyRecords));
    let questions = [&b"\0\0\0\0\xff\xff\0\0\0\0\0\0"[..], &b"\0\0\x01\0\x01".repeat(600)].concat();
    assert_eq!(read(&questions), Err(MessageError::TooManyRecords));
}

#[test]
fn names_in_contents_may_point_back_and_not_into_themselves() {
    let back =
        b"\0\0\0\0\0\x01\0\x01\0\0\0\0\x01a\0\0\x05\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\0\0\x04\x01b\xc0\x0c";
    let message = read(back).unwrap();
    assert_eq!(message.answers, [Record { ttl: 0, ..record("a", Data::Cname(name("b.a"))) }]);
    let mut own = back.to_vec();
    *own.last_mut().unwrap() = 0x1f;
    assert_eq!(read(&own), Err(MessageError::Content(Kind::Cname)));
    let owner = b"\0\0\0\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x05\0\x01";
    assert_eq!(read(owner), Err(MessageError::Name(NameError::Pointer)));
}

#[test]
fn texts_are_split_and_errors_have_texts() {
    assert_eq!(Data::txt(b""), Data::Txt(vec![Vec::new()]));
    assert_eq!(Data::txt(&[b'a'; 256]), Data::Txt(vec![vec![b'a'; 255], vec![b'a']]));
    let errors = [
        MessageError::Cut,
        MessageError::Excess,
        MessageError::Name(NameError::Pointers),
        MessageError::TooManyRecords,
        MessageError::Content(Kind::Txt),
        MessageError::MisplacedSignature,
    ];
    let texts: std::collections::HashSet<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), errors.len());
    assert_eq!(Kind::from(99).to_string(), "TYPE99");
    assert_eq!(
        (Rcode::from(5).to_string(), Rcode::from(14).to_string()),
        ("REFUSED".into(), "RCODE14".into())
    );
}
