//! Reading a body by its framing (RFC 9112 §6, §7). Data is never copied: a step names the part of the
//! caller's bytes that is data, and how many bytes were used up.

use super::chunked::Chunked;
use super::framing::Framing;
use crate::wire::Span;

pub use super::error::BodyError;

/// What one call to [`BodyReader::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyStep {
    /// Bytes of the input that were read. 0 only if the input is empty or the body has ended.
    pub used: usize,
    /// Body data within the first `used` bytes; perhaps empty.
    pub data: Span,
    /// Whether the body ends here; what follows in the input is not part of it.
    pub end: bool,
}

/// Reads one body. The deadline between pieces is the caller's business.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Bytes to come; 0 is the end.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Closed,
}

impl BodyReader {
    /// A reader at the first byte after the head.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::new()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Reads from `input`, the bytes after those used so far: at most one piece of data, with the chunk
    /// framing before and after it. Call again with the rest until `used` is 0 or `end`.
    ///
    /// # Errors
    /// If the chunk framing is broken. Nothing may be read from the connection any more.
    pub fn next(&mut self, input: &[u8]) -> Result<BodyStep, BodyError> {
        match &mut self.state {
            State::Chunked(chunked) => chunked.advance(input),
            State::Length(_) | State::UntilClose | State::Closed => {
                let used = self.take_verbatim(input.len());
                Ok(BodyStep { used, data: Span::between(0, used), end: self.is_done() })
            }
        }
    }

    /// The peer closed its side.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] if the body is not complete (RFC 9112 §8).
    pub fn finish(&mut self) -> Result<(), BodyError> {
        if matches!(self.state, State::UntilClose) {
            self.state = State::Closed;
        }
        if self.is_done() { Ok(()) } else { Err(BodyError::Truncated) }
    }

