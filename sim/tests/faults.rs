//! One device and one gateway in virtual time, everything between and below them failing: the
//! ledger must equal the log, and once the faults end everything must arrive.

mod world;

use headwater_sim::{
    compare::{Channel, Comparison, Report},
    ledger::DeviceLedger,
    random::Random,
};

use world::{CHANNELS, World};

/// What happens in a second of virtual time, by its chance.
#[derive(Clone, Copy, Debug)]
struct Faults {
    /// A frame is lost, damaged, cut short or doubled, in either direction.
    noise: f64,
    /// The connection is made anew.
    replug: f64,
    /// The gateway is killed: what was not durable is gone.
    kill: f64,
    /// The board is reset: RAM is gone.
    reset: f64,
    /// Its memory is erased before that.
    erase: f64,
    /// The power goes while the identity is written.
    torn: f64,
    /// The gateway is away for seconds.
    absence: f64,
}

const NONE: Faults =
    Faults { noise: 0.0, replug: 0.0, kill: 0.0, reset: 0.0, erase: 0.0, torn: 0.0, absence: 0.0 };

fn live(seed: u64, faults: Faults) -> (Report, World) {
    let mut random = Random::new(seed, 0);
    let mut world = World::new(seed);
    world.noise = faults.noise;
    for _ in 0..60 {
        let mut happens = |chance: f64| random.unit() < chance;
        if happens(faults.kill) {
            world.kill_gateway();
        }
        if happens(faults.replug) {
            world.replug();
        }
        if happens(faults.reset) {
            if happens(faults.erase) {
                world.erase_memory();
            }
            let torn = happens(faults.torn).then(|| random.next_u64() % 40);
            world.reset_device(torn);
        }
        if random.unit() < faults.absence {
            world.unplug();
            world.pass_ms((random.unit() * 20_000.0) as u64);
            world.replug();
        }
        world.pass_ms(500 + random.next_u64() % 1_000);
    }
    world.noise = 0.0;
    world.replug();
    world.drain();
    let channels = CHANNELS.map(|channel| Channel {
        name: channel.name.into(),
        mantissa: channel.mantissa.into(),
        exponent: channel.exponent.into(),
    });
    let ledger = DeviceLedger::parse("dev", world.ledger());
    let mut comparison = Comparison::new([ledger], channels.into());
    world.log().iter().for_each(|logged| comparison.observe(logged));
    (comparison.finish(), world)
}

fn check(name: &str, seeds: std::ops::Range<u64>, faults: Faults) -> Report {
    let mut sum = Report::default();
    for seed in seeds {
        let (report, world) = live(seed, faults);
        assert_eq!(
            report.defects(),
            0,
            "{name}, seed {seed}: {report} {:?}\n{}",
            report.examples,
            world.ledger()
        );
        sum.sampled += report.sampled;
        sum.durable += report.durable;
        sum.dropped += report.dropped;
        sum.lost += report.lost;
    }
    sum
}

#[test]
fn without_faults_everything_is_there() {
    let sum = check("no faults", 0..5, NONE);
    assert_eq!((sum.dropped, sum.lost), (0, 0));
}

#[test]
fn a_bad_line_costs_nothing() {
    let sum = check("noise", 0..20, Faults { noise: 0.2, ..NONE });
    assert_eq!((sum.dropped, sum.lost), (0, 0));
}

#[test]
fn a_gateway_that_is_killed_again_and_again_costs_nothing() {
    let faults = Faults { kill: 0.4, replug: 0.2, noise: 0.02, ..NONE };
    let sum = check("kills", 0..30, faults);
    assert_eq!((sum.dropped, sum.lost), (0, 0));
}

#[test]
fn a_long_absence_leaves_gaps_that_are_named() {
    let faults = Faults { absence: 0.1, kill: 0.1, noise: 0.02, ..NONE };
    let sum = check("absence", 0..20, faults);
    assert!(sum.dropped > 100, "{sum}");
    assert_eq!(sum.lost, 0);
}

#[test]
fn resets_lose_at_most_what_was_not_acknowledged() {
    let faults = Faults { reset: 0.1, torn: 0.3, erase: 0.2, noise: 0.05, kill: 0.1, ..NONE };
    let sum = check("resets", 0..30, faults);
    assert!(sum.lost > 0 && sum.durable > sum.lost * 5, "{sum}");
}

#[test]
fn everything_at_once() {
    let faults = Faults {
        noise: 0.1,
        replug: 0.1,
        kill: 0.1,
        reset: 0.05,
        erase: 0.2,
        torn: 0.3,
        absence: 0.05,
    };
    check("everything", 0..40, faults);
}
