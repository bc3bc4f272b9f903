//! The exchange alone, by hand; the simulation drives it against whole peers.

use std::time::{Duration, Instant};

use super::testing::model;
use super::*;
use crate::config::model::Model;
use crate::proxy::outcome::{ConnectionFacts, End};
use crate::proxy::route::Table;

struct World {
    model: Model,
    table: Table,
    facts: ConnectionFacts,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let model = model(&[("a.test", "/", "127.0.0.1:1"), ("demo.test", "/", "demo")]);
        let mut model = model;
        for site in &mut model.sites {
            std::sync::Arc::make_mut(site).redirect = false;
        }
        let table = Table::new(&model);
        let facts = ConnectionFacts {
            client: "192.0.2.1:5".parse().unwrap(),
            client_ip: "192.0.2.1".into(),
            trusted: false,
            tls: None,
            resumed: false,
            worker: 0,
        };
        Self { model, table, facts, now: Instant::now() }
    }

    fn cx(&self) -> Context<'_> {
        Context {
            model: &self.model,
            table: &self.table,
            facts: &self.facts,
            entry: None,
            tokens: &crate::proxy::challenge::NO_TOKENS,
            store: None,
            https_port: 443,
            draining: false,
            now: self.now,
            date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        }
    }
}

fn request(world: &World, exchange: &mut Exchange, mut bytes: &[u8]) {
    while exchange.wants_request() {
        let used = exchange.receive_request(&world.cx(), bytes);
        bytes = &bytes[used..];
        if used == 0 {
            break;
        }
    }
}

fn response(world: &World, exchange: &mut Exchange, mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while exchange.wants_response() {
        let step = exchange.receive_response(&world.cx(), bytes);
        out.append(exchange.client_out());
        out.extend_from_slice(step.data.of(bytes));
        if step.ends_chunk {
            out.extend_from_slice(b"\r\n");
        }
        bytes = &bytes[step.used..];
        exchange.end_of_body_is_owed();
        if step.used == 0 {
            break;
        }
    }
    out.append(exchange.client_out());
    out
}

fn sent(exchange: &mut Exchange) -> String {
    String::from_utf8(std::mem::take(exchange.upstream_out())).unwrap()
}

const ENDPOINT: EndpointId = EndpointId(0);

fn begun(world: &World, bytes: &[u8], reused: bool) -> Exchange {
    let mut exchange = Exchange::new(world.now);
    request(world, &mut exchange, bytes);
    assert!(matches!(exchange.next_action(), Some(Action::Acquire { avoid: None, fresh: false, .. })));
    exchange.connected(&world.cx(), ENDPOINT, reused);
    exchange
}

#[test]
fn a_request_is_rewritten_answered_and_its_connections_kept() {
    let world = World::new();
    let mut exchange = begun(&world, b"GET /x?y HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: x-drop\r\nX-Drop: 1\r\nX_Forwarded_For: 7\r\n\r\n", false);
    let head = sent(&mut exchange);
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\nHost: a.test\r\n"), "{head}");
    assert!(head.contains("\r\nX-Forwarded-For: 192.0.2.1\r\n") && !head.contains("6.6.6.6"), "{head}");
    assert!(!head.to_lowercase().contains("x-drop") && !head.contains("X_"), "{head}");
    let out = response(
        &world,
        &mut exchange,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=7\r\n\r\nhi",
    );
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("HTTP/1.1 200 OK\r\n") && out.ends_with("\r\n\r\nhi"), "{out}");
    assert!(out.contains("\r\nDate: ") && !out.contains("Keep-Alive"), "{out}");
    assert_eq!(exchange.next_action(), Some(Action::Release { keep: true, timeout: Some(7) }));
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::KeepAlive)));
}

