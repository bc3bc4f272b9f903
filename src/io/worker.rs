//! One worker: a pinned thread with one runtime, and what all its connections share. One turn of its loop
//! is the runtime's: completions, the tasks they wake, one submission of everything those asked for.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::buffers::Buffers;
use super::deadline::Wheel;
use super::demand::{self, Demand};
use super::gauge;
use super::listener;
use super::pace::{self, Pace};
use super::steer::steer;
use super::stream::Stream;
use super::sys::release_free_memory;
use crate::config::model::Model;
use crate::handoff::counters::{Counters, Tally};
use crate::handoff::mailbox::{Command, Receiver};
use crate::handoff::meters::Meters;
use crate::handoff::published::Reader;
use crate::handoff::ring::LineProducer;
use crate::handoff::wishes::Wisher;
use crate::http::date;
use crate::limits;
use crate::proxy::challenge::Tokens;
use crate::proxy::route::Table;
use crate::telemetry::metrics::Counter;
use crate::tls::certs::Store;
use crate::upstream::group::EndpointId;
use crate::upstream::pool::Pool;
use crate::upstream::resolve::Resolved;

/// Everything that configuration and certificates mean for a worker; replaced as a whole. A copy shares all
/// of it, so a changed one costs as much as the change.
#[derive(Clone)]
pub struct Setup {
    /// The configuration.
    pub model: Arc<Model>,
    /// Its routes.
    pub table: Arc<Table>,
    /// Certificates by name.
    pub store: Store,
    /// Challenges that plain listeners answer.
    pub tokens: Tokens,
    /// How to verify apps that speak TLS.
    pub upstream_tls: Arc<rustls::ClientConfig>,
    /// What is measured by site and endpoint, with the names of both.
    pub meters: Arc<Meters>,
    /// Whether requests are logged.
    pub logs: bool,
}

/// A setup as connections of one worker hold it: their counts of holders stay on this CPU.
pub struct Current(Arc<Setup>);

impl std::ops::Deref for Current {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.0
    }
}

/// What a listener does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS.
    Https,
    /// Plain HTTP.
    Http,
}

/// What a worker is born with.
pub struct Birth {
    /// Its number.
    pub number: u16,
    /// Its CPU, if it is pinned.
    pub cpu: Option<usize>,
    /// Its own listening sockets.
    pub listeners: Vec<(TcpListener, Protocol)>,
    /// Port of the first HTTPS listener.
    pub https_port: u16,
    /// Client connections it may hold.
    pub connections_max: usize,
    /// Configuration and certificates.
    pub setup: Reader<Setup>,
    /// Addresses of upstream names.
    pub resolved: Reader<Resolved>,
    /// Commands from control.
    pub mailbox: Receiver,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// Its ring to the log thread.
    pub log: LineProducer,
    /// Where clients' wishes for certificates on demand go, if they are heard.
    pub wishes: Option<Wisher>,
    /// Counts to one when the worker accepts.
    pub started: Tally,
    /// Says something to the operator, once.
    pub warn: fn(&str),
}

/// What all connections of a worker share.
pub struct Worker {
    /// Its number.
    pub number: u16,
    /// Port of the first HTTPS listener.
    pub https_port: u16,
    /// Buffers.
    pub buffers: Buffers,
    /// Deadlines.
    pub wheel: Wheel,
    /// Idle upstream connections.
    pub pool: RefCell<Pool<Stream>>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Access log.
    pub log: RefCell<LineProducer>,
    /// Scratch for hellos that come in several records.
    pub hello_scratch: RefCell<Vec<u8>>,
    /// Budget of handshakes.
    pub(super) pace: Rc<Pace>,
    pub(super) demand: Demand,
    pub(super) connections_max: usize,
    pub(super) warn: fn(&str),
    setup: RefCell<Reader<Setup>>,
    current: RefCell<Rc<Current>>,
    resolved: RefCell<Reader<Resolved>>,
    loads: RefCell<Vec<Load>>,
    luck: Cell<u64>,
    date: Cell<[u8; DATE_LENGTH]>,
    second: Cell<u64>,
    connections: Cell<usize>,
    /// Connections that have freed memory since pages were given back.
    freed: Cell<u32>,
    drain: Cell<Option<Instant>>,
    stopped: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// Listening sockets and what they speak.
type Listeners = Vec<(TcpListener, Protocol)>;

/// Work under way at one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// Requests and dials in flight.
    in_flight: u32,
}

