//! What is durable of the commands of one partition: how far they are settled, and which are on their way.
//!
//! Bytes of the fact in [`space::DEVICE_COMMAND`], key = partition id (u32 big endian), integers little endian:
//! version u8 = 1; cursor i64: everything below is settled; sent u16, then {offset i64, boot u32, number u64}; settled
//! above the cursor u16, then {offset i64}.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    broker::space,
    journal::{Fact, PartitionId},
};

const VERSION: u8 = 1;

/// Commands of one partition that are open, or settled behind an open one. With all of them the fact stays below 8 KiB.
pub(super) const MAX_COMMANDS: usize = 256;

/// A command that was sent, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The boot that it is meant for.
    pub(super) boot: u32,
    /// Its number on the link.
    pub(super) id: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    /// Where reading goes on.
    next: i64,
    /// Open ones that were read.
    open: BTreeSet<i64>,
    settled: BTreeSet<i64>,
    sent: BTreeMap<i64, Sent>,
}

impl Book {
    /// Nothing below `start` is of interest: the log has forgotten it.
    pub(super) fn begin_at(&mut self, start: i64) {
        self.next = self.next.max(start);
        self.sent.retain(|offset, _| *offset >= start);
    }

    /// The next offset to read.
    pub(super) const fn next(&self) -> i64 {
        self.next
    }

    /// Whether more may be read now.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() + self.settled.len() < MAX_COMMANDS
    }

    /// Takes note of a record; whether it is still to be settled.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        self.next = self.next.max(offset + 1);
        !self.settled.contains(&offset) && self.open.insert(offset)
    }

    /// Nothing lies below `offset` any more that was not read.
    pub(super) fn pass(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    pub(super) fn sent(&self, offset: i64) -> Option<Sent> {
        self.sent.get(&offset).copied()
    }

    pub(super) fn send(&mut self, offset: i64, sent: Sent) {
        self.sent.insert(offset, sent);
    }

    /// It was not sent after all, and nothing durable says so.
    pub(super) fn withdraw(&mut self, offset: i64) {
        self.sent.remove(&offset);
    }

    pub(super) fn settle(&mut self, offset: i64) {
        self.open.remove(&offset);
        self.sent.remove(&offset);
        self.settled.insert(offset);
        let cursor = self.cursor();
        self.settled = self.settled.split_off(&cursor);
    }

    /// Everything below is settled.
    fn cursor(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.next)
    }

    pub(super) fn fact(&self, partition: PartitionId) -> Fact {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.cursor().to_le_bytes());
        out.extend_from_slice(&(self.sent.len() as u16).to_le_bytes());
        for (offset, Sent { boot, id }) in &self.sent {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&boot.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.extend_from_slice(&(self.settled.len() as u16).to_le_bytes());
        for offset in &self.settled {
            out.extend_from_slice(&offset.to_le_bytes());
        }
        Fact { space: space::DEVICE_COMMAND, key: key(partition), value: Some(out.into()) }
    }

    /// Reads a value; `None` if it is none of ours.
    pub(super) fn read_fact(value: &[u8]) -> Option<Self> {
        let mut rest = value;
        let [VERSION] = array(&mut rest)? else { return None };
        let mut book = Self { next: i64::from_le_bytes(array(&mut rest)?), ..Self::default() };
        for _ in 0..u16::from_le_bytes(array(&mut rest)?) {
            let offset = i64::from_le_bytes(array(&mut rest)?);
            let boot = u32::from_le_bytes(array(&mut rest)?);
            let id = u64::from_le_bytes(array(&mut rest)?);
            book.sent.insert(offset, Sent { boot, id });
        }
        for _ in 0..u16::from_le_bytes(array(&mut rest)?) {
            book.settled.insert(i64::from_le_bytes(array(&mut rest)?));
        }
        rest.is_empty().then_some(book)
    }
}

/// Key of a partition's fact.
pub(super) fn key(partition: PartitionId) -> Bytes {
    Bytes::copy_from_slice(&partition.0.to_be_bytes())
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_behind_what_is_settled_in_order() {
        let mut book = Book::default();
        for offset in [3, 4, 6] {
            assert!(book.read(offset));
        }
        assert!(!book.read(4), "twice");
        assert_eq!((book.next(), book.cursor()), (7, 3));
        book.settle(4);
        assert_eq!((book.cursor(), book.settled.len()), (3, 1));
        assert!(!book.read(4), "settled");
        book.settle(3);
        assert_eq!((book.cursor(), book.settled.len()), (6, 0));
        book.settle(6);
        book.pass(9);
        assert_eq!((book.cursor(), book.next()), (9, 9));
    }

    #[test]
    fn a_fact_brings_back_what_has_to_be_read_again() {
        let mut book = Book::default();
        for offset in [3, 4, 6] {
            book.read(offset);
        }
        book.send(6, Sent { boot: 2, id: 77 });
        book.settle(4);
        let fact = book.fact(PartitionId(5));
        let value = fact.value.expect("a value");
        assert_eq!(fact.key[..], [0, 0, 0, 5]);
        let golden = [
            &[1][..],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0],
            &[6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0],
            &[4, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(value[..], golden.concat());
        let mut again = Book::read_fact(&value).expect("readable");
        assert_eq!(again.next(), 3);
        assert!(again.read(3) && !again.read(4) && again.read(6));
        assert_eq!(again.sent(6), Some(Sent { boot: 2, id: 77 }));
        assert_eq!(again, book);
        for cut in 0..value.len() {
            assert_eq!(Book::read_fact(&value[..cut]), None);
        }
        assert_eq!(Book::read_fact(&[&value[..], &[0]].concat()), None);
    }

    #[test]
    fn a_full_book_fits_a_fact() {
        let mut book = Book::default();
        let mut offset = 0;
        while book.has_room() {
            book.read(offset);
            book.send(offset, Sent { boot: u32::MAX, id: u64::MAX });
            offset += 1;
        }
        let len = book.fact(PartitionId(0)).value.expect("a value").len();
        assert!(len <= 8192, "{len}");
    }
}
