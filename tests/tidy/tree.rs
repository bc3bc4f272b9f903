//! The project's files: finding them, and following `mod` lines from the roots so that a file nobody
//! names is seen, and so that files of tests are known.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::checks::{Fault, Source};
use super::scan::{self, text, tokens};

/// Folders that hold what was made or fetched, not written.
const SKIPPED: [&str; 8] =
    [".git", "target", ".venv", ".dns", "artifacts", "corpus", "__pycache__", "results"];

/// Every text file below `root`, by its path from there; binary files are left out.
///
/// # Errors
/// What the file system answers.
pub fn texts(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            } else if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                if let Ok(text) = String::from_utf8(std::fs::read(&path)?) {
                    found.insert(name, text);
                }
            }
        }
    }
    Ok(found)
}

/// The Rust files among `texts`, those of tests marked, and a fault for each that no root leads to.
pub fn sources(texts: &BTreeMap<String, String>) -> (Vec<Source>, Vec<Fault>) {
    let rust = || texts.iter().filter(|(name, _)| name.ends_with(".rs"));
    let (mut reached, mut tests) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting: Vec<(String, bool)> = Vec::new();
    waiting.extend(rust().filter(|(name, _)| is_root(name)).map(|(name, _)| {
        let test = !name.starts_with("src/");
        (name.clone(), test)
    }));
    while let Some((name, test)) = waiting.pop() {
        let Some(content) = texts.get(&name) else { continue };
        if !reached.insert(name.clone()) {
            continue;
        }
        if test {
            tests.insert(name.clone());
        }
        for (child, child_test) in children(&name, content) {
            waiting.extend(child.into_iter().map(|path| (path, test || child_test)));
        }
    }
    let mut faults = Vec::new();
    let mut found = Vec::new();
    for (name, content) in rust() {
        if !reached.contains(name) {
            let what = "no `mod` line leads here: name the file or remove it".to_owned();
            faults.push(Fault { file: name.clone(), line: 0, what });
        }
        found.push(Source { file: name.clone(), text: content.clone(), test: tests.contains(name) });
    }
    (found, faults)
}

/// Whether cargo compiles the file without being told by a `mod` line.
fn is_root(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(
        parts.as_slice(),
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
            | ["fuzz", "fuzz_targets", _]
            | ["benches", "compare", "load", "src", "main.rs"]
            | ["dns-helper", "src", "main.rs"]
    )
}

/// For each `mod` line of a file: the paths that the module may have, and whether it is for tests only.
fn children(name: &str, content: &str) -> Vec<(Vec<String>, bool)> {
    let tokens = tokens(content);
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let own = if is_root(name) || name.ends_with("/mod.rs") {
        folder.to_owned()
    } else {
        name.trim_end_matches(".rs").to_owned()
    };
    let (mut found, mut attributes) = (Vec::new(), None);
    let mut at = 0;
    while at < tokens.len() {
        match text(&tokens, at) {
            "#" if text(&tokens, at + 1) == "[" => {
                attributes.get_or_insert(at);
                at = scan::close(&tokens, at + 1);
            }
            "pub" => {
                if text(&tokens, at + 1) == "(" {
                    at = scan::close(&tokens, at + 1);
                }
            }
            "mod" if text(&tokens, at + 2) == ";" => {
                let from = attributes.take().unwrap_or(at);
                let test = (from..at).any(|place| scan::is_test_attribute(&tokens, place));
                let path = (from..at).find(|place| scan::reads(&tokens, *place, &["[", "path", "="]));
                let module = text(&tokens, at + 1);
                let paths = match path {
                    Some(place) => vec![format!("{folder}/{}", text(&tokens, place + 3).trim_matches('"'))],
                    None => vec![format!("{own}/{module}.rs"), format!("{own}/{module}/mod.rs")],
                };
                found.push((paths, test));
            }
            _ => attributes = None,
        }
        at += 1;
    }
    found
}
