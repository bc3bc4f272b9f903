//! One request as one line of JSON. The line is ASCII whatever the client sent: every byte that could
//! end the line, leave its string or steer a terminal is escaped, and each field is bounded.

use std::io::Write;
use std::net::SocketAddr;

/// Bytes of a request-target that are logged; the rest is counted, not shown.
pub const TARGET_BYTES: usize = 2048;
/// Bytes of a method that are logged.
pub const METHOD_BYTES: usize = 32;
/// Bytes of any other text that is logged: a DNS name has at most 253.
pub const TEXT_BYTES: usize = 256;

/// The last instant that RFC 3339 can write, in milliseconds since 1970: its years have four digits.
const TIME_MAX_MS: u64 = 253_402_300_799_999;

/// When the steps of a request ended, in µs since its first byte; `None`: the step did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The head was read whole.
    pub head: Option<u32>,
    /// The upstream connection stood.
    pub connect: Option<u32>,
    /// The first byte of the response came.
    pub first_byte: Option<u32>,
    /// The request was over.
    pub total: Option<u32>,
}

/// What is known about a request when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When the request began, in ms since 1970 UTC.
    pub time_unix_ms: u64,
    /// The client, or who a trusted proxy says it is.
    pub client: SocketAddr,
    /// Number of the worker.
    pub worker: u16,
    /// The site's host pattern.
    pub site: Option<&'a str>,
    /// `Host` or `:authority` as sent.
    pub host: &'a [u8],
    /// Method as sent.
    pub method: &'a [u8],
    /// Request-target as sent.
    pub target: &'a [u8],
    /// Protocol version.
    pub version: &'static str,
    /// Status sent, or the one that says what would have been sent (499: the client left).
    pub status: u16,
    /// The endpoint that answered or failed last.
    pub upstream: Option<&'a str>,
    /// Bytes of head and body from the client.
    pub bytes_in: u64,
    /// Bytes of head and body to the client.
    pub bytes_out: u64,
    /// How long the steps took.
    pub times: Times,
    /// TLS version and cipher suite.
    pub tls: Option<&'static str>,
    /// Whether the TLS session was resumed.
    pub resumed: bool,
    /// Times it was sent to an upstream.
    pub attempts: u32,
    /// Why it ended.
    pub end: &'static str,
    /// Why it was refused or failed.
    pub reason: Option<&'static str>,
    /// Position in the head of the byte that a refusal is about.
    pub at: Option<u32>,
}

/// Appends `line` to `out` as one JSON object and exactly one newline, and allocates nothing else.
pub fn write_json(line: &Line<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    put_time(line.time_unix_ms, out);
    // An address displays as digits, letters and `.:[]%` only.
    let _ = write!(out, "\",\"client\":\"{}\",\"worker\":", line.client);
    put_number(u64::from(line.worker), out);
    put_optional(b",\"site\":", line.site, out);
    put_text(b",\"host\":", line.host, TEXT_BYTES, out);
    put_text(b",\"method\":", line.method, METHOD_BYTES, out);
    put_text(b",\"target\":", line.target, TARGET_BYTES, out);
    put_text(b",\"version\":", line.version.as_bytes(), TEXT_BYTES, out);
    out.extend_from_slice(b",\"status\":");
    put_number(u64::from(line.status), out);
    put_optional(b",\"upstream\":", line.upstream, out);
    out.extend_from_slice(b",\"bytes_in\":");
    put_number(line.bytes_in, out);
    out.extend_from_slice(b",\"bytes_out\":");
    put_number(line.bytes_out, out);
    out.extend_from_slice(b",\"ms\":{");
    put_ms(b"\"head\":", line.times.head, out);
    put_ms(b",\"connect\":", line.times.connect, out);
    put_ms(b",\"first_byte\":", line.times.first_byte, out);
    put_ms(b",\"total\":", line.times.total, out);
    out.push(b'}');
    put_optional(b",\"tls\":", line.tls, out);
    out.extend_from_slice(if line.resumed { b",\"resumed\":true" } else { b",\"resumed\":false" });
    out.extend_from_slice(b",\"attempts\":");
    put_number(u64::from(line.attempts), out);
    put_text(b",\"end\":", line.end.as_bytes(), TEXT_BYTES, out);
    put_optional(b",\"reason\":", line.reason, out);
    out.extend_from_slice(b",\"at\":");
    match line.at {
        Some(at) => put_number(u64::from(at), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}\n");
}

fn put_optional(key: &[u8], text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => put_text(key, text.as_bytes(), TEXT_BYTES, out),
        None => {
            out.extend_from_slice(key);
            out.extend_from_slice(b"null");
        }
    }
}

