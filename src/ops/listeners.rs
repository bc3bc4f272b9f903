//! Listening sockets: one per worker and address, so that each worker accepts for itself.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::check::patiently;
use crate::config::model::Server;
use crate::io::worker::Protocol;
use crate::limits;

/// The sockets of all workers.
pub struct Listeners {
    /// Per worker.
    pub per_worker: Vec<Vec<(TcpListener, Protocol)>>,
    /// Where they listen, ports as they are.
    pub addresses: Vec<(SocketAddr, Protocol)>,
}

/// Where to listen when the usual ports are not to be had.
const ASIDE: [(u16, u16); 2] = [(443, 8443), (80, 8080)];

/// Binds every address of `server` for `workers` workers. Ports that the user did not ask for step aside
/// when they are taken or not allowed.
///
/// # Errors
/// A text that names the address and the cause.
pub fn bind(server: &Server, workers: usize) -> Result<Listeners, String> {
    let mut listeners =
        Listeners { per_worker: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    let https = server.https.iter().map(|address| (*address, Protocol::Https));
    let http = server.http.iter().map(|address| (*address, Protocol::Http));
    let wanted: Vec<(SocketAddr, Protocol)> = https.chain(http).collect();
    for (address, protocol) in &wanted {
        let mut result = bind_all(*address, workers);
        let given = if *protocol == Protocol::Https { server.https_given } else { server.http_given };
        let aside = ASIDE.iter().find(|(usual, _)| *usual == address.port());
        if let (false, Err(error), Some((_, port))) = (given, &result, aside)
            && matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse)
        {
            result = bind_all(SocketAddr::new(address.ip(), *port), workers);
        }
        match result {
            Ok(sockets) => {
                let bound = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(*address);
                listeners.addresses.push((bound, *protocol));
                for (worker, socket) in listeners.per_worker.iter_mut().zip(sockets) {
                    worker.push((socket, *protocol));
                }
            }
            // A machine without IPv6 still serves IPv4 under `:PORT`.
            Err(error) if is_family_missing(&error) && has_other_family(&wanted, *address) => {}
            Err(error) => return Err(format!("{address}: cannot listen: {error}")),
        }
    }
    Ok(listeners)
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn has_other_family(wanted: &[(SocketAddr, Protocol)], address: SocketAddr) -> bool {
    wanted.iter().any(|(other, _)| other.port() == address.port() && other.is_ipv4() && address.is_ipv6())
}

fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second process of the same user would share the port in silence.
    if address.port() != 0 {
        drop(patiently(address.port(), || bind_one(address, false))?);
    }
    let first = bind_one(address, true)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        sockets.push(bind_one(address, true)?);
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(SocketProtocol::TCP))?;
    if matches!(address.ip(), IpAddr::V6(_)) {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if shared {
        socket.listen(limits::LISTEN_BACKLOG)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_that_nobody_else_can_take() {
        let sockets = bind_all("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<u16> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert!(sockets.len() == 3 && ports.iter().all(|port| *port == ports[0]));
        let taken = bind_all(sockets[0].local_addr().unwrap(), 1).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
