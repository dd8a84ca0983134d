//! Producer ids: reserved in blocks by a fact, so that none is given twice, whatever crashes.

use bytes::{BufMut, Bytes};

use super::{FactError, fact::FactReader, space};
use crate::journal::{Fact, State};

/// Key of the first id that no block has reserved, in [`space::GATEWAY`].
const NEXT_BLOCK_KEY: &[u8] = b"next-producer-id";
const FACT: &str = "next producer id";
const FACT_VERSION: u8 = 1;
/// Ids per block, as Kafka's: one sync for so many producers, and so many are lost at a restart.
const BLOCK_IDS: i64 = 1000;

/// The ids of the reserved block that are left.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next: i64,
    end: i64,
}

impl ProducerIds {
    /// An id of the reserved block.
    pub(super) fn take(&mut self) -> Option<i64> {
        if self.next >= self.end {
            return None;
        }
        let id = self.next;
        self.next += 1;
        Some(id)
    }

    /// Goes over to a block whose fact is durable.
    pub(super) fn refill(&mut self, first: i64) {
        self.next = first;
        self.end = first.saturating_add(BLOCK_IDS);
    }
}

/// The first id of the next block.
pub(super) fn next_block(state: &State) -> Result<i64, FactError> {
    let Some(value) = state.fact(space::GATEWAY, NEXT_BLOCK_KEY) else { return Ok(0) };
    let mut reader = FactReader::new(FACT, value.clone());
    reader.version(FACT_VERSION)?;
    let first = reader.i64()?;
    if first < 0 {
        return Err(reader.error("id is negative"));
    }
    reader.end()?;
    Ok(first)
}

/// The fact that reserves the block from `first` on.
pub(super) fn reserve(first: i64) -> Fact {
    let mut out = Vec::with_capacity(9);
    out.put_u8(FACT_VERSION);
    out.put_i64(first.saturating_add(BLOCK_IDS));
    let key = Bytes::from_static(NEXT_BLOCK_KEY);
    Fact { space: space::GATEWAY, key, value: Some(Bytes::from(out)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Change;

    #[test]
    fn golden_block() {
        let fact = reserve(258);
        let value: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0x04, 0xea];
        assert_eq!((&fact.key[..], fact.value.as_deref()), (&b"next-producer-id"[..], Some(value)));
        let with = |value: &[u8]| {
            let mut state = State::default();
            let (space, key) = (space::GATEWAY, NEXT_BLOCK_KEY);
            state.apply(Change::Fact { space, key, value: Some(value) }, 0);
            next_block(&state)
        };
        assert_eq!(next_block(&State::default()), Ok(0));
        assert_eq!(with(value), Ok(1258));
        let negative = [1, 0xff, 0, 0, 0, 0, 0, 0, 0];
        for bad in [&[][..], &value[..8], &[value, &[0]].concat(), &negative] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_block_is_used_up_and_no_further() {
        let mut ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.refill(5000);
        let taken: Vec<i64> = std::iter::from_fn(|| ids.take()).collect();
        assert!(taken.into_iter().eq(5000..6000));
    }
}
