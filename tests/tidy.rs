//! Taste that a machine can check: the order of the rooms, the words banned in each, sizes, loose ends,
//! dead files, reasons beside limits and dependencies. Every check is also shown something bad, because
//! a check that cannot fail is a defect.

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use checks::{Fault, Source};

/// Whether a limit that nothing uses is a fault; off while rooms are still being furnished.
const LIMITS_ALL_USED: bool = true;

fn project() -> (BTreeMap<String, String>, Vec<Source>, Vec<Fault>) {
    let texts = tree::texts(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
    let (sources, faults) = tree::sources(&texts);
    (texts, sources, faults)
}

fn source(file: &str, text: &str) -> Source {
    Source { file: file.to_owned(), text: text.to_owned(), test: false }
}

/// Prints all faults at once, so that one run tells everything.
fn assert_none(faults: &[Fault]) {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| match fault.line {
            0 => format!("{}: {}", fault.file, fault.what),
            line => format!("{}:{line}: {}", fault.file, fault.what),
        })
        .collect();
    assert!(lines.is_empty(), "{} faults\n{}", lines.len(), lines.join("\n"));
}

/// Runs a check over every file of `src/`.
fn over_src(check: fn(&Source) -> Vec<Fault>) {
    let (_, sources, _) = project();
    let rooms: Vec<&Source> = sources.iter().filter(|source| source.file.starts_with("src/")).collect();
    assert!(rooms.len() > 10, "the sources are found");
    assert_none(&rooms.iter().flat_map(|source| check(source)).collect::<Vec<_>>());
}

/// What a check says about one snippet: the lines it finds fault with.
fn lines(check: fn(&Source) -> Vec<Fault>, file: &str, text: &str) -> Vec<usize> {
    check(&source(file, text)).iter().map(|fault| fault.line).collect()
}

#[test]
fn rooms_use_only_rooms_above() {
    over_src(checks::room_order);
    let order = |file, text| lines(checks::room_order, file, text);
    assert_eq!(order("src/http/head.rs", "use crate::wire::Span;\nuse crate::tls::Session;"), [2]);
    assert_eq!(order("src/tls/mod.rs", "use crate::{limits, wire::Span,\n io::{dial, pump}};"), [2, 2]);
    assert_eq!(order("src/tls/mod.rs", "fn f() { crate::proxy::go() }"), [1]);
    assert_eq!(order("src/tls/a.rs", "use super::super::io;"), [1]);
    assert_eq!(order("src/tls/a/b.rs", "use super::super::names;"), [0; 0]);
    assert_eq!(order("src/tls/mod.rs", "#[cfg(test)] mod tests { use super::*; }"), [0; 0]);
    assert_eq!(order("src/limits.rs", "use crate::wire::Span;"), [1]);
    assert_eq!(order("src/util/mod.rs", ""), [0]);
    assert_eq!(order("src/ops/mod.rs", "use crate::cli::Arguments;"), [1]);
}

#[test]
fn the_library_lists_the_rooms_in_order() {
    let (_, sources, _) = project();
    let lib = sources.iter().find(|source| source.file == "src/lib.rs");
    assert_none(&checks::rooms_in_order(lib.unwrap()));
    let bad = source("src/lib.rs", "pub mod limits;\npub mod http;\npub mod wire;\npub mod util;");
    assert_eq!(checks::rooms_in_order(&bad).len(), 2);
}

#[test]
fn pure_rooms_reach_for_nothing() {
    over_src(checks::purity);
    let bad = [
        "use std::fs;",
        "use std::{io, fs::File};",
        "use std::*;",
        "fn f() { std::thread::spawn(g); }",
        "use std::net::{IpAddr, TcpStream};",
        "fn f() -> Instant { Instant::now() }",
        "use std::time::Instant as Clock;",
        "fn f() { std::time::SystemTime::now(); }",
        "fn f(t: Instant) { t.elapsed(); }",
        "async fn f() {}",
        "fn f() { g().await }",
        "use aws_lc_rs::rand::fill;",
    ];
    for text in bad {
        assert_eq!(lines(checks::purity, "src/http1/head.rs", text), [1], "{text}");
        assert_eq!(lines(checks::purity, "src/acme/plan/ari.rs", text), [1], "a pure folder: {text}");
        assert_eq!(lines(checks::purity, "src/acme/order.rs", text), [0; 0], "not a pure folder");
        assert_eq!(lines(checks::purity, "src/io/worker.rs", text), [0; 0], "not a pure room");
        let tests = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert_eq!(lines(checks::purity, "src/http1/head.rs", &tests), [0; 0], "tests may");
    }
    let good = "// Instant::now\nconst A: &str = \"std::fs\"; fn f(now: Instant) { operand(brand) }";
    assert_eq!(lines(checks::purity, "src/http1/head.rs", good), [0; 0]);
}