/// A key and a string of at most `bytes_max` bytes of `text`; what is cut is counted after a space, which
/// none of the logged fields can hold.
fn put_text(key: &[u8], text: &[u8], bytes_max: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.push(b'"');
    match text.split_at_checked(bytes_max) {
        Some((shown, cut)) if !cut.is_empty() => {
            put_escaped(shown, out);
            out.extend_from_slice(b"... +");
            put_number(cut.len() as u64, out);
            out.extend_from_slice(b" bytes");
        }
        _ => put_escaped(text, out),
    }
    out.push(b'"');
}

/// The inside of a JSON string (RFC 8259 §7). Bytes that are not UTF-8 are shown as the Latin-1
/// character of the same number, so that each can be told from the line.
fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while !rest.is_empty() {
            let plain = rest.bytes().take_while(|byte| is_plain(*byte)).count();
            let (run, tail) = rest.split_at_checked(plain).unwrap_or((rest, ""));
            out.extend_from_slice(run.as_bytes());
            let mut characters = tail.chars();
            if let Some(character) = characters.next() {
                put_character(character, out);
            }
            rest = characters.as_str();
        }
        for byte in chunk.invalid() {
            put_unit(u16::from(*byte), out);
        }
    }
}

/// Whether a byte stands for itself: printable ASCII but `"` and `\`. DEL and all else steer terminals or
/// look like other text (bidirectional marks, U+2028), so they are escaped though JSON allows them.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn put_character(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        _ => {
            // Above U+FFFF RFC 8259 §7 asks for a surrogate pair.
            for unit in character.encode_utf16(&mut [0; 2]) {
                put_unit(*unit, out);
            }
        }
    }
}

/// `\uXXXX`.
fn put_unit(unit: u16, out: &mut Vec<u8>) {
    let digit = |shift: u16| {
        let nibble = u8::try_from((unit >> shift) & 0xf).unwrap_or(0);
        if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
    };
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// A duration in µs as milliseconds with three decimals.
fn put_ms(key: &[u8], micros: Option<u32>, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    match micros {
        Some(micros) => {
            put_number(u64::from(micros / 1000), out);
            out.push(b'.');
            put_padded(u64::from(micros % 1000), 3, out);
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// RFC 3339 in UTC with milliseconds; instants beyond the year 9999 show as its last one.
fn put_time(unix_ms: u64, out: &mut Vec<u8>) {
    let ms = unix_ms.min(TIME_MAX_MS);
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (of_day / 3_600_000, 2, b':'),
        (of_day / 60_000 % 60, 2, b':'),
        (of_day / 1000 % 60, 2, b'.'),
        (of_day % 1000, 3, b'Z'),
    ];
    for (value, width, end) in parts {
        put_padded(value, width, out);
        out.push(end);
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years run from March here, so that the leap day
/// is the last one, and 400 of them make 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn put_number(value: u64, out: &mut Vec<u8>) {
    put_padded(value, 1, out);
}

/// Decimal digits, at least `width` of them.
fn put_padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = value;
    while rest > 0 || out.len() < start + width {
        out.push(b'0' + u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
