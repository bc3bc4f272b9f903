//! The path under which a certificate authority looks for HTTP-01 tokens (RFC 8555 §8.3). Requests
//! below it are never redirected to HTTPS and never reach an app.

/// Where tokens live.
pub const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// Whether `path`, in normal form, asks for a token.
#[must_use]
pub fn asks_for_token(path: &[u8]) -> bool {
    path.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_folder_itself_counts() {
        assert!(super::asks_for_token(b"/.well-known/acme-challenge/abc"));
        assert!(!super::asks_for_token(b"/.well-known/acme-challenges/abc"));
        assert!(!super::asks_for_token(b"/x/.well-known/acme-challenge/abc"));
    }
}
