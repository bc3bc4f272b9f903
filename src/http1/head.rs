//! Reading a head (RFC 9112 §2 to §5) as spans over the bytes it came in. One pass, one reading: what is
//! not exactly a head is refused with the place of the bad byte. What a head means is not decided here
//! but in [`request`](super::request) and [`response`](super::response).

use super::scan::{self, Scan, Task, VALUE};
use crate::http::field::Name;
use crate::http::head::{FieldLine, RequestHead, ResponseHead, Version};
use crate::http::method::Method;
use crate::limits::LEADING_EMPTY_LINES;
use crate::wire::{Parse, Span};

pub use super::error::{HeadError, HeadErrorKind};

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the first one to the end of the empty line.
    pub head: usize,
    /// Bytes of the request-target.
    pub target: usize,
    /// Field lines.
    pub fields: usize,
}

/// Reads heads from a growing input.
///
/// The head given to a call is scratch until `Done`: another one may be given next time. What the reader
/// remembers is only how far it has looked, so that a peer that sends one byte at a time costs linear
/// work: a new attempt is made when the head's end (or a line end that is wrong) has come, or when the
/// input has doubled since the last attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadReader {
    /// Bytes that were searched for the end of the head.
    searched: usize,
    /// Length of the input at the last whole attempt.
    attempted: usize,
}

impl HeadReader {
    /// Reads a request head from `input`, which starts with its first byte and has grown since the last
    /// call. Spans are relative to the first byte of `input`; after `Done` the reader is ready for the
    /// next head. Empty lines before the request line count as part of the head (RFC 9112 §2.2).
    ///
    /// # Errors
    /// If the bytes cannot become a request head within `limits`.
    pub fn request(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<Parse<()>, HeadError> {
        self.read(input, limits, |input| RequestTask { input, limits, head })
    }

    /// Reads a response head; otherwise like [`HeadReader::request`].
    ///
    /// # Errors
    /// If the bytes cannot become a response head within `limits`.
    pub fn response(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        head: &mut ResponseHead,
    ) -> Result<Parse<()>, HeadError> {
        self.read(input, limits, |input| ResponseTask { input, limits, head })
    }

    fn read<'a, T: Task<Output = Result<usize, Halt>>>(
        &mut self,
        input: &'a [u8],
        limits: &HeadLimits,
        task: impl FnOnce(&'a [u8]) -> T,
    ) -> Result<Parse<()>, HeadError> {
        let window = input.get(..limits.head).unwrap_or(input);
        if !self.is_worth_an_attempt(window, limits.head) {
            return Ok(Parse::Partial);
        }
        match scan::run(task(window)) {
            Ok(used) => {
                *self = Self::default();
                Ok(Parse::Done { value: (), used })
            }
            Err(Halt::Refused(error)) => Err(error),
            Err(Halt::Partial) if window.len() == limits.head => {
                Err(HeadError { kind: HeadErrorKind::HeadTooLarge, at: limits.head })
            }
            Err(Halt::Partial) => Ok(Parse::Partial),
        }
    }

    fn is_worth_an_attempt(&mut self, window: &[u8], head_max: usize) -> bool {
        let decisive = self.attempted == 0
            || window.len() / 2 >= self.attempted
            || window.len() == head_max
            || has_decisive_line_end(window, self.searched);
        self.searched = window.len();
        if decisive {
            self.attempted = window.len();
        }
        decisive
    }
}

/// Whether the bytes from `from` have an LF that ends the head, or one without CR, which is refused.
fn has_decisive_line_end(window: &[u8], from: usize) -> bool {
    let fresh = window.get(from..).unwrap_or_default();
    let is_decisive = |at: usize| {
        let before = window.get(..at).unwrap_or_default();
        !before.ends_with(b"\r") || before.ends_with(b"\n\r")
    };
    fresh.iter().enumerate().any(|(at, &byte)| byte == b'\n' && is_decisive(from + at))
}

/// Reads field lines and the empty line after them, the whole of `section`, as a trailer section has them.
pub(super) fn read_field_section(
    section: &[u8],
    fields_max: usize,
    fields: &mut Vec<FieldLine>,
) -> Result<(), HeadErrorKind> {
    fields.clear();
    match scan::run(SectionTask { input: section, fields_max, fields }) {
        Ok(_) => Ok(()),
        Err(Halt::Partial) => Err(HeadErrorKind::MissingColon),
        Err(Halt::Refused(error)) => Err(error.kind),
    }
}

/// Why a pass over the input ended before the end of the head.
enum Halt {
    Partial,
    Refused(HeadError),
}

#[cold]
fn refused<T>(kind: HeadErrorKind, at: usize) -> Result<T, Halt> {
    Err(Halt::Refused(HeadError { kind, at }))
}

struct RequestTask<'a> {
    input: &'a [u8],
    limits: &'a HeadLimits,
    head: &'a mut RequestHead,
}

