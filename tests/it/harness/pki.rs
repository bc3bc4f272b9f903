//! Certificates made for one test: a CA of its own and leaves under it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::client::provider;
use super::origin::Peer;

/// A certificate authority that nobody else knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub root: CertificateDer<'static>,
    /// The same as PEM.
    pub root_pem: String,
}

/// A certificate with its key.
pub struct Leaf {
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// The key as PEM.
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new one called `name`.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (root, root_pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), root, root_pem }
    }

    /// A certificate for `names`.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

impl Leaf {
    /// Writes `NAME.pem` and `NAME.key` into `directory`.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        std::fs::write(&paths.0, &self.certificate_pem).unwrap();
        std::fs::write(&paths.1, &self.key_pem).unwrap();
        paths
    }

    /// A listener, and what makes a TLS server of each of its sockets.
    pub fn server(&self) -> (TcpListener, impl Fn(TcpStream) -> Option<Box<dyn Peer>> + Send + 'static) {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        let config = Arc::new(config);
        let wrap = move |mut socket: TcpStream| -> Option<Box<dyn Peer>> {
            let mut session = ServerConnection::new(Arc::clone(&config)).ok()?;
            while session.is_handshaking() {
                session.complete_io(&mut socket).ok()?;
            }
            Some(Box::new(StreamOwned::new(session, socket)))
        };
        (TcpListener::bind("127.0.0.1:0").unwrap(), wrap)
    }
}
