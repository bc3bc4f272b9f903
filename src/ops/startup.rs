//! From a valid configuration to a running process, and to its end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::acme;
use super::certificates::{Certificates, Pairs};
use super::check::now_unix;
use super::listeners::{self, Listeners};
use super::log_writer::{LogWriter, Sink};
use super::metrics;
use super::resolver::Resolver;
use super::running::{Began, Running};
use super::signals::{self, Drain};
use super::watch;
use crate::acme::commands::Handle;
use crate::acme::local_ca::Root;
use crate::config::model::{AccessLog, HostPattern, Model, Workers};
use crate::handoff::counters::{Counters, Tally};
use crate::handoff::ring::LineConsumer;
use crate::handoff::{mailbox, ring};
use crate::io::sys;
use crate::io::worker::{self, Birth, Protocol};
use crate::limits;
use crate::upstream::resolve;

/// How long the start waits for the first answers of DNS.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(2);
/// How often the main thread looks whether workers have ended.
const JOIN_POLL: Duration = Duration::from_millis(20);
/// How often the start looks whether the workers accept.
const START_POLL: Duration = Duration::from_millis(1);
/// How long the acme thread may take to end what it is in the middle of.
const ACME_PATIENCE: Duration = Duration::from_secs(2);
/// How long the log thread may take to write its last lines.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Says something to the operator.
pub fn say(text: &str) {
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(io::stderr().lock(), "lockring: {text}");
}

/// Runs the proxy until it has drained. `pairs`: what the checks before it have read. `hint`: print how to
/// try it.
///
/// # Errors
/// A text that names what cannot be had.
pub fn run(model: Model, pairs: Pairs, hint: bool) -> Result<(), String> {
    let began = Began::now();
    let descriptors = sys::raise_descriptor_limit().map_err(|error| format!("descriptor limit: {error}"))?;
    prepare_process()?;
    let cpus = cpus(&model.server.workers);
    let Listeners { per_worker, addresses } = listeners::bind(&model.server, cpus.len())?;
    let model = Arc::new(model);
    let certificates = Arc::new(Certificates::open(&model, pairs, now_unix(), say)?);
    let prepared = acme::prepare(&model, &certificates, say);
    watch::start(&certificates, say).map_err(|error| format!("certificate thread: {error}"))?;
    let resolver = resolver(&model)?;
    let connections_max = connections_max(&model, descriptors, cpus.len());
    let https_port = port_of(&addresses, Protocol::Https);
    let (mut senders, mut lines, mut starting, mut counters) = (vec![], vec![], vec![], vec![]);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for ((number, cpu), listeners) in (0_u16..).zip(cpus).zip(per_worker) {
        let (sender, receiver) = mailbox::mailbox().map_err(|error| format!("worker {number}: {error}"))?;
        let started = Tally::default();
        let (log, consumer) = ring::lines(limits::LOG_LINES);
        senders.push(sender);
        lines.push(consumer);
        let birth = Birth {
            number,
            cpu,
            listeners,
            https_port,
            connections_max,
            setup: certificates.published().reader(),
            resolved: resolver.resolved().reader(),
            mailbox: receiver,
            counters: Counters::new(),
            log,
            wishes: prepared.as_ref().and_then(acme::Prepared::wishes),
            started: started.clone(),
            warn: say,
        };
        counters.push(Arc::clone(&birth.counters));
        starting.push(started);
        threads.push(spawn(birth)?);
    }
    let log = open_log(&model, lines)?;
    let drain = Drain::default();
    let signals = signals::watch(senders, model.timeouts.drain, &drain, say);
    signals.map_err(|error| format!("signals: {error}"))?;
    wait_for(&starting, &threads);
    announce(&addresses);
    if hint {
        announce_sites(&model, &addresses, certificates.root());
    }
    let acme = acme::start(&model, prepared, &certificates, say)?;
    let running = Arc::new(Running {
        setup: certificates.published().clone(),
        resolved: resolver.resolved().clone(),
        counters,
        addresses,
        log_lost: log.as_ref().map(LogWriter::losses).unwrap_or_default(),
        acme: acme.clone(),
        drain,
        began,
    });
    let admin = acme::listen(&model, Arc::clone(&running) as _, say);
    serve_metrics(&model, running)?;
    say("ready");
    join(threads)?;
    drop(admin);
    end(acme, log);
    Ok(())
}

fn resolver(model: &Model) -> Result<Resolver, String> {
    let resolver = Resolver::start(resolve::names(model)).map_err(|error| format!("resolver: {error}"))?;
    if !resolver.wait(RESOLVE_PATIENCE) {
        say("some upstream names have not resolved yet; their requests get 502 until they do");
    }
    Ok(resolver)
}

