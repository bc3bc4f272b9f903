//! A run: opens the connections, warms up, measures one window, prints one line of JSON.
//!
//! Closed loop: each connection sends its next request when the last was answered. Open loop (`--rate`):
//! requests are due at the points of a Poisson process, whether a connection is free or not, and their time
//! counts from then, so a stall is not hidden (no coordinated omission). `--handshakes`: a new connection
//! for each request. `--idle`: says when all connections have had one answer, then keeps them until its
//! standard input ends.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};

use crate::args::Args;
use crate::client::{Client, Progress, Request};
use crate::cost::Cost;
use crate::figures::Figures;
use crate::tunnel;

/// Events taken at once.
const EVENTS: usize = 256;
/// Bytes read at once, and room for a record that has begun.
const SCRATCH: usize = 288 * 1024;
/// Handshakes under way at once while connections are opened.
const OPENING: usize = 64;
/// From the start until every connection is up, and from the window's end until every answer is there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that may fail before the run is given up.
const FAILURES: u64 = 100_000;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Closed,
    Open { rate: f64 },
    Handshakes,
    Idle,
}

#[derive(PartialEq)]
enum Phase {
    /// Until every connection is up.
    Opening(Instant),
    Warming(Instant),
    Measuring(Instant),
    /// Answers due in the window are awaited.
    Draining(Instant),
    Done,
}

struct Run {
    manner: Manner,
    resume: bool,
    request: Request,
    warm: Duration,
    window: Duration,
    watch: Option<u32>,
    poll: OwnedFd,
    phase: Phase,
    /// Sessions are remembered per connection, so each always has a ticket of its own.
    configs: Vec<Arc<ClientConfig>>,
    clients: Vec<Option<Client>>,
    /// Connections not opened so far.
    unopened: usize,
    up: usize,
    ready: VecDeque<usize>,
    /// When requests were due that no connection has taken.
    queue: VecDeque<Instant>,
    next: Instant,
    random: u64,
    began: Instant,
    cost: Cost,
    figures: Figures,
}

/// Carries out `load run`.
pub fn run(args: &Args) -> io::Result<()> {
    let upload: u64 = args.number("upload", 0)?;
    let path = args.text("path").unwrap_or("/1024");
    let method = if upload > 0 { "POST" } else { "GET" };
    let length = if upload > 0 { format!("Content-Length: {upload}\r\n") } else { String::new() };
    let name = args.text("name").unwrap_or("localhost").to_owned();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: load\r\n{length}\r\n");
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let manner = match (args.text("handshakes"), args.has("rate"), args.has("idle")) {
        (Some("full" | "resumed"), _, _) => Manner::Handshakes,
        (Some(kind), _, _) => return Err(io::Error::other(format!("--handshakes {kind}: full or resumed"))),
        (_, true, _) => Manner::Open { rate: args.needed("rate")? },
        (_, _, true) => Manner::Idle,
        _ => Manner::Closed,
    };
    let resume = args.text("handshakes") == Some("resumed");
    let count: usize = args.number("connections", 64)?;
    let configs = if resume { count } else { 1 };
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let now = Instant::now();
    let mut run = Run {
        manner,
        resume,
        request: Request {
            port: args.needed("port")?,
            name,
            head: head.into_bytes(),
            upload,
            plain: args.has("plain"),
        },
        warm: Duration::from_secs_f64(args.number("warm", 0.5)?),
        window: Duration::from_secs_f64(args.number("seconds", 3.0)?),
        watch: if args.has("watch") { Some(args.needed("watch")?) } else { None },
        poll: epoll::create(CreateFlags::CLOEXEC)?,
        phase: Phase::Opening(now + PATIENCE),
        configs: (0..configs).map(|_| tunnel::config(resume)).collect::<io::Result<_>>()?,
        clients: (0..count).map(|_| None).collect(),
        unopened: count,
        up: 0,
        ready: VecDeque::new(),
        queue: VecDeque::new(),
        next: now,
        random: 0x9E37_79B9_7F4A_7C15,
        began: now,
        cost: Cost::default(),
        figures: Figures::default(),
    };
    run.go()
}

