//! Any text is a model or a list of errors, each with a place inside its text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| lockring::config::check_any_text(text));
