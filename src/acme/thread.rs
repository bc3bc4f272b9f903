//! The acme thread: an event loop of its own beside the workers, which never wait for it. It owns all that
//! is said to authorities, what is kept of certificates, and when to do what. A defect in it ends no
//! traffic: it is started anew and goes on from what is on disk.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::ari;
use super::commands::{self, Command, Handle};
use super::http_client::Transport;
use super::install::Install;
use super::order::Step;
use super::plan::Certificate;
use super::slot::Slot;
use super::status::Status;
use super::store::{AcmeStore, Kept};
use crate::config::model::{KeyKind, Model, Scheduling};
use crate::handoff::desk::Desk;
use crate::handoff::published::Published;
use crate::handoff::wishes::Wishes;
use crate::io::sys;
use crate::tls::certs::CertifiedPair;

mod account;
mod attempt;
mod conclude;
mod demand;
mod engine;
mod follow;
mod preflight;
mod renewal;
mod report;
mod round;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use demand::on_demand;
use engine::Engine;

/// First wait before the thread is started anew; it doubles.
const RESTART_FIRST: Duration = Duration::from_secs(1);
/// Longest of those waits.
const RESTART_LONGEST: Duration = Duration::from_secs(300);
/// A thread that ran for so long had recovered from the defect before.
const RECOVERED: Duration = Duration::from_secs(3600);

/// Takes a line for the log.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// The clocks that the thread looks at. Waiting is tokio's.
pub trait Clock: Send + Sync {
    /// Seconds since the Unix epoch, as this machine believes.
    fn unix(&self) -> u64;
    /// Seconds since any moment, with the time that the machine was suspended; never goes back.
    fn boot(&self) -> u64;
}

/// Those of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn boot(&self) -> u64 {
        sys::since_boot().as_secs()
    }
}

/// Stops at a step, in tests: `true` holds the order there for ever.
type Gate = Arc<dyn Fn(&str, Step) -> bool + Send + Sync>;

/// What is outside of the thread.
#[derive(Clone)]
struct Outside {
    store: AcmeStore,
    install: Arc<dyn Install>,
    /// A way to authorities that is used instead of the network.
    transport: Option<Arc<dyn Transport>>,
    /// The same to the application that is asked about names on demand.
    application: Option<Arc<dyn Transport>>,
    clock: Arc<dyn Clock>,
    say: Say,
    gate: Option<Gate>,
    /// Whether names are looked at before their first order.
    preflight: bool,
}

/// A certificate that was on disk at the start.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Place in the list of slots.
    pub slot: usize,
    /// The certificate.
    pub kept: Kept,
}

impl Loaded {
    /// Chain and key as they are served.
    #[must_use]
    pub fn pair(&self) -> &Arc<CertifiedPair> {
        &self.kept.pair
    }
}

/// The certificates that are on disk, newest good generations: to be served before any authority is
/// asked. Changes nothing and asks nobody; the thread mends later what is spoilt. An expired one is left
/// out unless `serve_expired`; `now` in seconds since the epoch.
#[must_use]
pub fn load(store: &AcmeStore, slots: &[Slot], serve_expired: bool, now: u64) -> Vec<Loaded> {
    slots
        .iter()
        .enumerate()
        .filter_map(|(slot, wanted)| {
            let kept = store.pair(&wanted.name.to_string()).ok()?.kept()?;
            (serve_expired || now < kept.pair.not_after()).then_some(Loaded { slot, kept })
        })
        .collect()
}

/// What is kept beside a certificate: what cannot be read from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Meta {
    /// URL of the directory of the authority that issued it.
    directory: String,
    /// Profile that it was ordered with.
    profile: Option<String>,
    /// Kind of its key.
    key: String,
    /// When it came, in seconds since the epoch.
    issued_at: u64,
    /// Whether no site lists its name.
    on_demand: bool,
}

impl Meta {
    fn of(kept: &Kept, slot: &Slot) -> Self {
        let read = kept.meta.as_deref().and_then(|meta| serde_json::from_slice(meta).ok());
        // Without it the first guess is that nothing was changed since.
        read.unwrap_or_else(|| Self {
            directory: slot
                .policy
                .authorities
                .first()
                .map_or_else(String::new, |first| first.directory.clone()),
            profile: slot.policy.profile.clone(),
            key: if kept.pair.is_ecdsa() { slot.policy.key } else { KeyKind::P256 }.word().to_owned(),
            issued_at: kept.pair.not_before(),
            on_demand: false,
        })
    }

    fn certificate(&self, pair: &CertifiedPair) -> Certificate {
        let leaf = pair.certified_key().cert.first();
        Certificate {
            ari_id: leaf.and_then(|leaf| ari::certificate_id(leaf)),
            not_before: pair.not_before(),
            not_after: pair.not_after(),
            directory: self.directory.clone(),
            identifiers: pair.names().iter().map(ToString::to_string).collect(),
            key: self.key.clone(),
            profile: self.profile.clone(),
        }
    }
}

