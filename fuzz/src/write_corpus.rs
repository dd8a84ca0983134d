//! Writes the corpus: `cargo run --bin write_corpus` in this folder.

fn main() -> std::io::Result<()> {
    headwater_fuzz::write_corpus(std::path::Path::new("corpus"))
}
