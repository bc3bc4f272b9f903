//! Room 8. What happens to a request between "understood" and "answered": [`route`], [`rewrite`], the
//! [`exchange`] with the app, [`retry`], the answers of our own ([`reply`]), and the [`outcome`].
//! Pure: bytes and time in, bytes and actions out.

pub mod challenge;
pub mod exchange;
pub mod outcome;
pub mod reply;
pub mod retry;
pub mod rewrite;
pub mod route;
