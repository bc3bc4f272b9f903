//! What a well-formed response head means for the connection (RFC 9112 §6.3, §9.3).

use super::connection::{members, trim};
use super::framing::{Framing, FramingFields};
use crate::http::field::Name;
use crate::http::head::{ResponseHead, Version};
use crate::http::method::Method;

pub use super::connection::ConnectionOptions;
pub use super::error::{FramingError, ResponseError};

/// A response that has one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// How the body ends.
    pub framing: Framing,
    /// The length that the head announces although no body follows, in an answer to HEAD or a 304
    /// (RFC 9110 §8.6); it may be passed on.
    pub announced_length: Option<u64>,
    /// Whether the connection can carry another request after this response.
    pub keep_alive: bool,
    /// Seconds that the server keeps an idle connection, from `Keep-Alive: timeout=`.
    pub keep_alive_timeout: Option<u32>,
    /// Options of the `Connection` field.
    pub connection: ConnectionOptions,
    /// A 1xx other than 101: another head follows.
    pub interim: bool,
    /// A 101: what follows is another protocol.
    pub switching: bool,
}

/// Reads what `head`, with spans over `bytes`, means as the answer to a request with `method`.
///
/// # Errors
/// If the framing fields contradict each other or the version, even where no body follows.
pub fn interpret(bytes: &[u8], head: &ResponseHead, method: Method) -> Result<Response, ResponseError> {
    let mut fields = FramingFields::default();
    let mut connection = ConnectionOptions::default();
    let mut keep_alive_timeout = None;
    for line in &head.fields {
        let taken = match line.known {
            Name::ContentLength => fields.content_length(line, bytes),
            Name::TransferEncoding => fields.transfer_encoding(line, bytes),
            Name::Connection => {
                connection.add(line.value.of(bytes));
                Ok(())
            }
            Name::KeepAlive => {
                keep_alive_timeout = keep_alive_timeout.or_else(|| timeout(line.value.of(bytes)));
                Ok(())
            }
            _ => Ok(()),
        };
        taken.map_err(|kind| ResponseError { kind, at: fields.at() })?;
    }
    let framing = fields
        .of_response(head.version, head.status, method)
        .map_err(|kind| ResponseError { kind, at: fields.at() })?;
    let describes_absent_body = head.status == 304 || (method == Method::Head && head.status >= 200);
    let switching = head.status == 101;
    Ok(Response {
        framing,
        announced_length: fields.length().filter(|_| describes_absent_body && head.status != 204),
        keep_alive: connection.persists(head.version) && framing != Framing::UntilClose && !switching,
        keep_alive_timeout,
        connection,
        interim: head.status < 200 && !switching,
        switching,
    })
}

/// Calls [`interpret`] on whatever head `data` has, and asserts what must hold of the answer.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    use super::head::{HeadLimits, HeadReader};
    use crate::wire::Parse;
    let limits = HeadLimits { head: 4096, target: 1024, fields: 32 };
    let mut head = ResponseHead::default();
    let Ok(Parse::Done { .. }) = HeadReader::default().response(data, &limits, &mut head) else { return };
    for method in [Method::Get, Method::Head] {
        let Ok(response) = interpret(data, &head, method) else { continue };
        let bodiless = method == Method::Head || head.status < 200 || matches!(head.status, 204 | 304);
        assert_eq!(response.framing == Framing::None, bodiless, "rule 1 of RFC 9112 section 6.3");
        assert!(!(response.keep_alive && response.framing == Framing::UntilClose));
        assert!(head.version != Version::Http10 || response.framing != Framing::Chunked);
    }
}

/// The `timeout` parameter of a `Keep-Alive` value, in seconds. The field has no RFC of its own; it is
/// a hint, so a malformed one is not there.
fn timeout(value: &[u8]) -> Option<u32> {
    members(value).find_map(|member| {
        let equals = member.iter().position(|&byte| byte == b'=')?;
        let (name, seconds) = member.split_at_checked(equals)?;
        let digits = trim(seconds.get(1..)?);
        let is_timeout = trim(name).eq_ignore_ascii_case(b"timeout") && digits.iter().all(u8::is_ascii_digit);
        if is_timeout { str::from_utf8(digits).ok()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::timeout;

    #[test]
    fn keep_alive_timeouts_are_hints() {
        assert_eq!(timeout(b"timeout=5, max=100"), Some(5));
        assert_eq!(timeout(b"max=100 , Timeout = 75"), Some(75));
        for none in ["", "timeout", "timeout=", "timeout=-1", "timeout=+1", "timeout=99999999999", "x=1"] {
            assert_eq!(timeout(none.as_bytes()), None, "{none}");
        }
    }
}
