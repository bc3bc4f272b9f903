//! The first bytes of a connection as a ClientHello.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| lockring::tls::client_hello::fuzz(input));
