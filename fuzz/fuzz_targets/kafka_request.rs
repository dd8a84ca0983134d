//! libFuzzer's program for `kafka_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| headwater_fuzz::run("kafka_request", input));
