//! What a journal holds, place by place, as it is on the medium.

use std::{io, ops::ControlFlow};

use bytes::Bytes;

use super::cold;
use crate::{
    journal::{
        Disk, JournalId, Offset, OpenError, PartitionId, Position, Space,
        append::Replaced,
        cold::ColdSegment,
        format::{Barrier, ColdHeader, EntryKind, FactRef, FrameKind, Seed},
        index::{Coverage, Findings, index_name},
        reader::batch_header,
        recovery::{ColdStep, FoundEntry, Laid, Layout, Scanner, Step, Tail},
        segment::cold_name,
    },
    record::BatchHeader,
};

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this file, by its name without folder.
    pub file: Option<String>,
    /// Only frames that end behind this place.
    pub from: Option<Position>,
    /// Only frames that begin before this place.
    pub to: Option<Position>,
    /// Only batches of this partition.
    pub partition: Option<PartitionId>,
    /// Only batches with offsets from here on.
    pub from_offset: Option<Offset>,
    /// Only batches with offsets before this one.
    pub to_offset: Option<Offset>,
    /// Chunks of index files, too.
    pub index: bool,
}

/// Something that a journal holds.
#[derive(Clone, Debug)]
pub enum Item {
    /// A file that is no part of the log.
    Other {
        /// Its name.
        file: String,
        /// What it is.
        what: &'static str,
    },
    /// A segment of the log.
    Segment(SegmentItem),
    /// A cold segment's file.
    Cold(ColdItem),
    /// A chunk of an index file.
    Chunk(ChunkItem),
    /// An intact frame.
    Frame(FrameItem),
    /// An entry, in a frame or among damage.
    Entry(EntryItem),
    /// A damaged range; what survives of it follows.
    Damage {
        /// Where it begins.
        place: Place,
        /// Bytes.
        length: u64,
    },
    /// What lies behind the last frame.
    TornTail {
        /// Where it begins.
        place: Place,
        /// Bytes.
        length: u64,
    },
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File within the data folder.
    pub file: String,
    /// Place in it.
    pub at: u64,
    /// Position in the journal.
    pub position: Position,
}

/// A segment's header.
#[derive(Clone, Debug)]
pub struct SegmentItem {
    /// Its file, and `first`.
    pub place: Place,
    /// Which journal it is of.
    pub journal: JournalId,
    /// Sequence.
    pub sequence: u64,
    /// Length of its range of positions.
    pub length: u64,
    /// Where the log before it ends.
    pub previous_end: Position,
    /// `storage.max_bytes` when it was begun.
    pub max_bytes: u64,
    /// Whether the header was intact.
    pub header_intact: bool,
    /// Whether the file has the name that its sequence says.
    pub rightly_named: bool,
}

/// A cold segment's header.
#[derive(Clone, Debug)]
pub struct ColdItem {
    /// Its file, and the position of its first byte.
    pub place: Place,
    /// Sequence among cold segments.
    pub sequence: u64,
    /// First position of the log that it stands for.
    pub from: Position,
    /// One past the last.
    pub to: Position,
    /// Ms of open journal when the youngest of it left its segment.
    pub settled_ms: u64,
    /// Bytes of its file.
    pub length: u64,
}

/// A chunk's header, and how much is in it.
#[derive(Clone, Debug)]
pub struct ChunkItem {
    /// Where it is; the position is that of the first byte it covers.
    pub place: Place,
    /// Bytes in the file.
    pub length: u64,
    /// One past the last position that it covers.
    pub to: Position,
    /// Whether its segment was left.
    pub sealed: bool,
    /// Partitions with batches in the range.
    pub partitions: u64,
    /// Slices of the snapshot in the range.
    pub slices: u64,
}

/// A frame's header.
#[derive(Clone, Debug)]
pub struct FrameItem {
    /// Where it is.
    pub place: Place,
    /// Bytes with header and padding.
    pub length: u64,
    /// Whether it is the first of an opening.
    pub opening: bool,
    /// Number of entries.
    pub entries: u32,
    /// Unix ms.
    pub append_time_ms: i64,
    /// Ms of open journal.
    pub open_ms: u64,
    /// CRC of its header.
    pub crc: u32,
}

