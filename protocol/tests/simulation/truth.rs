//! What really happened, out of the host's sight, and the comparison of the host's log with it.
//!
//! A *life* is a memory from its first boot on. Erasing it, or putting an older image in its place,
//! begins another. A stream has *tenures*: the lives that wrote under it.

use std::collections::{BTreeMap, BTreeSet};

use headwater_protocol::{CommandStatus, Position, StreamId, item::SchemaHash};

use crate::{
    host::{Entry, Readings},
    report::Report,
};

/// A memory's life.
pub(crate) type Life = u32;

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) boot: u32,
    pub(crate) seq: u64,
}

/// One boot of one life.
#[derive(Clone, Debug)]
struct BootTruth {
    schema: SchemaHash,
    samples: Vec<(u64, Vec<i32>)>,
    /// Readings below this number were sealed into blocks.
    sealed: u64,
    /// Readings from here on went with the memory.
    lost: Option<u64>,
}

/// A life under a stream.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    life: Life,
    /// The first reading that memory held when the stream was assigned: all from here on come under
    /// it.
    floor: Place,
    /// Whether the life had no stream before: nothing was released under another one.
    is_first: bool,
    /// The first reading that went on under another stream.
    end: Option<Place>,
}

/// What was done of a command.
#[derive(Clone, Debug, Default)]
struct Deeds {
    boot: u32,
    done: Vec<(Life, u32)>,
    ended: Vec<CommandStatus>,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    boots: BTreeMap<(Life, u32), BootTruth>,
    lives: Life,
    /// The life that an image was of, and the first position that it does not share.
    parents: BTreeMap<Life, (Life, Position)>,
    tenures: BTreeMap<StreamId, Vec<Tenure>>,
    /// The life that had the last session under a stream, and its name then.
    tenants: BTreeMap<StreamId, (Life, &'static str)>,
    /// Streams under which two lives wrote and no host could tell.
    mixed: BTreeSet<StreamId>,
    /// The end of each stream that was ever durable.
    durable: BTreeMap<StreamId, Position>,
    /// The end of each stream that is.
    ends: BTreeMap<StreamId, Position>,
    /// Readings, by stream and boot, whose durable copy went when a host was restored.
    forgotten: BTreeMap<(StreamId, u32), u64>,
    /// By boot: tick at time 0.
    bases: BTreeMap<u32, Vec<u64>>,
    lines: BTreeMap<(Life, u32), u64>,
    deeds: BTreeMap<u64, Deeds>,
    pub(crate) counts: Report,
}

impl Truth {
    pub(crate) fn new_life(&mut self) -> Life {
        self.lives += 1;
        self.lives
    }

    pub(crate) fn boot(&mut self, life: Life, boot: u32, base: u64, schema: SchemaHash) {
        let truth = BootTruth { schema, samples: Vec::new(), sealed: 0, lost: None };
        self.boots.insert((life, boot), truth);
        self.bases.entry(boot).or_default().push(base);
    }

    /// An image of a life, which shares what lies before `next`, becomes a life of its own.
    pub(crate) fn fork(&mut self, life: Life, next: Position, stream: Option<StreamId>) -> Life {
        let child = self.new_life();
        let boots = self.boots.range((life, 0)..=(life, u32::MAX));
        let copies: Vec<_> = boots.map(|((_, boot), it)| ((child, *boot), it.clone())).collect();
        self.boots.extend(copies);
        self.parents.insert(child, (life, next));
        let tenures = stream.and_then(|stream| self.tenures.get_mut(&stream));
        if let Some(tenures) = tenures
            && let Some(parent) = tenures.iter().rev().find(|tenure| tenure.life == life)
        {
            tenures.push(Tenure { life: child, ..*parent });
        }
        child
    }

    fn of(&mut self, life: Life, boot: u32) -> &mut BootTruth {
        self.boots.get_mut(&(life, boot)).unwrap()
    }