fn open_log(model: &Model, lines: Vec<LineConsumer>) -> Result<Option<LogWriter>, String> {
    let sink = match &model.log.access {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => Sink::Stdout,
        AccessLog::File(path) => Sink::File(path.clone()),
    };
    LogWriter::start(lines, sink).map(Some).map_err(|error| format!("access log: {error}"))
}

/// Ends the other threads, once there are no workers.
fn end(acme: Option<Handle>, log: Option<LogWriter>) {
    // What it was writing is whole in any case.
    let _ = acme.is_none_or(|acme| acme.stop(ACME_PATIENCE));
    // Lines that a stuck sink does not take are counted as lost by the writer.
    let _ = log.is_none_or(|log| log.stop(LOG_PATIENCE));
}

/// Waits for all workers. One that ends by a defect ends the process, since half of the connections to its
/// port would wait for it for ever; the service manager starts it again.
fn join(mut threads: Vec<JoinHandle<()>>) -> Result<(), String> {
    while !threads.is_empty() {
        let (over, running) = threads.into_iter().partition(JoinHandle::is_finished);
        threads = running;
        let over: Vec<JoinHandle<()>> = over;
        for thread in over {
            thread.join().map_err(|_| "a worker ended by a defect, described above".to_owned())?;
        }
        std::thread::sleep(JOIN_POLL);
    }
    Ok(())
}

/// Waits until every worker accepts, or one of them has ended already.
fn wait_for(starting: &[Tally], threads: &[JoinHandle<()>]) {
    while !starting.iter().all(|started| started.get() > 0) && !threads.iter().any(JoinHandle::is_finished) {
        std::thread::sleep(START_POLL);
    }
}

fn spawn(birth: Birth) -> Result<JoinHandle<()>, String> {
    let number = birth.number;
    let thread = std::thread::Builder::new().name(format!("worker-{number}"));
    let work = move || {
        if let Err(error) = worker::run(birth) {
            say(&format!("worker {number}: {error}"));
        }
    };
    thread.spawn(work).map_err(|error| format!("worker {number}: {error}"))
}

/// What the whole process may not do.
fn prepare_process() -> Result<(), String> {
    // A kernel without huge pages has none to forbid.
    let _ = sys::forbid_huge_pages();
    sys::forbid_core_dumps().map_err(|error| format!("core dumps: {error}"))
}

/// The CPU of each worker.
pub(super) fn cpus(workers: &Workers) -> Vec<Option<usize>> {
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    let usable: Vec<usize> = usable.into_iter().map(|core| core.id).collect();
    match workers {
        Workers::Auto if usable.is_empty() => vec![None],
        Workers::Auto => usable.into_iter().map(Some).collect(),
        // More workers than CPUs cannot be pinned apart.
        Workers::Count(count) => (0..*count).map(|number| usable.get(number).copied()).collect(),
        Workers::Cpus(list) => list.iter().copied().map(Some).collect(),
    }
}

/// Each client may need a connection to an app beside its own.
fn connections_max(model: &Model, descriptors: u64, workers: usize) -> usize {
    let share = descriptors.saturating_sub(limits::RESERVED_DESCRIPTORS) / 2 / workers.max(1) as u64;
    let share = usize::try_from(share).unwrap_or(usize::MAX).max(1);
    if share < model.limits.connections {
        say(&format!("the descriptor limit ({descriptors}) allows {share} client connections per worker"));
    }
    model.limits.connections.min(share)
}

fn port_of(addresses: &[(SocketAddr, Protocol)], protocol: Protocol) -> u16 {
    addresses.iter().find(|(_, other)| *other == protocol).map_or(443, |(address, _)| address.port())
}

/// Answers scrapes, if they are wanted.
fn serve_metrics(model: &Model, running: Arc<Running>) -> Result<(), String> {
    let page: metrics::MakePage = Arc::new(move || metrics::page(&running));
    let server = metrics::serve(&model.metrics, &page, say)?;
    for address in &server.addresses {
        say(&format!("metrics are at http://{address}/metrics"));
    }
    Ok(())
}

fn announce(addresses: &[(SocketAddr, Protocol)]) {
    for (address, protocol) in addresses {
        let scheme = if *protocol == Protocol::Https { "https" } else { "http" };
        say(&format!("listening on {scheme}://{address}"));
    }
}

/// How to try each site.
fn announce_sites(model: &Model, addresses: &[(SocketAddr, Protocol)], root: Option<&Root>) {
    let port = port_of(addresses, Protocol::Https);
    for site in &model.sites {
        let host = match &site.host {
            HostPattern::Wildcard(parent) => format!("www.{parent}"),
            HostPattern::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            other => other.to_string(),
        };
        let url = if port == 443 { format!("https://{host}/") } else { format!("https://{host}:{port}/") };
        say(&format!("{} is served at {url}", site.host));
        match root {
            Some(root) => say(&format!("try: curl --cacert {} {url}", root.path.display())),
            None => say(&format!("try: curl {url}")),
        }
    }
}