#[test]
fn an_idempotent_request_is_sent_again_when_a_reused_connection_dies() {
    let world = World::new();
    let mut exchange = begun(&world, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", true);
    let first = sent(&mut exchange);
    exchange.upstream_closed(&world.cx(), true, false);
    assert_eq!(exchange.next_action(), Some(Action::Release { keep: false, timeout: None }));
    assert!(matches!(exchange.next_action(), Some(Action::Acquire { fresh: true, .. })));
    exchange.connected(&world.cx(), ENDPOINT, false);
    assert_eq!(sent(&mut exchange), first);
    exchange.upstream_closed(&world.cx(), true, false);
    assert_eq!(exchange.outcome().status, 502);
    assert_eq!((exchange.outcome().attempts, exchange.outcome().end), (2, End::UpstreamFailed));
}

#[test]
fn a_post_is_sent_again_only_if_the_app_cannot_have_seen_it() {
    let world = World::new();
    let post = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi";
    let mut seen = begun(&world, post, true);
    seen.upstream_closed(&world.cx(), false, false);
    assert_eq!(seen.outcome().status, 502);
    let mut untouched = begun(&world, post, true);
    let first = sent(&mut untouched);
    untouched.upstream_closed(&world.cx(), false, true);
    assert_eq!(untouched.next_action(), Some(Action::Release { keep: false, timeout: None }));
    assert!(matches!(untouched.next_action(), Some(Action::Acquire { fresh: true, .. })));
    untouched.connected(&world.cx(), ENDPOINT, false);
    assert_eq!(sent(&mut untouched), first);
}

#[test]
fn a_cut_body_is_cut_for_the_client_too() {
    let world = World::new();
    let mut exchange = begun(&world, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", false);
    let out =
        response(&world, &mut exchange, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    assert!(out.ends_with(b"3\r\nhel\r\n"), "{}", String::from_utf8_lossy(&out));
    exchange.upstream_closed(&world.cx(), false, false);
    assert_eq!(exchange.next_action(), Some(Action::Release { keep: false, timeout: None }));
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Abort)));
    assert!(exchange.client_out().is_empty(), "no last chunk");
}

#[test]
fn the_demonstration_app_counts_the_body() {
    let world = World::new();
    let mut exchange = Exchange::new(world.now);
    request(
        &world,
        &mut exchange,
        b"POST /p HTTP/1.1\r\nHost: demo.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    let out = String::from_utf8(std::mem::take(exchange.client_out())).unwrap();
    assert!(out.contains("body    3 bytes"), "{out}");
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::KeepAlive)));
}

#[test]
fn every_wait_has_its_own_timer() {
    let mut world = World::new();
    let timeouts = world.model.timeouts.clone();
    let timer =
        |exchange: &Exchange| exchange.deadline(&timeouts, Blocked::default()).map(|(_, timer)| timer);
    let mut exchange = Exchange::new(world.now);
    assert_eq!(timer(&exchange), Some(Timer::Idle));
    request(&world, &mut exchange, b"POST / HTTP/1.1\r\n");
    assert_eq!(timer(&exchange), Some(Timer::Head));
    exchange.reset(world.now);
    request(&world, &mut exchange, b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(timer(&exchange), Some(Timer::Connect));
    let _ = exchange.next_action();
    exchange.connected(&world.cx(), ENDPOINT, false);
    assert_eq!(timer(&exchange), Some(Timer::Body));
    request(&world, &mut exchange, b"hi");
    assert_eq!(timer(&exchange), Some(Timer::FirstByte));
    world.now += Duration::from_secs(61);
    exchange.expired(&world.cx(), Timer::FirstByte);
    assert_eq!(exchange.outcome().status, 504);
}

#[test]
fn a_client_that_waits_for_100_waits_for_the_app() {
    let world = World::new();
    let timeouts = world.model.timeouts.clone();
    let head = b"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut exchange = begun(&world, head, false);
    let timer =
        |exchange: &Exchange| exchange.deadline(&timeouts, Blocked::default()).map(|(_, timer)| timer);
    assert_eq!(timer(&exchange), Some(Timer::FirstByte));
    let out = response(&world, &mut exchange, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(timer(&exchange), Some(Timer::Body));
}

#[test]
fn an_upgrade_becomes_a_tunnel_only_with_101() {
    let world = World::new();
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut exchange = begun(&world, upgrade, false);
    let head = sent(&mut exchange);
    assert!(head.contains("\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"), "{head}");
    let out = response(
        &world,
        &mut exchange,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly",
    );
    assert!(out.ends_with(b"\r\n\r\nearly") && exchange.is_tunnel());
    request(&world, &mut exchange, b"frame");
    assert_eq!(sent(&mut exchange), "frame");
    let mut unasked = begun(&world, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", false);
    response(
        &world,
        &mut unasked,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    );
    assert_eq!(unasked.outcome().status, 502);
}

#[test]
fn a_body_that_grows_too_large_under_the_answer_cuts_it() {
    let mut world = World::new();
    world.model.limits.body = Some(4);
    let mut exchange =
        begun(&world, b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n", false);
    let early = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nearly";
    assert!(response(&world, &mut exchange, early).ends_with(b"early"));
    request(&world, &mut exchange, b"5\r\nhello\r\n");
    assert!(exchange.client_out().is_empty(), "no second answer within the first");
    assert_eq!(exchange.next_action(), Some(Action::Release { keep: false, timeout: None }));
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Abort)));
    assert_eq!((exchange.outcome().status, exchange.outcome().end), (200, End::Refused));
}

#[test]
fn a_half_closed_client_is_owed_its_answers() {
    let world = World::new();
    let mut exchange = begun(&world, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", false);
    sent(&mut exchange);
    exchange.client_closed(ClientEnd::HalfClosed);
    response(&world, &mut exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(exchange.next_action(), Some(Action::Release { keep: true, .. })));
    // The next request may be there already; whether it is, the engine knows.
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::KeepAlive)));
}

