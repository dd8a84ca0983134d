//! Members of a group that come, go and crash, and the books from which it is seen that each partition had one owner.
//!
//! A member begins where the group's committed offset says, and commits how far it got. What was committed has to be one
//! chain from 0 to the end: a gap is records that nobody read, an overlap is two owners. A commit whose answer never came
//! may or may not be part of it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    batch,
    random::Random,
    wire::{
        Wire,
        member::{Code, Joined},
    },
};

/// Name of the group.
pub const GROUP: &str = "churners";
/// Topic that the group reads.
pub const TOPIC: &str = "churned";
/// Partitions of it.
pub const PARTITIONS: i32 = 12;

/// A life lasts between these.
const SHORTEST_LIFE_MS: u64 = 1_000;
const LONGEST_LIFE_MS: u64 = 8_000;
/// Whoever does not leave, one in so many, just vanishes.
const CRASH_ONE_IN: u64 = 3;
/// A broker that is away is looked for this often.
const KNOCK: Duration = Duration::from_millis(20);
const FETCH_WAIT_MS: i32 = 20;

/// What is known of commits, by all members together.
#[derive(Debug, Default)]
pub struct Books {
    commits: Mutex<Vec<Commit>>,
    /// The owner of a partition in a generation, which its leader's id makes unique over the broker's lives.
    owners: Mutex<HashMap<(i32, String, i32), String>>,
    /// First thing that was wrong.
    wrong: Mutex<Option<String>>,
    /// Members that left and that crashed, and generations that were joined.
    pub left: AtomicU64,
    /// See `left`.
    pub crashed: AtomicU64,
    /// See `left`.
    pub joined: AtomicU64,
    /// No more leaving and crashing.
    pub calm: AtomicBool,
    /// All is read.
    pub done: AtomicBool,
}

/// A commit that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    partition: i32,
    from: i64,
    to: i64,
    /// Its answer came and was good; else none came.
    is_certain: bool,
}

impl Books {
    /// How far a partition is committed for certain.
    #[must_use]
    pub fn floor(&self, partition: i32) -> i64 {
        let commits = lock(&self.commits);
        let certain = commits.iter().filter(|it| it.partition == partition && it.is_certain);
        certain.map(|it| it.to).max().unwrap_or(0)
    }

    /// How far a partition may be committed.
    #[must_use]
    pub fn ceiling(&self, partition: i32) -> i64 {
        let commits = lock(&self.commits);
        commits.iter().filter(|it| it.partition == partition).map(|it| it.to).max().unwrap_or(0)
    }

    /// How many commits were certain.
    #[must_use]
    pub fn certain(&self) -> usize {
        lock(&self.commits).iter().filter(|it| it.is_certain).count()
    }

    /// Stops the test at the first thing that was wrong.
    ///
    /// # Panics
    /// If something was.
    pub fn assert_right(&self) {
        if let Some(wrong) = &*lock(&self.wrong) {
            panic!("{wrong}");
        }
    }

    /// Whether the commits of a partition are one chain from 0 to `end`.
    ///
    /// # Errors
    /// With the first commit that does not fit.
    pub fn chain(&self, partition: i32, end: i64) -> Result<(), String> {
        let commits = lock(&self.commits);
        let of_it = commits.iter().filter(|it| it.partition == partition);
        let (mut certain, doubtful): (Vec<Commit>, Vec<Commit>) =
            of_it.copied().partition(|it| it.is_certain);
        certain.sort_by_key(|it| it.from);
        let mut at = 0;
        for commit in certain {
            while at < commit.from {
                at = bridge(&doubtful, at, commit.from).ok_or_else(|| {
                    format!("partition {partition}: nobody read {at}..{}", commit.from)
                })?;
            }
            if at > commit.from {
                return Err(format!("partition {partition}: {commit:?}, but {at} was committed"));
            }
            at = commit.to;
        }
        while at < end {
            let next = bridge(&doubtful, at, end);
            at = next.ok_or_else(|| format!("partition {partition}: ends at {at}, not {end}"))?;
        }
        Ok(())
    }

    fn note(&self, commit: Commit) {
        lock(&self.commits).push(commit);
    }

    fn own(&self, joined: &Joined, partition: i32) {
        let key = (joined.generation, joined.leader.clone(), partition);
        let before = lock(&self.owners).insert(key, joined.id.clone());
        if before.as_ref().is_some_and(|before| *before != joined.id) {
            self.complain(format!("{partition} belongs to {before:?} and to {joined:?}"));
        }
    }

    fn complain(&self, what: String) {
        lock(&self.wrong).get_or_insert(what);
    }
}

/// A commit without an answer that begins here, and does not lead beyond `until`.
fn bridge(doubtful: &[Commit], at: i64, until: i64) -> Option<i64> {
    doubtful.iter().filter(|it| it.from == at && it.to <= until).map(|it| it.to).max()
}

/// A value by which its place is known.
#[must_use]
pub fn value(partition: i32, offset: i64) -> Vec<u8> {
    format!("{partition} {offset}").into_bytes()
}

/// Lives again and again until all is done.
pub fn live(books: &Books, broker: SocketAddr, mut random: Random) {
    while !books.done.load(Ordering::Relaxed) {
        let life = SHORTEST_LIFE_MS + random.below(LONGEST_LIFE_MS - SHORTEST_LIFE_MS);
        let life = Life {
            books,
            until: Instant::now() + Duration::from_millis(life),
            crashes: random.below(CRASH_ONE_IN) == 0,
        };
        // A broker that was killed, and everything that it had not answered.
        if life.run(broker).is_err() {
            std::thread::sleep(KNOCK);
        }
    }
}

