//! Room 13. Running the process: checking and starting, files, signals, reload.

pub mod check;