impl Run {
    fn go(&mut self) -> io::Result<()> {
        for _ in 0..OPENING {
            self.open_next()?;
        }
        let mut scratch = vec![0; SCRATCH];
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            self.pass(now)?;
            if self.phase == Phase::Done {
                println!("{}", std::mem::take(&mut self.figures).json());
                return Ok(());
            }
            self.arrive(now)?;
            let wait = self.deadline().saturating_duration_since(now);
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.turn(usize::try_from(event.data.u64()).map_err(io::Error::other)?, &mut scratch)?;
            }
        }
    }

    /// Goes on to the next phase when it is time.
    fn pass(&mut self, now: Instant) -> io::Result<()> {
        match self.phase {
            Phase::Opening(_) if self.up >= self.clients.len() => {
                if self.manner == Manner::Idle {
                    return self.keep();
                }
                self.next = now;
                self.phase = Phase::Warming(now + self.warm);
            }
            Phase::Opening(end) if now >= end => {
                return Err(io::Error::other(format!("only {} connections came up", self.up)));
            }
            Phase::Warming(end) if now >= end => {
                self.figures = Figures::default();
                self.cost = self.spent()?;
                self.began = Instant::now();
                self.phase = Phase::Measuring(self.began + self.window);
            }
            Phase::Measuring(end) if now >= end => {
                let spent = self.spent()?;
                self.figures.cost =
                    Cost { user: spent.user - self.cost.user, system: spent.system - self.cost.system };
                self.figures.seconds = (now - self.began).as_secs_f64();
                let open = matches!(self.manner, Manner::Open { .. });
                self.phase = if open { Phase::Draining(now + PATIENCE) } else { Phase::Done };
            }
            Phase::Draining(end) => {
                let under_way = self.clients.iter().flatten().filter_map(|client| client.due);
                let late: Vec<Instant> = under_way.chain(self.queue.iter().copied()).collect();
                if late.is_empty() {
                    self.phase = Phase::Done;
                } else if now >= end {
                    late.iter().for_each(|due| self.figures.answered(now - *due));
                    self.phase = Phase::Done;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn spent(&self) -> io::Result<Cost> {
        self.watch.map_or(Ok(Cost::default()), Cost::of)
    }

    /// Idle connections: says that they are up, and waits to be told to go.
    fn keep(&mut self) -> io::Result<()> {
        println!("{{\"connections\": {}, \"reconnects\": {}}}", self.up, self.figures.reconnects);
        io::stdin().read_to_end(&mut Vec::new())?;
        self.phase = Phase::Done;
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let phase = match self.phase {
            Phase::Opening(end) | Phase::Warming(end) | Phase::Measuring(end) => end,
            // The drain is looked at whenever an answer comes, and so often at least.
            Phase::Draining(_) => Instant::now() + Duration::from_millis(1),
            Phase::Done => Instant::now(),
        };
        if self.arriving() { phase.min(self.next) } else { phase }
    }

    fn arriving(&self) -> bool {
        matches!(self.manner, Manner::Open { .. })
            && matches!(self.phase, Phase::Warming(_) | Phase::Measuring(_))
    }

    /// Open loop: what became due goes to connections that are free.
    fn arrive(&mut self, now: Instant) -> io::Result<()> {
        if let Manner::Open { rate } = self.manner {
            while self.arriving() && self.next <= now {
                self.queue.push_back(self.next);
                let gap = self.uniform().ln().abs() / rate;
                self.next += Duration::from_secs_f64(gap);
            }
        }
        while let Some(due) = self.queue.front().copied() {
            let Some(index) = self.ready.pop_front() else { break };
            let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { continue };
            // A connection that died while it waited is found here or by its event.
            if !client.is_ready() || client.due.is_some() {
                continue;
            }
            self.queue.pop_front();
            let begun = client.begin(&self.request, due);
            self.after(index, begun.map(|()| Progress::Waiting))?;
        }
        Ok(())
    }

    /// A number in (0, 1]; the same sequence in every run (xorshift64).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn open_next(&mut self) -> io::Result<()> {
        if let Some(left) = self.unopened.checked_sub(1) {
            self.unopened = left;
            self.open(self.clients.len() - left - 1)?;
        }
        Ok(())
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let config = self.configs.get(index).or(self.configs.first()).ok_or(io::ErrorKind::NotFound)?;
        let mut client = Client::open(config, &self.request, index)?;
        client.writing = client.is_blocked();
        let flags = if client.writing { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        epoll::add(&self.poll, &client.stream, EventData::new_u64(index as u64), flags)?;
        if let Some(slot) = self.clients.get_mut(index) {
            *slot = Some(client);
        }
        // Without a handshake it is up, and what it sends waits for the connection.
        if self.request.plain { self.after(index, Ok(Progress::Ready)) } else { Ok(()) }
    }

    fn turn(&mut self, index: usize, scratch: &mut [u8]) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        let progress = client.turn(scratch, &mut self.figures.received, &mut self.figures.sent);
        self.after(index, progress)
    }

    /// What follows a turn of connection `index`.
    fn after(&mut self, index: usize, progress: io::Result<Progress>) -> io::Result<()> {
        let done = match progress {
            Ok(Progress::Ready) => self.came_up(index),
            Ok(Progress::Answered) => self.answered(index),
            Ok(Progress::Waiting) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            return self.failed(index, &error);
        }
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        let blocked = client.is_blocked();
        if blocked != client.writing {
            client.writing = blocked;
            let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.poll, &client.stream, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    fn came_up(&mut self, index: usize) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        match client.tunnel.kind() {
            Some(HandshakeKind::Resumed) => self.figures.resumed += 1,
            _ => self.figures.full += 1,
        }
        let begun = match self.manner {
            Manner::Open { .. } => {
                self.ready.push_back(index);
                Ok(())
            }
            Manner::Closed | Manner::Idle => client.begin(&self.request, Instant::now()),
            Manner::Handshakes => client.begin(&self.request, client.opened),
        };
        let opening = matches!(self.phase, Phase::Opening(_));
        if opening && self.manner != Manner::Idle && self.up < self.clients.len() {
            self.up += 1;
            self.open_next()?;
        }
        begun
    }

    fn answered(&mut self, index: usize) -> io::Result<()> {
        let now = Instant::now();
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        if client.status() != 200 {
            self.figures.refused += 1;
        }
        // Open loop: only what was due in the window counts.
        if let Some(due) = client.due.take()
            && (due >= self.began || !matches!(self.manner, Manner::Open { .. }))
        {
            self.figures.answered(now - due);
        }
        match self.manner {
            Manner::Closed => client.begin(&self.request, now),
            Manner::Open { .. } => {
                self.ready.push_back(index);
                Ok(())
            }
            Manner::Handshakes => {
                client.close()?;
                self.open(index)
            }
            Manner::Idle => {
                self.up += 1;
                self.open_next()
            }
        }
    }

    /// Opens a connection anew that has failed, and does its request again.
    fn failed(&mut self, index: usize, error: &io::Error) -> io::Result<()> {
        self.figures.reconnects += 1;
        let started = self.figures.reconnects < FAILURES && !matches!(self.phase, Phase::Opening(_));
        if !started {
            return Err(io::Error::other(format!("connection {index}: {error}")));
        }
        let client = self.clients.get_mut(index).and_then(Option::take);
        if let Some(due) = client.and_then(|client| client.due) {
            self.figures.retries += 1;
            if matches!(self.manner, Manner::Open { .. }) {
                self.queue.push_front(due);
            }
        }
        // A ticket that was refused must not be offered for ever.
        if self.resume
            && let Some(config) = self.configs.get_mut(index)
        {
            *config = tunnel::config(true)?;
        }
        self.open(index)
    }
}
