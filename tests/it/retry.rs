//! Pooled upstream connections that die, and what is sent again: never anything that may be at work.

use crate::harness::refusal::assert_reason;
use crate::harness::{Lockring, Origin, Setup, eventually};

/// Answers the first request of the first connection, and drops that connection when the second comes.
fn stale(partial: &'static str) -> Origin {
    Origin::start(move |conn| {
        let mut served = 0;
        while conn.request().is_some() {
            served += 1;
            if conn.index == 0 && served == 2 {
                conn.write(partial);
                return;
            }
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

fn second(proxy: &Lockring, request: &str) -> u16 {
    let mut client = proxy.connect("a.test");
    assert_eq!(client.get("a.test", "/first").status(), 200);
    client.send(request);
    client.response().status()
}

#[test]
fn idempotent_requests_are_retried_on_a_fresh_connection() {
    for request in [
        "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "PUT /second HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody",
        "DELETE /second HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let origin = stale("");
        let proxy = Setup::a(origin.address).start();
        assert_eq!(second(&proxy, request), 200, "{request}");
        assert_eq!(proxy.line(1)["attempts"], 2);
        assert_eq!(origin.connections(), 2);
        let requests = origin.requests();
        assert_eq!(requests[1].head.start, requests[2].head.start);
        assert_eq!(requests[1].body, requests[2].body, "the body is sent again whole");
    }
}

#[test]
fn a_post_that_may_be_at_work_is_not_sent_twice() {
    let origin = stale("");
    let proxy = Setup::a(origin.address).start();
    let status = second(&proxy, "POST /second HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(status, 502);
    assert_reason(&proxy.wait_status(1, 502));
    let seconds = origin.requests().iter().filter(|r| r.head.start.contains("/second")).count();
    assert_eq!(seconds, 1);
}

#[test]
fn nothing_is_retried_after_the_first_response_byte() {
    let origin = stale("HTTP/1.1 200");
    let proxy = Setup::a(origin.address).start();
    assert_eq!(second(&proxy, "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"), 502);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn nothing_is_retried_for_ever() {
    let origin = Origin::start(|conn| {
        conn.request();
    });
    let proxy = Setup::a(origin.address).start();
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 502);
    assert!(origin.requests().len() <= 2);
}

#[test]
fn a_large_body_is_not_held_for_a_retry() {
    let origin = Origin::start(|conn| {
        let mut served = 0;
        loop {
            if conn.index == 0 && served == 1 {
                let _ = conn.head();
                let _ = conn.reader.exactly(200_000);
                return;
            }
            if conn.request().is_none() {
                return;
            }
            served += 1;
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    assert_eq!(client.get("a.test", "/first").status(), 200);
    client.send(format!("PUT /second HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", 300_000));
    let _ = client.try_send(vec![b'x'; 300_000]);
    assert_eq!(client.response().status(), 502, "what is gone cannot be sent again");
}

#[test]
fn upstream_fin_while_idle_is_noticed_at_once() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Setup::a(origin.address).start();
    let base = proxy.descriptors();
    let mut client = proxy.connect("a.test");
    for index in 0..20 {
        assert_eq!(client.get("a.test", "/").status(), 200);
        origin.wait_ended(index);
        // The proxy closes its side too: only the client's connection stays.
        eventually("the close of the pooled connection", || (proxy.descriptors() <= base + 1).then_some(()));
    }
    for index in 0..20 {
        assert_eq!(proxy.line(index)["attempts"], 1, "no request met a dead connection");
    }
}

#[test]
fn a_post_after_fin_goes_to_a_fresh_connection() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    for index in 0..30 {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.response().status(), 200, "request {index}");
    }
}

#[test]
fn idle_upstream_connections_end_at_their_timeout() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("pool_idle", "300ms").start();
    let mut client = proxy.connect("a.test");
    assert_eq!(client.get("a.test", "/").status(), 200);
    origin.wait_ended(0);
    assert_eq!(client.get("a.test", "/").status(), 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn keep_alive_timeout_of_the_upstream_is_learned() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok");
    let proxy = Setup::a(origin.address).timeout("pool_idle", "60s").start();
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
    origin.wait_ended(0);
}

#[test]
fn a_client_that_goes_away_cancels_its_request() {
    let origin = Origin::silent();
    let proxy = Setup::a(origin.address).start();
    for reset in [true, false] {
        let mark = proxy.lines().len();
        let mut client = proxy.connect("a.test");
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        origin.wait_request(usize::from(!reset));
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        origin.wait_ended(usize::from(!reset));
        assert_reason(&proxy.wait_status(mark, 499));
    }
}

#[test]
fn a_client_that_goes_away_mid_download_ends_the_upstream() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while conn.try_write([b'x'; 65536]).is_ok() {}
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.reader.exactly(100_000).unwrap();
    client.reset();
    origin.wait_ended(0);
    let line = proxy.wait_line(0, |l| l["method"] == "GET");
    assert_reason(&line);
}

#[test]
fn failure_no_place_in_the_pool_is_503() {
    let origin = Origin::silent();
    let proxy = Setup::a(origin.address).limit("upstream_connections", "2").start();
    let mut held: Vec<_> = (0..2).map(|_| proxy.connect("a.test")).collect();
    for (index, client) in held.iter_mut().enumerate() {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        origin.wait_request(index);
    }
    let response = proxy.connect("a.test").get("a.test", "/");
    assert_eq!(response.status(), 503, "{}", response.text());
    assert!(response.head.get("retry-after").is_some());
    assert_reason(&proxy.wait_status(0, 503));
    assert_eq!(origin.connections(), 2);
}

#[test]
fn several_endpoints_share_the_work_and_stand_in_for_each_other() {
    let (one, two) = (Origin::ok(), Origin::ok());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let table = |to: &[std::net::SocketAddr]| {
        let list: Vec<String> = to.iter().map(|a| format!("\"{a}\"")).collect();
        format!("[sites.\"m.test\"]\nto = [{}]", list.join(", "))
    };
    let proxy = Setup::new().tables(table(&[one.address, two.address])).start();
    for _ in 0..20 {
        assert_eq!(proxy.connect("m.test").get("m.test", "/").status(), 200);
    }
    assert!(one.connections() > 0 && two.connections() > 0, "both get work");
    let proxy = Setup::new().tables(table(&[dead, one.address])).timeout("connect", "1s").start();
    for index in 0..20 {
        assert_eq!(proxy.connect("m.test").get("m.test", "/").status(), 200, "request {index}");
    }
}

#[test]
fn honest_work_beside_failures() {
    let (good, bad) = (Origin::ok(), Origin::silent());
    let proxy = Setup::a(good.address).site("b.test", bad.address).timeout("first_byte", "1s").start();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(proxy.connect("b.test").get("b.test", "/").status(), 504));
        }
        for index in 0..200 {
            assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200, "request {index}");
        }
    });
}
