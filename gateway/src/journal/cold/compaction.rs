//! Which records of a partition a later one with the same key replaces. No I/O: the caller goes through the
//! records, more than once.
//!
//! Memory is bounded: keys are remembered by their hash, so many at a time. With more keys than that there are
//! more passes, each over the records up to where its keys end.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
};

/// Finds the records that are replaced.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Two hashes of 64 bits with keys of their own: nobody can make two keys collide.
    hashers: [RandomState; 2],
    max_keys: usize,
    /// Latest record by its key.
    latest: HashMap<u128, u64>,
    /// Where the keys of this pass begin, and where the next pass's do if they did not fit.
    from: u64,
    next: Option<u64>,
    replaced: Bits,
}

/// One bit per record.
#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
}

/// Keys remembered at a time: about 6 MiB.
pub(super) const MAX_KEYS: usize = 128 * 1024;

impl Compaction {
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            max_keys: max_keys.max(1),
            latest: HashMap::new(),
            from: 0,
            next: None,
            replaced: Bits::default(),
        }
    }

    /// Takes the key of a record, records numbered in order; false once no more fit.
    pub(super) fn learn(&mut self, number: u64, key: &[u8]) -> bool {
        if number < self.from {
            return true;
        }
        let hash = self.hash(key);
        if self.latest.len() >= self.max_keys && !self.latest.contains_key(&hash) {
            self.next = Some(number);
            return false;
        }
        self.latest.insert(hash, number);
        true
    }

    /// Second half of a pass: marks a record whose key a later one has; false behind the keys of this pass.
    pub(super) fn mark(&mut self, number: u64, key: &[u8]) -> bool {
        if self.next.is_some_and(|next| number >= next) {
            return false;
        }
        if self.latest.get(&self.hash(key)).is_some_and(|&latest| latest > number) {
            self.replaced.set(number);
        }
        true
    }

    /// Whether another pass is needed; begins it.
    pub(super) fn again(&mut self) -> bool {
        self.latest.clear();
        match self.next.take() {
            Some(next) => {
                self.from = next;
                true
            }
            None => false,
        }
    }

    /// Whether a later record has the same key.
    pub(super) fn is_replaced(&self, number: u64) -> bool {
        self.replaced.has(number)
    }

    fn hash(&self, key: &[u8]) -> u128 {
        let [high, low] = &self.hashers;
        (u128::from(high.hash_one(key)) << 64) | u128::from(low.hash_one(key))
    }
}

impl Bits {
    fn set(&mut self, number: u64) {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }

    fn has(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).ok().and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_key_stays_however_many_fit() {
        let keys: Vec<u64> = (0..500u64).map(|n| (n * n * 31 + n / 7) % 97).collect();
        let is_last = |n: usize| !keys[n + 1..].contains(&keys[n]);
        let distinct = keys.iter().collect::<std::collections::BTreeSet<_>>().len();
        for max_keys in [1, 2, 10, distinct - 1, distinct, 1000] {
            let mut compaction = Compaction::new(max_keys);
            let mut passes = 0;
            loop {
                let mut each = (0u64..).zip(&keys);
                each.clone().all(|(number, key)| compaction.learn(number, &key.to_be_bytes()));
                assert!(compaction.latest.len() <= max_keys);
                each.all(|(number, key)| compaction.mark(number, &key.to_be_bytes()));
                passes += 1;
                if !compaction.again() {
                    break;
                }
            }
            assert_eq!(passes > 1, max_keys < distinct, "{max_keys}");
            for n in 0..keys.len() {
                assert_eq!(compaction.is_replaced(n as u64), !is_last(n), "{max_keys} {n}");
            }
        }
    }
}
