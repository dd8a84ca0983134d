//! A gateway in miniature: appends take time, a crash loses what is not durable, the position of a
//! stream is durable with the data.

use std::collections::{BTreeMap, VecDeque};

use headwater_protocol::{
    Accept, HostConfig, HostEvent, HostLink, ItemKind, Loss, NotAccepted, Position, Refusal,
    StreamId, item::Content,
};

use crate::{
    device::TICK_HZ,
    random::Random,
    world::{Plant, Truth},
};

/// What is durable of one item.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) stream: StreamId,
    pub(crate) position: Position,
    pub(crate) loss: Option<Loss>,
    pub(crate) content: Readings,
}

#[derive(Clone, Debug)]
pub(crate) enum Readings {
    None,
    /// Number, tick and codes.
    Rows(Vec<(u64, u64, Vec<i32>)>),
    /// First and count.
    Gap(u64, u64),
}

#[derive(Debug)]
pub(crate) struct Host {
    link: HostLink,
    plant: Plant,
    /// Appends not yet durable, with the time at which they will be.
    pending: VecDeque<(u64, Entry)>,
    /// A HELLO waits until appends of an earlier link have settled.
    hello: Option<headwater_protocol::Hello>,
    /// Appends under way when this link began.
    inherited: usize,
    window: u32,
    append_us: u64,
    pub(crate) log: Vec<Entry>,
    pub(crate) positions: BTreeMap<u64, Position>,
    pub(crate) samples: u64,
    pub(crate) descriptions: u64,
    pub(crate) healed: bool,
}

impl Host {
    pub(crate) fn new(random: &mut Random, plant: Plant) -> Self {
        Self {
            link: HostLink::new(HostConfig::default(), random.bits() as u32, 0),
            plant,
            pending: VecDeque::new(),
            hello: None,
            inherited: 0,
            window: random.pick(&[1, 300, 1_000, 8_000]),
            append_us: random.pick(&[500, 20_000, 300_000]),
            log: Vec::new(),
            positions: BTreeMap::new(),
            samples: 0,
            descriptions: 0,
            healed: false,
        }
    }

    /// The process dies and starts again: of what was under way, a first part may have become
    /// durable.
    pub(crate) fn crash(&mut self, now: u64, random: &mut Random) {
        let kept = random.below(self.pending.len() as u64 + 1) as usize;
        for (_, entry) in self.pending.drain(..).take(kept) {
            let key = entry.stream.bits();
            self.positions.insert(key, entry.position);
            self.log.push(entry);
        }
        if self.plant == Plant::ForgetPosition {
            self.positions.clear();
        }
        self.connect(now, random);
    }

    /// A new connection; appends of the old one go on.
    pub(crate) fn connect(&mut self, now: u64, random: &mut Random) {
        self.link = HostLink::new(HostConfig::default(), random.bits() as u32, now);
        self.hello = None;
        self.inherited = self.pending.len();
    }

    pub(crate) fn change_window(&mut self, now: u64, random: &mut Random) {
        self.window = if self.healed { 1_000 } else { random.pick(&[0, 0, 100, 640, 4_000]) };
        self.link.set_window(now, self.window);
    }

    pub(crate) fn ask(&mut self, now: u64) {
        self.link.ask(now);
    }

    pub(crate) fn receive(
        &mut self,
        now: u64,
        mut bytes: &[u8],
        random: &mut Random,
        truth: &mut Truth,
    ) -> Result<(), String> {
        while let Some(event) = self.link.receive(now, &mut bytes) {
            match event {
                HostEvent::Hello(hello) => {
                    self.hello = Some(hello);
                    self.answer(random)?;
                }
                HostEvent::Item(arrival) => {
                    let item = arrival.item;
                    truth.retransmitted += u64::from(arrival.transmission > 1);
                    let (position, loss) = (item.position, arrival.loss);
                    let content = readings(item.kind, item.body)?;
                    let stream = self.link.stream().ok_or("an item without a stream")?;
                    let entry = Entry { stream, position, loss, content };
                    let due = now + random.between(1, self.append_us);
                    let due = self.pending.back().map_or(due, |(last, _)| due.max(*last));
                    self.pending.push_back((due, entry));
                    if self.plant == Plant::AcknowledgeOnArrival {
                        self.link.durable(now, stream, position);
                    }
                }
                HostEvent::Description(description) => {
                    self.descriptions += 1;
                    Content::decode(description.kind, description.body)
                        .map_err(|_| "malformed description")?;
                }
                HostEvent::Log(_) | HostEvent::Result(_) => {}
                HostEvent::Time(sample) => {
                    self.samples += 1;
                    let true_us = sample.tick * 1_000_000 / u64::from(TICK_HZ);
                    let error = true_us.abs_diff(sample.host_us);
                    if error > sample.half_rtt_us + 1_000_000 / u64::from(TICK_HZ) + 1 {
                        return Err(format!("clock off by {error} us: {sample:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, random: &mut Random) -> Result<(), String> {
        let Some(hello) = self.hello else { return Ok(()) };
        if self.inherited > 0 && self.plant != Plant::AcceptUnsettled {
            return Ok(());
        }
        if !self.healed && random.one_in(20) {
            self.hello = None;
            self.link.refuse(Refusal::Unavailable);
            return Ok(());
        }
        let known = hello.stream.and_then(|stream| self.positions.get(&stream.bits()));
        let durable = known.copied().unwrap_or(Position::START);
        let options = Accept { window: self.window, describe: random.one_in(4) };
        match self.link.accept(durable, options) {
            Ok(()) => {}
            Err(NotAccepted::NoStream) => {
                let drawn = StreamId::new(random.bits() | 1).unwrap();
                self.link.assign(drawn);
            }
            Err(other) => return Err(format!("{other:?}: {hello:?}, durable {durable}")),
        }
        Ok(())
    }

    /// Makes appends durable that are due.
    pub(crate) fn work(&mut self, now: u64, random: &mut Random) -> Result<(), String> {
        while let Some((_, entry)) = self.pending.pop_front_if(|(due, _)| *due <= now) {
            let (stream, position) = (entry.stream, entry.position);
            self.positions.insert(stream.bits(), position);
            self.log.push(entry);
            if self.inherited > 0 {
                self.inherited -= 1;
                if self.inherited == 0 {
                    self.answer(random)?;
                }
            } else {
                self.link.durable(now, stream, position);
            }
        }
        Ok(())
    }

    pub(crate) fn transmit(&mut self, now: u64, out: &mut [u8]) -> usize {
        self.link.transmit(now, 1_700_000_000_000 + now / 1_000, out)
    }

    pub(crate) fn next_event(&self, now: u64, line_free: bool) -> Option<u64> {
        let link = self.link.next_wake(now).filter(|_| line_free);
        let append = self.pending.front().map(|(due, _)| *due);
        link.into_iter().chain(append).min()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.link.counters().frame_errors
    }
}

fn readings(kind: ItemKind, body: &[u8]) -> Result<Readings, String> {
    let content = Content::decode(kind, body).map_err(|_| format!("malformed {kind:?}"))?;
    Ok(match content {
        Content::Block(block) => {
            let mut rows = block.rows();
            let mut all = Vec::new();
            while let Some((head, codes)) = rows.next_row() {
                all.push((head.seq, head.tick, codes.to_vec()));
            }
            Readings::Rows(all)
        }
        Content::Gap(gap) => Readings::Gap(gap.first_seq, gap.count),
        _ => Readings::None,
    })
}
