//! `lockring acme status`, `account` and `dns-record`: from the running process, or, when there is none, from what
//! it last wrote.

use super::{DEGRADED, Done, Failure, OK, Place, StatusForm, columns, plain};
use crate::acme::dns;
use crate::acme::status::{self, AuthorityStatus, Severity, Status};
use crate::config::model::Preset;
use crate::ops::admin::{self, Answer, CallError, Request};
use crate::ops::check;

/// What is known, and from whom.
pub(super) struct Known {
    pub status: Status,
    /// Why the running process did not say so itself; none: it did.
    from_disk: Option<CallError>,
}

/// What is known.
///
/// # Errors
/// Nobody runs, and nothing was written.
pub(super) fn known(place: &Place) -> Result<Known, Failure> {
    let error = match admin::call(&place.admin, &Request::Status {}) {
        Ok(Answer::Status { status }) => return Ok(Known { status: *status, from_disk: None }),
        Ok(_) => return Err(Failure::run_time(CallError::NoAnswer(place.admin.clone()))),
        Err(error) => error,
    };
    // Not through the store: whoever may read the file need not be its owner.
    let path = place.state.join("acme").join("status.json");
    let bytes = check::read_file(&path, crate::limits::ADMIN_ANSWER_BYTES).map_err(|cause| {
        Failure::run_time(format!(
            "{error}; nor is there a status of an earlier run: {}: {cause}",
            path.display()
        ))
    })?;
    let status = Status::from_json(&bytes)
        .map_err(|cause| Failure::run_time(format!("{}: damaged: {cause}", path.display())))?;
    Ok(Known { status, from_disk: Some(error) })
}

pub(super) fn status(place: &Place, form: StatusForm, now: u64) -> Result<Done, Failure> {
    let Known { status, from_disk } = known(place)?;
    let code = if status.severity() >= Severity::Error { DEGRADED } else { OK };
    let bytes = match form {
        StatusForm::Json => status.to_json(),
        StatusForm::Metrics => {
            let mut bytes = Vec::new();
            status::write_metrics(&status, &mut bytes);
            bytes
        }
        StatusForm::Table => Vec::new(),
    };
    if form != StatusForm::Table {
        return Ok(Done { text: String::from_utf8_lossy(&bytes).into_owned(), code });
    }
    let mut text = status::table(&status, now);
    if let Some(error) = from_disk {
        text.push_str(&format!("as written {} s ago: {error}\n", now.saturating_sub(status.at)));
    }
    Ok(Done { text, code })
}

pub(super) fn account(place: &Place, now: u64) -> Result<Done, Failure> {
    let status = known(place)?.status;
    if status.authorities.is_empty() {
        return Ok(Done::ok("no authority was asked yet\n".to_owned()));
    }
    let shown = status.authorities.iter().map(|authority| {
        let mut lines = vec![["authority:".to_owned(), plain(&authority.name)]];
        let mut line = |key: &str, value: &str| lines.push([format!("{key}:"), plain(value)]);
        line("directory", &authority.directory);
        line("account", authority.account.as_deref().unwrap_or("none yet"));
        if !authority.profiles.is_empty() {
            line("profiles", &authority.profiles.join(", "));
        }
        if let Some(until) = authority.retry_after.filter(|until| *until > now) {
            line("left alone for", &format!("{} s", until - now));
        }
        columns(&lines)
    });
    Ok(Done::ok(shown.collect::<Vec<_>>().join("\n")))
}

/// The record for each authority at which there is an account.
pub(super) fn dns_record(place: &Place, name: &str, issuer: Option<&str>) -> Result<Done, Failure> {
    let status = known(place)?.status;
    let mut text = String::new();
    let mut nameless = Vec::new();
    for authority in &status.authorities {
        let Some(account) = &authority.account else { continue };
        let Some(issuer) = issuer.or_else(|| issuer_of(authority)) else {
            nameless.push(plain(&authority.name));
            continue;
        };
        let (owner, value) = dns::expected_persist_record(name, issuer, account, false, None)
            .map_err(|error| Failure::run_time(format!("{name}: {error}")))?;
        text.push_str(&format!("; {}\n{owner} IN TXT {}\n", plain(&authority.name), quoted(&plain(&value))));
    }
    if !nameless.is_empty() {
        let cause =
            format!("the issuer domain name of {} is not known; give it with --issuer", nameless.join(", "));
        return Err(Failure::run_time(cause));
    }
    if text.is_empty() {
        let cause = "there is no account at an authority yet, which the record has to name; it is made at the first order";
        return Err(Failure::run_time(cause));
    }
    Ok(Done::ok(text))
}

/// As in their CAA records.
fn issuer_of(authority: &AuthorityStatus) -> Option<&'static str> {
    let preset = Preset::ALL.into_iter().find(|preset| preset.directory() == authority.directory)?;
    Some(match preset {
        Preset::LetsEncrypt | Preset::LetsEncryptStaging => "letsencrypt.org",
        Preset::ZeroSsl => "sectigo.com",
    })
}

/// Character strings of a zone file (RFC 1035 §5.1), of at most 255 bytes each.
fn quoted(value: &str) -> String {
    let bytes: Vec<char> = value.chars().collect();
    let pieces = bytes.chunks(STRING_CHARS).map(|piece| {
        let escaped: String = piece
            .iter()
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([*c]))
            .collect();
        format!("\"{escaped}\"")
    });
    pieces.collect::<Vec<_>>().join(" ")
}

/// URLs are ASCII, so characters are bytes.
const STRING_CHARS: usize = 255;

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_become_strings_of_a_zone_file() {
        assert_eq!(quoted("a; b=\"c\\"), r#""a; b=\"c\\""#);
        assert_eq!(quoted(&"x".repeat(300)), format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
    }
}
