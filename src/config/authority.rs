//! `directory` and `eab`: the authorities of a policy and the accounts they ask for.

use super::diagnostic::{Code, Spot};
use super::model::{Authority, ExternalAccount, Preset};
use super::raw::{Entry, Node, Raw};
use super::reader::Reader;
use super::url::{HTTPS, url};
use super::{Places, SecretForm, SecretPlace};

/// What `directory` says.
#[derive(Clone, Debug)]
pub(super) enum Directory {
    /// `off`: nobody is asked.
    Off,
    /// These, in order of preference, each with its place; nothing if none can be read.
    Ask(Vec<(Authority, Spot)>),
}

/// Reads `directory`: a word, a URL, or a list of both and of tables.
pub(super) fn directory(reader: &mut Reader<'_>, entry: &Entry, places: &mut Places) -> Option<Directory> {
    let items = match &entry.node.value {
        Raw::Text(text) if text == "off" => return Some(Directory::Off),
        Raw::Text(_) => std::slice::from_ref(&entry.node),
        Raw::List(items) => items.as_slice(),
        _ => return None,
    };
    if items.is_empty() {
        let remedy = "name at least one, such as \"letsencrypt\", or write \"off\"";
        reader.findings.note(Code::Missing, entry.key_spot, "the list of authorities is empty", remedy);
    }
    let mut listed: Vec<(Authority, Spot)> = Vec::new();
    for item in items {
        let Some(authority) = item_of(reader, item, places) else { continue };
        if let Some((_, first)) = listed.iter().find(|(known, _)| known.directory == authority.directory) {
            let cause = format!("`{}` is listed twice", authority.directory);
            let other = (*first, "the first is here");
            reader.findings.conflict(Code::BadChoice, item.spot, other, cause, "remove one");
            continue;
        }
        listed.push((authority, item.spot));
    }
    Some(Directory::Ask(listed))
}

fn item_of(reader: &mut Reader<'_>, item: &Node, places: &mut Places) -> Option<Authority> {
    let Raw::Table(_) = &item.value else { return authority(reader, item) };
    let eab = item.entry("eab").and_then(|entry| account(reader, entry, places));
    let Some(url) = item.entry("url") else {
        let remedy = "add url = \"https://ca.internal/directory\", or the short name of an authority";
        reader.findings.note(Code::Missing, item.spot, "the authority has no `url`", remedy);
        return None;
    };
    let authority = authority(reader, &url.node)?;
    if let (Some(account), false) = (item.entry("eab"), takes_account(&authority)) {
        let cause = format!("`{}` asks for no external account", name(&authority));
        reader.findings.note(Code::Contradiction, account.key_spot, cause, "remove `eab`");
        return None;
    }
    Some(Authority { eab, ..authority })
}

fn authority(reader: &mut Reader<'_>, node: &Node) -> Option<Authority> {
    let Raw::Text(text) = &node.value else { return None };
    if text.contains("://") {
        let directory = url(reader, text, node.spot, HTTPS)?;
        let preset = Preset::ALL.into_iter().find(|preset| preset.directory() == directory);
        return Some(Authority { directory, preset, eab: None });
    }
    if text == "off" {
        let cause = "`off` stands beside authorities";
        reader.findings.note(Code::Contradiction, node.spot, cause, "write it alone: directory = \"off\"");
        return None;
    }
    let words = Preset::ALL.map(|preset| (preset.word(), preset));
    if let Some((_, preset)) = words.iter().find(|(word, _)| word == text) {
        return Some(preset_authority(*preset));
    }
    let cause = format!("there is no authority `{text}`");
    let remedy = match super::nearest::nearest(text, words.iter().map(|(word, _)| *word).chain(["off"])) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let words = words.map(|(word, _)| format!("\"{word}\"")).join(", ");
            format!("write {words}, \"off\", or the URL of its directory, \"https://HOST/PATH\"")
        }
    };
    reader.findings.note(Code::BadChoice, node.spot, cause, remedy);
    None
}

fn preset_authority(preset: Preset) -> Authority {
    Authority { directory: preset.directory().to_owned(), preset: Some(preset), eab: None }
}

/// What the user calls it.
fn name(authority: &Authority) -> &str {
    match authority.preset {
        Some(preset) => preset.word(),
        None => &authority.directory,
    }
}

/// Whether it may ask for an external account.
fn takes_account(authority: &Authority) -> bool {
    !matches!(authority.preset, Some(Preset::LetsEncrypt | Preset::LetsEncryptStaging))
}

/// The authorities that are asked, with the account written beside them; `None`: nobody is. `speaks`: findings
/// are said, which the table above has not said already.
pub(super) fn with_account(
    reader: &mut Reader<'_>,
    directory: Option<&Directory>,
    eab: Option<&(ExternalAccount, Spot)>,
    speaks: bool,
) -> Option<Vec<Authority>> {
    let mut listed = match directory {
        Some(Directory::Off) => return None,
        Some(Directory::Ask(listed)) => listed.clone(),
        None => vec![(preset_authority(Preset::LetsEncrypt), Spot::file(0))],
    };
    let is_empty = listed.is_empty();
    if let Some((account, spot)) = eab {
        let taker =
            listed.iter_mut().find(|(authority, _)| takes_account(authority) && authority.eab.is_none());
        match taker {
            Some((authority, _)) => authority.eab = Some(account.clone()),
            None if speaks && !is_empty => {
                let cause = "no authority here asks for an external account";
                let remedy = "remove `eab`, or name in `directory` the authority whose account it is";
                reader.findings.note(Code::Contradiction, *spot, cause, remedy);
            }
            None => {}
        }
    }
    for (authority, spot) in &listed {
        if speaks && authority.preset == Some(Preset::ZeroSsl) && authority.eab.is_none() {
            let cause = "`zerossl` gives certificates to holders of an account of theirs only";
            let remedy = "add eab = { kid = \"…\", hmac = \"file:PATH\" } with what their web site shows";
            reader.findings.note(Code::Missing, *spot, cause, remedy);
        }
    }
    // Empty only beside an error; never in a model that is used.
    Some(listed.into_iter().map(|(authority, _)| authority).collect())
}

/// Reads an external account.
pub(super) fn account(
    reader: &mut Reader<'_>,
    entry: &Entry,
    places: &mut Places,
) -> Option<ExternalAccount> {
    let Raw::Table(_) = &entry.node.value else { return None };
    for (key, example) in [("kid", "\"…\""), ("hmac", "\"file:PATH\"")] {
        if entry.node.entry(key).is_none() {
            let cause = format!("the external account has no `{key}`");
            reader.findings.note(Code::Missing, entry.key_spot, cause, format!("add {key} = {example}"));
        }
    }
    let kid = entry.node.entry("kid").and_then(|kid| reader.label(&kid.node, "an external account"));
    let hmac = entry.node.entry("hmac").and_then(|hmac| Some((reader.secret(&hmac.node)?, hmac.node.spot)));
    if let Some((secret, spot)) = &hmac {
        let form = SecretForm::Base64Url;
        places.secrets.push(SecretPlace { secret: secret.clone(), form, spot: *spot });
    }
    Some(ExternalAccount { kid: kid?, hmac: hmac?.0 })
}
