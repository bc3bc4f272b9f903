//! A client: sends requests, reads answers with the oracle, and behaves well or not.

use crate::luck::{Luck, body};
use crate::message::{Item, Kind, Reader};
use crate::net::{Net, Port, Time};
use crate::spec::Spec;

/// What it does when everything (or what it was going to send) is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Closes after the last answer.
    Wait,
    /// Sends no more but reads.
    HalfClose,
    Reset,
    /// Neither sends nor closes.
    Silence,
    /// Closes without reading.
    Close,
}

/// How it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Eager,
    /// So many bytes every so often.
    Slow(usize, Time),
    /// Not after so many bytes.
    Stops(usize),
}

/// An answer as it was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub status: u16,
    pub id: Option<String>,
    pub body: Vec<u8>,
    pub complete: bool,
    pub trailer: bool,
}

/// See the module.
pub struct Client {
    pub number: usize,
    pub port: Port,
    pub tls: bool,
    pub specs: Vec<Spec>,
    pub ending: Ending,
    pub reading: Reading,
    /// After how many bytes of which request it stops.
    pub cut: Option<(usize, usize)>,
    depth: usize,
    pace: Time,
    early_tunnel: bool,
    at: usize,
    /// Bytes of the current request that are sent.
    offset: usize,
    tunnel_sent: usize,
    head_sent: Option<Time>,
    wake: Time,
    luck: Luck,
    reader: Reader,
    under_way: bool,
    taken: usize,
    interim: bool,
    ended: bool,
    pub over: bool,
    /// The other side ended in order.
    pub orderly: bool,
    /// It sent bytes that are no request.
    pub noise: bool,
    pub answers: Vec<Seen>,
    pub broken: Option<String>,
}

impl Client {
    pub fn draw(seed: u64, number: usize, port: Port, calm: bool) -> Self {
        let mut luck = Luck::new(seed, 100 + number as u64);
        let count = 1 + luck.below(4) as usize;
        let id = |i: usize| (number * 100 + i) as u64;
        let specs: Vec<Spec> =
            (0..count).map(|i| Spec::draw(&mut luck, id(i), i + 1 == count, calm)).collect();
        let polite = [Ending::Wait, Ending::HalfClose];
        let rude = [Ending::Reset, Ending::Silence, Ending::Close];
        let ending = if calm || luck.percent(70) { luck.pick(&polite) } else { luck.pick(&rude) };
        // What the kernel holds for a client that reads slower than this outlasts the idle time.
        let (least, most) = if calm { (500, 20_000) } else { (30, 5_000_000) };
        let slow = Reading::Slow(least + luck.below(4_000) as usize, luck.below(most));
        let reading = match luck.below(10) {
            0 | 1 => slow,
            2 if !calm => Reading::Stops(luck.length()),
            _ => Reading::Eager,
        };
        let victim = luck.below(count as u64) as usize;
        let length = specs[victim].head_wire.len() + specs[victim].body_wire.len();
        let cut = (!calm && luck.percent(20)).then(|| (victim, luck.below(length as u64) as usize));
        Self {
            number,
            port,
            tls: luck.percent(40),
            ending,
            reading,
            cut,
            depth: luck.pick(&[1, 1, 2, 9]),
            pace: luck.pick(&[0, 0, 1_000, 300_000]),
            early_tunnel: luck.percent(30),
            at: 0,
            offset: 0,
            tunnel_sent: 0,
            head_sent: None,
            wake: 0,
            reader: Reader::new(Kind::Response),
            under_way: false,
            taken: 0,
            interim: false,
            ended: false,
            over: false,
            orderly: false,
            noise: false,
            answers: Vec::new(),
            broken: None,
            specs,
            luck,
        }
    }


    /// Whether it reads everything, until the other side ends.
    pub fn reads_on(&self) -> bool {
        let leaves = matches!(self.ending, Ending::Reset | Ending::Close);
        !leaves && !matches!(self.reading, Reading::Stops(_))
    }

    /// Whether all bytes of request `i` are sent.
    pub fn has_sent(&self, i: usize) -> bool {
        i < self.at
    }

    /// Requests of which a byte was sent.
    pub fn begun(&self) -> usize {
        self.at + usize::from(self.offset > 0)
    }

    pub fn next_wake(&self, now: Time) -> Option<Time> {
        (!self.over && self.wake > now).then_some(self.wake)
    }

    pub fn act(&mut self, net: &mut Net, now: Time) -> bool {
        if self.over || self.wake > now {
            return false;
        }
        let read = self.read(net, now);
        let sent = self.over || self.send(net, now);
        read || sent
    }

