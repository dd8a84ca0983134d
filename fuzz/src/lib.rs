//! The targets of `headwater::journal::fuzz` by name, for libFuzzer's programs in `fuzz_targets/`.
//!
//! `cargo xtask soak journal-fuzz` runs them where `cargo fuzz` is installed.

use std::path::Path;

use headwater::journal::fuzz::{Corpus, TARGETS, Target};

/// Feeds one target.
///
/// # Panics
/// If there is none of this name, or if it breaks a promise.
pub fn run(name: &str, input: &[u8]) {
    (target(name).run)(input);
}

/// Writes the examples of every target to `FOLDER/NAME/`, where libFuzzer begins.
///
/// # Errors
/// If a file cannot be written.
pub fn write_corpus(folder: &Path) -> std::io::Result<()> {
    let corpus = Corpus::of_a_short_life();
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, input) in target.corpus(&corpus).iter().enumerate() {
            std::fs::write(folder.join(format!("{number:04}")), input)?;
        }
    }
    Ok(())
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of the table")
}
