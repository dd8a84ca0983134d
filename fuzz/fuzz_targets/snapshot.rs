//! libFuzzer's program for `snapshot`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("snapshot", input));
