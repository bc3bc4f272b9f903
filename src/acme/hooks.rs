//! Telling the operator's program of events: `HOOK EVENT`, with the facts in its environment. It runs
//! beside everything else, one event after another, and is killed when it takes too long.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::dns::exec::{Call, ExecError, Hook};

/// How long a hook may take: time to reload a mail server, or to reach a chat.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Events that may wait for a slow hook; older ones are dropped, and the log has them all.
const WAITING: usize = 1000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A certificate is about to be ordered; an exit code other than 0 forbids it.
    Obtaining,
    /// A new certificate is in service.
    Obtained,
    /// An attempt failed: told the first time, then daily, hourly when it is critical.
    Failed,
    /// The authority moved its suggested renewal window.
    AriChanged,
    /// A certificate in service has expired.
    Expired,
    /// The clock of this machine cannot be right.
    ClockSuspect,
}

impl Event {
    /// Its word: the hook's argument, and `LOCKRING_EVENT`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Obtaining => "obtaining",
            Self::Obtained => "obtained",
            Self::Failed => "failed",
            Self::AriChanged => "ari_changed",
            Self::Expired => "expired",
            Self::ClockSuspect => "clock_suspect",
        }
    }
}

/// An event's facts, as variables of the environment.
#[derive(Clone, Debug)]
pub struct Facts {
    event: Event,
    variables: Vec<(&'static str, String)>,
}

impl Facts {
    /// Of an event that concerns no certificate.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self { event, variables: vec![("LOCKRING_EVENT", event.word().to_owned())] }
    }

    /// With the certificate's name and all names on it.
    #[must_use]
    pub fn slot(self, name: &str, names: &[String]) -> Self {
        self.with("LOCKRING_NAME", name).with("LOCKRING_NAMES", names.join(" "))
    }

    /// With the URL of the authority's directory.
    #[must_use]
    pub fn issuer(self, directory: &str) -> Self {
        self.with("LOCKRING_ISSUER", directory)
    }

    /// With the facts of a certificate.
    #[must_use]
    pub fn certificate(self, not_after: u64, serial: &str) -> Self {
        self.with("LOCKRING_NOT_AFTER", not_after.to_string()).with("LOCKRING_SERIAL", serial)
    }

    /// With the files of chain and key.
    #[must_use]
    pub fn files(self, certificate: &Path, key: &Path) -> Self {
        self.with("LOCKRING_CERTIFICATE", certificate.display().to_string())
            .with("LOCKRING_KEY", key.display().to_string())
    }

    /// With why it failed.
    #[must_use]
    pub fn error(self, text: &str, severity: &str, failures: u32) -> Self {
        self.with("LOCKRING_ERROR", text)
            .with("LOCKRING_SEVERITY", severity)
            .with("LOCKRING_FAILURES", failures.to_string())
    }

    /// With a further variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        // A variable cannot hold a NUL (execve(2)), and texts of authorities may.
        self.variables.push((name, value.into().replace('\0', "")));
        self
    }
}

/// Events on their way to the hook.
#[derive(Debug, Default)]
pub struct Hooks {
    command: RefCell<Option<Vec<String>>>,
    waiting: RefCell<VecDeque<Facts>>,
    more: Notify,
}

impl Hooks {
    /// With this program, or none.
    #[must_use]
    pub fn new(command: Option<Vec<String>>) -> Rc<Self> {
        let hooks = Self::default();
        hooks.set(command);
        Rc::new(hooks)
    }

    /// Takes another program.
    pub fn set(&self, command: Option<Vec<String>>) {
        self.command.replace(command.filter(|command| !command.is_empty()));
    }

    /// Whether the hook lets the certificate be ordered; the text says why not. Without a hook it may.
    ///
    /// # Errors
    /// What the hook said.
    pub async fn allows(&self, facts: &Facts) -> Result<(), String> {
        self.call(facts).await.map(drop).map_err(|error| error.to_string())
    }

    /// Tells an event, later and in order.
    pub fn tell(&self, facts: Facts) {
        if self.command.borrow().is_none() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        waiting.push_back(facts);
        self.more.notify_one();
    }

    /// Calls the hook for each event told, for ever; `say` takes a line for each call that failed.
    pub async fn serve(&self, say: impl Fn(&str)) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(facts) = next else {
                self.more.notified().await;
                continue;
            };
            if let Err(error) = self.call(&facts).await {
                say(&format!("event {}: {error}", facts.event.word()));
            }
        }
    }

    async fn call(&self, facts: &Facts) -> Result<Vec<String>, ExecError> {
        let Some(command) = self.command.borrow().clone() else { return Ok(Vec::new()) };
        let hook = Hook { command, timeout: TIMEOUT };
        let call = Call { verb: facts.event.word(), arguments: ["", "", ""], raw: false };
        hook.run_with(&call, &facts.variables).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::store::tests::Scratch;

    #[tokio::test(flavor = "current_thread")]
    async fn a_hook_gets_the_facts_in_its_environment_and_may_refuse() {
        let scratch = Scratch::new("hook");
        let out = scratch.path.join("out");
        let script = format!("env | grep ^LOCKRING_ | sort >> {}; test \"$0\" != obtaining", out.display());
        let hooks = Hooks::new(Some(vec!["/bin/sh".into(), "-c".into(), script]));
        let facts = Facts::new(Event::Obtaining).slot("a.test", &["a.test".into(), "b.test".into()]);
        assert!(hooks.allows(&facts).await.unwrap_err().contains("exit status: 1"));
        let facts = Facts::new(Event::Obtained)
            .slot("a.test", &["a.test".into()])
            .certificate(7, "0a")
            .files(Path::new("/c"), Path::new("/k"))
            .error("no\0pe", "warn", 2);
        assert!(hooks.allows(&facts).await.is_ok());
        let text = std::fs::read_to_string(&out).unwrap();
        for line in [
            "LOCKRING_EVENT=obtaining",
            "LOCKRING_NAMES=a.test b.test",
            "LOCKRING_CERTIFICATE=/c",
            "LOCKRING_KEY=/k",
            "LOCKRING_NOT_AFTER=7",
            "LOCKRING_SERIAL=0a",
            "LOCKRING_ERROR=nope",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn events_are_told_in_order_and_failures_said() {
        let scratch = Scratch::new("events");
        let out = scratch.path.join("out");
        let script = format!("echo $0 >> {}; test $0 = obtained", out.display());
        let hooks = Hooks::new(Some(vec!["/bin/sh".into(), "-c".into(), script]));
        let said = RefCell::new(Vec::new());
        for event in [Event::Obtained, Event::AriChanged, Event::Failed] {
            hooks.tell(Facts::new(event));
        }
        let serving = hooks.serve(|line| said.borrow_mut().push(line.to_owned()));
        let both = async {
            while said.borrow().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { () = serving => {}, () = both => {} }
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "obtained\nari_changed\nfailed\n");
        assert!(said.borrow()[0].starts_with("event ari_changed: "), "{:?}", said.borrow());
        Hooks::new(None).tell(Facts::new(Event::Failed));
        assert!(Hooks::new(None).allows(&Facts::new(Event::Obtaining)).await.is_ok());
    }
}
