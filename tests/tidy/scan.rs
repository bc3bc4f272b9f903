//! A small, honest reading of Rust source for the tidy test: tokens without comments, paths with `use`
//! trees expanded, functions with their depth, and which tokens belong to tests. It is not a parser:
//! macros are read as they are written.

/// One token: an identifier, a number, a literal (with its quotes), or punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// As written.
    pub text: &'a str,
    /// Line it starts on, from 1.
    pub line: usize,
}

/// A path such as `std::fs::read`; a renaming import ends in the segment `as`.
#[derive(Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// Its segments.
    pub segments: Vec<&'a str>,
    /// Line of its first or last segment.
    pub line: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Line of `fn`.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
    /// Blocks inside each other within the body; literals and patterns of structs are not blocks.
    pub depth: usize,
}

/// Splits `source` into tokens; comments and white space are gone.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let skipped = skipped(rest, first);
        let length = if skipped > 0 { skipped } else { token_length(rest, first) };
        let (text, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if skipped == 0 {
            found.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// Bytes of white space or comment at the start of `rest`.
fn skipped(rest: &str, first: char) -> usize {
    if first.is_whitespace() {
        first.len_utf8()
    } else if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else {
        0
    }
}

/// Bytes of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if tail.starts_with("*/") {
            (at, depth) = (at + 2, depth.saturating_sub(1));
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Bytes of the token at the start of `rest`.
fn token_length(rest: &str, first: char) -> usize {
    if let Some(length) = string(rest).or_else(|| quote(rest)) {
        return length;
    }
    let raw = if rest.starts_with("r#") { 2 } else { 0 };
    let word = rest.get(raw..).map_or(0, word_length);
    if word > 0 {
        return raw + word;
    }
    let pair = ["::", "=>", "->", "==", ".."].iter().any(|pair| rest.starts_with(pair));
    if pair { 2 } else { first.len_utf8() }
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
}

/// Bytes of a string literal of any kind, raw ones with their hashes.
fn string(rest: &str) -> Option<usize> {
    let plain = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.bytes().take_while(|&byte| byte == b'#').count();
        let inner = raw.get(hashes..)?.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let used = inner.find(&end).map_or(inner.len(), |at| at + end.len());
        return Some(rest.len() - inner.len() + used);
    }
    let inner = plain.strip_prefix('"')?;
    Some(rest.len() - inner.len() + escaped_until(inner, '"'))
}

/// Bytes of a character literal or a lifetime.
fn quote(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('\'')?;
    let before = rest.len() - inner.len();
    let mut chars = inner.chars();
    let (first, second) = (chars.next()?, chars.next());
    if first == '\\' || second == Some('\'') {
        return Some(before + escaped_until(inner, '\''));
    }
    Some(before + word_length(inner))
}

/// Bytes up to and with the first `end` that no backslash escapes.
fn escaped_until(inner: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (false, c) if c == end => return at + c.len_utf8(),
            _ => escaped = false,
        }
    }
    inner.len()
}

/// The text of token `at`, empty past the ends.
pub fn text<'a>(tokens: &[Token<'a>], at: usize) -> &'a str {
    tokens.get(at).map_or("", |token| token.text)
}

/// Whether the tokens from `at` are exactly these.
pub fn reads(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(i, word)| text(tokens, at + i) == *word)
}

/// The place of the bracket that closes the one at `open`, or the last token.
pub fn close(tokens: &[Token], open: usize) -> usize {
    let opening = text(tokens, open);
    let closing = match opening {
        "{" => "}",
        "(" => ")",
        _ => "]",
    };
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += usize::from(token.text == opening);
        depth = depth.saturating_sub(usize::from(token.text == closing));
        if depth == 0 {
            return at;
        }
    }
    tokens.len().saturating_sub(1)
}

/// The first `{` or `;` from `at` that stands in no parenthesis or bracket.
pub fn body_or_end(tokens: &[Token], at: usize) -> usize {
    let mut place = at;
    while place < tokens.len() {
        match text(tokens, place) {
            "(" | "[" => place = close(tokens, place),
            "{" | ";" => return place,
            _ => {}
        }
        place += 1;
    }
    tokens.len().saturating_sub(1)
}

