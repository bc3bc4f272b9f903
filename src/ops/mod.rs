//! Room.

pub mod log_writer;
pub mod resolver;
pub mod trust;