impl Task for RequestTask<'_> {
    type Output = Result<usize, Halt>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Self::Output {
        let Self { input, limits, head } = self;
        head.fields.clear();
        let start = skip_empty_lines(input)?;
        let fields = request_line(scan, input, start, limits.target, head)?;
        field_lines(scan, input, fields, limits.fields, &mut head.fields)
    }
}

struct ResponseTask<'a> {
    input: &'a [u8],
    limits: &'a HeadLimits,
    head: &'a mut ResponseHead,
}

impl Task for ResponseTask<'_> {
    type Output = Result<usize, Halt>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Self::Output {
        let Self { input, limits, head } = self;
        head.fields.clear();
        let fields = status_line(scan, input, head)?;
        field_lines(scan, input, fields, limits.fields, &mut head.fields)
    }
}

struct SectionTask<'a> {
    input: &'a [u8],
    fields_max: usize,
    fields: &'a mut Vec<FieldLine>,
}

impl Task for SectionTask<'_> {
    type Output = Result<usize, Halt>;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> Self::Output {
        field_lines(scan, self.input, 0, self.fields_max, self.fields)
    }
}

/// RFC 9112 §2.2: a server should ignore at least one empty line before the request line.
#[inline(always)]
fn skip_empty_lines(input: &[u8]) -> Result<usize, Halt> {
    let mut at = 0;
    while input.get(at) == Some(&b'\r') {
        if at / 2 == LEADING_EMPTY_LINES {
            return refused(HeadErrorKind::TooManyEmptyLines, at);
        }
        at = line_feed(input, at)?;
    }
    Ok(at)
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3); answers where the field lines start.
#[inline(always)]
fn request_line<S: Scan>(
    scan: S,
    input: &[u8],
    start: usize,
    target_max: usize,
    head: &mut RequestHead,
) -> Result<usize, Halt> {
    let method_end = scan.token_end(input, start);
    match input.get(method_end) {
        None => return Err(Halt::Partial),
        Some(b' ') if method_end > start => {}
        Some(b'\n') if method_end == start => return refused(HeadErrorKind::BareLf, method_end),
        Some(_) => return refused(HeadErrorKind::BadMethod, method_end),
    }
    head.method_name = Span::between(start, method_end);
    head.method = Method::of(head.method_name.of(input));

    let target = method_end + 1;
    let reach = input.get(..target.saturating_add(target_max).saturating_add(1)).unwrap_or(input);
    let target_end = scan.target_end(reach, target);
    if target_end - target > target_max {
        return refused(HeadErrorKind::TargetTooLong, target + target_max);
    }
    match input.get(target_end) {
        None => return Err(Halt::Partial),
        Some(b' ') if target_end > target => {}
        Some(b'\r' | b'\n') if target_end > target => {
            return refused(HeadErrorKind::MissingVersion, target_end);
        }
        Some(_) => return refused(HeadErrorKind::BadTarget, target_end),
    }
    head.target = Span::between(target, target_end);

    let at = target_end + 1;
    if let Some(b"HTTP/1.1\r\n") = input.get(at..).and_then(<[u8]>::first_chunk) {
        head.version = Version::Http11;
        return Ok(at + 10);
    }
    head.version = version(input, at)?;
    let end = at + VERSION_BYTES;
    match input.get(end) {
        None => Err(Halt::Partial),
        Some(b'\r') => line_feed(input, end),
        Some(b'\n') => refused(HeadErrorKind::BareLf, end),
        Some(_) => refused(HeadErrorKind::BadLineEnd, end),
    }
}

