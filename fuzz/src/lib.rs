//! The fuzz targets by name, for libFuzzer's programs in `fuzz_targets/`: those of `headwater::journal::fuzz`,
//! `kafka_request` of `headwater::kafka::fuzz`, and those of the link.
//!
//! `cargo xtask soak journal-fuzz`, `kafka-fuzz` and `link-fuzz` run them where `cargo fuzz` is installed.

mod link;

use std::{io, path::Path};

use headwater::{
    journal::fuzz::{Corpus, TARGETS},
    kafka::fuzz::{Server, examples},
};

/// The target that is a whole Kafka server.
pub const KAFKA_REQUEST: &str = "kafka_request";

thread_local! {
    /// Kept from input to input: starting one takes longer than thousands of them.
    static SERVER: Server = Server::start();
}

/// Feeds a target.
///
/// # Panics
/// If there is none of this name, or if it breaks a promise.
pub fn run(name: &str, input: &[u8]) {
    if name == KAFKA_REQUEST {
        let _ = SERVER.with(|server| server.take(input));
        return;
    }
    if let Some(target) = link::TARGETS.iter().find(|target| target.name == name) {
        (target.run)(input);
        return;
    }
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of the table");
    (target.run)(input);
}

/// Writes the examples of every target to `FOLDER/NAME/`, where libFuzzer begins.
///
/// # Errors
/// If a file cannot be written.
pub fn write_corpus(folder: &Path) -> io::Result<()> {
    let corpus = Corpus::of_a_short_life();
    for target in TARGETS {
        write(&folder.join(target.name), &target.corpus(&corpus))?;
    }
    for target in link::TARGETS {
        write(&folder.join(target.name), &(target.examples)())?;
    }
    write(&folder.join(KAFKA_REQUEST), &examples())
}

fn write(folder: &Path, examples: &[Vec<u8>]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, input) in examples.iter().enumerate() {
        std::fs::write(folder.join(format!("{number:04}")), input)?;
    }
    Ok(())
}
