//! Name servers to be tried against, BIND and Knot DNS, as children on free ports of loopback, without
//! recursion. `tests/get-dns-servers` brings the programs; where they are missing the tests say so, and fail
//! if `CI` is set.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::lockring::Scratch;

/// Secret of the keys that the servers know.
pub const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `named`.
    Bind,
    /// `knotd`.
    Knot,
}

/// A zone: its name, its records, and whether the keys may change it.
#[derive(Clone, Copy)]
pub struct Zone {
    pub name: &'static str,
    pub records: &'static str,
    pub open: bool,
}

/// A running server. Keys: `acme` (hmac-sha256) and `acme512` (hmac-sha512), which may change TXT records of
/// open zones below their apex.
pub struct NameServer {
    child: Child,
    pub address: SocketAddr,
    scratch: Scratch,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
            eprintln!("the name server at {}:\n{log}", self.address);
        }
    }
}

fn root() -> PathBuf {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.dns/root");
    std::env::var_os("LOCKRING_TEST_DNS").map_or(local, PathBuf::from)
}

fn program(kind: Kind) -> Option<PathBuf> {
    let name = if kind == Kind::Bind { "named" } else { "knotd" };
    let places = [root().join("usr/sbin").join(name), Path::new("/usr/sbin").join(name)];
    places.into_iter().find(|path| path.exists())
}

/// Whether both are there.
pub fn programs() -> Option<()> {
    program(Kind::Bind).and(program(Kind::Knot)).map(|_| ())
}

/// Folders of the libraries that were brought along.
fn libraries() -> std::ffi::OsString {
    let folders = ["usr/lib", "lib"].map(|folder| root().join(folder)).into_iter();
    let inner = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let triplets =
        inner.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    std::env::join_paths(triplets).unwrap()
}

/// A port that is free on these addresses, TCP and UDP.
pub fn free_port(addresses: &[Ipv4Addr]) -> u16 {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let is_free = |address: &Ipv4Addr| {
            TcpListener::bind((*address, port)).is_ok() && UdpSocket::bind((*address, port)).is_ok()
        };
        if addresses.iter().all(is_free) {
            return port;
        }
    }
}

impl NameServer {
    /// Runs one on a free port of 127.0.0.1.
    #[track_caller]
    pub fn start(kind: Kind, zones: &[Zone]) -> Self {
        Self::start_at(kind, Ipv4Addr::LOCALHOST, free_port(&[Ipv4Addr::LOCALHOST]), zones)
    }

    /// Runs one at this address.
    #[track_caller]
    pub fn start_at(kind: Kind, ip: Ipv4Addr, port: u16, zones: &[Zone]) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.path();
        std::fs::create_dir(folder.join("db")).unwrap();
        for zone in zones {
            let start = format!("$TTL 60\n@ IN SOA ns1.{0}. root.{0}. 1 3600 600 86400 60\n", zone.name);
            std::fs::write(folder.join(zone.name), format!("{start}{}\n", zone.records)).unwrap();
        }
        let configuration = folder.join("server.conf");
        let text = match kind {
            Kind::Bind => bind(folder, ip, port, zones),
            Kind::Knot => knot(folder, ip, port, zones),
        };
        std::fs::write(&configuration, text).unwrap();
        let mut command = Command::new(program(kind).unwrap());
        // BIND stays in the foreground with its log at stderr; Knot always does.
        command.args(if kind == Kind::Bind { &["-g", "-n", "1"][..] } else { &[] });
        command.arg("-c").arg(&configuration).env("LD_LIBRARY_PATH", libraries());
        let log = std::fs::File::create(folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server =
            Self { child: command.spawn().unwrap(), address: (IpAddr::from(ip), port).into(), scratch };
        eventually("the name server listens", || TcpStream::connect(server.address).ok());
        server
    }
}

fn bind(folder: &Path, ip: Ipv4Addr, port: u16, zones: &[Zone]) -> String {
    let folder = folder.display();
    let mut text = format!(
        "options {{ directory \"{folder}\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }};
         pid-file none; session-keyfile none; recursion no; notify no; dnssec-validation no; }};
         controls {{}};
         key \"acme.\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};
         key \"acme512.\" {{ algorithm hmac-sha512; secret \"{SECRET}\"; }};\n"
    );
    for Zone { name, open, .. } in zones {
        let grants = format!("grant acme. wildcard *.{name}. TXT; grant acme512. wildcard *.{name}. TXT;");
        let policy = if *open { format!("update-policy {{ {grants} }};") } else { String::new() };
        writeln!(text, "zone \"{name}\" {{ type primary; file \"{name}\"; {policy} }};").unwrap();
    }
    text
}

fn knot(folder: &Path, ip: Ipv4Addr, port: u16, zones: &[Zone]) -> String {
    let folder = folder.display();
    let mut text = format!(
        "server:\n    rundir: \"{folder}\"\n    listen: {ip}@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n    storage: \"{folder}/db\"\n    journal-db-max-size: 50M\n\
         key:\n  - id: acme\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
         \x20 - id: acme512\n    algorithm: hmac-sha512\n    secret: {SECRET}\n\
         acl:\n  - id: acme\n    key: [acme, acme512]\n    action: update\n    update-type: [TXT]\n    \
         update-owner: zone\n    update-owner-match: sub\n\
         zone:\n"
    );
    for Zone { name, open, .. } in zones {
        writeln!(text, "  - domain: {name}\n    storage: \"{folder}\"\n    file: {name}").unwrap();
        if *open {
            text.push_str("    acl: acme\n");
        }
    }
    text
}
