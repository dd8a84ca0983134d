//! The world of one seed: two ends, two lines, misfortunes, and the truth with which the host's log
//! is compared.

use std::collections::BTreeMap;

use headwater_protocol::{HOST_RECEIVE_MAX, Position, StreamId, frame, item::MISSING};

use crate::{
    device::Device,
    host::{Entry, Host, Readings},
    line::Line,
    random::Random,
};

/// A fault planted in an owner, to show that the oracle sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    AcknowledgeOnArrival,
    AcceptUnsettled,
    DropInFlight,
    ForgetPosition,
}

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    readings: u64,
    gap_readings: u64,
    lost_boots: u64,
    retransmitted: u64,
    frame_errors: u64,
    sessions: u64,
    refusals: u64,
    overflows: u64,
    crashes: u64,
    reconnects: u64,
    resets: u64,
    erasures: u64,
    clock_samples: u64,
    descriptions: u64,
    losses: u64,
}

impl Report {
    pub(crate) fn counts(&self) -> [(&'static str, u64); 15] {
        [
            ("readings", self.readings),
            ("gap readings", self.gap_readings),
            ("lost boots", self.lost_boots),
            ("retransmissions", self.retransmitted),
            ("frame errors", self.frame_errors),
            ("sessions", self.sessions),
            ("refusals", self.refusals),
            ("overflows", self.overflows),
            ("crashes", self.crashes),
            ("reconnects", self.reconnects),
            ("resets", self.resets),
            ("erasures", self.erasures),
            ("clock samples", self.clock_samples),
            ("descriptions", self.descriptions),
            ("losses", self.losses),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.readings += other.readings;
        self.gap_readings += other.gap_readings;
        self.lost_boots += other.lost_boots;
        self.retransmitted += other.retransmitted;
        self.frame_errors += other.frame_errors;
        self.sessions += other.sessions;
        self.refusals += other.refusals;
        self.overflows += other.overflows;
        self.crashes += other.crashes;
        self.reconnects += other.reconnects;
        self.resets += other.resets;
        self.erasures += other.erasures;
        self.clock_samples += other.clock_samples;
        self.descriptions += other.descriptions;
        self.losses += other.losses;
    }
}

/// One boot of one life as it really was.
#[derive(Debug, Default)]
struct BootTruth {
    samples: Vec<(u64, Vec<i32>)>,
    /// Readings below this number were sealed into blocks.
    sealed: u64,
    /// Its queue went with the RAM or the memory.
    lost: bool,
}

/// What really happened, out of the host's sight.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    boots: BTreeMap<(u32, u32), BootTruth>,
    pub(crate) streams: BTreeMap<StreamId, u32>,
    acknowledged: Vec<(StreamId, Position)>,
    pub(crate) sessions: u64,
    pub(crate) refusals: u64,
    pub(crate) overflows: u64,
    pub(crate) retransmitted: u64,
}

impl Truth {
    pub(crate) fn boot(&mut self, life: u32, boot: u32) {
        self.boots.entry((life, boot)).or_default();
    }

    fn of(&mut self, life: u32, boot: u32) -> &mut BootTruth {
        self.boots.get_mut(&(life, boot)).unwrap()
    }

    pub(crate) fn lost(&mut self, life: u32, boot: u32) {
        self.of(life, boot).lost = true;
    }

    pub(crate) fn lost_all(&mut self, life: u32) {
        for (_, boot) in self.boots.range_mut((life, 0)..(life + 1, 0)) {
            boot.lost = true;
        }
    }

    pub(crate) fn sampled(&mut self, life: u32, boot: u32, seq: u64, tick: u64, codes: &[i32]) {
        let samples = &mut self.of(life, boot).samples;
        assert_eq!(seq, samples.len() as u64);
        samples.push((tick, codes.to_vec()));
    }

    pub(crate) fn sealed(&mut self, life: u32, boot: u32, end: u64) {
        self.of(life, boot).sealed = end;
    }

