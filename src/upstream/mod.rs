//! Room.

pub mod resolve;
