//! Between the ACME library and a [`Transport`]: holds every answer to our bounds, keeps what the library
//! would lose, and turns whatever is no success into a [`CaError`] that travels through the library.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use instant_acme as library;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::classify;
use super::date;
use super::error::{CaError, Facts, Failure, Problem, Step, bounded};
use crate::acme::http_client::{Transport, TransportError};
use crate::limits;

const AGENT: &str = concat!("lockring/", env!("CARGO_PKG_VERSION"), " instant-acme/0.8.5");

/// What of a directory (RFC 8555 §7.1.1) the library keeps to itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    #[serde(default)]
    new_nonce: String,
    /// RFC 9773 §4.2.
    pub(super) renewal_info: Option<String>,
    #[serde(default)]
    pub(super) meta: Meta,
}

/// `meta` of a directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    #[serde(default)]
    pub(super) caa_identities: Vec<String>,
}

/// One authority's connection for the life of a session; copies share what was seen.
#[derive(Clone)]
pub(super) struct Bridge {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    directory_url: String,
    timeout: Duration,
    /// The directory's answer and what was read from it.
    directory: watch::Sender<Option<(Bytes, Arc<Directory>)>>,
    seen: watch::Sender<Seen>,
}

/// What the last answer said beside its body.
#[derive(Clone, Default)]
struct Seen {
    url: String,
    retry_after: Option<Duration>,
    /// `Date`, and when it was read.
    date: Option<(u64, Instant)>,
}

