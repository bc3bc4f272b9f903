//! The end of an attempt: a pair is kept, put into service and told of, or a failure is.

use std::path::PathBuf;
use std::sync::Arc;

use super::Meta;
use super::account::authority_name;
use super::attempt::{Attempt, json};
use super::engine::{Engine, Serving};
use crate::acme::hooks::{Event, Facts};
use crate::acme::order::{Failed, Issued, Record, Step};
use crate::acme::plan::{Failure, FailureKind, Severity};
use crate::acme::status;
use crate::acme::store::{self, Pair, Seen};
use crate::tls::certs::CertifiedPair;

impl Engine {
    /// A certificate came.
    pub async fn issued(&self, attempt: &Attempt, issued: Issued, record: &Record) {
        let Issued { pem, pair } = issued;
        let name = &attempt.name;
        let meta = Meta {
            directory: attempt.authority.directory.clone(),
            profile: attempt.slot.policy.profile.clone(),
            key: attempt.slot.policy.key.word().to_owned(),
            issued_at: self.now(),
            on_demand: attempt.slot.is_on_demand(),
        };
        let kept = self.keep(name, &pem, &meta);
        if kept.is_ok() {
            self.note_step(name, record, Step::Stored).await;
        }
        // A reload meanwhile may have moved the sites that it serves.
        let slot =
            self.with(name, |run, _| Arc::clone(&run.slot)).unwrap_or_else(|| Arc::clone(&attempt.slot));
        if let Err(why) = self.outside.install.install(&slot, Arc::clone(&pair)) {
            let text = format!("the new certificate cannot be served: {why}");
            let _ = self.store().drop_order(name);
            self.failed(attempt, Failed::new(FailureKind::BadCertificate, text));
            return;
        }
        if kept.is_ok() {
            self.note_step(name, record, Step::Installed).await;
        }
        let unstored = kept.as_ref().err().map(|_| (pem.clone(), meta.clone()));
        self.serve(name, &pair, kept.as_ref().ok().copied(), unstored);
        self.succeeded(attempt, &pair, &meta);
        if kept.is_ok() {
            let _ = self.store().drop_order(name);
            self.export(name, &pem);
        }
        let facts = self.certificate_facts(Event::Obtained, attempt, &pair, kept.ok());
        self.hooks.tell(facts);
    }

    /// The certificate was stored and in service before a restart; only the rest is left to do.
    pub fn issued_before(&self, attempt: &Attempt) {
        let name = &attempt.name;
        let Ok(store::Found::Current(kept)) = self.store().pair(name) else { return };
        let meta = Meta::of(&kept, &attempt.slot);
        self.succeeded(attempt, &kept.pair, &meta);
        let _ = self.store().drop_order(name);
        self.export(name, &kept.pem);
        let facts = self.certificate_facts(Event::Obtained, attempt, &kept.pair, Some(kept.seen));
        self.hooks.tell(facts);
    }

    /// Keeps a pair on disk; an error is noted.
    pub fn keep(&self, name: &str, pem: &Pair, meta: &Meta) -> Result<Seen, store::Error> {
        let meta = serde_json::to_vec_pretty(meta).map_err(store::Error::NotJson)?;
        let kept = self.store().save(name, pem, &meta);
        self.note_storage(kept.as_ref().err().map(ToString::to_string));
        kept
    }

    pub fn export(&self, name: &str, pem: &Pair) {
        let model = self.model();
        let Some(directory) = &model.acme.export else { return };
        if let Err(error) = store::export(directory, name, pem) {
            self.say(&format!("error: {name}: the certificate could not be exported: {error}"));
        }
    }

    async fn note_step(&self, name: &str, record: &Record, step: Step) {
        let record = Record { step, ..record.clone() };
        if let Ok(json) = json(&record) {
            // The certificate is kept by now, so nothing depends on this.
            let _ = self.store().update_order(name, &json);
        }
        self.passed(name, step).await;
    }

    fn serve(
        &self,
        name: &str,
        pair: &Arc<CertifiedPair>,
        seen: Option<Seen>,
        unstored: Option<(Pair, Meta)>,
    ) {
        self.with(name, |run, _| {
            let generation = seen.and_then(|seen| seen.generation());
            run.serving = Some(Serving { pair: Arc::clone(pair), generation });
            run.seen = seen.unwrap_or(run.seen);
            run.unstored = unstored;
            run.expired_told = false;
            run.withdrawn = false;
        });
    }

