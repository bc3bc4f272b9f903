//! `lockring certs` and `lockring acme`: what certificates there are and how they are got, from the state
//! directory, so that it also works while nothing runs; and requests to the running process.

mod acme;
mod inventory;

use std::path::{Path, PathBuf};

use super::admin::{self, Answer, Request, reason_of};
use super::check::{self, Disk, Format};
use crate::acme::ca::Reason;
use crate::acme::store;
use crate::config::{self, model::Model};
use inventory::Inventory;

/// Which lockring is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its configuration file.
    pub config: Option<PathBuf>,
    /// Its state directory.
    pub state: Option<PathBuf>,
    /// Its admin socket.
    pub admin: Option<PathBuf>,
}

/// What `lockring certs` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertsAction {
    /// All certificates, one line each.
    List,
    /// All that is known of one.
    Show {
        /// A name on it.
        name: String,
    },
    /// A new one.
    Renew {
        /// Its name.
        name: String,
        /// Also if none is due.
        force: bool,
    },
    /// Its authority revokes it.
    Revoke {
        /// Its name.
        name: String,
        /// Why.
        reason: Reason,
    },
    /// A copy of it and its key.
    Export {
        /// Its name.
        name: String,
        /// Into this directory.
        to: PathBuf,
    },
}

/// What `lockring acme` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeAction {
    /// How renewal stands.
    Status {
        /// How to say it.
        form: StatusForm,
    },
    /// The accounts at authorities.
    Account,
    /// The record that dns-persist-01 asks the operator to set.
    DnsRecord {
        /// The name to be shown as ours.
        name: String,
        /// The authority's issuer domain name, if its challenge says another than what is known.
        issuer: Option<String>,
    },
}

/// How `lockring acme status` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// Metrics in the text format of Prometheus.
    Metrics,
}

/// What to print on standard output, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Text that ends in a line feed.
    pub text: String,
    /// 0, or 3 if something is degraded.
    pub code: u8,
}

/// What to print on standard error, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Text; that of a configuration ends in a line feed.
    pub text: String,
    /// 1: the configuration or the words are wrong. 2: it could not be done.
    pub code: u8,
}

const OK: u8 = 0;
const WRONG_WORDS: u8 = 1;
const RUN_TIME: u8 = 2;
/// It works, but somebody has to look.
pub(super) const DEGRADED: u8 = 3;
/// The file that is taken without `-c`, if it is here.
const USUAL_CONFIG: &str = "lockring.toml";

impl Failure {
    pub(super) fn run_time(text: impl ToString) -> Self {
        Self { text: text.to_string(), code: RUN_TIME }
    }
}

impl Done {
    pub(super) fn ok(text: String) -> Self {
        Self { text, code: OK }
    }
}

impl Target {
    /// Its admin socket.
    pub(super) fn socket(&self) -> Result<PathBuf, Failure> {
        self.place().map(|place| place.admin)
    }
}

/// A target that was looked up.
struct Place {
    state: PathBuf,
    admin: PathBuf,
    model: Option<Model>,
}

impl Target {
    fn place(&self) -> Result<Place, Failure> {
        let usual = Path::new(USUAL_CONFIG);
        let config = match (&self.config, &self.state, &self.admin) {
            (Some(config), ..) => Some(config.as_path()),
            (None, None, None) if usual.exists() => Some(usual),
            _ => None,
        };
        let model = match config {
            Some(path) => {
                let loaded = check::check_file(path);
                let refused = |report: check::Report| report.render(Format::Text);
                Some(loaded.map_err(|report| Failure { text: refused(report), code: WRONG_WORDS })?.model)
            }
            None => None,
        };
        let written = model.as_ref().map(|model| &model.server);
        let state = self.state.clone().or_else(|| written.map(|server| server.state.clone()));
        let state = state.unwrap_or_else(|| config::default_state(&Disk));
        let admin = match (&self.admin, &self.state, written) {
            (Some(admin), ..) => admin.clone(),
            (None, None, Some(server)) => server.admin_path(),
            _ => state.join(config::model::ADMIN_SOCKET),
        };
        Ok(Place { state, admin, model })
    }
}

/// Carries out `lockring certs`. `now`: seconds since 1970.
///
/// # Errors
/// Why it was not done.
pub fn certs(target: &Target, action: &CertsAction, now: u64) -> Result<Done, Failure> {
    let place = target.place()?;
    match action {
        CertsAction::List => Ok(Done::ok(Inventory::of(&place).table(now))),
        CertsAction::Show { name } => {
            let shown = Inventory::of(&place).show(&normal(name), now);
            shown.map(Done::ok).ok_or_else(|| unknown(name, &place))
        }
        CertsAction::Renew { name, force } => {
            let request = Request::Renew { name: Some(normal(name)), force: *force };
            match admin::call(&place.admin, &request).map_err(Failure::run_time)? {
                Answer::Renewing { certificates: 0 } => Ok(Done::ok(format!(
                    "{name}: not due; --force asks for a new certificate all the same\n"
                ))),
                _ => Ok(Done::ok(format!("{name}: under way; `lockring acme status` shows how it goes\n"))),
            }
        }
        CertsAction::Revoke { name, reason } => {
            let request = Request::Revoke { name: normal(name), reason: reason.word().to_owned() };
            admin::call(&place.admin, &request).map_err(Failure::run_time)?;
            Ok(Done::ok(format!("{name}: revoked ({}); a new certificate is due\n", reason.word())))
        }
        CertsAction::Export { name, to } => export(&place, name, to),
    }
}

/// Carries out `lockring acme`. `now`: seconds since 1970.
///
/// # Errors
/// Why it was not done.
pub fn acme(target: &Target, action: &AcmeAction, now: u64) -> Result<Done, Failure> {
    let place = target.place()?;
    match action {
        AcmeAction::Status { form } => acme::status(&place, *form, now),
        AcmeAction::Account => acme::account(&place, now),
        AcmeAction::DnsRecord { name, issuer } => acme::dns_record(&place, &normal(name), issuer.as_deref()),
    }
}

/// Reads the word of a reason, for the command line.
///
/// # Errors
/// The words that there are.
pub fn parse_reason(word: &str) -> Result<Reason, String> {
    let words = Reason::ALL.map(Reason::word).join(", ");
    reason_of(word).ok_or_else(|| format!("known reasons: {words}"))
}

fn export(place: &Place, name: &str, to: &Path) -> Result<Done, Failure> {
    let pem = Inventory::of(place).pem(&normal(name)).ok_or_else(|| unknown(name, place))?;
    let made = store::export(to, &normal(name), &pem).map_err(Failure::run_time)?;
    let what = match made {
        store::Exported::Written => "written to",
        store::Exported::Unchanged => "there already, in",
    };
    Ok(Done::ok(format!("{name}: {what} {}\n", to.display())))
}

fn unknown(name: &str, place: &Place) -> Failure {
    let state = place.state.display();
    Failure::run_time(format!("no certificate is named {name:?} in {state}; `lockring certs` lists them"))
}

/// Names as they are kept: lower case, IPv6 without brackets.
fn normal(name: &str) -> String {
    config::host::host(name).map_or_else(|_| name.to_owned(), |host| host.to_string())
}

/// Columns of equal width, two blanks apart.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Text of others without what a terminal would act on.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
#[path = "certs_tests.rs"]
mod tests;
