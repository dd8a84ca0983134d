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
    let summary = printed.lines().rev().find(|line| line.contains("sampled"));
    let summary = summary.expect("the demo prints a summary");
    let numbers: Vec<u64> = summary
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let [sampled, durable, ..] = numbers[..] else { panic!("{summary}") };
    assert!(sampled > 5_000, "{summary}");
    assert_eq!(sampled, durable, "{summary}");
}
