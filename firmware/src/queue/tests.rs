//! The queue against a plain list of items, and what overflow must not touch.

use std::{vec, vec::Vec};

use headwater_protocol::item::{Cause, Content};
use proptest::prelude::*;

use super::*;

const CHANNELS: [Channel<'static>; 1] = [Channel {
    name: "temperature",
    unit: "degC",
    mantissa: 1,
    exponent: -2,
    width_bits: 16,
    period_us: 1_000_000,
}];
const BYTES: usize = 300;
const ITEMS: usize = 8;
const BOOT: u32 = 3;

fn queue() -> Queue<BYTES, ITEMS> {
    let boot =
        Boot { cause: Cause::Power, tick_hz: 1_000, schema: SchemaHash(0), last_wall_ms: None };
    Queue::new(Introduction::new(boot, &CHANNELS), BOOT, None)
}

/// What the list keeps of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    item: u64,
    predecessor: Option<u64>,
    kind: ItemKind,
    readings: Readings,
    body: Vec<u8>,
}

fn listed(queue: &Queue<BYTES, ITEMS>) -> Vec<Known> {
    let mut at = Position::START;
    let mut items = Vec::new();
    while let Some(item) = queue.after(at) {
        assert_eq!(item.position.boot, BOOT);
        let readings = queue.placed().nth(items.len()).expect("placed like the item");
        items.push(Known {
            item: item.position.item,
            predecessor: item.predecessor.map(|before| before.item),
            kind: item.kind,
            readings: Readings {
                first_seq: readings.first_seq,
                count: readings.entry.readings.into(),
            },
            body: item.body.into(),
        });
        at = item.position;
    }
    items
}

#[test]
fn boot_and_schema_come_first_and_the_first_item_knows_no_other() {
    let mut queue = queue();
    assert!(queue.introduce());
    assert!(queue.introduce(), "once");
    let items = listed(&queue);
    assert_eq!(
        items.iter().map(|item| item.kind).collect::<Vec<_>>(),
        [ItemKind::BOOT, ItemKind::SCHEMA]
    );
    assert_eq!(items.iter().map(|item| item.predecessor).collect::<Vec<_>>(), [None, Some(0)]);
    assert_eq!(queue.after(Position::new(BOOT, 1)), None);
    assert_eq!(queue.next(), Position::new(BOOT, 2));
    queue.release(Position::new(BOOT, 1));
    assert_eq!((queue.len(), queue.used()), (0, 0));
    assert!(queue.introduce() && queue.len() == 0, "released is not missing");
}

#[test]
fn an_introduction_that_does_not_fit_at_once_goes_on_later() {
    let boot = Boot { cause: Cause::Power, tick_hz: 1, schema: SchemaHash(0), last_wall_ms: None };
    let mut queue: Queue<64, 4> = Queue::new(Introduction::new(boot, &CHANNELS), BOOT, None);
    queue.push(1, |out| {
        out[..40].fill(7);
        Some((ItemKind::BLOCK, 40))
    });
    // Whatever has number 0 stands for BOOT here.
    assert!(!queue.introduce());
    queue.release(Position::new(BOOT, 0));
    assert!(queue.introduce());
}

#[test]
fn what_is_in_flight_is_not_dropped() {
    let mut queue = queue();
    queue.introduce();
    for count in [2, 3, 4] {
        queue.push(count, block(20, count as u8));
    }
    assert_eq!(
        queue.drop_oldest(Position::new(BOOT, 3)),
        Some(Readings { first_seq: 5, count: 4 })
    );
    assert_eq!(queue.drop_oldest(Position::new(BOOT, 3)), None, "nothing beyond that");
    let items = listed(&queue);
    assert_eq!(items[3].body, vec![3; 20]);
    let gap = Content::decode(items[4].kind, &items[4].body).expect("a GAP");
    assert!(
        matches!(
            gap,
            Content::Gap(Gap { first_seq: 5, count: 4, reason: GapReason::OverflowOldest })
        ),
        "{gap:?}"
    );
}

