//! Accounts: opened when they are needed, registered once, and never forgotten by deletion.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::engine::Engine;
use crate::acme::ca::{self, Ca, ExternalKey, Session};
use crate::acme::dns::Provider;
use crate::acme::http_client::{Https, Proxies, Transport};
use crate::acme::order::Failed;
use crate::acme::plan::{FailureKind, account_key};
use crate::acme::store;
use crate::config::model::{AcmePolicy, Authority, DnsMeans, Secret};

/// How long a session answers questions about renewal: its directory may have changed after a day.
const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a file that holds a secret: keys are far shorter.
const SECRET_BYTES: usize = 64 * 1024;

/// What of an account's file is looked at here.
#[derive(serde::Deserialize)]
struct Kept {
    /// URL of the account.
    id: String,
}

/// An authority's name for people and for files.
pub(super) fn authority_name(authority: &Authority) -> String {
    authority.preset.map_or_else(|| host(&authority.directory), |preset| preset.word().to_owned())
}

fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest).to_owned()
}

/// The name of an account's place on disk: one for each directory and binding.
fn account_word(authority: &Authority) -> String {
    let base = match authority.preset {
        Some(preset) => preset.word().to_owned(),
        None => authority.directory.trim_start_matches("https://").to_owned(),
    };
    authority.eab.as_ref().map_or(base.clone(), |eab| format!("{base} {}", eab.kid))
}

impl Engine {
    /// A fresh session of the account at an authority; the account is registered if there is none.
    pub async fn session(&self, authority: &Authority, email: Option<&str>) -> Result<Session, Failed> {
        let _turn = self.turn(authority).await;
        let word = account_word(authority);
        let ca = self.ca(authority)?;
        let session = match self.open(&ca, &word).await? {
            Some(session) => session,
            None => self.register(&ca, authority, email, &word).await?,
        };
        self.cache(authority, &session);
        Ok(session)
    }

    /// A session for questions that need no new account: one that is open, or of the account on disk.
    pub async fn known_session(&self, authority: &Authority) -> Result<Session, Failed> {
        let _turn = self.turn(authority).await;
        let cached = self.world.borrow().sessions.get(&account_key(authority)).cloned();
        if let Some((session, _)) = cached.filter(|(_, opened)| opened.elapsed() < SESSION_LIFE) {
            return Ok(session);
        }
        let ca = self.ca(authority)?;
        let Some(session) = self.open(&ca, &account_word(authority)).await? else {
            return Err(Failed::new(FailureKind::Other, "there is no account at this authority"));
        };
        self.cache(authority, &session);
        Ok(session)
    }

    /// Sets the account with this URL aside, which its authority does not know any more. The order of another
    /// slot may have done so, and registered a new one, which stays.
    pub fn lose_account(&self, authority: &Authority, url: &str) -> Result<(), Failed> {
        let kept = self.store().account(&account_word(authority)).ok().flatten();
        let kept: Option<Kept> = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
        if kept.is_some_and(|kept| kept.id != url) {
            return Ok(());
        }
        self.world.borrow_mut().sessions.remove(&account_key(authority));
        let name = authority_name(authority);
        match self.store().lose_account(&account_word(authority))? {
            Some(place) => self.say(&format!(
                "warning: {name} does not know the account any more; its file is now {}",
                place.display()
            )),
            None => self.say(&format!("warning: {name} does not know the account any more")),
        }
        Ok(())
    }

    /// Accounts are opened and registered one at a time, so that two slots do not register two.
    async fn turn(&self, authority: &Authority) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let turns = {
            let mut world = self.world.borrow_mut();
            let turns = world.account_turns.entry(account_key(authority));
            Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        // Never closed.
        turns.acquire_owned().await.ok()
    }

    fn cache(&self, authority: &Authority, session: &Session) {
        let entry = (session.clone(), Instant::now());
        self.world.borrow_mut().sessions.insert(account_key(authority), entry);
    }