/// An entry.
#[derive(Clone, Debug)]
pub struct EntryItem {
    /// Where it is.
    pub place: Place,
    /// Bytes of payload.
    pub length: u64,
    /// Whether the payload is intact.
    pub intact: bool,
    /// What it is.
    pub content: Content,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Records of a partition.
    Batch {
        /// Partition.
        partition: PartitionId,
        /// First offset.
        from: Offset,
        /// One past the last offset.
        to: Offset,
        /// Its header, if it is intact.
        header: Option<BatchHeader>,
        /// The batch as it is stored; empty if it is damaged.
        bytes: Bytes,
    },
    /// A key with its value; none of it is known if the payload is damaged.
    Fact {
        /// Key space.
        space: Option<Space>,
        /// Key.
        key: Bytes,
        /// Value; none: the key is deleted.
        value: Option<Bytes>,
    },
    /// A slice of the state's snapshot.
    Slice {
        /// From 0.
        index: u32,
        /// How many there are.
        total: u32,
    },
    /// Identity of the log from here on.
    Barrier {
        /// Incarnation and leader epoch, if they are intact.
        numbers: Option<(u64, i32)>,
    },
    /// The orderly end.
    Close,
}

/// Shows what was selected, item by item, until there is no more or the callback breaks off. False: there is no journal.
pub fn dump(
    disk: &dyn Disk,
    selection: &Selection,
    show: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> Result<bool, OpenError> {
    let Some(layout) = Layout::find(disk)? else { return Ok(false) };
    if cold_segments(disk, layout.journal, selection, show)
        .map_err(OpenError::io("read a cold segment"))?
        .is_break()
    {
        return Ok(true);
    }
    for link in &layout.links {
        let header = link.segment.header;
        let before = selection.from.is_some_and(|from| header.end() <= from);
        let behind = selection.to.is_some_and(|to| header.first >= to);
        if before || behind || !selection.wants_file(link) {
            continue;
        }
        let failed = OpenError::io(format!("read {}", link.name));
        if segment(disk, layout.seed(), link, selection, show).map_err(failed)?.is_break() {
            return Ok(true);
        }
    }
    for (file, what) in layout.others {
        let name = file.rsplit('/').next();
        let wanted = selection.file.as_deref().is_none_or(|wanted| name == Some(wanted));
        if wanted && selection.shows_all() && show(Item::Other { file, what }).is_break() {
            break;
        }
    }
    Ok(true)
}

impl Selection {
    fn wants_file(&self, link: &Laid) -> bool {
        let name = link.name.rsplit('/').next();
        let index = index_name(link.segment.header.sequence);
        let index = index.rsplit('/').next();
        let wanted = self.file.as_deref();
        wanted.is_none() || wanted == name || wanted == index
    }

    /// Whether it is no part of the log that is asked for.
    fn shows_all(&self) -> bool {
        self.partition.is_none() && self.from_offset.is_none() && self.to_offset.is_none()
    }

    fn wants(&self, content: &Content) -> bool {
        let Content::Batch { partition, from, to, .. } = content else { return self.shows_all() };
        self.partition.is_none_or(|wanted| wanted == *partition)
            && self.from_offset.is_none_or(|wanted| *to > wanted)
            && self.to_offset.is_none_or(|wanted| *from < wanted)
    }
}

/// What was copied out of the oldest segments, whether or not a fact names it.
fn cold_segments(
    disk: &dyn Disk,
    journal: JournalId,
    selection: &Selection,
    show: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    for (sequence, length) in cold::files(disk)? {
        let file = cold_name(sequence);
        let first = Position::of_cold(sequence);
        let name = file.rsplit('/').next();
        let is_outside = selection.from.is_some_and(|from| first.plus(length) <= from)
            || selection.to.is_some_and(|to| to <= first);
        if is_outside || selection.file.as_deref().is_some_and(|wanted| name != Some(wanted)) {
            continue;
        }
        let header = cold::header(disk, sequence).filter(|header| header.journal == journal);
        let Some(ColdHeader { from, to, settled_ms, .. }) = header else {
            let what = "cold segment without a readable header";
            if selection.shows_all() && show(Item::Other { file, what }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            continue;
        };
        let place = Place { file: file.clone(), at: 0, position: first };
        let item = ColdItem { place, sequence, from, to, settled_ms, length };
        if show(Item::Cold(item)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let opened = ColdSegment::open(disk, journal, sequence, Replaced { from, to });
        let Ok((cold, ..)) = opened else { continue };
        if cold_entries(&cold, journal.seed(), &file, selection, show)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn cold_entries(
    cold: &ColdSegment,
    seed: Seed,
    file: &str,
    selection: &Selection,
    show: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let segment = &cold.readable.segment;
    let place =
        |position: Position| Place { file: file.to_owned(), at: segment.at(position), position };
    let mut scanner = Scanner::new(segment, seed, cold.readable.end)?;
    while let Some(step) = scanner.cold_step() {
        let position = scanner.position();
        if selection.from.is_some_and(|from| position <= from) {
            continue;
        }
        let item = match step {
            ColdStep::Entry(entry) if selection.to.is_some_and(|to| entry.position >= to) => break,
            ColdStep::Entry(entry) => Item::Entry(EntryItem {
                place: place(entry.position),
                length: u64::from(entry.header.length),
                intact: entry.intact,
                content: content(&mut scanner, &entry),
            }),
            ColdStep::Damage { from, to } => {
                Item::Damage { place: place(from), length: to.0 - from.0 }
            }
        };
        let wanted = match &item {
            Item::Entry(entry) => selection.wants(&entry.content),
            _ => true,
        };
        if wanted && show(item).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn segment(
    disk: &dyn Disk,
    seed: Seed,
    link: &Laid,
    selection: &Selection,
    show: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let segment = &link.segment;
    let header = segment.header;
    let place =
        |position: Position| Place { file: link.name.clone(), at: segment.at(position), position };
    let item = SegmentItem {
        place: place(header.first),
        journal: header.journal,
        sequence: header.sequence,
        length: header.length,
        previous_end: header.previous_end,
        max_bytes: header.max_bytes,
        header_intact: link.header_intact,
        rightly_named: link.is_rightly_named(),
    };
    if show(Item::Segment(item)).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    if selection.index && chunks(disk, seed, link, show).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let mut scanner = Scanner::new(segment, seed, link.end)?;
    loop {
        let at = scanner.position();
        if selection.to.is_some_and(|to| at >= to) {
            return Ok(ControlFlow::Continue(()));
        }
        let (item, entries) = match scanner.step() {
            Step::Frame(frame) => {
                let item = FrameItem {
                    place: place(at),
                    length: frame.header.length(),
                    opening: frame.header.kind == FrameKind::Opening,
                    entries: frame.header.entry_count,
                    append_time_ms: frame.header.append_time_ms,
                    open_ms: frame.header.open_ms,
                    crc: frame.crc,
                };
                (Item::Frame(item), frame.entries)
            }
            Step::Damage(damage) => {
                let length = damage.to.0 - damage.from.0;
                (Item::Damage { place: place(damage.from), length }, damage.survivors)
            }
            Step::End(tail) => {
                let length = match tail {
                    Tail::Torn { length } => length,
                    Tail::Unreadable => crate::journal::format::ALIGN,
                    Tail::Clean => return Ok(ControlFlow::Continue(())),
                };
                return Ok(show(Item::TornTail { place: place(at), length }));
            }
        };
        if selection.from.is_some_and(|from| scanner.position() <= from) {
            continue;
        }
        let entries = entries
            .iter()
            .map(|entry| EntryItem {
                place: place(entry.position),
                length: u64::from(entry.header.length),
                intact: entry.intact,
                content: content(&mut scanner, entry),
            })
            .filter(|entry| selection.wants(&entry.content))
            .collect::<Vec<_>>();
        // A frame without anything that was asked for is none that was asked for.
        if entries.is_empty() && matches!(item, Item::Frame(_)) && !selection.shows_all() {
            continue;
        }
        for item in std::iter::once(item).chain(entries.into_iter().map(Item::Entry)) {
            if show(item).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

fn chunks(
    disk: &dyn Disk,
    seed: Seed,
    link: &Laid,
    show: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let segment = &link.segment;
    let mut found = Findings::default();
    let coverage = Coverage::find(disk, seed, segment, link.end, link.next_crc, &mut found);
    for (chunk, content) in &coverage.chunks {
        let file = index_name(segment.header.sequence);
        show(Item::Chunk(ChunkItem {
            place: Place { file, at: chunk.at, position: chunk.from },
            length: chunk.length(),
            to: chunk.to,
            sealed: chunk.sealed,
            partitions: content.partitions.len() as u64,
            slices: content.slices.len() as u64,
        }))?;
    }
    ControlFlow::Continue(())
}

fn content(scanner: &mut Scanner<'_>, entry: &FoundEntry) -> Content {
    let payload = if entry.intact { scanner.payload(entry) } else { &[] };
    let header = &entry.header;
    match header.kind {
        EntryKind::Batch => Content::Batch {
            partition: header.partition,
            from: header.base_offset,
            to: header.end_offset(),
            header: batch_header(payload),
            bytes: Bytes::copy_from_slice(payload),
        },
        EntryKind::Fact => {
            let fact = FactRef::decode(payload);
            Content::Fact {
                space: fact.map(|fact| fact.space),
                key: fact.map_or_else(Bytes::new, |fact| Bytes::copy_from_slice(fact.key)),
                value: fact.and_then(|fact| fact.value).map(Bytes::copy_from_slice),
            }
        }
        EntryKind::Slice => Content::Slice { index: header.partition.0, total: header.count },
        EntryKind::Barrier => {
            let barrier = Barrier::decode(payload);
            Content::Barrier { numbers: barrier.map(|it| (it.incarnation, it.leader_epoch)) }
        }
        EntryKind::Close => Content::Close,
    }
}
