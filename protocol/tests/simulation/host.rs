//! A gateway in miniature: appends take time, a crash loses what is not durable, the position of a
//! stream is durable with the data.

use std::collections::{BTreeMap, VecDeque};

use headwater_protocol::{
    Accept, CommandStatus, Hello, HostConfig, HostEvent, HostLink, Item, Loss, NotAccepted,
    Position, Refusal, StreamId,
    item::{Content, SchemaHash},
    message::Outcome,
};

use crate::{device::TICK_HZ, plant::Plant, random::Random, truth::Truth};

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
    Boot(SchemaHash),
    Rows {
        /// Number, tick and codes.
        rows: Vec<(u64, u64, Vec<i32>)>,
        /// The schema under which they were decoded, if it was known.
        schema: Option<SchemaHash>,
    },
    /// First and count.
    Gap(u64, u64),
}

/// What is durable beside the log.
#[derive(Clone, Debug, Default)]
struct State {
    positions: BTreeMap<(u64, u32), Position>,
    /// Which device a stream was taken from.
    owners: BTreeMap<StreamId, String>,
}

/// A command that waits for its result.
#[derive(Clone, Copy, Debug)]
struct Command {
    id: u64,
    boot: u32,
    stream: Option<StreamId>,
    /// When it is given up.
    until: u64,
}

#[derive(Debug)]
pub(crate) struct Host {
    link: HostLink,
    plant: Plant,
    /// Appends not yet durable, with the time at which they will be.
    pending: VecDeque<(u64, Entry)>,
    /// A HELLO that waits until appends of its stream have settled.
    hello: Option<Hello>,
    window: u32,
    append_us: u64,
    /// No append is durable before.
    stalled_until: u64,
    pub(crate) log: Vec<Entry>,
    state: State,
    /// Length of the log and state when somebody copied them.
    copy: Option<(usize, State)>,
    /// Schemas by stream and boot, gathered from the log and from descriptions.
    schemas: BTreeMap<(StreamId, u32), SchemaHash>,
    command: Option<Command>,
    /// One that an earlier connection gave: whether it was done is not known.
    unanswered: Option<Command>,
    last_command: u64,
    /// A command that is not given up has come to an end.
    pub(crate) has_last_result: bool,
    pub(crate) healed: bool,
}

impl Host {
    pub(crate) fn new(random: &mut Random, plant: Plant) -> Self {
        Self {
            link: HostLink::new(HostConfig::default(), random.bits() as u32, 0),
            plant,
            pending: VecDeque::new(),
            hello: None,
            window: random.pick(&[1, 300, 1_000, 8_000]),
            append_us: random.pick(&[500, 20_000, 300_000]),
            stalled_until: 0,
            log: Vec::new(),
            state: State::default(),
            copy: None,
            schemas: BTreeMap::new(),
            command: None,
            unanswered: None,
            last_command: 0,
            has_last_result: false,
            healed: false,
        }
    }

    /// The process dies and starts again: of what was under way, a first part may have become
    /// durable.
    pub(crate) fn crash(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        let kept = random.below(self.pending.len() as u64 + 1) as usize;
        let pending: Vec<_> = self.pending.drain(..).take(kept).collect();
        pending.into_iter().for_each(|(_, entry)| self.settle(entry, truth));
        if self.plant == Plant::ForgetPosition {
            self.state.positions.clear();
        }
        self.recover(now, random);
    }

    /// Somebody copies what is durable.
    pub(crate) fn copy(&mut self) {
        self.copy = Some((self.log.len(), self.state.clone()));
    }

    /// The process dies, and starts again with that copy. False: there is none.
    pub(crate) fn restore(&mut self, now: u64, random: &mut Random, truth: &mut Truth) -> bool {
        let Some((len, state)) = self.copy.clone() else { return false };
        self.pending.clear();
        truth.counts.forgotten += (self.log.len() - len) as u64;
        self.log.drain(len..).for_each(|entry| truth.forgot(&entry));
        truth.restored(&self.log);
        self.state = state;
        self.recover(now, random);
        true
    }

    fn recover(&mut self, now: u64, random: &mut Random) {
        if self.plant == Plant::NumberReused {
            self.last_command = 0;
        }
        self.schemas.clear();
        for entry in &self.log {
            if let Readings::Boot(schema) = entry.content {
                self.schemas.insert((entry.stream, entry.position.boot), schema);
            }
        }
        self.connect(now, random);
    }

    /// A new connection; appends of the old one go on.
    pub(crate) fn connect(&mut self, now: u64, random: &mut Random) {
        self.link = HostLink::new(HostConfig::default(), random.bits() as u32, now);
        self.hello = None;
        self.unanswered = self.command.take().or(self.unanswered);
    }

