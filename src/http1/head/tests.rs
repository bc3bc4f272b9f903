//! Tests of heads that need more than text data: bounds, linear work, and agreement with httparse.

use super::{HeadError, HeadErrorKind, HeadLimits, HeadReader};
use crate::http::field::Name;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http1::damage::{Mutator, REQUESTS, RESPONSES};
use crate::limits::{FIELDS, HEAD_BYTES, TARGET_BYTES};
use crate::wire::Parse;

const LIMITS: HeadLimits = HeadLimits { head: HEAD_BYTES, target: TARGET_BYTES, fields: FIELDS };

fn read(input: &[u8], limits: &HeadLimits) -> Result<Option<(usize, RequestHead)>, HeadError> {
    let mut head = RequestHead::default();
    Ok(match HeadReader::default().request(input, limits, &mut head)? {
        Parse::Partial => None,
        Parse::Done { used, .. } => Some((used, head)),
    })
}

fn kind(input: &[u8], limits: &HeadLimits) -> (HeadErrorKind, usize) {
    let error = read(input, limits).expect_err("a refusal");
    (error.kind, error.at)
}

#[test]
fn a_head_is_read_as_places() {
    let input = b"\r\nPUT /x?y HTTP/1.0\r\nHost:a\r\nX-Y: \t b c\t \r\nEmpty:\r\n\r\nbody";
    let (used, head) = read(input, &LIMITS).unwrap().unwrap();
    assert_eq!(&input[used..], b"body");
    assert_eq!((head.method_name.of(input), head.target.of(input)), (&b"PUT"[..], &b"/x?y"[..]));
    assert_eq!(head.version, Version::Http10);
    let lines: Vec<_> = head.fields.iter().map(|l| (l.known, l.name.of(input), l.value.of(input))).collect();
    let want: [(Name, &[u8], &[u8]); 3] =
        [(Name::Host, b"Host", b"a"), (Name::Other, b"X-Y", b"b c"), (Name::Other, b"Empty", b"")];
    assert_eq!(lines, want);
}

#[test]
fn limits_are_exact() {
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(n - 1)).into_bytes();
    assert!(read(&target(TARGET_BYTES), &LIMITS).is_ok());
    let too_long = (HeadErrorKind::TargetTooLong, 4 + TARGET_BYTES);
    assert_eq!(kind(&target(TARGET_BYTES + 1), &LIMITS), too_long);
    assert_eq!(kind(&target(TARGET_BYTES + 1)[..4 + TARGET_BYTES + 1], &LIMITS), too_long);

    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(n)).into_bytes();
    assert_eq!(read(&fields(FIELDS), &LIMITS).unwrap().unwrap().1.fields.len(), FIELDS);
    assert_eq!(kind(&fields(FIELDS + 1), &LIMITS), (HeadErrorKind::TooManyFields, 16 + 5 * FIELDS));

    let head = |n: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(n - 23)).into_bytes();
    assert_eq!(head(HEAD_BYTES).len(), HEAD_BYTES);
    assert_eq!(read(&head(HEAD_BYTES), &LIMITS).unwrap().unwrap().0, HEAD_BYTES);
    let too_large = (HeadErrorKind::HeadTooLarge, HEAD_BYTES);
    assert_eq!(kind(&head(HEAD_BYTES + 1), &LIMITS), too_large);
    assert_eq!(kind(&head(HEAD_BYTES + 1)[..HEAD_BYTES], &LIMITS), too_large);
    assert!(read(&head(HEAD_BYTES + 1)[..HEAD_BYTES - 1], &LIMITS).unwrap().is_none());
}

#[test]
fn statuses_follow_from_the_kind() {
    let status = |kind: HeadErrorKind| kind.status();
    assert_eq!(status(HeadErrorKind::TargetTooLong), 414);
    assert_eq!(status(HeadErrorKind::TooManyFields), 431);
    assert_eq!(status(HeadErrorKind::HeadTooLarge), 431);
    assert_eq!(status(HeadErrorKind::UnsupportedVersion), 505);
    assert_eq!(status(HeadErrorKind::BareLf), 400);
}

