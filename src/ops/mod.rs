//! Room 13. Running the process: checking and starting, certificates from files, the local CA and authorities,
//! signals, the admin socket, the log thread, the resolver, and what the machine lacks.

pub mod acme;
pub mod admin;
pub mod certificates;
pub mod certs;
pub mod check;
pub mod doctor;
pub mod listeners;
pub mod log_writer;
pub mod resolver;
mod secret;
pub mod signals;
pub mod startup;
pub mod trust;
mod watch;
