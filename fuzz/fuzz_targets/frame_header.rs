//! libFuzzer's program for `frame_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("frame_header", input));
