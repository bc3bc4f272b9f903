//! What must hold of every run, whatever the network and the peers did.

use lockring::proxy::outcome::End;

use crate::client::{Client, Seen};
use crate::luck::body;
use crate::origin::Book;
use crate::proxy::{Connection, Record, World};
use crate::spec::{Flaw, Spec, answer_body};

/// Checks a run that is over.
pub fn all(world: &mut World, book: &Book, clients: &[Client], connections: &[Connection], calm: bool) {
    let mut faults = Vec::new();
    for client in clients {
        let records = connections.get(client.number).map_or(&[][..], |connection| &connection.records);
        // A stray answer that is still on its way when its connection is used again is taken for the
        // next one: HTTP/1.1 has no remedy for that.
        if !book.strays {
            answers(client, book, &mut faults);
            accounts(client, records, &mut faults);
        }
        if calm {
            nothing_is_missing(client, book, &mut faults);
        }
        for (i, spec) in client.specs.iter().enumerate() {
            arrivals(client, i, spec, book, &mut faults);
            once(world, client, i, spec, &mut faults);
        }
    }
    faults.into_iter().for_each(|fault| world.violated(fault));
}

/// (a), (b): what a client saw.
fn answers(client: &Client, book: &Book, faults: &mut Vec<String>) {
    let number = client.number;
    if let Some(error) = &client.broken {
        faults.push(format!("(a) c{number} cannot read: {error}"));
    }
    if client.answers.len() > client.begun() + usize::from(client.noise) {
        faults.push(format!("(a) c{number} got {} answers to {} requests", client.answers.len(), client.begun()));
    }
    for (seen, spec) in client.answers.iter().zip(&client.specs) {
        let Some(name) = &seen.id else {
            if seen.status < 300 {
                faults.push(format!("(a) c{number} got a {} from nobody", seen.status));
            }
            continue;
        };
        let (id, attempt) = name.split_once('-').unwrap_or((name, "0"));
        if id.parse() != Ok(spec.id) {
            faults.push(format!("(a) c{number} got the answer of {id} for {}", spec.id));
            continue;
        }
        let Some(answer) = book.answers.get(name) else {
            faults.push(format!("(a) nobody gave {name}"));
            continue;
        };
        let attempt: u64 = attempt.parse().unwrap_or(0);
        if seen.status == 101 {
            let data = body(spec.id + 8_000_000, 200_000);
            let tunnel = book.tunnels.get(&spec.id).map_or(&[][..], Vec::as_slice);
            if !data.starts_with(&seen.body) || !body(spec.id + 9_000_000, spec.tunnel).starts_with(tunnel) {
                let place = data.iter().zip(&seen.body).position(|(one, other)| one != other);
                faults.push(format!("(b) the tunnel of {name} changes bytes: {place:?} of {}, {}", seen.body.len(), tunnel.len()));
            }
            continue;
        }
        let told = answer_body(spec.id, attempt, answer.length);
        let same = if seen.complete { seen.body == told } else { told.starts_with(&seen.body) };
        if !same || seen.status != answer.status {
            let complete = seen.complete;
            faults.push(format!("(b) {name}: {} of {} bytes, complete {complete}", seen.body.len(), told.len()));
        }
        if seen.complete && !answer.whole {
            faults.push(format!("(b) {name} was cut and looks complete"));
        }
        if seen.complete && answer.trailer != seen.trailer && !spec.http10 {
            faults.push(format!("(b) {name} lost its trailers"));
        }
    }
}

/// (b), (c), (g): what reached the origins.
fn arrivals(client: &Client, i: usize, spec: &Spec, book: &Book, faults: &mut Vec<String>) {
    let Some(arrivals) = book.arrivals.get(&spec.id) else { return };
    if matches!(spec.flaw, Some(Flaw::Head | Flaw::Host)) {
        faults.push(format!("(g) {} was refused and arrived", spec.id));
    }
    for arrival in arrivals {
        let whole = arrival.complete && (arrival.body != spec.body || arrival.trailer != spec.trailer);
        if whole || !spec.body.starts_with(&arrival.body) || arrival.method != spec.method {
            faults.push(format!("(b) {} arrived with {} bytes", spec.id, arrival.body.len()));
        }
        if arrival.complete && (!client.has_sent(i) && client.cut.is_none() || spec.flaw == Some(Flaw::Body)) {
            faults.push(format!("(b) {} looks complete and is not", spec.id));
        }
    }
}

