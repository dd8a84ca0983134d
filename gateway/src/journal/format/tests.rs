//! The formats byte by byte (FORMAT.md has the same tables), and that nothing else is accepted.

use super::{
    super::{ClockQuality, Offset, PartitionId, Position, Space},
    ALIGN, Barrier, EntryHeader, EntryKind, FRAME_HEADER_BYTES, FactRef, FrameHeader, FrameKind,
    HeaderError, JournalId, SEGMENT_HEADER_BYTES, Seed, SegmentHeader, entry_size,
};

const ID: JournalId = JournalId(*b"0123456789abcdef");

fn seed() -> Seed {
    ID.seed()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn segment() -> SegmentHeader {
    SegmentHeader {
        journal: ID,
        sequence: 3,
        first: Position(0x20000),
        length: 0x10000,
        previous_end: Position(0x1f000),
        previous_crc: 0x1234_5678,
        max_bytes: 1 << 24,
    }
}

fn frame() -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Opening,
        entries_bytes: 5000,
        position: Position(0x21000),
        previous_crc: 0x1234_5678,
        entry_count: 7,
        entries_crc: 0x9abc_def0,
        append_time_ms: 0x0102_0304_0506,
        clock_quality: ClockQuality::Synchronised,
        open_ms: 0x0708,
    }
}

fn entry(payload: &[u8]) -> (EntryHeader, Vec<u8>) {
    let header = EntryHeader {
        kind: EntryKind::Batch,
        length: payload.len() as u32,
        partition: PartitionId(0x0a0b_0c0d),
        count: 0x0e0f,
        base_offset: Offset(0x0102_0304_0506_0708),
    };
    let mut bytes = vec![0; 32];
    bytes.extend_from_slice(payload);
    header.seal(&mut bytes, seed(), Position(0x21040));
    (header, bytes)
}

#[test]
fn crcs_are_castagnoli_seeded_with_the_id() {
    // The check value of CRC-32C, so that the vectors below can be made by any other implementation.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(seed().crc(b"journal"), crc32c::crc32c(b"0123456789abcdefjournal"));
    let placed = [&ID.0[..], &0x21040u64.to_le_bytes(), b"journal"].concat();
    assert_eq!(seed().crc_at(Position(0x21040), b"journal"), crc32c::crc32c(&placed));
}

#[test]
fn segment_header_bytes() {
    let block = segment().encode();
    assert_eq!(
        hex(&block[..80]),
        concat!(
            "48576a726e6c0d0a",                 // magic "HWjrnl\r\n"
            "0100",                             // version
            "0000",                             // reserved
            "78563412",                         // CRC of the frame before
            "30313233343536373839616263646566", // journal id
            "0300000000000000",                 // sequence
            "0000020000000000",                 // first position
            "0000010000000000",                 // length
            "00f0010000000000",                 // end of the log before
            "0000000100000000",                 // storage.max_bytes
            "00000000",                         // reserved
            "b52da7ce",                         // CRC
        )
    );
    assert_eq!(block[..80], block[2048..2128]);
    assert!(block[80..2048].iter().chain(&block[2128..]).all(|&byte| byte == 0));
    assert_eq!(SegmentHeader::decode(&block), Ok(segment()));
}

#[test]
fn one_copy_of_a_segment_header_is_enough() {
    for at in 0..SEGMENT_HEADER_BYTES as usize {
        let mut block = segment().encode();
        block[at] ^= 0x10;
        assert_eq!(SegmentHeader::decode(&block), Ok(segment()), "byte {at}");
        let sector = at / 512 * 512;
        block[sector..sector + 512].fill(0);
        assert_eq!(SegmentHeader::decode(&block), Ok(segment()), "sector {sector}");
    }
    let mut block = segment().encode();
    block[40] ^= 1;
    block[2048 + 41] ^= 1;
    assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Unreadable));
    assert_eq!(SegmentHeader::decode(&[]), Err(HeaderError::Unreadable));
}

#[test]
fn a_later_version_is_told_from_damage() {
    let mut block = segment().encode();
    for at in [0, 2048] {
        block[at + 8] = 2;
        let crc = seed().crc(&block[at..at + 76]);
        block[at + 76..at + 80].copy_from_slice(&crc.to_le_bytes());
    }
    assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Version(2)));
}

