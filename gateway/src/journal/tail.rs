//! The last durable frames in memory: whoever keeps up with the writers, the index too, reads no file.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock},
};

use bytes::{Bytes, BytesMut};

use super::Position;

/// A slice of a frame keeps all of it in memory, while only the slice is accounted for: a smaller part than
/// this is copied.
const SHARED_PART: usize = 8;

/// Frames in the order that they were written in.
#[derive(Debug)]
pub(super) struct Tail {
    budget_bytes: usize,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: VecDeque<(Position, Bytes)>,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, inner: RwLock::default() }
    }

    /// Adds a frame that is durable; gives the memory of one that had to go, if nobody reads it.
    pub(super) fn push(&self, position: Position, frame: Bytes) -> Vec<u8> {
        let mut gone = None;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if frame.len() > self.budget_bytes {
            // What is left would have a hole before the next one.
            *inner = Inner::default();
            gone = Some(frame);
        } else {
            inner.bytes += frame.len();
            inner.frames.push_back((position, frame));
            while inner.bytes > self.budget_bytes {
                let Some((_, oldest)) = inner.frames.pop_front() else { break };
                inner.bytes -= oldest.len();
                gone = Some(oldest);
            }
        }
        drop(inner);
        let unshared = gone.and_then(|frame| frame.try_into_mut().ok());
        unshared.map_or_else(Vec::new, |mut frame: BytesMut| {
            // Else all of it would be moved to the front of its memory.
            frame.clear();
            frame.into()
        })
    }

    /// Bytes at a position, if they are here.
    pub(super) fn get(&self, position: Position, length: usize) -> Option<Bytes> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let next = inner.frames.partition_point(|(start, _)| *start <= position);
        let (start, frame) = inner.frames.get(next.checked_sub(1)?)?;
        let at = usize::try_from(position.0 - start.0).ok()?;
        let part = frame.get(at..at.checked_add(length)?)?;
        Some(if length * SHARED_PART < frame.len() {
            Bytes::copy_from_slice(part)
        } else {
            frame.slice_ref(part)
        })
    }

    /// The whole frame that begins at a position, if it is here.
    pub(super) fn frame(&self, position: Position) -> Option<Bytes> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let at = inner.frames.binary_search_by_key(&position, |(start, _)| *start).ok()?;
        inner.frames.get(at).map(|(_, frame)| frame.clone())
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, length: usize) -> Bytes {
        Bytes::from(vec![byte; length])
    }

    #[test]
    fn the_oldest_frames_go_and_their_memory_is_used_again() {
        let tail = Tail::new(10_000);
        for n in 0..5u8 {
            let spare = tail.push(Position(u64::from(n) * 4096), frame(n, 4096));
            assert_eq!(spare.capacity() >= 4096, n >= 2, "{n}");
        }
        assert_eq!(tail.bytes(), 8192);
        assert_eq!(tail.get(Position(2 * 4096 + 100), 10), None);
        assert_eq!(tail.get(Position(3 * 4096 + 100), 10), Some(frame(3, 10)));
        assert_eq!(tail.get(Position(4 * 4096), 4096), Some(frame(4, 4096)));
        assert_eq!(tail.get(Position(4 * 4096 + 1), 4096), None, "past its end");
        assert_eq!(tail.frame(Position(2 * 4096)), None);
        assert_eq!(tail.frame(Position(4 * 4096)), Some(frame(4, 4096)));
        assert_eq!(tail.frame(Position(4 * 4096 + 1)), None, "no frame begins there");
        // One that is being read keeps its memory.
        let read = tail.get(Position(3 * 4096), 4096).unwrap();
        assert_eq!(tail.push(Position(5 * 4096), frame(5, 4096)).capacity(), 0);
        assert_eq!(read, frame(3, 4096));
    }

    #[test]
    fn a_small_part_pins_no_frame() {
        let tail = Tail::new(10_000);
        tail.push(Position(0), frame(1, 8192));
        let small = tail.get(Position(0), 1000).unwrap();
        assert!(tail.push(Position(8192), frame(2, 8192)).capacity() >= 8192);
        assert_eq!(small, frame(1, 1000));
    }

    #[test]
    fn a_frame_over_the_budget_is_not_kept() {
        let tail = Tail::new(100);
        assert!(tail.push(Position(0), frame(1, 101)).capacity() >= 101);
        assert_eq!((tail.bytes(), tail.get(Position(0), 1)), (0, None));
    }
}
