//! The chunked transfer coding (RFC 9112 §7.1), read by a state table. Strict throughout: hexadecimal
//! digits only, CRLF only, extensions checked and dropped, and nothing but CRLF after the data.
//!
//! ```text
//!  chunk      = size [ ";" extension ] CRLF data CRLF        last-chunk = "0" … CRLF *( trailer CRLF ) CRLF
//!
//!  Size --hex--> Digits --CR--> LineCr --LF--> ( size > 0 ) Data --all read--> DataEnd --CR--> DataCr
//!   ^              |  ^hex        ^                |                                             |
//!   |              ';'            CR               |  ( size = 0 )                               |
//!   |              v              |                v                                             |
//!   |          Semicolon -token-> Extension     Trailer --CR--> LastCr --LF--> Done              |
//!   |            (a quoted string inside: Quoted, and Escaped after a backslash)                 |
//!   |                                             | ^                                            |
//!   |                                        other| LF                                           |
//!   |                                             v |                                            |
//!   |                                   TrailerLine --CR--> TrailerCr                            |
//!   +------------------------------------------------------------------------------------LF------+
//! ```

use super::body::BodyStep;
use super::error::BodyError;
use super::scan::{TOKEN, VALUE, is};
use super::trailers;
use crate::limits::{CHUNK_EXTENSIONS_BYTES, CHUNK_LINE_BYTES, TRAILER_BYTES};
use crate::wire::Span;

/// Digits of a chunk size: sixteen fill 64 bits, so no size overflows. Leading zeros count.
const SIZE_DIGITS: usize = 16;

/// Decodes one chunked body.
#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    /// In `Digits` to `LineCr` the size so far, in `Data` the bytes of the chunk that are still to come.
    size: u64,
    digits: usize,
    /// Bytes of extensions on this chunk's line, and on all lines.
    line_extension: usize,
    extensions: usize,
    /// Raw trailer section while it is read; after `Done` the fields that may be passed on.
    trailers: Vec<u8>,
}

/// Where in a chunked body the next byte stands. What a byte does is decided by the state it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Digits,
    Semicolon,
    Extension,
    Quoted,
    Escaped,
    LineCr,
    Data,
    DataEnd,
    DataCr,
    Trailer,
    TrailerLine,
    TrailerCr,
    LastCr,
    Done,
}

/// What a byte is to the table.
#[derive(Clone, Copy, Debug)]
enum Class {
    Hex,
    Semicolon,
    Quote,
    Backslash,
    Blank,
    Cr,
    Lf,
    Token,
    Other,
    Control,
}

/// A cell of the table.
#[derive(Clone, Copy, Debug)]
enum Step {
    To(State),
    Refuse(BodyError),
}

use BodyError::{BadChunkDataEnd, BadChunkExtension, BadChunkLineEnd, BadChunkSize};
use State::{
    Data, DataCr, DataEnd, Digits, Done, Escaped, Extension, LastCr, LineCr, Quoted, Semicolon, Size,
    Trailer, TrailerCr, TrailerLine,
};

const fn to(state: State) -> Step {
    Step::To(state)
}

const SIZE: Step = Step::Refuse(BadChunkSize);
const EXT: Step = Step::Refuse(BadChunkExtension);
const LINE: Step = Step::Refuse(BadChunkLineEnd);
const DATA: Step = Step::Refuse(BadChunkDataEnd);

