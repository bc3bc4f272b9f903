//! Listening addresses: can each be bound now, and if not, who has it. And upstreams that are this machine's
//! own listeners. The sockets made here never listen and are closed at once.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::model::Upstream;
use crate::config::{Code, Diagnostic, Loaded, Place, Severity, Spot, is_reached};
use crate::limits;

pub(super) fn check(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let server = &loaded.model.server;
    let mut blamed: HashSet<(u16, Option<Spot>)> = HashSet::new();
    let https = server.https.iter().zip(&loaded.places.https);
    let http = server.http.iter().zip(&loaded.places.http);
    for (address, spot) in https.chain(http) {
        let Err(error) = patiently(address.port(), || bind(*address)) else { continue };
        // `:443` is two addresses but one mistake.
        if blamed.insert((address.port(), *spot)) {
            diagnostics.extend(refused(loaded, *address, *spot, &error));
        }
    }
    diagnostics.extend(own_listeners(loaded));
    diagnostics
}

/// Binds again and again while a port is taken but nobody has it: after a process was killed its ring is taken
/// apart by the kernel, which takes a moment, and a service manager starts the next one at once.
pub(in crate::ops) fn patiently<T>(port: u16, bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + limits::PORT_PATIENCE;
    loop {
        match bind() {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && Instant::now() < deadline
                    && owner(port).is_none() =>
            {
                std::thread::sleep(PORT_POLL);
            }
            other => return other,
        }
    }
}

/// How often that is.
const PORT_POLL: Duration = Duration::from_millis(10);

/// Without `SO_REUSEPORT`, so that a listener of anybody is seen; with `SO_REUSEADDR`, so that its dead
/// connections are not.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

fn refused(
    loaded: &Loaded,
    address: SocketAddr,
    spot: Option<Spot>,
    error: &io::Error,
) -> Option<Diagnostic> {
    let place = spot.map_or_else(|| root(loaded), |spot| spot.place(&loaded.sources));
    // A default may step aside to a high port.
    let mut severity = if spot.is_some() { Severity::Error } else { Severity::Warning };
    let (code, cause, remedy) = match error.kind() {
        ErrorKind::AddrInUse => {
            let owner = owner(address.port());
            if owner.as_ref().is_some_and(|process| process.name == OURSELVES) {
                // A reload or an upgrade takes the socket over.
                return None;
            }
            let remedy = match &owner {
                Some(process) => format!("stop it (kill {}), or listen on another port", process.id),
                None => "run the check as root to learn which; stop it, or listen on another port".to_owned(),
            };
            let by = owner.map_or_else(
                || "another process".to_owned(),
                |process| format!("`{}` (process {})", process.name, process.id),
            );
            (Code::AddressInUse, format!("{by} listens on `{address}`"), remedy)
        }
        ErrorKind::PermissionDenied => {
            // The service may well run as another user than the check.
            severity = Severity::Warning;
            let cause = format!("this user cannot listen on `{address}`");
            let remedy = "run as root or with CAP_NET_BIND_SERVICE, or use a port from 1024";
            (Code::AddressRefused, cause, remedy.to_owned())
        }
        // A machine without IPv6 serves `:443` by IPv4.
        ErrorKind::Unsupported => return None,
        _ if address.ip().is_unspecified() && address.is_ipv6() => return None,
        ErrorKind::AddrNotAvailable => {
            let cause = format!("`{address}` is no address of this machine");
            let remedy = format!("write one that `ip address` shows, or \":{}\" for all", address.port());
            (Code::AddressRefused, cause, remedy)
        }
        _ => (Code::AddressRefused, format!("`{address}` cannot be listened on: {error}"), OTHER.to_owned()),
    };
    Some(Diagnostic { code, severity, place, also: None, cause, remedy })
}

const OTHER: &str = "listen on another address";
/// The kernel's name of our own processes.
const OURSELVES: &str = "lockring";

fn root(loaded: &Loaded) -> Place {
    Place::whole(loaded.sources.first().map_or("", |source| source.name.as_str()))
}

/// A process as people know it.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    name: String,
    id: u32,
}

