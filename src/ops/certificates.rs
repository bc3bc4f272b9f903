//! From the configuration to a certificate store: PEM files, keys in the environment, a directory of pairs,
//! the local CA.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::check::Disk;
use super::secret;
use crate::acme::local_ca::{self, LocalCa};
use crate::config::model::{CertificateFiles, HostPattern, Model, Secret, Site, SiteTls};
use crate::tls::TlsCommon;
use crate::tls::certs::{CertifiedPair, Entry, Store};

/// A store and what is to be known about it.
pub struct Stocked {
    /// Certificates by name.
    pub store: Store,
    /// When the first certificate of the local CA is due for renewal, in unix seconds.
    pub renew_at: Option<u64>,
    /// Sites without a certificate and certificates that cannot be used, in words.
    pub warnings: Vec<String>,
}

/// Builds the store of `model`.
///
/// # Errors
/// A text that names the site and the cause, when a certificate that the configuration names cannot be
/// used.
pub fn stock(model: &Model, common: &TlsCommon, ca: Option<&LocalCa>, now: u64) -> Result<Stocked, String> {
    let mut warnings = Vec::new();
    let directory = match &model.server.certificates {
        Some(path) => read_directory(path, &mut warnings)?,
        None => Vec::new(),
    };
    let mut builder = Store::builder();
    let mut renew_at: Option<u64> = None;
    for site in &model.sites {
        let pairs = match &site.tls {
            SiteTls::Files(files) => read_files(&site.host, files)?,
            SiteTls::Auto => {
                let found: Vec<_> =
                    directory.iter().filter(|pair| pair.covers(&site.host)).map(Arc::clone).collect();
                match ca.filter(|_| found.is_empty() && local_ca::is_local(&site.host)) {
                    Some(ca) => vec![local_leaf(ca, &site.host, now, &mut renew_at, &mut warnings)?],
                    None => found,
                }
            }
        };
        let default = model.server.default_site.as_ref() == Some(&site.host);
        if pairs.is_empty() {
            warnings.push(without_certificate(site));
            builder.add_pending(&site.host);
            if default {
                builder.default_pending();
            }
            continue;
        }
        let entry =
            Entry::new(site.index, pairs, common).map_err(|error| format!("{}: {error}", site.host))?;
        if default {
            builder.default(Arc::clone(&entry));
        }
        builder.add(&site.host, entry);
    }
    Ok(Stocked { store: builder.build(), renew_at, warnings })
}

fn without_certificate(site: &Site) -> String {
    format!(
        "{}: no certificate yet, so clients are refused; name one with `tls = {{ cert, key }}` or put a pair into `server.certificates`",
        site.host
    )
}

/// Whether any site of `model` gets its certificate from the local CA.
#[must_use]
pub fn needs_local_ca(model: &Model) -> bool {
    model.sites.iter().any(|site| site.tls == SiteTls::Auto && local_ca::is_local(&site.host))
}

fn local_leaf(
    ca: &LocalCa,
    host: &HostPattern,
    now: u64,
    renew_at: &mut Option<u64>,
    warnings: &mut Vec<String>,
) -> Result<Arc<CertifiedPair>, String> {
    let leaf = ca.leaf(host, now).map_err(|error| format!("{host}: {error}"))?;
    if let Some(error) = &leaf.unsaved {
        warnings.push(format!("{host}: the certificate could not be stored: {error}"));
    }
    *renew_at = Some(renew_at.map_or(leaf.renew_at(), |at| at.min(leaf.renew_at())));
    let pair = CertifiedPair::from_pem(leaf.chain.as_ref(), leaf.key.as_ref());
    pair.map(Arc::new).map_err(|error| format!("{host}: {error}"))
}

fn read_files(host: &HostPattern, files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedPair>>, String> {
    files.iter().map(|files| read_pair(files).map_err(|e| format!("{host}: {e}"))).collect()
}

fn read_pair(files: &CertificateFiles) -> Result<Arc<CertifiedPair>, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let certificate = &files.certificate;
    let chain = read(certificate)?;
    let key_pem = match &files.key {
        Secret::File(path) => Zeroizing::new(read(path)?),
        Secret::Env(name) => {
            secret::variable(name, &Disk).map_err(|error| format!("{error}; {}", error.remedy()))?
        }
    };
    let pair = CertifiedPair::from_pem(&chain, &key_pem);
    pair.map(Arc::new).map_err(|error| format!("{}: {error}; {}", certificate.display(), error.remedy()))
}

/// Every `NAME.pem` (or `.crt`) with a `NAME.key` beside it. A pair that cannot be used is passed over
/// and named, so that one bad file does not stop the others.
fn read_directory(directory: &Path, warnings: &mut Vec<String>) -> Result<Vec<Arc<CertifiedPair>>, String> {
    let entries =
        std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let is_chain = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "pem" || ext == "crt");
    let mut chains: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_chain).collect();
    chains.sort();
    let mut pairs = Vec::new();
    for chain in chains {
        let key = chain.with_extension("key");
        if !key.exists() {
            warnings.push(format!("{}: no key beside it ({})", chain.display(), key.display()));
            continue;
        }
        match read_pair(&CertificateFiles { certificate: chain, key: Secret::File(key) }) {
            Ok(pair) => pairs.push(pair),
            Err(error) => warnings.push(error),
        }
    }
    Ok(pairs)
}
