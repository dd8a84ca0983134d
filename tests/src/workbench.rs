//! The whole bench: an emulated board, a serial line that can be cut, and a gateway on its other end.
//!
//! The board's ledger is the judge: what it says was sampled and acknowledged is compared with what a consumer finds.

use std::{net::SocketAddr, path::Path, time::Duration};

use headwater_sim::{
    compare::{Channel, Comparison, Entry, Logged, Report},
    ledger::{DeviceLedger, Run, parse_stream},
};

use crate::{
    emulator::Board,
    gateway::Gateway,
    kcat::{self, Consumed},
    line::SerialLine,
    wait,
};

/// The topic that readings go to unless the configuration says otherwise.
pub const TOPIC: &str = "readings";

/// For ten readings a second on a machine that has other things to do.
const SAMPLING: Duration = Duration::from_secs(60);
/// A queue of a minute, ten readings a second, and a busy machine.
const FILLING_UP: Duration = Duration::from_secs(180);
/// A queue of a minute and a gateway that replays its log.
const CATCHING_UP: Duration = Duration::from_secs(120);

/// Steps of the sensor in a millidegree: 62.5 millidegrees each.
const MILLIDEGREES_PER_TWO_CODES: i64 = 125;

/// A board in an emulator, as every bench needs it.
pub trait Emulated {
    /// One with erased memory, switched on; its port connects to the Unix socket `link`.
    fn start(folder: &Path, link: &Path) -> Self;

    /// What it says of itself so far.
    fn ledger(&self) -> DeviceLedger;

    /// Stops the processor's clock, so that the ledger no longer grows.
    fn freeze(&mut self);
}

/// Board, line and gateway.
#[derive(Debug)]
pub struct Workbench<B = Board> {
    /// Runs `headwater serve`.
    pub gateway: Gateway,
    /// Runs the image.
    pub board: B,
    /// Joins them.
    pub line: SerialLine,
}

impl Workbench {
    /// A bench with the board whose temperature can be set.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn start(folder: &Path, configuration: &str) -> Self {
        Self::with_board(folder, configuration)
    }

    /// Sets a temperature, a multiple of 125 millidegrees, and waits until the board has sampled it.
    ///
    /// # Panics
    /// If it never does.
    pub fn measure(&mut self, millidegrees: i64) {
        let code = millidegrees * 2 / MILLIDEGREES_PER_TWO_CODES;
        self.board.set_temperature(millidegrees);
        wait::for_condition("the temperature in the board's ledger", SAMPLING, || {
            let ledger = self.board.ledger();
            let last = ledger.runs.last().and_then(|run| run.readings.values().last());
            last.is_some_and(|codes| **codes == [Some(code)])
        });
    }
}

impl<B: Emulated> Workbench<B> {
    /// Everything switched on, with further tables in the gateway's configuration.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn with_board(folder: &Path, configuration: &str) -> Self {
        let line = SerialLine::new(folder);
        let port = line.port().display();
        let serial =
            format!("[[device.serial]]\nport = \"{port}\"\nbaud = 115200\n{configuration}");
        let gateway = Gateway::start(folder, &serial);
        let board = B::start(folder, line.socket());
        let bench = Self { gateway, board, line };
        wait::for_condition("the first acknowledgement", CATCHING_UP, || {
            bench.board.ledger().runs.first().is_some_and(|run| acknowledged(run).is_some())
        });
        bench
    }

    /// Waits until the board has sampled `count` more readings.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_readings(&self, count: usize) {
        let goal = sampled(&self.board.ledger()) + count;
        wait::for_condition("readings in the board's ledger", SAMPLING, || {
            sampled(&self.board.ledger()) >= goal
        });
    }

    /// Waits until the board has dropped `count` more readings, since nobody takes them.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_dropped(&self, count: u64) {
        let goal = dropped(&self.board.ledger()) + count;
        wait::for_condition("readings that the board dropped", FILLING_UP, || {
            dropped(&self.board.ledger()) >= goal
        });
    }

    /// Waits until the board has started once more and sampled.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_start(&self, starts_before: usize) {
        wait::for_condition("a start in the board's ledger", SAMPLING, || {
            let ledger = self.board.ledger();
            ledger.runs.len() > starts_before
                && ledger.runs.last().is_some_and(|run| !run.readings.is_empty())
        });
    }

    /// Waits until the board has started once more and something of that start is acknowledged.
    ///
    /// # Panics
    /// If it does not, or is not.
    pub fn wait_acknowledged(&self, starts_before: usize) {
        wait::for_condition("an acknowledgement of a new start", CATCHING_UP, || {
            let ledger = self.board.ledger();
            ledger.runs.len() > starts_before
                && ledger.runs.last().is_some_and(|run| acknowledged(run).is_some())
        });
    }

    /// Waits until what the board has sampled by now is acknowledged, and then stops it, so that the ledger stays as
    /// it is.
    ///
    /// # Panics
    /// If it is not acknowledged in time.
    pub fn settle(&mut self) -> DeviceLedger {
        let ledger = self.board.ledger();
        let run = ledger.runs.last().expect("the board has started");
        let (boot, last) = (run.boot, run.readings.keys().last().copied().unwrap_or(0));
        wait::for_condition("the acknowledgement of all readings", CATCHING_UP, || {
            let ledger = self.board.ledger();
            let run = ledger.runs.last().expect("it had one");
            assert_eq!(run.boot, boot, "the board has started again");
            acknowledged(run).is_some_and(|acknowledged| acknowledged >= last)
        });
        self.board.freeze();
        self.board.ledger()
    }
}

