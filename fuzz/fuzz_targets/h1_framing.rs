//! What a request and a response head mean, and how their bodies end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lockring::http1::request::fuzz(data);
    lockring::http1::response::fuzz(data);
});
