//! The index against a plain list.

use super::{Location, Offset, PartitionIndex, Placed, Position};

fn index(count: i64) -> (PartitionIndex, Vec<Placed>) {
    let mut index = PartitionIndex::default();
    let mut list = Vec::new();
    let mut position = 4160;
    let mut offset = 0;
    for n in 0..count {
        let span = 1 + n % 7;
        let length = 32 + 61 + ((n * 977) % 70_000) as u32;
        let location =
            Location { base_offset: Offset(offset), position: Position(position), length };
        let placed = Placed {
            location,
            end: Offset(offset + span),
            max_timestamp: 1000 + (n * 37) % 500 + n,
        };
        assert!(index.insert(&placed));
        list.push(placed);
        offset += span;
        position += u64::from(length).next_multiple_of(8) + ((n as u64 * 8) % 5000) / 8 * 8;
    }
    (index, list)
}

#[test]
fn every_offset_is_found() {
    let (index, list) = index(500);
    for (n, placed) in list.iter().enumerate() {
        for offset in placed.location.base_offset.0..placed.end.0 {
            let found: Vec<_> = index.starting_at(Offset(offset)).take(3).collect();
            let expected: Vec<_> = list[n..].iter().take(3).map(|placed| placed.location).collect();
            assert_eq!(found, expected);
        }
    }
    assert_eq!(index.starting_at(Offset(0)).count(), 500);
}

#[test]
fn the_first_batch_of_a_time_is_among_few_candidates() {
    let (index, list) = index(500);
    for from in [0, 1, 64, 100, 499] {
        let from = list[from].location.base_offset;
        for timestamp in (900..2100).step_by(7) {
            let first = list
                .iter()
                .find(|placed| placed.end > from && placed.max_timestamp >= timestamp)
                .map(|placed| placed.location);
            let candidates: Vec<_> = index.at_time(from, timestamp).collect();
            assert!(candidates.len() <= 128);
            let among = candidates.into_iter().find(|found| {
                list.iter().any(|placed| {
                    placed.location == *found
                        && placed.end > from
                        && placed.max_timestamp >= timestamp
                })
            });
            assert_eq!(among, first, "{from:?} {timestamp}");
        }
    }
}

#[test]
fn offsets_that_are_taken_are_refused() {
    let (mut index, list) = index(3);
    for placed in &list {
        assert!(!index.insert(placed));
    }
    assert_eq!(index.starting_at(Offset(0)).count(), 3);
}

#[test]
fn a_batch_costs_a_few_bytes() {
    let mut index = PartitionIndex::default();
    for n in 0..6400 {
        let position = Position(4160 + n as u64 * 1064);
        let location = Location { base_offset: Offset(n), position, length: 1032 };
        assert!(index.insert(&Placed { location, end: Offset(n + 1), max_timestamp: n }));
    }
    let bytes: usize = index.chunks.iter().map(super::Chunk::heap_bytes).sum();
    assert!(bytes / 6400 <= 6, "{} bytes a batch", bytes as f64 / 6400.0);
}