    fn succeeded(&self, attempt: &Attempt, pair: &CertifiedPair, meta: &Meta) {
        let name = &attempt.name;
        let event = {
            let mut world = self.world.borrow_mut();
            world.clock.issued(pair.not_before(), pair.not_after(), self.outside.clock.unix())
        };
        self.clock_event(event);
        if event.is_some() {
            self.hooks.tell(self.facts(Event::ClockSuspect, attempt));
        }
        let now = self.now();
        let certificate = meta.certificate(pair);
        let unstored = self.with(name, |run, budgets| {
            run.state.issued(budgets, &attempt.slot, certificate, now, Self::draw());
            run.succeeded += 1;
            run.unstored.is_some()
        });
        let _ = self.save(name);
        let storage = if unstored == Some(true) { "; it could not be stored" } else { "" };
        self.say(&format!(
            "{name}: new certificate from {}, ends {}{storage}",
            authority_name(&attempt.authority),
            status::relative(pair.not_after(), now)
        ));
    }

    /// An attempt failed.
    pub fn failed(&self, attempt: &Attempt, failed: Failed) {
        let name = &attempt.name;
        self.observe(failed.date);
        if !failed.resumable
            && let Err(error) = self.store().drop_order(name)
        {
            self.note_storage(Some(error.to_string()));
        }
        let now = self.now();
        let Failure { kind, text, .. } = failed.failure.clone();
        let hook = self.with(name, |run, budgets| {
            run.state.failed(budgets, &attempt.slot, failed.failure, now, Self::draw());
            *run.failed.entry(word(kind)).or_default() += 1;
            let due = run.state.hook_due(now);
            if due {
                run.state.hook_told(now);
            }
            due
        });
        let _ = self.save(name);
        if kind == FailureKind::Storage {
            self.note_storage(Some(text.clone()));
        }
        let (line, severity, count) = self.failure_line(attempt, &text, now);
        self.say(&line);
        if hook == Some(true) {
            let text = format!("{}: {text}", authority_name(&attempt.authority));
            self.hooks.tell(self.facts(Event::Failed, attempt).error(&text, severity.word(), count));
        }
    }

    /// The one line of an attempt that failed.
    fn failure_line(&self, attempt: &Attempt, text: &str, now: u64) -> (String, Severity, u32) {
        let mut world = self.world.borrow_mut();
        let super::engine::World { runs, budgets, .. } = &mut *world;
        let name = &attempt.name;
        let Some(run) = runs.get_mut(name) else { return (format!("{name}: {text}"), Severity::Warn, 0) };
        let severity = run.state.severity(now).unwrap_or(Severity::Warn);
        let count = run.state.failing.as_ref().map_or(0, |failing| failing.count);
        let closed = budgets
            .closed_until(&attempt.authority.directory, &crate::acme::plan::account_key(&attempt.authority));
        let own = run.state.failing.as_ref().map_or(now, |failing| failing.next_try());
        // With another authority in line the mark of this one does not hold the slot back.
        let only = attempt.slot.policy.authorities.len() < 2;
        let next = if only { own.max(closed) } else { own };
        let end = match &run.state.certificate {
            Some(certificate) => {
                format!("the certificate in service ends {}", status::relative(certificate.not_after, now))
            }
            None => "there is no certificate".to_owned(),
        };
        let line = format!(
            "{}: {name}: no certificate from {}: {text} (attempt {count}, next try {}; {end})",
            severity.word(),
            authority_name(&attempt.authority),
            status::relative(next, now),
        );
        (line, severity, count)
    }

    fn certificate_facts(
        &self,
        event: Event,
        attempt: &Attempt,
        pair: &CertifiedPair,
        seen: Option<Seen>,
    ) -> Facts {
        let facts = self.facts(event, attempt).certificate(pair.not_after(), &pair.serial_hex());
        match seen.and_then(|_| self.files(&attempt.name)) {
            Some((certificate, key)) => facts.files(&certificate, &key),
            None => facts,
        }
    }

    fn files(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        self.store().files(name).ok()
    }
}

/// A kind's word, as it is in files.
pub(super) fn word(kind: FailureKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}
