#![doc = "Lockring: see the map below."]

pub mod limits;
pub mod wire;
pub mod http;
pub mod config;
pub mod tls;
pub mod http1;
pub mod http2;
pub mod upstream;
pub mod proxy;
pub mod telemetry;
pub mod handoff;
pub mod io;
pub mod acme;
pub mod ops;
pub mod cli;
