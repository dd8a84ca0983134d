//! Writes the corpus: `cargo run --bin write_corpus FOLDER` in this folder.

use std::{io, path::Path};

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into());
    headwater_fuzz::write_corpus(Path::new(&folder))
}
