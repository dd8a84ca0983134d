//! libFuzzer's program for `index_chunk`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("index_chunk", input));
