//! Compares what devices say of themselves with what the log holds, by the rules of
//! `tests/LEDGER.md`.
//!
//! Nothing here reads a network: records come in one by one, in log order per partition.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde_json::{Map, Value};

use crate::ledger::{DeviceLedger, Range, Run};

/// A channel as the log shows it: value = code x mantissa x 10^exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Field of the JSON object.
    pub name: String,
    /// Mantissa of one step.
    pub mantissa: i64,
    /// Decimal exponent of one step.
    pub exponent: i32,
}

/// One record of the readings topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Device id, the record's key.
    pub device: String,
    /// Header `stream`.
    pub stream: u64,
    /// Header `boot`.
    pub boot: u64,
    /// Header `seq`.
    pub seq: u64,
    /// A reading or a gap.
    pub entry: Entry,
}

/// What a record is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Values by channel name.
    Reading(Map<String, Value>),
    /// Readings `seq .. seq + count` are reported lost.
    Gap {
        /// Header `gap`; 0 where nobody knows how many, as after a reset.
        count: u64,
    },
}

/// Counts over all devices; every field below `lost` is a defect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Ledgers compared.
    pub devices: u64,
    /// Readings sampled.
    pub sampled: u64,
    /// Readings of the ledgers that are in the log.
    pub durable: u64,
    /// Readings dropped by the device for want of room, as its ledger says.
    pub dropped: u64,
    /// Readings after the last acknowledged item that are not in the log: gone with a board's RAM.
    pub lost: u64,
    /// Acknowledged readings that are not in the log.
    pub missing: u64,
    /// Copies of readings beyond the first.
    pub doubled: u64,
    /// Records behind a later one of the same stream.
    pub out_of_order: u64,
    /// Readings whose values are not those sampled.
    pub wrong: u64,
    /// Records of the devices' keys that no ledger explains.
    pub unknown: u64,
    /// Dropped readings that no gap record names, though a later item is acknowledged.
    pub unreported: u64,
    /// Readings that are in the log, yet dropped by the ledger or named in a gap record.
    pub contradicted: u64,
    /// Starts with a boot counter that the stream had used before.
    pub repeated_boots: u64,
    /// The first defects in words.
    pub examples: Vec<String>,
}

impl Report {
    /// Defects in all.
    #[must_use]
    pub fn defects(&self) -> u64 {
        self.missing
            + self.doubled
            + self.out_of_order
            + self.wrong
            + self.unknown
            + self.unreported
            + self.contradicted
            + self.repeated_boots
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(text());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} devices: {} sampled, {} durable, {} dropped, {} lost with a reset; \
             {} missing, {} doubled, {} out of order",
            self.devices,
            self.sampled,
            self.durable,
            self.dropped,
            self.lost,
            self.missing,
            self.doubled,
            self.out_of_order,
        )?;
        let rest = [
            (self.wrong, "wrong"),
            (self.unknown, "unknown"),
            (self.unreported, "dropped without a gap record"),
            (self.contradicted, "both lost and there"),
            (self.repeated_boots, "boots used twice"),
        ];
        for (count, name) in rest.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        Ok(())
    }
}

/// A comparison under way: ledgers first, then records, then [`Comparison::finish`].
#[derive(Debug)]
pub struct Comparison {
    channels: Vec<Channel>,
    runs: Vec<Followed>,
    by_boot: HashMap<(u64, u64), usize>,
    devices: HashMap<String, Device>,
    report: Report,
}

#[derive(Debug)]
struct Followed {
    device: String,
    run: Run,
    /// Copies seen by `seq`.
    seen: BTreeMap<u64, u64>,
    reported: Vec<Range>,
}

#[derive(Debug, Default)]
struct Device {
    /// By stream: boot, and first reading that has not passed.
    next: HashMap<u64, (u64, u64)>,
}

impl Comparison {
    /// Takes the ledgers; `channels` in schema order.
    #[must_use]
    pub fn new(ledgers: impl IntoIterator<Item = DeviceLedger>, channels: Vec<Channel>) -> Self {
        let mut this = Self {
            channels,
            runs: Vec::new(),
            by_boot: HashMap::new(),
            devices: HashMap::new(),
            report: Report::default(),
        };
        for ledger in ledgers {
            this.report.devices += 1;
            this.devices.entry(ledger.device.clone()).or_default();
            for run in ledger.runs {
                this.follow(&ledger.device, run);
            }
        }
        this
    }

    fn follow(&mut self, device: &str, run: Run) {
        self.report.sampled += run.readings.len() as u64;
        for stream in run.streams.iter().copied() {
            let boot = run.boot;
            if self.by_boot.insert((stream, boot), self.runs.len()).is_some() {
                self.report.repeated_boots += 1;
                self.report
                    .example(|| format!("{device}: boot {boot} of stream {stream:016x} twice"));
            }
        }
        let device = device.to_owned();
        self.runs.push(Followed { device, run, seen: BTreeMap::new(), reported: Vec::new() });
    }

