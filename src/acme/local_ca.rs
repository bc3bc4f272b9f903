//! The CA of this machine, for names that no public CA can vouch for. Its root may sign for local names
//! and private addresses only (name constraints, RFC 5280 §4.2.1.10), so even a stolen root key vouches
//! for no name on the internet.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::store::{self, Dir, Pair, Store};
use crate::config::host::{LOCAL_NETWORKS, LOCAL_SUFFIXES};
use crate::config::model::HostPattern;

pub use crate::config::host::is_local;

const DAY: u64 = 24 * 3600;
/// Life of the root: trusting it is a manual step, so it should outlive the machine.
const ROOT_SECONDS: u64 = 3650 * DAY;
/// A root with less left is signed anew, with the same key.
const ROOT_LEFT_SECONDS: u64 = 90 * DAY;
/// Life of a leaf: short, since nobody can revoke it, and long enough for a machine that sleeps.
const LEAF_SECONDS: u64 = 7 * DAY;
/// How far certificates are dated back, for clients whose clock is behind.
const BACKDATED_SECONDS: u64 = 3600;
/// 2026-01-01: a clock that shows less was never set, and must not shorten the root's life.
const CLOCK_FLOOR: u64 = 1_767_225_600;

const DIRECTORY: &str = "local-ca";
const ROOT_CERTIFICATE: &str = "root.pem";
const ROOT_KEY: &str = "root.key";

/// Why the local CA cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The state directory.
    Store(store::Error),
    /// A certificate could not be made.
    Make(rcgen::Error),
    /// The root's files are there but cannot be read as what they should be.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The name is a public one; its certificate must come from a public CA or from files.
    NotLocal(HostPattern),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Make(error) => write!(f, "cannot make a certificate: {error}"),
            Self::Damaged { path, what } => {
                write!(f, "{}: {what}; remove the local-ca directory to begin with a new CA", path.display())
            }
            Self::NotLocal(host) => {
                write!(f, "{host} is not a local name, so the local CA may not vouch for it")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

/// What others must trust so that leafs are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The certificate in PEM.
    pub pem: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The beginning of its key's identifier, in hexadecimal: tells the CAs of several machines apart.
    pub id: String,
    /// Its end, in seconds since 1970.
    pub not_after: u64,
}

/// A certificate for one host and its key.
pub struct LeafPem {
    /// The chain that a server sends: the leaf alone, since clients hold the root.
    pub chain: String,
    /// The private key (PKCS #8); wiped when dropped.
    pub key: Zeroizing<String>,
    /// Its beginning, in seconds since 1970.
    pub not_before: u64,
    /// Its end, in seconds since 1970.
    pub not_after: u64,
    /// Why it could not be kept for the next start; it works nevertheless.
    pub unsaved: Option<store::Error>,
}

impl fmt::Debug for LeafPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("LeafPem")
            .field("chain", &self.chain)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("unsaved", &self.unsaved)
            .finish_non_exhaustive()
    }
}

impl LeafPem {
    /// When to ask for the next one, in seconds since 1970: a third of its life is then left.
    #[must_use]
    pub fn renew_at(&self) -> u64 {
        renew_at(self.not_before, self.not_after)
    }
}

fn renew_at(not_before: u64, not_after: u64) -> u64 {
    not_after - not_after.saturating_sub(not_before) / 3
}

/// The opened CA.
pub struct LocalCa {
    leafs: Dir,
    issuer: Issuer<'static, KeyPair>,
    subject: Vec<u8>,
    root: Root,
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the issuer, which holds the key.
        f.debug_struct("LocalCa").field("root", &self.root).finish_non_exhaustive()
    }
}