/// One row per state that reads bytes one by one, one column per class, in the order of their enums.
/// `Data` and `Done` read none; a byte there would be a defect and is refused.
#[rustfmt::skip]
const TABLE: [[Step; 10]; 15] = [
    //                Hex              Semicolon        Quote            Backslash        Blank            Cr               Lf               Token            Other            Control
    /* Size        */ [to(Digits),      SIZE,            SIZE,            SIZE,            SIZE,            SIZE,            LINE,            SIZE,            SIZE,            SIZE],
    // RFC 9112 §7.1.1 lets blanks stand before ";" and be ignored; we refuse them, as readers differ.
    /* Digits      */ [to(Digits),      to(Semicolon),   SIZE,            SIZE,            SIZE,            to(LineCr),      LINE,            SIZE,            SIZE,            SIZE],
    /* Semicolon   */ [to(Extension),   EXT,             EXT,             EXT,             EXT,             EXT,             LINE,            to(Extension),   EXT,             EXT],
    /* Extension   */ [to(Extension),   to(Extension),   to(Quoted),      EXT,             to(Extension),   to(LineCr),      LINE,            to(Extension),   to(Extension),   EXT],
    /* Quoted      */ [to(Quoted),      to(Quoted),      to(Extension),   to(Escaped),     to(Quoted),      EXT,             LINE,            to(Quoted),      to(Quoted),      EXT],
    /* Escaped     */ [to(Quoted),      to(Quoted),      to(Quoted),      to(Quoted),      to(Quoted),      EXT,             LINE,            to(Quoted),      to(Quoted),      EXT],
    /* LineCr      */ [LINE,            LINE,            LINE,            LINE,            LINE,            LINE,            to(Data),        LINE,            LINE,            LINE],
    /* Data        */ [DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA],
    /* DataEnd     */ [DATA,            DATA,            DATA,            DATA,            DATA,            to(DataCr),      DATA,            DATA,            DATA,            DATA],
    /* DataCr      */ [DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            to(Size),        DATA,            DATA,            DATA],
    /* Trailer     */ [to(TrailerLine), to(TrailerLine), to(TrailerLine), to(TrailerLine), to(TrailerLine), to(LastCr),      LINE,            to(TrailerLine), to(TrailerLine), to(TrailerLine)],
    /* TrailerLine */ [to(TrailerLine), to(TrailerLine), to(TrailerLine), to(TrailerLine), to(TrailerLine), to(TrailerCr),   LINE,            to(TrailerLine), to(TrailerLine), to(TrailerLine)],
    /* TrailerCr   */ [LINE,            LINE,            LINE,            LINE,            LINE,            LINE,            to(Trailer),     LINE,            LINE,            LINE],
    /* LastCr      */ [LINE,            LINE,            LINE,            LINE,            LINE,            LINE,            to(Done),        LINE,            LINE,            LINE],
    /* Done        */ [DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA,            DATA],
];

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: Size, size: 0, digits: 0, line_extension: 0, extensions: 0, trailers: Vec::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == Done
    }

    /// The trailer fields that may be passed on, once done.
    pub(super) fn trailers(&self) -> &[u8] {
        if self.is_done() { &self.trailers } else { b"" }
    }

    /// Reads up to the end of one piece of data, and the framing around it as far as it is there.
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<BodyStep, BodyError> {
        let mut used = 0;
        let mut data = Span::default();
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            match self.state {
                Done => break,
                Data if !data.is_empty() => break,
                Data => {
                    let len = usize::try_from(self.size).map_or(rest.len(), |size| size.min(rest.len()));
                    data = Span::between(used, used + len);
                    self.size -= len as u64;
                    used += len;
                    if self.size == 0 {
                        self.state = DataEnd;
                    }
                }
                _ => {
                    self.framing(rest)?;
                    used += 1;
                }
            }
        }
        Ok(BodyStep { used, data, end: self.is_done() })
    }

    /// Reads the first byte of `rest`, which is framing.
    fn framing(&mut self, rest: &[u8]) -> Result<(), BodyError> {
        let byte = rest.first().copied().unwrap_or_default();
        let row = TABLE.get(self.state as usize);
        let next = match row.and_then(|row| row.get(class(byte) as usize)) {
            Some(Step::To(next)) => *next,
            Some(Step::Refuse(error)) => return Err(*error),
            None => return Err(BadChunkSize),
        };
        self.state = next;
        match next {
            Digits => self.digit(byte),
            Semicolon | Extension | Quoted | Escaped => self.extension(),
            Size => {
                (self.size, self.digits, self.line_extension) = (0, 0, 0);
                Ok(())
            }
            // The line of the last chunk is followed by the trailer section.
            Data if self.size == 0 => {
                self.state = Trailer;
                Ok(())
            }
            Trailer | TrailerLine | TrailerCr => self.keep(byte),
            Done => trailers::filter(&mut self.trailers),
            LineCr | Data | DataEnd | DataCr | LastCr => Ok(()),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<(), BodyError> {
        self.digits += 1;
        // Sixteen digits fit in 64 bits (CVE-2021-32714 was the overflow of such a sum).
        if self.digits > SIZE_DIGITS {
            return Err(BodyError::ChunkSizeTooLong);
        }
        let digit = (byte as char).to_digit(16).unwrap_or_default();
        self.size = self.size << 4 | u64::from(digit);
        // Readers with signed sizes take anything from 2^63 on for a negative one.
        if i64::try_from(self.size).is_err() {
            return Err(BodyError::ChunkSizeTooLong);
        }
        Ok(())
    }

    fn extension(&mut self) -> Result<(), BodyError> {
        self.line_extension += 1;
        self.extensions += 1;
        // RFC 9112 §7.1.1: the total length of extensions ought to be limited.
        if self.digits + self.line_extension > CHUNK_LINE_BYTES || self.extensions > CHUNK_EXTENSIONS_BYTES {
            return Err(BodyError::ChunkExtensionTooLong);
        }
        Ok(())
    }

    fn keep(&mut self, byte: u8) -> Result<(), BodyError> {
        if self.trailers.len() == TRAILER_BYTES {
            return Err(BodyError::TrailersTooLarge);
        }
        self.trailers.push(byte);
        Ok(())
    }
}

fn class(byte: u8) -> Class {
    match byte {
        b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => Class::Hex,
        b';' => Class::Semicolon,
        b'"' => Class::Quote,
        b'\\' => Class::Backslash,
        b' ' | b'\t' => Class::Blank,
        b'\r' => Class::Cr,
        b'\n' => Class::Lf,
        _ if is(TOKEN, byte) => Class::Token,
        _ if is(VALUE, byte) => Class::Other,
        _ => Class::Control,
    }
}

/// Decodes `data` in one piece and in pieces of every size up to nine, and asserts that all agree.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let decode = |piece: usize| {
        let mut body = Chunked::new();
        let (mut out, mut at) = (Vec::new(), 0);
        let mut error = None;
        for end in (0..data.len()).step_by(piece).map(|start| data.len().min(start + piece)) {
            while error.is_none() && at < end && !body.is_done() {
                let input = data.get(at..end).unwrap_or_default();
                match body.advance(input) {
                    Ok(step) => {
                        assert!(step.used > 0 && step.data.end() <= step.used, "progress, data inside");
                        out.extend_from_slice(step.data.of(input));
                        at += step.used;
                    }
                    Err(refusal) => error = Some(refusal),
                }
            }
        }
        let position = if error.is_none() { at } else { 0 };
        (out, error, position, body.trailers().to_vec())
    };
    let whole = decode(data.len().max(1));
    for piece in 1..=9 {
        let pieces = decode(piece);
        // A refusal later in a piece hides data that came before it in the same piece.
        let agree = if whole.1.is_some() { pieces.1 == whole.1 } else { pieces == whole };
        assert!(agree, "in pieces of {piece}: {:?}, whole: {:?}", pieces.1, whole.1);
    }
}

