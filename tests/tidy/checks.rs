//! The checks themselves. Each takes texts and gives back faults, so that it can be shown a bad snippet.

use super::scan::{self, Path, Token, paths, reads, text, tokens, without_tests};

/// The rooms from the top: a file may use only rooms above its own. `limits` belongs to everybody.
pub const ROOMS: [&str; 14] = [
    "wire",
    "http",
    "config",
    "tls",
    "http1",
    "http2",
    "upstream",
    "proxy",
    "telemetry",
    "handoff",
    "io",
    "acme",
    "ops",
    "cli",
];

/// How many of them are pure.
const PURE_ROOMS: usize = 9;
/// Folders of other rooms that are pure all the same.
const PURE_FOLDERS: [&str; 1] = ["src/acme/plan/"];
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const NESTING: usize = 5;

/// Places where `unsafe` may be written: a folder ends in `/`.
const UNSAFE_PLACES: [&str; 3] = ["src/io/sys/", "src/io/ktls.rs", "src/http1/scan/avx2.rs"];

/// Paths that a pure room may not name: the segments stand next to each other anywhere in the path;
/// a final `*` stands for any ending.
const IMPURE: [&[&str]; 22] = [
    &["std", "*"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "thread"],
    &["std", "process"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["UnixStream"],
    &["UnixListener"],
    &["UnixDatagram"],
    &["socket2"],
    &["libc"],
    &["Instant", "now"],
    &["Instant", "as"],
    &["SystemTime", "now"],
    &["SystemTime", "as"],
    &["async"],
    &["rand"],
    &["getrandom"],
    &["SystemRandom"],
    &["tokio"],
];

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// File.
    pub file: String,
    /// Line, from 1; 0 means the whole file.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// One source file.
pub struct Source {
    /// Path from the project's root.
    pub file: String,
    /// Content.
    pub text: String,
    /// Whether the whole file is tests (`tests/`, or named by a `mod` under `#[cfg(test)]`).
    pub test: bool,
}

impl Source {
    fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { file: self.file.clone(), line, what: what.into() }
    }

    /// The room, for files of `src/`: `src/tls/record.rs` and `src/tls.rs` lie in `tls`.
    fn room(&self) -> Option<&str> {
        let inner = self.file.strip_prefix("src/")?;
        let first = inner.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// The tokens that rules of purity and size bind.
    fn product_tokens(&self) -> Vec<Token<'_>> {
        if self.test { Vec::new() } else { without_tests(&tokens(&self.text)) }
    }
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|name| *name == room)
}

/// Segments of the module that the file is: `src/tls/record.rs` is `tls::record`.
fn module_depth(file: &str) -> usize {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').count()
}

/// Rooms are used from below only, and by `crate::`.
pub fn room_order(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let Some(own) = source.room().filter(|room| !matches!(*room, "lib" | "main")) else {
        return faults;
    };
    if own != "limits" && rank(own).is_none() {
        return vec![source.fault(0, format!("`{own}` is not a room; see ROOMS in tests/tidy/checks.rs"))];
    }
    for path in paths(&tokens(&source.text)) {
        let [first, used, ..] = path.segments.as_slice() else { continue };
        if *first != "crate" || *used == "limits" || *used == own {
            continue;
        }
        if rank(used).is_none() || rank(used) >= rank(own) {
            faults
                .push(source.fault(path.line, format!("`{own}` may not use `{used}`: use rooms above only")));
        }
    }
    let depth = module_depth(&source.file);
    for path in paths(&source.product_tokens()) {
        let ups = path.segments.iter().take_while(|segment| **segment == "super").count();
        if ups >= depth && ups > 0 {
            faults.push(source.fault(path.line, "`super` leaves the room: name other rooms by `crate::`"));
        }
    }
    faults
}

fn names(path: &Path, wanted: &[&str]) -> bool {
    path.segments.windows(wanted.len()).any(|window| window == wanted)
}

