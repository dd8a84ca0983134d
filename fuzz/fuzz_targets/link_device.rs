//! libFuzzer's program for `link_device`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("link_device", input));
