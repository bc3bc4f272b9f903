//! The admin socket: how a running lockring is asked for things, by this machine and this user only. One
//! connection carries one request, a JSON object on one line, and one answer, likewise.
//!
//! ```text
//! {"version":1,"request":"certs.renew","name":"app.example.com","force":true}
//! {"answer":"renewing","certificates":1}
//! ```
//!
//! The socket is private (0600), and the kernel is asked who connected: anybody but this user and root is
//! refused.

mod client;
mod server;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::explain::Explanation;
use super::overview::Overview;
use super::refused::Refused;
use crate::acme::ca::Reason;
use crate::acme::commands::{Handle, Look};
use crate::acme::preflight::{Finding, Severity};
use crate::acme::status::Status;

pub use client::{CallError, call};
pub use server::{Admin, ListenError};

/// The version of requests and answers. Another one is refused, so that no request is half understood.
pub const VERSION: u32 = 1;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", deny_unknown_fields)]
pub enum Request {
    /// Whether somebody is there, and who.
    #[serde(rename = "ping")]
    Ping {},
    /// A new certificate.
    #[serde(rename = "certs.renew")]
    Renew {
        /// Of which name; none: of all that are due.
        #[serde(default)]
        name: Option<String>,
        /// Also where none is due.
        #[serde(default)]
        force: bool,
    },
    /// A certificate is revoked by its authority.
    #[serde(rename = "certs.revoke")]
    Revoke {
        /// Its name.
        name: String,
        /// A word of [`Reason`].
        reason: String,
    },
    /// What is known about certificates from authorities.
    #[serde(rename = "acme.status")]
    Status {},
    /// What orders of certificates would fail at; none is placed.
    #[serde(rename = "acme.look")]
    Look {},
    /// The whole process at a glance.
    #[serde(rename = "status")]
    Overview {},
    /// Requests under way are answered, then the process ends.
    #[serde(rename = "drain")]
    Drain {},
    /// What would be done with a request.
    #[serde(rename = "explain")]
    Explain {
        /// Its URL.
        url: String,
        /// Address of the client.
        #[serde(default)]
        from: Option<String>,
    },
    /// The last requests refused.
    #[serde(rename = "rejects")]
    Rejects {},
    /// The last connections refused before or in the handshake.
    #[serde(rename = "tls.failures")]
    TlsFailures {},
}

