//! libFuzzer's program for `fact`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("fact", input));