    fn read(&mut self, net: &mut Net, now: Time) -> bool {
        let most = match self.reading {
            Reading::Eager => usize::MAX,
            Reading::Slow(bytes, every) => {
                self.wake = if net.readable(self.port) { now + every } else { self.wake };
                bytes
            }
            Reading::Stops(after) => after.saturating_sub(self.taken),
        };
        let bytes = net.read(self.port, most);
        self.taken += bytes.len();
        self.reader.feed(&bytes);
        loop {
            match self.reader.next() {
                Ok(Some(item)) => self.item(item),
                Ok(None) => break,
                Err(error) => {
                    self.broken.get_or_insert(error);
                    break;
                }
            }
        }
        let pipe = net.incoming(self.port);
        if net.readable(self.port) || !(pipe.fin || pipe.reset) {
            return !bytes.is_empty();
        }
        self.orderly = !pipe.reset && (!self.tls || pipe.notified);
        let tunnel = self.answers.last().is_some_and(|seen| seen.status == 101);
        let until_close = self.under_way && (self.reader.is_until_close() || tunnel);
        if let Some(seen) = self.answers.last_mut().filter(|_| until_close) {
            seen.complete = self.orderly;
        }
        self.over = true;
        net.close(self.port, now);
        true
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Head(head) if (100..200).contains(&head.status()) && head.status() != 101 => self.interim = true,
            Item::Head(head) => {
                self.interim = false;
                self.under_way = true;
                let id = head.field("x-id").map(str::to_owned);
                self.answers.push(Seen { status: head.status(), id, ..Seen::default() });
            }
            Item::Data(data) => {
                if let Some(seen) = self.answers.last_mut() {
                    seen.body.extend(data);
                }
            }
            Item::End(trailers) => {
                self.under_way = false;
                if let Some(seen) = self.answers.last_mut() {
                    seen.complete = true;
                    seen.trailer = trailers.iter().any(|(name, value)| name == "x-sum" && value == "42");
                }
            }
        }
    }

    /// Answers that were seen whole.
    fn answered(&self) -> usize {
        self.answers.len() - usize::from(self.under_way)
    }

    fn send(&mut self, net: &mut Net, now: Time) -> bool {
        if self.ended {
            let done = self.answered() >= self.specs.len();
            if done && self.ending == Ending::Wait {
                self.close(net, now);
                return true;
            }
            return false;
        }
        let Some(spec) = self.specs.get(self.at) else { return self.tunnel_or_end(net, now) };
        if self.offset == 0 && self.at >= self.answered() + self.depth {
            return false;
        }
        let (head, all) = (spec.head_wire.len(), spec.head_wire.len() + spec.body_wire.len());
        let stop = self.cut.filter(|(victim, _)| *victim == self.at).map_or(all, |(_, at)| at);
        let wire = [spec.head_wire.as_slice(), &spec.body_wire].concat();
        let (is_head, method, expect) = (self.offset == 0, spec.method, spec.expect);
        if expect && self.offset >= head && self.offset < stop && self.holds_body(now) {
            return false;
        }
        let limit = if expect && self.offset < head { head.min(stop) } else { stop };
        let limit = if self.pace > 0 { limit.min(self.offset + 1 + self.luck.length()) } else { limit };
        let sent = net.write(self.port, &wire[self.offset..limit], now);
        if is_head && sent.is_ok_and(|n| n > 0) {
            self.reader.heads.push_back(method == "HEAD");
        }
        self.offset += sent.unwrap_or(limit - self.offset);
        if self.offset >= head {
            self.head_sent.get_or_insert(now);
        }
        let goes_on = self.offset == stop;
        if goes_on {
            self.next_request(net, now, stop < all || (stop == all && self.cut.is_some_and(|(v, _)| v == self.at)));
        } else {
            self.wake = self.wake.max(now + self.luck.below(self.pace + 1));
        }
        sent.is_ok_and(|n| n > 0) || goes_on
    }

    fn next_request(&mut self, net: &mut Net, now: Time, was_cut: bool) {
        if was_cut {
            return self.end(net, now);
        }
        self.at += 1;
        self.offset = 0;
        self.head_sent = None;
        self.interim = false;
    }

    /// Whether the body of a request with an expectation is still held back.
    fn holds_body(&mut self, now: Time) -> bool {
        let until = self.head_sent.unwrap_or(now) + 1_000_000;
        let held = !self.interim && self.answers.len() <= self.at && now < until;
        if held {
            self.wake = until;
            // An answer may come before.
            self.wake = self.wake.min(now + 50_000);
        }
        held
    }

    fn tunnel_or_end(&mut self, net: &mut Net, now: Time) -> bool {
        let Some(spec) = self.specs.last().filter(|spec| spec.upgrade && spec.flaw.is_none()) else {
            self.end(net, now);
            return true;
        };
        let switched = self.answers.last().is_some_and(|seen| seen.status == 101);
        let refused = self.answered() >= self.specs.len() && !switched;
        if refused {
            self.end(net, now);
            return true;
        }
        if !switched && !self.early_tunnel {
            return false;
        }
        self.noise |= !switched;
        let data = body(spec.id + 9_000_000, spec.tunnel);
        let sent = net.write(self.port, &data[self.tunnel_sent..], now);
        self.tunnel_sent += sent.unwrap_or(data.len() - self.tunnel_sent);
        if self.tunnel_sent == data.len() {
            self.end(net, now);
            return true;
        }
        sent.is_ok_and(|n| n > 0)
    }

    fn end(&mut self, net: &mut Net, now: Time) {
        self.ended = true;
        let tunnel = self.specs.get(self.at).is_none() && self.answers.last().is_some_and(|seen| seen.status == 101);
        match self.ending {
            Ending::HalfClose if self.tls => net.notify(self.port, now),
            Ending::HalfClose => net.shutdown(self.port, now),
            // The origin waits for the end of a tunnel.
            Ending::Wait if tunnel && !self.tls => net.shutdown(self.port, now),
            Ending::Wait if tunnel => net.notify(self.port, now),
            Ending::Reset => {
                net.reset(self.port, now);
                self.over = true;
            }
            Ending::Close => self.close(net, now),
            Ending::Wait | Ending::Silence => {}
        }
    }

    fn close(&mut self, net: &mut Net, now: Time) {
        if self.tls {
            net.notify(self.port, now);
        }
        net.close(self.port, now);
        self.over = true;
    }
}