/// One member from joining to its end.
struct Life<'a> {
    books: &'a Books,
    until: Instant,
    crashes: bool,
}

impl Life<'_> {
    fn run(&self, broker: SocketAddr) -> io::Result<()> {
        let mut wire = Wire::connect(broker)?;
        let mut id = String::new();
        while !self.books.done.load(Ordering::Relaxed) {
            let joined = match wire.join_as(GROUP, &id)? {
                Ok(joined) => joined,
                Err(Code::UNKNOWN_MEMBER_ID) => {
                    id.clear();
                    continue;
                }
                // Its coordinator is not ready yet.
                Err(_) => {
                    std::thread::sleep(KNOCK);
                    continue;
                }
            };
            self.books.joined.fetch_add(1, Ordering::Relaxed);
            id.clone_from(&joined.id);
            if self.generation(&mut wire, &joined)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Until the group forms anew; whether the life has ended.
    fn generation(&self, wire: &mut Wire, joined: &Joined) -> io::Result<bool> {
        let Ok(partitions) = wire.sync_as(GROUP, joined, &assignments(joined))? else {
            return Ok(false);
        };
        for partition in &partitions {
            self.books.own(joined, *partition);
        }
        let Ok(mut offsets) = wire.offsets(GROUP, TOPIC, &partitions)? else { return Ok(false) };
        for offset in &mut offsets {
            *offset = (*offset).max(0);
        }
        loop {
            let is_over = self.books.done.load(Ordering::Relaxed);
            let is_late = self.until < Instant::now() && !self.books.calm.load(Ordering::Relaxed);
            if is_over || is_late && !self.crashes {
                self.books.left.fetch_add(1, Ordering::Relaxed);
                let _ = wire.leave(GROUP, joined)?;
                return Ok(true);
            }
            if wire.beat(GROUP, joined)?.is_err() {
                return Ok(false);
            }
            for (partition, offset) in partitions.iter().zip(&mut offsets) {
                let Some(to) = self.read(wire, *partition, *offset)? else { continue };
                wire.commit_as(GROUP, joined, (TOPIC, *partition), to)?;
                let mut commit =
                    Commit { partition: *partition, from: *offset, to, is_certain: false };
                if is_late {
                    // Whether it arrives is for others to find out.
                    self.books.note(commit);
                    self.books.crashed.fetch_add(1, Ordering::Relaxed);
                    return Ok(true);
                }
                match wire.committed_as() {
                    Ok(Ok(())) => commit.is_certain = true,
                    Ok(Err(_)) => return Ok(false),
                    Err(error) => {
                        self.books.note(commit);
                        return Err(error);
                    }
                }
                self.books.note(commit);
                *offset = to;
            }
        }
    }

    /// Reads from `offset` on, and gives the offset behind what was read, if anything was.
    fn read(&self, wire: &mut Wire, partition: i32, offset: i64) -> io::Result<Option<i64>> {
        let mut next = offset;
        for fetched in wire.fetch(TOPIC, &[(partition, offset)], FETCH_WAIT_MS)? {
            let batches = batch::decode(&fetched.records).map_err(io::Error::other)?;
            for served in batches {
                for (at, found) in (served.base_offset..).zip(&served.values) {
                    if at < next {
                        continue;
                    }
                    if at != next || *found != value(partition, at) {
                        let text = String::from_utf8_lossy(found);
                        self.books.complain(format!("{text:?} at {at} of {partition}, not {next}"));
                    }
                    next = at + 1;
                }
            }
        }
        Ok((next > offset).then_some(next))
    }
}

/// Round robin over the members; empty for whoever does not lead.
fn assignments(joined: &Joined) -> Vec<(String, Vec<i32>)> {
    let count = joined.members.len() as i32;
    let of = |place: i32| (0..PARTITIONS).filter(|it| it % count == place).collect();
    joined.members.iter().zip(0..).map(|(id, place)| (id.clone(), of(place))).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commits: &[(i64, i64, bool)], end: i64, is_right: bool) {
        let books = Books::default();
        for &(from, to, is_certain) in commits {
            books.note(Commit { partition: 0, from, to, is_certain });
        }
        let chain = books.chain(0, end);
        assert_eq!(chain.is_ok(), is_right, "{commits:?}: {chain:?}");
    }

    #[test]
    fn only_a_chain_passes() {
        check(&[], 0, true);
        check(&[(0, 5, true), (5, 9, true)], 9, true);
        check(&[(5, 9, true), (0, 5, true)], 9, true);
        check(&[(0, 5, true), (6, 9, true)], 9, false);
        check(&[(0, 5, true), (4, 9, true)], 9, false);
        check(&[(0, 5, true), (0, 5, true)], 5, false);
        check(&[(0, 5, true)], 9, false);
        check(&[(0, 5, true), (5, 7, false), (7, 9, true)], 9, true);
        check(&[(0, 5, true), (5, 7, false), (5, 9, true)], 9, true);
        check(&[(0, 5, true), (5, 9, false)], 9, true);
    }

    #[test]
    fn two_owners_in_a_generation_are_told() {
        let books = Books::default();
        let member = |id: &str| Joined { generation: 1, id: id.into(), ..Joined::default() };
        books.own(&member("a"), 3);
        books.own(&member("a"), 3);
        books.own(&member("b"), 4);
        books.assert_right();
        books.own(&member("b"), 3);
        assert!(lock(&books.wrong).is_some());
    }
}