    /// A new session on the same connection: what is under way is withdrawn.
    pub(crate) fn restart(&mut self, now: u64, random: &mut Random) {
        self.pending.clear();
        self.hello = None;
        self.unanswered = self.command.take().or(self.unanswered);
        self.link.restart(now, random.bits() as u32);
    }

    pub(crate) fn change_window(&mut self, now: u64, random: &mut Random) {
        let window = if self.healed { 1_000 } else { random.pick(&[0, 0, 100, 640, 4_000]) };
        if self.plant == Plant::WindowDeadlock && self.window == 0 {
            return;
        }
        self.window = window;
        self.link.set_window(now, window);
    }

    /// The storage takes long.
    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = until;
    }

    pub(crate) fn ask(&mut self, now: u64) {
        self.link.ask(now);
    }

    /// Gives a command, if somebody is there. Once the line has healed none is given up.
    pub(crate) fn give_command(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        let Some(boot) = self.link.boot().filter(|_| !self.healed || self.command.is_none()) else {
            return;
        };
        let stream = self.link.stream();
        if let Some(again) = self.unanswered.take_if(|it| it.until > now && it.stream == stream)
            && self.link.command(now, again.boot, again.id, &again.id.to_le_bytes()).is_ok()
        {
            self.command = Some(again);
            return;
        }
        let id = self.last_command + 1;
        let stale = !self.healed && random.one_in(6);
        let boot = if stale { boot.wrapping_sub(1).max(1) } else { boot };
        if self.link.command(now, boot, id, &id.to_le_bytes()).is_err() {
            return;
        }
        truth.command_given(id, boot);
        self.last_command = id;
        let until = if self.healed { u64::MAX } else { now + random.between(100_000, 20_000_000) };
        self.command = Some(Command { id, boot, stream, until });
    }

    pub(crate) fn receive(
        &mut self,
        now: u64,
        mut bytes: &[u8],
        random: &mut Random,
        truth: &mut Truth,
    ) -> Result<(), String> {
        loop {
            let stream = self.link.stream();
            let Some(event) = self.link.receive(now, &mut bytes) else { return Ok(()) };
            match event {
                HostEvent::Hello(hello) => {
                    self.hello = Some(hello);
                    if stream.is_some() && hello.stream != stream {
                        self.command = None;
                        self.link.withdraw_command();
                    }
                    self.answer(random)?;
                }
                HostEvent::Item(arrival) => {
                    truth.counts.retransmitted += u64::from(arrival.transmission > 1);
                    let stream = stream.ok_or("an item without a stream")?;
                    let position = arrival.item.position;
                    let loss = arrival.loss.filter(|_| self.plant != Plant::LossUntold);
                    let content = readings(&arrival.item, stream, &mut self.schemas, self.plant)?;
                    let entry = Entry { stream, position, loss, content };
                    let due = (now + random.between(1, self.append_us)).max(self.stalled_until);
                    let due = self.pending.back().map_or(due, |(last, _)| due.max(*last));
                    self.pending.push_back((due, entry));
                    if self.plant == Plant::AcknowledgeOnArrival {
                        self.link.durable(now, stream, position);
                    }
                }
                HostEvent::Description(description) => {
                    truth.counts.descriptions += 1;
                    let content = Content::decode(description.kind, description.body);
                    if let Content::Boot(boot) = content.map_err(|_| "malformed description")? {
                        let stream = stream.ok_or("a description without a stream")?;
                        self.schemas.insert((stream, description.boot), boot.schema);
                    }
                }
                HostEvent::Log(log) => truth.line_arrived(log.text, log.lost)?,
                HostEvent::Result(outcome) => {
                    let command = self.command.take().ok_or("a result of no command")?;
                    check_result(command.id, outcome, truth)?;
                    self.has_last_result |= command.until == u64::MAX;
                }
                HostEvent::Time(sample) => {
                    truth.counts.clock_samples += 1;
                    let hz = u64::from(TICK_HZ);
                    let error = truth.clock_error_us(sample.boot, sample.tick, sample.host_us, hz);
                    if error > sample.half_rtt_us + 1_000_000 / hz + 1 {
                        return Err(format!("clock off by {error} us: {sample:?}"));
                    }
                }
            }
        }
    }

    /// Where the position of a stream is kept.
    fn key(&self, stream: StreamId, boot: u32) -> (u64, u32) {
        (stream.bits(), if self.plant == Plant::DedupePerBoot { boot } else { 0 })
    }

    fn answer(&mut self, random: &mut Random) -> Result<(), String> {
        let Some(hello) = self.hello else { return Ok(()) };
        // For what this link took of the stream that it has now, it waits itself.
        let is_settling = hello.stream != self.link.stream()
            && self.pending.iter().any(|(_, entry)| Some(entry.stream) == hello.stream);
        if is_settling && self.plant != Plant::AcceptUnsettled {
            return Ok(());
        }
        self.hello = None;
        if !self.healed && random.one_in(20) {
            self.link.refuse(Refusal::Unavailable);
            return Ok(());
        }
        let drawn = StreamId::new(random.bits() | 1).unwrap();
        let Some(stream) = hello.stream else {
            self.link.assign(drawn);
            return Ok(());
        };
        let owner = self.state.owners.entry(stream).or_insert_with(|| hello.device.to_string());
        if *owner != hello.device.as_str() && self.plant != Plant::IdClashAccepted {
            self.link.assign(drawn);
            return Ok(());
        }
        let known = self.state.positions.get(&self.key(stream, hello.next.boot));
        let durable = known.copied().unwrap_or(Position::START);
        let is_known = self.schemas.contains_key(&(stream, hello.next.boot))
            || hello.oldest <= Position::new(hello.next.boot, 0);
        let describe = !is_known || random.one_in(4);
        let options = Accept { window: self.window, describe };
        match self.link.accept(durable, options) {
            Ok(()) => {}
            Err(NotAccepted::Behind) => self.link.assign(drawn),
            Err(other) => return Err(format!("{other:?}: {hello:?}, durable {durable}")),
        }
        Ok(())
    }

    /// Makes appends durable that are due, and gives up what takes too long.
    pub(crate) fn work(
        &mut self,
        now: u64,
        random: &mut Random,
        truth: &mut Truth,
    ) -> Result<(), String> {
        while let Some((_, entry)) = self.pending.pop_front_if(|(due, _)| *due <= now) {
            let (stream, position) = (entry.stream, entry.position);
            self.settle(entry, truth);
            self.link.durable(now, stream, position);
            self.answer(random)?;
            if self.plant == Plant::WindowDeadlock && self.window == 0 {
                self.window = 1_000;
                self.link.set_window(now, self.window);
            }
        }
        if self.command.is_some_and(|command| command.until <= now) {
            self.command = None;
            self.link.withdraw_command();
        }
        Ok(())
    }

    fn settle(&mut self, entry: Entry, truth: &mut Truth) {
        let key = self.key(entry.stream, entry.position.boot);
        self.state.positions.insert(key, entry.position);
        truth.durable(&entry);
        self.log.push(entry);
    }

    pub(crate) fn transmit(&mut self, now: u64, out: &mut [u8]) -> usize {
        self.link.transmit(now, 1_700_000_000_000 + now / 1_000, out)
    }

    pub(crate) fn next_event(&self, now: u64, line_free: bool) -> Option<u64> {
        let link = self.link.next_wake(now).filter(|_| line_free);
        let append = self.pending.front().map(|(due, _)| *due);
        let command = self.command.map(|command| command.until);
        link.into_iter().chain(append).chain(command).min()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.link.counters().frame_errors
    }
}

