//! Holds what was written against the table of options: unknown names and wrong types. After it every value
//! that is read has the type its option takes; others were reported and are passed over.

use super::diagnostic::{Code, Findings};
use super::nearest::nearest;
use super::raw::{Entry, Node, Raw};
use super::reference::{self, Kind, LATER};
use super::value;

/// Checks a whole file.
pub(super) fn check(root: &Node, findings: &mut Findings) {
    check_table(root, "", findings);
}

fn check_table(table: &Node, section: &str, findings: &mut Findings) {
    for entry in table.entries() {
        let name = join(section, &entry.key);
        match reference::find(&name) {
            Some(option) => check_value(&entry.node, option.kind, &name, findings),
            None => unknown(entry, section, &name, findings),
        }
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn check_value(node: &Node, kind: Kind, name: &str, findings: &mut Findings) {
    match (kind, &node.value) {
        (Kind::Table, Raw::Table(_)) => check_table(node, name, findings),
        (Kind::Sites, Raw::Table(entries)) => {
            for entry in entries {
                check_site(&entry.node, findings);
            }
        }
        (Kind::Named, Raw::Table(entries)) => {
            let below = join(name, "NAME");
            for entry in entries {
                match &entry.node.value {
                    Raw::Table(_) => check_table(&entry.node, &below, findings),
                    _ => wrong(&entry.node, &below, kind.wants(), findings),
                }
            }
        }
        (Kind::Authorities, Raw::List(items)) => {
            for item in items {
                match &item.value {
                    Raw::Text(_) => {}
                    Raw::Table(_) => check_table(item, name, findings),
                    _ => wrong(item, name, "a string or a table", findings),
                }
            }
        }
        (Kind::Tables | Kind::TableOrOff, Raw::Table(_)) => check_table(node, name, findings),
        (Kind::TableOrOff, Raw::Flag(false)) => {}
        (Kind::Tables, Raw::List(tables)) => {
            for table in tables {
                match &table.value {
                    Raw::Table(_) => check_table(table, name, findings),
                    _ => wrong(table, name, "a table", findings),
                }
            }
        }
        (Kind::Texts, Raw::List(items)) => {
            for item in items.iter().filter(|item| !matches!(item.value, Raw::Text(_))) {
                wrong(item, name, "a string", findings);
            }
        }
        (Kind::Text | Kind::Texts | Kind::Workers | Kind::Authorities, Raw::Text(_))
        | (Kind::Size(..) | Kind::SizeOrNone(..) | Kind::Duration(..), Raw::Text(_))
        | (Kind::Flag, Raw::Flag(_))
        | (Kind::Count(..) | Kind::Workers, Raw::Integer(_)) => {}
        _ => wrong(node, name, kind.wants(), findings),
    }
}

fn check_site(node: &Node, findings: &mut Findings) {
    match &node.value {
        Raw::Text(_) => {}
        Raw::List(_) => check_value(node, Kind::Texts, "sites.HOST.to", findings),
        Raw::Table(_) => check_table(node, "sites.HOST", findings),
        _ => wrong(node, "sites.HOST", Kind::Sites.wants(), findings),
    }
}

fn wrong(node: &Node, name: &str, wants: &str, findings: &mut Findings) {
    let short = name.rsplit('.').next().unwrap_or(name);
    let what = match short {
        "HOST" => "a site",
        "NAME" => "dns",
        short => short,
    };
    let kind = match short {
        "NAME" => Kind::Named,
        _ => reference::find(name).map_or(Kind::Sites, |option| option.kind),
    };
    let remedy = match node.value {
        Raw::Integer(number) => number_remedy(number, kind),
        _ => None,
    };
    let cause = format!("`{what}` cannot be {}", node.kind());
    findings.note(Code::WrongType, node.spot, cause, remedy.unwrap_or_else(|| format!("write {wants}")));
}

/// What the user meant by a bare number, if the option takes a text.
fn number_remedy(number: i64, kind: Kind) -> Option<String> {
    let positive = u64::try_from(number).ok()?;
    let quoted = match kind {
        Kind::Text | Kind::Texts | Kind::Sites => positive.to_string(),
        Kind::Size(..) | Kind::SizeOrNone(..) => value::show_size(positive),
        Kind::Duration(..) => format!("{positive}s"),
        Kind::Flag | Kind::Count(..) | Kind::Workers | Kind::Table | Kind::Tables => return None,
        Kind::Named | Kind::TableOrOff | Kind::Authorities => return None,
    };
    Some(format!("write \"{quoted}\""))
}

fn unknown(entry: &Entry, section: &str, name: &str, findings: &mut Findings) {
    let key = &entry.key;
    let (cause, remedy) = if LATER.contains(&name) {
        (format!("this version of lockring does not have `{key}`"), "remove it".to_owned())
    } else {
        (format!("unknown option `{key}`{}", shown_section(section)), suggestion(key, section))
    };
    findings.note(Code::UnknownKey, entry.key_spot, cause, remedy);
}

fn shown_section(section: &str) -> String {
    match section {
        "" => " at the top".to_owned(),
        "sites.HOST" => " of a site".to_owned(),
        "acme.on_demand" => " in [acme.on_demand]".to_owned(),
        _ => match section.rsplit_once('.') {
            None | Some((_, "NAME")) => format!(" in [{section}]"),
            Some((_, last)) => format!(" in `{last}`"),
        },
    }
}

fn suggestion(key: &str, section: &str) -> String {
    if let Some(near) = nearest(key, reference::names_below(section)) {
        return format!("did you mean `{near}`?");
    }
    if section.is_empty() && key.contains(['.', '*']) || key == "localhost" {
        return format!("a host belongs in [sites]: write [sites.\"{key}\"], or the line below [sites]");
    }
    // The right word in the wrong table: TOML puts a line into the last table that was opened.
    if let Some(elsewhere) = reference::named(key).next() {
        return format!("`{key}` belongs {}", home(elsewhere));
    }
    let all = reference::options().filter_map(|option| option.name.rsplit('.').next());
    if let Some(near) = nearest(key, all)
        && let Some(elsewhere) = reference::named(near).next()
    {
        return format!("did you mean `{near}`? It belongs {}", home(elsewhere));
    }
    let known: Vec<&str> = reference::names_below(section).collect();
    format!("known here: {}", known.join(", "))
}

fn home(name: &str) -> String {
    match name.rsplit_once('.') {
        None => "at the top, before the first [table]".to_owned(),
        Some((section, _)) => format!("in [{}]", section.replacen("HOST", "\"HOST\"", 1)),
    }
}
