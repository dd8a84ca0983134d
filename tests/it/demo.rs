//! `cargo demo`, as a newcomer types it.

use std::process::Command;

use headwater_tests::{kcat, permit};

#[test]
fn demo_ends_by_itself_and_its_ledgers_equal_the_log() {
    let _permit = permit::computing();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["demo", "--", "--seconds", "20"]);
    let printed = kcat::run(&mut command);
    println!("{printed}");
    let summary = printed.lines().rev().find(|line| line.contains(" sampled, "));
    let summary = summary.expect("the demo prints a summary");
    let sampled = number_before(summary, " sampled");
    assert!(sampled > 5_000, "{summary}");
    assert_eq!(sampled, number_before(summary, " durable"), "{summary}");
    for defect in [" missing", " doubled", " out of order"] {
        assert_eq!(number_before(summary, defect), 0, "{summary}");
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let (before, _) = line.split_once(word).unwrap_or_else(|| panic!("no{word} in {line:?}"));
    let number = before.rsplit(' ').next().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no number before{word} in {line:?}"))
}