/// `HTTP-version SP status-code SP [ reason-phrase ] CRLF` (RFC 9112 §4). The blank before an empty
/// reason may be missing: servers leave it away, and nothing depends on it.
#[inline(always)]
fn status_line<S: Scan>(scan: S, input: &[u8], head: &mut ResponseHead) -> Result<usize, Halt> {
    head.version = version(input, 0)?;
    match input.get(VERSION_BYTES) {
        None => return Err(Halt::Partial),
        Some(b' ') => {}
        Some(_) => return refused(HeadErrorKind::BadVersion, VERSION_BYTES),
    }
    let code = VERSION_BYTES + 1;
    head.status = status(input, code)?;
    let code_end = code + 3;
    let reason = match input.get(code_end) {
        None => return Err(Halt::Partial),
        Some(b' ') => code_end + 1,
        Some(b'\r' | b'\n') => code_end,
        Some(_) => return refused(HeadErrorKind::BadStatus, code_end),
    };
    let end = scan.value_end(input, reason);
    head.reason = Span::between(reason, end);
    match input.get(end) {
        Some(b'\r' | b'\n') | None => end_of_line(input, end),
        Some(_) => refused(HeadErrorKind::ControlInReason, end),
    }
}

fn status(input: &[u8], at: usize) -> Result<u16, Halt> {
    let mut status = 0;
    for place in at..at + 3 {
        match input.get(place) {
            None => return Err(Halt::Partial),
            // A code starts at 100: the first digit is the class of the response (RFC 9110 §15).
            Some(b'0') if place == at => return refused(HeadErrorKind::BadStatus, place),
            Some(digit @ b'0'..=b'9') => status = status * 10 + u16::from(digit - b'0'),
            Some(_) => return refused(HeadErrorKind::BadStatus, place),
        }
    }
    Ok(status)
}

const VERSION_BYTES: usize = 8;

/// `"HTTP" "/" DIGIT "." DIGIT` (RFC 9112 §2.3), in upper case only.
fn version(input: &[u8], at: usize) -> Result<Version, Halt> {
    let rest = input.get(at..).unwrap_or_default();
    for (place, (&byte, &form)) in rest.iter().zip(b"HTTP/0.0").enumerate() {
        let is_right = if form == b'0' { byte.is_ascii_digit() } else { byte == form };
        if !is_right {
            return refused(HeadErrorKind::BadVersion, at + place);
        }
    }
    match rest.first_chunk::<VERSION_BYTES>() {
        None => Err(Halt::Partial),
        Some(b"HTTP/1.1") => Ok(Version::Http11),
        Some(b"HTTP/1.0") => Ok(Version::Http10),
        Some(_) => refused(HeadErrorKind::UnsupportedVersion, at + 5),
    }
}

/// `*( field-name ":" OWS field-value OWS CRLF ) CRLF` (RFC 9112 §5); answers the end of the head.
#[inline(always)]
fn field_lines<S: Scan>(
    scan: S,
    input: &[u8],
    start: usize,
    fields_max: usize,
    fields: &mut Vec<FieldLine>,
) -> Result<usize, Halt> {
    let mut line = start;
    loop {
        // A name has no control, so the line's first one ends the value. Searching it from the line's start,
        // not from the value's, lets the processor do both searches at once.
        let end = scan.value_end(input, line);
        let name_end = scan.token_end(input, line);
        if input.get(name_end) != Some(&b':') || name_end == line || fields.len() >= fields_max {
            return no_field_line(input, line, name_end, fields.len(), fields_max);
        }
        let mut value = name_end + 1;
        while let Some(b' ' | b'\t') = input.get(value) {
            value += 1;
        }
        let Some(b"\r\n") = input.get(end..).and_then(<[u8]>::first_chunk) else {
            return bad_value_end(input, end);
        };
        let value_end = end - blanks_at_end(input.get(value..end).unwrap_or_default());
        let name = Span::between(line, name_end);
        let known = Name::of(input.get(line..name_end).unwrap_or_default());
        fields.push(FieldLine { known, name, value: Span::between(value, value_end) });
        line = end + 2;
    }
}

