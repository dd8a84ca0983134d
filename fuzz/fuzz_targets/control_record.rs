//! libFuzzer's program for `control_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("control_record", input));
