//! One direction of a line: bytes take time, and some of them are damaged, lost, doubled or
//! invented.

use std::collections::VecDeque;

use crate::random::Random;

#[derive(Debug)]
pub(crate) struct Line {
    byte_us: u64,
    latency_us: u64,
    /// A byte in so many is hit by a fault; 0 = none.
    fault_every: u64,
    busy_until: u64,
    under_way: VecDeque<(u64, Vec<u8>)>,
    pub(crate) faults: u64,
}

impl Line {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            byte_us: random.pick(&[1, 10, 87, 87, 1_000]),
            latency_us: random.between(0, 20_000),
            fault_every: random.pick(&[0, 20_000, 2_000, 400]),
            busy_until: 0,
            under_way: VecDeque::new(),
            faults: 0,
        }
    }

    pub(crate) fn heal(&mut self) {
        self.fault_every = 0;
    }

    pub(crate) fn ready(&self, now: u64) -> bool {
        self.busy_until <= now
    }

    pub(crate) fn send(&mut self, now: u64, bytes: &[u8], random: &mut Random) {
        self.busy_until = now + self.byte_us * bytes.len() as u64;
        let damaged = self.damage(bytes, random);
        self.under_way.push_back((self.busy_until + self.latency_us, damaged));
    }

    /// What has arrived by `now`.
    pub(crate) fn arrive(&mut self, now: u64) -> Option<Vec<u8>> {
        self.under_way.pop_front_if(|(at, _)| *at <= now).map(|(_, bytes)| bytes)
    }

    /// Everything under way is lost, the last chunk perhaps only in part.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        let last = self.under_way.pop_front();
        self.under_way.clear();
        if let Some((at, mut bytes)) = last.filter(|_| random.one_in(2)) {
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            self.under_way.push_back((at, bytes));
        }
    }

    pub(crate) fn next_event(&self, now: u64) -> Option<u64> {
        let arrival = self.under_way.front().map(|(at, _)| *at);
        let free = Some(self.busy_until).filter(|until| *until > now);
        arrival.into_iter().chain(free).min()
    }

    fn damage(&mut self, bytes: &[u8], random: &mut Random) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 8);
        for byte in bytes {
            if !random.one_in(self.fault_every) {
                out.push(*byte);
                continue;
            }
            self.faults += 1;
            match random.below(6) {
                0 | 1 => out.push(byte ^ (1 << random.below(8))),
                2 => {}
                3 => out.extend([*byte, *byte]),
                4 => out.extend([*byte, random.bits() as u8]),
                _ => {
                    // A chunk comes twice: also whole frames.
                    out.push(*byte);
                    let again = out[out.len().saturating_sub(80)..].to_vec();
                    out.extend(again);
                }
            }
        }
        if self.fault_every > 0 && random.one_in(200) {
            self.faults += 1;
            out.extend(bytes);
        }
        out
    }
}
