//! The question to the operator's application whether a name may have a certificate.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HeaderValue, USER_AGENT};
use http::{Request, Uri};

use super::http_client::Transport;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// The URL of the configuration is none that can be asked.
    Url,
    /// The application answered with this status, which is neither yes nor no.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// It cannot be reached, or broke off.
    Transport(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("the URL cannot be asked"),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Timeout => f.write_str("it did not answer in time"),
            Self::Transport(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks `url` whether `name` may have a certificate; `client`: who wants it, if somebody waits. A status of
/// 200 to 299 is yes. No redirect is followed: it is a no, as any other status below 500.
///
/// # Errors
/// [`AskError`]: no answer, which is not a no.
pub async fn ask(
    transport: &Arc<dyn Transport>,
    url: &str,
    name: &str,
    client: Option<IpAddr>,
    patience: Duration,
) -> Result<bool, AskError> {
    let agent = concat!("lockring/", env!("CARGO_PKG_VERSION"));
    let request = Request::get(question(url, name, client).ok_or(AskError::Url)?)
        .header(USER_AGENT, HeaderValue::from_static(agent))
        .header(ACCEPT, HeaderValue::from_static("*/*"))
        // A connection kept would break under a question when the application closes it, and a question that
        // breaks refuses the name for minutes.
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Bytes::new())
        .map_err(|_| AskError::Url)?;
    let answer = tokio::time::timeout(patience, transport.send(request)).await;
    let answer = answer.map_err(|_| AskError::Timeout)?;
    let status = answer.map_err(|error| AskError::Transport(error.to_string()))?.status();
    if status.is_server_error() { Err(AskError::Status(status.as_u16())) } else { Ok(status.is_success()) }
}

/// `url` with `domain` and `remote_ip` in its query, behind what is there.
fn question(url: &str, name: &str, client: Option<IpAddr>) -> Option<Uri> {
    let url = url.split('#').next().unwrap_or_default();
    let mut text = url.to_owned();
    text.push(match url.split_once('?') {
        None => '?',
        Some(_) => '&',
    });
    text.push_str("domain=");
    encode(&mut text, name);
    if let Some(client) = client {
        text.push_str("&remote_ip=");
        encode(&mut text, &client.to_canonical().to_string());
    }
    text.parse().ok()
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
fn encode(out: &mut String, text: &str) {
    use fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // A string takes everything.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::{AskError, ask, question};
    use crate::acme::http_client::{Exchange, Https, Proxies, Transport, TransportError};

    #[test]
    fn the_question_names_the_name_and_the_client() {
        let asked =
            |url: &str, ip: &str| question(url, "a.b-c.test", Some(ip.parse().unwrap())).unwrap().to_string();
        assert_eq!(asked("http://h/p", "192.0.2.1"), "http://h/p?domain=a.b-c.test&remote_ip=192.0.2.1");
        assert_eq!(
            asked("http://h:1/p?x=1#y", "::1"),
            "http://h:1/p?x=1&domain=a.b-c.test&remote_ip=%3A%3A1"
        );
        assert_eq!(asked("http://h", "::ffff:192.0.2.1"), "http://h/?domain=a.b-c.test&remote_ip=192.0.2.1");
        assert_eq!(
            question("http://h/", "a b&c=d\r\n", None).unwrap().to_string(),
            "http://h/?domain=a%20b%26c%3Dd%0D%0A"
        );
        assert_eq!(question("http://h/ x", "a", None), None);
    }

    struct Fixed(Option<u16>);

    impl Transport for Fixed {
        fn send(&self, request: Request<Bytes>) -> Exchange {
            assert_eq!(request.uri().query(), Some("domain=a.test&remote_ip=192.0.2.1"));
            let status = self.0;
            Box::pin(async move {
                match status {
                    Some(0) => std::future::pending().await,
                    Some(status) => Ok(Response::builder().status(status).body(Bytes::new()).unwrap()),
                    None => Err(TransportError::Connect("refused".into())),
                }
            })
        }
    }

    #[test]
    fn only_success_is_a_yes_and_a_failure_is_no_answer() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let asked = |status| {
            let transport: Arc<dyn Transport> = Arc::new(Fixed(status));
            let client = Some([192, 0, 2, 1].into());
            runtime.block_on(ask(&transport, "http://h/p", "a.test", client, Duration::from_secs(5)))
        };
        assert_eq!((asked(Some(200)), asked(Some(204)), asked(Some(299))), (Ok(true), Ok(true), Ok(true)));
        assert_eq!((asked(Some(302)), asked(Some(403)), asked(Some(404))), (Ok(false), Ok(false), Ok(false)));
        assert_eq!(asked(Some(503)), Err(AskError::Status(503)));
        assert_eq!(asked(Some(0)), Err(AskError::Timeout));
        assert_eq!(asked(None), Err(AskError::Transport("refused".into())));
    }

    #[test]
    fn plain_http_is_spoken_and_an_authority_is_never_asked_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/may", listener.local_addr().unwrap());
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                String::from_utf8(head).unwrap()
            });
            let https = Https::new(None, Proxies::default(), Duration::from_secs(5)).unwrap();
            let strict: Arc<dyn Transport> = Arc::new(https.clone());
            let client = Some([192, 0, 2, 1].into());
            let refused = ask(&strict, &url, "a.test", client, Duration::from_secs(5)).await;
            assert_eq!(refused, Err(AskError::Transport("not an https URL".into())));
            let transport: Arc<dyn Transport> = Arc::new(https.or_plain());
            assert_eq!(ask(&transport, &url, "a.test", client, Duration::from_secs(5)).await, Ok(true));
            let head = server.await.unwrap();
            assert!(head.starts_with("GET /may?domain=a.test&remote_ip=192.0.2.1 HTTP/1.1\r\n"), "{head}");
            assert!(head.to_ascii_lowercase().contains("host: 127.0.0.1:"), "{head}");
        });
    }
}
