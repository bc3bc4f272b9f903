//! Where certificates come from: the local CA, authorities on the network (ACME, RFC 8555), and the store
//! that keeps them.

pub mod ari;
pub mod ca;
pub mod canary;
#[cfg(test)]
pub(crate) mod fake_ca;
pub mod http_client;
pub mod install;
pub mod keys;
pub mod local_ca;
pub mod plan;
pub mod slot;
pub mod store;
