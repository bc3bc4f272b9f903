//! Room 13. Running the process: checking and starting, certificates from files, the local CA and authorities,
//! signals, the admin socket, the log thread, the resolver, and what the machine lacks.

pub mod acme;
pub mod admin;
pub mod asking;
pub mod certificates;
pub mod certs;
pub mod check;
pub mod doctor;
pub mod explain;
pub mod listeners;
pub mod log_writer;
pub mod metrics;
pub mod overview;
pub mod refused;
pub mod resolver;
pub mod running;
mod secret;
pub mod signals;
pub mod startup;
pub mod top;
pub mod trust;
mod watch;
