//! PROXY protocol
