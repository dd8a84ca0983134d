//! The world of one seed: two ends, two lines, and misfortunes.

use std::collections::VecDeque;

use headwater_protocol::{HOST_RECEIVE_MAX, frame, item::Cause};

use crate::{
    device::{Device, Image},
    host::Host,
    line::Line,
    plant::Plant,
    random::Random,
    report::Report,
    truth::Truth,
};

pub(crate) struct World {
    random: Random,
    now: u64,
    plant: Plant,
    /// The one in front has power and is at the line.
    boards: VecDeque<Device>,
    image: Option<Image>,
    host: Host,
    up: Line,
    down: Line,
    truth: Truth,
    next_misfortune: u64,
    next_command: u64,
    heal_at: u64,
    /// Of twenty misfortunes, how many hit boards and how many the host's state.
    board_share: u64,
    host_share: u64,
}

/// Virtual time in which every board must have been drained once the line is well. The longest wait
/// that a device keeps is 30 s.
const DRAIN_US: u64 = 400_000_000;
/// Most steps at the same moment.
const AT_ONCE: u32 = 10_000;
/// Most boards that share the line in turn.
const BOARDS: usize = 3;

impl World {
    pub(crate) fn new(seed: u64, plant: Plant) -> Self {
        let mut random = Random::new(seed);
        let mut truth = Truth::default();
        let mut device = Device::new(&mut random, plant, &mut truth);
        device.erase(&mut truth);
        device.start(0, Cause::Power, &mut random, &mut truth);
        let host = Host::new(&mut random, plant);
        Self {
            up: Line::new(&mut random),
            down: Line::new(&mut random),
            next_misfortune: random.between(0, 2_000_000),
            next_command: random.between(0, 4_000_000),
            heal_at: random.between(3_000_000, 12_000_000),
            board_share: random.pick(&[0, 2, 4, 8]),
            host_share: random.pick(&[1, 4]),
            random,
            now: 0,
            plant,
            boards: VecDeque::from([device]),
            image: None,
            host,
            truth,
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, String> {
        let mut deadline = self.heal_at + DRAIN_US;
        let mut at_once = 0;
        while self.now < deadline {
            self.step()?;
            if self.is_drained() {
                if self.boards.len() == 1 {
                    return self.finish();
                }
                self.plug_next();
                deadline = self.now + DRAIN_US;
            }
            let next = self.next_event();
            at_once = if next > self.now { 0 } else { at_once + 1 };
            if at_once > AT_ONCE {
                return Err(format!("spins at {} us", self.now));
            }
            self.now = next.max(self.now);
        }
        Err(format!("stuck: {:?} {:?}", self.boards[0], self.host))
    }

    fn is_drained(&self) -> bool {
        self.host.has_last_result && self.boards[0].drained()
    }

    /// The one that is drained has had its turn.
    fn plug_next(&mut self) {
        self.cut();
        self.boards.pop_front();
        self.boards[0].sampling = false;
        self.boards[0].plug(self.now, &mut self.random, &mut self.truth);
    }

    fn step(&mut self) -> Result<(), String> {
        if self.now >= self.heal_at && !self.host.healed {
            self.up.heal();
            self.down.heal();
            self.host.healed = true;
            self.boards[0].sampling = false;
            self.host.change_window(self.now, &mut self.random);
        }
        if self.now >= self.next_misfortune && !self.host.healed {
            self.misfortune();
            self.next_misfortune = self.now + self.random.between(10_000, 2_500_000);
        }
        if self.now >= self.next_command && !self.host.has_last_result {
            self.host.give_command(self.now, &mut self.random, &mut self.truth);
            self.next_command = self.now + self.random.between(50_000, 2_000_000);
        }
        self.host.work(self.now, &mut self.random, &mut self.truth)?;
        while let Some(bytes) = self.up.arrive(self.now) {
            self.host.receive(self.now, &bytes, &mut self.random, &mut self.truth)?;
        }
        let device = &mut self.boards[0];
        while let Some(bytes) = self.down.arrive(self.now) {
            device.receive(self.now, &bytes, &mut self.random, &mut self.truth)?;
        }
        device.work(self.now, &mut self.random, &mut self.truth)?;
        let mut out = [0; frame::ENCODED_MAX];
        if self.up.ready(self.now) {
            let len = device.transmit(self.now, &mut out);
            assert!(len <= frame::encoded_max(HOST_RECEIVE_MAX));
            if len > 0 {
                self.up.send(self.now, &out[..len], &mut self.random);
                device.listen(self.up.busy_until());
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
        let device = self.boards[0].next_event(self.now, self.up.ready(self.now));
        let host = self.host.next_event(self.now, self.down.ready(self.now));
        let lines = [self.up.next_event(self.now), self.down.next_event(self.now)];
        let fate = if self.host.healed { u64::MAX } else { self.next_misfortune.min(self.heal_at) };
        let command = if self.host.has_last_result { u64::MAX } else { self.next_command };
        let others = [device, host, Some(fate), Some(command)];
        lines.into_iter().chain(others).flatten().min().unwrap_or(u64::MAX)
    }

    fn misfortune(&mut self) {
        let share = self.random.below(20);
        if share < self.board_share {
            self.board_misfortune();
        } else if share < self.board_share + self.host_share {
            self.host_misfortune();
        } else {
            self.line_misfortune();
        }
    }

    fn line_misfortune(&mut self) {
        let counts = &mut self.truth.counts;
        match self.random.below(9) {
            0 | 1 => {
                counts.reconnects += 1;
                self.maybe_cut();
                self.host.connect(self.now, &mut self.random);
                if self.random.one_in(2) {
                    self.boards[0].remade(self.now);
                }
            }
            2 => {
                counts.cuts += 1;
                self.cut();
            }
            3 => {
                counts.noises += 1;
                let line = if self.random.one_in(2) { &mut self.up } else { &mut self.down };
                line.noise(self.now, &mut self.random);
            }
            4 => self.host.ask(self.now),
            5 => {
                counts.line_errors += 1;
                self.boards[0].line_error();
            }
            6 => {
                counts.stalls += 1;
                self.host.stall(self.now + self.random.between(100_000, 4_000_000));
            }
            _ => {
                counts.windows += 1;
                self.host.change_window(self.now, &mut self.random);
            }
        }
    }

    fn host_misfortune(&mut self) {
        let (random, truth) = (&mut self.random, &mut self.truth);
        match random.below(8) {
            0 => {
                truth.counts.restarts += 1;
                self.host.restart(self.now, random);
            }
            1 | 2 => self.host.copy(),
            3 => {
                truth.counts.restores += u64::from(self.host.restore(self.now, random, truth));
                self.maybe_cut();
            }
            _ => {
                truth.counts.crashes += 1;
                self.host.crash(self.now, random, truth);
                self.maybe_cut();
            }
        }
    }

    fn board_misfortune(&mut self) {
        let what = self.random.below(16);
        if what == 0 {
            self.truth.counts.images += 1;
            self.image = Some(self.boards[0].image(&mut self.truth));
            return;
        }
        self.cut();
        let (random, truth) = (&mut self.random, &mut self.truth);
        let device = &mut self.boards[0];
        if what < 7 {
            truth.counts.resets += 1;
            device.reset(self.now, random, truth);
            return;
        }
        device.unplug(random, truth);
        match what {
            7..11 => truth.counts.power_cuts += 1,
            11 => {
                truth.counts.erasures += 1;
                device.erase(truth);
            }
            12 => {
                truth.counts.renamings += 1;
                device.rename();
            }
            13 => {
                if let Some(image) = self.image.take() {
                    truth.counts.rollbacks += 1;
                    device.restore(image, truth);
                }
            }
            _ => self.swap(),
        }
        self.boards[0].plug(self.now, &mut self.random, &mut self.truth);
    }

    /// Another board comes to the line, perhaps with a copy of some memory.
    fn swap(&mut self) {
        let (random, truth) = (&mut self.random, &mut self.truth);
        truth.counts.swaps += 1;
        if self.boards.len() < BOARDS {
            let mut board = Device::new(random, self.plant, truth);
            board.erase(truth);
            self.boards.push_back(board);
        }
        self.boards.rotate_left(1);
        if let Some(image) = self.image.take() {
            truth.counts.clones += 1;
            self.boards[0].restore(image, truth);
            if self.random.one_in(2) {
                self.boards[0].rename();
            }
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
        self.truth.check(&self.host.log)?;
        let mut report = self.truth.counts;
        report.frame_errors += self.host.errors() + self.up.faults + self.down.faults;
        report.delays += self.up.delays + self.down.delays;
        Ok(report)
    }
}
