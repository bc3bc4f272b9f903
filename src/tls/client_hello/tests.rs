//! ClientHellos whole, on every prefix and at every split; what is refused; and agreement with rustls on
//! what is accepted.

mod differential;

use super::{ClientHello, HelloError, read};
use crate::limits;
use crate::wire::Parse;

/// Hellos of real clients, with what they offer: see the comment in each file.
const SAMPLES: [&str; 10] = [
    include_str!("../../../tests/data/hello/chrome-shape.txt"),
    include_str!("../../../tests/data/hello/firefox-shape.txt"),
    include_str!("../../../tests/data/hello/curl.txt"),
    include_str!("../../../tests/data/hello/java.txt"),
    include_str!("../../../tests/data/hello/node.txt"),
    include_str!("../../../tests/data/hello/openssl.txt"),
    include_str!("../../../tests/data/hello/openssl-noname.txt"),
    include_str!("../../../tests/data/hello/openssl-tls12.txt"),
    include_str!("../../../tests/data/hello/python.txt"),
    include_str!("../../../tests/data/hello/wget.txt"),
];

/// A sample's record, and its expectations in the words of its file.
fn sample(text: &str) -> (Vec<u8>, String) {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let expected: Vec<_> = lines().filter(|line| line.contains(' ')).collect();
    let digits: Vec<u8> = lines().filter(|line| !line.contains(' ')).flat_map(str::bytes).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    let bytes = digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect();
    (bytes, expected.join("\n"))
}

/// What a hello offers, in the words of the sample files.
fn words(hello: &ClientHello<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let name = hello.server_name().map_or("-".to_owned(), text);
    let alpn: Vec<_> = hello.alpn().map(text).collect();
    let alpn = if hello.offers_alpn() { alpn.join(" ") } else { "-".to_owned() };
    let mut versions = Vec::new();
    versions.extend(hello.offers_tls13().then_some("1.3"));
    versions.extend(hello.offers_tls12().then_some("1.2"));
    let quantum = if hello.key_shares_x25519mlkem768() { "yes" } else { "no" };
    format!("name {name}\nalpn {alpn}\nversions {}\npost-quantum {quantum}", versions.join(" "))
}

fn vec8(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()], content].concat()
}

fn vec16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec16(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vec16(&[&[0], &vec16(name)[..]].concat()))
}

/// A message around a body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

/// Records around a message, cut into fragments of these sizes and one of the rest.
fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut rest = message;
    let mut bytes = Vec::new();
    for size in sizes.iter().copied().chain([usize::MAX]) {
        let (fragment, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        if !fragment.is_empty() {
            bytes.extend_from_slice(&[22, 3, 1]);
            bytes.extend_from_slice(&vec16(fragment));
        }
    }
    bytes
}

/// A body with these fields after version and random.
fn body(session: &[u8], suites: &[u8], compression: &[u8], extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = [&[3, 3][..], &[7; 32], &vec8(session), &vec16(suites), &vec8(compression)].concat();
    body.extend(extensions.map(vec16).unwrap_or_default());
    body
}

/// A whole hello with these extensions.
fn hello(extensions: &[u8]) -> Vec<u8> {
    records(&message(1, &body(&[], &[0x13, 1], &[0], Some(extensions))), &[])
}

fn refused(input: &[u8], error: HelloError) {
    let mut scratch = Vec::new();
    assert_eq!(read(input, &mut scratch).err(), Some(error), "{error}");
    for end in 0..input.len() {
        match read(&input[..end], &mut scratch) {
            Ok(Parse::Partial) => {}
            Ok(Parse::Done { .. }) => panic!("accepted {end} bytes of what is refused with {error}"),
            Err(early) => assert_eq!(early, error, "at {end}"),
        }
    }
}

