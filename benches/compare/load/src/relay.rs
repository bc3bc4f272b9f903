//! A bare TCP relay, the floor below every proxy: one thread, one epoll, one connection to the origin for
//! each client's, bytes read and written as they come. No TLS, no HTTP, no memory of what passed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::args::Args;

/// Events taken at once.
const EVENTS: usize = 256;
/// Bytes read at once: the size at which a relay of long bodies costs least.
const SCRATCH: usize = 256 * 1024;
/// The listener's number among the events.
const LISTENER: u64 = u64::MAX;

/// One end; the other one has the number beside it (2n and 2n + 1).
struct End {
    stream: TcpStream,
    /// What this end has still to take; while there is some, the other end is not read.
    pending: Vec<u8>,
    flags: EventFlags,
}

/// Relays `127.0.0.1:--port` to `127.0.0.1:--to` until it is ended.
pub fn serve(args: &Args) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", args.needed("port")?))?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let to: u16 = args.needed("to")?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut ends: Vec<Option<End>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut scratch = vec![0; SCRATCH];
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            if event.data.u64() == LISTENER {
                accept(&listener, to, &poll, &mut ends, &mut free)?;
                continue;
            }
            let index = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
            if turn(&mut ends, &poll, index, &mut scratch).is_err() {
                let first = index & !1;
                for end in [first, first + 1] {
                    ends.get_mut(end).map(Option::take);
                }
                free.push(first);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    to: u16,
    poll: &impl AsFd,
    ends: &mut Vec<Option<End>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    while let Ok((client, _)) = listener.accept() {
        let first = free.pop().unwrap_or_else(|| {
            ends.extend([None, None]);
            ends.len() - 2
        });
        for (index, stream) in [(first, client), (first + 1, TcpStream::connect(("127.0.0.1", to))?)] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let flags = EventFlags::IN;
            epoll::add(poll, &stream, EventData::new_u64(index as u64), flags)?;
            if let Some(slot) = ends.get_mut(index) {
                *slot = Some(End { stream, pending: Vec::new(), flags });
            }
        }
    }
    Ok(())
}

/// Reads and writes once; an error ends both sides.
fn turn(ends: &mut [Option<End>], poll: &impl AsFd, index: usize, scratch: &mut [u8]) -> io::Result<()> {
    let first = index & !1;
    let Some([Some(left), Some(right)]) = ends.get_mut(first..first + 2) else { return Ok(()) };
    let (this, other) = if index == first { (left, right) } else { (right, left) };
    if !this.pending.is_empty() {
        let taken = written(this.stream.write(&this.pending))?;
        drop(this.pending.drain(..taken));
    }
    if other.pending.is_empty() {
        match this.stream.read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let bytes = scratch.get(..count).unwrap_or_default();
                let taken = written(other.stream.write(bytes))?;
                other.pending.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let blocked = (!this.pending.is_empty(), !other.pending.is_empty());
    arm(this, poll, index, blocked.0, blocked.1)?;
    arm(other, poll, index ^ 1, blocked.1, blocked.0)
}

fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Asks for room while bytes wait for `end`, and for bytes unless they would wait for the other one.
fn arm(end: &mut End, poll: &impl AsFd, index: usize, waits: bool, other_waits: bool) -> io::Result<()> {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::OUT, waits);
    flags.set(EventFlags::IN, !other_waits);
    if flags != end.flags {
        end.flags = flags;
        epoll::modify(poll, &end.stream, EventData::new_u64(index as u64), flags)?;
    }
    Ok(())
}
