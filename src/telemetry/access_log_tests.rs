//! Tests of the access log line.

use super::{Line, METHOD_BYTES, TARGET_BYTES, TEXT_BYTES, Times, put_time, write_json};
use serde_json::{Value, json};

fn sample() -> Line<'static> {
    Line {
        time_unix_ms: 1_735_689_599_042,
        client: "[2001:db8::1]:4711".parse().unwrap(),
        worker: 3,
        site: Some("*.example.org"),
        host: b"a.example.org",
        method: b"GET",
        target: b"/x?y=1",
        version: "HTTP/1.1",
        status: 200,
        upstream: Some("127.0.0.1:8000"),
        bytes_in: 120,
        bytes_out: u64::MAX,
        times: Times { head: Some(7), connect: None, first_byte: Some(1_234_567), total: Some(u32::MAX) },
        tls: Some("TLSv1.3"),
        resumed: true,
        attempts: 1,
        end: "complete",
        reason: None,
        at: None,
    }
}

fn parse(line: &Line<'_>) -> Value {
    let mut out = Vec::new();
    write_json(line, &mut out);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(out.last(), Some(&b'\n'));
    assert!(out[..out.len() - 1].iter().all(|byte| (b' '..=b'~').contains(byte)));
    serde_json::from_slice(&out).unwrap()
}

/// The text that a reader of the line must see for these bytes.
fn shown(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    for chunk in bytes[..bytes.len().min(bytes_max)].utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| char::from(*byte)));
    }
    if bytes.len() > bytes_max {
        text.push_str(&format!("... +{} bytes", bytes.len() - bytes_max));
    }
    text
}

#[test]
fn a_line_in_full() {
    let mut out = b"kept".to_vec();
    write_json(&sample(), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "kept{\"time\":\"2024-12-31T23:59:59.042Z\",\"client\":\"[2001:db8::1]:4711\",\"worker\":3,\
         \"site\":\"*.example.org\",\"host\":\"a.example.org\",\"method\":\"GET\",\"target\":\"/x?y=1\",\
         \"version\":\"HTTP/1.1\",\"status\":200,\"upstream\":\"127.0.0.1:8000\",\"bytes_in\":120,\
         \"bytes_out\":18446744073709551615,\
         \"ms\":{\"head\":0.007,\"connect\":null,\"first_byte\":1234.567,\"total\":4294967.295},\
         \"tls\":\"TLSv1.3\",\"resumed\":true,\"attempts\":1,\"end\":\"complete\",\"reason\":null,\
         \"at\":null}\n"
    );
}

#[test]
fn absent_values_are_null_and_a_refusal_has_its_place() {
    let line = Line {
        site: None,
        upstream: None,
        tls: None,
        times: Times::default(),
        reason: Some("bare LF"),
        at: Some(17),
        ..sample()
    };
    let value = parse(&line);
    for key in ["site", "upstream", "tls"] {
        assert_eq!(value[key], Value::Null);
    }
    assert_eq!(value["ms"], json!({"head": null, "connect": null, "first_byte": null, "total": null}));
    assert_eq!((&value["reason"], &value["at"]), (&json!("bare LF"), &json!(17)));
}

#[test]
fn hostile_bytes_stay_inside_their_string() {
    let cases: [&[u8]; 9] = [
        b"\",\"status\":200,\"x\":\"",
        b"/\r\n{\"time\":1}\n",
        b"\x1b[2J\x07\x7f\x00",
        b"\\\\\\\"\\",
        "\u{85}\u{9b}\u{2028}\u{202e}\u{feff}".as_bytes(),
        "gr\u{f6}\u{df}e \u{1f512}".as_bytes(),
        b"\xff\xfe\xc3\x28\xed\xa0\x80\xf0\x9f",
        b"\xc0\xaf\xf8\x88\x80\x80\x80",
        b"",
    ];
    for bytes in cases {
        let value = parse(&Line { target: bytes, host: bytes, ..sample() });
        assert_eq!(value["target"], shown(bytes, TARGET_BYTES));
        assert_eq!(value["host"], shown(bytes, TEXT_BYTES));
        assert_eq!(value["status"], 200);
    }
}

#[test]
fn long_fields_are_cut_with_a_mark() {
    let long = vec![b'a'; TARGET_BYTES + 5];
    let value = parse(&Line { target: &long, host: &long, method: &long, ..sample() });
    assert_eq!(value["target"], format!("{}... +5 bytes", "a".repeat(TARGET_BYTES)));
    assert_eq!(value["method"].as_str().unwrap().find(' '), Some(METHOD_BYTES + 3));
    assert_eq!(value["host"].as_str().unwrap().find(' '), Some(TEXT_BYTES + 3));
    let exact = &long[..TARGET_BYTES];
    assert_eq!(parse(&Line { target: exact, ..sample() })["target"].as_str().unwrap().as_bytes(), exact);
}

#[test]
fn times_are_rfc_3339() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_827_696_789, "2000-02-29T12:34:56.789Z"),
        (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (u64::MAX, "9999-12-31T23:59:59.999Z"),
    ];
    for (ms, text) in cases {
        let mut out = Vec::new();
        put_time(ms, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn a_hundred_thousand_random_lines_come_back_the_same() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let pieces: [&[u8]; 12] = [
        b"\"",
        b"\\",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xe2\x80",
        b"\xe2\x80\xa8",
        b"\xf0\x9f\x94\x92",
        b"/",
        b"a",
        b"\x7f",
    ];
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    for case in 0..100_000 {
        bytes.clear();
        for _ in 0..next() % 24 {
            match next() % 3 {
                0 => bytes.push(next().to_le_bytes()[0]),
                _ => bytes.extend_from_slice(pieces[(next() % 12) as usize]),
            }
        }
        out.clear();
        write_json(&Line { target: &bytes, method: &bytes, ..sample() }, &mut out);
        assert!(out.iter().all(u8::is_ascii));
        let value: Value =
            serde_json::from_slice(&out).unwrap_or_else(|error| panic!("case {case}: {error}"));
        assert_eq!(value["target"], shown(&bytes, TARGET_BYTES), "case {case}");
        assert_eq!(value["method"], shown(&bytes, METHOD_BYTES), "case {case}");
    }
}