#[test]
fn samples_are_read_whole_on_every_prefix_and_with_more_behind() {
    for text in SAMPLES {
        let (bytes, expected) = sample(text);
        let mut scratch = Vec::new();
        for end in 0..bytes.len() {
            assert!(matches!(read(&bytes[..end], &mut scratch), Ok(Parse::Partial)), "{end}: {expected}");
        }
        let followed = [&bytes[..], &[20, 3, 3, 0, 1, 1]].concat();
        for input in [&bytes, &followed] {
            let Ok(Parse::Done { value, used }) = read(input, &mut scratch) else { panic!("{expected}") };
            assert_eq!((words(&value), used), (expected.clone(), bytes.len()));
        }
        assert_eq!(scratch.capacity(), 0, "one record is read in place");
    }
}

#[test]
fn samples_are_read_at_every_split_into_two_records() {
    for text in SAMPLES {
        let (bytes, expected) = sample(text);
        let message = &bytes[limits::RECORD_HEADER..];
        let mut scratch = Vec::new();
        for at in 1..message.len() {
            let split = records(message, &[at]);
            assert!(matches!(read(&split[..split.len() - 1], &mut scratch), Ok(Parse::Partial)));
            let Ok(Parse::Done { value, used }) = read(&split, &mut scratch) else { panic!("{at}") };
            assert_eq!((words(&value), used), (expected.clone(), split.len()));
        }
    }
}

#[test]
fn a_hello_may_fill_its_bounds_and_no_more() {
    let (bytes, expected) = sample(SAMPLES[0]);
    let message_bytes = &bytes[limits::RECORD_HEADER..];
    let many = records(message_bytes, &[1; limits::CLIENT_HELLO_RECORDS - 1]);
    let mut scratch = Vec::new();
    let Ok(Parse::Done { value, .. }) = read(&many, &mut scratch) else { panic!("32 records") };
    assert_eq!(words(&value), expected);
    refused(&records(message_bytes, &[1; limits::CLIENT_HELLO_RECORDS]), HelloError::TooManyRecords);

    let room = limits::CLIENT_HELLO_BYTES - body(&[], &[0x13, 1], &[0], Some(&[])).len() - 4;
    let full = message(1, &body(&[], &[0x13, 1], &[0], Some(&extension(21, &vec![0; room]))));
    assert_eq!(full.len(), 4 + limits::CLIENT_HELLO_BYTES);
    let full = records(&full, &[limits::RECORD_PLAINTEXT]);
    assert!(full.len() <= limits::RECEIVE_BUFFER, "the largest hello fits in a receive buffer");
    assert!(matches!(read(&full, &mut scratch), Ok(Parse::Done { .. })));
    let over = message(1, &vec![0; limits::CLIENT_HELLO_BYTES + 1]);
    refused(&records(&over, &[4])[..9], HelloError::TooLarge);

    let extensions = |count: u16| (0..count).flat_map(|i| extension(0x8000 + i, &[])).collect::<Vec<_>>();
    let most = limits::CLIENT_HELLO_EXTENSIONS as u16;
    assert!(matches!(read(&hello(&extensions(most)), &mut scratch), Ok(Parse::Done { .. })));
    refused(&hello(&extensions(most + 1)), HelloError::TooManyExtensions);
}

#[test]
fn lists_are_given_as_sent() {
    let list = |values: &[u16]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>();
    let extensions = [
        extension(10, &vec16(&list(&[0xeaea, 29, 23]))),
        extension(13, &vec16(&list(&[0x0403, 0x0804]))),
        extension(43, &vec8(&list(&[0x0a0a, 0x0304]))),
        extension(51, &vec16(&[&list(&[29])[..], &vec16(&[5]), &list(&[0x11ec]), &vec16(&[6, 7])].concat())),
    ];
    let bytes =
        records(&message(1, &body(&[9; 32], &[0x13, 1, 0xc0, 0x2b], &[0], Some(&extensions.concat()))), &[]);
    let mut scratch = Vec::new();
    let Ok(Parse::Done { value, .. }) = read(&bytes, &mut scratch) else { panic!() };
    assert_eq!(value.supported_groups().collect::<Vec<_>>(), [0xeaea, 29, 23]);
    assert_eq!(value.signature_schemes().collect::<Vec<_>>(), [0x0403, 0x0804]);
    assert_eq!(value.cipher_suites().collect::<Vec<_>>(), [0x1301, 0xc02b]);
    assert_eq!(value.key_share_groups().collect::<Vec<_>>(), [29, 0x11ec]);
    assert!(value.key_shares_x25519mlkem768());
    assert_eq!((value.session_id(), value.random()), (&[9; 32][..], &[7; 32][..]));
    assert!(value.offers_tls13() && !value.offers_tls12(), "supported_versions is all that counts");
}

