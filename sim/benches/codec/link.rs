//! Bytes on the device link: blocks in items in frames, and the same with plain varint deltas in place of the codec.

use headwater_protocol::{
    Item, ItemKind, Position,
    frame::{self, Lead},
    item::{Block, BlockBuilder, MISSING},
    message::{self, DeviceMessage},
    varint,
};

use crate::sets::Set;

/// The device's counter.
const TICK_HZ: u64 = 32_768;
/// Rows of a block: what a host's frame leaves beside the heads.
const ROWS: usize = 520;
/// A device that has been running for a day: numbers are as long as they usually are.
const FIRST_SEQ: u64 = 86_400;

/// What all readings of a set took.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) frames: usize,
    /// Of blocks, without their heads.
    pub(crate) codes: usize,
}

/// Packs all readings into blocks of so many, or as many as there is room for.
pub(crate) fn packed<const CHANNELS: usize>(set: &Set, per_block: usize) -> Sent {
    let period = (TICK_HZ / u64::from(set.hz)) as u32;
    let mut builder = BlockBuilder::<ROWS, CHANNELS>::new(period);
    let mut link = Link::default();
    let mut taken = 0;
    for (index, row) in set.rows.iter().enumerate() {
        let seq = FIRST_SEQ + index as u64;
        let tick = seq * u64::from(period);
        if usize::from(builder.count()) == per_block || builder.push(seq, tick, row).is_err() {
            link.send(&mut builder, &set.rows[taken..index]);
            taken = index;
            builder.push(seq, tick, row).unwrap();
        }
    }
    link.send(&mut builder, &set.rows[taken..]);
    link.sent
}

/// The same blocks with a varint for each difference.
pub(crate) fn varint_deltas(set: &Set, per_block: usize) -> usize {
    let mut link = Link::default();
    for rows in set.rows.chunks(per_block) {
        // As long as the head of a block usually is.
        let mut body = vec![0x80; 9];
        let mut before = vec![0_i32; set.names.len()];
        for row in rows {
            for (code, last) in row.iter().zip(&mut before) {
                let token = if *code == MISSING {
                    0
                } else {
                    u64::from(varint::zigzag(code.wrapping_sub(std::mem::replace(last, *code)))) + 1
                };
                let mut bytes = [0; varint::MAX_LEN];
                let length = varint::encode(token, &mut bytes).unwrap();
                body.extend_from_slice(&bytes[..length]);
            }
        }
        for part in body.chunks(ROWS) {
            link.frame(part);
        }
    }
    link.sent.frames
}

#[derive(Default)]
struct Link {
    items: u64,
    sent: Sent,
}

impl Link {
    /// Seals a block, looks whether it holds these rows, and frames it.
    fn send<const CHANNELS: usize>(
        &mut self,
        builder: &mut BlockBuilder<ROWS, CHANNELS>,
        rows: &[Vec<i32>],
    ) {
        let mut body = [0; 640];
        let length = builder.seal(&mut body).unwrap();
        let block = Block::decode(&body[..length]).unwrap();
        let mut decoded = block.rows();
        for row in rows {
            assert_eq!(decoded.next_row().unwrap().1, row);
        }
        assert!(decoded.next_row().is_none());
        let number = |value: u64| varint::encode(value, &mut [0; varint::MAX_LEN]).unwrap();
        let head = number(block.first_seq)
            + number(block.first_tick)
            + number(block.period.into())
            + number(block.count.into());
        self.sent.codes += length - head;
        self.frame(&body[..length]);
    }

    fn frame(&mut self, body: &[u8]) {
        self.items += 1;
        let position = Position { boot: 3, item: 1_000 + self.items };
        let predecessor = Some(Position { boot: 3, item: 999 + self.items });
        let item = Item { position, predecessor, kind: ItemKind::BLOCK, body };
        let mut head = [0; message::HEAD_MAX];
        let message = DeviceMessage::Item { transmission: 1, item };
        let (kind, length, tail) = message.encode(&mut head).unwrap();
        let mut out = [0; frame::ENCODED_MAX];
        // After a linger the line was idle.
        let length = frame::encode(Lead::Delimiter, kind, &head[..length], tail, &mut out).unwrap();
        self.sent.frames += length;
    }
}
