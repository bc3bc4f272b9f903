//! Room 4. TLS: a ClientHello read without copies ([`client_hello`]), a site chosen for it before any
//! session exists ([`choose`]), handshakes by rustls over caller-owned buffers ([`session`], [`client`]),
//! records by us ([`record`], [`keys`]). Pure: bytes in, values out.

pub mod alert;
pub mod certs;
pub mod choose;
pub mod client;
pub mod client_hello;
pub mod keys;
pub mod policy;
pub mod record;
pub mod server_name;
pub mod session;
pub mod tickets;
pub mod traffic;

pub use policy::{TlsCommon, provider};
