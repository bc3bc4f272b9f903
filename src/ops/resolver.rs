//! The thread that looks up the names of upstreams, so that workers never wait for DNS. Answers are
//! published as a snapshot; a failing name keeps its last good answer and delays no other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::handoff::published::Published;
use crate::limits;
use crate::upstream::resolve::{Name, Resolved, literal};

/// Look-ups in progress at once: each holds a thread until the system's resolver gives up.
const LOOKUPS: usize = 16;
/// How often look-ups in progress are asked whether they are over; the system's resolver cannot be waited
/// for in any other way than by its thread.
const POLL: Duration = Duration::from_millis(5);
/// Memory of a look-up's thread; the C library's resolver needs some 64 KiB.
const STACK_BYTES: usize = 512 * 1024;

/// What one look-up gives.
type Answer = Result<Vec<SocketAddr>, String>;
/// How a name is looked up; blocks.
type Lookup = fn(&Name) -> Answer;

/// What the thread is to do.
#[derive(Clone, Debug)]
struct Orders {
    names: BTreeSet<Name>,
    stop: bool,
}

/// The running resolver. Dropping it ends the thread once it has seen so.
#[derive(Debug)]
pub struct Resolver {
    orders: Published<Orders>,
    resolved: Published<Resolved>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Starts looking up these names, and again every [`limits::RESOLVE_INTERVAL`].
    ///
    /// # Errors
    /// The system's, when no thread can be made.
    pub fn start(names: BTreeSet<Name>) -> io::Result<Self> {
        Self::start_with(names, limits::RESOLVE_INTERVAL, system)
    }

    fn start_with(names: BTreeSet<Name>, interval: Duration, lookup: Lookup) -> io::Result<Self> {
        let mut first = Resolved::default();
        take_literals(&mut first, &names);
        let orders = Published::new(Arc::new(Orders { names, stop: false }));
        let resolved = Published::new(Arc::new(first));
        let thread = {
            let (orders, resolved) = (orders.clone(), resolved.clone());
            let work = move || run(&orders, &resolved, interval, lookup);
            thread::Builder::new().name("resolver".to_owned()).spawn(work)?
        };
        Ok(Self { orders, resolved, thread: Some(thread) })
    }

    /// Where the answers are published.
    #[must_use]
    pub fn resolved(&self) -> Published<Resolved> {
        self.resolved.clone()
    }

    /// Waits until each name has had its first answer, good or bad, but not longer than `timeout`;
    /// whether it has. Traffic may start in any case: names without answer get 502 until they have one.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let names = &self.orders.load().names;
        while !self.resolved.peek().covers(names) {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Looks up these names from now on; answers for the same names stand, others are forgotten.
    pub fn set_names(&self, names: BTreeSet<Name>) {
        self.order(Orders { names, stop: false });
    }

    fn order(&self, orders: Orders) {
        self.orders.publish(Arc::new(orders));
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.order(Orders { names: BTreeSet::new(), stop: true });
        // Not joined: a look-up in progress may take half a minute, and holds nothing that must be saved.
        self.thread.take();
    }
}

/// The thread: one turn takes new orders, ended look-ups, starts those that are due, publishes and sleeps.
fn run(orders: &Published<Orders>, published: &Published<Resolved>, interval: Duration, lookup: Lookup) {
    let mut resolved = Resolved::clone(&published.load());
    let mut due: BTreeMap<Name, Instant> = BTreeMap::new();
    let mut running: Vec<(Name, JoinHandle<Answer>)> = Vec::new();
    loop {
        let wanted = orders.load();
        if wanted.stop {
            return;
        }
        let mut changed = resolved.keep_only(&wanted.names);
        changed |= take_literals(&mut resolved, &wanted.names);
        due.retain(|name, _| wanted.names.contains(name));
        for (name, answer) in take_ended(&mut running) {
            if wanted.names.contains(&name) {
                changed |= resolved.take(&name, answer);
                due.insert(name, Instant::now() + interval);
            }
        }
        let now = Instant::now();
        for name in wanted.names.iter().filter(|name| literal(name).is_none()) {
            let is_due = due.get(name).is_none_or(|at| *at <= now);
            let is_running = running.iter().any(|(other, _)| other == name);
            if is_due && !is_running && running.len() < LOOKUPS {
                start_lookup(name, lookup, &mut running);
                due.insert(name.clone(), now + interval);
            }
        }
        if changed {
            published.publish(Arc::new(resolved.clone()));
        }
        let next = due.values().min().map_or(interval, |at| at.saturating_duration_since(now));
        // Waking early is harmless: a turn without anything due does nothing.
        thread::park_timeout(if running.is_empty() { next.max(POLL) } else { POLL });
    }
}

fn take_literals(resolved: &mut Resolved, names: &BTreeSet<Name>) -> bool {
    names.iter().fold(false, |changed, name| match literal(name) {
        Some(address) => resolved.take(name, Ok(vec![address])) || changed,
        None => changed,
    })
}

fn start_lookup(name: &Name, lookup: Lookup, running: &mut Vec<(Name, JoinHandle<Answer>)>) {
    let asked = name.clone();
    let thread = thread::Builder::new().name("lookup".to_owned()).stack_size(STACK_BYTES);
    // Without a thread the name stays as it is and is due again after the interval.
    if let Ok(handle) = thread.spawn(move || lookup(&asked)) {
        running.push((name.clone(), handle));
    }
}

/// Takes the look-ups that are over out of `running`.
fn take_ended(running: &mut Vec<(Name, JoinHandle<Answer>)>) -> Vec<(Name, Answer)> {
    running
        .extract_if(.., |(_, handle)| handle.is_finished())
        .map(|(name, handle)| {
            let answer = handle.join().unwrap_or_else(|_| Err("the look-up failed".to_owned()));
            (name, answer)
        })
        .collect()
}

/// Asks the system: hosts file, DNS, whatever it is set up for. The order is its order (RFC 6724).
fn system(name: &Name) -> Answer {
    let found = (name.host.as_str(), name.port).to_socket_addrs();
    found.map(Iterator::collect).map_err(|error| format!("cannot resolve {}: {error}", name.host))
}

#[cfg(test)]
mod tests {
    use super::{Answer, Resolver};
    use crate::handoff::counters::Tally;
    use crate::upstream::resolve::Name;
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::sync::OnceLock;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    fn set(hosts: &[&str]) -> BTreeSet<Name> {
        hosts.iter().map(|host| Name { host: (*host).to_owned(), port: 80 }).collect()
    }

    fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !what() {
            assert!(Instant::now() < end, "waited too long");
            sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn the_system_knows_localhost_and_not_an_invalid_name() {
        // RFC 6761 §6.4: names under .invalid do not exist.
        let resolver = Resolver::start(set(&["localhost", "x.invalid", "10.0.0.1"])).unwrap();
        assert!(resolver.wait(LONG));
        let resolved = resolver.resolved().load();
        assert!(resolved.lookup("localhost", 80).unwrap().iter().all(|address| address.ip().is_loopback()));
        assert!(resolved.lookup("x.invalid", 80).unwrap_err().contains("cannot resolve x.invalid"));
        assert_eq!(resolved.lookup("10.0.0.1", 80).unwrap(), ["10.0.0.1:80".parse().unwrap()]);
    }

    #[test]
    fn a_slow_name_delays_no_other_and_not_the_start() {
        fn lookup(name: &Name) -> Answer {
            if name.host == "slow" {
                sleep(Duration::from_millis(500));
            }
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], name.port))])
        }
        let resolver = Resolver::start_with(set(&["fast", "slow"]), SHORT, lookup).unwrap();
        assert!(!resolver.wait(Duration::from_millis(100)));
        assert!(resolver.resolved().load().lookup("fast", 80).is_ok());
        assert!(resolver.resolved().load().lookup("slow", 80).is_err());
        assert!(resolver.wait(LONG));
    }

    #[test]
    fn answers_are_refreshed_and_the_last_good_one_is_kept() {
        static CALLS: OnceLock<Tally> = OnceLock::new();
        fn lookup(name: &Name) -> Answer {
            // Look-ups of one name follow each other, so the tally has one writer at a time.
            let calls = CALLS.get_or_init(Tally::default);
            calls.add(1);
            match calls.get() {
                1 => Ok(vec![SocketAddr::from(([10, 0, 0, 1], name.port))]),
                2 => Err("gone".to_owned()),
                _ => Ok(vec![SocketAddr::from(([10, 0, 0, 2], name.port))]),
            }
        }
        let resolver = Resolver::start_with(set(&["a"]), SHORT, lookup).unwrap();
        let resolved = resolver.resolved();
        until(|| {
            let now = resolved.load();
            let failing = now.failures().count() == 1;
            assert!(!failing || now.lookup("a", 80).unwrap()[0].ip().to_string() == "10.0.0.1");
            now.lookup("a", 80).is_ok_and(|found| found[0].ip().to_string() == "10.0.0.2")
        });
    }

    #[test]
    fn new_names_are_looked_up_at_once_and_old_ones_forgotten() {
        fn lookup(name: &Name) -> Answer {
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], name.port))])
        }
        let resolver = Resolver::start_with(set(&["a"]), Duration::from_secs(3600), lookup).unwrap();
        assert!(resolver.wait(LONG));
        resolver.set_names(set(&["b", "::1"]));
        assert!(resolver.wait(LONG));
        let resolved = resolver.resolved();
        until(|| resolved.load().lookup("a", 80).is_err());
        assert!(resolved.load().lookup("b", 80).is_ok());
        assert!(resolved.load().lookup("::1", 80).is_ok());
        drop(resolver);
    }
}
