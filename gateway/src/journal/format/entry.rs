//! Entries: header and payload of what an append consists of.

use super::{
    super::{Offset, PartitionId, Position, Space},
    Seed,
    field::{Cursor, field},
};

/// Length of an entry's header.
pub(crate) const ENTRY_HEADER_BYTES: usize = 32;
/// Entries start at multiples of this, so that survivors in a damaged frame can be found.
pub(crate) const ENTRY_ALIGN: usize = 8;
/// Space, flags and key length before a fact's key.
pub(crate) const FACT_OVERHEAD_BYTES: usize = 8;
/// Payload of a barrier.
pub(crate) const BARRIER_BYTES: usize = 12;

const MAGIC: [u8; 2] = *b"he";
const HEADER_CRC_AT: usize = 24;
const CRC_AT: usize = 28;

/// What an entry is. Numbers are on disk and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EntryKind {
    /// RecordBatch v2 bytes with base offset and leader epoch stamped.
    Batch = 1,
    /// A key with its latest value.
    Fact = 2,
    /// A piece of the snapshot of all state.
    Slice = 3,
    /// Identity of the log from here on.
    Barrier = 4,
    /// The journal was closed in order; nothing follows in this opening.
    Close = 5,
}

/// Header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: EntryKind,
    /// Length of the payload.
    pub(crate) length: u32,
    /// Partition of a batch; index of a snapshot slice.
    pub(crate) partition: PartitionId,
    /// Offsets that a batch takes; number of slices of a snapshot.
    pub(crate) count: u32,
    /// First offset of a batch.
    pub(crate) base_offset: Offset,
}

/// Bytes that an entry with such a payload takes, padding included.
pub(crate) const fn entry_size(payload: usize) -> usize {
    (ENTRY_HEADER_BYTES + payload).next_multiple_of(ENTRY_ALIGN)
}

impl EntryHeader {
    /// Header of an entry that is neither batch nor slice.
    pub(crate) fn plain(kind: EntryKind, length: u32) -> Self {
        Self { kind, length, partition: PartitionId(0), count: 0, base_offset: Offset(0) }
    }

    /// Bytes that the entry takes, padding included.
    pub(crate) fn size(&self) -> usize {
        entry_size(self.length as usize)
    }

    /// One past the last offset of a batch.
    pub(crate) fn end_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.count)))
    }

    /// Reads a header; none if it fails its CRC for this position.
    pub(crate) fn decode(
        header: &[u8; ENTRY_HEADER_BYTES],
        seed: Seed,
        position: Position,
    ) -> Option<Self> {
        if header[2..4] != MAGIC {
            return None;
        }
        let stored = u32::from_le_bytes(field(header, HEADER_CRC_AT));
        if stored != seed.crc_at(position, &header[..HEADER_CRC_AT]) {
            return None;
        }
        let kind = match header[0] {
            1 => EntryKind::Batch,
            2 => EntryKind::Fact,
            3 => EntryKind::Slice,
            4 => EntryKind::Barrier,
            5 => EntryKind::Close,
            _ => return None,
        };
        Some(Self {
            kind,
            length: u32::from_le_bytes(field(header, 4)),
            partition: PartitionId(u32::from_le_bytes(field(header, 8))),
            count: u32::from_le_bytes(field(header, 12)),
            base_offset: Offset(i64::from_le_bytes(field(header, 16))),
        })
    }

    /// Whether an entry (header and payload, no padding) is what was written at this position.
    pub(crate) fn verify(entry: &[u8], seed: Seed, position: Position) -> bool {
        let Some(header) = entry.first_chunk::<ENTRY_HEADER_BYTES>() else {
            return false;
        };
        let stored = u32::from_le_bytes(field(header, CRC_AT));
        stored == crc_of(entry, seed, position)
    }

    /// The CRC field of an encoded entry.
    pub(crate) fn stored_crc(header: &[u8; ENTRY_HEADER_BYTES]) -> [u8; 4] {
        field(header, CRC_AT)
    }

    /// Fills in the header of an entry whose payload already stands behind it; returns the CRC.
    pub(crate) fn seal(&self, entry: &mut [u8], seed: Seed, position: Position) -> u32 {
        debug_assert_eq!(entry.len(), ENTRY_HEADER_BYTES + self.length as usize);
        entry[0] = self.kind as u8;
        entry[1] = 0;
        entry[2..4].copy_from_slice(&MAGIC);
        entry[4..8].copy_from_slice(&self.length.to_le_bytes());
        entry[8..12].copy_from_slice(&self.partition.0.to_le_bytes());
        entry[12..16].copy_from_slice(&self.count.to_le_bytes());
        entry[16..24].copy_from_slice(&self.base_offset.0.to_le_bytes());
        let header_crc = seed.crc_at(position, &entry[..HEADER_CRC_AT]);
        entry[HEADER_CRC_AT..CRC_AT].copy_from_slice(&header_crc.to_le_bytes());
        let crc = crc_of(entry, seed, position);
        entry[CRC_AT..ENTRY_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        crc
    }
}

/// Covers position, header and payload, without the CRC field itself.
fn crc_of(entry: &[u8], seed: Seed, position: Position) -> u32 {
    let head = seed.crc_at(position, &entry[..CRC_AT]);
    if planted!(WrongCrcRange) {
        let half = ENTRY_HEADER_BYTES.midpoint(entry.len());
        return crc32c::crc32c_append(head, &entry[ENTRY_HEADER_BYTES..half]);
    }
    crc32c::crc32c_append(head, &entry[ENTRY_HEADER_BYTES..])
}

/// A fact's payload, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FactRef<'a> {
    pub(crate) space: Space,
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

const FACT_HAS_VALUE: u8 = 1;

impl<'a> FactRef<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let key_length = u32::try_from(self.key.len()).expect("an append is below 4 GiB");
        out.push(self.space.0);
        out.push(if self.value.is_some() { FACT_HAS_VALUE } else { 0 });
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&key_length.to_le_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value.unwrap_or_default());
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(payload);
        let space = Space(cursor.u8()?);
        let flags = cursor.u8()?;
        let _reserved = cursor.u16()?;
        let key_length = cursor.u32()?;
        let key = cursor.bytes(usize::try_from(key_length).ok()?)?;
        let rest = payload.get(FACT_OVERHEAD_BYTES + key.len()..)?;
        let value = (flags & FACT_HAS_VALUE != 0).then_some(rest);
        Some(Self { space, key, value })
    }
}

/// A barrier's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Barrier {
    pub(crate) incarnation: u64,
    pub(crate) leader_epoch: i32,
}

impl Barrier {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.leader_epoch.to_le_bytes());
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(payload);
        Some(Self { incarnation: cursor.u64()?, leader_epoch: cursor.i32()? })
    }
}
