//! Room 5. HTTP/1.1 (RFC 9112): [`head`]s as spans, what a [`request`] or [`response`] means and how its
//! body ends ([`framing`]), bodies ([`body`], [`chunked`]), and writing ([`mod@write`]). Pure: bytes in,
//! spans and values out. Every ambiguity is refused here, once.

pub mod body;
pub mod chunked;
pub mod error;
pub mod framing;
pub mod head;
pub mod request;
pub mod response;
pub mod scan;
pub mod write;

mod connection;
#[cfg(test)]
mod damage;
mod trailers;