#[test]
fn frame_header_bytes() {
    let bytes = frame().encode(seed());
    assert_eq!(
        hex(&bytes),
        concat!(
            "48576672",         // magic "HWfr"
            "0100",             // version
            "01",               // kind: opening
            "02",               // clock quality
            "00200000",         // length with header and padding
            "88130000",         // bytes of entries
            "0010020000000000", // position
            "78563412",         // CRC of the frame before
            "07000000",         // entries
            "0605040302010000", // append time
            "0807000000000000", // open ms
            "f0debc9a",         // CRC of the entries' CRCs
            "0000000000000000", // reserved
            "82e065a2",         // CRC
        )
    );
    let (decoded, crc) = FrameHeader::decode(&bytes, seed(), Position(0x21000)).unwrap();
    assert_eq!(decoded, frame());
    assert_eq!(crc, FrameHeader::crc_of(&bytes));
    assert_eq!(FrameHeader::decode(&bytes, seed(), Position(0x22000)), None, "another place");
    assert_eq!(FrameHeader::decode(&bytes, JournalId([0; 16]).seed(), Position(0x21000)), None);
    for bit in 0..FRAME_HEADER_BYTES * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(FrameHeader::decode(&bytes, seed(), Position(0x21000)), None, "bit {bit}");
    }
}

#[test]
fn entry_bytes() {
    let (header, bytes) = entry(b"payload");
    assert_eq!(
        hex(&bytes),
        concat!(
            "01",               // type: batch
            "00",               // flags
            "6865",             // magic "he"
            "07000000",         // payload length
            "0d0c0b0a",         // partition
            "0f0e0000",         // count
            "0807060504030201", // base offset
            "36cbb789",         // CRC of position and header
            "e5b50ce5",         // CRC of position, header and payload
            "7061796c6f6164",
        )
    );
    assert_eq!(header.size(), 40);
    let first = bytes.first_chunk().unwrap();
    assert_eq!(EntryHeader::decode(first, seed(), Position(0x21040)), Some(header));
    assert!(EntryHeader::verify(&bytes, seed(), Position(0x21040)));
    assert_eq!(EntryHeader::decode(first, seed(), Position(0x21048)), None, "another place");
    assert!(!EntryHeader::verify(&bytes, seed(), Position(0x21048)));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!EntryHeader::verify(&bytes, seed(), Position(0x21040)), "bit {bit}");
        let header_holds = (28 * 8..).contains(&bit);
        let decoded = EntryHeader::decode(bytes.first_chunk().unwrap(), seed(), Position(0x21040));
        assert_eq!(decoded.is_some(), header_holds, "bit {bit}");
    }
}

#[test]
fn fact_and_barrier_bytes() {
    let cases = [
        (Some(&b"value"[..]), "030100000300000061626376616c7565"),
        (Some(&b""[..]), "0301000003000000616263"),
        (None, "0300000003000000616263"),
    ];
    for (value, expected) in cases {
        let fact = FactRef { space: Space(3), key: b"abc", value };
        let mut bytes = Vec::new();
        fact.encode(&mut bytes);
        assert_eq!(hex(&bytes), expected);
        assert_eq!(FactRef::decode(&bytes), Some(fact));
        for cut in 0..11 {
            assert_eq!(FactRef::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
    let barrier = Barrier { incarnation: 5, leader_epoch: 6 };
    let mut bytes = Vec::new();
    barrier.encode(&mut bytes);
    assert_eq!(hex(&bytes), "050000000000000006000000");
    assert_eq!(Barrier::decode(&bytes), Some(barrier));
    assert_eq!(Barrier::decode(&bytes[..11]), None);
}

#[test]
fn sizes_are_whole_blocks() {
    assert_eq!([0, 1, 8, 9].map(entry_size), [32, 40, 40, 48]);
    let block = ALIGN as usize;
    for (entries, blocks) in [(0, 1), (block - 64, 1), (block - 63, 2), (block, 2)] {
        assert_eq!(FrameHeader::length_for(entries), (blocks * block) as u64);
    }
}
