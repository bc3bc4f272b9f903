//! `lockring proxy [HOST=]UPSTREAM…`: the arguments become the equal TOML text, and that is loaded, so that
//! there is one way from what is written to what is meant.

use super::diagnostic::Diagnostic;
use super::{Files, Loaded, Source, load};

/// What `lockring proxy` was given, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyArguments {
    /// `[HOST=]UPSTREAM`; one host named several times has several upstreams.
    pub sites: Vec<String>,
    /// Addresses of TLS listeners.
    pub https: Vec<String>,
    /// Addresses of plain listeners.
    pub http: Vec<String>,
    /// State directory.
    pub state: Option<String>,
    /// Worker count or CPU list.
    pub workers: Option<String>,
    /// Authority that is asked for certificates: a word, a URL, or `off`.
    pub acme: Option<String>,
    /// Roots of that authority's own HTTPS.
    pub acme_ca_file: Option<String>,
    /// Contact address for authorities.
    pub email: Option<String>,
    /// Print the equal TOML instead of running.
    pub print_config: bool,
}

/// The configuration that the arguments stand for, and its TOML.
///
/// # Errors
/// As [`load`], with places in that TOML.
pub fn from_arguments(
    arguments: &ProxyArguments,
    files: &dyn Files,
) -> Result<(Loaded, String), Vec<Diagnostic>> {
    let text = to_toml(arguments);
    let loaded = load(Source { name: NAME.to_owned(), text: text.clone() }, files)?;
    Ok((loaded, text))
}

/// What diagnostics call the text made of the arguments.
const NAME: &str = "arguments";

/// The equal TOML text.
#[must_use]
pub fn to_toml(arguments: &ProxyArguments) -> String {
    let mut text = String::new();
    if let Some(email) = &arguments.email {
        text.push_str(&format!("email = {}\n\n", quoted(email)));
    }
    let mut server: Vec<String> = Vec::new();
    for (key, addresses) in [("https", &arguments.https), ("http", &arguments.http)] {
        if !addresses.is_empty() {
            server.push(format!("{key} = {}\n", array(addresses)));
        }
    }
    if let Some(workers) = &arguments.workers {
        let count = !workers.is_empty() && workers.bytes().all(|b| b.is_ascii_digit());
        // `workers = 007` is no TOML number.
        let digits = workers.trim_start_matches('0');
        let value = match (count, digits) {
            (true, "") => "0".to_owned(),
            (true, digits) if digits.len() < 10 => digits.to_owned(),
            _ => quoted(workers),
        };
        server.push(format!("workers = {value}\n"));
    }
    if let Some(state) = &arguments.state {
        server.push(format!("state = {}\n", quoted(state)));
    }
    if !server.is_empty() {
        text.push_str("[server]\n");
        text.extend(server);
        text.push('\n');
    }
    let acme = [("directory", &arguments.acme), ("ca_file", &arguments.acme_ca_file)];
    if acme.iter().any(|(_, value)| value.is_some()) {
        text.push_str("[acme]\n");
        let lines = acme.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        text.extend(lines.map(|(key, value)| format!("{key} = {}\n", quoted(value))));
        text.push('\n');
    }
    text.push_str("[sites]\n");
    for (host, upstreams) in grouped(&arguments.sites) {
        let value = match upstreams.as_slice() {
            [one] => quoted(one),
            several => array(several),
        };
        text.push_str(&format!("{} = {value}\n", quoted(&host)));
    }
    text
}

/// Upstreams by host, in the order in which the hosts are first named.
fn grouped(arguments: &[String]) -> Vec<(String, Vec<String>)> {
    let mut sites: Vec<(String, Vec<String>)> = Vec::new();
    for argument in arguments {
        let (host, upstream) = match argument.split_once('=') {
            // `unix:/run/a=b` has no host: no host has a slash.
            Some((host, upstream)) if !host.contains('/') => (host, upstream),
            _ => ("localhost", argument.as_str()),
        };
        match sites.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(host)) {
            Some((_, upstreams)) => upstreams.push(upstream.to_owned()),
            None => sites.push((host.to_owned(), vec![upstream.to_owned()])),
        }
    }
    sites
}

fn array(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
