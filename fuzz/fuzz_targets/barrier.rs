//! libFuzzer's program for `barrier`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("barrier", input));
