//! What happens to a bench at random instants, and that the ledger shows it happened.

use std::{collections::BTreeSet, thread, time::Duration};

use headwater_sim::ledger::DeviceLedger;
use headwater_tests::{
    line::Joint,
    random::Random,
    workbench::{Found, Workbench},
};

/// Makes a commit take so long that a kill finds readings which have arrived and are not yet durable.
pub(crate) const SLOW_COMMITS: &str = "[journal]\nlinger = \"100 ms\"\n";

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL of the gateway, and its restart a while later.
    GatewayKilled,
    /// The same, when the board has not heard for a while that its readings are durable: it sends them again.
    GatewayKilledUnheard,
    /// SIGKILL of the gateway, which stays away until the board has had to drop readings.
    GatewayAway,
    /// The line falls silent, or its adapter is pulled, for a while.
    LineCut(Joint),
    /// The board's reset button.
    BoardReset,
    /// The board loses its power.
    PowerCut,
    /// The board loses its power and its memory.
    MemoryErased,
    /// SIGKILL of the central cluster, and its restart a while later.
    CentreKilled,
}

impl Blow {
    /// Everything that can happen beside the machines: five kills of the gateway, three cuts, four starts of the board.
    pub(crate) fn edge() -> Vec<Self> {
        let mut blows = vec![Self::GatewayKilled; 3];
        blows.extend([Self::GatewayKilledUnheard; 2]);
        blows.extend([Joint::Silent, Joint::Unplugged, Joint::Silent].map(Self::LineCut));
        blows.extend([Self::BoardReset, Self::BoardReset, Self::PowerCut, Self::MemoryErased]);
        blows
    }
}

/// Strikes all `blows` in random order at random instants, each at another temperature. `centre` strikes the central
/// cluster.
pub(crate) fn strike_all(
    bench: &mut Workbench,
    mut blows: Vec<Blow>,
    random: &mut Random,
    mut centre: impl FnMut(&mut Workbench, &mut Random),
) {
    let mut temperature = 20_000;
    while !blows.is_empty() {
        let blow = blows.swap_remove(random.below(blows.len() as u64) as usize);
        temperature += 125;
        bench.measure(temperature);
        bench.wait_readings(random.below(10) as usize);
        // Anywhere within the 200 ms in which readings are taken, sealed, sent, synced and acknowledged.
        thread::sleep(Duration::from_millis(random.below(200)));
        println!("{blow:?}");
        strike(blow, bench, random, &mut centre);
    }
    bench.wait_readings(5);
}

fn strike(
    blow: Blow,
    bench: &mut Workbench,
    random: &mut Random,
    centre: &mut impl FnMut(&mut Workbench, &mut Random),
) {
    let starts = bench.board.ledger().runs.len();
    match blow {
        Blow::GatewayKilled => {
            bench.gateway.kill();
            bench.wait_readings(random.below(10) as usize);
            bench.gateway.restart();
        }
        Blow::GatewayKilledUnheard => {
            bench.line.set(Joint::Deaf);
            bench.wait_readings(5);
            bench.gateway.kill();
            bench.gateway.restart();
            bench.line.set(Joint::Joined);
        }
        Blow::GatewayAway => {
            bench.gateway.kill();
            bench.wait_dropped(50 + random.below(100));
            bench.gateway.restart();
        }
        Blow::LineCut(joint) => {
            bench.line.set(joint);
            bench.wait_readings(1 + random.below(20) as usize);
            bench.line.set(Joint::Joined);
        }
        Blow::BoardReset => {
            bench.board.reset();
            bench.wait_start(starts);
        }
        Blow::PowerCut => {
            bench.board.switch_off();
            bench.board.switch_on();
            bench.wait_start(starts);
        }
        Blow::MemoryErased => {
            bench.board.switch_off();
            bench.board.erase_eeprom();
            bench.board.switch_on();
            bench.wait_start(starts);
        }
        Blow::CentreKilled => centre(bench, random),
    }
}

/// That the resets, the power cut and the erased memory of [`Blow::edge`] left their traces, and no other.
pub(crate) fn assert_struck(ledger: &DeviceLedger, found: &Found) {
    assert_eq!(ledger.runs.len(), 5, "starts of the board");
    let streams: BTreeSet<u64> =
        ledger.runs.iter().flat_map(|run| run.streams.iter().copied()).collect();
    assert_eq!(streams.len(), 2, "an erased memory begins a new stream, nothing else does");
    let mut restarts = 0;
    for stream in streams {
        let runs = ledger.runs.iter().filter(|run| run.streams.contains(&stream));
        let boots: Vec<u64> = runs.map(|run| run.boot).collect();
        let counted: Vec<u64> = (1..=boots.len() as u64).collect();
        assert_eq!(boots, counted, "boots of stream {stream:016x}");
        restarts += boots.len() - 1;
    }
    // What a reset took from RAM nobody knows, so each may say that something is missing; nothing else may.
    assert!(found.gap_records <= restarts, "{} gaps for {restarts} restarts", found.gap_records);
    let acknowledged = ledger.runs.iter().filter(|run| run.acknowledged.is_some()).count();
    assert!(acknowledged >= 2, "only {acknowledged} starts got an acknowledgement");
}
