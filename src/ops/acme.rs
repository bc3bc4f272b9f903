//! Certificates from authorities on the network, as far as start and end of the process go: what is on
//! disk is served before the acme thread asks anybody.

use std::sync::Arc;

use super::admin::{Admin, Answers};
use super::certificates::Certificates;
use super::check::now_unix;
use crate::acme::commands::Handle;
use crate::acme::install::Install;
use crate::acme::slot::Slot;
use crate::acme::store::{AcmeStore, Store};
use crate::acme::thread::{self, Loaded};
use crate::config::model::Model;
use crate::handoff::wishes::{self, Wisher, Wishes};
use crate::limits;

/// What is known before the thread runs.
#[derive(Debug)]
pub struct Prepared {
    slots: Vec<Slot>,
    loaded: Vec<Loaded>,
    store: AcmeStore,
    /// Both ends of the queue of clients' wishes, if anything is obtained on demand.
    demand: Option<(Wisher, Wishes)>,
}

impl Prepared {
    /// Where workers leave wishes for certificates on demand.
    #[must_use]
    pub fn wishes(&self) -> Option<Wisher> {
        self.demand.as_ref().map(|(wisher, _)| wisher.clone())
    }
}

/// Puts the certificates that are on disk into service; `None` when no site needs an authority, or when the
/// state directory cannot be had, which `say` tells.
pub fn prepare(model: &Model, certificates: &Certificates, say: fn(&str)) -> Option<Prepared> {
    let mut slots = Slot::all(model, |host| certificates.has_files(host));
    if slots.is_empty() && model.acme.on_demand.is_none() {
        return None;
    }
    let store = match Store::open(&model.server.state) {
        Ok(store) => AcmeStore::open(&store),
        Err(error) => {
            say(&format!("no certificates can be asked for: {error}"));
            return None;
        }
    };
    slots.extend(thread::on_demand(&store, model, &slots));
    let loaded = thread::load(&store, &slots, model.acme.serve_expired, now_unix());
    for loaded in &loaded {
        let Some(slot) = slots.get(loaded.slot) else { continue };
        if let Err(error) = certificates.install(slot, Arc::clone(loaded.pair())) {
            say(&format!("{}: the certificate on disk cannot be served: {error}", slot.name));
        }
    }
    let demand = model.acme.on_demand.as_ref();
    let demand = demand.map(|_| wishes::wishes(limits::ACME_DEMAND_WAITING, limits::ACME_DEMAND_UNREAD));
    Some(Prepared { slots, loaded, store, demand })
}

/// Starts the acme thread, once workers can answer challenges.
///
/// # Errors
/// A text, when there is no thread to be had.
pub fn start(
    model: &Arc<Model>,
    prepared: Option<Prepared>,
    certificates: &Arc<Certificates>,
    say: fn(&str),
) -> Result<Option<Handle>, String> {
    let Some(Prepared { slots, loaded, store, demand }) = prepared else { return Ok(None) };
    let install = Arc::clone(certificates) as Arc<dyn Install>;
    let handle = thread::start(
        Arc::clone(model),
        slots,
        loaded,
        store,
        install,
        demand.map(|(_, wishes)| wishes),
        say,
    );
    handle.map(Some).map_err(|error| error.to_string())
}

/// Listens for commands. Traffic does not depend on it, so what hinders it is only told.
pub fn listen(model: &Model, answers: Arc<dyn Answers>, say: fn(&str)) -> Option<Admin> {
    let path = model.server.admin_path();
    // The usual place is in the state directory, which may not be there yet.
    let made = Store::open(&model.server.state).map_err(|error| error.to_string());
    match made.and_then(|_| Admin::listen(&path, answers).map_err(|error| error.to_string())) {
        Ok(admin) => Some(admin),
        Err(error) => {
            say(&format!("commands cannot be given to this process: {error}"));
            None
        }
    }
}