impl Bridge {
    pub(super) fn new(transport: Arc<dyn Transport>, directory_url: &str, timeout: Duration) -> Self {
        let shared = Shared {
            transport,
            directory_url: directory_url.to_owned(),
            timeout,
            directory: watch::Sender::new(None),
            seen: watch::Sender::new(Seen::default()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The directory, once it was fetched.
    pub(super) fn directory(&self) -> Option<Arc<Directory>> {
        self.shared.directory.borrow().as_ref().map(|(_, directory)| Arc::clone(directory))
    }

    /// `Retry-After` of the last answer; none if that came from another URL than `url`.
    pub(super) fn retry_after(&self, url: Option<&str>) -> Option<Duration> {
        let seen = self.shared.seen.borrow();
        seen.retry_after.filter(|_| url.is_none_or(|url| url == seen.url))
    }

    /// `Date` of the last answer that had one, and the time since.
    pub(super) fn authority_time(&self) -> Option<u64> {
        let (date, read) = self.shared.seen.borrow().date?;
        Some(date.saturating_add(read.elapsed().as_secs()))
    }

    /// A plain GET, without the library.
    pub(super) async fn get(&self, url: &str, step: Step) -> Result<Response<Bytes>, CaError> {
        let request = Request::get(url).body(Bytes::new());
        let request = request.map_err(|_| CaError::new(Failure::Protocol, step, "not a URL"))?;
        let fetched = self.fetch(request).await;
        fetched.map_err(|error| classify::at(error, step))
    }

    /// A success, or a refused nonce, which the library has to see to use the next one.
    async fn fetch(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, CaError> {
        let url = request.uri().to_string();
        let is_directory = url == self.shared.directory_url;
        // One session sees one directory, however often an operation is tried.
        let kept = if is_directory { self.shared.directory.borrow().clone() } else { None };
        if let Some((body, _)) = kept {
            return Ok(Response::new(body));
        }
        let asked = Asked {
            step: self.step(&url),
            path: bounded(request.uri().path().to_owned()),
            is_head: request.method() == Method::HEAD,
        };
        if !is_https(request.uri()) {
            return Err(asked.failed(Failure::Protocol, TransportError::NotHttps.to_string()));
        }
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let exchange = self.shared.transport.send(request);
        let answer = match tokio::time::timeout(self.shared.timeout, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(asked.failed(transport_failure(&error), error.to_string())),
            Err(_) => {
                let text = format!("no answer within {} s", self.shared.timeout.as_secs());
                return Err(asked.failed(Failure::Timeout, text));
            }
        };
        self.remember(url, answer.headers());
        let answer = asked.judge(answer)?;
        if is_directory {
            let read = serde_json::from_slice(answer.body());
            let directory: Directory =
                read.map_err(|_| asked.failed(Failure::Protocol, "not a directory in JSON".to_owned()))?;
            self.shared.directory.send_replace(Some((answer.body().clone(), Arc::new(directory))));
        }
        Ok(answer)
    }

    /// What only the directory tells; the operation knows the rest.
    fn step(&self, url: &str) -> Step {
        let is_nonce = self.directory().is_some_and(|directory| directory.new_nonce == url);
        match url == self.shared.directory_url {
            true => Step::Directory,
            false if is_nonce => Step::NewNonce,
            false => Step::Order,
        }
    }

    fn remember(&self, url: String, headers: &HeaderMap) {
        let date = date_of(headers).map(|date| (date, Instant::now()));
        let retry_after = retry_after_of(headers);
        self.shared.seen.send_modify(|seen| {
            *seen = Seen { url, retry_after, date: date.or(seen.date) };
        });
    }
}

impl library::HttpClient for Bridge {
    fn request(
        &self,
        request: Request<library::BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<library::BytesResponse, library::Error>> + Send>> {
        let bridge = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let fetched = bridge.fetch(Request::from_parts(parts, body)).await;
            let answer = fetched.map_err(|error| library::Error::Other(Box::new(error)))?;
            let (parts, body) = answer.into_parts();
            Ok(library::BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// The request that an answer belongs to.
struct Asked {
    step: Step,
    path: String,
    is_head: bool,
}

impl Asked {
    fn failed(&self, failure: Failure, text: String) -> CaError {
        let mut error = CaError::new(failure, self.step, text);
        error.facts.path = Some(self.path.clone());
        error
    }

    fn judge(&self, answer: Response<Bytes>) -> Result<Response<Bytes>, CaError> {
        let status = answer.status();
        if answer.body().len() > limits::ACME_ANSWER_BYTES {
            return Err(self.failed(Failure::Protocol, TransportError::TooLarge.to_string()));
        }
        if status.is_success() {
            return Ok(if self.is_head { as_ok(answer) } else { answer });
        }
        let problem = problem_of(&answer);
        if status == StatusCode::BAD_REQUEST && problem.as_ref().and_then(Problem::word) == Some("badNonce") {
            return Ok(answer);
        }
        let failure = classify::failure(status.as_u16(), problem.as_ref());
        let text = problem.is_none().then(|| describe(&answer));
        let facts = Facts {
            step: self.step,
            path: Some(self.path.clone()),
            status: Some(status.as_u16()),
            problem,
            text,
            retry_after: retry_after_of(answer.headers()),
            date: date_of(answer.headers()),
        };
        Err(CaError { failure, facts: Box::new(facts) })
    }
}

/// The library takes a nonce from a 200 only, some authorities answer HEAD with 204.
fn as_ok(mut answer: Response<Bytes>) -> Response<Bytes> {
    *answer.status_mut() = StatusCode::OK;
    answer
}

fn is_https(url: &Uri) -> bool {
    url.scheme_str() == Some("https") && url.authority().is_some()
}

fn transport_failure(error: &TransportError) -> Failure {
    match error {
        TransportError::Connect(_) => Failure::Connect,
        TransportError::ConnectTimeout => Failure::Timeout,
        TransportError::Tls(_) => Failure::Tls,
        TransportError::NotHttps | TransportError::TooLarge | TransportError::Http(_) => Failure::Protocol,
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    text_of(headers, &CONTENT_TYPE)?.split(';').next().map(str::trim)
}

/// The problem document, if the answer says that it is JSON.
fn problem_of(answer: &Response<Bytes>) -> Option<Problem> {
    let kind = media_type(answer.headers())?.to_ascii_lowercase();
    let is_json = kind == "application/problem+json" || kind == "application/json";
    if is_json { classify::read_problem(answer.body()) } else { None }
}

/// An answer without a problem document in our words; its body is for browsers.
fn describe(answer: &Response<Bytes>) -> String {
    if answer.status().is_redirection() {
        return "a redirect, which is not followed".to_owned();
    }
    format!("no problem document ({})", media_type(answer.headers()).unwrap_or("no content type"))
}

fn date_of(headers: &HeaderMap) -> Option<u64> {
    date::http_date(text_of(headers, &DATE)?)
}

/// `Retry-After` (RFC 9110 §10.2.3) from now on: seconds, or a date, which is counted from the answer's own
/// `Date`, so that neither clock has to be right.
fn retry_after_of(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, &RETRY_AFTER)?;
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => u64::MAX,
        Err(_) => date::http_date(text)?.saturating_sub(date_of(headers).or_else(classify::unix_now)?),
    };
    Some(Duration::from_secs(seconds).min(limits::ACME_RETRY_AFTER))
}
