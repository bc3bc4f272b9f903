//! What the configuration means: valid, complete, immutable. Nobody downstream checks a value again.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::limits;

mod acme;

pub use acme::{
    Acme, AcmePolicy, Authority, ChallengeKind, DnsMeans, DnsProvider, ExternalAccount, KeyKind, OnDemand,
    Preset, Propagation, Scheduling, TsigAlgorithm, TsigKey,
};

/// Name of the admin socket in the state directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// The whole configuration of one running proxy.
#[derive(Clone, Debug)]
pub struct Model {
    /// Certificates from authorities on the network, for sites that say nothing else.
    pub acme: Acme,
    /// Listeners and process-wide choices.
    pub server: Server,
    /// TLS of all sites.
    pub tls: Tls,
    /// Bounds on what peers may send.
    pub limits: Limits,
    /// How long each phase may make no progress.
    pub timeouts: Timeouts,
    /// The access log.
    pub log: Log,
    /// Where metrics can be scraped.
    pub metrics: Metrics,
    /// Sites in the order written.
    pub sites: Vec<Arc<Site>>,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// TLS listeners.
    pub https: Vec<SocketAddr>,
    /// Plain listeners.
    pub http: Vec<SocketAddr>,
    /// Whether `https` was.
    pub https_given: bool,
    /// Whether `http` was.
    pub http_given: bool,
    /// How many workers, on which CPUs.
    pub workers: Workers,
    /// State directory (certificates, local CA, sockets).
    pub state: PathBuf,
    /// Path of the admin socket.
    pub admin: Option<PathBuf>,
    /// Peers whose forwarding fields and PROXY prefixes are believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether trusted peers send a PROXY protocol prefix.
    pub proxy_protocol: bool,
    /// Site served to clients that send no SNI.
    pub default_site: Option<HostPattern>,
    /// Directory of `NAME.pem`/`NAME.key` pairs.
    pub certificates: Option<PathBuf>,
    /// Whether `Forwarded` (RFC 7239) is sent beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// Whether field names with `_` are passed on.
    pub underscores: bool,
}

impl Server {
    /// Path of the admin socket: the one written, or `admin.sock` in the state directory.
    #[must_use]
    pub fn admin_path(&self) -> PathBuf {
        self.admin.clone().unwrap_or_else(|| self.state.join(ADMIN_SOCKET))
    }
}

/// Which CPUs get a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One per CPU that the process may use.
    Auto,
    /// The first `n` of those.
    Count(usize),
    /// These CPUs.
    Cpus(Vec<usize>),
}

/// An IP network, `address/prefix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` lies in this network; IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (u64::from(a.to_bits()) >> shift) == (u64::from(b.to_bits()) >> shift)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// `[tls]`.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// What carries the records of client connections after the handshake.
    pub records: RecordLayer,
}

/// A record layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordLayer {
    /// Ours: in place, small at rest.
    #[default]
    Own,
    /// That of rustls, with its copies and its memory: the reference for ours.
    Rustls,
}

/// `[limits]`; each default is explained in [`crate::limits`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections of one worker.
    pub connections: usize,
    /// Bytes of a head.
    pub head: usize,
    /// Bytes of a request-target.
    pub target: usize,
    /// Field lines of a head, and of a trailer section.
    pub fields: usize,
    /// Bytes of a request body; `None`: any.
    pub body: Option<u64>,
    /// Idle upstream connections kept per endpoint and worker.
    pub pool_idle: usize,
    /// Connections open to one endpoint per worker.
    pub upstream_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_PER_WORKER,
            head: limits::HEAD_BYTES,
            target: limits::TARGET_BYTES,
            fields: limits::FIELDS,
            body: None,
            pool_idle: limits::POOL_IDLE_PER_ENDPOINT,
            upstream_connections: limits::UPSTREAM_CONNECTIONS_PER_ENDPOINT,
        }
    }
}