/// Length of an IMF-fixdate.
const DATE_LENGTH: usize = 29;

impl Worker {
    fn new(birth: &mut Option<Birth>) -> Option<(Rc<Self>, Listeners, Receiver)> {
        let Birth {
            number,
            https_port,
            connections_max,
            listeners,
            mut setup,
            resolved,
            mailbox,
            counters,
            log,
            wishes,
            warn,
            ..
        } = birth.take()?;
        let now = Instant::now();
        let current = Rc::new(Current(Arc::clone(setup.load())));
        let endpoints = current.table.groups().endpoints().len();
        let model = &current.model;
        let pool = Pool::new(endpoints, model.limits.pool_idle, model.timeouts.pool_idle);
        let worker = Self {
            number,
            https_port,
            buffers: Buffers::default(),
            wheel: Wheel::new(now),
            pool: RefCell::new(pool),
            counters,
            log: RefCell::new(log),
            hello_scratch: RefCell::new(Vec::new()),
            pace: Rc::new(Pace::new()),
            demand: Demand::new(wishes.as_ref(), warn),
            connections_max,
            warn,
            current: RefCell::new(current),
            setup: RefCell::new(setup),
            resolved: RefCell::new(resolved),
            loads: RefCell::new(vec![Load::default(); endpoints]),
            luck: Cell::new(0x9E37_79B9_7F4A_7C15 ^ (u64::from(number) << 17) ^ unix_ms()),
            date: Cell::new([b' '; DATE_LENGTH]),
            second: Cell::new(0),
            connections: Cell::new(0),
            freed: Cell::new(0),
            drain: Cell::new(None),
            stopped: Cell::new(false),
            waiting: RefCell::new(Vec::new()),
        };
        worker.refresh_date();
        Some((Rc::new(worker), listeners, mailbox))
    }

    /// Configuration and certificates now. Costs one comparison unless they were replaced.
    #[must_use]
    pub fn setup(&self) -> Rc<Current> {
        let mut reader = self.setup.borrow_mut();
        let latest = reader.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(latest, &current.0) {
            *current = Rc::new(Current(Arc::clone(latest)));
        }
        Rc::clone(&current)
    }

    /// Addresses of upstream names now.
    #[must_use]
    pub fn resolved(&self) -> Arc<Resolved> {
        Arc::clone(self.resolved.borrow_mut().load())
    }

    /// The date for responses.
    #[must_use]
    pub fn date(&self) -> [u8; DATE_LENGTH] {
        self.date.get()
    }

    fn refresh_date(&self) {
        let second = unix_ms() / 1000;
        if second == self.second.replace(second) {
            return;
        }
        let mut text = Vec::with_capacity(DATE_LENGTH);
        date::write_imf_fixdate(second, &mut text);
        if let Some(date) = text.first_chunk::<DATE_LENGTH>() {
            self.date.set(*date);
        }
    }