    /// Memory went: all from these places on.
    pub(crate) fn lost(&mut self, life: Life, places: &[Place]) {
        for place in places {
            let lost = &mut self.of(life, place.boot).lost;
            *lost = Some(lost.map_or(place.seq, |before| before.min(place.seq)));
        }
        self.counts.lost += u64::from(!places.is_empty());
    }

    pub(crate) fn sampled(&mut self, life: Life, boot: u32, seq: u64, tick: u64, codes: &[i32]) {
        let samples = &mut self.of(life, boot).samples;
        assert_eq!(seq, samples.len() as u64);
        samples.push((tick, codes.to_vec()));
    }

    pub(crate) fn sealed(&mut self, life: Life, boot: u32, end: u64) {
        self.of(life, boot).sealed = end;
    }

    /// A stream was assigned to a life that had one before, or none; `floor` is its oldest reading.
    pub(crate) fn assigned(
        &mut self,
        stream: StreamId,
        before: Option<StreamId>,
        life: Life,
        floor: Place,
    ) -> Result<(), String> {
        let of_life = |tenure: &Tenure| tenure.life == life;
        if before.is_none() && self.tenures.values().flatten().any(of_life) {
            return Err("a life that had a stream asks for one".into());
        }
        if let Some(before) = before {
            let tenures = self.tenures.entry(before).or_default();
            let ended = tenures.iter_mut().filter(|tenure| of_life(tenure));
            ended.for_each(|tenure| tenure.end = Some(floor));
            self.counts.replaced += 1;
        }
        let tenures = self.tenures.entry(stream).or_default();
        if tenures.iter().any(|tenure| tenure.life != life) {
            return Err(format!("stream {stream} is assigned twice"));
        }
        tenures.push(Tenure { life, floor, is_first: before.is_none(), end: None });
        Ok(())
    }

    /// A session begins.
    pub(crate) fn session(
        &mut self,
        stream: StreamId,
        life: Life,
        name: &'static str,
    ) -> Result<(), String> {
        self.counts.sessions += 1;
        let Some((tenant, tenant_name)) = self.tenants.insert(stream, (life, name)) else {
            return Ok(());
        };
        let end = self.ends.get(&stream).copied().unwrap_or(Position::START);
        if tenant != life && end >= self.shared(tenant, life) {
            if tenant_name != name {
                return Err(format!("{tenant_name} and {name} under stream {stream}"));
            }
            self.counts.undetected += u64::from(self.mixed.insert(stream));
        }
        Ok(())
    }

    /// A life and those that it is an image of, with the first position that each does not share
    /// with it.
    fn ancestors(&self, mut life: Life) -> Vec<(Life, Position)> {
        let mut end = Position::new(u32::MAX, u64::MAX);
        let mut all = vec![(life, end)];
        while let Some((parent, next)) = self.parents.get(&life) {
            end = end.min(*next);
            life = *parent;
            all.push((life, end));
        }
        all
    }

    /// The first position that two lives do not share; START if they have nothing in common.
    fn shared(&self, one: Life, other: Life) -> Position {
        let others = self.ancestors(other);
        for (life, end) in self.ancestors(one) {
            if let Some((_, other_end)) = others.iter().find(|(it, _)| *it == life) {
                return end.min(*other_end);
            }
        }
        Position::START
    }

    /// The host made an item durable.
    pub(crate) fn durable(&mut self, entry: &Entry) {
        let end = self.durable.entry(entry.stream).or_insert(Position::START);
        *end = entry.position.max(*end);
        self.ends.insert(entry.stream, entry.position);
    }

    /// The host's log is now this one.
    pub(crate) fn restored(&mut self, log: &[Entry]) {
        self.ends = log.iter().map(|entry| (entry.stream, entry.position)).collect();
    }

