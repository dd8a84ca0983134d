//! What a power cut leaves of what was pending.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    Event, Files, Random, SIM_BLOCK_BYTES,
    files::{NameChange, apply_content, write},
};

/// What survives of the pending operations when the power goes. "Changes" are single blocks, lengths and
/// names, in the order in which they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// Of the last write only its first block.
    FirstBlock,
    /// Of the last write everything but its first block.
    LostFirstBlock,
    /// The first so many changes.
    Prefix(usize),
    /// Everything but one change.
    Without(usize),
    /// Nothing but one change.
    Only(usize),
    /// All content and no names.
    Content,
    /// All names and no content.
    Names,
    /// Any changes, drawn from a seed.
    Some(u64),
    /// As before, and one of the blocks under write is garbage.
    Garbled(u64),
    /// As before, and one of the blocks under write has some sectors of before and some of after.
    Torn(u64),
    /// As [`Cut::Garbled`], on a medium that rewrites 16 KiB at a time: neighbours are hit too, durable or not.
    GarbledPage(u64),
}

/// What a medium with large pages rewrites at once.
const PAGE_BYTES: usize = 16 * 1024;
const SECTOR_BYTES: usize = 512;

/// A change that is kept or lost as a whole.
enum Change {
    Block { inode: u64, at: usize, bytes: Bytes, last_write: bool, first_of_write: bool },
    Length { inode: u64, event: Event },
    Name(NameChange),
}

enum Fate {
    Kept,
    Lost,
    Garbled,
    Torn,
}

impl Files {
    /// How many changes are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        let contents = self.inodes.values().flat_map(|inode| &inode.pending);
        let blocks = contents.map(|(_, event)| match event {
            Event::Write { bytes, .. } => bytes.len().div_ceil(SIM_BLOCK_BYTES),
            _ => 1,
        });
        blocks.sum::<usize>() + self.pending_names.len()
    }

    /// How many writes are pending.
    #[must_use]
    pub fn pending_writes(&self) -> usize {
        let pending = self.inodes.values().flat_map(|inode| &inode.pending);
        pending.filter(|(_, event)| matches!(event, Event::Write { .. })).count()
    }

    /// What is found after the power came back.
    #[must_use]
    pub fn after(&self, cut: Cut) -> Self {
        let changes = self.changes();
        let mut files = self.clone();
        files.pending_names.clear();
        for inode in files.inodes.values_mut() {
            inode.pending.clear();
        }
        let mut random = cut.random();
        let blocks: Vec<usize> = (0..changes.len())
            .filter(|&index| matches!(changes.get(index), Some(Change::Block { .. })))
            .collect();
        let spoilt = if blocks.is_empty() {
            None
        } else {
            blocks.get(random.below(blocks.len() as u64) as usize).copied()
        };
        for (index, change) in changes.iter().enumerate() {
            let fate = cut.fate(index, change, spoilt, &mut random);
            files.settle(change, &fate, cut, &mut random);
        }
        for inode in files.inodes.values_mut() {
            inode.cache = Arc::clone(&inode.medium);
        }
        files.names.clone_from(&files.durable_names);
        files
    }

    fn changes(&self) -> Vec<Change> {
        let mut ordered: BTreeMap<(u64, usize), Change> = BTreeMap::new();
        let last_write = self
            .inodes
            .values()
            .flat_map(|inode| &inode.pending)
            .filter(|(_, event)| matches!(event, Event::Write { .. }))
            .map(|(order, _)| *order)
            .max();
        for (order, event) in self.inodes.values().flat_map(|inode| &inode.pending) {
            let Event::Write { inode, at, bytes } = event else {
                if let Event::Resize { inode, .. } = event {
                    let change = Change::Length { inode: *inode, event: event.clone() };
                    ordered.insert((*order, 0), change);
                }
                continue;
            };
            // Blocks of the medium, wherever in them the write began.
            let mut done = 0;
            while done < bytes.len() {
                let left = SIM_BLOCK_BYTES - (at + done) % SIM_BLOCK_BYTES;
                let end = (done + left).min(bytes.len());
                let change = Change::Block {
                    inode: *inode,
                    at: at + done,
                    bytes: bytes.slice(done..end),
                    last_write: Some(*order) == last_write,
                    first_of_write: done == 0,
                };
                ordered.insert((*order, done), change);
                done = end;
            }
        }
        for (order, change) in &self.pending_names {
            ordered.insert((*order, 0), Change::Name(change.clone()));
        }
        ordered.into_values().collect()
    }

    fn settle(&mut self, change: &Change, fate: &Fate, cut: Cut, random: &mut Random) {
        match (change, fate) {
            (_, Fate::Lost) => {}
            (Change::Name(change), _) => {
                let mut change = change.clone();
                if cut.is_drawn() && change.spans_folders() && random.coin() {
                    change.removed = None;
                }
                change.apply(&mut self.durable_names);
            }
            (Change::Length { inode, event }, _) => {
                if let Some(inode) = self.inodes.get_mut(inode) {
                    apply_content(&mut inode.medium, event);
                }
            }
            (Change::Block { inode, at, bytes, .. }, fate) => {
                let Some(inode) = self.inodes.get_mut(inode) else {
                    return;
                };
                match fate {
                    Fate::Garbled if matches!(cut, Cut::GarbledPage(_)) => {
                        write(&mut inode.medium, *at, bytes);
                        let page = at / PAGE_BYTES * PAGE_BYTES;
                        let end = (page + PAGE_BYTES).min(inode.medium.len());
                        let noise = noise(end - page, random);
                        write(&mut inode.medium, page, &noise);
                    }
                    Fate::Garbled => write(&mut inode.medium, *at, &noise(bytes.len(), random)),
                    Fate::Torn => {
                        for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                            if random.coin() {
                                write(&mut inode.medium, at + index * SECTOR_BYTES, sector);
                            }
                        }
                    }
                    _ => write(&mut inode.medium, *at, bytes),
                }
            }
        }
    }
}

impl Cut {
    fn random(self) -> Random {
        match self {
            Self::Some(seed) | Self::Garbled(seed) | Self::Torn(seed) | Self::GarbledPage(seed) => {
                Random(seed)
            }
            _ => Random(0),
        }
    }

    fn is_drawn(self) -> bool {
        matches!(self, Self::Some(_) | Self::Garbled(_) | Self::Torn(_) | Self::GarbledPage(_))
    }

    fn fate(
        self,
        index: usize,
        change: &Change,
        spoilt: Option<usize>,
        random: &mut Random,
    ) -> Fate {
        let (last, first) = match change {
            Change::Block { last_write, first_of_write, .. } => (*last_write, *first_of_write),
            _ => (false, false),
        };
        let kept = match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::FirstBlock => !last || first,
            Self::LostFirstBlock => !last || !first,
            Self::Prefix(count) => index < count,
            Self::Without(one) => index != one,
            Self::Only(one) => index == one,
            Self::Content => !matches!(change, Change::Name(_)),
            Self::Names => matches!(change, Change::Name(_)),
            Self::Garbled(_) | Self::GarbledPage(_) if spoilt == Some(index) => {
                return Fate::Garbled;
            }
            Self::Torn(_) if spoilt == Some(index) => return Fate::Torn,
            Self::Some(_) | Self::Garbled(_) | Self::Torn(_) | Self::GarbledPage(_) => {
                random.coin()
            }
        };
        if kept { Fate::Kept } else { Fate::Lost }
    }
}

fn noise(length: usize, random: &mut Random) -> Vec<u8> {
    (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(length).collect()
}