#[test]
fn a_half_close_before_the_switch_reaches_the_app() {
    let world = World::new();
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut exchange = begun(&world, upgrade, false);
    sent(&mut exchange);
    exchange.client_closed(ClientEnd::HalfClosed);
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    response(&world, &mut exchange, switch);
    assert_eq!(exchange.next_action(), Some(Action::ShutdownUpstream));
}

#[test]
fn a_cut_request_ends_in_order_unless_its_answer_is_under_way() {
    let world = World::new();
    let mut exchange = Exchange::new(world.now);
    request(&world, &mut exchange, b"GET / HT");
    exchange.client_closed(ClientEnd::HalfClosed);
    // A reset would destroy the answer before it, which may still be on its way.
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Close)));
    assert_eq!((exchange.outcome().status, exchange.outcome().reason), (499, Some("request-cut")));
    let post = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nhi";
    let mut exchange = begun(&world, post, false);
    response(&world, &mut exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nearly");
    exchange.client_closed(ClientEnd::HalfClosed);
    assert!(matches!(exchange.next_action(), Some(Action::Release { keep: false, .. })));
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Abort)));
}

#[test]
fn a_client_that_goes_before_its_answer_is_sent_is_not_logged_as_served() {
    let world = World::new();
    let mut exchange = begun(&world, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", false);
    sent(&mut exchange);
    response(&world, &mut exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert!(matches!(exchange.next_action(), Some(Action::Release { keep: true, .. })));
    exchange.client_closed(ClientEnd::Gone);
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Abort)));
    assert_eq!((exchange.outcome().status, exchange.outcome().end), (200, End::ClientClosed));
}

#[test]
fn the_time_a_client_takes_to_read_is_not_counted_against_the_app() {
    let mut world = World::new();
    let mut exchange = begun(&world, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", false);
    response(&world, &mut exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi");
    let between = world.model.timeouts.between_bytes;
    world.now += between * 2;
    exchange.client_wrote(world.now);
    let due = exchange.deadline(&world.model.timeouts, Blocked::default());
    assert_eq!(due, Some((world.now + between, Timer::BetweenBytes)));
}

#[test]
fn an_empty_line_alone_begins_no_request_rfc_9112_2_2() {
    let world = World::new();
    let mut exchange = Exchange::new(world.now);
    request(&world, &mut exchange, b"\r\n");
    assert!(exchange.is_idle() && !exchange.has_begun());
    request(&world, &mut exchange, b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(
        matches!(exchange.next_action(), Some(Action::Acquire { .. })),
        "one is tolerated by the head too"
    );
    let mut exchange = Exchange::new(world.now);
    request(&world, &mut exchange, b"\r\n\r\n\r\n\r\n");
    assert_eq!(exchange.outcome().status, 400, "but no stream of them");
}

#[test]
fn a_body_to_throw_away_that_does_not_come_ends_the_connection_in_order() {
    let mut world = World::new();
    let mut exchange = Exchange::new(world.now);
    request(&world, &mut exchange, b"POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: 9\r\n\r\nhi");
    assert_eq!((exchange.outcome().status, exchange.next_action()), (404, None));
    world.now += world.model.timeouts.body;
    let due = exchange.deadline(&world.model.timeouts, Blocked::default());
    assert_eq!(due, Some((world.now, Timer::Body)));
    exchange.expired(&world.cx(), Timer::Body);
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Close)));
    assert_eq!(exchange.outcome().end, End::Refused, "it was answered, whole");
}

#[test]
fn a_refused_body_cut_by_a_half_close_does_not_destroy_its_answer() {
    let world = World::new();
    let mut exchange = Exchange::new(world.now);
    request(&world, &mut exchange, b"POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: 9\r\n\r\nhi");
    exchange.client_closed(ClientEnd::HalfClosed);
    assert_eq!(exchange.next_action(), Some(Action::Finish(Finish::Close)));
    assert_eq!((exchange.outcome().status, exchange.outcome().end), (404, End::Refused));
}
