//! A look before the first order: names that would fail cost no order at the authority, and are told with what
//! to change; by the process that serves, and by `check --online`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::lockring::{Lockring, Scratch, Setup, binary};
use crate::harness::pebble::{Options, Pebble, program};
use crate::harness::{Client, eventually};

const APP: &str = "app.example.com";

/// A web server of somebody else.
fn stranger(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut request = [0; 2048];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
}

/// What makes the name unfit.
#[derive(Clone, Copy, Debug)]
enum Fault {
    NoAddress,
    WrongIpv6,
    Caa,
    SomebodyElse,
}

const FAULTS: [(Fault, &str, &str); 4] = [
    (Fault::NoAddress, "has no address", "add an A or AAAA record of app.example.com"),
    (Fault::WrongIpv6, "leads to somebody else at [::1]:", "correct or remove the AAAA record"),
    (
        Fault::Caa,
        "CAA at example.com. allows only \"other.example\"",
        "add the record: example.com. CAA 0 issue",
    ),
    (Fault::SomebodyElse, "leads to somebody else at 127.0.0.2:", "correct or remove the A record"),
];

impl Fault {
    fn make(self, pebble: &Pebble) {
        match self {
            Self::NoAddress => pebble.tell_dns("/set-default-ipv4", &json!({"ip": ""})),
            Self::WrongIpv6 => {
                stranger(format!("[::1]:{}", pebble.http_port).parse().unwrap());
                pebble.tell_dns("/add-aaaa", &json!({"host": "app.example.com.", "addresses": ["::1"]}));
            }
            Self::Caa => {
                let policies = json!([{"tag": "issue", "value": "other.example"}]);
                pebble.tell_dns("/add-caa", &json!({"host": "example.com.", "policies": policies}));
            }
            Self::SomebodyElse => {
                stranger(format!("127.0.0.2:{}", pebble.http_port).parse().unwrap());
                pebble.tell_dns("/add-a", &json!({"host": "app.example.com.", "addresses": ["127.0.0.2"]}));
            }
        }
    }
}

fn orders(pebble: &Pebble) -> usize {
    pebble.log().iter().filter(|line| line.contains("order-plz") || line.contains("Added order")).count()
}

#[track_caller]
fn served(proxy: &Lockring, pebble: &Pebble) {
    let trust = pebble.trusting();
    eventually("a certificate", || Client::tls(proxy.https, APP, &trust).ok());
}

#[test]
fn names_that_would_fail_cost_no_order() {
    let program = need!(program(), "pebble");
    for (fault, cause, remedy) in FAULTS {
        let pebble = Pebble::start(&program, Options::new());
        // Its directory does not tell its names in CAA records; a record for nobody forbids all the same.
        fault.make(&pebble);
        let mut proxy = Setup::new()
            .site(APP, "demo")
            .certified_with(&pebble, "classic", "challenge = \"http-01\"")
            .start();
        let line = proxy.wait_message(cause);
        assert!(line.contains(remedy) && line.contains("no order was placed"), "{fault:?}: {line}");
        assert!(line.contains("attempt 1, next try in"), "{fault:?}: {line}");
        assert_eq!(orders(&pebble), 0, "{fault:?}");
    }
}

#[test]
fn a_name_that_leads_here_is_ordered() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let proxy = Setup::new().site(APP, "demo").certified_with(&pebble, "classic", "").start();
    served(&proxy, &pebble);
    assert!(orders(&pebble) > 0);
    let doubts = proxy.messages().into_iter().filter(|line| line.contains("before the order"));
    assert_eq!(doubts.collect::<Vec<_>>(), Vec::<String>::new());
}

/// The file of a proxy that does not run.
fn file(scratch: &Scratch, pebble: &Pebble, challenge: &str) -> String {
    let path = scratch.path().join("lockring.toml");
    let text = format!(
        "[server]\nhttps = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\nstate = \"{}\"\n\
         [acme]\ndirectory = \"{}\"\nca_file = \"{}\"\nresolvers = [\"{}\"]\nchallenge = \"{challenge}\"\n\
         [sites]\n\"{APP}\" = \"demo\"\n",
        pebble.tls_port,
        pebble.http_port,
        scratch.path().join("state").display(),
        pebble.directory(),
        pebble.ca_file.display(),
        pebble.dns(),
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn check(file: &str, format: &str) -> Output {
    Command::new(binary()).args(["check", "--online", "--format", format, "-c", file]).output().unwrap()
}

#[test]
fn check_online_tells_the_same_before_anything_runs() {
    let program = need!(program(), "pebble");
    for (fault, cause, remedy) in FAULTS {
        let pebble = Pebble::start(&program, Options::new());
        let scratch = Scratch::new();
        let file = file(&scratch, &pebble, "http-01");
        let good = check(&file, "text");
        let text =
            String::from_utf8_lossy(&good.stdout).into_owned() + &String::from_utf8_lossy(&good.stderr);
        assert_eq!(good.status.code(), Some(0), "{text}");
        assert!(!text.contains("warning"), "{text}");
        fault.make(&pebble);
        let bad = check(&file, "json");
        assert_eq!(bad.status.code(), Some(1), "{fault:?}");
        let told: Value = serde_json::from_slice(&bad.stdout).unwrap();
        let told = told.as_array().unwrap();
        assert_eq!(told.len(), 1, "{told:#?}");
        let has = |key: &str, text: &str| told[0][key].as_str().is_some_and(|value| value.contains(text));
        assert!(has("cause", cause) && has("remedy", remedy) && has("severity", "error"), "{told:#?}");
        assert_eq!(told[0]["line"], 11, "the site's: {told:#?}");
        assert_eq!(orders(&pebble), 0, "{fault:?}");
    }
}

#[test]
fn check_online_asks_the_proxy_that_runs() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let proxy =
        Setup::new().site(APP, "demo").certified_with(&pebble, "classic", "challenge = \"http-01\"").start();
    served(&proxy, &pebble);
    let scratch = Scratch::new();
    let file = file(&scratch, &pebble, "http-01");
    let ask = || {
        let output = check(&file, "text");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = ask();
    assert!(code == Some(0) && text.contains("was not tried from here"), "not its admin socket: {text}");
    let socket = proxy.state().join("admin.sock");
    let whole = std::fs::read_to_string(&file).unwrap();
    let whole = whole.replace("[server]\n", &format!("[server]\nadmin = \"{}\"\n", socket.display()));
    std::fs::write(&file, whole).unwrap();
    let (code, text) = ask();
    assert!(code == Some(0) && text.is_empty(), "{text}");
    let orders_before = orders(&pebble);
    Fault::SomebodyElse.make(&pebble);
    let (code, text) = ask();
    assert!(code == Some(1) && text.contains("leads to somebody else at 127.0.0.2:"), "{text}");
    assert_eq!(orders(&pebble), orders_before);
}

#[test]
fn check_online_answers_tls_too() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let scratch = Scratch::new();
    let file = file(&scratch, &pebble, "tls-alpn-01");
    let good = check(&file, "json");
    assert_eq!(String::from_utf8_lossy(&good.stdout).trim(), "[]");
    stranger(format!("127.0.0.2:{}", pebble.tls_port).parse().unwrap());
    pebble.tell_dns("/add-a", &json!({"host": "app.example.com.", "addresses": ["127.0.0.2"]}));
    let bad = String::from_utf8_lossy(&check(&file, "text").stdout).into_owned();
    assert!(bad.contains("leads to somebody else at 127.0.0.2:") && bad.contains("(tls-alpn-01: "), "{bad}");
}
