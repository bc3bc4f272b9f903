//! Renewal information (RFC 9773), and revocation.

use std::rc::Rc;

use super::engine::Engine;
use crate::acme::ca::Reason;
use crate::acme::commands::CommandError;
use crate::acme::hooks::{Event, Facts};
use crate::acme::plan::{RenewalInfo, RenewalInfoError, Window};
use crate::config::model::Authority;
use crate::handoff::desk::Answer;

/// Asks the authority when it would like the slot's certificate to be renewed.
pub(super) async fn poll(engine: Rc<Engine>, name: String, directory: String, ari_id: String) {
    let answer = ask(&engine, &name, &directory, &ari_id).await;
    let now = engine.now();
    let changed = engine.with(&name, |run, _| run.state.renewal_info(answer, now, Engine::draw())).flatten();
    let _ = engine.save(&name);
    if let Some(changed) = changed {
        let page = changed.explanation.as_ref().map_or_else(String::new, |page| format!("; see {page}"));
        let from = crate::acme::status::relative(changed.new.start, now);
        engine.say(&format!("warning: {name}: its authority moved the time of renewal: from {from}{page}"));
        let names = engine
            .with(&name, |run, _| run.slot.identifiers.iter().map(ToString::to_string).collect::<Vec<_>>());
        let facts = Facts::new(Event::AriChanged)
            .slot(&name, &names.unwrap_or_default())
            .issuer(&directory)
            .with("LOCKRING_WINDOW_START", changed.new.start.to_string())
            .with("LOCKRING_WINDOW_END", changed.new.end.to_string())
            .with("LOCKRING_EXPLANATION", changed.explanation.unwrap_or_default());
        engine.hooks.tell(facts);
    }
    engine.ended(&name);
}

async fn ask(
    engine: &Engine,
    name: &str,
    directory: &str,
    ari_id: &str,
) -> Result<RenewalInfo, RenewalInfoError> {
    let none = RenewalInfoError::default();
    let authority = engine.authority(name, directory).ok_or(none)?;
    let session = engine.known_session(&authority).await.map_err(|failed| {
        engine.observe(failed.date);
        RenewalInfoError { retry_after: failed.failure.retry_after }
    })?;
    let answer = session.renewal_info(ari_id).await;
    engine.observe(session.authority_time());
    match answer {
        Ok(info) => Ok(RenewalInfo {
            window: Window { start: info.start, end: info.end },
            explanation: info.explanation,
            retry_after: Some(info.retry_after.as_secs()),
        }),
        Err(error) => Err(RenewalInfoError { retry_after: error.retry_after().map(|wait| wait.as_secs()) }),
    }
}

/// Revokes the slot's certificate; a new one is due then.
pub(super) async fn revoke(
    engine: Rc<Engine>,
    name: String,
    reason: Reason,
    answer: Answer<Result<(), CommandError>>,
) {
    let revoked = try_to_revoke(&engine, &name, reason).await;
    if let Ok(leaf) = &revoked {
        let now = engine.now();
        engine.with(&name, |run, _| {
            // Another one may have come meanwhile, which is good.
            let served = run.serving.as_ref().and_then(|serving| serving.pair.certified_key().cert.first());
            if served.is_some_and(|served| **served == **leaf) {
                run.state.revoked(now);
                // Whoever revokes by hand does not want to wait for the spacing of orders.
                run.state.force();
                run.wake = 0;
            }
        });
        let _ = engine.save(&name);
        engine.say(&format!("{name}: the certificate was revoked ({})", reason.word()));
        engine.wake.notify_one();
    }
    answer.give(revoked.map(drop));
}

/// Gives the certificate (DER) that is revoked then.
async fn try_to_revoke(engine: &Engine, name: &str, reason: Reason) -> Result<Vec<u8>, CommandError> {
    let found = engine.with(name, |run, _| {
        let directory = run.state.certificate.as_ref()?.directory.clone();
        let leaf = run.serving.as_ref()?.pair.certified_key().cert.first()?.to_vec();
        Some((directory, leaf))
    });
    let (directory, leaf) = found
        .ok_or_else(|| CommandError::Unknown(name.to_owned()))?
        .ok_or_else(|| CommandError::NoCertificate(name.to_owned()))?;
    let failed = |text: String| CommandError::Failed(text);
    let authority = engine
        .authority(name, &directory)
        .ok_or_else(|| failed(format!("{directory} issued it and is no longer configured")))?;
    let session = engine.known_session(&authority).await;
    let session = session.map_err(|error| failed(error.failure.text))?;
    session.revoke(&leaf, reason).await.map_err(|error| failed(error.to_string()))?;
    Ok(leaf)
}

impl Engine {
    /// The authority with this directory in the slot's policy.
    fn authority(&self, name: &str, directory: &str) -> Option<Authority> {
        self.with(name, |run, _| {
            let mut authorities = run.slot.policy.authorities.iter();
            authorities.find(|authority| authority.directory == directory).cloned()
        })
        .flatten()
    }
}
