//! The proxy under test as a child process: its configuration, its addresses, its log, its end.

use std::fmt::{Display, Write as _};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::client::{Client, trusting};
use super::eventually;

/// A directory that goes away with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new empty one.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lockring-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A configuration in the making.
pub struct Setup {
    workers: usize,
    ports: (u16, u16),
    ipv6: bool,
    server: String,
    timeouts: String,
    limits: String,
    sites: String,
    tables: String,
    environment: Vec<(String, String)>,
    descriptors: Option<u64>,
    state: Option<PathBuf>,
}

impl Setup {
    /// One worker, one TLS and one plain listener on free ports, no site.
    pub fn new() -> Self {
        Self {
            workers: 1,
            ports: (0, 0),
            ipv6: false,
            server: String::new(),
            timeouts: String::new(),
            limits: String::new(),
            sites: String::new(),
            tables: String::new(),
            environment: Vec::new(),
            descriptors: None,
            state: None,
        }
    }

    /// The site `a.test` in front of `to`.
    pub fn a(to: impl Display) -> Self {
        Self::new().site("a.test", to)
    }

    /// A site in its short form.
    pub fn site(mut self, host: &str, to: impl Display) -> Self {
        let _ = writeln!(self.sites, "\"{host}\" = \"{to}\"");
        self
    }

    /// A line of `[server]`.
    pub fn server(mut self, line: &str) -> Self {
        let _ = writeln!(self.server, "{line}");
        self
    }

    /// A timeout.
    pub fn timeout(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.timeouts, "{name} = \"{value}\"");
        self
    }

    /// A limit, as TOML.
    pub fn limit(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.limits, "{name} = {value}");
        self
    }

    /// Whole tables.
    pub fn tables(mut self, text: impl Display) -> Self {
        let _ = writeln!(self.tables, "{text}");
        self
    }

    /// Ports of the TLS and the plain listener instead of free ones.
    pub fn listen(mut self, https: u16, http: u16) -> Self {
        self.ports = (https, http);
        self
    }

    /// The same ports of the IPv6 loopback address too.
    pub fn also_on_ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// How many workers.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// An environment variable of the process.
    pub fn env(mut self, name: &str, value: impl Display) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// The most file descriptors the process may have.
    pub fn descriptors(mut self, most: u64) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// A state directory that is there already.
    pub fn state(mut self, path: &Path) -> Self {
        self.state = Some(path.to_owned());
        self
    }

    /// Runs it.
    #[track_caller]
    pub fn start(self) -> Lockring {
        let scratch = Scratch::new();
        let config = scratch.path().join("lockring.toml");
        let state = self.state.unwrap_or_else(|| scratch.path().join("state"));
        let text = format!(
            "[server]\nhttps = {}\nhttp = {}\nworkers = {}\nstate = \"{}\"\n{}\n\
             {}[timeouts]\n{}\n[limits]\n{}\n[sites]\n{}\n{}",
            addresses(self.ports.0, self.ipv6),
            addresses(self.ports.1, self.ipv6),
            self.workers,
            state.display(),
            self.server,
            record_layer(),
            self.timeouts,
            self.limits,
            self.sites,
            self.tables
        );
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let mut command = command(self.descriptors);
        command.args(["run", "-c", &config]).envs(self.environment);
        Lockring::spawn(command, scratch, state)
    }
}

fn addresses(port: u16, ipv6: bool) -> String {
    let more = if ipv6 { format!(", \"[::1]:{port}\"") } else { String::new() };
    format!("[\"127.0.0.1:{port}\"{more}]")
}

/// The table that chooses the record layer named by `LOCKRING_IT_RECORDS`, for running the same tests over
/// the other one.
fn record_layer() -> String {
    let named = std::env::var("LOCKRING_IT_RECORDS");
    named.map(|name| format!("[tls]\nrecords = \"{name}\"\n")).unwrap_or_default()
}

/// The binary under test: the one just built, or the one that `LOCKRING_BINARY` names.
pub fn binary() -> PathBuf {
    std::env::var_os("LOCKRING_BINARY").map_or(env!("CARGO_BIN_EXE_lockring").into(), PathBuf::from)
}

/// A command for it, with its descriptors limited by the shell that starts it.
fn command(descriptors: Option<u64>) -> Command {
    match descriptors {
        None => Command::new(binary()),
        Some(most) => {
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string()]).arg(binary());
            command
        }
    }
}

