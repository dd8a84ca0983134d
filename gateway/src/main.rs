//! The `headwater` binary: wiring only.
fn main() {}
