//! One direction of a line: bytes take time, and some of them are damaged, lost, doubled, delayed
//! or invented.

use std::collections::VecDeque;

use crate::random::Random;

#[derive(Debug)]
pub(crate) struct Line {
    byte_us: u64,
    latency_us: u64,
    /// A byte in so many is hit by a fault; 0 = none.
    fault_every: u64,
    /// A chunk in so many comes late; 0 = none.
    delay_every: u64,
    busy_until: u64,
    /// When the last chunk arrives: bytes stay in order.
    last_arrival: u64,
    under_way: VecDeque<(u64, Vec<u8>)>,
    pub(crate) faults: u64,
    pub(crate) delays: u64,
}

/// Longest delay of a chunk.
const DELAY_US: u64 = 800_000;

impl Line {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            byte_us: random.pick(&[1, 10, 87, 87, 1_000]),
            latency_us: random.between(0, 20_000),
            fault_every: random.pick(&[0, 20_000, 2_000, 400]),
            delay_every: random.pick(&[0, 10, 100]),
            busy_until: 0,
            last_arrival: 0,
            under_way: VecDeque::new(),
            faults: 0,
            delays: 0,
        }
    }

    pub(crate) fn heal(&mut self) {
        self.fault_every = 0;
        self.delay_every = 0;
    }

    pub(crate) fn ready(&self, now: u64) -> bool {
        self.busy_until <= now
    }

    /// When the sender has sent all.
    pub(crate) fn busy_until(&self) -> u64 {
        self.busy_until
    }

    pub(crate) fn send(&mut self, now: u64, bytes: &[u8], random: &mut Random) {
        self.busy_until = now + self.byte_us * bytes.len() as u64;
        let mut damaged = self.damage(bytes, random);
        // In two pieces, of which the second may come late.
        let rest = if random.one_in(8) {
            damaged.split_off(random.below(damaged.len() as u64 + 1) as usize)
        } else {
            Vec::new()
        };
        self.put(damaged, random);
        self.put(rest, random);
    }

    /// Bytes that nobody sent.
    pub(crate) fn noise(&mut self, now: u64, random: &mut Random) {
        let bytes = (0..random.between(1, 40)).map(|_| random.bits() as u8).collect();
        self.busy_until = self.busy_until.max(now);
        self.put(bytes, random);
    }

    fn put(&mut self, bytes: Vec<u8>, random: &mut Random) {
        if bytes.is_empty() {
            return;
        }
        let mut at = self.busy_until + self.latency_us;
        if random.one_in(self.delay_every) {
            self.delays += 1;
            at += random.below(DELAY_US);
        }
        self.last_arrival = at.max(self.last_arrival);
        self.under_way.push_back((self.last_arrival, bytes));
    }

    /// What has arrived by `now`.
    pub(crate) fn arrive(&mut self, now: u64) -> Option<Vec<u8>> {
        self.under_way.pop_front_if(|(at, _)| *at <= now).map(|(_, bytes)| bytes)
    }

    /// Everything under way is lost, the first chunk perhaps only in part.
    pub(crate) fn cut(&mut self, random: &mut Random) {
        let first = self.under_way.pop_front();
        self.under_way.clear();
        if let Some((at, mut bytes)) = first.filter(|_| random.one_in(2)) {
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
        if self.fault_every == 0 {
            return bytes.to_vec();
        }
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
        if random.one_in(200) {
            self.faults += 1;
            out.extend(bytes);
        }
        out
    }
}
