//! DNS for certificates: writing a challenge's record (DNS-01, RFC 8555 §8.4) by dynamic update
//! ([`update`]) or by a program ([`exec`]), finding out whether it can be seen ([`propagation`]), and
//! looking names up ([`lookup`]). Everything runs on the acme thread's runtime; whatever a server or a
//! program says is bounded and believed no further than it must be.

pub mod codec;
pub mod exec;
pub mod lookup;
pub mod message;
pub mod name;
pub mod persist;
pub mod propagation;
mod transport;
pub mod tsig;
pub mod update;

#[cfg(test)]
pub(crate) mod test_server;

use std::fmt;

use zeroize::Zeroizing;

pub use exec::ExecError;
pub use lookup::{LookupError, Resolver};
pub use name::{Name, NameError};
pub use persist::{PersistError, Standing, expected_persist_record, persist_present};
pub use propagation::NotPropagated;
pub use tsig::{KeyError, TsigError};
pub use update::UpdateError;

use crate::config::model::{DnsMeans, DnsProvider};
use exec::{Call, Hook};
use tsig::Key;
use update::{Change, Primary};

/// The label in front of a validated name (RFC 8555 §8.4).
const LABEL: &str = "_acme-challenge";

/// Why a record could not be written or seen.
#[derive(Debug)]
pub enum Error {
    /// A name is none.
    Name {
        /// As given, escaped.
        text: String,
        /// Why.
        error: NameError,
    },
    /// The configured TSIG key.
    Key(KeyError),
    /// A key is configured and its secret was not given.
    NoSecret,
    /// A look-up.
    Lookup(LookupError),
    /// A dynamic update.
    Update(UpdateError),
    /// A program.
    Exec(ExecError),
    /// The record was written, but cannot be seen.
    NotPropagated(NotPropagated),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { text, error } => write!(f, "\"{text}\" is no name: {error}"),
            Self::Key(error) => error.fmt(f),
            Self::NoSecret => f.write_str("the TSIG key has no secret"),
            Self::Lookup(error) => error.fmt(f),
            Self::Update(error) => error.fmt(f),
            Self::Exec(error) => error.fmt(f),
            Self::NotPropagated(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Name { error, .. } => error,
            Self::Key(error) => error,
            Self::NoSecret => return None,
            Self::Lookup(error) => error,
            Self::Update(error) => error,
            Self::Exec(error) => error,
            Self::NotPropagated(error) => error,
        })
    }
}

impl From<LookupError> for Error {
    fn from(error: LookupError) -> Self {
        Self::Lookup(error)
    }
}

impl From<UpdateError> for Error {
    fn from(error: UpdateError) -> Self {
        Self::Update(error)
    }
}

impl From<ExecError> for Error {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

/// What one DNS-01 challenge is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The name to validate, without `*.` if it is a wildcard, such as `example.com`.
    pub domain: &'a str,
    /// Content of the record: base64url of the key authorization's SHA-256.
    pub value: &'a str,
    /// The challenge's token, for raw hooks.
    pub token: &'a str,
    /// Its key authorization, for raw hooks.
    pub key_authorization: &'a str,
}

/// A record that was written, to be seen and taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Where it is, after aliases.
    pub name: Name,
    /// Lines that a hook wrote, escaped, for the log.
    pub output: Vec<String>,
}

/// Writes challenge records into a zone.
#[derive(Clone, Debug)]
pub struct Provider {
    config: DnsProvider,
    key: Option<Key>,
    resolver: Resolver,
}

impl Provider {
    /// `secret`: the content of the TSIG key's secret as its file or variable has it (base64), if one is
    /// configured. Nothing is asked yet. The resolver is that of the configuration, or the system's.
    ///
    /// # Errors
    /// [`Error::Key`] and [`Error::NoSecret`].
    pub fn new(config: &DnsProvider, secret: Option<Zeroizing<Vec<u8>>>) -> Result<Self, Error> {
        let key = match &config.means {
            DnsMeans::Update { key: Some(key), .. } => {
                let secret = secret.ok_or(Error::NoSecret)?;
                Some(Key::new(key, &secret).map_err(Error::Key)?)
            }
            _ => None,
        };
        Ok(Self { config: config.clone(), key, resolver: Resolver::configured(&config.resolvers) })
    }

    /// With another resolver.
    #[must_use]
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// The resolver in use.
    #[must_use]
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Where the record of a name has to stand: `_acme-challenge.` and the name, or where its aliases lead.
    ///
    /// # Errors
    /// [`Error::Name`] and [`Error::Lookup`].
    pub async fn effective_name(&self, domain: &str) -> Result<Name, Error> {
        effective_name(&self.resolver, domain).await
    }

