//! `lockring top`: how the running process does, drawn anew each second on the terminal. Rates and durations
//! are those between two looks.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::admin::{self, Answer, Request};
use super::certs::{Done, Failure, Target, columns, plain};
use super::overview::{Overview, ms, quantile_ms};
use crate::telemetry::buckets::Sums;

/// Between two looks.
const STEP: Duration = Duration::from_secs(1);
/// Sites shown, the busiest first: what fits on a screen.
const SITES: usize = 30;
/// To the top left corner.
const HOME: &str = "\x1b[H";
/// Clears to the end of the line, and from there to the end of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Clears the screen.
const CLEAR: &str = "\x1b[2J";

/// Draws until the process ends or nobody looks; with `once` one picture without terminal codes, of one second.
///
/// # Errors
/// Why there is nothing to draw.
pub fn top(target: &Target, once: bool) -> Result<Done, Failure> {
    let socket = target.socket()?;
    let look = || match admin::call(&socket, &Request::Overview {}) {
        Ok(Answer::Overview { overview }) => Ok(*overview),
        Ok(_) => Err(Failure::run_time(
            "the answer is to another question; use the `lockring` of the same release",
        )),
        Err(error) => Err(Failure::run_time(error)),
    };
    let mut before = look()?;
    let mut out = io::stdout().lock();
    if !once {
        let _ = out.write_all(CLEAR.as_bytes());
    }
    loop {
        std::thread::sleep(STEP);
        let now = look()?;
        let picture = picture(&before, &now);
        if once {
            return Ok(Done::ok(picture));
        }
        let frame = picture.replace('\n', &format!("{CLEAR_LINE}\n"));
        let drawn =
            out.write_all(format!("{HOME}{frame}{CLEAR_BELOW}").as_bytes()).and_then(|()| out.flush());
        if drawn.is_err() {
            // The reader has gone, which is its choice.
            return Ok(Done::ok(String::new()));
        }
        before = now;
    }
}

/// What changed from one look to the next, a second later.
fn picture(before: &Overview, now: &Overview) -> String {
    let mut out = String::new();
    let rate = |figure: fn(&Overview) -> u64| figure(now).saturating_sub(figure(before));
    let open: u64 = now.workers.iter().map(|worker| worker.connections).sum();
    let in_flight: u64 = now.workers.iter().map(|worker| worker.in_flight).sum();
    let state = if now.draining { ", draining" } else { "" };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "lockring {} (process {}{state})  {} requests/s  {} accepted/s  {} TLS refusals/s  {open} open  \
         {in_flight} in flight  {} log lines lost\n",
        plain(&now.release),
        now.pid,
        rate(|overview| overview.requests),
        rate(|overview| overview.accepted),
        rate(|overview| overview.tls_failures),
        now.log_lines_lost,
    );
    let _ = writeln!(out, "{}", columns(&sites(before, now)));
    let _ = writeln!(out, "{}", columns(&upstreams(before, now)));
    out += &columns(&workers(before, now));
    out
}

fn sites(before: &Overview, now: &Overview) -> Vec<[String; 7]> {
    let head = ["SITE", "REQ/S", "4XX/S", "5XX/S", "P50 MS", "P99 MS", "CERTIFICATE"];
    let mut busy: Vec<(u64, [String; 7])> = Vec::new();
    for site in &now.sites {
        let old = before.sites.iter().find(|old| old.host == site.host);
        let sums = old.map(|old| Sums::from_counts(&old.durations)).unwrap_or_default();
        let sums = Sums::from_counts(&site.durations).since(&sums);
        let old = old.map(|old| old.responses).unwrap_or_default();
        let mut rates = site.responses;
        rates.iter_mut().zip(old).for_each(|(rate, old)| *rate = rate.saturating_sub(old));
        let [_, _, _, refused, failed] = rates;
        let all = rates.iter().sum::<u64>();
        let row = [
            plain(&site.host),
            all.to_string(),
            refused.to_string(),
            failed.to_string(),
            ms(quantile_ms(&sums, 0.5)),
            ms(quantile_ms(&sums, 0.99)),
            site.days_left(now.at),
        ];
        busy.push((all, row));
    }
    busy.sort_by_key(|(rate, _)| std::cmp::Reverse(*rate));
    let more = busy.len().saturating_sub(SITES);
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(busy.into_iter().take(SITES).map(|(_, row)| row));
    if more > 0 {
        let mut last = [const { String::new() }; 7];
        if let Some(first) = last.first_mut() {
            *first = format!("and {more} quieter ones");
        }
        rows.push(last);
    }
    rows
}

