//! libFuzzer's program for `segment_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("segment_header", input));