#[cfg(test)]
mod tests {
    use super::State::{
        self, Data, DataCr, DataEnd, Digits, Done, Escaped, Extension, LastCr, LineCr, Quoted, Semicolon,
        Size, Trailer, TrailerCr, TrailerLine,
    };
    use super::{Step, TABLE, class, fuzz};

    const ROWS: [State; 15] = [
        Size,
        Digits,
        Semicolon,
        Extension,
        Quoted,
        Escaped,
        LineCr,
        Data,
        DataEnd,
        DataCr,
        Trailer,
        TrailerLine,
        TrailerCr,
        LastCr,
        Done,
    ];

    /// A change of behaviour is a change of this picture.
    #[test]
    fn the_table_is_this_one() {
        assert!(ROWS.iter().enumerate().all(|(row, &state)| row == state as usize), "rows in order");
        let mut picture = String::new();
        for (state, row) in ROWS.into_iter().zip(TABLE) {
            picture.push_str(&format!("{:<12}| ", format!("{state:?}")));
            let cells = row.map(|cell| match cell {
                Step::To(state) => format!("{state:?}"),
                Step::Refuse(error) => format!("!{}", error.reason().trim_start_matches("chunk-bad-")),
            });
            picture.push_str(cells.map(|cell| format!("{cell:<12}")).concat().trim_end());
            picture.push('\n');
        }
        let want = include_str!("../../tests/data/http1/chunked.table");
        assert_eq!(picture, want, "\n{picture}");
    }

    #[test]
    fn every_byte_has_the_class_that_rfc_9112_7_1_gives_it() {
        let classes = |byte: u8| format!("{:?}", class(byte));
        for (bytes, name) in [
            (&b"0189abcdefABCDEF"[..], "Hex"),
            (b";", "Semicolon"),
            (b" \t", "Blank"),
            (b"\r", "Cr"),
            (b"\n", "Lf"),
            (b"gGxX-_", "Token"),
            (b"=/(\x80\xff", "Other"),
            (b"\"", "Quote"),
            (b"\\", "Backslash"),
            (b"\0\x0b\x0c\x7f", "Control"),
        ] {
            assert!(bytes.iter().all(|&byte| classes(byte) == name), "{name}");
        }
    }

    #[test]
    fn pieces_of_any_size_decode_alike() {
        for body in [
            &b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\nrest"[..],
            b"0\r\n\r\n",
            b"5\r\nhelloX",
            b"5;\r\n",
            b"0\r\nbad trailer\r\n\r\n",
        ] {
            fuzz(body);
            for cut in 0..body.len() {
                fuzz(&body[..cut]);
            }
        }
    }
}
