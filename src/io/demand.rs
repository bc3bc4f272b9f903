//! Handshakes of one worker that wait for a certificate on demand, and the bell that tells of verdicts.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::Waker;

use super::worker::Worker;
use crate::handoff::wishes::{Error, Waiting, Wisher};

/// See the module.
pub(super) struct Demand {
    wisher: Option<Wisher>,
    bell: RefCell<Option<UnixStream>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Demand {
    /// Over the queue of all workers; without one, every wish is refused.
    pub(super) fn new(shared: Option<&Wisher>, warn: fn(&str)) -> Self {
        let opened = shared.map(Wisher::with_bell).transpose();
        let opened = opened.unwrap_or_else(|error| {
            warn(&format!("certificates on demand cannot be waited for: {error}"));
            None
        });
        let (wisher, bell) = opened.unzip();
        Self { wisher, bell: RefCell::new(bell), waiting: RefCell::default() }
    }

    /// A client wishes a certificate for a normalised name.
    pub(super) fn leave(&self, name: &[u8], client: IpAddr) -> Result<Waiting, Error> {
        let wisher = self.wisher.as_ref().ok_or(Error::Gone)?;
        wisher.leave(str::from_utf8(name).map_err(|_| Error::Gone)?, client)
    }

    /// Wakes `waker` at the next verdict.
    pub(super) fn wakes(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

/// Wakes those that wait whenever the bell rings.
pub(super) async fn listen(worker: Rc<Worker>, epoll: bool) {
    let Some(bell) = worker.demand.bell.take() else { return };
    if bell.set_nonblocking(epoll).is_err() {
        return;
    }
    let Ok(mut bell) = monoio::net::UnixStream::from_std(bell) else { return };
    let mut buffer = vec![0_u8; 16];
    loop {
        let (result, returned) = monoio::io::AsyncReadRent::read(&mut bell, buffer).await;
        buffer = returned;
        let waiting = std::mem::take(&mut *worker.demand.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
        if !matches!(result, Ok(n) if n > 0) {
            return;
        }
    }
}
