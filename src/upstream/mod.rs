//! Room 7. The apps behind: which [`group`] of endpoints answers a route, which endpoint of it is
//! picked ([`balance`]), which idle connection is used again ([`pool`]), and what names resolved to
//! ([`resolve`]). Pure: connections are a type parameter, time is an argument.

pub mod balance;
pub mod group;
pub mod pool;
pub mod resolve;
