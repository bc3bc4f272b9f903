//! The whole proxy as a black box: the real binary, raw bytes on real sockets, scripted origins and real
//! peers. Every test starts its own proxy on free ports and leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code outside `#[test]` functions: a broken assumption must fail the test"
)]
#![allow(clippy::disallowed_types, reason = "the rule keeps locks out of the proxy, not out of its tests")]

#[macro_use]
mod harness;
mod acme;
mod admin;
mod behaviour;
mod certificates;
mod curl;
mod descriptors;
mod dns;
mod failure;
mod faults;
mod forwarding;
mod memory;
mod metrics;
mod on_demand;
mod online;
mod openssl;
mod ports;
mod request_framing;
mod request_head;
mod response;
mod retry;
mod routing;
mod timeouts;
mod tls;
mod upgrade;
mod uvicorn;
