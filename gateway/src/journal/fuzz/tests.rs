//! The targets over their corpus and over mutations of it: so many in a normal run, for so long in a soak.

use std::{
    env,
    panic::{self, AssertUnwindSafe},
};

use super::{Corpus, TARGETS, mutated, until::Until};
use crate::journal::sim::Random;

/// Inputs of each target in a normal run.
const INPUTS: usize = 100_000;
/// An input that is taken joins the corpus until there are so many.
const MOST_EXAMPLES: usize = 4_000;

fn seed() -> u64 {
    env::var("HEADWATER_SEED").map_or(1, |seed| seed.parse().expect("HEADWATER_SEED is a number"))
}

/// Feeds one target.
fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is in the table");
    let corpus = Corpus::of_a_short_life();
    let mut examples = target.corpus(&corpus);
    assert!(!examples.is_empty(), "no examples");
    for example in &examples {
        assert!((target.run)(example), "not taken: {example:02x?}");
    }
    let until = Until::of_this_run(INPUTS);
    let mut random = Random(seed());
    let (mut inputs, mut taken) = (0, 0);
    while !until.is_reached(inputs) {
        inputs += 1;
        let valid = &examples[random.below(examples.len() as u64) as usize];
        let input = mutated(valid, &mut random);
        let run = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let is_taken = run.unwrap_or_else(|_| panic!("{name}, seed {}: {input:02x?}", seed()));
        taken += usize::from(is_taken);
        if is_taken && examples.len() < MOST_EXAMPLES {
            examples.push(input);
        }
    }
    println!("shown: {name} {inputs} inputs, {taken} taken");
    assert!(taken > 0, "mutations never get past the first check");
}

/// One test a target, so that they run beside each other.
macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_target_is_fed() {
            let fed = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), fed);
        }
    };
}

targets!(
    segment_header,
    frame_header,
    entry,
    fact,
    barrier,
    snapshot,
    index_chunk,
    state_delta,
    batch,
    control_record
);
