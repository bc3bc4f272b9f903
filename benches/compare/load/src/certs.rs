//! Many self-signed P-256 certificates, for the row of 10,000.

use std::path::Path;
use std::{fs, io};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::args::Args;

/// Writes `site-N.bulk.test` for N below `--count` into `--directory`: NAME.pem and NAME.key, or with
/// `--bundle` both in NAME.pem.
pub fn make(args: &Args) -> io::Result<()> {
    let directory = Path::new(args.text("directory").unwrap_or("."));
    fs::create_dir_all(directory)?;
    for index in 0..args.needed::<u32>("count")? {
        let name = format!("site-{index}.bulk.test");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let made = CertificateParams::new(vec![name.clone()]).and_then(|params| params.self_signed(&key));
        let chain = made.map_err(io::Error::other)?.pem();
        if args.has("bundle") {
            fs::write(directory.join(format!("{name}.pem")), chain + &key.serialize_pem())?;
        } else {
            fs::write(directory.join(format!("{name}.pem")), chain)?;
            fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
        }
    }
    Ok(())
}