/// A running proxy.
pub struct Lockring {
    child: Child,
    /// Its TLS listener.
    pub https: SocketAddr,
    /// Its plain listener.
    pub http: SocketAddr,
    /// Trusts the proxy's local CA; sessions are resumed when it is used again.
    pub trust: Arc<ClientConfig>,
    state: PathBuf,
    stdout: Lines,
    stderr: Lines,
    _scratch: Scratch,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Lockring {
    /// Runs `lockring proxy` with `arguments`.
    #[track_caller]
    pub fn proxy(arguments: &[&str]) -> Self {
        Self::proxy_on((0, 0), arguments)
    }

    /// The same with these ports of the TLS and the plain listener.
    #[track_caller]
    pub fn proxy_on((https, http): (u16, u16), arguments: &[&str]) -> Self {
        let scratch = Scratch::new();
        let mut command = command(None);
        command.arg("proxy").args(arguments);
        command.args(["--https", &format!("127.0.0.1:{https}"), "--http", &format!("127.0.0.1:{http}")]);
        let state = scratch.path().join("state");
        command.arg("--state").arg(&state);
        Self::spawn(command, scratch, state)
    }

    #[track_caller]
    fn spawn(mut command: Command, scratch: Scratch, state: PathBuf) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let trust = trusting(&[], rustls::ALL_VERSIONS);
        let mut proxy =
            Self { child, https: nowhere, http: nowhere, trust, state, stdout, stderr, _scratch: scratch };
        proxy.wait_message("lockring: ready");
        proxy.https = proxy.listener("https");
        proxy.http = proxy.listener("http");
        proxy.trust = proxy.trusting(rustls::ALL_VERSIONS);
        proxy
    }

    /// A client configuration for the TLS `versions` given, with a session cache of its own.
    pub fn trusting(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let root = CertificateDer::from_pem_file(self.root_pem());
        trusting(&root.into_iter().collect::<Vec<_>>(), versions)
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// The certificate of the local CA.
    pub fn root_pem(&self) -> PathBuf {
        self.state.join("local-ca/root.pem")
    }

    /// A TLS connection for `name`.
    #[track_caller]
    pub fn connect(&self, name: &str) -> Client {
        Client::tls(self.https, name, &self.trust).unwrap()
    }

    /// A TCP connection to the plain listener.
    #[track_caller]
    pub fn plain(&self) -> Client {
        Client::plain(self.http)
    }

    /// Access log lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.stdout.lock().unwrap();
        lines.iter().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// The log line number `index`, counted from 0, once it is there.
    #[track_caller]
    pub fn line(&self, index: usize) -> Value {
        eventually("an access log line", || self.lines().get(index).cloned())
    }

    /// The first log line from number `mark` on that fits.
    #[track_caller]
    pub fn wait_line(&self, mark: usize, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + super::PATIENCE;
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().skip(mark).find(|l| fits(l)) {
                return line.clone();
            }
            assert!(
                std::time::Instant::now() < deadline,
                "no such log line; from number {mark} on: {:#?}\nmessages: {:#?}",
                &lines[mark.min(lines.len())..],
                self.messages()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The first log line from number `mark` on with this status; its `reason` must be there if it failed.
    #[track_caller]
    pub fn wait_status(&self, mark: usize, status: u16) -> Value {
        self.wait_line(mark, |l| l["status"] == status)
    }

    /// Lines on standard error so far.
    pub fn messages(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// The first line on standard error that contains `text`, once it is there.
    #[track_caller]
    pub fn wait_message(&mut self, text: &str) -> String {
        eventually(&format!("the message {text:?}; there were {:?}", self.messages()), || {
            let found = self.messages().into_iter().find(|m| m.contains(text));
            if found.is_none() && self.child.try_wait().unwrap().is_some() {
                panic!("ended before it said {text:?}: {:#?}", self.messages());
            }
            found
        })
    }

    #[track_caller]
    fn listener(&self, scheme: &str) -> SocketAddr {
        let prefix = format!("lockring: listening on {scheme}://");
        let found = self.messages().iter().find_map(|m| m.strip_prefix(&prefix)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {scheme} listener in {:#?}", self.messages()))
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident bytes.
    pub fn rss(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// CPU time used so far, in hundredths of a second, by user and kernel work together.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        after_name.split(' ').skip(11).take(2).map(|t| t.parse::<u64>().unwrap()).sum()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Sends signal `name` (`TERM`, `HUP`, ...).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of the process", || child.try_wait().unwrap())
    }
}

impl Drop for Lockring {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("proxy said: {:#?}", self.stderr.lock().map(|l| l.clone()).unwrap_or_default());
        }
    }
}

/// Reads lines in a thread of its own, so that the proxy never waits for the test.
fn collect(source: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let shared = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            shared.lock().unwrap().push(line);
        }
    });
    lines
}