/// Rooms 1 to 9, and some folders of others, take bytes and `now`; they reach for nothing.
pub fn purity(source: &Source) -> Vec<Fault> {
    let pure = source.room().and_then(rank).is_some_and(|rank| rank < PURE_ROOMS);
    let folder = PURE_FOLDERS.iter().any(|folder| source.file.starts_with(folder));
    if !pure && !folder && source.room() != Some("limits") {
        return Vec::new();
    }
    let tokens = source.product_tokens();
    let mut faults = Vec::new();
    for path in paths(&tokens) {
        if let Some(banned) = IMPURE.iter().find(|banned| names(&path, banned)) {
            let what = format!("a pure room may not name `{}`", banned.join("::"));
            faults.push(source.fault(path.line, what));
        }
    }
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "." && matches!(text(&tokens, at + 1), "await" | "elapsed") {
            let what = format!("a pure room may not say `.{}`", text(&tokens, at + 1));
            faults.push(source.fault(token.line, what));
        }
    }
    faults
}

/// Words that belong to one room, or to none.
pub fn owned_words(source: &Source) -> Vec<Fault> {
    let Some(room) = source.room() else { return Vec::new() };
    let mut faults = Vec::new();
    for path in paths(&source.product_tokens()) {
        for segment in &path.segments {
            let owner = match *segment {
                "monoio" | "io_uring" => "io",
                "arc_swap" | "rtrb" | "atomic" | "mpsc" => "handoff",
                word if is_atomic(word) => "handoff",
                "Mutex" | "RwLock" | "Condvar" => "no room",
                _ => continue,
            };
            // Ticket keys rotate within one rustls configuration, which asks for them under `&self`.
            let rotates = *segment == "arc_swap" && source.file.ends_with("tls/tickets.rs");
            // Threads beside the workers take turns in changing what is published to these.
            let turns = *segment == "Mutex" && source.file.ends_with("ops/certificates/mod.rs");
            if room != owner && !rotates && !turns {
                faults.push(source.fault(path.line, format!("`{segment}` belongs to {owner}")));
            }
        }
    }
    faults
}

fn is_atomic(word: &str) -> bool {
    let kind = word.strip_prefix("Atomic").unwrap_or_default();
    ["Bool", "Ptr", "Usize", "Isize", "U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64"].contains(&kind)
}

/// `unsafe` stands in its few places, in tests too.
pub fn unsafe_places(source: &Source) -> Vec<Fault> {
    let allowed = UNSAFE_PLACES.iter().any(|place| match place.strip_suffix('/') {
        Some(_) => source.file.starts_with(place),
        None => source.file == *place,
    });
    let tokens = tokens(&source.text);
    let found = tokens.iter().filter(|token| token.text == "unsafe" && !allowed);
    found.map(|token| source.fault(token.line, "`unsafe` outside of its places")).collect()
}

/// Files of at most 500 lines, functions of at most 70, blocks at most 5 deep.
pub fn sizes(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        faults.push(source.fault(0, format!("{lines} lines; a file has at most {FILE_LINES}")));
    }
    for function in scan::functions(&source.product_tokens()) {
        let (name, at) = (function.name, function.line);
        if function.lines > FUNCTION_LINES {
            let what =
                format!("`{name}` has {} lines; a function has at most {FUNCTION_LINES}", function.lines);
            faults.push(source.fault(at, what));
        }
        if function.depth > NESTING {
            let what = format!("`{name}` nests {} blocks; at most {NESTING}", function.depth);
            faults.push(source.fault(at, what));
        }
    }
    faults
}

/// Nothing is left for later, no test is switched off, and a lint is silenced with a reason only.
pub fn loose_ends(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        if words.any(|word| [concat!("TO", "DO"), concat!("FIX", "ME")].contains(&word)) {
            faults.push(source.fault(index + 1, "work left for later: do it or write an issue"));
        }
    }
    let tokens = tokens(&source.text);
    for (at, token) in tokens.iter().enumerate() {
        let macro_call = matches!(token.text, "todo" | "unimplemented") && text(&tokens, at + 1) == "!";
        if macro_call {
            faults.push(source.fault(token.line, format!("`{}!` is not code", token.text)));
        }
        if reads(&tokens, at, &["#", "[", "ignore"]) {
            faults.push(source.fault(token.line, "a test that does not run proves nothing"));
        }
    }
    faults.extend(silenced_lints(source, &tokens));
    let opening = source.text.lines().next().unwrap_or_default();
    if !opening.starts_with("//") && !opening.starts_with("#![doc") {
        faults.push(source.fault(1, "a file opens with what it is"));
    }
    faults
}