/// Whether an attribute `#[cfg(test)]`, `#[cfg(all(test, …))]` or `#[test]` starts at `at`.
pub fn is_test_attribute(tokens: &[Token], at: usize) -> bool {
    reads(tokens, at, &["#", "[", "cfg", "(", "test", ")"])
        || reads(tokens, at, &["#", "[", "cfg", "(", "all", "(", "test"])
        || reads(tokens, at, &["#", "[", "test", "]"])
}

/// The tokens that do not belong to items under a test attribute.
pub fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        if is_test_attribute(tokens, at) {
            let mut item = at;
            while text(tokens, item) == "#" {
                item = close(tokens, item + 1) + 1;
            }
            let end = body_or_end(tokens, item);
            at = if text(tokens, end) == "{" { close(tokens, end) } else { end };
        } else {
            kept.push(*token);
        }
        at += 1;
    }
    kept
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Every path, with the trees of `use` written out.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<Path<'a>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |before| text(tokens, before));
        if text(tokens, at) == "use" {
            at = use_tree(tokens, at + 1, &[], &mut found);
        } else if is_word(text(tokens, at)) && before != "." {
            at = plain_path(tokens, at, &mut found);
        }
        at += 1;
    }
    found
}

/// Reads a path outside of `use`; gives back the place of its last token.
fn plain_path<'a>(tokens: &[Token<'a>], start: usize, found: &mut Vec<Path<'a>>) -> usize {
    let mut at = start;
    let mut segments = vec![text(tokens, at)];
    while text(tokens, at + 1) == "::" && is_word(text(tokens, at + 2)) {
        at += 2;
        segments.push(text(tokens, at));
    }
    found.push(Path { segments, line: tokens.get(start).map_or(0, |token| token.line) });
    at
}

/// Reads one branch of a `use` tree; gives back the place of the `,`, `}` or `;` after it.
fn use_tree<'a>(tokens: &[Token<'a>], start: usize, prefix: &[&'a str], found: &mut Vec<Path<'a>>) -> usize {
    let mut segments = prefix.to_vec();
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => {}
            "{" => {
                while !matches!(text(tokens, at), "}" | "" | ";") {
                    at = use_tree(tokens, at + 1, &segments, found);
                }
                return at + 1;
            }
            "," | "}" | ";" => {
                if segments.len() > prefix.len() {
                    found.push(Path { segments, line: token.line });
                }
                return at;
            }
            "as" => {
                segments.push("as");
                at += 1;
            }
            segment => segments.push(segment),
        }
        at += 1;
    }
    at
}

/// Every function that has a body.
pub fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        let open = body_or_end(tokens, at);
        let Some(end) = tokens.get(close(tokens, open)).filter(|_| text(tokens, open) == "{") else {
            continue;
        };
        if is_word(text(tokens, at + 1)) {
            let lines = end.line - token.line + 1;
            let depth = depth(tokens, open);
            found.push(Function { name: text(tokens, at + 1), line: token.line, lines, depth });
        }
    }
    found
}

/// How many blocks stand inside each other within the body that opens at `open`.
fn depth(tokens: &[Token], open: usize) -> usize {
    let (mut deepest, mut stack) = (0, Vec::new());
    for at in open + 1..close(tokens, open) {
        match text(tokens, at) {
            "{" => stack.push(is_block(tokens, at)),
            "}" => drop(stack.pop()),
            _ => {}
        }
        deepest = deepest.max(stack.iter().filter(|block| **block).count());
    }
    deepest
}

/// Tells a block from the braces of a struct literal or pattern, which follow a type's name.
fn is_block(tokens: &[Token], open: usize) -> bool {
    let name = text(tokens, open.saturating_sub(1));
    let camel = name.starts_with(|c: char| c.is_uppercase()) && name.contains(|c: char| c.is_lowercase());
    if !camel {
        return true;
    }
    // The head of `if`, `while`, `match` or `for` admits no struct literal, but a pattern before `=` or `in`.
    let mut closed = 0_usize;
    for at in (0..open).rev() {
        match text(tokens, at) {
            ")" | "]" => closed += 1,
            "(" | "[" if closed == 0 => return false,
            "(" | "[" => closed -= 1,
            ";" | "{" | "}" | "," | "=>" if closed == 0 => return false,
            "if" | "while" | "match" | "for" if closed == 0 => {
                let after = text(tokens, close(tokens, open) + 1);
                return !matches!(after, "=" | "in" | "|" | "=>");
            }
            _ => {}
        }
    }
    false
}
