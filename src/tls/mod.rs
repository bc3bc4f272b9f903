//! Room 4. TLS: handshakes by rustls over caller-owned buffers ([`session`], [`client`]), records by us
//! ([`record`], [`keys`]). Pure: bytes in, values out.

pub mod client;
pub mod keys;
pub mod record;
pub mod session;
