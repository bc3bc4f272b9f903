#![doc = "Lockring: see the map below."]

pub mod acme;
pub mod config;
pub mod handoff;
pub mod http;
pub mod http1;
pub mod http2;
pub mod io;
pub mod limits;
pub mod ops;
pub mod proxy;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod wire;
