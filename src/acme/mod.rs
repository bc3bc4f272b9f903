//! Where certificates come from: the local CA, authorities on the network (ACME, RFC 8555), and the store
//! that keeps them.

pub mod ari;
pub mod ask;
pub mod ca;
pub mod canary;
pub mod commands;
pub mod dns;
#[cfg(test)]
pub(crate) mod fake_ca;
pub mod hooks;
pub mod http_client;
pub mod install;
pub mod keys;
pub mod local_ca;
pub mod order;
pub mod plan;
pub mod preflight;
pub mod slot;
pub mod solver;
pub mod status;
pub mod store;
pub mod thread;
