//! What a running lockring is asked for by `lockring status`, `drain`, `explain`, `rejects` and `tls failures`.

use serde::Serialize;

use super::admin::{self, Answer, Request};
use super::certs::{DEGRADED, Done, Failure, Target};
use super::refused;

/// A question to the running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How it does.
    Status {
        /// As JSON.
        json: bool,
    },
    /// To answer what is under way and end.
    Drain,
    /// What it would do with a request.
    Explain {
        /// Its URL.
        url: String,
        /// Address of the client.
        from: Option<String>,
        /// As JSON.
        json: bool,
    },
    /// The last requests it refused.
    Rejects {
        /// As JSON.
        json: bool,
    },
    /// The last connections it refused.
    TlsFailures {
        /// As JSON.
        json: bool,
    },
}

impl Ask {
    fn request(&self) -> Request {
        match self {
            Self::Status { .. } => Request::Overview {},
            Self::Drain => Request::Drain {},
            Self::Explain { url, from, .. } => Request::Explain { url: url.clone(), from: from.clone() },
            Self::Rejects { .. } => Request::Rejects {},
            Self::TlsFailures { .. } => Request::TlsFailures {},
        }
    }
}

/// Asks, and says what came back. The exit code of `status` is 3 if somebody has to look.
///
/// # Errors
/// Why there is no answer.
pub fn ask(target: &Target, ask: &Ask) -> Result<Done, Failure> {
    let answer = admin::call(&target.socket()?, &ask.request()).map_err(Failure::run_time)?;
    match (ask, answer) {
        (Ask::Status { json }, Answer::Overview { overview }) => {
            let text = if *json { overview.to_json() } else { overview.text() };
            Ok(Done { code: if overview.is_degraded() { DEGRADED } else { 0 }, ..Done::ok(text) })
        }
        (Ask::Drain, Answer::Draining { already }) => {
            let text = if already { "draining already\n" } else { "draining\n" };
            Ok(Done::ok(text.to_owned()))
        }
        (Ask::Explain { json, .. }, Answer::Explained { explanation }) => {
            Ok(Done::ok(if *json { explanation.to_json() } else { explanation.text() }))
        }
        (Ask::Rejects { json }, Answer::Refused { refused }) => {
            Ok(Done::ok(if *json { to_json(&refused) } else { refused::rejects(&refused) }))
        }
        (Ask::TlsFailures { json }, Answer::Refused { refused }) => {
            Ok(Done::ok(if *json { to_json(&refused) } else { refused::tls_failures(&refused) }))
        }
        _ => Err(Failure::run_time(
            "the answer is to another question; use the `lockring` of the same release",
        )),
    }
}

fn to_json(value: &impl Serialize) -> String {
    // The types have no map with keys other than texts, so this cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
