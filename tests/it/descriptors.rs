//! The row on descriptors, and leaks: after thousands of failures of every kind the process is as it was.

use std::net::{TcpListener, TcpStream};

use crate::harness::{Client, Lockring, Origin, Setup, eventually, long};

fn rounds() -> usize {
    if long() { 10_000 } else { 2_000 }
}

/// Sends `count` requests, keeping the connection where the proxy keeps it, and checks each status.
fn fail(proxy: &Lockring, count: usize, status: Option<u16>) {
    let mut client = proxy.connect("a.test");
    for index in 0..count {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let response = client.try_response("GET");
        match (response, status) {
            (Ok(response), Some(status)) => {
                assert_eq!(response.status(), status, "request {index}");
                if response.head.lists("connection", "close") {
                    client = proxy.connect("a.test");
                }
            }
            (Err(_), None) => client = proxy.connect("a.test"),
            (result, _) => panic!("request {index}: {result:?}, not {status:?}"),
        }
    }
}

/// Descriptors of an idle proxy; a served handshake shows that its threads have opened theirs.
fn base(proxy: &Lockring) -> usize {
    let _client = proxy.connect("a.test");
    proxy.descriptors() - 1
}

/// Runs `fail` twice and compares: descriptors are back, memory has not grown with the count.
fn leaks(proxy: &Lockring, origin: Option<&Origin>, count: usize, status: Option<u16>) {
    let base = base(proxy);
    fail(proxy, count / 4, status);
    let warm = proxy.rss();
    fail(proxy, count - count / 4, status);
    eventually("descriptors back to where they were", || (proxy.descriptors() <= base).then_some(()));
    let grown = proxy.rss().saturating_sub(warm);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes more after {count} failures");
    eventually("a log line for each request", || (proxy.lines().len() >= count).then_some(()));
    assert_eq!(proxy.lines().len(), count, "log lines and requests differ");
    if let Some(origin) = origin {
        assert!(origin.requests().len() <= 2 * count);
    }
}

#[test]
fn leak_upstream_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    leaks(&Setup::a(address).start(), None, rounds(), Some(502));
}

#[test]
fn leak_upstream_garbage() {
    let origin = Origin::once("garbage\r\n\r\n");
    leaks(&Setup::a(origin.address).start(), Some(&origin), rounds(), Some(502));
}

#[test]
fn leak_upstream_reset_mid_response() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial");
            conn.reset();
        }
    });
    // A reset may overtake the head: then the answer is 502. Both kinds count as failures here.
    let proxy = Setup::a(origin.address).start();
    let (base, count) = (base(&proxy), rounds() / 2);
    let mut warm = 0;
    for index in 0..count {
        if index == count / 4 {
            warm = proxy.rss();
        }
        let mut client = proxy.connect("a.test");
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        if let Ok(response) = client.try_response("GET") {
            assert_eq!(response.status(), 502);
        }
    }
    eventually("descriptors back to where they were", || (proxy.descriptors() <= base).then_some(()));
    assert!(proxy.rss().saturating_sub(warm) < 4 * 1024 * 1024);
    eventually("a log line for each request", || (proxy.lines().len() >= count).then_some(()));
    assert_eq!(proxy.lines().len(), count);
}

#[test]
fn leak_upstream_black_hole() {
    let origin = Origin::silent();
    let proxy = Setup::a(origin.address).timeout("first_byte", "100ms").start();
    let (base, count) = (base(&proxy), rounds() / 2);
    let mut warm = 0;
    for batch in 0..count / 100 {
        if batch == count / 400 {
            warm = proxy.rss();
        }
        let mut clients: Vec<Client> = (0..100).map(|_| proxy.connect("a.test")).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
        for mut client in clients {
            assert_eq!(client.response().status(), 504);
        }
    }
    eventually("descriptors back to where they were", || (proxy.descriptors() <= base).then_some(()));
    let grown = proxy.rss().saturating_sub(warm);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more after {count} failures");
    eventually("a log line for each request", || (proxy.lines().len() >= count).then_some(()));
    assert_eq!(proxy.lines().len(), count);
}

#[test]
fn leak_clients_that_leave_in_every_state() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let base = base(&proxy);
    let beginnings = ["", "GET / HT", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc"];
    let count = rounds() / 4;
    let mut warm = 0;
    for index in 0..count {
        if index == count / 4 {
            warm = proxy.rss();
        }
        let mut client = proxy.connect("a.test");
        client.send(beginnings[index % 3]);
        if index % 2 == 0 {
            client.reset();
        }
        drop(TcpStream::connect(proxy.https).unwrap());
    }
    // One idle upstream connection may stay.
    eventually("descriptors back to where they were", || (proxy.descriptors() <= base + 1).then_some(()));
    assert!(proxy.rss().saturating_sub(warm) < 4 * 1024 * 1024);
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
}

/// Sends `count` requests, each tenth of them for a host that the connection does not cover.
fn some_for_another_host(proxy: &Lockring, count: usize) {
    let mut client = proxy.connect("a.test");
    for index in 0..count {
        let (host, status) = if index % 10 == 9 { ("other.test", 421) } else { ("a.test", 200) };
        let response = client.get(host, &format!("/{index}"));
        assert_eq!(response.status(), status);
        if response.head.lists("connection", "close") {
            client = proxy.connect("a.test");
        }
    }
}

#[test]
fn accounting_one_line_per_request() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).workers(2).start();
    let (threads, each) = (8, 100);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| some_for_another_host(&proxy, each));
        }
    });
    let whole = threads * each;
    eventually("every log line", || (proxy.lines().len() >= whole).then_some(()));
    let lines = proxy.lines();
    assert_eq!(lines.len(), whole);
    assert_eq!(lines.iter().filter(|l| l["status"] == 200).count(), whole * 9 / 10);
    assert_eq!(lines.iter().filter(|l| l["status"] == 421).count(), whole / 10);
    assert_eq!(origin.requests().len(), whole * 9 / 10);
}

#[test]
fn failure_fd_exhaustion() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).descriptors(200).start();
    let mut honest = proxy.connect("a.test");
    assert_eq!(honest.get("a.test", "/").status(), 200);
    let (base, start) = (proxy.descriptors(), proxy.messages().len());
    let held: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(proxy.https).ok()).collect();
    eventually("the limit", || (proxy.descriptors() > base + 50).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let ticks = proxy.cpu_ticks();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let used = proxy.cpu_ticks() - ticks;
    assert!(used <= 10, "accepting is paused, not spun on: {used} hundredths of a second");
    for _ in 0..5 {
        assert_eq!(honest.get("a.test", "/").status(), 200, "existing connections go on");
    }
    let said = proxy.messages().len() - start;
    assert!((1..=2).contains(&said), "it says so once: {:#?}", proxy.messages());
    drop(held);
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200, "it recovers by itself");
}

#[test]
fn failure_connection_limit() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).limit("connections", "10").start();
    let mut held: Vec<Client> = (0..10).map(|_| proxy.connect("a.test")).collect();
    let waiting = TcpStream::connect(proxy.https).unwrap();
    for client in &mut held {
        assert_eq!(client.get("a.test", "/").status(), 200, "existing connections go on");
    }
    drop((held, waiting));
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200, "it recovers by itself");
}