impl LocalCa {
    /// Opens the CA in the state directory, and makes it if it is not there; `now_unix` in seconds.
    /// Starts at the same time agree on one key.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Make`], and [`Error::Damaged`] when key and certificate are there but
    /// do not belong together or cannot be read.
    pub fn open(store: &Store, now_unix: u64) -> Result<Self, Error> {
        let now = now_unix.max(CLOCK_FLOOR);
        let dir = store.dir(DIRECTORY)?;
        // The key comes first and is never replaced: whoever finds it without a certificate can make
        // that, so a kill between the two does no harm.
        let key_pem = read_or_create(&dir, ROOT_KEY, || new_key().map(|key| key.serialize_pem()))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| damaged(&dir, ROOT_KEY, "not a private key"))?;
        let mut pem = read_or_create(&dir, ROOT_CERTIFICATE, || sign_root(&key, now))?;
        let mut facts =
            Facts::read(&pem).ok_or_else(|| damaged(&dir, ROOT_CERTIFICATE, "not a certificate"))?;
        if facts.public_key != key.subject_public_key_info() {
            return Err(damaged(&dir, ROOT_CERTIFICATE, "does not belong to root.key"));
        }
        if facts.not_after < now + ROOT_LEFT_SECONDS {
            pem = sign_root(&key, now)?.into();
            dir.replace(ROOT_CERTIFICATE, pem.as_bytes())?;
            facts = Facts::read(&pem).ok_or_else(|| damaged(&dir, ROOT_CERTIFICATE, "not a certificate"))?;
        }
        let root = Root {
            path: dir.path().join(ROOT_CERTIFICATE),
            id: key_id(&key),
            not_after: facts.not_after,
            pem: pem.to_string(),
        };
        let issuer = Issuer::from_ca_cert_pem(&root.pem, key)?;
        Ok(Self { leafs: dir.dir("leafs")?, issuer, subject: facts.subject, root })
    }

    /// The root as it lies there, without making one or reading its key: what `untrust` takes away.
    ///
    /// # Errors
    /// [`Error::Store`], and [`Error::Damaged`] when the file is not a certificate.
    pub fn find_root(store: &Store) -> Result<Option<Root>, Error> {
        let dir = store.dir(DIRECTORY)?;
        let Some(content) = dir.read(ROOT_CERTIFICATE)? else { return Ok(None) };
        let pem = text(&dir, ROOT_CERTIFICATE, content)?.to_string();
        let facts = Facts::read(&pem).ok_or_else(|| damaged(&dir, ROOT_CERTIFICATE, "not a certificate"))?;
        let id = key_id(&SubjectPublicKeyInfo::from_der(&facts.public_key)?);
        Ok(Some(Root { pem, path: dir.path().join(ROOT_CERTIFICATE), id, not_after: facts.not_after }))
    }

    /// What to trust.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// A certificate for `host`: the one kept from before while more than a third of its life is left,
    /// otherwise a new one. `now_unix` in seconds.
    ///
    /// # Errors
    /// [`Error::NotLocal`], [`Error::Make`].
    pub fn leaf(&self, host: &HostPattern, now_unix: u64) -> Result<LeafPem, Error> {
        if !is_local(host) {
            return Err(Error::NotLocal(host.clone()));
        }
        let now = now_unix.max(CLOCK_FLOOR);
        // What cannot be read is made anew: a leaf is worth nothing beyond its life of days.
        let kept = self.leafs.pair(&host.to_string()).ok().flatten();
        if let Some(leaf) = kept.and_then(|pair| self.reuse(pair, now)) {
            return Ok(leaf);
        }
        let mut leaf = self.issue(names(host)?, now)?;
        let pair = Pair { certificate: leaf.chain.clone(), key: leaf.key.clone() };
        leaf.unsaved = self.leafs.save_pair(&host.to_string(), &pair).err();
        Ok(leaf)
    }

    /// A kept pair as a leaf, if this root signed it and it is neither too old nor from the future.
    fn reuse(&self, pair: Pair, now: u64) -> Option<LeafPem> {
        let facts = Facts::read(&pair.certificate)?;
        let key = KeyPair::from_pem(&pair.key).ok()?;
        let fits = facts.issuer == self.subject
            && facts.public_key == key.subject_public_key_info()
            && (facts.not_before..renew_at(facts.not_before, facts.not_after)).contains(&now);
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        fits.then_some(LeafPem {
            chain: pair.certificate,
            key: pair.key,
            not_before,
            not_after,
            unsaved: None,
        })
    }

    fn issue(&self, names: Vec<SanType>, now: u64) -> Result<LeafPem, Error> {
        let key = new_key()?;
        let not_before = now - BACKDATED_SECONDS;
        let not_after = (now + LEAF_SECONDS).min(self.root.not_after);
        let mut params = params(not_before, not_after);
        // No common name: name constraints do not reach it in every client, and none needs it.
        params.distinguished_name.push(DnType::OrganizationName, "Lockring local certificate");
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        Ok(LeafPem { chain, key: key.serialize_pem().into(), not_before, not_after, unsaved: None })
    }
}

