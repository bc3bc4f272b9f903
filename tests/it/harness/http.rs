//! A small strict reader of HTTP/1.1 messages, written for the tests so that the proxy is not judged by
//! its own parser.

use std::io::{self, Read};

/// Name and value of field lines, in the order they came, names in the case they came in.
pub type Fields = Vec<(String, String)>;

/// The start line and fields of a message, as they came.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Start line without its CRLF.
    pub start: String,
    /// Field lines.
    pub fields: Fields,
}

impl Head {
    /// The only value of field `name`; panics if it occurs twice.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} occurs {} times: {self:?}", all.len());
        all.first().copied()
    }

    /// Every value of field `name`, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The status code of a response head.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// Whether the comma list `name` holds `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).iter().flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the body is in chunks; any other transfer coding panics.
    pub fn chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|coding| {
            assert_eq!(coding, "chunked", "only one canonical coding may be sent");
            true
        })
    }

    /// The announced length of the body.
    pub fn length(&self) -> Option<u64> {
        self.get("content-length").map(|v| {
            assert!(!v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()), "Content-Length: {v:?}");
            v.parse().unwrap()
        })
    }
}

/// Reads messages from a stream, byte-exactly.
pub struct Reader<S> {
    /// What is read from.
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S: Read> Reader<S> {
    /// Over `stream`, with nothing read yet.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Bytes read from the stream that belong to no message read so far.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads once more; `UnexpectedEof` if the stream has ended.
    pub fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        let n = self.stream.read(&mut piece)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "ended in the middle of a message"));
        }
        self.buffer.extend_from_slice(&piece[..n]);
        Ok(())
    }

    /// The next `length` bytes.
    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The next line, without its CRLF.
    pub fn line(&mut self) -> io::Result<String> {
        let end = loop {
            match self.buffer.windows(2).position(|w| w == b"\r\n") {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
        if line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(invalid(&format!("control byte in line {:?}", String::from_utf8_lossy(&line))));
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// The next head.
    pub fn head(&mut self) -> io::Result<Head> {
        let start = self.line()?;
        Ok(Head { start, fields: self.fields()? })
    }

    /// Field lines up to and including the empty line.
    pub fn fields(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                return Err(invalid(&line));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// The size of the next chunk; extensions are refused because the proxy never sends any.
    pub fn chunk_size(&mut self) -> io::Result<usize> {
        let line = self.line()?;
        if line.is_empty() || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid(&format!("chunk size {line:?}")));
        }
        usize::from_str_radix(&line, 16).map_err(|e| invalid(&e.to_string()))
    }

    /// A whole chunked body and its trailers.
    pub fn chunks(&mut self) -> io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let size = self.chunk_size()?;
            if size == 0 {
                return Ok((body, self.fields()?));
            }
            body.append(&mut self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err(invalid("chunk data not followed by CRLF"));
            }
        }
    }

    /// Everything up to the end, and how it ended.
    pub fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && e.get_ref().is_some_and(is_ours) => {
                    return (std::mem::take(&mut self.buffer), Ok(()));
                }
                Err(e) => return (std::mem::take(&mut self.buffer), Err(e)),
            }
        }
    }
}

/// Tells the end that `fill` reports from the missing close_notify that rustls reports.
fn is_ours(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.to_string() == "ended in the middle of a message"
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A whole response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Status line and fields.
    pub head: Head,
    /// Content, with transfer coding removed.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Fields,
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// Body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads one response to a request with method `method`, interim ones included.
    pub fn read<S: Read>(reader: &mut Reader<S>, method: &str) -> io::Result<Self> {
        let head = reader.head()?;
        let status = head.status();
        if !(head.start.starts_with("HTTP/1.1 ") && (100..=599).contains(&status)) {
            return Err(invalid(&head.start));
        }
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Self { head, ..Self::default() });
        }
        if head.chunked() {
            assert!(head.length().is_none(), "both framings: {head:?}");
            let (body, trailers) = reader.chunks()?;
            return Ok(Self { head, body, trailers });
        }
        let body = match head.length() {
            Some(length) => reader.exactly(usize::try_from(length).unwrap())?,
            None => {
                let (body, end) = reader.rest();
                end?;
                body
            }
        };
        Ok(Self { head, body, trailers: Vec::new() })
    }
}