    /// Adds the challenge's record beside any others at its name. Call [`Self::cleanup`] whatever this
    /// gives: an answer that was lost may have been a success.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn present(&self, challenge: &Challenge<'_>) -> Result<Presented, Error> {
        let name = self.effective_name(challenge.domain).await?;
        let output = self.change(challenge, &name, Change::Add).await?;
        Ok(Presented { name, output })
    }

    /// Takes the challenge's record away, and no other. `presented`: what [`Self::present`] gave, so that
    /// aliases changed meanwhile do not matter. Gives a hook's output.
    ///
    /// # Errors
    /// Why it may still be there.
    pub async fn cleanup(
        &self,
        challenge: &Challenge<'_>,
        presented: Option<&Presented>,
    ) -> Result<Vec<String>, Error> {
        let name = match presented {
            Some(presented) => presented.name.clone(),
            None => self.effective_name(challenge.domain).await?,
        };
        self.change(challenge, &name, Change::Remove).await
    }

    /// Waits until the record can be seen, in the way and for as long as is configured.
    ///
    /// # Errors
    /// [`Error::NotPropagated`].
    pub async fn propagated(&self, name: &Name, value: &str) -> Result<(), Error> {
        let DnsProvider { propagation, propagation_timeout, .. } = self.config;
        let seen =
            propagation::propagated(&self.resolver, name, value.as_bytes(), propagation, propagation_timeout);
        seen.await.map_err(Error::NotPropagated)
    }

    async fn change(
        &self,
        challenge: &Challenge<'_>,
        name: &Name,
        change: Change,
    ) -> Result<Vec<String>, Error> {
        match &self.config.means {
            DnsMeans::Update { server, zone, .. } => {
                self.update(server, zone.as_deref(), challenge.value, name, change).await?;
                Ok(Vec::new())
            }
            DnsMeans::Exec { command, raw, timeout } => {
                let fqdn = name.to_string();
                // The end of a chain of aliases is whatever a server of names says, and the program may be a script
                // that lets a shell read it.
                read_name(&fqdn)?;
                let domain = format!("{}.", challenge.domain.trim_end_matches('.'));
                let arguments = if *raw {
                    [domain.as_str(), challenge.token, challenge.key_authorization]
                } else {
                    [fqdn.as_str(), challenge.value, ""]
                };
                let verb = if change == Change::Add { "present" } else { "cleanup" };
                let hook = Hook { command: command.clone(), timeout: *timeout };
                Ok(hook.run(&Call { verb, arguments, raw: *raw }).await?)
            }
        }
    }

    /// Updates at the first of the primary's addresses that can be reached: a change made twice is made once.
    async fn update(
        &self,
        server: &str,
        zone: Option<&str>,
        value: &str,
        name: &Name,
        change: Change,
    ) -> Result<(), Error> {
        let mut last = None;
        for address in Primary::resolve(server).await? {
            let primary = Primary::new(address, self.key.clone());
            let changed = async {
                let zone = self.zone(&primary, zone, name).await?;
                Ok(primary.change(&zone, name, value.as_bytes(), change).await?)
            };
            match changed.await {
                Err(error @ Error::Update(UpdateError::Unreachable { .. })) => last = Some(error),
                done => return done,
            }
        }
        let reason = "it has no address".to_owned();
        Err(last.unwrap_or(UpdateError::NoServer { server: server.to_owned(), reason }.into()))
    }

    /// The configured zone; or the one that the primary tells, or else the resolver.
    async fn zone(&self, primary: &Primary, configured: Option<&str>, name: &Name) -> Result<Name, Error> {
        if let Some(zone) = configured {
            return read_name(zone);
        }
        match primary.zone_of(name).await? {
            Some((zone, _)) => Ok(zone),
            None => Ok(self.resolver.soa(name).await?.name),
        }
    }
}

/// See [`Provider::effective_name`].
///
/// # Errors
/// [`Error::Name`] and [`Error::Lookup`].
pub async fn effective_name(resolver: &Resolver, domain: &str) -> Result<Name, Error> {
    let name = challenge_name(domain)?;
    Ok(resolver.cname(&name).await?)
}

/// `_acme-challenge.` and a name, which may begin with `*.`.
///
/// # Errors
/// [`Error::Name`].
pub fn challenge_name(domain: &str) -> Result<Name, Error> {
    let base = domain.strip_prefix("*.").unwrap_or(domain);
    read_name(base)?.child(LABEL).map_err(|error| bad_name(domain, error))
}

fn read_name(text: &str) -> Result<Name, Error> {
    Name::parse(text).map_err(|error| bad_name(text, error))
}

fn bad_name(text: &str, error: NameError) -> Error {
    Error::Name { text: text.escape_default().to_string(), error }
}

/// See [`codec::fuzz`].
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    codec::fuzz(data);
}