    /// The host's log lost an item, because an older copy of it took its place.
    pub(crate) fn forgot(&mut self, entry: &Entry) {
        let end = match &entry.content {
            Readings::Rows { rows, .. } => rows.last().map_or(0, |row| row.0 + 1),
            Readings::Gap(first, count) => first + count,
            Readings::Boot(_) | Readings::None => 0,
        };
        let forgotten = self.forgotten.entry((entry.stream, entry.position.boot)).or_default();
        *forgotten = end.max(*forgotten);
    }

    pub(crate) fn acknowledged(
        &mut self,
        stream: Option<StreamId>,
        life: Life,
        position: Position,
    ) -> Result<(), String> {
        let stream = stream.ok_or("an acknowledgement without a stream")?;
        let tenures = self.tenures.get(&stream);
        if !tenures.is_some_and(|all| all.iter().any(|tenure| tenure.life == life)) {
            return Err(format!("stream {stream} belongs to another life"));
        }
        let durable = self.durable.get(&stream);
        if durable.is_none_or(|durable| *durable < position) {
            return Err(format!("{position} acknowledged, durable {durable:?}"));
        }
        Ok(())
    }

    /// Whether a device's tick can have been that at that time.
    pub(crate) fn clock_error_us(&self, boot: u32, tick: u64, host_us: u64, hz: u64) -> u64 {
        let bases = self.bases.get(&boot).into_iter().flatten();
        let error = |base: &u64| ((tick - base).saturating_mul(1_000_000) / hz).abs_diff(host_us);
        bases.filter(|base| **base <= tick).map(error).min().unwrap_or(u64::MAX)
    }

    /// A line of text was written; gives its number.
    pub(crate) fn line_written(&mut self, life: Life, boot: u32) -> u64 {
        let lines = self.lines.entry((life, boot)).or_default();
        *lines += 1;
        *lines
    }

    pub(crate) fn line_arrived(&mut self, text: &[u8], lost: u32) -> Result<(), String> {
        let text = str::from_utf8(text).map_err(|_| "text is no UTF-8")?;
        let mut numbers = text.split('.').map(str::parse::<u64>);
        let (Some(Ok(life)), Some(Ok(boot)), Some(Ok(line)), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(format!("nobody wrote {text:?}"));
        };
        let written = self.lines.get(&(life as Life, boot as u32)).copied().unwrap_or(0);
        if line > written || u64::from(lost) >= written {
            return Err(format!("line {text} of {written}, {lost} lost"));
        }
        self.counts.lines += 1;
        Ok(())
    }

    pub(crate) fn command_given(&mut self, id: u64, boot: u32) {
        self.deeds.insert(id, Deeds { boot, ..Deeds::default() });
    }

    /// A device did what a command says.
    pub(crate) fn did(&mut self, id: u64, life: Life, boot: u32) -> Result<(), String> {
        let deeds = self.deeds.get(&id).ok_or("a command that nobody gave")?;
        if deeds.boot != boot {
            return Err(format!("command {id} of boot {} done in {boot}", deeds.boot));
        }
        let again = |done: &&(Life, u32)| self.shared(done.0, life) == Position::START;
        if let Some(before) =
            deeds.done.iter().find(|done| **done == (life, boot)).or(deeds.done.iter().find(again))
        {
            return Err(format!("command {id} done by {before:?} and {:?}", (life, boot)));
        }
        self.deeds.get_mut(&id).unwrap().done.push((life, boot));
        self.counts.commands += 1;
        Ok(())
    }

    /// A device tried a command.
    pub(crate) fn ended(&mut self, id: u64, status: CommandStatus) {
        if let Some(deeds) = self.deeds.get_mut(&id) {
            deeds.ended.push(status);
        }
    }