    /// 64 bits of luck for choices that need not be secret.
    #[must_use]
    pub fn luck(&self) -> u64 {
        // SplitMix64.
        let state = self.luck.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.luck.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Requests in flight at each of `members`.
    pub fn loads(&self, members: &[EndpointId], out: &mut Vec<u32>) {
        let loads = self.loads.borrow();
        out.clear();
        out.extend(members.iter().map(|id| loads.get(id.0 as usize).map_or(0, |load| load.in_flight)));
    }

    /// A request or dial to `endpoint` begins (`1`) or ends (`-1`).
    pub fn load_changes(&self, endpoint: EndpointId, by: i32) {
        if let Some(load) = self.loads.borrow_mut().get_mut(endpoint.0 as usize) {
            load.in_flight = load.in_flight.saturating_add_signed(by);
        }
    }

    /// Requests and dials in flight at `endpoint`.
    #[must_use]
    pub fn load(&self, endpoint: EndpointId) -> usize {
        self.loads.borrow().get(endpoint.0 as usize).map_or(0, |load| load.in_flight as usize)
    }

    /// The drain deadline, once draining has begun.
    #[must_use]
    pub fn draining(&self) -> Option<Instant> {
        self.drain.get()
    }

    /// Whether the worker may take no more connections for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.connections.get() >= self.connections_max
    }

