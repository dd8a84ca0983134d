//! The targets over their corpus and over mutations of it: so many in a normal run, for
//! `HEADWATER_FUZZ_SECONDS` in a soak. `fuzz/` feeds them by coverage. `HEADWATER_SEED` repeats.

mod corpus;
mod mutation;
mod target;

use std::{
    env, panic,
    time::{Duration, Instant},
};

use mutation::{Random, mutated};
use target::TARGETS;

/// Inputs of each target in a normal run.
const INPUTS: usize = 150_000;
/// An input of which something comes joins the corpus until there are so many.
const MOST_EXAMPLES: usize = 4_000;
/// How often the clock is looked at.
const BETWEEN_LOOKS: usize = 256;

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is in the table");
    let mut examples = (target.examples)();
    for example in &examples {
        assert!((target.run)(example), "nothing comes of {example:02x?}");
    }
    let seed = env::var("HEADWATER_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let seconds = env::var("HEADWATER_FUZZ_SECONDS").ok();
    let end = seconds.map(|seconds| {
        Instant::now() + Duration::from_secs(seconds.parse().expect("a number of seconds"))
    });
    let mut random = Random(seed);
    let (mut inputs, mut taken) = (0, 0);
    while end.map_or(inputs < INPUTS, |end| {
        !inputs.is_multiple_of(BETWEEN_LOOKS) || Instant::now() < end
    }) {
        inputs += 1;
        let valid = &examples[random.below(examples.len() as u64) as usize];
        let input = mutated(valid, &mut random);
        let run = panic::catch_unwind(|| (target.run)(&input));
        let is_taken = run.unwrap_or_else(|_| panic!("{name}, seed {seed}: {input:02x?}"));
        taken += usize::from(is_taken);
        if is_taken && examples.len() < MOST_EXAMPLES {
            examples.push(input);
        }
    }
    println!("shown: {name} {inputs} inputs, {taken} taken");
    assert!(taken > inputs / 20, "mutations do not get past the first check");
}

#[test]
fn link_device() {
    fuzz("link_device");
}

#[test]
fn link_host() {
    fuzz("link_host");
}

#[test]
fn link_item() {
    fuzz("link_item");
}