#[test]
fn neighbouring_gaps_become_one_unless_the_host_may_know_the_first() {
    let mut queue = queue();
    queue.introduce();
    for count in 1..=4 {
        queue.push(count, block(20, count as u8));
    }
    queue.drop_oldest(Position::START);
    queue.drop_oldest(Position::START);
    let merged = listed(&queue).swap_remove(2);
    assert_eq!((merged.kind, merged.item, merged.predecessor), (ItemKind::GAP, 3, Some(1)));
    assert_eq!(merged.readings, Readings { first_seq: 0, count: 3 });

    queue.drop_oldest(Position::new(BOOT, 3));
    let items = listed(&queue);
    assert_eq!(items[2], merged, "sent, so immutable");
    assert_eq!((items[3].item, items[3].predecessor), (4, Some(3)));
    assert_eq!(items[3].readings, Readings { first_seq: 3, count: 3 });
}

fn block(len: usize, fill: u8) -> impl FnOnce(&mut [u8]) -> Option<(ItemKind, usize)> {
    move |out| {
        out.get_mut(..len)?.fill(fill);
        Some((ItemKind::BLOCK, len))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push { readings: u32, len: usize },
    Drop,
    Send(u64),
    Release(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1..500_u32, 24..90_usize).prop_map(|(readings, len)| Op::Push { readings, len }),
        2 => Just(Op::Drop),
        1 => (0..60_u64).prop_map(Op::Send),
        1 => (0..60_u64).prop_map(Op::Release),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every reading is in exactly one item, in order; what was sent stays as it was; nothing else
    /// moves.
    #[test]
    fn items_are_those_of_a_plain_list(ops in ops()) {
        let mut queue = queue();
        let mut list: Vec<Known> = Vec::new();
        let (mut sent, mut next_seq, mut next_item) = (None, 0_u64, 0_u64);
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Push { readings, len } => {
                    let fits = list.len() < ITEMS
                        && list.iter().map(|item| item.body.len()).sum::<usize>() + len <= BYTES;
                    let pushed = queue.push(readings, block(len, number as u8));
                    prop_assert_eq!(pushed, fits.then_some(next_item));
                    if fits {
                        list.push(Known {
                            item: next_item,
                            predecessor: next_item.checked_sub(1),
                            kind: ItemKind::BLOCK,
                            readings: Readings { first_seq: next_seq, count: readings.into() },
                            body: vec![number as u8; len],
                        });
                        next_item += 1;
                        next_seq += u64::from(readings);
                    }
                }
                Op::Drop => {
                    let in_flight = sent.map_or(Position::START, |item| Position::new(BOOT, item));
                    let before = list.clone();
                    let free = |known: &Known| sent.is_none_or(|sent| known.item > sent);
                    let at = list.iter().position(|known| free(known) && known.kind == ItemKind::BLOCK);
                    let dropped = queue.drop_oldest(in_flight);
                    prop_assert_eq!(dropped, at.map(|at| list[at].readings));
                    if let Some(at) = at {
                        let merges = at > 0 && free(&list[at - 1]) && list[at - 1].kind == ItemKind::GAP;
                        let first = at - usize::from(merges);
                        let first_seq = before[first].readings.first_seq;
                        let count = before[first..=at].iter().map(|known| known.readings.count).sum();
                        let mut body = [0; Gap::LEN_MAX];
                        let gap = Gap { first_seq, count, reason: GapReason::OverflowOldest };
                        let len = gap.encode(&mut body).expect("room");
                        let gap = Known {
                            item: before[at].item,
                            predecessor: before[first].predecessor,
                            kind: ItemKind::GAP,
                            readings: Readings { first_seq, count },
                            body: body[..len].into(),
                        };
                        list.splice(first..=at, [gap]);
                    }
                }
                Op::Send(ahead) => {
                    let reach = sent.unwrap_or(0) + ahead % 4;
                    // Only items that exist can be sent.
                    let last = list.iter().map(|known| known.item).rfind(|item| *item <= reach);
                    sent = sent.max(last);
                }
                Op::Release(ahead) => {
                    let Some(sent) = sent else { continue };
                    let upto = sent.saturating_sub(ahead % 3);
                    queue.release(Position::new(BOOT, upto));
                    list.retain(|known| known.item > upto);
                }
            }
            prop_assert_eq!(listed(&queue), list.clone());
        }
    }
}
