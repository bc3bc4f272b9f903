//! HTTP/1.1 cases as text: bytes in, events out (`tests/data/http1/*.txt`; `README.md` there tells the
//! form). Each case runs whole, at every two-way split, byte by byte, and on every prefix.
//! `LOCKRING_BLESS=1` writes the events that were seen into the files, to be read before they are kept.

// A test may panic; clippy does not see that helpers of an integration test are one.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lockring::http::head::{FieldLine, RequestHead, ResponseHead};
use lockring::http::method::Method;
use lockring::http1::body::BodyReader;
use lockring::http1::head::{HeadError, HeadLimits, HeadReader};
use lockring::http1::{request, response};
use lockring::limits::{FIELDS, HEAD_BYTES, TARGET_BYTES};
use lockring::wire::Parse;

const LIMITS: HeadLimits = HeadLimits { head: HEAD_BYTES, target: TARGET_BYTES, fields: FIELDS };

#[test]
fn every_case_gives_its_events_however_the_bytes_arrive() {
    let files = data_files();
    assert!(files.len() >= 12, "the data is there");
    let mut failures = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut cases = parse_file(&text);
        assert!(cases.iter().any(|case| !case.is_comment()), "{}: no case", file.display());
        for case in cases.iter_mut().filter(|case| !case.is_comment()) {
            let whole = run(case, &[&case.input]);
            if std::env::var_os("LOCKRING_BLESS").is_some() {
                case.events.clone_from(&whole);
            }
            if case.events != whole {
                let name = file.file_name().unwrap_or_default().display();
                let _ = write!(
                    failures,
                    "{name}: {}\nwanted\n{}\ngot\n{}\n\n",
                    case.title,
                    case.events.join("\n"),
                    whole.join("\n")
                );
            }
            check_pieces(case, &whole);
            check_prefixes(case, &whole);
        }
        if std::env::var_os("LOCKRING_BLESS").is_some() {
            std::fs::write(&file, cases.iter().map(Case::render).collect::<String>()).unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn check_pieces(case: &Case, whole: &[String]) {
    let bytes: Vec<&[u8]> = case.input.chunks(1).collect();
    assert_eq!(run(case, &bytes), whole, "{}: byte by byte", case.title);
    // Every split of short inputs; of long ones some, as they differ in a repeated byte only.
    for cut in (0..case.input.len()).step_by(1 + case.input.len() / 2048) {
        let (head, tail) = case.input.split_at(cut);
        assert_eq!(run(case, &[head, tail]), whole, "{}: split at {cut}", case.title);
    }
}

/// A prefix is refused as the whole is, or waits, having said nothing that the whole does not say.
fn check_prefixes(case: &Case, whole: &[String]) {
    for cut in (0..case.input.len()).step_by(1 + case.input.len() / 2048) {
        let events = run(case, &[&case.input[..cut]]);
        let last = events.last().map(String::as_str).unwrap_or_default();
        if last.starts_with("refuse") || last.starts_with("end") {
            let said = whole.last().map(String::as_str).unwrap_or_default();
            // The bytes after the end grow.
            let is_shorter = last.starts_with("end") && said.starts_with(last.trim_end_matches('"'));
            assert!(last == said || is_shorter, "{}: prefix of {cut}: {last}", case.title);
            continue;
        }
        assert_eq!(last, "more", "{}: prefix of {cut}", case.title);
        for event in events.iter().filter(|event| *event != "more") {
            let start = event.trim_end_matches('"');
            let is_said = whole.iter().any(|said| said.starts_with(start));
            assert!(is_said || hidden_by_refusal(whole), "{}: prefix of {cut}: {event}", case.title);
        }
    }
}

/// Data before a refusal is shown only as far as it was given out before the bad byte came.
fn hidden_by_refusal(whole: &[String]) -> bool {
    whole.last().is_some_and(|last| last.starts_with("refuse body"))
}

// Running a case.

fn run(case: &Case, pieces: &[&[u8]]) -> Vec<String> {
    let mut connection = Connection::new(case.kind);
    for piece in pieces {
        connection.buffer.extend_from_slice(piece);
        if !connection.advance() {
            break;
        }
    }
    connection.finish(case.closes)
}

/// One side of a connection: a head, then its body.
struct Connection {
    kind: Kind,
    buffer: Vec<u8>,
    reader: HeadReader,
    body: Option<BodyReader>,
    data: Vec<u8>,
    events: Vec<String>,
    refused: bool,
}

impl Connection {
    fn new(kind: Kind) -> Self {
        let (reader, body) = (HeadReader::default(), None);
        Self { kind, buffer: Vec::new(), reader, body, data: Vec::new(), events: Vec::new(), refused: false }
    }

    /// Reads what is there; `false` after a refusal.
    fn advance(&mut self) -> bool {
        if self.body.is_none() {
            match self.head() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(refusal) => {
                    self.events.push(refusal);
                    self.refused = true;
                }
            }
        }
        while let (Some(body), false) = (&mut self.body, self.refused) {
            match body.next(&self.buffer) {
                Ok(step) => {
                    self.data.extend_from_slice(step.data.of(&self.buffer));
                    self.buffer.drain(..step.used);
                    if step.used == 0 || step.end {
                        break;
                    }
                }
                Err(error) => {
                    self.refused = true;
                    self.events.push(format!("refuse body {}", error.reason()));
                }
            }
        }
        !self.refused
    }

    fn head(&mut self) -> Result<bool, String> {
        let (used, framing) = match self.kind {
            Kind::Request => {
                let mut head = RequestHead::default();
                let parsed = self.reader.request(&self.buffer, &LIMITS, &mut head).map_err(head_refusal)?;
                let Parse::Done { used, .. } = parsed else { return Ok(false) };
                let asked = request::interpret(&self.buffer, &head).map_err(|error| {
                    format!("refuse {} {} at {}", error.status(), error.reason(), error.at)
                })?;
                describe_request(&self.buffer, &head, &asked, &mut self.events);
                (used, asked.framing)
            }
            Kind::Response(method) => {
                let mut head = ResponseHead::default();
                let parsed = self
                    .reader
                    .response(&self.buffer, &LIMITS, &mut head)
                    .map_err(|error| format!("refuse 502 {} at {}", error.kind.reason(), error.at))?;
                let Parse::Done { used, .. } = parsed else { return Ok(false) };
                let meant = response::interpret(&self.buffer, &head, method).map_err(|error| {
                    format!("refuse {} {} at {}", error.status(), error.reason(), error.at)
                })?;
                describe_response(&self.buffer, &head, &meant, &mut self.events);
                (used, meant.framing)
            }
        };
        self.buffer.drain(..used);
        self.body = Some(BodyReader::new(framing));
        Ok(true)
    }

    fn finish(mut self, closes: bool) -> Vec<String> {
        if self.refused {
            return self.events;
        }
        let Some(body) = &mut self.body else {
            self.events.push("more".into());
            return self.events;
        };
        if !self.data.is_empty() {
            self.events.push(format!("data \"{}\"", shortened(&self.data)));
        }
        if closes && let Err(error) = body.finish() {
            self.events.push(format!("refuse body {}", error.reason()));
            return self.events;
        }
        if !body.trailers().is_empty() {
            self.events.push(format!("trailers \"{}\"", body.trailers().escape_ascii()));
        }
        self.events.push(match (body.is_done(), self.buffer.is_empty()) {
            (false, _) => "more".into(),
            (true, true) => "end".into(),
            (true, false) => format!("end, then \"{}\"", self.buffer.escape_ascii()),
        });
        self.events
    }
}

fn head_refusal(error: HeadError) -> String {
    format!("refuse {} {} at {}", error.kind.status(), error.kind.reason(), error.at)
}

fn describe_request(bytes: &[u8], head: &RequestHead, asked: &request::Request, events: &mut Vec<String>) {
    let target = head.target.of(bytes);
    let show = |bytes: &[u8]| shortened(bytes);
    events.push(format!("{} {} {:?}", show(head.method_name.of(bytes)), show(target), head.version));
    describe_fields(bytes, &head.fields, events);
    let mut line = format!("target {:?} path=\"{}\"", asked.target.form, show(asked.target.path.of(target)));
    if let Some(query) = asked.target.query {
        let _ = write!(line, " query=\"{}\"", show(query.of(target)));
    }
    events.push(line);
    let port = asked.host.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let place = if asked.host_in_target { " in target" } else { "" };
    events.push(format!("host {}{port}{place}", show(asked.host.host.of(bytes))));
    let mut line = format!("framing {:?}", asked.framing);
    line.push_str(if asked.keep_alive { ", keep-alive" } else { ", close" });
    line.push_str(if asked.expect_continue { ", expects continue" } else { "" });
    line.push_str(if asked.connection.names_others { ", names others" } else { "" });
    if let Some(upgrade) = asked.upgrade {
        let _ = write!(line, ", upgrade \"{}\"", show(upgrade.of(bytes)));
    }
    events.push(line);
}

fn describe_response(
    bytes: &[u8],
    head: &ResponseHead,
    meant: &response::Response,
    events: &mut Vec<String>,
) {
    events.push(format!("{:?} {} \"{}\"", head.version, head.status, shortened(head.reason.of(bytes))));
    describe_fields(bytes, &head.fields, events);
    let mut line = format!("framing {:?}", meant.framing);
    line.push_str(if meant.keep_alive { ", keep-alive" } else { ", close" });
    line.push_str(if meant.interim { ", interim" } else { "" });
    line.push_str(if meant.switching { ", switching" } else { "" });
    if let Some(length) = meant.announced_length {
        let _ = write!(line, ", announces {length}");
    }
    if let Some(seconds) = meant.keep_alive_timeout {
        let _ = write!(line, ", idle {seconds} s");
    }
    events.push(line);
}

fn describe_fields(bytes: &[u8], fields: &[FieldLine], events: &mut Vec<String>) {
    for line in fields {
        let (name, value) = (line.name.of(bytes), line.value.of(bytes));
        events.push(format!("  {}: \"{}\"", name.escape_ascii(), shortened(value)));
    }
}

fn shortened(bytes: &[u8]) -> String {
    match bytes.get(..100) {
        Some(start) => format!("{}... {} bytes", start.escape_ascii(), bytes.len()),
        None => bytes.escape_ascii().to_string(),
    }
}

// Reading the files.

#[derive(Clone, Copy)]
enum Kind {
    Request,
    Response(Method),
}

/// A case, or a comment between cases, which is kept as it is.
struct Case {
    title: String,
    kind: Kind,
    /// Whether the peer closes after the last byte.
    closes: bool,
    /// The input as written, and what it stands for.
    source: Vec<String>,
    input: Vec<u8>,
    events: Vec<String>,
}

impl Case {
    fn is_comment(&self) -> bool {
        !self.title.starts_with("=== ")
    }

    fn render(&self) -> String {
        if self.is_comment() {
            return format!("{}\n\n", self.title);
        }
        let source: String = self.source.iter().map(|line| format!("{line}\n")).collect();
        let events: String = self.events.iter().map(|line| format!("{line}\n")).collect();
        format!("{}\n{source}---\n{events}\n", self.title)
    }
}

fn parse_file(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        assert!(line.starts_with("=== ") || line.starts_with('#'), "neither case nor comment: {line}");
        let mut case = Case {
            title: line.into(),
            kind: kind(line),
            closes: line.split(':').next().is_some_and(|words| words.ends_with(" closes")),
            source: Vec::new(),
            input: Vec::new(),
            events: Vec::new(),
        };
        if !case.is_comment() {
            case.source = lines.by_ref().take_while(|line| *line != "---").map(String::from).collect();
            case.events = lines.by_ref().take_while(|line| !line.is_empty()).map(String::from).collect();
            case.input = case.source.iter().flat_map(|line| unescape(line)).collect();
        }
        cases.push(case);
    }
    cases
}

