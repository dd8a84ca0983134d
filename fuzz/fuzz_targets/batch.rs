//! libFuzzer's program for `batch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("batch", input));
