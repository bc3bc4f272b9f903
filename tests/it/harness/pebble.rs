//! A certificate authority to be tried against: Let's Encrypt's `pebble` with its DNS server, on free ports.
//! `tests/get-pebble` brings the programs; where they are missing the tests say so, and fail if `CI` is set.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::client::{Client, trusting};
use super::eventually;
use super::lockring::{Scratch, Setup};
use super::pki::Authority;

/// The program, if it was brought.
pub fn program() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.pebble/root/usr/bin/pebble");
    let path = std::env::var_os("LOCKRING_TEST_PEBBLE").map_or(local, PathBuf::from);
    path.exists().then_some(path)
}

/// A port of the loopback address that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What the authority is to be like.
pub struct Options {
    environment: Vec<(&'static str, String)>,
    external_accounts: Vec<(String, String)>,
    dns: Option<SocketAddr>,
}

impl Options {
    /// Quick, and as strict as it can be told to be.
    pub fn new() -> Self {
        let environment = vec![
            ("PEBBLE_VA_NOSLEEP", "1".to_owned()),
            ("PEBBLE_WFE_NONCEREJECT", "5".to_owned()),
            ("PEBBLE_AUTHZREUSE", "50".to_owned()),
        ];
        Self { environment, external_accounts: Vec::new(), dns: None }
    }

    /// An environment variable of pebble's.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Accounts are bound to this one (RFC 8555 §7.3.4): its identifier and MAC key in base64url.
    pub fn external_account(mut self, kid: &str, key: &str) -> Self {
        self.external_accounts.push((kid.to_owned(), key.to_owned()));
        self
    }

    /// Validates with the help of this DNS server instead of one of its own.
    pub fn dns(mut self, server: SocketAddr) -> Self {
        self.dns = Some(server);
        self
    }
}

/// A running authority.
pub struct Pebble {
    process: Process,
    _names: Process,
    configuration: PathBuf,
    environment: Vec<(&'static str, String)>,
    directory_port: u16,
    management_port: u16,
    names_port: u16,
    dns: SocketAddr,
    /// Where it looks for HTTP-01.
    pub http_port: u16,
    /// Where it looks for TLS-ALPN-01.
    pub tls_port: u16,
    /// The root of its own HTTPS.
    pub ca_file: PathBuf,
    trust: Arc<ClientConfig>,
    log: Arc<Mutex<Vec<String>>>,
    _scratch: Scratch,
}

/// Killed with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pebble {
    /// Runs `program` and waits until its directory answers.
    #[track_caller]
    pub fn start(program: &Path, options: Options) -> Self {
        let scratch = Scratch::new();
        let ca = Authority::new("test authority's own HTTPS");
        let ca_file = scratch.path().join("ca.pem");
        std::fs::write(&ca_file, &ca.root_pem).unwrap();
        let (certificate, key) = ca.leaf(&["localhost", "127.0.0.1"]).write(scratch.path(), "api");
        let [directory_port, management_port, http_port, tls_port, names_port, dns_port] =
            std::array::from_fn(|_| free_port());
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, dns_port));
        let dns = options.dns.unwrap_or(own);
        let keys: serde_json::Map<String, Value> =
            options.external_accounts.iter().map(|(kid, key)| (kid.clone(), json!(key))).collect();
        let text = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{directory_port}"),
            "managementListenAddress": format!("127.0.0.1:{management_port}"),
            "certificate": certificate, "privateKey": key,
            "httpPort": http_port, "tlsPort": tls_port,
            "keyAlgorithm": "ecdsa",
            "externalAccountBindingRequired": !keys.is_empty(),
            "externalAccountMACKeys": keys,
            "domainBlocklist": ["blocked.example"],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {
                "classic": {"description": "90 days", "validityPeriod": 7_776_000},
                "tlsserver": {"description": "45 days", "validityPeriod": 3_888_000},
                "shortlived": {"description": "160 hours", "validityPeriod": 576_000},
                "tiny": {"description": "a minute", "validityPeriod": 60},
            },
        }});
        let configuration = scratch.path().join("pebble.json");
        std::fs::write(&configuration, text.to_string()).unwrap();
        let names = names(program, own, names_port);
        let log = Arc::default();
        let process = pebble(program, &configuration, &options.environment, dns, &log);
        let trust = trusting(std::slice::from_ref(&ca.root), rustls::ALL_VERSIONS);
        let pebble = Self {
            process,
            _names: names,
            configuration,
            environment: options.environment,
            directory_port,
            management_port,
            names_port,
            dns,
            http_port,
            tls_port,
            ca_file,
            trust,
            log,
            _scratch: scratch,
        };
        pebble.wait_ready();
        pebble
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.directory_port)
    }

    /// Where its DNS server listens.
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// URL of the management interface of its DNS server.
    pub fn names_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.names_port)
    }

    /// What it said so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How many certificates it has issued.
    pub fn issued(&self) -> usize {
        self.log().iter().filter(|line| line.contains("Issued certificate serial")).count()
    }

    /// Ends it and all it knew.
    pub fn kill(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
    }

    /// Starts it anew, knowing nothing of before.
    pub fn restart(&mut self, program: &Path) {
        self.kill();
        self.process = pebble(program, &self.configuration, &self.environment, self.dns, &self.log);
        self.wait_ready();
    }

    #[track_caller]
    fn wait_ready(&self) {
        eventually("the authority's directory", || {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.directory_port));
            let mut client = Client::tls(address, "localhost", &self.trust).ok()?;
            client.try_send("GET /dir HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n\r\n").ok()?;
            client.try_response("GET").ok().filter(|response| response.status() == 200)
        });
    }

    /// The root of the certificates that it issues.
    #[track_caller]
    pub fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.manage("GET", "/roots/0", "").as_bytes()).unwrap()
    }

    /// A client configuration that trusts what it issues.
    pub fn trusting(&self) -> Arc<ClientConfig> {
        trusting(&[self.root()], rustls::ALL_VERSIONS)
    }

    /// Answers questions for the renewal window of a certificate (PEM) with this text from now on.
    #[track_caller]
    pub fn set_renewal_info(&self, certificate: &str, answer: &str) {
        let body = json!({"Certificate": certificate, "ARIResponse": answer}).to_string();
        self.manage("POST", "/set-renewal-info/", &body);
    }

    #[track_caller]
    fn manage(&self, method: &str, path: &str, body: &str) -> String {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.management_port));
        let mut client = Client::tls(address, "localhost", &self.trust).unwrap();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let response = client.response();
        assert_eq!(response.status(), 200, "{method} {path}: {}", response.text());
        response.text()
    }

    /// Tells its DNS server something: a path and a body of its management interface.
    #[track_caller]
    pub fn tell_dns(&self, path: &str, body: &Value) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.names_port));
        let mut client = Client::plain(address);
        let body = body.to_string();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(client.response().status(), 200, "{path}");
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(60);
            eprintln!("pebble said at last: {:#?}", &log[from..]);
        }
    }
}