    /// Wakes `waker` when a connection ends or draining begins.
    pub(super) fn wait_for_room(&self, waker: &Waker) {
        self.waiting.borrow_mut().push(waker.clone());
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A connection was accepted.
    pub(super) fn opened(&self) {
        self.connections.set(self.connections.get() + 1);
        self.counters.count(Counter::Accepted);
        self.counters.add(Counter::ConnectionsOpen, 1);
    }

    /// A connection has freed memory.
    pub(super) fn rested(&self) {
        self.freed.set(self.freed.get().saturating_add(1));
    }

    /// Frees what a burst has left and nobody needed since.
    fn release_memory(&self) {
        let trimmed = self.buffers.trim();
        if trimmed > 0 || self.freed.get() >= limits::RELEASE_AFTER {
            self.freed.set(0);
            release_free_memory();
        }
    }

    /// A connection ended.
    pub(super) fn closed(&self) {
        self.rested();
        self.connections.set(self.connections.get().saturating_sub(1));
        self.counters.sub(Counter::ConnectionsOpen, 1);
        self.wake_waiting();
    }

    fn obey(&self, command: Command) {
        match command {
            Command::Drain { deadline } => self.drain.set(Some(deadline)),
            Command::Stop => {
                self.drain.set(Some(Instant::now()));
                self.stopped.set(true);
            }
        }
        self.pool.borrow_mut().clear();
        self.wake_waiting();
        self.wheel.wake_all();
    }

    fn is_over(&self, now: Instant) -> bool {
        // The last connections are given a moment after the deadline to notice it.
        let patience = Duration::from_millis(500);
        self.stopped.get()
            || self.drain.get().is_some_and(|at| self.connections.get() == 0 || now > at + patience)
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Which ring set-up flags are asked for, best first.
const FLAGS: [&str; 4] =
    ["SINGLE_ISSUER, DEFER_TASKRUN, SUBMIT_ALL", "COOP_TASKRUN, SUBMIT_ALL", "SUBMIT_ALL", "none"];

fn ring(level: usize) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(limits::RING_COMPLETIONS);
    match level {
        0 => {
            builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        }
        1 => {
            builder.setup_coop_taskrun().setup_submit_all();
        }
        2 => {
            builder.setup_submit_all();
        }
        _ => {}
    }
    builder
}

/// Runs a worker on this thread until it has drained or is stopped.
///
/// # Errors
/// If no runtime can be made.
pub fn run(birth: Birth) -> io::Result<()> {
    let warn = birth.warn;
    let first = birth.number == 0;
    if let Some(cpu) = birth.cpu {
        if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            steer(&birth.listeners, cpu);
        } else if first {
            warn(&format!("cannot pin worker {} to CPU {cpu}", birth.number));
        }
    }
    let mut birth = Some(birth);
    let mut refused = None;
    for (level, flags) in FLAGS.iter().enumerate() {
        let builder = RuntimeBuilder::<TimeDriver<IoUringDriver>>::new()
            .with_entries(limits::RING_ENTRIES)
            .uring_builder(ring(level));
        match builder.build() {
            Ok(mut runtime) => {
                if level > 0 && first {
                    warn(&format!("this kernel has not all io_uring features; running with flags: {flags}"));
                }
                return runtime.block_on(live(&mut birth, false));
            }
            Err(error) => refused = Some(error),
        }
    }
    if first {
        let why = refused.map_or_else(String::new, |error| format!(" ({error})"));
        warn(&format!("io_uring is not to be had{why}; running on epoll, at a higher cost per request"));
    }
    let mut runtime = RuntimeBuilder::<TimeDriver<LegacyDriver>>::new().build()?;
    runtime.block_on(live(&mut birth, true))
}

async fn live(birth: &mut Option<Birth>, epoll: bool) -> io::Result<()> {
    let started = birth.as_ref().map(|birth| birth.started.clone());
    let Some((worker, listeners, mailbox)) = Worker::new(birth) else { return Ok(()) };
    for (socket, protocol) in listeners {
        // io_uring answers EAGAIN on non-blocking sockets instead of waiting; epoll needs them.
        socket.set_nonblocking(epoll)?;
        let listener = monoio::net::TcpListener::from_std(socket)?;
        monoio::spawn(listener::accept(Rc::clone(&worker), listener, protocol));
    }
    monoio::spawn(pace::keep(Rc::clone(&worker.pace)));
    monoio::spawn(read_mail(Rc::clone(&worker), mailbox, epoll));
    monoio::spawn(demand::listen(Rc::clone(&worker), epoll));
    started.inspect(|started| started.add(1));
    keep_house(&worker).await;
    Ok(())
}

/// Obeys commands from control as they come.
async fn read_mail(worker: Rc<Worker>, mut mailbox: Receiver, epoll: bool) {
    let Some(wake) = mailbox.take_wake() else { return };
    if wake.set_nonblocking(epoll).is_err() {
        return;
    }
    let Ok(mut wake) = monoio::net::UnixStream::from_std(wake) else { return };
    let mut buffer = vec![0_u8; 16];
    loop {
        let (result, returned) = monoio::io::AsyncReadRent::read(&mut wake, buffer).await;
        buffer = returned;
        while let Some(command) = mailbox.next() {
            worker.obey(command);
        }
        if !matches!(result, Ok(n) if n > 0) {
            return;
        }
    }
}

/// Deadlines, the date, and idle upstream connections; ends when the worker is over.
async fn keep_house(worker: &Rc<Worker>) {
    let mut released = Instant::now();
    loop {
        let mut tick = std::pin::pin!(monoio::time::sleep(limits::DEADLINE_STEP));
        std::future::poll_fn(|cx| {
            let now = Instant::now();
            // Polling the idle ones here makes the app's FIN wake this task at once.
            let left = worker.pool.borrow_mut().sweep(now, |stream| {
                // A session ticket that came meanwhile ends a watch without ending the quiet.
                while stream.poll(cx, now).0 {
                    stream.want_read();
                }
                !stream.is_quiet()
            });
            gauge::refresh(worker, left);
            tick.as_mut().poll(cx).map(|()| ())
        })
        .await;
        let now = Instant::now();
        worker.wheel.advance(now);
        worker.refresh_date();
        if now.saturating_duration_since(released) >= limits::RELEASE_INTERVAL {
            released = now;
            worker.release_memory();
        }
        // A worker that nobody visits must not keep what was replaced, with its keys.
        drop(worker.setup());
        if worker.is_over(now) {
            return;
        }
    }
}

/// Resolves when there is room for a connection or draining has begun.
pub(super) async fn room(worker: &Rc<Worker>) {
    std::future::poll_fn(|cx| {
        if worker.draining().is_some() || !worker.is_full() {
            return Poll::Ready(());
        }
        worker.wait_for_room(cx.waker());
        Poll::Pending
    })
    .await;
}
