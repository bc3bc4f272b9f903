//! The side that asks.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Answer, Request, request_line};
use crate::limits;

/// Why nothing was done.
#[derive(Debug)]
pub enum CallError {
    /// Nobody listens there.
    NotRunning(PathBuf),
    /// This user may not connect.
    Denied(PathBuf),
    /// The system refused a step.
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// What came back is no answer.
    NoAnswer(PathBuf),
    /// It was understood and refused.
    Refused(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(path) => write!(
                f,
                "no lockring listens on {}; is it running, and with this configuration?",
                path.display()
            ),
            Self::Denied(path) => write!(
                f,
                "permission denied on {}; run this as root or as the user that runs lockring",
                path.display()
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::NoAnswer(path) => write!(f, "{}: the answer cannot be understood", path.display()),
            Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CallError {}

/// Asks the lockring that listens at `path`. An answer that says why it refuses is an error.
///
/// # Errors
/// [`CallError`].
pub fn call(path: &Path, request: &Request) -> Result<Answer, CallError> {
    let io_error = |error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => CallError::NotRunning(path.to_owned()),
        ErrorKind::PermissionDenied => CallError::Denied(path.to_owned()),
        _ => CallError::Io { path: path.to_owned(), error },
    };
    let mut stream = UnixStream::connect(path).map_err(io_error)?;
    stream.set_write_timeout(Some(limits::ADMIN_TIMEOUT)).map_err(io_error)?;
    stream.set_read_timeout(Some(limits::ADMIN_ANSWER_TIMEOUT)).map_err(io_error)?;
    let sent = stream.write_all(&request_line(request));
    let mut answer = Vec::new();
    let read = stream.take(limits::ADMIN_ANSWER_BYTES).read_to_end(&mut answer);
    // A server that refuses at once closes before it has read the request. The kernel tells that as an error, of the
    // sending or behind the answer, which is whole all the same.
    if !answer.ends_with(b"\n") {
        sent.and(read).map_err(io_error)?;
        return Err(CallError::NoAnswer(path.to_owned()));
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Error { text }) => Err(CallError::Refused(text)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(CallError::NoAnswer(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::super::{Admin, Answers, ListenError, VERSION};
    use super::*;
    use crate::acme::status::Status;
    use crate::acme::store::tests::Scratch;

    struct Echo;

    impl Answers for Echo {
        fn answer(&self, request: Request) -> Answer {
            match request {
                Request::Renew { name: Some(name), .. } => Answer::Error { text: name },
                Request::Status {} => {
                    Answer::Status { status: Box::new(Status { at: 7, ..Status::default() }) }
                }
                _ => Answer::Revoked,
            }
        }
    }

    fn listen(path: &Path) -> Result<Admin, ListenError> {
        Admin::listen(path, Arc::new(Echo))
    }

    #[test]
    fn requests_are_answered_and_the_socket_is_private_and_goes() {
        let scratch = Scratch::new("admin-call");
        let path = scratch.path.join("admin.sock");
        let admin = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Answer::Pong { version, pid, .. } = call(&path, &Request::Ping {}).unwrap() else {
            panic!("pong")
        };
        assert_eq!((version, pid), (VERSION, std::process::id()));
        let Answer::Status { status } = call(&path, &Request::Status {}).unwrap() else { panic!("status") };
        assert_eq!(status.at, 7);
        let renew = Request::Renew { name: Some("no such".to_owned()), force: false };
        assert_eq!(call(&path, &renew).unwrap_err().to_string(), "no such");
        drop(admin);
        assert!(!path.exists());
        assert!(matches!(call(&path, &Request::Ping {}), Err(CallError::NotRunning(_))));
    }

    #[test]
    fn a_live_socket_stays_and_a_dead_one_is_replaced() {
        let scratch = Scratch::new("admin-stale");
        let path = scratch.path.join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(call(&path, &Request::Ping {}), Err(CallError::NotRunning(_))));
        let admin = listen(&path).unwrap();
        let error = listen(&path).unwrap_err();
        assert!(matches!(error, ListenError::Live(_)) && error.to_string().contains("admin.sock"), "{error}");
        assert!(call(&path, &Request::Ping {}).is_ok(), "the live one still answers");
        drop(admin);
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path), Err(ListenError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn one_that_was_replaced_does_not_take_the_other_along() {
        let scratch = Scratch::new("admin-replaced");
        let path = scratch.path.join("admin.sock");
        let first = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = listen(&path).unwrap();
        drop(first);
        assert!(call(&path, &Request::Ping {}).is_ok());
    }

    #[test]
    fn hostile_requests_are_refused_and_cost_no_other_client_anything() {
        let scratch = Scratch::new("admin-hostile");
        let path = scratch.path.join("admin.sock");
        let _admin = listen(&path).unwrap();
        let ask = |bytes: &[u8]| {
            let mut stream = UnixStream::connect(&path).unwrap();
            // The server may refuse before it has read everything.
            let _ = stream.write_all(bytes);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        assert!(ask(b"{\"version\":9,\"request\":\"ping\"}\n").contains("speaks version 1"));
        assert!(ask(b"\xff\xfe\n").contains("JSON"));
        let long = [b"x".repeat(limits::ADMIN_REQUEST_BYTES + 1), b"\n".to_vec()].concat();
        assert!(ask(&long).contains("too long"));
        assert!(ask(&[b"[".repeat(4000), b"\n".to_vec()].concat()).contains("JSON"));
        let waiting: Vec<UnixStream> =
            (0..limits::ADMIN_CONNECTIONS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let refused = (0..100).find_map(|_| {
            std::thread::yield_now();
            match call(&path, &Request::Ping {}) {
                Err(CallError::Refused(text)) => Some(text),
                _ => None,
            }
        });
        assert!(refused.is_some_and(|text| text.contains("too many")));
        drop(waiting);
        let again = (0..10_000).any(|_| {
            std::thread::yield_now();
            call(&path, &Request::Ping {}).is_ok()
        });
        assert!(again, "places are given back");
    }
}
