//! libFuzzer's program for `link_item`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("link_item", input));
