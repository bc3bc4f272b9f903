//! Outcomes into the worker's log ring and counters.

use std::net::SocketAddr;
use std::time::Instant;

use super::connection::Side;
use super::worker::unix_ms;
use crate::handoff::refusals::Refusal;
use crate::http::head::Version;
use crate::proxy::exchange::Exchange;
use crate::proxy::outcome::{End, Outcome};
use crate::telemetry::access_log::{self, Line, Times};
use crate::telemetry::metrics::Counter;

/// A request that is over.
pub(super) fn request(side: &Side, exchange: &Exchange, now: Instant) {
    let outcome = exchange.outcome();
    let counters = &side.worker.counters;
    counters.count(Counter::RequestsHttp1);
    if outcome.status > 0 && outcome.end != End::ClientClosed {
        counters.count(Counter::answered(outcome.status));
    }
    if let Some(counter) = why(outcome) {
        counters.count(counter);
    }
    if outcome.attempts > 1 {
        counters.add(Counter::Retries, u64::from(outcome.attempts - 1));
    }
    counters.add(Counter::BytesFromClients, outcome.bytes_in);
    counters.add(Counter::BytesToClients, outcome.bytes_out);
    let groups = side.setup.table.groups();
    let site = outcome.site.and_then(|index| side.setup.meters.sites().get(index as usize));
    measure(side, outcome, now);
    let since = |at: Option<Instant>| at.map(|at| micros(outcome.started, at));
    let version = if outcome.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    write(
        side,
        &Line {
            time_unix_ms: began_ms(outcome.started, now),
            client: outcome.client.map_or(side.facts.client, |ip| SocketAddr::new(ip, 0)),
            worker: side.facts.worker,
            site: site.map(AsRef::as_ref),
            host: &outcome.host,
            method: &outcome.method,
            target: &outcome.target,
            version,
            status: outcome.status,
            upstream: outcome.endpoint.and_then(|id| groups.endpoint(id)).map(|endpoint| &*endpoint.label),
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            times: Times {
                head: since(outcome.head_done),
                connect: since(outcome.connected),
                first_byte: since(outcome.first_byte),
                total: since(Some(now)),
            },
            tls: side.facts.tls,
            resumed: side.facts.resumed,
            attempts: outcome.attempts,
            end: outcome.end.word(),
            reason: outcome.reason,
            at: outcome.at,
        },
    );
}

/// What a request adds to its site's figures, and to the refusals.
fn measure(side: &Side, outcome: &Outcome, now: Instant) {
    let Some(meter) = side.setup.meters.of(side.facts.worker) else { return };
    if let Some(site) = outcome.site.and_then(|index| meter.site(index)) {
        if outcome.end != End::ClientClosed {
            site.answered(outcome.status);
        }
        if let Some(first_byte) = outcome.first_byte {
            site.first_byte.observe(first_byte.saturating_duration_since(outcome.started));
        }
        // A tunnel lives as long as its ends like, which says nothing about the app.
        if outcome.status != SWITCHING_PROTOCOLS {
            site.total.observe(now.saturating_duration_since(outcome.started));
        }
    }
    if outcome.end == End::Refused {
        meter.own().rejects.keep(&Refusal {
            time_unix_ms: unix_ms(),
            peer: outcome.client.map_or(side.facts.client, |ip| SocketAddr::new(ip, 0)),
            reason: outcome.reason.unwrap_or_default(),
            name: &outcome.host,
            status: outcome.status,
            at: outcome.at,
        });
    }
}

/// RFC 9110 §15.2.2.
const SWITCHING_PROTOCOLS: u16 = 101;

/// A connection that was refused before it asked for anything; `name`: the server name, as far as it is known.
pub(super) fn refused_connection(
    side: &Side,
    began: Instant,
    now: Instant,
    reason: &'static str,
    name: &[u8],
) {
    if let Some(meter) = side.setup.meters.of(side.facts.worker) {
        let time_unix_ms = unix_ms();
        let peer = side.facts.client;
        meter.own().tls_failures.keep(&Refusal { time_unix_ms, peer, reason, name, status: 0, at: None });
    }
    let times = Times { total: Some(micros(began, now)), ..Times::default() };
    write(
        side,
        &Line {
            time_unix_ms: began_ms(began, now),
            client: side.facts.client,
            worker: side.facts.worker,
            site: None,
            host: b"",
            method: b"",
            target: b"",
            version: "",
            status: 0,
            upstream: None,
            bytes_in: 0,
            bytes_out: 0,
            times,
            tls: None,
            resumed: false,
            attempts: 0,
            end: End::Refused.word(),
            reason: Some(reason),
            at: None,
        },
    );
}

fn write(side: &Side, line: &Line<'_>) {
    if !side.setup.logs {
        return;
    }
    let written = side.worker.log.borrow_mut().write(|out| access_log::write_json(line, out));
    if !written {
        side.worker.counters.count(Counter::LogLinesDropped);
    }
}

fn why(outcome: &Outcome) -> Option<Counter> {
    Some(match (outcome.end, outcome.status) {
        (End::ClientClosed, _) => Counter::ClientGone,
        (End::ClientTimeout, _) => Counter::RefusedSlow,
        (End::UpstreamTimeout, _) => Counter::UpstreamTimeout,
        (End::UpstreamFailed, 503) => Counter::RefusedUnavailable,
        (End::UpstreamFailed, _) => Counter::UpstreamClosed,
        (End::Refused, 413 | 414 | 431) => Counter::RefusedTooLarge,
        (End::Refused, 421) => Counter::RefusedMisdirected,
        (End::Refused, 404) => Counter::RefusedNoRoute,
        (End::Refused, _) => Counter::RefusedMalformed,
        (End::Complete | End::Tunnel | End::Drained, _) => return None,
    })
}

fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}

fn began_ms(began: Instant, now: Instant) -> u64 {
    unix_ms().saturating_sub(now.saturating_duration_since(began).as_millis() as u64)
}