/// `=== request: …`, `=== response: …` (to a GET), `=== response to HEAD: …`.
fn kind(title: &str) -> Kind {
    let words = title.trim_start_matches("=== ").split(':').next().unwrap_or_default();
    match words.split_once(" to ") {
        Some((_, method)) => {
            Kind::Response(Method::of(method.split(' ').next().unwrap_or_default().as_bytes()))
        }
        None if words.starts_with("response") => Kind::Response(Method::Get),
        None => Kind::Request,
    }
}

/// `\r \n \t \0 \\ \xHH`, and `\{TEXT*N}` for N times TEXT.
fn unescape(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let (code, after) = rest[at + 1..].split_at(1);
        rest = after;
        match code {
            "r" => out.push(b'\r'),
            "n" => out.push(b'\n'),
            "t" => out.push(b'\t'),
            "0" => out.push(0),
            "\\" => out.push(b'\\'),
            "x" => {
                out.push(u8::from_str_radix(&after[..2], 16).expect("two hexadecimal digits"));
                rest = &after[2..];
            }
            "{" => {
                let (inner, after) = after.split_once('}').expect("a closing brace");
                let (text, count) = inner.rsplit_once('*').expect("text*count");
                out.extend(unescape(text).repeat(count.parse().expect("a count")));
                rest = after;
            }
            _ => panic!("unknown escape \\{code} in {line}"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn data_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http1");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    files
}