/// (d): what may not be done twice reaches one origin at most.
fn once(world: &World, client: &Client, i: usize, spec: &Spec, faults: &mut Vec<String>) {
    if spec.is_idempotent() {
        return;
    }
    let tries = world.attempts.iter().filter(|attempt| attempt.client == client.number && attempt.request == i);
    let reached = tries.filter(|attempt| {
        // Later requests on the connection exist only if this one was answered on it.
        world.net.outgoing(attempt.port).delivered > attempt.start
    });
    let reached = reached.count();
    if reached > 1 {
        faults.push(format!("(d) {} reached origins {reached} times", spec.id));
    }
}

/// (h): what the log says is what the client saw.
fn accounts(client: &Client, records: &[Record], faults: &mut Vec<String>) {
    let number = client.number;
    let tunnelled = client.answers.last().is_some_and(|seen| seen.status == 101);
    let noise = client.noise && !tunnelled;
    if records.len() > client.begun() + usize::from(noise) {
        faults.push(format!("(h) c{number}: {} lines for {} requests", records.len(), client.begun()));
    }
    for (i, record) in records.iter().enumerate() {
        let seen: Option<&Seen> = client.answers.get(i);
        let text = || format!("(h) c{number} request {i}: {record:?}");
        if let Some(seen) = seen {
            if seen.status != record.status {
                faults.push(format!("{} and the client saw {}", text(), seen.status));
            }
        }
        let whole = seen.is_some_and(|seen| seen.complete);
        // Malformed or too many chunks cut an answer that is under way.
        let flawed = client.specs.get(i).is_some_and(|spec| spec.flaw == Some(Flaw::Body));
        let cut_by_body = flawed && record.end == End::Refused || record.reason == Some("body-too-large");
        let promised = matches!(record.end, End::Complete | End::Refused) && !cut_by_body;
        // Bytes that are no request may cost the answer before them (RFC 9112 §9.6), and their own.
        let noise_follows = noise && i + 1 >= client.specs.len();
        if promised && client.reads_on() && !whole && !noise_follows {
            faults.push(format!("{} and the client saw no whole answer", text()));
        }
        if whole && matches!(record.end, End::UpstreamFailed | End::UpstreamTimeout) && seen.is_some_and(|s| s.id.is_some()) {
            faults.push(format!("{} and the client saw the app's whole answer", text()));
        }
        if (record.end == End::Complete) != record.reason.is_none() {
            faults.push(text());
        }
        if record.status == 499 && seen.is_some() {
            faults.push(format!("{} and the client was answered", text()));
        }
    }
}

/// Where nobody and nothing fails every request is answered, whole.
fn nothing_is_missing(client: &Client, book: &Book, faults: &mut Vec<String>) {
    for (i, spec) in client.specs.iter().enumerate() {
        let seen = client.answers.get(i);
        let expected = spec.flaw.is_none();
        let whole = seen.is_some_and(|seen| seen.complete && seen.id.is_some() == expected);
        if !whole {
            faults.push(format!("(a) c{} waits for the answer to {}: {:?}", client.number, spec.id, seen.map(|s| (s.status, s.body.len(), s.complete))));
            // The rest depends on it.
            return;
        }
        if seen.is_some_and(|seen| seen.status == 101) {
            let sent = book.tunnels.get(&spec.id).map_or(0, Vec::len);
            if sent != spec.tunnel {
                faults.push(format!("(a) the tunnel of {} carried {sent} of {} bytes", spec.id, spec.tunnel));
            }
        }
    }
}
