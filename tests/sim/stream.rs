//! The proxy's end of a simulated connection, with the verbs of `io/stream`.

use std::cell::RefCell;
use std::rc::Rc;

use lockring::limits;

use crate::net::{Net, Port, Time};

/// How receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    CloseNotify,
    Fin,
    Reset,
}

/// Ports whose streams were dropped, to be closed by the network.
pub type Graves = Rc<RefCell<Vec<(Port, bool)>>>;

/// See the module.
pub struct Stream {
    pub port: Port,
    graves: Graves,
    pub tls: bool,
    input: Vec<u8>,
    read_end: Option<ReadEnd>,
    fin: bool,
    reading: bool,
    out: Vec<u8>,
    sending: Option<(Vec<u8>, usize)>,
    notify: bool,
    write_failed: bool,
    sent_total: u64,
    pub bulk: bool,
    pub reset_on_close: bool,
}

impl Stream {
    pub fn new(port: Port, tls: bool, graves: Graves) -> Self {
        Self {
            port,
            graves,
            tls,
            input: Vec::new(),
            read_end: None,
            fin: false,
            reading: false,
            out: Vec::new(),
            sending: None,
            notify: false,
            write_failed: false,
            sent_total: 0,
            bulk: false,
            reset_on_close: false,
        }
    }

    pub fn received(&self) -> &[u8] {
        &self.input
    }

    pub fn consume(&mut self, n: usize) {
        self.input.drain(..n);
    }

    pub fn discard_received(&mut self) {
        self.input.clear();
    }

    pub fn read_end(&self) -> Option<ReadEnd> {
        self.read_end
    }

    pub fn is_fin(&self) -> bool {
        self.fin
    }

    pub fn is_write_failed(&self) -> bool {
        self.write_failed
    }

    pub fn acknowledged_if_all_is(&self) -> u64 {
        self.sent_total
    }

    pub fn want_read(&mut self) -> bool {
        !self.fin && !std::mem::replace(&mut self.reading, true)
    }

    pub fn queued(&self) -> usize {
        self.out.len()
    }

    pub fn wants_write(&self) -> bool {
        !self.out.is_empty() || self.sending.is_some()
    }

    pub fn is_quiet(&self) -> bool {
        self.read_end.is_none() && !self.fin && !self.write_failed && self.input.is_empty() && !self.wants_write()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The end that TLS marks; nothing on plain connections.
    pub fn close_notify(&mut self) {
        self.notify |= self.tls;
    }

    pub fn flush(&mut self) -> bool {
        if self.out.is_empty() || self.sending.is_some() {
            return false;
        }
        if self.write_failed {
            self.out.clear();
            return false;
        }
        self.sending = Some((std::mem::take(&mut self.out), 0));
        true
    }

    /// Once everything is sent: the end that TLS marks.
    pub fn notify_if_due(&mut self, net: &mut Net, now: Time) {
        if !self.wants_write() && std::mem::take(&mut self.notify) {
            net.notify(self.port, now);
        }
    }

    /// Whether something was received (or receiving ended), and how many bytes were sent.
    pub fn poll(&mut self, net: &mut Net, now: Time) -> (bool, Option<usize>) {
        (self.poll_read(net), self.poll_write(net, now))
    }

    fn poll_read(&mut self, net: &mut Net) -> bool {
        if !self.reading {
            return false;
        }
        let room = if self.bulk { limits::BULK_BUFFER } else { limits::RECEIVE_BUFFER };
        let bytes = net.read(self.port, room);
        let pipe = net.incoming(self.port);
        if !bytes.is_empty() {
            self.input.extend_from_slice(&bytes);
        } else if pipe.reset || pipe.fin {
            self.fin = true;
            let end = if pipe.reset { ReadEnd::Reset } else { ReadEnd::Fin };
            if self.read_end.is_none() || end == ReadEnd::Reset {
                self.read_end = Some(end);
            }
        } else if pipe.notified && self.read_end.is_none() {
            self.read_end = Some(ReadEnd::CloseNotify);
        } else {
            return false;
        }
        self.reading = false;
        true
    }

    fn poll_write(&mut self, net: &mut Net, now: Time) -> Option<usize> {
        let (buffer, sent) = self.sending.as_mut()?;
        match net.write(self.port, &buffer[*sent..], now) {
            Ok(0) => None,
            Ok(n) => {
                *sent += n;
                self.sent_total += n as u64;
                if *sent == buffer.len() {
                    self.sending = None;
                }
                Some(n)
            }
            Err(()) => {
                self.write_failed = true;
                self.sending = None;
                self.out.clear();
                Some(0)
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.graves.borrow_mut().push((self.port, self.reset_on_close));
    }
}
