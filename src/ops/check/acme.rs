//! What `[acme]`, `[dns.NAME]` and the sites' policies need of this machine: roots, secrets, programs, and
//! names that a public authority can vouch for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::disk::read_bounded;
use crate::acme::local_ca;
use crate::acme::plan::orderable;
use crate::acme::slot::Identifier;
use crate::config::model::{AcmePolicy, HostPattern, Secret, SiteTls};
use crate::config::{Code, Diagnostic, Files, Loaded, SecretForm, SecretPlace, Spot};
use crate::ops::secret;

/// A bundle of all public roots has 220 KiB.
const ROOTS_BYTES: u64 = 4 * 1024 * 1024;
/// Keys of HMACs have 32 to 64 bytes.
const SECRET_BYTES: u64 = 4096;
const FILE_REMEDY: &str = "correct the path, or the permissions for the user that runs lockring";

pub(super) fn check(loaded: &Loaded, environment: &dyn Files) -> Vec<Diagnostic> {
    let mut check = Check { loaded, environment, diagnostics: Vec::new() };
    check.roots();
    for place in &loaded.places.secrets {
        check.secret(place);
    }
    for (program, spot) in &loaded.places.programs {
        check.program(program, *spot);
    }
    check.names();
    check.diagnostics
}

struct Check<'a> {
    loaded: &'a Loaded,
    environment: &'a dyn Files,
    diagnostics: Vec<Diagnostic>,
}

impl Check<'_> {
    fn roots(&mut self) {
        let (Some(path), Some(spot)) = (&self.loaded.model.acme.ca_file, self.loaded.places.ca_file) else {
            return;
        };
        let pem = match read_bounded(path, ROOTS_BYTES) {
            Ok(pem) => pem,
            Err(error) => {
                let cause = format!("`{}` cannot be read: {error}", path.display());
                return self.note(Code::CertificateUnreadable, spot, cause, FILE_REMEDY);
            }
        };
        let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        if roots.is_ok_and(|roots| !roots.is_empty()) {
            return;
        }
        let cause = format!("`{}` holds no certificate in PEM", path.display());
        self.note(
            Code::CertificateUnreadable,
            spot,
            cause,
            "name the file of the authority's root certificate",
        );
    }

    fn secret(&mut self, place: &SecretPlace) {
        let read = match &place.secret {
            Secret::File(path) => read_bounded(path, SECRET_BYTES).map(Zeroizing::new).map_err(|error| {
                (format!("`{}` cannot be read: {error}", path.display()), FILE_REMEDY.to_owned())
            }),
            Secret::Env(name) => {
                secret::variable(name, self.environment).map_err(|error| (error.to_string(), error.remedy()))
            }
        };
        let content = match read {
            Ok(content) => content,
            Err((cause, remedy)) => return self.note(Code::SecretUnreadable, place.spot, cause, remedy),
        };
        self.exposure(&place.secret, place.spot);
        if !is_in_form(content.trim_ascii(), place.form) {
            let (form, whose) = match place.form {
                SecretForm::Base64 => ("base64", "name server"),
                SecretForm::Base64Url => ("base64url", "authority"),
            };
            let cause = format!("`{}` does not hold {form}", place.secret);
            let remedy = format!("put the key there as the {whose} shows it, on one line");
            self.note(Code::SecretUnreadable, place.spot, cause, remedy);
        }
    }

    fn exposure(&mut self, place: &Secret, spot: Spot) {
        let Secret::File(path) = place else { return };
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o004 != 0 {
            let cause = format!("every user of this machine can read `{}`", path.display());
            self.note(Code::KeyExposed, spot, cause, format!("chmod o= {}", path.display()));
        }
    }

    /// A program without `/` is looked for where the shell would; that is not the service manager's `PATH`.
    fn program(&mut self, program: &str, spot: Spot) {
        let path = Path::new(program);
        if !program.contains('/') {
            return;
        }
        let cause = match fs::metadata(path) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return,
            Ok(found) if found.is_file() => format!("`{program}` may not be executed"),
            Ok(_) => format!("`{program}` is not a file"),
            Err(error) => format!("`{program}` cannot be run: {error}"),
        };
        self.note(Code::ProgramAbsent, spot, cause, "correct the path, or make it executable: chmod +x");
    }

    /// Names that public authorities refuse: they would not even be asked.
    fn names(&mut self) {
        let loaded = self.loaded;
        let mut found = Vec::new();
        for (site, places) in loaded.model.sites.iter().zip(&loaded.places.sites) {
            let Some(policy) = site.acme.as_ref() else { continue };
            let perhaps = match site.tls {
                SiteTls::Acme => true,
                SiteTls::Auto => !local_ca::is_local(&site.host) && !self.has_directory(),
                SiteTls::Files(_) => false,
            };
            if !perhaps {
                continue;
            }
            let others = policy.names.iter().filter(|name| **name != site.host);
            let names = std::iter::once(&site.host).chain(others);
            found.extend(names.filter_map(|name| Some((places.host, name, refusal(name, policy)?))));
        }
        for (spot, name, reason) in found.iter().take(NAMES_SHOWN) {
            let cause = format!("no certificate is asked for: {reason} (`{name}`)");
            self.note(Code::NotPublic, *spot, cause, NAMES_REMEDY);
        }
        // Finding the places of ten thousand would cost the start, and help nobody.
        if let Some((spot, ..)) = found.get(NAMES_SHOWN) {
            let cause = format!("nor for {} other names", found.len() - NAMES_SHOWN);
            self.note(Code::NotPublic, *spot, cause, NAMES_REMEDY);
        }
    }

    /// A directory of pairs may have what such names need.
    fn has_directory(&self) -> bool {
        self.loaded.model.server.certificates.is_some()
    }

    fn note(&mut self, code: Code, spot: Spot, cause: String, remedy: impl Into<String>) {
        self.diagnostics.push(Diagnostic {
            code,
            severity: code.severity(),
            place: spot.place(&self.loaded.sources),
            also: None,
            cause,
            remedy: remedy.into(),
        });
    }
}

