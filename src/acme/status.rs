//! What is known about certificates from authorities, for people and programs: `status.json`, the table of
//! `acme status`, and metrics. It holds no secret.

use serde::{Deserialize, Serialize};

mod metrics;
mod table;

pub use metrics::write as write_metrics;
pub(super) use table::relative;
pub use table::table;

/// The form in which it is written.
pub const VERSION: u32 = 1;

/// Everything at one moment. Times are in seconds since the Unix epoch. Unknown fields are ignored and
/// missing ones are empty, so that other versions' files can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Form in which it was written.
    pub version: u32,
    /// When it was written.
    pub at: u64,
    /// The acme thread's last sign of life; old while the process runs: it hangs.
    pub last_tick: u64,
    /// Times that the acme thread was started anew after a defect.
    pub thread_restarts: u64,
    /// Whether this process renews; `false`: another one does, and this one loads what it stores.
    pub leader: bool,
    /// Why the state directory cannot be written; `None`: it can.
    pub storage_error: Option<String>,
    /// Seconds by which this machine's clock is ahead of the authorities', as last seen.
    pub clock_skew: Option<i64>,
    /// Certificates.
    pub slots: Vec<SlotStatus>,
    /// Authorities.
    pub authorities: Vec<AuthorityStatus>,
}

/// One certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotStatus {
    /// Its name: the host of the first site that wants it.
    pub name: String,
    /// All names on it.
    pub names: Vec<String>,
    /// What is going on.
    pub state: State,
    /// The step of an order under way.
    pub step: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// URL of the directory of the authority that issued the certificate in use.
    pub issuer: Option<String>,
    /// Profile that it was ordered with.
    pub profile: Option<String>,
    /// Its serial number, hexadecimal.
    pub serial: Option<String>,
    /// Start of validity.
    pub not_before: Option<u64>,
    /// End of validity.
    pub not_after: Option<u64>,
    /// Generation on disk.
    pub generation: Option<u64>,
    /// When it is due for renewal.
    pub renew_at: Option<u64>,
    /// When the next order may be placed.
    pub next_attempt: Option<u64>,
    /// Start of the window that the authority suggests (RFC 9773).
    pub window_start: Option<u64>,
    /// Its end.
    pub window_end: Option<u64>,
    /// Page of the authority that says why the window is as it is.
    pub explanation: Option<String>,
    /// When the last order succeeded.
    pub last_success: Option<u64>,
    /// Orders that succeeded since the process began.
    pub succeeded: u64,
    /// Orders that failed since the process began, by kind.
    pub failed: std::collections::BTreeMap<String, u64>,
    /// Failures in a row, over restarts.
    pub failures: u32,
    /// The first of them.
    pub failing_since: Option<u64>,
    /// The last one's line.
    pub last_error: Option<String>,
    /// Whether the certificate lies outside of its validity by the clock of this machine.
    pub clock_suspect: bool,
}

/// What is going on with one certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is none, and none was tried for yet.
    #[default]
    Empty,
    /// In use, and not due.
    Valid,
    /// A new one is due, and its turn has not come.
    Due,
    /// An order is under way.
    Ordering,
    /// The last attempt failed, the next one has a time.
    Backoff,
    /// The authority refused what was asked: a person has to change something.
    Blocked,
    /// In use, but it could not be stored; that is tried again each minute.
    InMemoryOnly,
}

impl State {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Valid => "valid",
            Self::Due => "due",
            Self::Ordering => "ordering",
            Self::Backoff => "backoff",
            Self::Blocked => "blocked",
            Self::InMemoryOnly => "in-memory-only",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing fails.
    #[default]
    Ok,
    /// A first failure: nobody has to do anything yet.
    Warn,
    /// It has failed for a day, or a person has to act.
    Error,
    /// The certificate is near its end, or past it.
    Critical,
}

/// One authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorityStatus {
    /// URL of its directory.
    pub directory: String,
    /// Its short name, or the host of the URL.
    pub name: String,
    /// URL of the account.
    pub account: Option<String>,
    /// Until when it asked to be left alone.
    pub retry_after: Option<u64>,
    /// Whether it gives renewal information; known once it was asked.
    pub renewal_info: Option<bool>,
    /// Profiles that it lists.
    pub profiles: Vec<String>,
}

impl Status {
    /// The worst of all certificates; an error if the state directory cannot be written.
    #[must_use]
    pub fn severity(&self) -> Severity {
        let storage = if self.storage_error.is_some() { Severity::Error } else { Severity::Ok };
        self.slots.iter().map(|slot| slot.severity).fold(storage, Severity::max)
    }

    /// The exit code of `acme status`: 0, or 1 when a person should look.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.severity() >= Severity::Error)
    }

    /// As JSON, ending in a line break.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Its types have no map with keys other than texts, so this cannot fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// From JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One valid certificate and one that cannot be had.
    pub(super) fn example() -> Status {
        let good = SlotStatus {
            name: "a.example.com".into(),
            names: vec!["a.example.com".into(), "b.example.com".into()],
            state: State::Valid,
            issuer: Some("https://ca.example/dir".into()),
            serial: Some("0a".into()),
            not_before: Some(1_000_000),
            not_after: Some(1_000_000 + 90 * 86_400),
            generation: Some(3),
            renew_at: Some(1_000_000 + 60 * 86_400),
            last_success: Some(1_000_000),
            succeeded: 1,
            ..SlotStatus::default()
        };
        let bad = SlotStatus {
            name: "bad\n\"x\"".into(),
            names: vec!["bad".into()],
            state: State::Blocked,
            severity: Severity::Error,
            next_attempt: Some(1_086_400),
            failed: [("caa".to_owned(), 2)].into(),
            failures: 2,
            failing_since: Some(1_000_000),
            last_error: Some("newOrder: status 403, caa: \u{1b}[31mno".into()),
            ..SlotStatus::default()
        };
        let authority = AuthorityStatus {
            directory: "https://ca.example/dir".into(),
            name: "ca.example".into(),
            retry_after: Some(1_000_120),
            ..AuthorityStatus::default()
        };
        Status {
            version: VERSION,
            at: 1_000_060,
            last_tick: 1_000_060,
            thread_restarts: 1,
            leader: true,
            clock_skew: Some(-3),
            slots: vec![good, bad],
            authorities: vec![authority],
            ..Status::default()
        }
    }

    #[test]
    fn json_comes_back_and_other_versions_are_read() {
        let status = example();
        assert_eq!(Status::from_json(&status.to_json()).unwrap(), status);
        let other = Status::from_json(br#"{"version":9,"slots":[{"name":"x","new":1}],"more":[]}"#).unwrap();
        assert_eq!((other.version, other.slots[0].name.as_str()), (9, "x"));
        assert!(Status::from_json(b"{").is_err());
    }

    #[test]
    fn the_exit_code_follows_the_worst() {
        let mut status = example();
        assert_eq!((status.severity(), status.exit_code()), (Severity::Error, 1));
        status.slots[1].severity = Severity::Warn;
        assert_eq!(status.exit_code(), 0);
        status.storage_error = Some("disk full".into());
        assert_eq!(status.exit_code(), 1);
    }
}
