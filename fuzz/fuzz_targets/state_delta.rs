//! libFuzzer's program for `state_delta`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("state_delta", input));