#[test]
fn a_hello_without_extensions_offers_tls12_by_its_version() {
    let bytes = records(&message(1, &body(&[], &[0, 0x2f], &[1, 0], None)), &[]);
    let mut scratch = Vec::new();
    let Ok(Parse::Done { value, .. }) = read(&bytes, &mut scratch) else { panic!() };
    assert!(value.offers_tls12() && !value.offers_tls13() && value.server_name().is_none());
    let mut old = bytes.clone();
    old[limits::RECORD_HEADER + 5] = 2;
    let Ok(Parse::Done { value, .. }) = read(&old, &mut scratch) else { panic!() };
    assert!(!value.offers_tls12(), "TLS 1.1 at most");
}

#[test]
fn what_is_not_tls_is_told_apart() {
    let http = HelloError::NotTls { looks_like_http: true };
    let other = HelloError::NotTls { looks_like_http: false };
    for request in [&b"GET / HTTP/1.1\r\n"[..], b"POST /", b"PRI * HTTP/2.0\r\n", b"M-SEARCH *"] {
        refused(request, http);
    }
    for junk in [&b"\x80\x2e\x01\x03\x01"[..], b"\0", b"SSH-2.0-x", b"get / ", b"{", b" ", b"\x05\x01\0"] {
        refused(junk, other);
    }
    refused(&[b'A'; 18], other);
    refused(&[22, 2], other);
    assert_eq!((http.alert(), http.reason()), (None, "plain-http-on-tls-port"));
}

#[test]
fn records_rfc_8446_section_5_1() {
    refused(&[21, 3, 3, 0, 2, 2, 40], HelloError::UnexpectedRecord);
    refused(&[23, 3], HelloError::UnexpectedRecord);
    refused(&[22, 3, 1, 0, 0], HelloError::EmptyRecord);
    refused(&[22, 3, 1, 0x40, 1], HelloError::OversizedRecord);
    refused(&[22, 3, 1, 0, 4, 2], HelloError::NotClientHello);
    let whole = message(1, &body(&[], &[0x13, 1], &[0], None));
    refused(&records(&[&whole[..], &[1]].concat(), &[]), HelloError::TrailingMessage);
    refused(&records(&[&whole[..], &[1]].concat(), &[20]), HelloError::TrailingMessage);
    let interleaved = [&records(&whole, &[20])[..25], &[20, 3, 3, 0, 1, 1]].concat();
    refused(&interleaved, HelloError::UnexpectedRecord);
}

#[test]
fn fields_rfc_8446_section_4_1_2() {
    let refused_body = |body: &[u8], error| refused(&records(&message(1, body), &[]), error);
    let good = body(&[], &[0x13, 1], &[0], None);
    for cut in 0..good.len() {
        refused_body(&good[..cut], HelloError::Malformed);
    }
    refused_body(&[&good[..], &[0]].concat(), HelloError::Malformed);
    refused_body(&[&good[..], &[0, 0, 0]].concat(), HelloError::Malformed);
    refused_body(&body(&[0; 33], &[0x13, 1], &[0], None), HelloError::SessionIdTooLong);
    refused_body(&body(&[], &[], &[0], None), HelloError::BadCipherSuites);
    refused_body(&body(&[], &[0x13, 1, 0], &[0], None), HelloError::BadCipherSuites);
    refused_body(&body(&[], &[0x13, 1], &[1], None), HelloError::BadCompression);
    let tls13 = extension(43, &[2, 3, 4]);
    refused_body(&body(&[], &[0x13, 1], &[0, 1], Some(&tls13)), HelloError::BadCompression);
    refused_body(&body(&[], &[0x13, 1], &[0], Some(&[0, 1, 0, 1])), HelloError::Malformed);
}

