//! The origin: plain HTTP/1.1 with keep-alive. `GET /N` answers N bytes; a body that is sent is read and
//! thrown away before the answer.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::args::Args;

/// Events taken at once.
const EVENTS: usize = 256;
/// Bytes read at once: as much as a proxy may send at once.
const SCRATCH: usize = 256 * 1024;
/// The piece that long bodies repeat.
const PIECE: usize = 1024 * 1024;
/// Bytes of a request's head.
const HEAD: usize = 64 * 1024;
/// The listener's number among the events.
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// A head that has not ended yet.
    head: Vec<u8>,
    /// Bytes of the request's body still to come.
    body: u64,
    /// Bytes of the answer that is due after the body.
    answer: u64,
    /// The answer's head, and how many bytes of its body are to follow.
    out: Vec<u8>,
    rest: u64,
    writing: bool,
}

/// Serves on `127.0.0.1:--port` until it is ended.
pub fn serve(args: &Args) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", args.needed("port")?))?;
    // The standard library asks for 128, too few for a proxy that dials hundreds at once.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut scratch = vec![0; SCRATCH];
    let piece = vec![b'x'; PIECE];
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            if event.data.u64() == LISTENER {
                accept(&listener, &poll, &mut connections, &mut free)?;
                continue;
            }
            let index = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
            let Some(slot) = connections.get_mut(index) else { continue };
            let Some(connection) = slot else { continue };
            if connection.turn(&poll, index, &mut scratch, &piece).is_err() {
                *slot = None;
                free.push(index);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &impl std::os::fd::AsFd,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        epoll::add(poll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        let connection = Connection {
            stream,
            head: Vec::new(),
            body: 0,
            answer: 0,
            out: Vec::new(),
            rest: 0,
            writing: false,
        };
        if let Some(slot) = connections.get_mut(index) {
            *slot = Some(connection);
        }
    }
    Ok(())
}

impl Connection {
    /// Reads and writes once; an error ends the connection.
    fn turn(
        &mut self,
        poll: &impl std::os::fd::AsFd,
        index: usize,
        scratch: &mut [u8],
        piece: &[u8],
    ) -> io::Result<()> {
        if !self.writing {
            match self.stream.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.take(scratch.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let blocked = self.flush(piece)?;
        if blocked != self.writing {
            self.writing = blocked;
            let flags = if blocked { EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poll, &self.stream, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    /// Takes bytes of a body or head; a proxy sends no second request before the answer.
    fn take(&mut self, input: &[u8]) -> io::Result<()> {
        let mut input = input;
        if self.body == 0 {
            self.head.extend_from_slice(input);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return if self.head.len() > HEAD { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) };
            };
            let head = String::from_utf8_lossy(self.head.get(..end).unwrap_or_default()).to_ascii_lowercase();
            let path = head.split(' ').nth(1).unwrap_or_default();
            self.answer = path.trim_start_matches('/').parse().unwrap_or(0);
            self.body = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(Ok(0), |value| value.trim().parse())
                .map_err(io::Error::other)?;
            let after = self.head.len() - (end + 4);
            self.head.clear();
            input = input.get(input.len() - after.min(input.len())..).unwrap_or_default();
            if self.body == 0 {
                self.answer();
                return Ok(());
            }
        }
        self.body = self.body.saturating_sub(input.len() as u64);
        if self.body == 0 {
            self.answer();
        }
        Ok(())
    }

    fn answer(&mut self) {
        let length = self.answer;
        self.out.extend_from_slice(
            format!(
                "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                 Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
            )
            .as_bytes(),
        );
        self.rest = length;
    }

    /// Sends what is due; true when the socket takes no more.
    fn flush(&mut self, piece: &[u8]) -> io::Result<bool> {
        // A short body goes out with its head in one piece.
        if !self.out.is_empty() && self.rest > 0 {
            let count = self.rest.min(16 * 1024) as usize;
            self.out.extend_from_slice(piece.get(..count).unwrap_or_default());
            self.rest -= count as u64;
        }
        while !self.out.is_empty() || self.rest > 0 {
            let count = self.rest.min(piece.len() as u64) as usize;
            let data = if self.out.is_empty() {
                piece.get(..count).unwrap_or_default()
            } else {
                self.out.as_slice()
            };
            let written = match self.stream.write(data) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            if self.out.is_empty() {
                self.rest -= written as u64;
            } else {
                drop(self.out.drain(..written));
            }
        }
        Ok(false)
    }
}
