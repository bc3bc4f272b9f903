//! Where certificates come from: the local CA, authorities on the network (ACME, RFC 8555), and the store
//! that keeps them.

pub mod install;
pub mod local_ca;
pub mod plan;
pub mod slot;
pub mod store;