    /// Whether the whole body was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Length(left) => *left == 0,
            State::Chunked(chunked) => chunked.is_done(),
            State::UntilClose => false,
            State::Closed => true,
        }
    }

    /// Bytes still to come, where the framing tells.
    #[must_use]
    pub fn remaining_length(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Closed => Some(0),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// How many of the next `available` bytes are body data as they stand; they count as read, so that
    /// they can be passed on without being looked at. Always 0 for chunked bodies, which have framing.
    pub fn take_verbatim(&mut self, available: usize) -> usize {
        match &mut self.state {
            State::Length(left) => {
                let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
                *left -= taken as u64;
                taken
            }
            State::UntilClose => available,
            State::Chunked(_) | State::Closed => 0,
        }
    }

    /// The trailer fields that may be passed on, as `name: value CRLF` lines; empty before the end and
    /// for bodies that are not chunked.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        match &self.state {
            State::Chunked(chunked) => chunked.trailers(),
            State::Length(_) | State::UntilClose | State::Closed => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyError, BodyReader, BodyStep};
    use crate::http1::framing::Framing;
    use crate::limits::{CHUNK_EXTENSIONS_BYTES, CHUNK_LINE_BYTES, TRAILER_BYTES};
    use crate::wire::Span;

    fn decode(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut reader = BodyReader::new(Framing::Chunked);
        let (mut data, mut used) = (Vec::new(), 0);
        loop {
            let rest = &bytes[used..];
            let step = reader.next(rest)?;
            data.extend_from_slice(step.data.of(rest));
            used += step.used;
            if step.end || step.used == 0 {
                return Ok((data, used, step.end));
            }
        }
    }

    #[test]
    fn a_length_is_counted_down_and_what_follows_is_left() {
        let mut reader = BodyReader::new(Framing::Length(5));
        assert_eq!(reader.next(b""), Ok(BodyStep { used: 0, data: Span::default(), end: false }));
        assert_eq!(reader.next(b"ab"), Ok(BodyStep { used: 2, data: Span::between(0, 2), end: false }));
        assert_eq!((reader.remaining_length(), reader.finish()), (Some(3), Err(BodyError::Truncated)));
        assert_eq!(reader.take_verbatim(1), 1);
        assert_eq!(reader.next(b"deGET"), Ok(BodyStep { used: 2, data: Span::between(0, 2), end: true }));
        assert_eq!((reader.is_done(), reader.take_verbatim(9), reader.finish()), (true, 0, Ok(())));
    }

    #[test]
    fn bodies_without_bytes_are_done_at_once() {
        for framing in [Framing::None, Framing::Length(0)] {
            let mut reader = BodyReader::new(framing);
            assert!(reader.is_done() && reader.trailers().is_empty());
            assert_eq!(reader.next(b"x"), Ok(BodyStep { used: 0, data: Span::default(), end: true }));
        }
    }

    #[test]
    fn until_close_ends_only_by_closing() {
        let mut reader = BodyReader::new(Framing::UntilClose);
        assert_eq!(reader.next(b"abc").unwrap().used, 3);
        assert_eq!((reader.is_done(), reader.remaining_length()), (false, None));
        assert_eq!((reader.finish(), reader.is_done(), reader.take_verbatim(1)), (Ok(()), true, 0));
    }

    #[test]
    fn one_step_takes_a_chunk_with_the_framing_around_it() {
        let mut reader = BodyReader::new(Framing::Chunked);
        let input = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nGET";
        let step = reader.next(input).unwrap();
        assert_eq!((step.used, step.data.of(input), step.end), (13, &b"abc"[..], false));
        let step = reader.next(&input[13..]).unwrap();
        assert_eq!((step.used, step.data.of(&input[13..]), step.end), (9, &b"de"[..], true));
        assert_eq!((reader.finish(), reader.take_verbatim(3)), (Ok(()), 0));
    }

    #[test]
    fn a_chunked_body_cut_anywhere_is_truncated_rfc_9112_8() {
        let body = b"3\r\nabc\r\n0\r\nA: b\r\n\r\n";
        for cut in 0..body.len() {
            let mut reader = BodyReader::new(Framing::Chunked);
            let mut used = 0;
            while used < cut {
                used += reader.next(&body[used..cut]).unwrap().used;
            }
            assert_eq!((reader.finish(), reader.trailers()), (Err(BodyError::Truncated), &b""[..]));
        }
    }

    #[test]
    fn bounds_hold_and_their_edges_pass() {
        let size = |digits: usize| format!("{}1\r\na\r\n0\r\n\r\n", "0".repeat(digits - 1));
        assert_eq!(decode(size(16).as_bytes()).unwrap().0, b"a");
        assert_eq!(decode(size(17).as_bytes()), Err(BodyError::ChunkSizeTooLong));
        let line = |bytes: usize| format!("1;{}\r\na\r\n", "x".repeat(bytes - 2));
        assert_eq!(decode(line(CHUNK_LINE_BYTES).as_bytes()).unwrap().0, b"a");
        assert_eq!(decode(line(CHUNK_LINE_BYTES + 1).as_bytes()), Err(BodyError::ChunkExtensionTooLong));
        let lines = line(129).repeat(CHUNK_EXTENSIONS_BYTES / 128);
        assert!(decode(lines.as_bytes()).is_ok());
        assert_eq!(decode((lines + "1;x").as_bytes()), Err(BodyError::ChunkExtensionTooLong));
        let trailer = |bytes: usize| format!("0\r\na: {}\r\n\r\n", "b".repeat(bytes - 5));
        assert!(decode(trailer(TRAILER_BYTES).as_bytes()).unwrap().2);
        assert_eq!(decode(trailer(TRAILER_BYTES + 1).as_bytes()), Err(BodyError::TrailersTooLarge));
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let mut reader = BodyReader::new(Framing::Chunked);
        assert_eq!(reader.next(b"7fffffffffffffff\r\nabc").unwrap().data.len(), 3);
        assert_eq!(decode(b"8000000000000000\r\nabc"), Err(BodyError::ChunkSizeTooLong));
        assert!(decode(b"5;a=\"b;\\\"\r\n\"\r\nhello\r\n0\r\n\r\n").is_err(), "CRLF within quotes");
        assert!(decode(b"5;a=\"b;\\\"c\";d\r\nhello\r\n0\r\n\r\n").is_ok());
    }
}
