//! Changes of directories as the kernel tells them (`inotify(7)`).

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

/// Bytes read at once: some hundred events.
const BUFFER: usize = 16 * 1024;
/// Bytes of `struct inotify_event` before the name.
const HEADER: usize = 16;
/// What counts as a change: names that come and go, files that were written, permissions.
const CHANGES: u32 = libc::IN_CLOSE_WRITE
    | libc::IN_MOVED_TO
    | libc::IN_MOVED_FROM
    | libc::IN_CREATE
    | libc::IN_DELETE
    | libc::IN_ATTRIB
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;

/// One watched directory, by its inode: watching it by another path gives the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch(i32);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened to this name in a directory.
    Name(Watch, OsString),
    /// The directory itself is gone or was moved; events of it mean nothing any more.
    Gone(Watch),
    /// The kernel dropped events.
    Lost,
}

/// A queue of events.
#[derive(Debug)]
pub struct Inotify {
    queue: File,
}

impl Inotify {
    /// An empty one.
    ///
    /// # Errors
    /// The system call's: no descriptor or instance left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call on integers.
        let number = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to us, and nobody else knows it.
        let queue = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { queue: File::from(queue) })
    }

    /// Watches a directory; the same directory is watched once.
    ///
    /// # Errors
    /// The system call's: not there, not a directory, no permission, no watch left (`ENOSPC`).
    pub fn watch(&self, directory: &Path) -> io::Result<Watch> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        // SAFETY: `path` is a string with its end that lives through the call.
        let watch = unsafe { libc::inotify_add_watch(self.queue.as_raw_fd(), path.as_ptr(), CHANGES) };
        if watch < 0 { Err(io::Error::last_os_error()) } else { Ok(Watch(watch)) }
    }

    /// Ends a watch; nothing happens if it has ended by itself.
    pub fn forget(&self, watch: Watch) {
        // SAFETY: a plain system call on integers; an unknown number is an error without effect.
        let _ = unsafe { libc::inotify_rm_watch(self.queue.as_raw_fd(), watch.0) };
    }

    /// Waits until there are events, at most `patience`; whether there may be some.
    pub fn wait(&self, patience: Duration) -> bool {
        let mut queue = libc::pollfd { fd: self.queue.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd that lives through the call.
        let ready = unsafe { libc::poll(&mut queue, 1, milliseconds) };
        ready > 0
    }

    /// All events that wait, in order.
    ///
    /// # Errors
    /// The system call's.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.queue.read(&mut buffer) {
                Ok(0) => return Ok(events),
                Ok(length) => parse(buffer.get(..length).unwrap_or_default(), &mut events),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn parse(mut bytes: &[u8], events: &mut Vec<Event>) {
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let [w0, w1, w2, w3, m0, m1, m2, m3, _, _, _, _, l0, l1, l2, l3] = *header;
        let watch = Watch(i32::from_ne_bytes([w0, w1, w2, w3]));
        let mask = u32::from_ne_bytes([m0, m1, m2, m3]);
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some((name, rest)) = rest.split_at_checked(length) else { return };
        bytes = rest;
        // The kernel fills the name up with NULs.
        let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
        let gone = libc::IN_IGNORED | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_UNMOUNT;
        if mask & libc::IN_Q_OVERFLOW != 0 {
            events.push(Event::Lost);
        } else if mask & gone != 0 {
            events.push(Event::Gone(watch));
        } else if !name.is_empty() {
            events.push(Event::Name(watch, OsString::from_vec(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{Event, Inotify};

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn names_that_change_and_directories_that_go_are_told() {
        let home = std::env::temp_dir().join(format!("lockring-inotify-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let mut inotify = Inotify::new().unwrap();
        let watch = inotify.watch(&home).unwrap();
        assert_eq!(inotify.watch(&home).unwrap(), watch);
        assert!(!inotify.wait(Duration::ZERO));
        fs::write(home.join("a"), "x").unwrap();
        fs::rename(home.join("a"), home.join("b")).unwrap();
        assert!(inotify.wait(LONG));
        let events = inotify.read().unwrap();
        for name in ["a", "b"] {
            assert!(events.contains(&Event::Name(watch, name.into())), "{name}: {events:?}");
        }
        fs::remove_dir_all(&home).unwrap();
        assert!(inotify.wait(LONG));
        assert!(inotify.read().unwrap().contains(&Event::Gone(watch)));
        assert!(inotify.watch(&home).is_err());
        inotify.forget(watch);
    }
}
