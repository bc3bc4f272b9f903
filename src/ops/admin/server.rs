//! The side that answers: one thread that accepts, and a short-lived one for each connection.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{Answer, Answers, Request, pong, read_request};
use crate::io::sys;
use crate::limits;

/// After an accept that failed, as without descriptors: trying at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the socket cannot be listened on.
#[derive(Debug)]
pub enum ListenError {
    /// A running process has it.
    Live(PathBuf),
    /// Something other than a socket has its name.
    NotASocket(PathBuf),
    /// The system refused a step.
    Io {
        /// What was being done, as in "cannot {step} {path}".
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(path) => write!(
                f,
                "another lockring listens on the admin socket {}; give this one its own `state` or `admin`",
                path.display()
            ),
            Self::NotASocket(path) => {
                write!(f, "{} is in the place of the admin socket and is no socket", path.display())
            }
            Self::Io { step, path, error } => {
                write!(f, "cannot {step} the admin socket {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for ListenError {}

/// The admin socket of this process. When dropped it is no longer there.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    /// Device and inode of the socket, so that another's is not removed.
    own: Option<(u64, u64)>,
    alive: Option<Arc<()>>,
}

impl Admin {
    /// Listens at `path`. The socket of a dead process is replaced.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(path: &Path, answers: Arc<dyn Answers>) -> Result<Self, ListenError> {
        let failed = |step: &'static str| move |error| ListenError::Io { step, path: path.to_owned(), error };
        make_room(path)?;
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            // Bound by another process since it was looked at.
            ErrorKind::AddrInUse => ListenError::Live(path.to_owned()),
            _ => failed("make")(error),
        })?;
        // Whoever connects before this is told apart by its user anyway.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("make private"))?;
        let own = fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        let thread = std::thread::Builder::new().name("admin".into());
        thread.spawn(move || accept(&listener, &answers, &watched)).map_err(failed("serve"))?;
        Ok(Self { path: path.to_owned(), own, alive: Some(alive) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.alive = None;
        // Wakes the thread that accepts, so that it sees that it is over.
        let _ = UnixStream::connect(&self.path);
        let there = fs::symlink_metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        if there.is_some() && there == self.own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket of a dead process.
fn make_room(path: &Path) -> Result<(), ListenError> {
    let failed = |step: &'static str| move |error| ListenError::Io { step, path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::Live(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("replace"))
        }
        // A full backlog is a sign of life as well.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ListenError::Live(path.to_owned())),
        Err(error) => Err(failed("try")(error)),
    }
}

fn accept(listener: &UnixListener, answers: &Arc<dyn Answers>, alive: &Weak<()>) {
    let places = Arc::new(());
    for stream in listener.incoming() {
        if alive.upgrade().is_none() {
            return;
        }
        let Ok(stream) = stream else {
            std::thread::sleep(PAUSE);
            continue;
        };
        // Each connection holds one; the count is only ever too high for a moment, which refuses.
        if Arc::strong_count(&places) > limits::ADMIN_CONNECTIONS {
            let _ = reply(&stream, &refusal("too many connections at once; try again"));
            continue;
        }
        let (place, answers) = (Arc::clone(&places), Arc::clone(answers));
        let thread = std::thread::Builder::new().name("admin-request".into());
        // Without a thread the connection is closed, which the client sees.
        let _ = thread.spawn(move || {
            let _ = serve(&stream, &*answers);
            drop(place);
        });
    }
}

fn serve(stream: &UnixStream, answers: &dyn Answers) -> io::Result<()> {
    let user = sys::peer_user(stream)?;
    if user != 0 && user != sys::user_id() {
        return reply(stream, &refusal("only the user that runs lockring, and root, may ask"));
    }
    let line = match read_line(stream)? {
        Some(line) => line,
        None => return reply(stream, &refusal("the request is too long, or took too long to come")),
    };
    let answer = match read_request(&line) {
        Ok(Request::Ping {}) => pong(),
        Ok(request) => answers.answer(request),
        Err(refused) => refused,
    };
    reply(stream, &answer)
}

/// Up to the line break; `None` if it does not come in time or within bounds.
fn read_line(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let end = Instant::now() + limits::ADMIN_TIMEOUT;
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        line.extend_from_slice(piece.get(..read).unwrap_or_default());
        if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(at);
            return Ok((at <= limits::ADMIN_REQUEST_BYTES).then_some(line));
        }
        if line.len() > limits::ADMIN_REQUEST_BYTES {
            return Ok(None);
        }
    }
}

fn reply(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(limits::ADMIN_TIMEOUT))?;
    stream.write_all(&line)
}

fn refusal(text: &str) -> Answer {
    Answer::Error { text: text.to_owned() }
}
