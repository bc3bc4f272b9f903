//! The oracle: a second, strict and independent reading of HTTP/1.1 streams (with httparse as a third).

use std::collections::VecDeque;

/// Which messages a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

/// A head, names in lower case.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Method, target, version; or version, status, reason.
    pub start: [String; 3],
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The value of the only field called `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Status of a response.
    pub fn status(&self) -> u16 {
        self.start[1].parse().unwrap_or(0)
    }
}

/// A part of a stream.
#[derive(Debug)]
pub enum Item {
    Head(Head),
    Data(Vec<u8>),
    /// The message is whole; its trailer fields.
    End(Vec<(String, String)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Tunnel,
}

/// Reads one direction of a connection.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
    buffer: Vec<u8>,
    state: State,
    ended: bool,
    /// Whether the request of each response to come was HEAD.
    pub heads: VecDeque<bool>,
}

impl Reader {
    pub fn new(kind: Kind) -> Self {
        Self { kind, buffer: Vec::new(), state: State::Head, ended: false, heads: VecDeque::new() }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether no message is under way.
    pub fn is_between(&self) -> bool {
        self.state == State::Head && self.buffer.is_empty() && !self.ended
    }

    /// Whether bytes that are no part of a message follow.
    pub fn becomes_tunnel(&mut self) {
        self.state = State::Tunnel;
        self.ended = false;
    }

    /// Whether the message ends with the connection.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The next part; `None` if more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Item>, String> {
        if std::mem::take(&mut self.ended) {
            self.state = State::Head;
            return Ok(Some(Item::End(Vec::new())));
        }
        match self.state {
            State::Head => self.head(),
            State::Length(left) => Ok(self.data(left, |left| if left == 0 { None } else { Some(State::Length(left)) })),
            State::ChunkData(left) => {
                Ok(self.data(left, |left| Some(if left == 0 { State::ChunkEnd } else { State::ChunkData(left) })))
            }
            State::UntilClose | State::Tunnel => {
                let state = self.state;
                Ok(self.data(u64::MAX, |_| Some(state)))
            }
            State::ChunkEnd => match self.line()? {
                Some(line) if line.is_empty() => {
                    self.state = State::ChunkSize;
                    self.next()
                }
                Some(line) => Err(format!("{line:?} after a chunk")),
                None => Ok(None),
            },
            State::ChunkSize => self.chunk_size(),
            State::Trailers => self.trailers(),
        }
    }

    fn data(&mut self, left: u64, then: impl Fn(u64) -> Option<State>) -> Option<Item> {
        let taken = (self.buffer.len() as u64).min(left) as usize;
        if taken == 0 {
            return None;
        }
        let data: Vec<u8> = self.buffer.drain(..taken).collect();
        match then(left - taken as u64) {
            Some(state) => self.state = state,
            None => self.ended = true,
        }
        Some(Item::Data(data))
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
        let line = String::from_utf8(line).map_err(|_| "a line is not text".to_owned())?;
        if line.bytes().any(|byte| byte < 0x20 && byte != b'\t') {
            return Err(format!("a control byte in {line:?}"));
        }
        Ok(Some(line))
    }

    fn chunk_size(&mut self) -> Result<Option<Item>, String> {
        let Some(line) = self.line()? else { return Ok(None) };
        let plain = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(&line, 16).ok().filter(|_| plain);
        let size = size.ok_or_else(|| format!("{line:?} is no chunk size"))?;
        self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
        self.next()
    }

    fn trailers(&mut self) -> Result<Option<Item>, String> {
        let end = if self.buffer.starts_with(b"\r\n") {
            Some(0)
        } else {
            self.buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 2)
        };
        let Some(end) = end else { return Ok(None) };
        let section: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
        let text = String::from_utf8(section).map_err(|_| "trailers are not text".to_owned())?;
        self.state = State::Head;
        let fields = text.split_terminator("\r\n").map(field).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Item::End(fields)))
    }

    fn head(&mut self) -> Result<Option<Item>, String> {
        let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let bytes: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8(bytes.clone()).map_err(|_| "a head is not text".to_owned())?;
        let mut lines = text.strip_suffix("\r\n\r\n").unwrap_or(&text).split("\r\n");
        let start: Vec<&str> = lines.next().unwrap_or("").splitn(3, ' ').collect();
        let [first, second, third] = start.as_slice() else {
            return Err(format!("a start line of {start:?}"));
        };
        let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
        let head = Head { start: [first.to_string(), second.to_string(), third.to_string()], fields };
        self.third_opinion(&bytes, &head)?;
        self.state = State::Head;
        self.frame(&head)?;
        Ok(Some(Item::Head(head)))
    }

    fn third_opinion(&self, bytes: &[u8], head: &Head) -> Result<(), String> {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let count = if self.kind == Kind::Request {
            let mut parsed = httparse::Request::new(&mut fields);
            parsed.parse(bytes).map(|status| (status, parsed.headers.len()))
        } else {
            let mut parsed = httparse::Response::new(&mut fields);
            parsed.parse(bytes).map(|status| (status, parsed.headers.len()))
        };
        match count {
            Ok((httparse::Status::Complete(used), count)) if used == bytes.len() && count == head.fields.len() => Ok(()),
            other => Err(format!("httparse reads {other:?} where {head:?} stands")),
        }
    }

    /// Decides how the body ends.
    fn frame(&mut self, head: &Head) -> Result<(), String> {
        let all = |name: &str| head.fields.iter().filter(|(own, _)| own == name).count();
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        if lengths + codings > 1 {
            return Err(format!("two framings in {head:?}"));
        }
        let length = match head.field("content-length") {
            Some(value) => Some(value.parse::<u64>().map_err(|_| format!("length {value:?}"))?),
            None => None,
        };
        if head.field("transfer-encoding").is_some_and(|value| value != "chunked") {
            return Err(format!("coding in {head:?}"));
        }
        let chunked = codings == 1;
        if self.kind == Kind::Request {
            let [_, target, version] = &head.start;
            if version != "HTTP/1.1" || all("host") != 1 || !target.starts_with('/') {
                return Err(format!("not as a proxy writes it: {head:?}"));
            }
        } else {
            let [version, status, _] = &head.start;
            if version != "HTTP/1.1" || status.len() != 3 {
                return Err(format!("not as a proxy writes it: {head:?}"));
            }
            let status = head.status();
            if status == 101 {
                self.state = State::Tunnel;
                return Ok(());
            }
            if status < 200 {
                return Ok(());
            }
            let bodiless = self.heads.pop_front().unwrap_or(false) || matches!(status, 204 | 304);
            if bodiless {
                self.ended = true;
                return Ok(());
            }
            if !chunked && length.is_none() {
                self.state = State::UntilClose;
                return Ok(());
            }
        }
        match length {
            _ if chunked => self.state = State::ChunkSize,
            Some(length) if length > 0 => self.state = State::Length(length),
            _ => self.ended = true,
        }
        Ok(())
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|byte| byte < 0x20) {
        return Err(format!("not a field line: {line:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}