/// Who listens on `port`, as far as this user may see.
fn owner(port: u16) -> Option<Process> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        inodes.extend(listening(&fs::read_to_string(table).unwrap_or_default(), port));
    }
    let wanted: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if wanted.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|id: u32| {
        let open = fs::read_dir(format!("/proc/{id}/fd")).ok()?.filter_map(Result::ok);
        let mut targets = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        targets.find(|target| target.to_str().is_some_and(|target| wanted.contains(target)))?;
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        Some(Process { name: name.trim_end().to_owned(), id })
    })
}

/// Inodes of the sockets that listen on `port` in the text of `/proc/net/tcp` or `tcp6`: columns are slot,
/// local and remote `ADDRESS:PORT` in hexadecimal, state, queues, timer, retransmits, user, timeout, inode.
fn listening(table: &str, port: u16) -> Vec<u64> {
    let row = |line: &str| -> Option<u64> {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (_, local_port) = columns.next()?.rsplit_once(':')?;
        let state = columns.nth(1)?;
        let listens = state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port);
        if listens { columns.nth(5)?.parse().ok() } else { None }
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// `TCP_LISTEN` of the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// Upstreams at this machine's own addresses that end at a listener; loopback ones with a written listener
/// were found when the file was read.
fn own_listeners(loaded: &Loaded) -> Vec<Diagnostic> {
    let server = &loaded.model.server;
    let mut diagnostics = Vec::new();
    for (site, places) in loaded.model.sites.iter().zip(&loaded.places.sites) {
        let targets = site.routes.iter().zip(&places.routes).flat_map(|(r, p)| r.to.iter().zip(&p.to));
        for (upstream, spot) in targets {
            let https = server.https.iter().zip(&loaded.places.https);
            let mut listeners = https.chain(server.http.iter().zip(&loaded.places.http));
            let hit = listeners.find(|(listener, _)| is_reached(listener, upstream, is_local));
            diagnostics
                .extend(hit.map(|(listener, at)| own_listener(loaded, upstream, *spot, listener, *at)));
        }
    }
    diagnostics
}

fn own_listener(
    loaded: &Loaded,
    upstream: &Upstream,
    spot: Spot,
    listener: &SocketAddr,
    at: Option<Spot>,
) -> Diagnostic {
    let also = at.map(|at| (at.place(&loaded.sources), "the listener is here".to_owned()));
    Diagnostic {
        code: Code::OwnListener,
        severity: if at.is_some() { Severity::Error } else { Severity::Warning },
        place: spot.place(&loaded.sources),
        also,
        cause: format!("`{upstream}` is this proxy's own listener `{listener}`"),
        remedy: "write the port on which the application listens".to_owned(),
    }
}

/// Whether an address is one of this machine: only such a one can be bound.
fn is_local(ip: &IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((*ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 100 0 0 10 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000 100 0 0 10 0
";

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        assert_eq!(listening(TABLE, 8080), [4711]);
        assert_eq!(listening(TABLE, 22), [4713]);
        assert!(listening(TABLE, 443).is_empty());
        for cut in 0..TABLE.len() {
            assert!(listening(&TABLE[..cut], 8080).len() <= 1);
        }
    }

    #[test]
    fn a_listener_is_seen_and_its_process_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(owner(address.port()).unwrap().id, std::process::id());
        drop(listener);
        assert!(bind(address).is_ok());
    }

    #[test]
    fn a_port_that_somebody_has_is_not_waited_for_and_one_that_comes_free_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tries = std::cell::Cell::new(0);
        let taken = patiently(address.port(), || {
            tries.set(tries.get() + 1);
            bind(address)
        });
        assert_eq!((taken.unwrap_err().kind(), tries.get()), (ErrorKind::AddrInUse, 1));
        drop(listener);
        tries.set(0);
        let free = patiently(address.port(), || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(ErrorKind::AddrInUse.into()) } else { bind(address) }
        });
        assert!(free.is_ok());
        assert_eq!(tries.get(), 3);
    }

    #[test]
    fn local_addresses_are_those_that_can_be_bound() {
        assert!(is_local(&"127.0.0.1".parse().unwrap()));
        assert!(!is_local(&"192.0.2.1".parse().unwrap()));
    }
}