    /// The host says how its command ended.
    pub(crate) fn result(&mut self, id: u64, status: CommandStatus) -> Result<(), String> {
        let deeds = &self.deeds[&id];
        let is_so = match status {
            CommandStatus::Done => !deeds.done.is_empty(),
            CommandStatus::OtherBoot => true,
            other => deeds.ended.contains(&other),
        };
        if !is_so {
            return Err(format!("command {id} is said to be {status:?}: {deeds:?}"));
        }
        self.counts.results += 1;
        Ok(())
    }

    /// Compares the log with what was sampled.
    pub(crate) fn check(&mut self, log: &[Entry]) -> Result<(), String> {
        let mut logs: BTreeMap<StreamId, Vec<&Entry>> = BTreeMap::new();
        for entry in log {
            logs.entry(entry.stream).or_default().push(entry);
        }
        let unknown = logs.keys().find(|stream| !self.tenures.contains_key(stream));
        if let Some(stream) = unknown {
            return Err(format!("stream {stream} that no device has"));
        }
        let tenants: Vec<(StreamId, Life)> =
            self.tenants.iter().map(|(stream, (life, _))| (*stream, *life)).collect();
        for (stream, life) in tenants {
            let log = logs.remove(&stream).unwrap_or_default();
            let result = if self.mixed.contains(&stream) {
                self.check_mixed(stream, &log)
            } else {
                self.check_stream(stream, life, &log)
            };
            result.map_err(|what| format!("stream {stream} of {life}: {what}"))?;
        }
        match logs.keys().next() {
            Some(stream) => Err(format!("stream {stream} without a session")),
            None => Ok(()),
        }
    }

    fn check_stream(&mut self, stream: StreamId, life: Life, log: &[&Entry]) -> Result<(), String> {
        let tenures = self.tenures.get(&stream).into_iter().flatten();
        let tenure = *tenures.rev().find(|it| it.life == life).ok_or("no tenure")?;
        let mut at = Place { boot: 1, seq: 0 };
        let mut last = Position::START;
        for entry in log {
            if entry.position <= last {
                return Err(format!("{} after {last}", entry.position));
            }
            let boot = entry.position.boot;
            let truth = self.boots.get(&(life, boot)).ok_or("a boot that never was")?;
            let place = |seq| Place { boot, seq };
            let (from, to) = match &entry.content {
                Readings::None if at.boot == boot => (at, at),
                Readings::None | Readings::Boot(_) => (place(0), place(0)),
                Readings::Gap(first, count) => (place(*first), place(first + count)),
                Readings::Rows { rows, .. } => {
                    let first = rows.first().ok_or("a block of nothing")?.0;
                    (place(first), place(first + rows.len() as u64))
                }
            };
            self.check_loss(stream, tenure, entry, last)?;
            let told = entry.loss.is_some() || last == Position::START;
            self.check_between(stream, tenure, at, from, told)?;
            self.counts.losses += u64::from(entry.loss.is_some());
            match &entry.content {
                Readings::Rows { rows, schema } => {
                    let is_told = tenure.is_first && !self.has_forgotten(stream);
                    let unknown = schema.is_none() && !is_told;
                    if *schema != Some(truth.schema) && !unknown {
                        return Err(format!("boot {boot} decoded under {schema:?}"));
                    }
                    check_rows(&truth.samples, rows)
                        .map_err(|what| format!("boot {boot}: {what}"))?;
                    self.counts.readings += rows.len() as u64;
                }
                Readings::Gap(_, count) => self.counts.gap_readings += count,
                Readings::Boot(schema) if *schema != truth.schema => {
                    return Err(format!("boot {boot} with another schema"));
                }
                Readings::Boot(_) | Readings::None => {}
            }
            at = to;
            last = entry.position;
        }
        let boots = self.boots.range((life, 0)..=(life, u32::MAX));
        let (boot, sealed) = boots.last().map_or((0, 0), |((_, boot), it)| (*boot, it.sealed));
        let end = tenure.end.unwrap_or(Place { boot, seq: sealed });
        if at < end { self.check_between(stream, tenure, at, end, true) } else { Ok(()) }
    }

