//! curl and the built-in demo app.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::http::Head;
use crate::harness::lockring::Scratch;
use crate::harness::origin::Conn;
use crate::harness::python::tool;
use crate::harness::{Lockring, Origin, Setup, long, pattern};

/// curl for `https://a.test`, with the local CA trusted and nothing on the wire but what is asked for.
fn curl(proxy: &Lockring, arguments: &[&str]) -> Output {
    let resolve = format!("a.test:{}:127.0.0.1", proxy.https.port());
    let output = Command::new("curl")
        .args([
            "-q",
            "--silent",
            "--show-error",
            "--max-time",
            "300",
            "--noproxy",
            "*",
            "--resolve",
            &resolve,
        ])
        .arg("--cacert")
        .arg(proxy.root_pem())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn url(proxy: &Lockring, target: &str) -> String {
    format!("https://a.test:{}{target}", proxy.https.port())
}

#[test]
fn curl_get_head_post() {
    need!(tool("curl"), "curl");
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let body = if request.head.start.starts_with("HEAD") { "" } else { "ok" };
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"));
        }
    });
    let proxy = Setup::a(origin.address).start();
    for version in ["--tlsv1.3", "--tls-max"] {
        let more: &[&str] = if version == "--tls-max" { &["--tls-max", "1.2"] } else { &["--tlsv1.3"] };
        assert_eq!(curl(&proxy, &[more, &["--http1.1", &url(&proxy, "/x")]].concat()).stdout, b"ok");
    }
    let head = curl(&proxy, &["--http1.1", "--head", &url(&proxy, "/h")]).stdout;
    assert!(String::from_utf8_lossy(&head).contains("ontent-") || head.starts_with(b"HTTP/1.1 200"));
    assert_eq!(curl(&proxy, &["--http1.1", "-d", "a=b", &url(&proxy, "/p")]).stdout, b"ok");
    // Several on one connection.
    let (one, two) = (url(&proxy, "/1"), url(&proxy, "/2"));
    assert_eq!(curl(&proxy, &["--http1.1", &one, &two]).stdout, b"okok");
    let redirect = format!("http://a.test:{}/r", proxy.http.port());
    let resolve = format!("a.test:{}:127.0.0.1", proxy.http.port());
    let code =
        curl(&proxy, &["--resolve", &resolve, "-o", "/dev/null", "-w", "%{http_code}", &redirect]).stdout;
    assert_eq!(code, b"308");
}

fn size() -> usize {
    if long() { 1 << 30 } else { 64 << 20 }
}

/// Whether two files are the same bytes; `cmp` compares without holding gigabytes here.
fn same(one: &Path, two: &Path) -> bool {
    Command::new("cmp").arg(one).arg(two).status().unwrap().success()
}

fn big_file(path: &Path) {
    let block = pattern(1 << 20);
    let mut file = std::fs::File::create(path).unwrap();
    for index in 0..size() >> 20 {
        std::io::Write::write_all(&mut file, &index.to_le_bytes()).unwrap();
        std::io::Write::write_all(&mut file, &block[8..]).unwrap();
    }
}

/// Answers with the file at `path`.
fn give(conn: &mut Conn, path: &Path) {
    let mut file = std::fs::File::open(path).unwrap();
    conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", size()));
    let mut piece = vec![0; 1 << 18];
    while let Ok(n @ 1..) = std::io::Read::read(&mut file, &mut piece) {
        if conn.try_write(&piece[..n]).is_err() {
            return;
        }
    }
}

/// Writes the body that follows `head` to the file at `path`.
fn take(conn: &mut Conn, head: &Head, path: &Path) {
    let mut left = usize::try_from(head.length().unwrap()).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    while left > 0 {
        let Ok(piece) = conn.reader.exactly(left.min(1 << 16)) else { return };
        left -= piece.len();
        std::io::Write::write_all(&mut file, &piece).unwrap();
    }
    conn.write("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
}

#[test]
fn curl_large_download_and_upload() {
    need!(tool("curl"), "curl");
    let scratch = Scratch::new();
    let (source, got, stored) =
        (scratch.path().join("source"), scratch.path().join("got"), scratch.path().join("stored"));
    big_file(&source);
    let (from, to) = (source.clone(), stored.clone());
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.head() {
            if request.head.start.starts_with("GET") {
                give(conn, &from);
            } else {
                take(conn, &request.head, &to);
            }
        }
    });
    origin.forget_bytes();
    let proxy = Setup::a(origin.address).start();
    let before = proxy.rss();
    curl(&proxy, &["--http1.1", "-o", got.to_str().unwrap(), &url(&proxy, "/big")]);
    assert!(same(&source, &got), "the download changed");
    let upload = ["--http1.1", "-T", source.to_str().unwrap(), &url(&proxy, "/up")];
    assert_eq!(curl(&proxy, &upload).stdout, b"ok");
    assert!(same(&source, &stored), "the upload changed");
    let grown = proxy.rss().saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "streams are not held in memory: {grown} bytes more");
    assert!(proxy.line(0)["bytes_out"].as_u64().unwrap() >= size() as u64);
    assert!(proxy.line(1)["bytes_in"].as_u64().unwrap() >= size() as u64);
}

#[test]
fn demo_app() {
    let mut proxy = Lockring::proxy(&["localhost=demo"]);
    let line = proxy.wait_message("curl --cacert");
    assert!(line.contains("https://localhost"), "{line}");
    let mut client = proxy.connect("localhost");
    let response = client.get("localhost", "/some/path?q=1");
    let text = response.text();
    assert_eq!(response.status(), 200, "{text}");
    for word in ["GET", "/some/path", "localhost", "127.0.0.1", "1.3"] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    assert_eq!(client.get("localhost", "/health").status(), 200);
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12345\r\n\r\n");
    client.send(vec![b'x'; 12345]);
    assert!(client.response().text().contains("12345"));
    if tool("curl").is_some() {
        let command = line.trim_start_matches(|c| c != 'c').split_once("curl").map(|(_, rest)| rest).unwrap();
        let output =
            Command::new("sh").args(["-c", &format!("curl -sS --noproxy '*' {command}")]).output().unwrap();
        assert!(output.status.success(), "the printed command works: {line}");
    }
    proxy.signal("TERM");
    drop(client);
    assert!(proxy.wait_exit().success());
}

#[test]
fn print_config_prints_a_configuration_that_runs() {
    let output = Command::new(crate::harness::lockring::binary())
        .args(["proxy", "app.test=127.0.0.1:8000", "--print-config"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("app.test") && text.contains("127.0.0.1:8000"),
        "{text}"
    );
    let scratch = Scratch::new();
    let path = scratch.path().join("printed.toml");
    std::fs::write(&path, text).unwrap();
    let check =
        Command::new(crate::harness::lockring::binary()).args(["check", "-c"]).arg(path).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}
