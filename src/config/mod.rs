//! Room 3. What the user wrote, with positions, and what it means.
//!
//! `raw` (the text as a tree with places) is held against the one table of options ([`reference`](mod@reference),
//! `shape`), becomes the [`model`] (`resolve`), and is judged as a whole (`whole`). Every error of a run is
//! found in that run. Pure: texts come through [`Files`]; certificates and sockets are `ops::check`'s.

mod acme;
pub mod arguments;
mod authority;
mod challenge;
pub mod diagnostic;
mod dns;
pub mod endpoint;
pub mod host;
pub mod model;
mod nearest;
pub mod path;
mod raw;
mod reader;
pub mod reference;
pub mod render;
mod resolve;
pub mod secret;
mod shape;
mod site;
mod url;
pub mod value;
mod whole;

use std::path::{Path, PathBuf};

pub use arguments::{ProxyArguments, from_arguments};
pub use diagnostic::{Code, Diagnostic, Place, Severity, Spot};
pub use model::Model;
pub use resolve::default_state;
pub use whole::is_reached;

use crate::limits;
use diagnostic::Findings;
use raw::Node;

/// One text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Path of the file; relative paths written in it start from its directory.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What a load needs from outside; `ops::check` implements it over the file system.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// Why it cannot be read, as a sentence for the user.
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The files that match `pattern` (`*` and `?` within a path segment), seen from directory `base`, sorted.
    /// A pattern without `*` and `?` names itself, whether or not it exists.
    ///
    /// # Errors
    /// Why it cannot be looked up, as a sentence for the user.
    fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String>;

    /// The value of an environment variable.
    fn env(&self, name: &str) -> Option<String>;

    /// Whether the process runs as root.
    fn is_root(&self) -> bool;
}

/// A valid configuration and where its parts were written.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub model: Model,
    /// Where it was written, for checks that need files and sockets.
    pub places: Places,
    /// The texts, the root first.
    pub sources: Vec<Source>,
    /// What can be used but should be looked at.
    pub warnings: Vec<Diagnostic>,
}

/// Where the parts of a model were written.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// One for each of [`model::Server::https`]; none for a default.
    pub https: Vec<Option<Spot>>,
    /// One for each of [`model::Server::http`]; none for a default.
    pub http: Vec<Option<Spot>>,
    /// `[server] certificates`.
    pub certificates: Option<Spot>,
    /// `[acme] ca_file`.
    pub ca_file: Option<Spot>,
    /// The secrets of `[acme]`, `[dns.NAME]` and sites.
    pub secrets: Vec<SecretPlace>,
    /// The programs of `[acme] hook` and `[dns.NAME] exec`.
    pub programs: Vec<(String, Spot)>,
    /// One for each of [`Model::sites`].
    pub sites: Vec<SitePlaces>,
}

/// Where a secret that is no certificate's key was written.
#[derive(Clone, Debug)]
pub struct SecretPlace {
    /// Where the secret is.
    pub secret: model::Secret,
    /// How it is encoded.
    pub form: SecretForm,
    /// Where that is written.
    pub spot: Spot,
}

/// How a secret is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretForm {
    /// Base64 (RFC 4648 §4), as TSIG keys are.
    Base64,
    /// Base64url without padding (RFC 4648 §5), as MAC keys of external accounts are.
    Base64Url,
}

/// Where the parts of a site were written.
#[derive(Clone, Debug)]
pub struct SitePlaces {
    /// The host.
    pub host: Spot,
    /// Certificate and key of each pair.
    pub pairs: Vec<(Spot, Spot)>,
    /// One for each of [`model::Site::routes`].
    pub routes: Vec<RoutePlaces>,
}

/// Where the parts of a route were written.
#[derive(Clone, Debug)]
pub struct RoutePlaces {
    /// The path; for the route that a site's own `to` makes, that `to`.
    pub path: Spot,
    /// Each upstream.
    pub to: Vec<Spot>,
}

/// Reads a configuration and all it includes.
///
/// # Errors
/// Every error and warning of the run, in file order.
pub fn load(root: Source, files: &dyn Files) -> Result<Loaded, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let mut sources = vec![root];
    let mut roots = Vec::new();
    let included = match sources.first().map(|source| read(0, source, &mut findings)) {
        Some(Some(node)) => {
            let included = includes(&node, &sources, files, &mut findings);
            roots.push(node);
            included
        }
        _ => Vec::new(),
    };
    for (path, spot) in included {
        match files.read(&path) {
            Ok(text) => {
                let index = u32::try_from(sources.len()).unwrap_or(u32::MAX);
                let source = Source { name: path.display().to_string(), text };
                let node = read(index, &source, &mut findings);
                sources.push(source);
                roots.extend(node.filter(|node| no_include(node, &mut findings)));
            }
            Err(cause) => {
                findings.partial = true;
                let cause = format!("`{}` cannot be read: {cause}", path.display());
                findings.note(Code::Unreadable, spot, cause, "correct the path or the permissions");
            }
        }
    }
    let (model, places) = resolve::resolve(&roots, &sources, files, &mut findings);
    whole::check(&model, &places, &mut findings);
    if findings.any_error() {
        return Err(findings.diagnostics(&sources));
    }
    let warnings = findings.diagnostics(&sources);
    Ok(Loaded { model, places, sources, warnings })
}