    /// Takes the next record; records of one device in log order. Those of devices without a ledger
    /// are somebody else's and ignored.
    pub fn observe(&mut self, logged: &Logged) {
        let Some(device) = self.devices.get_mut(&logged.device) else { return };
        let run =
            self.by_boot.get(&(logged.stream, logged.boot)).map(|index| &mut self.runs[*index]);
        let Some(run) = run.filter(|run| run.device == logged.device) else {
            self.report.unknown += 1;
            self.report.example(|| format!("{}: in no ledger", name(logged)));
            return;
        };
        let range = match &logged.entry {
            Entry::Reading(_) => Range { first: logged.seq, count: 1 },
            Entry::Gap { count } => Range { first: logged.seq, count: *count },
        };
        let repeated = match &logged.entry {
            Entry::Reading(_) => run.seen.contains_key(&logged.seq),
            Entry::Gap { .. } => run.reported.contains(&range),
        };
        let next = device.next.entry(logged.stream).or_default();
        if *next <= (logged.boot, range.first) {
            *next = (logged.boot, range.end());
        } else if !repeated {
            self.report.out_of_order += 1;
            self.report
                .example(|| format!("{}: behind boot {} seq {}", name(logged), next.0, next.1));
        }
        match &logged.entry {
            Entry::Reading(values) => {
                let copies = run.seen.entry(logged.seq).or_default();
                *copies += 1;
                if *copies > 1 {
                    self.report.doubled += 1;
                    self.report.example(|| format!("{}: copy {copies}", name(logged)));
                }
                match run.run.readings.get(&logged.seq) {
                    None => {
                        self.report.unknown += 1;
                        self.report.example(|| format!("{}: in no ledger", name(logged)));
                    }
                    Some(codes) if !same(&self.channels, codes, values) => {
                        self.report.wrong += 1;
                        self.report
                            .example(|| format!("{}: {values:?} for {codes:?}", name(logged)));
                    }
                    Some(_) => {}
                }
            }
            Entry::Gap { .. } => run.reported.push(range),
        }
    }

    /// Ends the comparison.
    #[must_use]
    pub fn finish(mut self) -> Report {
        for run in &self.runs {
            run.judge(&mut self.report);
        }
        self.report
    }
}

impl Followed {
    fn judge(&self, report: &mut Report) {
        let acknowledged: Vec<Range> = self
            .run
            .blocks
            .iter()
            .filter(|(item, _)| Some(**item) <= self.run.acknowledged)
            .map(|(_, range)| *range)
            .collect();
        let newest = acknowledged.iter().map(|range| range.first).max();
        let dropped = Spans::new(self.run.gaps.iter().copied());
        let reported = Spans::new(self.reported.iter().copied());
        let proven = Spans::new(acknowledged);
        for seq in self.run.readings.keys().copied() {
            let there = self.seen.contains_key(&seq);
            let is_dropped = dropped.contain(seq);
            report.durable += u64::from(there);
            report.dropped += u64::from(is_dropped);
            if there && (is_dropped || reported.contain(seq)) {
                report.contradicted += 1;
                report.example(|| format!("{}: lost and in the log", self.name(seq)));
            } else if is_dropped {
                // A GAP item lies before the blocks behind it, so one of those acknowledged proves
                // it too.
                if newest.is_some_and(|newest| newest > seq) && !reported.contain(seq) {
                    report.unreported += 1;
                    report.example(|| format!("{}: dropped in silence", self.name(seq)));
                }
            } else if !there && proven.contain(seq) {
                report.missing += 1;
                report.example(|| format!("{}: acknowledged, not in the log", self.name(seq)));
            } else if !there {
                report.lost += 1;
            }
        }
    }

    fn name(&self, seq: u64) -> String {
        format!("{} boot {} seq {seq}", self.device, self.run.boot)
    }
}

/// Sorted, merged ranges.
struct Spans(Vec<Range>);

impl Spans {
    fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mut ranges: Vec<Range> = ranges.into_iter().collect();
        ranges.sort_by_key(|range| range.first);
        let mut merged: Vec<Range> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first <= last.end() => {
                    last.count = range.end().max(last.end()) - last.first;
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    fn contain(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|range| range.first <= seq);
        after.checked_sub(1).is_some_and(|index| seq < self.0[index].end())
    }
}

fn name(logged: &Logged) -> String {
    let Logged { device, boot, seq, .. } = logged;
    format!("{device} boot {boot} seq {seq}")
}