fn check_result(id: u64, outcome: Outcome<'_>, truth: &mut Truth) -> Result<(), String> {
    if outcome.id != id {
        return Err(format!("a result of {} instead of {id}", outcome.id));
    }
    if outcome.status != CommandStatus::OtherBoot && outcome.payload != id.to_be_bytes() {
        return Err(format!("command {id} gave {:?}", outcome.payload));
    }
    truth.result(id, outcome.status)
}

fn readings(
    item: &Item<'_>,
    stream: StreamId,
    schemas: &mut BTreeMap<(StreamId, u32), SchemaHash>,
    plant: Plant,
) -> Result<Readings, String> {
    let boot = item.position.boot;
    let content = Content::decode(item.kind, item.body);
    Ok(match content.map_err(|_| format!("malformed {:?}", item.kind))? {
        Content::Boot(it) => {
            schemas.insert((stream, boot), it.schema);
            Readings::Boot(it.schema)
        }
        Content::Block(block) => {
            let mut schema = schemas.get(&(stream, boot)).copied();
            if plant == Plant::OldSchemaForgotten {
                let of_stream = schemas.range((stream, 0)..=(stream, u32::MAX));
                schema = of_stream.last().map(|(_, schema)| *schema);
            }
            let mut rows = block.rows();
            let mut all = Vec::new();
            while let Some((head, codes)) = rows.next_row() {
                all.push((head.seq, head.tick, codes.to_vec()));
            }
            Readings::Rows { rows: all, schema }
        }
        Content::Gap(gap) => Readings::Gap(gap.first_seq, gap.count),
        _ => Readings::None,
    })
}