/// `[timeouts]`: each measures time without progress in its phase.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From accept to a whole ClientHello.
    pub hello: Duration,
    /// From the ClientHello to the end of the handshake.
    pub handshake: Duration,
    /// From the first byte of a head to its end.
    pub head: Duration,
    /// Between pieces of a request body.
    pub body: Duration,
    /// Between requests on a client connection.
    pub idle: Duration,
    /// Connecting to an upstream.
    pub connect: Duration,
    /// From the request sent to the first byte of the response.
    pub first_byte: Duration,
    /// Between pieces of a response body.
    pub between_bytes: Duration,
    /// While the client takes none of the response.
    pub write: Duration,
    /// While neither side of a tunnel sends.
    pub tunnel: Duration,
    /// Idle upstream connections, until the app shows its own figure.
    pub pool_idle: Duration,
    /// From SIGTERM to the end of the last request.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            hello: limits::HELLO_TIMEOUT,
            handshake: limits::HANDSHAKE_TIMEOUT,
            head: limits::HEAD_TIMEOUT,
            body: limits::BODY_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
            connect: limits::CONNECT_TIMEOUT,
            first_byte: limits::FIRST_BYTE_TIMEOUT,
            between_bytes: limits::BETWEEN_BYTES_TIMEOUT,
            write: limits::WRITE_TIMEOUT,
            tunnel: limits::TUNNEL_TIMEOUT,
            pool_idle: limits::POOL_IDLE_TIMEOUT,
            drain: limits::DRAIN_TIMEOUT,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Where access lines go.
    pub access: AccessLog,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Addresses to listen on.
    pub addresses: Vec<SocketAddr>,
    /// Path of a socket to listen on.
    pub socket: Option<PathBuf>,
}

/// Where access lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    #[default]
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// One site: a host pattern and what happens to its requests.
#[derive(Clone, Debug)]
pub struct Site {
    /// Place in [`Model::sites`].
    pub index: u32,
    /// Hosts it answers for.
    pub host: HostPattern,
    /// Where its certificate comes from.
    pub tls: SiteTls,
    /// How an authority on the network is asked for it, if neither files nor the local CA have it; `None`:
    /// never.
    pub acme: Option<Arc<AcmePolicy>>,
    /// `true`: plain HTTP requests are redirected to HTTPS; `false`: they are served too.
    pub redirect: bool,
    /// Routes, no two with the same path; the last one matches every path if the site has a `to`. The most
    /// specific one wins, whatever the order.
    pub routes: Vec<Route>,
}

/// A lower-case host name without trailing dot, a wildcard for one label, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `app.example.com`.
    Exact(String),
    /// `*.example.com`, kept as `example.com`: exactly one label in front (RFC 9525 §6.3).
    Wildcard(String),
    /// An IP literal.
    Ip(IpAddr),
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Where a site's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteTls {
    /// A pair of the certificate directory; else the local CA for local names; else an ACME CA.
    Auto,
    /// An ACME CA and nothing else, whatever the name: the site has a table `acme` of its own.
    Acme,
    /// Pairs that the site names; more than one (ECDSA beside RSA) is allowed.
    Files(Vec<CertificateFiles>),
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// File of the chain, leaf first.
    pub certificate: PathBuf,
    /// Where the private key is.
    pub key: Secret,
}

/// Where a secret is, never the secret itself: a model can be shown, compared and kept without care.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// `file:PATH` or the path alone: the content of this file.
    File(PathBuf),
    /// `env:NAME`: the value of this environment variable.
    Env(String),
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

/// Which requests of a site go to which endpoints.
#[derive(Clone, Debug)]
pub struct Route {
    /// Paths it answers for.
    pub path: PathPattern,
    /// Where they go; never empty.
    pub to: Vec<Upstream>,
}

/// Paths, in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// Just this path.
    Exact(String),
    /// `/static/*` kept as `/static/`: this prefix and all below (`/static` too); `/` matches all.
    Prefix(String),
}

/// One endpoint of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// `host:port`, `:port` (loopback) or, with `tls`, `https://host[:port]`.
    Tcp {
        /// Name or IP literal, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Whether it speaks TLS (verified).
        tls: bool,
    },
    /// `unix:PATH`.
    Unix(PathBuf),
    /// The built-in demonstration app.
    Demo,
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "https://" } else { "" };
                if host.contains(':') {
                    write!(f, "{scheme}[{host}]:{port}")
                } else {
                    write!(f, "{scheme}{host}:{port}")
                }
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Demo => f.write_str("demo"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn networks_contain_their_addresses_only() {
        let net = Network { address: "10.1.0.0".parse().unwrap(), prefix: 16 };
        assert!(net.contains("10.1.2.3".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        let all = Network { address: "::".parse().unwrap(), prefix: 0 };
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("10.0.0.1".parse().unwrap()));
    }
}