fn pebble(
    program: &Path,
    configuration: &Path,
    environment: &[(&'static str, String)],
    dns: SocketAddr,
    log: &Arc<Mutex<Vec<String>>>,
) -> Process {
    let mut child = Command::new(program)
        .arg("-config")
        .arg(configuration)
        .args(["-dnsserver", &dns.to_string()])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    gather(child.stdout.take().unwrap(), log);
    gather(child.stderr.take().unwrap(), log);
    Process(child)
}

/// The DNS server beside it: every name is the loopback address until it is told otherwise.
fn names(program: &Path, dns: SocketAddr, management: u16) -> Process {
    let child = Command::new(program.with_file_name("pebble-challtestsrv"))
        .args(["-dnsserver", &dns.to_string(), "-management", &format!("127.0.0.1:{management}")])
        .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

fn gather(source: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            log.lock().unwrap().push(line);
        }
    });
}

impl Setup {
    /// Listens where the authority looks for answers, and asks it for certificates of this profile.
    pub fn certified_by(self, pebble: &Pebble, profile: &str) -> Self {
        self.certified_with(pebble, profile, "")
    }

    /// The same with further lines of `[acme]`.
    pub fn certified_with(self, pebble: &Pebble, profile: &str, lines: &str) -> Self {
        self.listen(pebble.tls_port, pebble.http_port).tables(format!(
            "[acme]\ndirectory = \"{}\"\nca_file = \"{}\"\nprofile = \"{profile}\"\nresolvers = [\"{}\"]\n{lines}",
            pebble.directory(),
            pebble.ca_file.display(),
            pebble.dns()
        ))
    }
}
