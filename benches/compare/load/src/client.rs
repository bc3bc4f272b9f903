//! One connection of the load: handshake, requests, answers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::tunnel::{State, Tunnel};

/// Bytes of a body sealed at once, and the most that waits to be sent.
const PIECE: usize = 256 * 1024;
/// Connections that leave from one local address: below the count of ephemeral ports.
const PER_ADDRESS: usize = 20_000;
/// Bytes of an answer's head.
const HEAD: usize = 64 * 1024;
/// The body that uploads repeat.
static ZEROS: [u8; PIECE] = [0; PIECE];

/// What every connection of a run asks for.
pub struct Request {
    pub port: u16,
    pub name: ServerName<'static>,
    /// The request's head.
    pub head: Vec<u8>,
    /// Bytes of its body.
    pub upload: u64,
    /// Without TLS.
    pub plain: bool,
}

/// What came of a turn.
#[derive(PartialEq)]
pub enum Progress {
    Waiting,
    /// The handshake has ended.
    Ready,
    /// The answer has ended.
    Answered,
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    pub tunnel: Tunnel,
    /// When the request under way was due; none while the connection waits.
    pub due: Option<Instant>,
    /// When the connection was opened.
    pub opened: Instant,
    /// The events asked for include room to write.
    pub writing: bool,
    ready: bool,
    /// A record that has not come whole.
    partial: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    upload: u64,
    answer: Answer,
}

/// An answer as far as it has come.
#[derive(Default)]
struct Answer {
    head: Vec<u8>,
    /// Bytes of the body still to come; none while the head lasts.
    left: Option<u64>,
    status: u16,
}

impl Answer {
    /// Takes plaintext; the count of body bytes in it.
    fn take(&mut self, input: &[u8]) -> io::Result<u64> {
        let mut body = input.len();
        if self.left.is_none() {
            self.head.extend_from_slice(input);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return if self.head.len() > HEAD { Err(io::ErrorKind::InvalidData.into()) } else { Ok(0) };
            };
            body = self.head.len() - (end + 4);
            let head = self.head.get(..end).unwrap_or_default();
            let (status, length) = read_head(head).ok_or_else(|| {
                io::Error::other(format!("not understood: {}", String::from_utf8_lossy(head)))
            })?;
            self.status = status;
            self.left = Some(length);
            self.head.clear();
        }
        let left = self.left.unwrap_or_default();
        let body = body as u64;
        self.left = Some(left.checked_sub(body).ok_or_else(|| io::Error::other("more body than announced"))?);
        Ok(body)
    }
}

/// Status and Content-Length of an answer's head.
fn read_head(head: &[u8]) -> Option<(u16, u64)> {
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked("content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    })?;
    Some((status, std::str::from_utf8(length).ok()?.trim().parse().ok()?))
}

impl Client {
    /// Opens connection number `index` and sends the first flight.
    pub fn open(config: &Arc<ClientConfig>, request: &Request, index: usize) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        if let Some(host) = u8::try_from(index / PER_ADDRESS).ok().filter(|host| *host > 0) {
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1 + host), 0))?;
        }
        sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, request.port)) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut client = Self {
            stream: TcpStream::from(socket),
            tunnel: if request.plain { Tunnel::plain() } else { Tunnel::new(config, &request.name)? },
            due: None,
            opened: Instant::now(),
            writing: false,
            ready: request.plain,
            partial: Vec::new(),
            outgoing: Vec::with_capacity(2048),
            sent: 0,
            upload: 0,
            answer: Answer::default(),
        };
        if !request.plain {
            client.tunnel.receive(&mut [], &mut client.outgoing, |_| Ok(()))?;
            client.flush()?;
        }
        Ok(client)
    }

    /// Whether the handshake has ended.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether bytes wait for room in the socket.
    pub fn is_blocked(&self) -> bool {
        self.sent < self.outgoing.len() || self.upload > 0
    }

    /// Status of the last answer.
    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// Sends the request that was due at `due`.
    pub fn begin(&mut self, request: &Request, due: Instant) -> io::Result<()> {
        self.due = Some(due);
        self.answer = Answer { head: std::mem::take(&mut self.answer.head), left: None, status: 0 };
        self.upload = request.upload;
        self.tunnel.send(&request.head, &mut self.outgoing)?;
        self.flush().map(drop)
    }

    /// Sends close_notify; the connection is to be dropped then.
    pub fn close(&mut self) -> io::Result<()> {
        self.tunnel.close(&mut self.outgoing)?;
        self.flush().map(drop)
    }

    /// Writes and reads once. `received` and `sent` count bytes of bodies. An error ends the connection.
    pub fn turn(&mut self, scratch: &mut [u8], received: &mut u64, sent: &mut u64) -> io::Result<Progress> {
        *sent += self.flush()?;
        let before = self.partial.len();
        let (kept, room) = scratch.split_at_mut_checked(before).ok_or(io::ErrorKind::OutOfMemory)?;
        let count = match self.stream.read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                return Ok(Progress::Waiting);
            }
            Err(error) => return Err(error),
        };
        kept.copy_from_slice(&self.partial);
        let input = scratch.get_mut(..before + count).unwrap_or_default();
        let answer = &mut self.answer;
        let (used, state) = self.tunnel.receive(input, &mut self.outgoing, |payload| {
            *received += answer.take(payload)?;
            Ok(())
        })?;
        self.partial.clear();
        self.partial.extend_from_slice(input.get(used..).unwrap_or_default());
        if state == State::Closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state == State::Ready && !self.ready {
            self.ready = true;
            return Ok(Progress::Ready);
        }
        *sent += self.flush()?;
        let answered = self.due.is_some() && self.answer.left == Some(0);
        Ok(if answered { Progress::Answered } else { Progress::Waiting })
    }

    /// Sends what the socket takes, one piece of an upload at most; the count of body bytes sealed.
    fn flush(&mut self) -> io::Result<u64> {
        let mut sealed = 0;
        if self.sent == self.outgoing.len() && self.upload > 0 {
            sealed = self.upload.min(PIECE as u64);
            let piece = ZEROS.get(..sealed as usize).unwrap_or_default();
            self.outgoing.clear();
            self.sent = 0;
            self.tunnel.send(piece, &mut self.outgoing)?;
            self.upload -= sealed;
        }
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(sealed);
                }
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(sealed)
    }
}