    pub(crate) fn acknowledged(
        &mut self,
        stream: Option<StreamId>,
        life: u32,
        position: Position,
    ) -> Result<(), String> {
        let stream = stream.ok_or("an acknowledgement without a stream")?;
        if self.streams.get(&stream) != Some(&life) {
            return Err(format!("stream {stream} belongs to another life"));
        }
        self.acknowledged.push((stream, position));
        Ok(())
    }

    /// Compares the log of one stream with what was sampled.
    fn check_stream(
        &self,
        life: u32,
        persistent: bool,
        log: &[&Entry],
        report: &mut Report,
    ) -> Result<(), String> {
        let mut covered: BTreeMap<u32, u64> = BTreeMap::new();
        let mut last = Position::START;
        for entry in log {
            if entry.position <= last {
                return Err(format!("{} after {last}", entry.position));
            }
            last = entry.position;
            let boot = entry.position.boot;
            let expected = covered.entry(boot).or_default();
            let truth = self.boots.get(&(life, boot)).ok_or("a boot that never was")?;
            if let Some(loss) = entry.loss {
                report.losses += 1;
                if persistent || entry.position.item != 0 {
                    return Err(format!("{loss:?} although nothing was lost"));
                }
            }
            match &entry.content {
                Readings::None => {}
                Readings::Gap(first, count) => {
                    if first != expected {
                        return Err(format!("gap at {first}, expected {expected}, boot {boot}"));
                    }
                    *expected += count;
                    report.gap_readings += count;
                }
                Readings::Rows(rows) => {
                    for (seq, tick, codes) in rows {
                        if seq != expected {
                            return Err(format!("reading {seq}, expected {expected}, boot {boot}"));
                        }
                        let (true_tick, true_codes) = &truth.samples[*seq as usize];
                        if codes != true_codes || tick.abs_diff(*true_tick) > 410 {
                            return Err(format!("reading {seq} of boot {boot} differs"));
                        }
                        debug_assert!(
                            codes
                                .iter()
                                .all(|code| *code != MISSING || true_codes.contains(&MISSING))
                        );
                        *expected += 1;
                        report.readings += 1;
                    }
                }
            }
        }
        for ((_, boot), truth) in self.boots.range((life, 0)..(life + 1, 0)) {
            let covered = covered.get(boot).copied().unwrap_or(0);
            if !truth.lost && covered != truth.sealed {
                return Err(format!("boot {boot}: {covered} of {} sealed readings", truth.sealed));
            }
        }
        Ok(())
    }
}

pub(crate) struct World {
    random: Random,
    now: u64,
    plant: Plant,
    device: Device,
    host: Host,
    up: Line,
    down: Line,
    truth: Truth,
    report: Report,
    next_misfortune: u64,
    heal_at: u64,
    /// Of ten misfortunes, how many hit the device's memory or power.
    reset_share: u64,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Plant) -> Self {
        let mut random = Random::new(seed);
        let mut truth = Truth::default();
        let device = Device::new(&mut random, plant, &mut truth);
        let host = Host::new(&mut random, plant);
        Self {
            up: Line::new(&mut random),
            down: Line::new(&mut random),
            next_misfortune: random.between(0, 2_000_000),
            heal_at: random.between(3_000_000, 12_000_000),
            reset_share: random.below(4),
            random,
            now: 0,
            plant,
            device,
            host,
            truth,
            report: Report::default(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, String> {
        let deadline = self.heal_at + 400_000_000;
        let mut at_once = 0;
        while self.now < deadline {
            self.step()?;
            if self.host.healed && self.device.drained() {
                return self.finish();
            }
            let next = self.next_event();
            at_once = if next > self.now { 0 } else { at_once + 1 };
            if at_once > 10_000 {
                return Err(format!("spins at {} us", self.now));
            }
            self.now = next.max(self.now);
        }
        Err(format!("stuck: {:?} {:?}", self.device, self.host))
    }

    fn step(&mut self) -> Result<(), String> {
        if self.now >= self.heal_at && !self.host.healed {
            self.up.heal();
            self.down.heal();
            self.host.healed = true;
            self.device.sampling = false;
            self.host.change_window(self.now, &mut self.random);
        }
        if self.now >= self.next_misfortune && !self.host.healed {
            self.misfortune();
            self.next_misfortune = self.now + self.random.between(10_000, 2_500_000);
        }
        self.host.work(self.now, &mut self.random)?;
        while let Some(bytes) = self.up.arrive(self.now) {
            self.host.receive(self.now, &bytes, &mut self.random, &mut self.truth)?;
        }
        while let Some(bytes) = self.down.arrive(self.now) {
            self.device.receive(self.now, &bytes, &mut self.truth)?;
        }
        for (stream, position) in self.truth.acknowledged.drain(..) {
            let durable = self.host.positions.get(&stream.bits());
            if durable.is_none_or(|durable| *durable < position) {
                return Err(format!("{position} acknowledged, durable {durable:?}"));
            }
        }
        self.device.work(self.now, &mut self.random, &mut self.truth);
        let mut out = [0; frame::ENCODED_MAX];
        if self.up.ready(self.now) {
            let len = self.device.transmit(self.now, &mut out);
            assert!(len <= frame::encoded_max(HOST_RECEIVE_MAX));
            if len > 0 {
                self.up.send(self.now, &out[..len], &mut self.random);
            }
        }
        if self.down.ready(self.now) {
            let len = self.host.transmit(self.now, &mut out);
            if len > 0 {
                self.down.send(self.now, &out[..len], &mut self.random);
            }
        }
        Ok(())
    }

    fn next_event(&self) -> u64 {
        let device = self.device.next_event(self.now, self.up.ready(self.now));
        let host = self.host.next_event(self.now, self.down.ready(self.now));
        let lines = [self.up.next_event(self.now), self.down.next_event(self.now)];
        let fate = if self.host.healed { u64::MAX } else { self.next_misfortune.min(self.heal_at) };
        lines.into_iter().chain([device, host, Some(fate)]).flatten().min().unwrap_or(u64::MAX)
    }

    fn misfortune(&mut self) {
        if self.random.below(10) < self.reset_share {
            self.cut();
            if self.random.one_in(5) {
                self.report.erasures += 1;
                self.device.erase(self.now, &mut self.random, &mut self.truth);
            } else {
                self.report.resets += 1;
                self.device.reset(self.now, &mut self.random, &mut self.truth);
            }
            return;
        }
        match self.random.below(6) {
            0 => {
                self.report.crashes += 1;
                self.maybe_cut();
                self.host.crash(self.now, &mut self.random);
            }
            1 => {
                self.report.reconnects += 1;
                self.maybe_cut();
                self.host.connect(self.now, &mut self.random);
                if self.random.one_in(2) {
                    self.device.link.restart(self.now * 32_768 / 1_000_000);
                }
            }
            2 => self.cut(),
            3 => self.host.ask(self.now),
            4 => self.device.link.line_error(),
            _ => self.host.change_window(self.now, &mut self.random),
        }
    }

    /// What a port has buffered may outlive a host.
    fn maybe_cut(&mut self) {
        if self.random.one_in(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.up.cut(&mut self.random);
        self.down.cut(&mut self.random);
    }

    fn finish(mut self) -> Result<Report, String> {
        let mut logs: BTreeMap<StreamId, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.host.log {
            logs.entry(entry.stream).or_default().push(entry);
        }
        if !logs.keys().any(|stream| self.truth.streams.get(stream) == Some(&self.device.life)) {
            return Err(format!("the last life has no log, {:?}", self.plant));
        }
        for (stream, log) in logs {
            let life = *self.truth.streams.get(&stream).ok_or("a stream that no device has")?;
            self.truth
                .check_stream(life, self.device.persistent, &log, &mut self.report)
                .map_err(|what| format!("stream {stream}: {what}"))?;
        }
        self.report.lost_boots += self.truth.boots.values().filter(|boot| boot.lost).count() as u64;
        self.report.sessions = self.truth.sessions;
        self.report.refusals = self.truth.refusals;
        self.report.overflows = self.truth.overflows;
        self.report.retransmitted = self.truth.retransmitted;
        self.report.frame_errors = self.host.errors() + self.up.faults;
        self.report.clock_samples = self.host.samples;
        self.report.descriptions = self.host.descriptions;
        Ok(self.report)
    }
}
