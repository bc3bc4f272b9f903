//! FastAPI under Uvicorn, and the websockets library: what most apps behind this proxy are.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::python::{App, apps, interpreter};
use crate::harness::{Client, Lockring, Setup, eventually, long, pattern};

macro_rules! fastapi {
    () => {{
        let python = need!(interpreter(), "Python with tests/requirements.txt");
        let app = App::start(&python, "fastapi_app.py", &[]);
        eventually("the app", || std::net::TcpStream::connect(app.address).ok());
        let proxy = Setup::a(app.address).start();
        (app, proxy)
    }};
}

fn json(client: &mut Client, target: &str) -> Value {
    let response = client.get("a.test", target);
    assert_eq!(response.status(), 200, "{}", response.text());
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn uvicorn_docs_load() {
    let (_app, proxy) = fastapi!();
    let mut client = proxy.connect("a.test");
    let docs = client.get("a.test", "/docs");
    assert_eq!(docs.status(), 200);
    assert!(docs.text().contains("swagger"), "{}", docs.text());
    assert_eq!(json(&mut client, "/openapi.json")["info"]["title"], "told by the tests");
    assert_eq!(client.get("a.test", "/missing").status(), 404);
}

#[test]
fn uvicorn_sees_client_and_scheme() {
    let (_app, proxy) = fastapi!();
    let seen = json(&mut proxy.connect("a.test"), "/seen");
    assert_eq!((&seen["client"], &seen["scheme"]), (&"127.0.0.1".into(), &"https".into()));
    assert_eq!((&seen["host"], &seen["url"]), (&"a.test".into(), &"https://a.test/seen".into()));
}

#[test]
fn uvicorn_event_stream_event_by_event() {
    let (app, proxy) = fastapi!();
    let mut client = proxy.connect("a.test");
    client.send("GET /events HTTP/1.1\r\nHost: a.test\r\nAccept: text/event-stream\r\n\r\n");
    let head = client.reader.head().unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.get("content-type").unwrap().starts_with("text/event-stream"));
    for index in 0..5 {
        let expected = format!("data: {index}\n\n");
        let size = client.reader.chunk_size().unwrap();
        assert_eq!(client.reader.exactly(size + 2).unwrap(), format!("{expected}\r\n").as_bytes());
        // The app goes on only now: an event that was held back would never have come.
        let mut direct = Client::plain(app.address);
        direct.send("POST /release HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(direct.response().status(), 200);
    }
    assert_eq!(client.reader.chunk_size().unwrap(), 0);
}

#[test]
fn uvicorn_sees_the_client_leave() {
    let (app, proxy) = fastapi!();
    let mut client = proxy.connect("a.test");
    client.send("GET /until-aborted HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.reader.head().unwrap().status(), 200);
    client.reader.exactly(2000).unwrap();
    drop(client);
    eventually("the app sees the client leave", || {
        let told = Client::plain(app.address).get("a.test", "/told").text();
        told.contains("aborted").then_some(())
    });
    proxy.wait_line(0, |l| l["target"] == "/until-aborted");
}

#[test]
fn uvicorn_upload_and_download_digests() {
    let (app, proxy) = fastapi!();
    let body = pattern(16 << 20);
    let digest_of = |mut client: Client, chunked: bool| {
        if chunked {
            client.send("POST /digest HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(123_457) {
                client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
        } else {
            client.send(format!(
                "POST /digest HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            client.send(&body);
        }
        serde_json::from_slice::<Value>(&client.response().body).unwrap()
    };
    let direct = digest_of(Client::plain(app.address), false);
    assert_eq!(direct["length"], body.len());
    assert_eq!(digest_of(proxy.connect("a.test"), false), direct);
    assert_eq!(digest_of(proxy.connect("a.test"), true), direct);
    let through = proxy.connect("a.test").get("a.test", "/download/16");
    let direct = Client::plain(app.address).get("a.test", "/download/16");
    assert!(through.body.len() > 16 << 20 && through.body == direct.body, "the download changed");
}

/// Many connections, each of which lets the app's keep-alive limit of 5 s nearly or just pass between two
/// requests: the app closes pooled connections as they are used.
fn race(proxy: &Lockring, connections: usize, method: &str) {
    let request = match method {
        "GET" => "GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
        _ => format!("{method} /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"),
    };
    let started = Instant::now();
    let mut clients: Vec<Client> = (0..connections).map(|_| proxy.connect("a.test")).collect();
    for client in &mut clients {
        client.send(&request);
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    let first = started.elapsed();
    // The second requests are spread over 4.9 to 5.1 s after the first answers.
    for (index, client) in clients.iter_mut().enumerate() {
        let spread = Duration::from_micros(200_000 * index as u64 / connections as u64);
        let due = first + Duration::from_millis(4_900) + spread;
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        client.send(&request);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().status(), 200, "request {index}");
    }
}

#[test]
fn uvicorn_keep_alive_race() {
    let (app, _) = fastapi!();
    // Both ways of meeting the app's limit: our default, which gives up first, and one that never does.
    let patient = Setup::a(app.address).timeout("pool_idle", "60s").start();
    let careful = Setup::a(app.address).start();
    let connections = if long() { 500 } else { 50 };
    std::thread::scope(|scope| {
        for (proxy, method) in [(&patient, "GET"), (&careful, "GET"), (&careful, "POST")] {
            scope.spawn(move || race(proxy, connections, method));
        }
    });
    for proxy in [&patient, &careful] {
        assert!(proxy.lines().iter().all(|l| l["status"] == 200), "a 502 in the race");
    }
}

#[test]
fn websockets_echo() {
    let python = need!(interpreter(), "Python with tests/requirements.txt");
    let app = App::start(&python, "ws_echo.py", &[]);
    let proxy = Setup::a(app.address).start();
    let output = Command::new(&python)
        .arg(apps().join("ws_client.py"))
        .arg(proxy.https.port().to_string())
        .arg(proxy.root_pem())
        .arg("10000")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let tunnels = eventually("the tunnels' log lines", || {
        let lines: Vec<Value> = proxy.lines().into_iter().filter(|l| l["status"] == 101).collect();
        (lines.len() == 8).then_some(lines)
    });
    assert!(tunnels[0]["bytes_out"].as_u64().unwrap() > 200_000);
}
