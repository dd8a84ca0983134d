//! Lets the linker find `memory.x` wherever cargo is started, and place the HAL's second boot stage.

fn main() {
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rustc-link-arg-bins=-Tlink-rp.x");
    println!("cargo::rerun-if-changed=memory.x");
}
