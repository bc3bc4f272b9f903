//! Whether a challenge's record can be seen, so that the authority is not told to look too early: what it
//! does not find counts as a failure, and resolvers keep the absence.

use std::fmt;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::lookup::{LookupError, Resolver};
use super::message::Kind;
use super::name::Name;
use crate::config::model::Propagation;
use crate::limits;

/// Why a record was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotPropagated {
    /// The name.
    pub name: Name,
    /// Waited for so long.
    pub after: Duration,
    /// What each server that lacks it did, as it was last seen.
    pub lacking: Vec<String>,
}

impl fmt::Display for NotPropagated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, after, lacking } = self;
        write!(
            f,
            "the TXT record at {name} cannot be seen after {} s: {}",
            after.as_secs(),
            lacking.join("; ")
        )
    }
}

impl std::error::Error for NotPropagated {}

/// What one look at the servers tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    /// Servers that answer without the record.
    lacking: Vec<String>,
    /// Servers that do not answer, or that cannot be found.
    silent: Vec<String>,
    /// Servers that have it.
    having: usize,
}

/// Waits until the record can be seen in the way that is configured.
///
/// # Errors
/// Who lacks it when `timeout` has passed.
pub async fn propagated(
    resolver: &Resolver,
    name: &Name,
    value: &[u8],
    how: Propagation,
    timeout: Duration,
) -> Result<(), NotPropagated> {
    let (start, end) = (Instant::now(), Instant::now() + timeout);
    let mut lacking = Vec::new();
    match how {
        Propagation::None => return Ok(()),
        Propagation::Wait(time) => {
            sleep(time).await;
            return Ok(());
        }
        Propagation::Authoritative | Propagation::Resolver => {}
    }
    let seen = async {
        loop {
            let by_resolver = how == Propagation::Resolver;
            let look = if by_resolver {
                ask_resolver(resolver, name, value).await
            } else {
                ask_all(resolver, name, value).await
            };
            let all = look.lacking.is_empty() && look.silent.is_empty() && look.having > 0;
            if all {
                return;
            }
            // Servers that a firewall hides are judged by what the resolver sees, later.
            let hidden = !by_resolver && look.lacking.is_empty() && start.elapsed() >= timeout / 2;
            lacking = [look.lacking, look.silent].concat();
            if hidden && ask_resolver(resolver, name, value).await.having > 0 {
                return;
            }
            sleep(limits::DNS_POLL_INTERVAL).await;
        }
    };
    let in_time = tokio::select! {
        biased;
        () = seen => true,
        () = sleep_until(end) => false,
    };
    if in_time { Ok(()) } else { Err(NotPropagated { name: name.clone(), after: timeout, lacking }) }
}

async fn ask_resolver(resolver: &Resolver, name: &Name, value: &[u8]) -> Look {
    let mut look = Look::default();
    match resolver.txt(name).await {
        Ok(texts) if texts.iter().any(|text| text == value) => look.having = 1,
        Ok(texts) => look.lacking.push(format!("the resolver has {}", others(texts.len()))),
        Err(error) => look.silent.push(error.to_string()),
    }
    look
}

/// Asks every authoritative server at the same time: each that is silent takes its whole time.
async fn ask_all(resolver: &Resolver, name: &Name, value: &[u8]) -> Look {
    let mut look = Look::default();
    let servers = match authoritative(resolver, name).await {
        Ok(servers) => servers,
        Err(error) => {
            look.silent.push(error.to_string());
            return look;
        }
    };
    let mut asked = JoinSet::new();
    for server in servers {
        let (resolver, name, value) = (resolver.clone(), name.clone(), value.to_vec());
        asked.spawn(async move {
            let found = ask_server(&resolver, &server, &name, &value).await;
            (server, found)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => look.silent.push(error.to_string()),
        }
    }
    // Answers come in any order; reports should not.
    answers.sort();
    for (server, answer) in answers {
        match answer {
            Ok(true) => look.having += 1,
            Ok(false) => look.lacking.push(format!("{server} does not have it")),
            Err(reason) => look.silent.push(format!("{server}: {reason}")),
        }
    }
    look
}

/// The name servers of the zone that a name is in.
async fn authoritative(resolver: &Resolver, name: &Name) -> Result<Vec<Name>, LookupError> {
    let zone = resolver.soa(name).await?.name;
    let mut servers = resolver.ns(&zone).await?;
    servers.truncate(limits::DNS_SERVERS);
    if servers.is_empty() { Err(LookupError::NoZone(name.clone())) } else { Ok(servers) }
}

/// Asks a server at the first of its addresses that answers.
async fn ask_server(resolver: &Resolver, server: &Name, name: &Name, value: &[u8]) -> Result<bool, String> {
    let mut last = "it has no address".to_owned();
    for address in resolver.addresses(server).await.map_err(|error| error.to_string())? {
        let one = Resolver::authoritative(address).timeout(resolver.query_timeout());
        match one.query(name, Kind::Txt).await {
            Ok(answer) => return Ok(answer.texts().iter().any(|text| text == value)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn others(count: usize) -> String {
    if count == 0 { "no text there".to_owned() } else { format!("{count} others") }
}