    async fn open(&self, ca: &Ca, word: &str) -> Result<Option<Session>, Failed> {
        let bytes = match self.store().account(word) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error @ store::Error::Damaged { .. }) => {
                return self.set_account_aside(word, &error.to_string()).map(|()| None);
            }
            Err(error) => return Err(error.into()),
        };
        match ca.open(&bytes).await {
            Ok(session) => Ok(Some(session)),
            Err(error) if error.failure == ca::Failure::Account => {
                self.set_account_aside(word, &error.to_string()).map(|()| None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_account_aside(&self, word: &str, why: &str) -> Result<(), Failed> {
        self.store().lose_account(word)?;
        self.say(&format!("error: the account at {word} cannot be used and was set aside: {why}"));
        Ok(())
    }

    async fn register(
        &self,
        ca: &Ca,
        authority: &Authority,
        email: Option<&str>,
        word: &str,
    ) -> Result<Session, Failed> {
        let external = match &authority.eab {
            Some(eab) => {
                let refuse = |why: String| Failed::new(FailureKind::ExternalAccountRequired, why);
                let mac = read_secret(&eab.hmac).map_err(|why| refuse(format!("eab: {why}")))?;
                let text = std::str::from_utf8(&mac).unwrap_or_default();
                let key = ExternalKey::from_base64(&eab.kid, text);
                Some(key.ok_or_else(|| refuse(format!("eab: {} holds no base64", eab.hmac)))?)
            }
            None => None,
        };
        // A disk that keeps nothing would leave an account behind at each attempt.
        self.store().probe()?;
        let (session, bytes) = ca.register(email, external.as_ref()).await?;
        self.store().save_account(word, &bytes)?;
        self.say(&format!("registered an account at {}", authority_name(authority)));
        Ok(session)
    }

    fn ca(&self, authority: &Authority) -> Result<Ca, Failed> {
        let timeout = self.model().acme.request_timeout;
        Ok(Ca::new(self.transport()?, &authority.directory, timeout))
    }

    fn transport(&self) -> Result<Arc<dyn Transport>, Failed> {
        if let Some(given) = &self.outside.transport {
            return Ok(Arc::clone(given));
        }
        let mut world = self.world.borrow_mut();
        if let Some(made) = &world.transport {
            return Ok(Arc::clone(made));
        }
        let acme = &world.model.acme;
        let failed = |text: String| Failed::new(FailureKind::Other, text);
        let proxies = Proxies::from_environment(|name| std::env::var(name).ok());
        let proxies = proxies.map_err(|error| failed(error.to_string()))?;
        let made = Https::new(acme.ca_file.as_deref(), proxies, acme.connect_timeout);
        let made: Arc<dyn Transport> = Arc::new(made.map_err(|error| failed(error.to_string()))?);
        world.transport = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// What writes the records of a policy, if it has dns-01 or dns-persist-01.
pub(super) fn provider(policy: &AcmePolicy) -> Result<Option<Rc<Provider>>, Failed> {
    let Some(config) = &policy.dns else { return Ok(None) };
    let refuse = |why: String| Failed::new(FailureKind::Dns, format!("dns.{}: {why}", config.name));
    let secret = match &config.means {
        DnsMeans::Update { key: Some(key), .. } => Some(read_secret(&key.secret).map_err(refuse)?),
        _ => None,
    };
    let made = Provider::new(config, secret);
    made.map(Rc::new).map(Some).map_err(|error| refuse(error.to_string()))
}

/// The content of a secret's file or variable. The text of an error names the place alone.
fn read_secret(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = match secret {
        Secret::File(path) => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
        Secret::Env(name) => {
            let value = std::env::var(name);
            value
                .map_err(|_| format!("the environment variable {name} is not set to UTF-8 text"))?
                .into_bytes()
        }
    };
    let bytes = Zeroizing::new(bytes);
    match bytes.len() {
        0 => Err(format!("{secret} is empty")),
        1..=SECRET_BYTES => Ok(bytes),
        _ => Err(format!("{secret} is too long for a secret")),
    }
}
