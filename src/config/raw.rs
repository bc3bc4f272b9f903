//! What was written: a TOML text as a tree with positions, and the errors of its syntax.
//! Knows nothing of options.

use std::ops::Range;

use toml_edit::{Document, Item, Key, TableLike, Value};

use super::diagnostic::{Code, Findings, Spot};

/// A value as written.
#[derive(Debug)]
pub(super) struct Node {
    pub value: Raw,
    pub spot: Spot,
}

/// The kinds of value that options can have.
#[derive(Debug)]
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// A float, date or time, by its name: no option takes one.
    Other(&'static str),
}

/// One line of a table.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_spot: Spot,
    pub node: Node,
}

impl Node {
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Raw::Table(entries) => entries,
            _ => &[],
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// Its strings, if it is one or a list of them; others are left out (and were reported).
    pub fn texts(&self) -> Vec<(&str, Spot)> {
        match &self.value {
            Raw::Text(text) => vec![(text.as_str(), self.spot)],
            Raw::List(nodes) => nodes
                .iter()
                .filter_map(|n| match &n.value {
                    Raw::Text(text) => Some((text.as_str(), n.spot)),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    pub fn kind(&self) -> &'static str {
        match &self.value {
            Raw::Text(_) => "a string",
            Raw::Integer(_) => "an integer",
            Raw::Flag(_) => "a boolean",
            Raw::List(_) => "an array",
            Raw::Table(_) => "a table",
            Raw::Other(name) => name,
        }
    }
}

/// Reads `text` as source `file`. After an error in one statement that statement is blanked and the rest is
/// read on, so that one run shows every error; `None` if nothing after it could be trusted.
pub(super) fn parse(file: u32, text: &str, findings: &mut Findings) -> Option<Node> {
    let mut text = text.to_owned();
    let mut last_line_end = None;
    for _ in 0..SYNTAX_ERRORS {
        let (message, span) = match Document::parse(text.as_str()) {
            Ok(document) => return Some(table(file, document.as_table(), 0..0)),
            Err(error) => (error.message().to_owned(), error.span()),
        };
        let Some(span) = span else {
            // Nesting beyond the library's bound has no place.
            findings.partial = true;
            findings.note(Code::Syntax, Spot::file(file), message, "no option nests so deep");
            return None;
        };
        // An error right after a blanked line is most likely the rest of that statement, unless a key or a
        // table starts there.
        let start = line_start(&text, span.start);
        let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        if last_line_end == Some(start) && line_names(line, &[]).is_none() {
            return None;
        }
        findings.partial = true;
        report(file, &text, &message, &span, findings);
        let broken = statement(&text, span.start, message == DUPLICATE)?;
        last_line_end = Some(broken.end);
        text = blank(&text, &broken);
    }
    None
}

/// Errors of syntax shown of one file; after so many the file is another format.
const SYNTAX_ERRORS: usize = 32;
/// How the library calls a key that is there already.
const DUPLICATE: &str = "duplicate key";

fn report(file: u32, text: &str, message: &str, span: &Range<usize>, findings: &mut Findings) {
    let spot = Spot::new(file, span);
    if message != DUPLICATE {
        // An empty span at the start would read as "the whole file".
        let spot = if spot.end == 0 { Spot { end: 1, ..spot } } else { spot };
        let remedy = "write it as TOML, see https://toml.io; text values stand in quotes";
        findings.note(Code::Syntax, spot, message, remedy);
        return;
    }
    let name = text.get(span.clone()).unwrap_or("");
    let cause = format!("`{name}` is set twice");
    let remedy = "keep one of the two";
    match first_definition(text, span.start) {
        Some(first) => {
            let other = (Spot::new(file, &first), "it is set here first");
            findings.conflict(Code::DuplicateKey, spot, other, cause, remedy);
        }
        None => findings.note(Code::DuplicateKey, spot, cause, remedy),
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// The lines of the statement that holds offset `at`, if it can be blanked without changing the meaning of
/// the others: a key with its value, or a repeated table with its keys.
fn statement(text: &str, at: usize, duplicate: bool) -> Option<Range<usize>> {
    let start = line_start(text, at);
    let rest = text.get(start..)?;
    let mut end = start;
    let mut lines = rest.split_inclusive('\n');
    let first = lines.next()?;
    end += first.len();
    if first.trim_start().starts_with('[') {
        if !duplicate {
            return None;
        }
        let body: usize = lines.take_while(|line| !line.trim_start().starts_with('[')).map(str::len).sum();
        return Some(start..end + body);
    }
    // Within a longer statement blanking one line would break the whole.
    if !first.contains('=') || Document::parse(text.get(..start)?).is_err_and(|e| e.message() != DUPLICATE) {
        return None;
    }
    for line in lines.take(STATEMENT_LINES) {
        if !duplicate || Document::parse(text.get(start..end)?).is_ok() {
            break;
        }
        end += line.len();
    }
    Some(start..end)
}

/// Lines of a repeated value that are looked at for its end.
const STATEMENT_LINES: usize = 64;

/// Spaces instead of `range`, line breaks kept, so that all offsets stay.
fn blank(text: &str, range: &Range<usize>) -> String {
    let (Some(before), Some(middle), Some(after)) =
        (text.get(..range.start), text.get(range.clone()), text.get(range.end..))
    else {
        return String::new();
    };
    let blanks: String = middle.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
    [before, &blanks, after].concat()
}

/// Where the key that is repeated at offset `at` was first set: the last line before it whose full name
/// (table header and key) is the same. A search by lines, as the tree keeps only one of the two.
fn first_definition(text: &str, at: usize) -> Option<Range<usize>> {
    let mut header: Vec<String> = Vec::new();
    let mut seen: Vec<(Vec<String>, Range<usize>)> = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let Some((names, written)) = line_names(line, &header) else { continue };
        if line.trim_start().starts_with('[') {
            header.clone_from(&names);
        }
        if line.trim_start().starts_with("[[") {
            seen.clear();
        }
        if offset > at {
            return seen.into_iter().rev().find(|(n, _)| *n == names).map(|(_, range)| range);
        }
        seen.push((names, start + written.start..start + written.end));
    }
    None
}

/// The full name that a line defines, and the bytes of the line that say so.
fn line_names(line: &str, header: &[String]) -> Option<(Vec<String>, Range<usize>)> {
    let lead = line.len() - line.trim_start().len();
    let trimmed = line.trim();
    let names = |text: &str| -> Option<Vec<String>> {
        Some(Key::parse(text.trim()).ok()?.iter().map(|key| key.get().to_owned()).collect())
    };
    if trimmed.starts_with('[') {
        let inner = trimmed.trim_start_matches('[');
        let inner = inner.get(..inner.find(']')?)?;
        return Some((names(inner)?, lead..lead + trimmed.find(']')? + 1));
    }
    let key = trimmed.get(..trimmed.find('=')?)?.trim_end();
    let mut full = header.to_vec();
    full.extend(names(key)?);
    Some((full, lead..lead + key.len()))
}

fn table(file: u32, table: &dyn TableLike, span: Range<usize>) -> Node {
    let entries = table.iter().map(|(name, item)| {
        let key_span = table.key(name).and_then(Key::span).unwrap_or_else(|| span.clone());
        let node = node(file, item, &key_span);
        Entry { key: name.to_owned(), key_spot: Spot::new(file, &key_span), node }
    });
    Node { value: Raw::Table(entries.collect()), spot: Spot::new(file, &span) }
}

fn node(file: u32, item: &Item, key_span: &Range<usize>) -> Node {
    let span = item.span().unwrap_or_else(|| key_span.clone());
    match item {
        Item::None => Node { value: Raw::Other("nothing"), spot: Spot::new(file, &span) },
        Item::Value(value) => written(file, value, &span),
        // Made by the keys below it: the library gives such a table no place of its own.
        Item::Table(t) if t.is_implicit() => table(file, t, key_span.clone()),
        Item::Table(t) => table(file, t, span),
        Item::ArrayOfTables(list) => {
            let tables = list.iter().map(|t| table(file, t, t.span().unwrap_or_else(|| span.clone())));
            Node { value: Raw::List(tables.collect()), spot: Spot::new(file, &span) }
        }
    }
}

fn written(file: u32, value: &Value, around: &Range<usize>) -> Node {
    let span = value.span().unwrap_or_else(|| around.clone());
    let raw = match value {
        Value::String(text) => Raw::Text(text.value().clone()),
        Value::Integer(number) => Raw::Integer(*number.value()),
        Value::Boolean(flag) => Raw::Flag(*flag.value()),
        Value::Float(_) => Raw::Other("a float"),
        Value::Datetime(_) => Raw::Other("a date or time"),
        Value::Array(list) => Raw::List(list.iter().map(|v| written(file, v, &span)).collect()),
        Value::InlineTable(inline) => return table(file, inline, span),
    };
    Node { value: raw, spot: Spot::new(file, &span) }
}

#[cfg(test)]
mod tests {
    use super::{Findings, Raw, parse};

    fn codes(text: &str) -> (bool, Vec<String>) {
        let mut findings = Findings::default();
        let parsed = parse(0, text, &mut findings).is_some();
        let sources = [crate::config::Source { name: "f".into(), text: text.into() }];
        let shown = findings.diagnostics(&sources).into_iter().map(|d| {
            let also = d.also.as_ref().map_or(String::new(), |(place, _)| format!(" and {}", place.line));
            format!("{} {}{also}", d.code.id(), d.place.line)
        });
        (parsed, shown.collect())
    }

    #[test]
    fn values_keep_their_places() {
        let mut findings = Findings::default();
        let root = parse(3, "a = [1, \"x\"]\n[b]\nc = true\n", &mut findings).unwrap();
        let list = &root.entry("a").unwrap().node;
        assert_eq!(list.texts().first().unwrap().1.start, 8);
        let c = root.entry("b").unwrap().node.entry("c").unwrap();
        assert!(matches!(c.node.value, Raw::Flag(true)));
        assert_eq!((c.key_spot.file, c.key_spot.start), (3, 17));
    }

    #[test]
    fn several_syntax_errors_are_found_in_one_run() {
        assert_eq!(codes("a = \nb = 1\nc = x\nd = 2\n"), (true, vec!["E002 1".into(), "E002 3".into()]));
        assert_eq!(codes("a = [1,\n2\nb = 1\n").1.len(), 1);
        assert_eq!(codes("a = x\nb = \"\nc = 1").1, ["E002 1", "E002 2"]);
        assert_eq!(codes("a = x [\n\"y\",\n]\n").1, ["E002 1"]);
    }

    #[test]
    fn duplicates_name_both_places() {
        assert_eq!(codes("a = 1\n[t]\na = 2\nb = 1\nb = [\n1]\n"), (true, vec!["E005 5 and 4".into()]));
        assert_eq!(codes("[t.\"x\"]\na = 1\n[u]\n[t.x]\na = 2\n"), (true, vec!["E005 4 and 1".into()]));
        assert_eq!(codes("[s]\n\"x\" = 1\n[s.\"x\"]\na = 2\n"), (true, vec!["E005 3 and 2".into()]));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(codes(&format!("a = {}", "[".repeat(100_000))).1.len(), 1);
        assert_eq!(codes(&format!("[{}a]", "a.".repeat(100_000))).1.len(), 1);
        assert_eq!(codes(&format!("a = {}", "{a=".repeat(100_000))).1.len(), 1);
    }
}
