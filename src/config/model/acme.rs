//! What `[acme]`, `[dns.NAME]` and a site's `acme` mean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Secret;
use crate::limits;

/// `[acme]`: what holds for the whole process. What may differ from site to site is an [`AcmePolicy`].
#[derive(Clone, Debug)]
pub struct Acme {
    /// How the acme thread gives way to workers.
    pub scheduling: Scheduling,
    /// Roots of the authorities' own HTTPS, beside those of the system (PEM).
    pub ca_file: Option<PathBuf>,
    /// From a request to an authority sent to the end of its answer.
    pub request_timeout: Duration,
    /// Name servers asked before an order, instead of those of the system (`address:port`).
    pub resolvers: Vec<std::net::SocketAddr>,
    /// Connecting to an authority, TLS included.
    pub connect_timeout: Duration,
    /// From a challenge answered to the authority's verdict, and from finalization to the certificate.
    pub order_timeout: Duration,
    /// Program told of events, with its arguments.
    pub hook: Option<Vec<String>>,
    /// Directory that is given a plain copy of each new pair, `NAME.pem` and `NAME.key`.
    pub export: Option<PathBuf>,
    /// Whether an expired certificate is still served while a new one cannot be had.
    pub serve_expired: bool,
    /// Certificates for names that no site lists, asked for by clients.
    pub on_demand: Option<OnDemand>,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            scheduling: Scheduling::default(),
            ca_file: None,
            resolvers: Vec::new(),
            request_timeout: limits::ACME_REQUEST_TIMEOUT,
            connect_timeout: limits::ACME_CONNECT_TIMEOUT,
            order_timeout: limits::ACME_ORDER_TIMEOUT,
            hook: None,
            export: None,
            serve_expired: true,
            on_demand: None,
        }
    }
}

/// How the acme thread gives way to workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Nice 19: the least share of a busy CPU, but some.
    #[default]
    Nice,
    /// `SCHED_IDLE`: only what nobody else wants.
    Idle,
    /// As the rest of the process.
    Normal,
}

/// How certificates of a site are asked for; shared by all sites that say nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmePolicy {
    /// Authorities in order of preference; never empty.
    pub authorities: Vec<Authority>,
    /// Contact address.
    pub email: Option<String>,
    /// Certificate profile, by the authority's name for it.
    pub profile: Option<String>,
    /// Kinds of challenge in the order tried; never empty.
    pub challenges: Vec<ChallengeKind>,
    /// How records of DNS-01 are written; there if `challenges` has it.
    pub dns: Option<Arc<DnsProvider>>,
    /// Kind of private key.
    pub key: KeyKind,
    /// Further names on the same certificate: normalised DNS names, wildcards or IP addresses.
    pub names: Vec<super::HostPattern>,
}

/// A certificate authority that speaks ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// URL of its directory.
    pub directory: String,
    /// What is known of it.
    pub preset: Option<Preset>,
    /// External account binding (RFC 8555 §7.3.4).
    pub eab: Option<ExternalAccount>,
}

impl Authority {
    /// Whether it is known to be a staging service, whose certificates nobody trusts.
    #[must_use]
    pub fn is_staging(&self) -> bool {
        self.preset == Some(Preset::LetsEncryptStaging)
    }
}

/// Authorities with a short name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `letsencrypt`.
    LetsEncrypt,
    /// `letsencrypt-staging`.
    LetsEncryptStaging,
    /// `zerossl`.
    ZeroSsl,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LetsEncrypt, Self::LetsEncryptStaging, Self::ZeroSsl];

    /// Its short name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::LetsEncrypt => "letsencrypt",
            Self::LetsEncryptStaging => "letsencrypt-staging",
            Self::ZeroSsl => "zerossl",
        }
    }

    /// URL of its directory.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::LetsEncrypt => "https://acme-v02.api.letsencrypt.org/directory",
            Self::LetsEncryptStaging => "https://acme-staging-v02.api.letsencrypt.org/directory",
            Self::ZeroSsl => "https://acme.zerossl.com/v2/DV90",
        }
    }
}

/// An account at the authority's own shop, to which the ACME account is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Key identifier.
    pub kid: String,
    /// MAC key in base64url.
    pub hmac: Secret,
}

/// How control over a name is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// `http-01` (RFC 8555 §8.3), on port 80.
    Http01,
    /// `tls-alpn-01` (RFC 8737), on port 443.
    TlsAlpn01,
    /// `dns-01` (RFC 8555 §8.4): the only one for wildcards.
    Dns01,
    /// `dns-persist-01`: a record that the operator has set once.
    DnsPersist01,
}

impl ChallengeKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http01, Self::TlsAlpn01, Self::Dns01, Self::DnsPersist01];

    /// Its registered name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
            Self::DnsPersist01 => "dns-persist-01",
        }
    }
}

/// Kind of a certificate's private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
}

impl KeyKind {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
        }
    }
}

/// `[dns.NAME]`: how records are written into a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsProvider {
    /// `NAME`.
    pub name: String,
    /// By what means.
    pub means: DnsMeans,
    /// How it is known that a record can be seen.
    pub propagation: Propagation,
    /// Longest wait for that.
    pub propagation_timeout: Duration,
    /// Name servers asked instead of those of the system (`address:port`).
    pub resolvers: Vec<std::net::SocketAddr>,
}

/// By what means records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsMeans {
    /// Dynamic updates (RFC 2136) signed with TSIG (RFC 8945).
    Update {
        /// `host:port` of the primary server.
        server: String,
        /// Zone; found by its SOA record if not given.
        zone: Option<String>,
        /// Name of the key; none: unsigned updates.
        key: Option<TsigKey>,
    },
    /// A program, called as lego calls one.
    Exec {
        /// The program and its first arguments.
        command: Vec<String>,
        /// Whether it is given token and key authorization instead of name and value.
        raw: bool,
        /// After which it is killed.
        timeout: Duration,
    },
}

/// A TSIG key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigKey {
    /// Name.
    pub name: String,
    /// Algorithm.
    pub algorithm: TsigAlgorithm,
    /// Secret in base64.
    pub secret: Secret,
}

/// Algorithm of a TSIG key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`.
    #[default]
    HmacSha256,
    /// `hmac-sha384`.
    HmacSha384,
    /// `hmac-sha512`.
    HmacSha512,
}

/// How it is known that a record can be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Every authoritative server has it.
    #[default]
    Authoritative,
    /// The system's resolver has it.
    Resolver,
    /// This time has passed.
    Wait(Duration),
    /// It is not looked for.
    None,
}

/// `[acme.on_demand]`: certificates for names that no site lists. The connection goes to the site whose
/// host is the longest matching wildcard, or to the default site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// URL asked with `?domain=NAME&remote_ip=IP`: 200 to 299 allow.
    pub ask: Option<String>,
    /// Names allowed without asking; a wildcard stands for any number of labels.
    pub allow: Vec<super::HostPattern>,
    /// New names in an hour.
    pub per_hour: usize,
    /// Names in all.
    pub total: usize,
    /// Longest wait for an answer of `ask`.
    pub ask_timeout: Duration,
}

impl OnDemand {
    /// Allows no name.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            ask: None,
            allow: Vec::new(),
            per_hour: 0,
            total: 0,
            ask_timeout: limits::ON_DEMAND_ASK_TIMEOUT,
        }
    }
}