#[test]
fn one_byte_at_a_time_costs_few_attempts() {
    let mut reader = HeadReader::default();
    let head = format!("GET / HTTP/1.1\r\n{}", "a: bbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(1024)).into_bytes();
    let worked: usize =
        (1..=head.len()).filter(|&len| reader.is_worth_an_attempt(&head[..len], usize::MAX)).sum();
    assert!(worked < 2 * head.len(), "attempts read {worked} bytes of a head of {}", head.len());
}

#[test]
fn a_reader_that_is_done_reads_the_next_head() {
    let (mut reader, mut head) = (HeadReader::default(), RequestHead::default());
    let first = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    for len in 0..first.len() {
        assert_eq!(reader.request(&first[..len], &LIMITS, &mut head), Ok(Parse::Partial));
    }
    assert_eq!(reader.request(first, &LIMITS, &mut head), Ok(Parse::Done { value: (), used: first.len() }));
    let next = b"GET / HTTP/1.1\r\n\r\n";
    assert_eq!(reader.request(next, &LIMITS, &mut head), Ok(Parse::Done { value: (), used: next.len() }));
}

/// Whatever we accept httparse accepts, with the same parts.
#[test]
fn differential_requests_httparse() {
    let mut mutator = Mutator(0x1234_5678_9abc_def1);
    let (mut accepted, mut head) = (0, RequestHead::default());
    for round in 0..200_000 {
        let mut bytes = REQUESTS[round % REQUESTS.len()].to_vec();
        mutator.damage(&mut bytes);
        let Ok(Parse::Done { used, .. }) = HeadReader::default().request(&bytes, &LIMITS, &mut head) else {
            continue;
        };
        accepted += 1;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut other = httparse::Request::new(&mut fields);
        let text = bytes.escape_ascii();
        assert_eq!(other.parse(&bytes), Ok(httparse::Status::Complete(used)), "{text}");
        assert_eq!(other.method.unwrap().as_bytes(), head.method_name.of(&bytes), "{text}");
        assert_eq!(other.path.unwrap().as_bytes(), head.target.of(&bytes), "{text}");
        assert_eq!(other.version == Some(1), head.version == Version::Http11, "{text}");
        assert_same_fields(&bytes, other.headers, &head.fields);
    }
    assert!(accepted > 20_000, "the generator leaves enough heads whole: {accepted}");
}

#[test]
fn differential_responses_httparse() {
    let mut mutator = Mutator(0x0fed_cba9_8765_4321);
    let (mut accepted, mut head) = (0, ResponseHead::default());
    for round in 0..100_000 {
        let mut bytes = RESPONSES[round % RESPONSES.len()].to_vec();
        mutator.damage(&mut bytes);
        let Ok(Parse::Done { used, .. }) = HeadReader::default().response(&bytes, &LIMITS, &mut head) else {
            continue;
        };
        accepted += 1;
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut other = httparse::Response::new(&mut fields);
        let text = bytes.escape_ascii();
        assert_eq!(other.parse(&bytes), Ok(httparse::Status::Complete(used)), "{text}");
        assert_eq!(other.code, Some(head.status), "{text}");
        let reason = head.reason.of(&bytes);
        // httparse gives an empty reason when it has bytes above 0x7f.
        assert!(!reason.is_ascii() || other.reason.unwrap().as_bytes() == reason, "{text}");
        assert_same_fields(&bytes, other.headers, &head.fields);
    }
    assert!(accepted > 10_000, "the generator leaves enough heads whole: {accepted}");
}

fn assert_same_fields(bytes: &[u8], theirs: &[httparse::Header<'_>], ours: &[crate::http::head::FieldLine]) {
    assert_eq!(theirs.len(), ours.len());
    for (their, our) in theirs.iter().zip(ours) {
        assert_eq!(their.name.as_bytes(), our.name.of(bytes));
        assert_eq!(their.value, our.value.of(bytes), "{}", bytes.escape_ascii());
        assert_eq!(our.known, Name::of(our.name.of(bytes)));
    }
}