#[test]
fn extensions_rfc_8446_section_4_2() {
    let twice = |kind| [extension(kind, &[]), extension(kind, &[])].concat();
    refused(&hello(&twice(23)), HelloError::DuplicateExtension);
    refused(&hello(&twice(0x0a0a)), HelloError::DuplicateExtension);
    refused(&hello(&twice(63)), HelloError::DuplicateExtension);
    refused(&hello(&twice(64)), HelloError::DuplicateExtension);
    let early = [extension(41, &[0]), extension(23, &[])].concat();
    refused(&hello(&early), HelloError::PreSharedKeyNotLast);
    for (kind, contents) in [
        (10, &[&[][..], &[0], &[0, 0], &[0, 1, 1], &[0, 2, 0, 29, 0], &[0, 3, 0, 29, 0]][..]),
        (13, &[&[][..], &[0, 0], &[0, 1, 4], &[0, 4, 4, 3]]),
        (43, &[&[][..], &[0], &[1, 3], &[2, 3, 4, 0], &[3, 3, 4, 3]]),
        (16, &[&[][..], &[0, 0], &[0, 1, 0], &[0, 3, 3, b'h', b'2'], &[0, 3, 2, b'h', b'2', 0]]),
        (51, &[&[][..], &[0, 1, 0], &[0, 4, 0, 29, 0, 0], &[0, 5, 0, 29, 0, 2, 1]]),
    ] {
        for content in contents {
            refused(&hello(&extension(kind, content)), HelloError::BadExtension);
        }
    }
}

#[test]
fn server_names_rfc_6066_section_3() {
    let mut scratch = Vec::new();
    for name in [&b"App.Example"[..], b"app.example.", b"a_b.example"] {
        let bytes = hello(&server_name(name));
        let Ok(Parse::Done { value, .. }) = read(&bytes, &mut scratch) else { panic!() };
        assert_eq!(value.server_name(), Some(name));
    }
    for address in [&b"192.0.2.1"[..], b"::1", b"2001:db8::1", b"::ffff:192.0.2.1"] {
        refused(&hello(&server_name(address)), HelloError::ServerNameIsAddress);
    }
    for bad in [&b"good.example\0.evil.example"[..], b"a..b", b"*.example", b"a b", b"1.2.3", &[b'a'; 300]] {
        refused(&hello(&server_name(bad)), HelloError::ServerNameGrammar);
    }
    refused(&hello(&server_name(b"")), HelloError::BadServerName);
    refused(&hello(&extension(0, &[])), HelloError::BadExtension);
    refused(&hello(&extension(0, &[0, 0])), HelloError::BadServerName);
    refused(&hello(&extension(0, &[0, 4, 1, 0, 1, b'a'])), HelloError::BadServerName);
    refused(&hello(&extension(0, &[0, 4, 0, 0, 2, b'a'])), HelloError::BadServerName);
    let two = [&[0][..], &vec16(b"a"), &[0], &vec16(b"b")].concat();
    refused(&hello(&extension(0, &vec16(&two))), HelloError::BadServerName);
    refused(&hello(&extension(0, &[0, 4, 0, 0, 1, b'a', 0])), HelloError::BadExtension);
}

#[test]
fn every_refusal_has_its_own_reason_and_tls_ones_an_alert() {
    let all = [
        HelloError::UnexpectedRecord,
        HelloError::EmptyRecord,
        HelloError::OversizedRecord,
        HelloError::TooManyRecords,
        HelloError::NotClientHello,
        HelloError::TooLarge,
        HelloError::TrailingMessage,
        HelloError::Malformed,
        HelloError::SessionIdTooLong,
        HelloError::BadCipherSuites,
        HelloError::BadCompression,
        HelloError::DuplicateExtension,
        HelloError::TooManyExtensions,
        HelloError::PreSharedKeyNotLast,
        HelloError::BadServerName,
        HelloError::ServerNameIsAddress,
        HelloError::ServerNameGrammar,
        HelloError::BadExtension,
    ];
    let reasons: std::collections::HashSet<_> = all.iter().map(|error| error.reason()).collect();
    assert_eq!(reasons.len(), all.len());
    assert!(all.iter().all(|error| error.alert().is_some()));
}