/// Whether a record's values are the codes in engineering units, channel by channel.
fn same(channels: &[Channel], codes: &[Option<i64>], values: &Map<String, Value>) -> bool {
    let present = codes.iter().filter(|code| code.is_some()).count();
    let given = values.values().filter(|value| !value.is_null()).count();
    codes.len() == channels.len()
        && present == given
        && channels.iter().zip(codes).all(|(channel, code)| {
            let value = values.get(&channel.name).and_then(Value::as_f64);
            match (code, value) {
                (None, None) => true,
                (Some(code), Some(value)) => {
                    let steps = value / channel.mantissa as f64 / 10f64.powi(channel.exponent);
                    // An f64 carries 53 bits, so a right value is far closer than a thousandth of a
                    // step.
                    (steps - *code as f64).abs() < 1e-3
                }
                _ => false,
            }
        })
}

/// Defects put into words.
const MAX_EXAMPLES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: u64 = 0xaa;
    const LEDGER: &str = "X 1 power\nS 1 00000000000000aa\n\
        R 1 0 100\nR 1 1 -250\nR 1 2 -\nB 1 2 0 3\nA 1 2\n\
        R 1 3 400\nR 1 4 401\nG 1 3 2 overflow-oldest\nR 1 5 500\nB 1 4 5 1\nA 1 4\n\
        R 1 6 600\nB 1 5 6 1\n";

    fn channels() -> Vec<Channel> {
        vec![Channel { name: "temperature".into(), mantissa: 1, exponent: -2 }]
    }

    fn reading(seq: u64, value: &str) -> Logged {
        let value =
            if value == "-" { "{}".into() } else { format!(r#"{{"temperature":{value}}}"#) };
        let values = serde_json::from_str(&value).expect("an object");
        let entry = Entry::Reading(values);
        Logged { device: "d".into(), stream: STREAM, boot: 1, seq, entry }
    }

    fn gap(seq: u64, count: u64) -> Logged {
        let entry = Entry::Gap { count };
        Logged { device: "d".into(), stream: STREAM, boot: 1, seq, entry }
    }

    fn whole() -> Vec<Logged> {
        vec![
            reading(0, "1.00"),
            reading(1, "-2.5"),
            reading(2, "-"),
            gap(3, 2),
            reading(5, "5"),
            reading(6, "6.0"),
        ]
    }

    fn compare(records: &[Logged]) -> Report {
        let mut comparison = Comparison::new([DeviceLedger::parse("d", LEDGER)], channels());
        for record in records {
            comparison.observe(record);
        }
        comparison.finish()
    }

    #[test]
    fn a_log_that_agrees_has_no_defect() {
        let report = compare(&whole());
        assert_eq!(report.defects(), 0, "{report} {:?}", report.examples);
        let expect = Report { devices: 1, sampled: 7, durable: 5, dropped: 2, ..Report::default() };
        assert_eq!(report, expect);
    }

    #[test]
    fn the_unacknowledged_tail_may_be_lost() {
        let report = compare(&whole()[..5]);
        assert_eq!((report.defects(), report.lost, report.durable), (0, 1, 4));
    }

    #[test]
    fn each_defect_is_counted_as_what_it_is() {
        type Change = fn(&mut Vec<Logged>);
        type Count = fn(&Report) -> u64;
        let cases: [(&str, u64, Change, Count); 10] = [
            ("missing", 1, |log| drop(log.remove(1)), |report| report.missing),
            ("doubled", 1, |log| log.push(reading(6, "6")), |report| report.doubled),
            ("doubled later", 1, |log| log.insert(4, reading(0, "1")), |report| report.doubled),
            ("out of order", 1, |log| log.swap(0, 1), |report| report.out_of_order),
            ("wrong", 1, |log| log[1] = reading(1, "-2.51"), |report| report.wrong),
            ("invented value", 1, |log| log[2] = reading(2, "0"), |report| report.wrong),
            ("unknown", 1, |log| log.push(reading(7, "7")), |report| report.unknown),
            ("unreported", 2, |log| drop(log.remove(3)), |report| report.unreported),
            ("false gap", 1, |log| log[3] = gap(2, 3), |report| report.contradicted),
            ("another's stream", 1, |log| log[5].stream = 1, |report| report.unknown),
        ];
        for (case, expect, change, count) in cases {
            let mut log = whole();
            change(&mut log);
            let report = compare(&log);
            assert_eq!(count(&report), expect, "{case}: {report}");
            assert!(report.defects() >= 1 && !report.examples.is_empty(), "{case}: {report}");
        }
    }

    #[test]
    fn a_boot_used_twice_is_a_defect() {
        let text = format!("{LEDGER}X 1 reset\nS 1 00000000000000aa\n");
        let comparison = Comparison::new([DeviceLedger::parse("d", &text)], channels());
        assert_eq!(comparison.finish().repeated_boots, 1);
    }

    #[test]
    fn devices_without_a_ledger_are_not_ours() {
        let mut log = whole();
        log.push(Logged { device: "other".into(), ..reading(9, "1") });
        assert_eq!(compare(&log).defects(), 0);
    }
}