impl Request {
    /// Its word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ping {} => "ping",
            Self::Renew { .. } => "certs.renew",
            Self::Revoke { .. } => "certs.revoke",
            Self::Status {} => "acme.status",
            Self::Look {} => "acme.look",
            Self::Overview {} => "status",
            Self::Drain {} => "drain",
            Self::Explain { .. } => "explain",
            Self::Rejects {} => "rejects",
            Self::TlsFailures {} => "tls.failures",
        }
    }

    /// The words of all requests.
    pub const WORDS: [&str; 10] = [
        "ping",
        "certs.renew",
        "certs.revoke",
        "acme.status",
        "acme.look",
        "status",
        "drain",
        "explain",
        "rejects",
        "tls.failures",
    ];
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Ping`].
    Pong {
        /// [`VERSION`] of the process.
        version: u32,
        /// Its release.
        release: String,
        /// Its number.
        pid: u32,
    },
    /// To [`Request::Renew`].
    Renewing {
        /// How many are tried for.
        certificates: usize,
    },
    /// To [`Request::Revoke`].
    Revoked,
    /// To [`Request::Status`].
    Status {
        /// All of it.
        status: Box<Status>,
    },
    /// To [`Request::Look`].
    Looked {
        /// Certificates that were looked at, also where nothing was found.
        certificates: Vec<Looked>,
    },
    /// To [`Request::Overview`].
    Overview {
        /// All of it.
        overview: Box<Overview>,
    },
    /// To [`Request::Drain`].
    Draining {
        /// Whether it had begun before.
        already: bool,
    },
    /// To [`Request::Explain`].
    Explained {
        /// All of it.
        explanation: Box<Explanation>,
    },
    /// To [`Request::Rejects`] and [`Request::TlsFailures`].
    Refused {
        /// Oldest first.
        refused: Vec<Refused>,
    },
    /// It was not done.
    Error {
        /// Why, for a person.
        text: String,
    },
}

/// What a look at one certificate found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Its name.
    pub name: String,
    /// What may stand in its way.
    pub findings: Vec<Doubt>,
}

/// Something that may stand in the way of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Whether no order would be placed.
    pub error: bool,
    /// What it is.
    pub cause: String,
    /// What to change.
    pub remedy: String,
}

impl From<Look> for Looked {
    fn from(look: Look) -> Self {
        let doubt = |finding: &Finding| Doubt {
            error: finding.severity == Severity::Error,
            cause: finding.to_string(),
            remedy: finding.remedy(),
        };
        Self { name: look.name, findings: look.findings.iter().map(doubt).collect() }
    }
}

/// Whoever answers requests. It is asked on a thread of the connection, and may wait.
pub trait Answers: Send + Sync {
    /// Does what is asked. [`Request::Ping`] does not come here.
    fn answer(&self, request: Request) -> Answer;
}

/// Answers from the acme thread; without one every request is refused.
#[derive(Clone, Debug)]
pub struct AcmeAnswers(pub Option<Handle>);

impl Answers for AcmeAnswers {
    fn answer(&self, request: Request) -> Answer {
        let Some(acme) = &self.0 else {
            let text = "this lockring asks no authority for certificates".to_owned();
            return Answer::Error { text };
        };
        let answer = match request {
            Request::Ping {} => return pong(),
            Request::Renew { name, force } => acme
                .renew(name.as_deref(), force)
                .map(|certificates| Answer::Renewing { certificates })
                .map_err(|error| error.to_string()),
            Request::Revoke { name, reason } => match reason_of(&reason) {
                Some(reason) => {
                    acme.revoke(&name, reason).map(|()| Answer::Revoked).map_err(|error| error.to_string())
                }
                None => Err(format!("{reason:?} is no reason for a revocation")),
            },
            Request::Look {} => acme
                .look()
                .map(|looks| Answer::Looked { certificates: looks.into_iter().map(Looked::from).collect() })
                .map_err(|error| error.to_string()),
            Request::Status {} => {
                Ok(Answer::Status { status: Box::new(Arc::unwrap_or_clone(acme.status())) })
            }
            other => Err(format!("the acme thread does not answer {:?}", other.word())),
        };
        answer.unwrap_or_else(|text| Answer::Error { text })
    }
}

/// The reason of this word: `keyCompromise` as in RFC 5280 §5.3.1, or `key-compromise`.
#[must_use]
pub fn reason_of(word: &str) -> Option<Reason> {
    let word = word.replace('-', "");
    Reason::ALL.into_iter().find(|reason| reason.word().eq_ignore_ascii_case(&word))
}

fn pong() -> Answer {
    Answer::Pong { version: VERSION, release: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
}

/// The line of a request.
fn request_line(request: &Request) -> Vec<u8> {
    let mut value = serde_json::to_value(request).unwrap_or_default();
    if let serde_json::Value::Object(map) = &mut value {
        map.insert("version".to_owned(), VERSION.into());
    }
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Reads the line of a request; what cannot be understood is answered at once.
fn read_request(line: &[u8]) -> Result<Request, Answer> {
    let refuse = |text: String| Err(Answer::Error { text });
    let mut value = match serde_json::from_slice(line) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => return refuse("a request is a JSON object on one line".to_owned()),
    };
    let version = value.remove("version");
    if version.as_ref().and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
        return refuse(format!(
            "this lockring ({}) speaks version {VERSION} of the admin protocol; use the `lockring` of the same release",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let word = value.get("request").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    if !Request::WORDS.contains(&word.as_str()) {
        let known = Request::WORDS.join(", ");
        return refuse(format!(
            "version {VERSION} of the admin protocol has no request {word:?}; it has {known}"
        ));
    }
    serde_json::from_value(serde_json::Value::Object(value))
        .or_else(|error| refuse(format!("the request {word:?} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> [Request; 10] {
        [
            Request::Ping {},
            Request::Renew { name: Some("a\n\"b".to_owned()), force: true },
            Request::Revoke { name: "a".to_owned(), reason: "superseded".to_owned() },
            Request::Status {},
            Request::Look {},
            Request::Overview {},
            Request::Drain {},
            Request::Explain { url: "https://a.test/".to_owned(), from: None },
            Request::Rejects {},
            Request::TlsFailures {},
        ]
    }

    #[test]
    fn requests_are_one_line_and_come_back() {
        for (request, word) in requests().into_iter().zip(Request::WORDS) {
            let line = request_line(&request);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read_request(&line), Ok(request.clone()));
            assert_eq!(request.word(), word);
        }
        let short = br#"{"version":1,"request":"certs.renew"}"#;
        assert_eq!(read_request(short), Ok(Request::Renew { name: None, force: false }));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_the_version() {
        let told = |line: &str| match read_request(line.as_bytes()) {
            Err(Answer::Error { text }) => text,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["", "[]", "1", "{", "{\"version\":1,\"request\":\"ping\"}{}", "\u{1b}"] {
            assert!(told(line).contains("JSON"), "{line}");
        }
        for line in ["{\"request\":\"ping\"}", "{\"version\":2,\"request\":\"ping\"}", "{\"version\":\"1\"}"]
        {
            assert!(told(line).contains("speaks version 1"), "{line}");
        }
        assert!(
            told("{\"version\":1,\"request\":\"certs.delete\"}").contains("has no request \"certs.delete\"")
        );
        assert!(told("{\"version\":1,\"request\":\"certs.revoke\"}").contains("name"));
        assert!(told("{\"version\":1,\"request\":\"ping\",\"more\":1}").contains("more"));
    }

    #[test]
    fn without_an_acme_thread_everything_is_refused() {
        for request in requests() {
            assert!(matches!(AcmeAnswers(None).answer(request), Answer::Error { .. }));
        }
        assert_eq!(reason_of("key-compromise"), Some(Reason::KeyCompromise));
        assert_eq!(reason_of("because"), None);
    }
}
