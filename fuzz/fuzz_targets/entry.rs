//! libFuzzer's program for `entry`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("entry", input));