/// What a consumer found beside the ledger.
#[derive(Clone, Debug)]
pub struct Found {
    /// The ledger against the log; without defects.
    pub report: Report,
    /// Records that say that readings are missing, or may be.
    pub gap_records: usize,
}

/// Compares the board's ledger with the records that a consumer finds at `broker`.
///
/// # Panics
/// If a record is not one of the board, or the log is not what the ledger says.
pub fn compare(ledger: &DeviceLedger, broker: SocketAddr) -> Found {
    compare_channels(ledger, vec![temperature()], broker)
}

/// As [`compare`], for any device that is the only one at `broker`; its `channels` in schema order.
///
/// # Panics
/// If a record is not one of the device, or the log is not what the ledger says.
pub fn compare_channels(
    ledger: &DeviceLedger,
    channels: Vec<Channel>,
    broker: SocketAddr,
) -> Found {
    let mut comparison = Comparison::new([ledger.clone()], channels);
    let records: Vec<Logged> = kcat::consume(broker, TOPIC).iter().map(logged).collect();
    for record in &records {
        assert_eq!(record.device, ledger.device, "{record:?}");
        comparison.observe(record);
    }
    let report = comparison.finish();
    let is_gap = |record: &&Logged| matches!(record.entry, Entry::Gap { .. });
    let gap_records = records.iter().filter(is_gap).count();
    println!("{broker}: {} records, {gap_records} of them gaps; {report}", records.len());
    assert_eq!(report.defects(), 0, "{report}: {:#?}", report.examples);
    Found { report, gap_records }
}

/// Readings of all starts.
#[must_use]
pub fn sampled(ledger: &DeviceLedger) -> usize {
    ledger.runs.iter().map(|run| run.readings.len()).sum()
}

/// Readings that were dropped, of all starts.
fn dropped(ledger: &DeviceLedger) -> u64 {
    ledger.runs.iter().flat_map(|run| &run.gaps).map(|range| range.count).sum()
}

/// The last reading that the gateway has acknowledged.
fn acknowledged(run: &Run) -> Option<u64> {
    let blocks = run.blocks.iter().filter(|(item, _)| Some(**item) <= run.acknowledged);
    blocks.map(|(_, range)| range.end() - 1).max()
}

/// A record of the readings topic, as DESIGN's record format has it: key, value, headers.
fn logged(record: &Consumed) -> Logged {
    let header =
        |name| record.header(name).unwrap_or_else(|| panic!("no header {name}: {record:?}"));
    let number =
        |name| header(name).parse().unwrap_or_else(|_| panic!("header {name}: {record:?}"));
    let entry = match record.header("gap") {
        Some(_) => Entry::Gap { count: number("gap") },
        None => {
            let value = record.value.as_deref().unwrap_or_default();
            let object = serde_json::from_str(value);
            Entry::Reading(object.unwrap_or_else(|error| panic!("{error}: {record:?}")))
        }
    };
    Logged {
        device: record.key.clone().unwrap_or_default(),
        stream: parse_stream(header("stream")).unwrap_or_else(|| panic!("stream: {record:?}")),
        boot: number("boot"),
        seq: number("seq"),
        entry,
    }
}

/// The board's only channel.
fn temperature() -> Channel {
    Channel { name: "temperature".into(), mantissa: 625, exponent: -4 }
}