/// `allow` and `expect` need `reason = "…"`, or a comment on their line or the one above.
fn silenced_lints(source: &Source, tokens: &[Token]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "#") {
        let open = if text(tokens, at + 1) == "!" { at + 2 } else { at + 1 };
        let silences = text(tokens, open) == "[" && matches!(text(tokens, open + 1), "allow" | "expect");
        let end = scan::close(tokens, open);
        let inner = tokens.get(open..end).unwrap_or_default();
        if !silences || inner.iter().any(|token| token.text == "reason") {
            continue;
        }
        let mut near = source.text.lines().skip(token.line.saturating_sub(2));
        let above = near.next().unwrap_or_default().trim_start();
        let commented = above.starts_with("//") && !above.starts_with("///");
        if !commented && !near.next().unwrap_or_default().contains("// ") {
            faults.push(source.fault(token.line, "a lint is silenced without a reason"));
        }
    }
    faults
}

/// Each limit has a documented reason; `all` also asks that something outside of the page uses it.
pub fn limits(page: &Source, others: &[Source], all: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut above = "";
    for (index, line) in page.text.lines().enumerate() {
        let name = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next());
        if let Some(name) = name.filter(|name| *name != "_") {
            if !above.starts_with("///") {
                faults.push(page.fault(index + 1, format!("`{name}` has no reason above it")));
            }
            let used = |other: &Source| tokens(&other.text).iter().any(|token| token.text == name);
            if all && !others.iter().any(used) {
                faults.push(page.fault(index + 1, format!("`{name}` bounds nothing: use or remove it")));
            }
        }
        above = line;
    }
    faults
}

/// Each direct dependency says in a comment above what it is for.
pub fn dependencies(file: &str, manifest: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut inside, mut above) = (false, "");
    for (index, line) in manifest.lines().enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            if section.contains("dependencies.") && !above.starts_with("# ") {
                faults.push(fault_in(file, index, section));
            }
        } else if inside
            && line.starts_with(|c: char| c.is_ascii_alphanumeric())
            && line.contains('=')
            && !above.starts_with("# ")
        {
            faults.push(fault_in(file, index, line.split(['=', '.']).next().unwrap_or(line).trim()));
        }
        above = line;
    }
    faults
}

fn fault_in(file: &str, index: usize, name: &str) -> Fault {
    let what = format!("`{name}`: say in a comment above what the dependency is for");
    Fault { file: file.to_owned(), line: index + 1, what }
}

/// Project text speaks of the project alone: no path of one machine, no host of a package registry.
pub fn machine_words(source: &Source) -> Vec<Fault> {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "bash"),
        concat!("/tmp/", "wt"),
        concat!("/tmp/", "target"),
        concat!("/root/", "."),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
    ];
    let mut faults = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if let Some(word) = banned.iter().find(|word| line.contains(**word)) {
            faults.push(source.fault(index + 1, format!("`{word}` belongs to one machine")));
        }
    }
    faults
}

/// `src/lib.rs` lists the rooms in their order.
pub fn rooms_in_order(lib: &Source) -> Vec<Fault> {
    let tokens = tokens(&lib.text);
    let listed = tokens.iter().enumerate().filter(|(_, token)| token.text == "mod");
    let mut next = 0;
    let mut faults = Vec::new();
    for (at, token) in listed {
        let name = text(&tokens, at + 1);
        match rank(name) {
            Some(rank) if rank >= next => next = rank + 1,
            Some(_) => faults.push(lib.fault(token.line, format!("`{name}` stands below its place"))),
            None if name == "limits" => {}
            None => faults.push(lib.fault(token.line, format!("`{name}` is not a room"))),
        }
    }
    faults
}
