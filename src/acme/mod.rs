//! Room 12. Certificates: the state directory that keeps them ([`store`]) and the CA for names that no
//! public CA can vouch for ([`local_ca`]).

pub mod local_ca;
pub mod store;