/// Why the thread could not be started.
#[derive(Debug)]
pub struct StartError(std::io::Error);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acme thread: {}", self.0)
    }
}

impl std::error::Error for StartError {}

/// Starts the thread. `slots` are those of the configuration and those of [`on_demand`]; `loaded` is what
/// [`load`] gave for them and is in service by now; nothing is asked of an authority before this is called,
/// and nothing then unless it is due. `wishes`: of clients, if anything is obtained on demand.
///
/// # Errors
/// The system's, when there is no thread to be had.
pub fn start(
    model: Arc<Model>,
    slots: Vec<Slot>,
    loaded: Vec<Loaded>,
    store: AcmeStore,
    install: Arc<dyn Install>,
    wishes: Option<Wishes>,
    say: fn(&str),
) -> Result<Handle, StartError> {
    let clock = Arc::new(SystemClock);
    let outside = Outside {
        store,
        install,
        transport: None,
        application: None,
        clock,
        say: Arc::new(say),
        gate: gate(),
        preflight: true,
    };
    spawn(outside, Wanted { model, slots, loaded }, wishes)
}

/// What the thread is to do.
struct Wanted {
    model: Arc<Model>,
    slots: Vec<Slot>,
    /// What is in service of it.
    loaded: Vec<Loaded>,
}

fn spawn(outside: Outside, wanted: Wanted, wishes: Option<Wishes>) -> Result<Handle, StartError> {
    let (handle, commands, status) = commands::handle(Status::default());
    let desks = Desks { commands, wishes };
    let life = Life { outside, status, restarts: 0 };
    let thread = std::thread::Builder::new().name("acme".into());
    thread.spawn(move || life.live(wanted, desks)).map_err(StartError)?;
    Ok(handle)
}

/// Where others leave what they want of the thread.
struct Desks {
    commands: Desk<Command>,
    wishes: Option<Wishes>,
}

/// One thread over all its restarts.
struct Life {
    outside: Outside,
    status: Published<Status>,
    restarts: u64,
}

impl Life {
    fn live(mut self, mut wanted: Wanted, mut desks: Desks) {
        give_way(wanted.model.acme.scheduling, &self.outside.say);
        let mut wait = RESTART_FIRST;
        loop {
            let began = self.outside.clock.boot();
            let ended = panic::catch_unwind(AssertUnwindSafe(|| self.once(&mut wanted, &mut desks)));
            let text = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(defect) => what(&*defect),
            };
            self.restarts += 1;
            if self.outside.clock.boot().saturating_sub(began) > RECOVERED.as_secs() {
                wait = RESTART_FIRST;
            }
            let seconds = wait.as_secs();
            (self.outside.say)(&format!(
                "error: the acme thread ended by a defect and starts anew in {seconds} s: {text}"
            ));
            std::thread::sleep(wait);
            wait = (wait * 2).min(RESTART_LONGEST);
        }
    }

    fn once(&self, wanted: &mut Wanted, desks: &mut Desks) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let engine = Engine::new(self.outside.clone(), wanted, self.status.clone(), self.restarts);
            engine.run(wanted, desks).await;
        });
        Ok(())
    }
}

/// Makes the thread give way to workers. Its cryptography is used once before: setting that up costs CPU
/// time, which then comes at the ordinary priority.
fn give_way(scheduling: Scheduling, say: &Say) {
    let warmed = super::keys::new_key(KeyKind::P256);
    drop(warmed);
    let done = match scheduling {
        Scheduling::Nice => sys::be_nice(),
        Scheduling::Idle => sys::be_idle(),
        Scheduling::Normal => Ok(()),
    };
    if let Err(error) = done {
        say(&format!("warning: the acme thread cannot give way to workers: {error}"));
    }
}

/// A panic's message.
fn what(defect: &(dyn Any + Send)) -> String {
    let text = defect.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| defect.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// In debug builds, ends the process at the step that the environment names, as a kill would, or makes the
/// thread panic there.
#[cfg(debug_assertions)]
fn gate() -> Option<Gate> {
    let named = |variable: &str| {
        let word = std::env::var(variable).ok()?;
        Step::ALL.into_iter().find(|step| step.word() == word)
    };
    let (kill, defect) = (named("LOCKRING_KILL_AT"), named("LOCKRING_PANIC_AT"));
    (kill.is_some() || defect.is_some()).then(|| {
        let gate: Gate = Arc::new(move |_, passed| {
            if Some(passed) == kill {
                std::process::abort();
            }
            assert_ne!(Some(passed), defect, "a test asked for this");
            false
        });
        gate
    })
}

#[cfg(not(debug_assertions))]
fn gate() -> Option<Gate> {
    None
}