/// What a leaf says for a host: the pattern itself; `localhost` is also its addresses, which people type.
fn names(host: &HostPattern) -> Result<Vec<SanType>, Error> {
    let dns = |name: &str| Ok::<_, Error>(SanType::DnsName(Ia5String::try_from(name)?));
    Ok(match host {
        HostPattern::Exact(name) if name == "localhost" => vec![
            dns(name)?,
            SanType::IpAddress(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
        ],
        // An IPv4-mapped address is judged as IPv6 by clients, which no network above would cover.
        HostPattern::Ip(ip) => vec![SanType::IpAddress(ip.to_canonical())],
        HostPattern::Exact(_) | HostPattern::Wildcard(_) => vec![dns(&host.to_string())?],
    })
}

fn sign_root(key: &KeyPair, now: u64) -> Result<String, rcgen::Error> {
    let mut params = params(now - BACKDATED_SECONDS, now + ROOT_SECONDS);
    let id = key_id(key);
    params.distinguished_name.push(DnType::OrganizationName, "Lockring");
    params.distinguished_name.push(DnType::CommonName, format!("Lockring local CA {id}"));
    // A root signed again has the same key; browsers refuse two certificates of one name and number.
    let mut serial = vec![1];
    serial.extend_from_slice(&now.to_be_bytes());
    serial.extend(id.bytes().take(8));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = LOCAL_SUFFIXES.iter().map(|suffix| GeneralSubtree::DnsName((*suffix).to_owned()));
    let networks = LOCAL_NETWORKS.iter().map(|network| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network.address, network.prefix))
    });
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.chain(networks).collect(),
        excluded_subtrees: Vec::new(),
    });
    Ok(params.self_signed(key)?.pem())
}

fn params(not_before: u64, not_after: u64) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
    params
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// The first six bytes of the key's identifier.
fn key_id(key: &impl PublicKeyData) -> String {
    let identifier = CertificateParams::default().key_identifier(key);
    identifier.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// A file's text, which `make` gives if the file is not there; if another was first, the other's text.
fn read_or_create(
    dir: &Dir,
    name: &str,
    make: impl Fn() -> Result<String, rcgen::Error>,
) -> Result<Zeroizing<String>, Error> {
    if let Some(content) = dir.read(name)? {
        return text(dir, name, content);
    }
    let made = Zeroizing::new(make()?);
    if dir.create(name, made.as_bytes())? {
        return Ok(made);
    }
    let content = dir.read(name)?.ok_or_else(|| damaged(dir, name, "went away while it was read"))?;
    text(dir, name, content)
}

fn text(dir: &Dir, name: &str, content: Vec<u8>) -> Result<Zeroizing<String>, Error> {
    String::from_utf8(content).map(Zeroizing::new).map_err(|_| damaged(dir, name, "not text"))
}

fn damaged(dir: &Dir, name: &str, what: &'static str) -> Error {
    Error::Damaged { path: dir.path().join(name), what }
}

/// What is read from a certificate; names and key as DER, times in seconds since 1970.
struct Facts {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
    not_before: u64,
    not_after: u64,
}

impl Facts {
    /// Of the first certificate in a PEM text.
    fn read(pem: &str) -> Option<Self> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
            not_before: u64::try_from(validity.not_before.timestamp()).ok()?,
            not_after: u64::try_from(validity.not_after.timestamp()).ok()?,
        })
    }
}

#[cfg(test)]
#[path = "local_ca_tests.rs"]
mod tests;
