//! The path under which a certificate authority looks for HTTP-01 tokens (RFC 8555 §8.3). On plain
//! connections a token that is known here is answered before anything else is asked: whatever the host is,
//! and whether or not the site redirects. Any other request below that path is an ordinary one, because an
//! app may have certificates of its own to get.

use std::collections::HashMap;
use std::sync::Arc;

use crate::http::method::Method;

/// Where tokens live.
pub const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// Bytes of a token: RFC 8555 asks for 128 bits of randomness, authorities send 43.
const TOKEN_BYTES: usize = 128;

/// Key authorizations by token.
type Answers = HashMap<Box<[u8]>, Box<str>>;

/// Answers by token. A copy shares them.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    answers: Option<Arc<Answers>>,
}

/// No token at all.
pub static NO_TOKENS: Tokens = Tokens { answers: None };

impl Tokens {
    /// The key authorization to answer a request with, if it asks for a known token. `path` is as it was
    /// sent: an authority has no reason to write it in another way.
    #[must_use]
    pub fn answer(&self, method: Method, path: &[u8]) -> Option<&str> {
        let answers = self.answers.as_ref()?;
        let token = path.strip_prefix(PREFIX)?;
        if !matches!(method, Method::Get | Method::Head) {
            return None;
        }
        answers.get(token).map(|answer| &**answer)
    }

    /// `token` is answered by `key_authorization`; whether it can be a token: 1 to 128 bytes of the
    /// base64url alphabet.
    pub fn put(&mut self, token: &str, key_authorization: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = (1..=TOKEN_BYTES).contains(&token.len()) && token.bytes().all(plain);
        if fits {
            let answers = Arc::make_mut(self.answers.get_or_insert_default());
            answers.insert(token.as_bytes().into(), key_authorization.into());
        }
        fits
    }

    /// `token` is not answered any more; whether it was.
    pub fn end(&mut self, token: &str) -> bool {
        let Some(answers) = &mut self.answers else { return false };
        if !answers.contains_key(token.as_bytes()) {
            return false;
        }
        Arc::make_mut(answers).remove(token.as_bytes());
        if answers.is_empty() {
            self.answers = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{NO_TOKENS, Tokens};
    use crate::http::method::Method;

    #[test]
    fn known_tokens_are_answered_under_the_exact_path() {
        let mut tokens = Tokens::default();
        assert!(tokens.put("a-B_9", "a-B_9.thumb"));
        let get = |path: &str| tokens.answer(Method::Get, path.as_bytes());
        assert_eq!(get("/.well-known/acme-challenge/a-B_9"), Some("a-B_9.thumb"));
        for path in [
            "/.well-known/acme-challenge/a-b_9",
            "/.well-known/acme-challenge/a-B_9/",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge",
            "/.well-known/acme-challenges/a-B_9",
            "/.well-known//acme-challenge/a-B_9",
            "/x/.well-known/acme-challenge/a-B_9",
            "/.well-known/acme-challenge/%61-B_9",
            "a-B_9",
        ] {
            assert_eq!(get(path), None, "{path}");
        }
        let path = b"/.well-known/acme-challenge/a-B_9";
        assert_eq!(tokens.answer(Method::Head, path), Some("a-B_9.thumb"));
        assert_eq!(tokens.answer(Method::Post, path), None);
        assert_eq!(NO_TOKENS.answer(Method::Get, path), None);
        let copy = tokens.clone();
        assert!(tokens.end("a-B_9") && !tokens.end("a-B_9"));
        assert_eq!(tokens.answer(Method::Get, path), None);
        assert_eq!(copy.answer(Method::Get, path), Some("a-B_9.thumb"), "copies are apart");
    }

    #[test]
    fn what_is_no_token_is_not_kept() {
        let mut tokens = Tokens::default();
        let long = "a".repeat(129);
        for token in ["", "a/b", "..", "a b", "a.b", "\u{e9}", &long] {
            assert!(!tokens.put(token, "x"), "{token}");
        }
        assert!(tokens.put(&"a".repeat(128), "x"));
    }
}