    /// A told loss has a reason.
    fn check_loss(
        &self,
        stream: StreamId,
        tenure: Tenure,
        entry: &Entry,
        last: Position,
    ) -> Result<(), String> {
        let Some(loss) = entry.loss else { return Ok(()) };
        let is_first = last == Position::START && !tenure.is_first;
        let is_unsure = loss.last_lost.is_none() && entry.position.item == 0;
        let has_memory_lost = self
            .boots
            .range((tenure.life, 0)..=(tenure.life, u32::MAX))
            .any(|(_, boot)| boot.lost.is_some());
        if loss.after != last && !self.has_forgotten(stream) {
            return Err(format!("{loss:?} after {last}"));
        }
        if is_first || is_unsure || has_memory_lost || self.has_forgotten(stream) {
            return Ok(());
        }
        Err(format!("{loss:?} although nothing was lost"))
    }

    fn has_forgotten(&self, stream: StreamId) -> bool {
        self.forgotten.range((stream, 0)..=(stream, u32::MAX)).next().is_some()
    }

    /// What was sealed between two readings may be absent: it went with a memory, or was durable in
    /// a log that went.
    fn check_between(
        &self,
        stream: StreamId,
        tenure: Tenure,
        from: Place,
        to: Place,
        told: bool,
    ) -> Result<(), String> {
        if to < from {
            return Err(format!("{to:?} after {from:?}"));
        }
        for ((_, boot), truth) in
            self.boots.range((tenure.life, from.boot)..=(tenure.life, to.boot))
        {
            let first = if *boot == from.boot { from.seq } else { 0 };
            let floor = match tenure.floor {
                floor if *boot < floor.boot => continue,
                floor if *boot == floor.boot => floor.seq,
                _ => 0,
            };
            let first = first.max(floor);
            let end = if *boot == to.boot { to.seq } else { truth.sealed };
            if first >= end {
                continue;
            }
            if !told {
                return Err(format!("boot {boot}: {first} to {end} are silently missing"));
            }
            let forgotten = self.forgotten.get(&(stream, *boot)).copied().unwrap_or(0);
            let first = first.max(forgotten);
            let end = end.min(truth.lost.unwrap_or(end));
            if first < end {
                return Err(format!("boot {boot}: {first} to {end} are missing"));
            }
        }
        Ok(())
    }

    /// Two lives under one stream: nothing is invented, nothing comes twice.
    fn check_mixed(&mut self, stream: StreamId, log: &[&Entry]) -> Result<(), String> {
        let lives: Vec<Life> = self.tenures[&stream].iter().map(|tenure| tenure.life).collect();
        let mut last = Position::START;
        for entry in log {
            if entry.position <= last {
                return Err(format!("{} after {last}", entry.position));
            }
            last = entry.position;
            let Readings::Rows { rows, .. } = &entry.content else { continue };
            let boots = lives.iter().filter_map(|life| self.boots.get(&(*life, last.boot)));
            if !boots.into_iter().any(|boot| check_rows(&boot.samples, rows).is_ok()) {
                return Err(format!("{last} is of none of {lives:?}"));
            }
        }
        Ok(())
    }
}

/// Rows are those that were sampled, in order.
fn check_rows(samples: &[(u64, Vec<i32>)], rows: &[(u64, u64, Vec<i32>)]) -> Result<(), String> {
    let first = rows.first().map_or(0, |row| row.0);
    for (expected, (seq, tick, codes)) in (first..).zip(rows) {
        let (true_tick, true_codes) = samples.get(*seq as usize).ok_or("never sampled")?;
        if *seq != expected || codes != true_codes || tick.abs_diff(*true_tick) > TICK_ERROR_MAX {
            return Err(format!("reading {seq} differs"));
        }
    }
    Ok(())
}

/// An eighth of the longest period, ticks.
const TICK_ERROR_MAX: u64 = 410;
