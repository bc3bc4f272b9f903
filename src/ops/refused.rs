//! The last refusals of all workers, as `lockring rejects` and `lockring tls failures` tell them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::certs::{columns, plain};
use crate::handoff::refusals::Kept;
use crate::http::date;
use crate::io::worker::Setup;

/// Which refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of requests.
    Requests,
    /// Of connections, before or in the TLS handshake.
    Connections,
}

/// One refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// When, in ms since 1970.
    pub time_ms: u64,
    /// The client.
    pub peer: String,
    /// Why.
    pub reason: String,
    /// The server name or host asked for, as sent, in Unicode so far as it is that; its beginning, if it is long.
    pub name: String,
    /// The status answered; 0 without one.
    pub status: u16,
    /// Position of the byte that was refused, from the start of the head.
    pub at: Option<u32>,
    /// The worker that refused.
    pub worker: usize,
}

impl Refused {
    /// Those that are kept, oldest first.
    #[must_use]
    pub fn all(setup: &Setup, kind: Kind) -> Vec<Self> {
        let mut all = Vec::new();
        for (worker, meter) in setup.meters.workers().iter().enumerate() {
            let ring = match kind {
                Kind::Requests => &meter.own().rejects,
                Kind::Connections => &meter.own().tls_failures,
            };
            all.extend(ring.kept().into_iter().map(|kept| Self::of(kept, worker)));
        }
        all.sort_by_key(|refused| refused.time_ms);
        all
    }

    fn of(kept: Kept, worker: usize) -> Self {
        // Port 0 stands for a client that a trusted proxy named, whose port nobody knows.
        let peer = match kept.peer.port() {
            0 => kept.peer.ip().to_string(),
            _ => kept.peer.to_string(),
        };
        Self {
            time_ms: kept.time_unix_ms,
            peer,
            reason: kept.reason,
            name: String::from_utf8_lossy(&kept.name).into_owned(),
            status: kept.status,
            at: kept.at,
            worker,
        }
    }
}

/// Requests, one a line.
#[must_use]
pub fn rejects(refused: &[Refused]) -> String {
    if refused.is_empty() {
        return "no request was refused\n".to_owned();
    }
    let mut rows = vec![["TIME", "PEER", "STATUS", "REASON", "BYTE", "HOST"].map(str::to_owned)];
    rows.extend(refused.iter().map(|refused| {
        [
            moment(refused.time_ms),
            refused.peer.clone(),
            refused.status.to_string(),
            plain(&refused.reason),
            refused.at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            shown(&refused.name),
        ]
    }));
    columns(&rows)
}

/// Connections, counted by name and reason, most frequent first, with the last peer.
#[must_use]
pub fn tls_failures(refused: &[Refused]) -> String {
    if refused.is_empty() {
        return "no connection was refused\n".to_owned();
    }
    let mut groups: BTreeMap<(&str, &str), (usize, &Refused)> = BTreeMap::new();
    for refused in refused {
        let group = groups.entry((&refused.name, &refused.reason)).or_insert((0, refused));
        *group = (group.0 + 1, refused);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let mut rows = vec![["COUNT", "NAME", "REASON", "LAST", "LAST PEER"].map(str::to_owned)];
    rows.extend(groups.into_iter().map(|((name, reason), (count, last))| {
        [count.to_string(), shown(name), plain(reason), moment(last.time_ms), last.peer.clone()]
    }));
    columns(&rows)
}

fn shown(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { plain(name) }
}

fn moment(ms: u64) -> String {
    let mut text = Vec::new();
    date::write_imf_fixdate(ms / 1000, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(time_ms: u64, name: &str, reason: &str) -> Refused {
        let peer = format!("192.0.2.1:{time_ms}");
        Refused { time_ms, peer, reason: reason.into(), name: name.into(), ..Refused::default() }
    }

    #[test]
    fn failures_are_counted_by_name_and_reason_with_the_last_peer() {
        let all = [
            refused(1, "b.test", "unknown-server-name"),
            refused(2, "", "hello-cut"),
            refused(3, "b.test", "unknown-server-name"),
            refused(4, "\u{1b}[2J", "no-version-in-common"),
        ];
        let text = tls_failures(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("2 ") && lines[1].ends_with("192.0.2.1:3"), "{text}");
        assert_eq!(lines.len(), 4);
        assert!(!text.contains('\u{1b}'), "names do not steer the terminal");
        assert!(tls_failures(&[]).contains("no connection"));
    }

    #[test]
    fn requests_have_the_position_of_the_byte() {
        let all = [Refused { status: 400, at: Some(17), ..refused(1, "a.test", "field-name-invalid") }];
        let text = rejects(&all);
        let line = text.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split_whitespace().rev().take(4).collect();
        assert_eq!(words, ["a.test", "17", "field-name-invalid", "400"], "{text}");
    }
}