fn upstreams(before: &Overview, now: &Overview) -> Vec<[String; 5]> {
    let head = ["UPSTREAM", "REQ/S", "IN FLIGHT", "CONNECT FAILURES", "FAILING"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(now.upstreams.iter().map(|upstream| {
        let old = before.upstreams.iter().find(|old| old.upstream == upstream.upstream);
        let (requests, failures) = old.map(|old| (old.requests, old.connect_failures)).unwrap_or_default();
        let failing = upstream.connect_failures > failures;
        [
            plain(&upstream.upstream),
            upstream.requests.saturating_sub(requests).to_string(),
            upstream.in_flight.to_string(),
            upstream.connect_failures.to_string(),
            if failing { "yes" } else { "no" }.to_owned(),
        ]
    }));
    rows
}

fn workers(before: &Overview, now: &Overview) -> Vec<[String; 5]> {
    let mut rows = vec![["WORKER", "REQ/S", "OPEN", "IN FLIGHT", "TUNNELS"].map(str::to_owned)];
    rows.extend(now.workers.iter().enumerate().map(|(number, worker)| {
        let old = before.workers.get(number).map(|old| old.requests).unwrap_or_default();
        let rate = worker.requests.saturating_sub(old);
        [number as u64, rate, worker.connections, worker.in_flight, worker.tunnels].map(|n| n.to_string())
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::overview::{SitePart, UpstreamPart, WorkerPart};

    fn site(host: &str, responses: [u64; 5]) -> SitePart {
        SitePart { host: host.to_owned(), responses, ..SitePart::default() }
    }

    #[test]
    fn rates_are_differences_and_the_busiest_site_is_first() {
        let before = Overview {
            requests: 10,
            sites: vec![site("a.test", [0, 10, 0, 0, 0]), site("b.test", [0; 5])],
            upstreams: vec![UpstreamPart {
                upstream: "x".into(),
                connect_failures: 1,
                ..UpstreamPart::default()
            }],
            workers: vec![WorkerPart { requests: 10, ..WorkerPart::default() }],
            ..Overview::default()
        };
        let mut now = before.clone();
        now.requests = 18;
        now.workers[0].requests = 18;
        now.sites[0].responses = [0, 11, 0, 0, 0];
        now.sites[1].responses = [0, 3, 0, 1, 3];
        now.sites[1].durations = vec![0, 7];
        now.upstreams[0].connect_failures = 4;
        let text = picture(&before, &now);
        assert!(text.contains("  8 requests/s"), "{text}");
        let words = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("b.test"), ["b.test", "7", "1", "3", "0.1", "0.1", "none"]);
        assert!(text.find("b.test") < text.find("a.test"));
        assert_eq!(words("x "), ["x", "0", "0", "4", "yes"]);
        assert_eq!(words("0 "), ["0", "8", "0", "0", "0"]);
    }

    #[test]
    fn ten_thousand_sites_fit_a_screen() {
        let now = Overview {
            sites: (0..10_000).map(|n| site(&format!("s{n}"), [0; 5])).collect(),
            ..Overview::default()
        };
        let text = picture(&now, &now);
        assert!(text.lines().count() < 50 && text.contains("and 9970 quieter ones"));
    }
}