/// Names that are told one by one.
const NAMES_SHOWN: usize = 16;
const NAMES_REMEDY: &str = "name a certificate (tls = { cert, key }) or an authority of your own (acme = { directory = \
                            \"https://…\" }), or write acme = false";

/// Why none of the policy's authorities can be asked for `name`.
fn refusal(name: &HostPattern, policy: &AcmePolicy) -> Option<String> {
    let identifier = Identifier::from(name);
    let mut reasons = policy.authorities.iter().map(|authority| orderable(&identifier, authority).err());
    let first = reasons.next()??;
    reasons.all(|reason| reason.is_some()).then(|| first.to_string())
}

/// Whether it is made of the letters of its form, with padding where that may be.
fn is_in_form(text: &[u8], form: SecretForm) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = text.get(..text.len() - padding).unwrap_or_default();
    let extra: &[u8] = match form {
        SecretForm::Base64 => b"+/",
        SecretForm::Base64Url => b"-_",
    };
    let letters = body.iter().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(byte));
    !body.is_empty() && letters && padding <= 2 && body.len() % 4 != 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_secrets() {
        for text in ["dGhpcw==", "dGhpcw", "+/+/"] {
            assert!(is_in_form(text.as_bytes(), SecretForm::Base64), "{text}");
        }
        assert!(is_in_form(b"zWND-ZM6", SecretForm::Base64Url));
        for text in ["", "==", "hunter 2", "a", "dGhpcw===", "dG=hpcw", "-_-_"] {
            assert!(!is_in_form(text.as_bytes(), SecretForm::Base64), "{text}");
        }
        assert!(!is_in_form(b"+/+/", SecretForm::Base64Url));
    }
}
