//! Room 4. TLS without sockets: reading a ClientHello, choosing a site for it, and what its handshake needs.

pub mod alert;
pub mod certs;
pub mod choose;
pub mod client_hello;
pub mod policy;
pub mod server_name;
pub mod tickets;

pub use policy::{TlsCommon, provider};
