//! A network of byte pipes with delays, splits, windows, half-closes and resets, as TCP has them.

use std::collections::VecDeque;

use crate::luck::Luck;

/// Microseconds since the run began.
pub type Time = u64;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub connection: usize,
    pub side: usize,
}

#[derive(Debug)]
enum Event {
    Bytes(Vec<u8>),
    Notify,
    Fin,
    Reset,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Pipe {
    flight: VecDeque<(Time, Event)>,
    flying: usize,
    inbox: VecDeque<u8>,
    /// The peer said in its own protocol that nothing follows (close_notify of TLS).
    pub notified: bool,
    /// FIN arrived.
    pub fin: bool,
    /// A reset arrived.
    pub reset: bool,
    reader_closed: bool,
    writer_shut: bool,
    broken: bool,
    last: Time,
    /// Bytes accepted from the writer.
    pub sent: u64,
    /// Bytes that reached the reader's TCP.
    pub delivered: u64,
}

/// How the network treats what is given to it.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Largest segment.
    pub piece: u64,
    /// Longest delay of a segment.
    pub delay: Time,
    /// Bytes that a pipe holds.
    pub window: usize,
    /// Whether resets may overtake bytes.
    pub lossy: bool,
}

/// All connections of a run.
pub struct Net {
    pipes: Vec<[Pipe; 2]>,
    luck: Luck,
    style: Style,
}

impl Net {
    pub fn new(luck: Luck, style: Style) -> Self {
        Self { pipes: Vec::new(), luck, style }
    }

    /// A new connection; side 0 is the one that dialled.
    pub fn connect(&mut self) -> [Port; 2] {
        self.pipes.push(Default::default());
        let connection = self.pipes.len() - 1;
        [Port { connection, side: 0 }, Port { connection, side: 1 }]
    }

    /// What comes in at `port`.
    pub fn incoming(&self, port: Port) -> &Pipe {
        &self.pipes[port.connection][1 - port.side]
    }

    /// What goes out at `port`.
    pub fn outgoing(&self, port: Port) -> &Pipe {
        &self.pipes[port.connection][port.side]
    }

    fn queue(&mut self, port: Port, event: Event, now: Time) {
        let delay = self.luck.below(self.style.delay + 1);
        let pipe = &mut self.pipes[port.connection][port.side];
        // TCP keeps the order.
        pipe.last = pipe.last.max(now + delay);
        if let Event::Bytes(bytes) = &event {
            pipe.flying += bytes.len();
        }
        pipe.flight.push_back((pipe.last, event));
    }

    /// Gives bytes to the kernel: how many it takes.
    pub fn write(&mut self, port: Port, bytes: &[u8], now: Time) -> Result<usize, ()> {
        let pipe = &mut self.pipes[port.connection][port.side];
        if pipe.broken || pipe.writer_shut {
            return Err(());
        }
        let free = self.style.window.saturating_sub(pipe.flying + pipe.inbox.len());
        let taken = free.min(bytes.len());
        pipe.sent += taken as u64;
        let mut rest = &bytes[..taken];
        // A piece of one byte is the hardest split, and the most expensive one.
        let mut pieces = 0;
        while !rest.is_empty() {
            let most = if pieces > 200 { 20_000 } else { self.style.piece };
            let (piece, tail) = rest.split_at(rest.len().min(1 + self.luck.below(most) as usize));
            self.queue(port, Event::Bytes(piece.to_vec()), now);
            rest = tail;
            pieces += 1;
        }
        Ok(taken)
    }

    /// Takes at most `most` of the bytes that have arrived.
    pub fn read(&mut self, port: Port, most: usize) -> Vec<u8> {
        let pipe = &mut self.pipes[port.connection][1 - port.side];
        let taken = most.min(pipe.inbox.len());
        pipe.inbox.drain(..taken).collect()
    }

    /// Whether bytes are on their way to `port`.
    pub fn is_coming(&self, port: Port) -> bool {
        self.incoming(port).flying > 0
    }

    /// Whether bytes can be read.
    pub fn readable(&self, port: Port) -> bool {
        !self.incoming(port).inbox.is_empty()
    }

    /// The end of a protocol above.
    pub fn notify(&mut self, port: Port, now: Time) {
        if !self.outgoing(port).broken && !self.outgoing(port).writer_shut {
            self.queue(port, Event::Notify, now);
        }
    }

    /// FIN.
    pub fn shutdown(&mut self, port: Port, now: Time) {
        if !std::mem::replace(&mut self.pipes[port.connection][port.side].writer_shut, true) {
            self.queue(port, Event::Fin, now);
        }
    }

    /// `close()`: a reset if something is unread, as Linux does it.
    pub fn close(&mut self, port: Port, now: Time) {
        if self.readable(port) {
            return self.reset(port, now);
        }
        self.shutdown(port, now);
        self.pipes[port.connection][1 - port.side].reader_closed = true;
    }

    /// `close()` with a linger time of 0.
    pub fn reset(&mut self, port: Port, now: Time) {
        let lost = self.style.lossy && self.luck.percent(50);
        self.pipes[port.connection][1 - port.side].reader_closed = true;
        let pipe = &mut self.pipes[port.connection][port.side];
        pipe.writer_shut = true;
        if lost {
            pipe.flight.retain(|(_, event)| !matches!(event, Event::Bytes(_)));
            pipe.flying = 0;
        }
        self.queue(port, Event::Reset, now);
    }

    /// Delivers what is due. Whether anything was.
    pub fn step(&mut self, now: Time) -> bool {
        let mut moved = false;
        for connection in 0..self.pipes.len() {
            for side in 0..2 {
                while self.pipes[connection][side].flight.front().is_some_and(|(at, _)| *at <= now) {
                    if let Some((_, event)) = self.pipes[connection][side].flight.pop_front() {
                        self.arrive(Port { connection, side }, event, now);
                        moved = true;
                    }
                }
            }
        }
        moved
    }

    /// `event`, sent at `port`, arrives at its peer.
    fn arrive(&mut self, port: Port, event: Event, now: Time) {
        let pipe = &mut self.pipes[port.connection][port.side];
        match event {
            Event::Bytes(bytes) => {
                pipe.flying -= bytes.len().min(pipe.flying);
                if pipe.reader_closed {
                    // Nobody is there any more: the answer is a reset.
                    let peer = Port { connection: port.connection, side: 1 - port.side };
                    if !pipe.broken {
                        self.queue(peer, Event::Reset, now);
                    }
                    return;
                }
                pipe.delivered += bytes.len() as u64;
                pipe.inbox.extend(bytes);
            }
            Event::Notify => pipe.notified = true,
            Event::Fin => pipe.fin = true,
            Event::Reset => {
                pipe.reset = true;
                let back = &mut self.pipes[port.connection][1 - port.side];
                back.broken = true;
                back.flight.retain(|(_, event)| matches!(event, Event::Reset));
                back.flying = 0;
            }
        }
    }

    /// When something arrives next.
    pub fn next(&self) -> Option<Time> {
        let fronts = self.pipes.iter().flatten().filter_map(|pipe| pipe.flight.front());
        fronts.map(|(at, _)| *at).min()
    }
}