#[test]
fn words_stay_in_the_room_that_owns_them() {
    over_src(checks::owned_words);
    let owned = |file, text| lines(checks::owned_words, file, text);
    assert_eq!(owned("src/ops/startup.rs", "use monoio::net::TcpStream;\nuse io_uring::Builder;"), [1, 2]);
    assert_eq!(owned("src/io/worker.rs", "use monoio::net::TcpStream;\nuse io_uring::Builder;"), [0; 0]);
    assert_eq!(
        owned("src/io/worker.rs", "use std::sync::atomic::AtomicU64;\nfn f() { g(AtomicBool) }").len(),
        3
    );
    assert_eq!(owned("src/handoff/ring.rs", "use std::sync::atomic::AtomicU64;"), [0; 0]);
    assert_eq!(owned("src/handoff/ring.rs", "use std::sync::{Arc, Mutex};"), [1]);
    assert_eq!(owned("src/acme/thread.rs", "use std::sync::mpsc;\nuse std::sync::RwLock;"), [1, 2]);
}

#[test]
fn unsafe_stands_in_its_places() {
    over_src(checks::unsafe_places);
    let places = |file, text| lines(checks::unsafe_places, file, text);
    let text = "#![deny(unsafe_code)]\nfn f() { unsafe { g() } } // unsafe";
    assert_eq!(places("src/io/worker.rs", text), [2]);
    assert_eq!(places("src/http1/scan/mod.rs", text), [2]);
    assert_eq!(places("src/io/sys/socket.rs", text), [0; 0]);
    assert_eq!(places("src/http1/scan/avx2.rs", text), [0; 0]);
}

#[test]
fn files_functions_and_blocks_are_short() {
    over_src(checks::sizes);
    let (_, sources, _) = project();
    assert_none(&sources.iter().flat_map(checks::sizes).collect::<Vec<_>>());
    let sizes = |text: &str| lines(checks::sizes, "src/io/a.rs", text);
    assert_eq!(sizes(&"// line\n".repeat(501)), [0]);
    assert_eq!(sizes(&"// line\n".repeat(500)), [0; 0]);
    let function =
        |lines: usize| format!("const A: u8 = 0;\nfn f() -> [u8; 2] {{\n{}}}", "g();\n".repeat(lines));
    assert_eq!(sizes(&function(69)), [2]);
    assert_eq!(sizes(&function(68)), [0; 0]);
    assert_eq!(sizes(&format!("#[cfg(test)]\nmod tests {{ {} }}", function(69))), [0; 0]);
    let nested =
        |depth: usize| format!("fn f() {{ {} g({}) {} }}", "if a {".repeat(depth), "'{'", "}".repeat(depth));
    assert_eq!(sizes(&nested(6)), [1]);
    assert_eq!(sizes(&nested(5)), [0; 0]);
}