#[inline(always)]
fn blanks_at_end(value: &[u8]) -> usize {
    match value.last() {
        Some(b' ' | b'\t') => value.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count(),
        _ => 0,
    }
}

/// The line at `line` is not a field line that may be kept: the head's end, or something wrong.
#[inline(never)]
fn no_field_line(
    input: &[u8],
    line: usize,
    name_end: usize,
    fields: usize,
    fields_max: usize,
) -> Result<usize, Halt> {
    match input.get(line) {
        None => return Err(Halt::Partial),
        Some(b'\r') => return line_feed(input, line),
        Some(b'\n') => return refused(HeadErrorKind::BareLf, line),
        // RFC 9112 §2.2 and §5.2: a server refuses both; a proxy refuses a folded response, too.
        Some(b' ' | b'\t') if fields == 0 => return refused(HeadErrorKind::LeadingBlank, line),
        Some(b' ' | b'\t') => return refused(HeadErrorKind::ObsFold, line),
        Some(_) if fields >= fields_max => return refused(HeadErrorKind::TooManyFields, line),
        Some(_) => {}
    }
    match input.get(name_end) {
        None => Err(Halt::Partial),
        Some(b':') => refused(HeadErrorKind::EmptyName, line),
        // RFC 9112 §5.1: no whitespace between name and colon.
        Some(b' ' | b'\t') => refused(HeadErrorKind::BlankInName, name_end),
        Some(b'\r' | b'\n') => refused(HeadErrorKind::MissingColon, name_end),
        Some(_) => refused(HeadErrorKind::BadName, name_end),
    }
}

#[cold]
fn bad_value_end(input: &[u8], end: usize) -> Result<usize, Halt> {
    match input.get(end) {
        Some(b'\r' | b'\n') | None => end_of_line(input, end),
        Some(_) => refused(HeadErrorKind::ControlInValue, end),
    }
}

/// `at` is where CRLF should stand; answers the place after it.
#[inline(always)]
fn end_of_line(input: &[u8], at: usize) -> Result<usize, Halt> {
    match input.get(at) {
        None => Err(Halt::Partial),
        Some(b'\n') => refused(HeadErrorKind::BareLf, at),
        Some(_) => line_feed(input, at),
    }
}

/// `at` is a CR; answers the place after its LF (RFC 9112 §2.2: a bare CR is refused).
#[inline(always)]
fn line_feed(input: &[u8], at: usize) -> Result<usize, Halt> {
    match input.get(at + 1) {
        None => Err(Halt::Partial),
        Some(b'\n') => Ok(at + 2),
        Some(_) => refused(HeadErrorKind::BareCr, at),
    }
}

/// Whether `value` may be written as a field value (RFC 9110 §5.5): no control but HTAB.
#[must_use]
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| scan::is(VALUE, byte))
}

/// Reads `data` whole and byte by byte, and asserts that both agree and that every span is what it says.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let limits = HeadLimits { head: 1024, target: 256, fields: 16 };
    let (mut head, mut scratch) = (RequestHead::default(), RequestHead::default());
    let whole = HeadReader::default().request(data, &limits, &mut head);
    let mut reader = HeadReader::default();
    let mut pieces = Ok(Parse::Partial);
    for end in 0..=data.len() {
        pieces = reader.request(data.get(..end).unwrap_or_default(), &limits, &mut scratch);
        if pieces != Ok(Parse::Partial) {
            break;
        }
    }
    let is_later = pieces == Ok(Parse::Partial) && whole.is_err();
    assert!(pieces == whole || is_later, "{pieces:?} in pieces, {whole:?} whole");
    if let Ok(Parse::Done { used, .. }) = whole {
        assert!(data.get(..used).is_some_and(|head| head.ends_with(b"\r\n\r\n")), "a head ends so");
        assert!(head.fields.len() <= limits.fields && scan::is_token(head.method_name.of(data)));
        for line in &head.fields {
            assert!(scan::is_token(line.name.of(data)) && is_field_value(line.value.of(data)));
        }
    }
}

#[cfg(test)]
mod tests;