/// One text to its tree, held against the table of options.
fn read(index: u32, source: &Source, findings: &mut Findings) -> Option<Node> {
    if source.text.len() as u64 > limits::CONFIG_BYTES {
        findings.partial = true;
        let cause = format!("the file has more than {} bytes", limits::CONFIG_BYTES);
        findings.note(Code::Unreadable, Spot::file(index), cause, "split it and use `include`");
        return None;
    }
    let node = raw::parse(index, &source.text, findings)?;
    shape::check(&node, findings);
    Some(node)
}

/// The files that the root includes, each once, with the place that names it.
fn includes(
    root: &Node,
    sources: &[Source],
    files: &dyn Files,
    findings: &mut Findings,
) -> Vec<(PathBuf, Spot)> {
    let mut found: Vec<(PathBuf, Spot)> = Vec::new();
    let name = sources.first().map_or("", |source| source.name.as_str());
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let patterns = root.entry("include").map(|entry| entry.node.texts()).unwrap_or_default();
    for (pattern, spot) in patterns {
        if pattern.is_empty() || pattern.contains('\0') || pattern.contains("**") {
            let remedy = "write a file or a pattern such as \"sites/*.toml\"";
            findings.note(Code::BadInclude, spot, format!("`{pattern}` cannot be included"), remedy);
            continue;
        }
        let paths = match files.glob(pattern, base) {
            Ok(paths) => paths,
            Err(cause) => {
                findings.partial = true;
                let cause = format!("`{pattern}` cannot be looked up: {cause}");
                findings.note(Code::BadInclude, spot, cause, "correct the path or the permissions");
                continue;
            }
        };
        if paths.is_empty() {
            let cause = format!("`{pattern}` matches no file");
            findings.note(Code::IncludesNothing, spot, cause, "correct the pattern, or remove it");
        }
        for path in paths {
            if path != Path::new(name) && !found.iter().any(|(known, _)| *known == path) {
                found.push((path, spot));
            }
        }
        if found.len() > limits::INCLUDED_FILES {
            let cause = format!("more than {} files are included", limits::INCLUDED_FILES);
            findings.note(Code::BadInclude, spot, cause, "join some of them");
            found.truncate(limits::INCLUDED_FILES);
            break;
        }
    }
    found
}

/// Included files include nothing: one list in one place shows all there is.
fn no_include(node: &Node, findings: &mut Findings) -> bool {
    if let Some(entry) = node.entry("include") {
        let cause = "an included file includes others";
        findings.note(Code::BadInclude, entry.key_spot, cause, "name them in the main file");
    }
    true
}

/// Any text is a model or a list with an error, each place lies in the text, and what is shown of it is a
/// few lines.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    struct Nothing;
    impl Files for Nothing {
        fn read(&self, _: &Path) -> Result<String, String> {
            Err("there are no files".to_owned())
        }
        fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
            Ok(vec![base.join(pattern)])
        }
        fn env(&self, _: &str) -> Option<String> {
            None
        }
        fn is_root(&self) -> bool {
            false
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let found = match load(Source { name: "any.toml".to_owned(), text: text.to_owned() }, &Nothing) {
        Ok(loaded) => {
            assert!(loaded.model.sites.iter().all(|site| !site.routes.is_empty()), "a site serves nothing");
            assert_eq!(loaded.model.sites.len(), loaded.places.sites.len(), "places are missing");
            loaded.warnings
        }
        Err(found) => {
            assert!(found.iter().any(|d| d.severity == Severity::Error), "refused without an error");
            found
        }
    };
    for diagnostic in &found {
        assert!(text.get(diagnostic.place.span.clone()).is_some(), "a place outside the text");
        let lines = diagnostic.render_text().lines().count();
        assert!((2..=7).contains(&lines), "{lines} lines");
        assert!(diagnostic.render_json().is_object(), "no JSON");
    }
}

#[cfg(test)]
mod acme_tests;
#[cfg(test)]
mod tests;