#[test]
fn no_loose_ends() {
    let (_, sources, _) = project();
    assert_none(&sources.iter().flat_map(checks::loose_ends).collect::<Vec<_>>());
    let ends = |text: &str| lines(checks::loose_ends, "src/io/a.rs", &format!("//! A file.\n{text}"));
    assert_eq!(ends(concat!("// TO", "DO: later")), [2]);
    assert_eq!(ends(concat!("fn f() {} // FIX", "ME")), [2]);
    assert_eq!(ends("fn f() { todo!() }\nfn g() { unimplemented!() }"), [2, 3]);
    assert_eq!(ends("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), [3]);
    assert_eq!(ends("\n#[allow(dead_code)]\nfn f() {}"), [3]);
    assert_eq!(ends("/// A function.\n#[expect(dead_code)]\nfn f() {}"), [3]);
    assert_eq!(ends("// The driver calls it.\n#[allow(dead_code)]\nfn f() {}"), [0; 0]);
    assert_eq!(ends("#[allow(dead_code, reason = \"the driver calls it\")]\nfn f() {}"), [0; 0]);
    assert_eq!(lines(checks::loose_ends, "src/io/a.rs", "use a;\n"), [1]);
}

#[test]
fn every_file_is_reached() {
    let (_, _, faults) = project();
    assert_none(&faults);
    let texts: BTreeMap<String, String> = [
        ("src/lib.rs", "pub mod io;"),
        ("src/io/mod.rs", "mod dial;\n#[cfg(test)]\nmod dial_tests;"),
        ("src/io/dial.rs", "#[path = \"other.rs\"] mod named; // mod dead;"),
        ("src/io/dial_tests.rs", ""),
        ("src/io/other.rs", ""),
        ("src/io/dead.rs", ""),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect();
    let (sources, faults) = tree::sources(&texts);
    assert_eq!(faults.iter().map(|fault| fault.file.as_str()).collect::<Vec<_>>(), ["src/io/dead.rs"]);
    let tests: Vec<_> =
        sources.iter().filter(|source| source.test).map(|source| source.file.as_str()).collect();
    assert_eq!(tests, ["src/io/dial_tests.rs"]);
}

#[test]
fn limits_have_reasons_and_bound_something() {
    let (_, mut sources, _) = project();
    let page = sources.iter().position(|source| source.file == "src/limits.rs").unwrap();
    let page = sources.remove(page);
    sources.retain(|source| source.file.starts_with("src/"));
    assert_none(&checks::limits(&page, &sources, LIMITS_ALL_USED));
    let page = source("src/limits.rs", "/// Why.\npub const A: u8 = 1;\npub const B: u8 = 2;\n");
    let user = [source("src/io/a.rs", "const X: u8 = limits::B; // A")];
    let found: Vec<_> = checks::limits(&page, &user, true).iter().map(|fault| fault.line).collect();
    assert_eq!(found, [2, 3], "A is used nowhere, B has no reason");
    assert_eq!(checks::limits(&page, &user, false).len(), 1);
}

#[test]
fn dependencies_say_what_they_are_for() {
    let (texts, _, _) = project();
    let manifests = texts.iter().filter(|(name, _)| name.ends_with("Cargo.toml"));
    let faults: Vec<_> = manifests.flat_map(|(name, text)| checks::dependencies(name, text)).collect();
    assert_none(&faults);
    let bad = "[package]\nname = \"x\"\n[dependencies]\n# Why.\na = \"1\"\nb = { version = \"1\" }\n\
               [dev-dependencies.c]\nversion = \"1\"\n";
    let found: Vec<_> = checks::dependencies("Cargo.toml", bad).iter().map(|fault| fault.line).collect();
    assert_eq!(found, [6, 7]);
}

#[test]
fn project_text_speaks_of_the_project() {
    let (texts, _, _) = project();
    let written = texts.iter().filter(|(name, _)| !name.ends_with(".lock"));
    let faults: Vec<_> =
        written.flat_map(|(name, text)| checks::machine_words(&source(name, text))).collect();
    assert_none(&faults);
    let bad = concat!("see /wo", "rk/notes\n/workers are fine\n/tmp/", "bash_jobs\n");
    assert_eq!(lines(checks::machine_words, "README.md", bad), [1, 3]);
}

#[test]
fn the_scanner_knows_what_is_code() {
    let text = "a /* b /* c */ d */ \"e // \\\" {\" r#\"f \" {\"# 'g' '\\'' b'{' 'h: &'i r#fn // j\nk::l";
    let words: Vec<&str> = scan::tokens(text).iter().map(|token| token.text).collect();
    let expected = [
        "a",
        "\"e // \\\" {\"",
        "r#\"f \" {\"#",
        "'g'",
        "'\\''",
        "b'{'",
        "'h",
        ":",
        "&",
        "'i",
        "r#fn",
        "k",
        "::",
        "l",
    ];
    assert_eq!(words, expected);
    assert_eq!(scan::tokens("a\n\"b\nc\"\nd").iter().map(|token| token.line).collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn the_scanner_tells_blocks_from_literals() {
    let depth = |body: &str| {
        let text = format!("fn f() {{ {body} }}");
        scan::functions(&scan::tokens(&text)).first().map(|function| function.depth)
    };
    assert_eq!(depth("let a = Head { b: Span { c } };"), Some(0));
    assert_eq!(depth("match a { Head { b } => Tail { b }, Other { .. } => { g() } }"), Some(2));
    assert_eq!(depth("if a == Kind::Head { b }"), Some(1));
    assert_eq!(depth("if let Head { a } = b { if c > LIMIT { d } }"), Some(2));
    assert_eq!(depth("if let Some(Head { a }) = b { }"), Some(1));
    assert_eq!(depth("for Pair { a } in b { while c { loop { } } }"), Some(3));
    assert_eq!(depth("g(|a| { Head { a } }); return Tail { };"), Some(1));
}
