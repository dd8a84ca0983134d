//! Fetch sessions (KIP-227): a consumer names its partitions once and then only what changed of them; answers leave out the
//! partitions of which there is nothing to tell.
//!
//! Whoever answers a Fetch begins a turn with what the request says, reads, and ends the turn with what was read. Memory is
//! bounded: a session that does not fit is not made, and one that was put out for another is not found. Clients expect both.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    codec::{StrBytes, Uuid},
    error_code::ErrorCode,
};

/// Sessions at once; Kafka's own limit.
const MAX_SESSIONS: usize = 1_000;

/// Memory of all sessions.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A session that was used this recently makes no room for another; Kafka's own time.
const KEPT_FOR: Duration = Duration::from_secs(120);

/// Session id of answers that belong to none.
pub(crate) const NO_SESSION: i32 = 0;

/// Epochs of requests that name all partitions: one asks for a session, one for none.
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// Offset that no partition has: what is told next differs from it.
const UNKNOWN: i64 = -1;

/// A topic as the client names it: by its name or, then without a name, by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TopicKey {
    pub(crate) name: StrBytes,
    pub(crate) id: Uuid,
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) index: i32,
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
    /// Of what the client read last, -1 if it does not say.
    pub(crate) last_fetched_epoch: i32,
}

/// What a Fetch says of its session.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    /// Whether topics are named by id; one session cannot do both.
    pub(crate) by_id: bool,
    /// All partitions, or in a session those that are new or changed.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) forgotten: Vec<(TopicKey, i32)>,
}

/// A Fetch between its request and its answer.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Outside any session.
    Alone,
    /// A session may come of it.
    First { by_id: bool, wanted: Vec<Wanted> },
    /// The session, and its epoch in the next request.
    Next { id: i32, epoch: i32 },
}

/// What an answer would tell of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) has_records: bool,
    /// Whether the client has to learn that it read another log.
    pub(crate) is_diverging: bool,
    /// High watermark and start of the log; none where the partition failed.
    pub(crate) ends: Option<(i64, i64)>,
}

/// All sessions of a server.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, Session>,
    bytes: usize,
}

#[derive(Debug)]
struct Session {
    /// Of the next request.
    epoch: i32,
    by_id: bool,
    used: Instant,
    /// In the order in which they are read next: those that had records come last.
    partitions: Vec<Cached>,
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    /// What was told last.
    high_watermark: i64,
    log_start: i64,
}

impl FetchSessions {
    /// Begins a turn; gives it with the partitions to read, in their order.
    ///
    /// # Errors
    ///
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
    pub(crate) fn begin(
        &self,
        request: Request,
        now: Instant,
    ) -> Result<(Turn, Vec<Wanted>), ErrorCode> {
        match request.epoch {
            INITIAL_EPOCH | FINAL_EPOCH => {
                if request.session_id != NO_SESSION {
                    self.lock().remove(request.session_id);
                }
                let wanted = last_of_each(request.wanted);
                let turn = match request.epoch {
                    INITIAL_EPOCH => Turn::First { by_id: request.by_id, wanted: wanted.clone() },
                    _ => Turn::Alone,
                };
                Ok((turn, wanted))
            }
            _ => self.lock().go_on(request, now),
        }
    }

    /// Ends a turn with what was read, in the order that [`Self::begin`] gave; gives the session id of the answer and
    /// which partitions belong into it.
    ///
    /// # Errors
    ///
    /// INVALID_FETCH_SESSION_EPOCH if another request of the session overtook this one.
    pub(crate) fn end(
        &self,
        turn: Turn,
        told: &[Told],
        now: Instant,
    ) -> Result<(i32, Vec<bool>), ErrorCode> {
        let all = vec![true; told.len()];
        match turn {
            Turn::Alone => Ok((NO_SESSION, all)),
            Turn::First { by_id, wanted } => Ok((self.lock().add(by_id, wanted, told, now), all)),
            Turn::Next { id, epoch } => match self.lock().sessions.get_mut(&id) {
                // Put out meanwhile: the next request learns it.
                None => Ok((id, all)),
                Some(session) if session.epoch != epoch => {
                    Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH)
                }
                Some(session) => Ok((id, session.tell(told))),
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn go_on(&mut self, request: Request, now: Instant) -> Result<(Turn, Vec<Wanted>), ErrorCode> {
        let id = request.session_id;
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != request.by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        self.bytes -= session.bytes();
        session.change(request.wanted, request.forgotten);
        self.bytes += session.bytes();
        session.used = now;
        session.epoch = session.epoch.checked_add(1).unwrap_or(INITIAL_EPOCH + 1);
        let turn = Turn::Next { id, epoch: session.epoch };
        let wanted: Vec<Wanted> = session.partitions.iter().map(|it| it.wanted.clone()).collect();
        if wanted.is_empty() {
            self.remove(id);
            return Ok((Turn::Alone, wanted));
        }
        if self.bytes > MAX_BYTES {
            // The client names all its partitions again then, and is served without a session.
            self.remove(id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        Ok((turn, wanted))
    }

    /// Makes a session if there is room or can be made; its id, or that of none.
    fn add(&mut self, by_id: bool, wanted: Vec<Wanted>, told: &[Told], now: Instant) -> i32 {
        let mut session =
            Session { epoch: INITIAL_EPOCH + 1, by_id, used: now, partitions: Vec::new() };
        session.change(wanted, Vec::new());
        session.tell(told);
        let bytes = session.bytes();
        while self.sessions.len() >= MAX_SESSIONS || self.bytes + bytes > MAX_BYTES {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
            match oldest.map(|(id, session)| (*id, now.saturating_duration_since(session.used))) {
                Some((id, unused)) if unused >= KEPT_FOR => self.remove(id),
                _ => return NO_SESSION,
            }
        }
        let id = self.free_id();
        self.bytes += bytes;
        self.sessions.insert(id, session);
        id
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.bytes -= session.bytes();
        }
    }

    /// Drawn, so that a client that comes back after a restart is told that its session is gone.
    fn free_id(&self) -> i32 {
        loop {
            let drawn = (RandomState::new().hash_one(()) & 0x7fff_ffff) as i32;
            if drawn != NO_SESSION && !self.sessions.contains_key(&drawn) {
                return drawn;
            }
        }
    }
}

impl Session {
    fn change(&mut self, wanted: Vec<Wanted>, forgotten: Vec<(TopicKey, i32)>) {
        if !wanted.is_empty() {
            let known = self.partitions.iter().enumerate();
            let mut places: HashMap<(TopicKey, i32), usize> =
                known.map(|(place, it)| (it.wanted.key(), place)).collect();
            // A name must not keep the whole frame that it came in.
            let mut last = TopicKey::default();
            for mut wanted in wanted {
                if let Some(&place) = places.get(&wanted.key()) {
                    let wanted =
                        Wanted { topic: self.partitions[place].wanted.topic.clone(), ..wanted };
                    self.partitions[place].wanted = wanted;
                    continue;
                }
                if wanted.topic != last {
                    let name = StrBytes::from(wanted.topic.name.as_str().to_owned());
                    last = TopicKey { name, id: wanted.topic.id };
                }
                wanted.topic = last.clone();
                places.insert(wanted.key(), self.partitions.len());
                let (high_watermark, log_start) = (UNKNOWN, UNKNOWN);
                self.partitions.push(Cached { wanted, high_watermark, log_start });
            }
        }
        if !forgotten.is_empty() {
            let forgotten: HashSet<(TopicKey, i32)> = forgotten.into_iter().collect();
            self.partitions.retain(|it| !forgotten.contains(&it.wanted.key()));
        }
    }

    /// Notes what is told; says of which partitions something is. Those with records are read last next time, so
    /// that each gets its turn where an answer cannot hold all.
    fn tell(&mut self, told: &[Told]) -> Vec<bool> {
        let mut is_told = Vec::with_capacity(told.len());
        let (mut first, mut last) = (Vec::with_capacity(self.partitions.len()), Vec::new());
        for (mut partition, told) in self.partitions.drain(..).zip(told) {
            let before = (partition.high_watermark, partition.log_start);
            // Where it failed, it is told also when that has ended.
            let after = told.ends.unwrap_or((UNKNOWN, UNKNOWN));
            let is_news = told.ends.is_none() || told.is_diverging || before != after;
            is_told.push(told.has_records || is_news);
            (partition.high_watermark, partition.log_start) = after;
            if told.has_records { last.push(partition) } else { first.push(partition) }
        }
        first.append(&mut last);
        self.partitions = first;
        is_told
    }

    fn bytes(&self) -> usize {
        let of = |it: &Cached| size_of::<Cached>() + it.wanted.topic.name.len();
        self.partitions.iter().map(of).sum::<usize>() + size_of::<Self>()
    }
}

impl Wanted {
    fn key(&self) -> (TopicKey, i32) {
        (self.topic.clone(), self.index)
    }
}

/// A partition that is named twice counts where it is named first, with what is said last.
fn last_of_each(wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut places = HashMap::with_capacity(wanted.len());
    let mut kept: Vec<Wanted> = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let place = *places.entry(wanted.key()).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(earlier) => *earlier = wanted,
            None => kept.push(wanted),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, index: i32, offset: i64) -> Wanted {
        let topic = TopicKey { name: name.into(), id: Uuid::ZERO };
        Wanted { topic, index, offset, max_bytes: 100, leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn request(session_id: i32, epoch: i32, wanted: Vec<Wanted>) -> Request {
        Request { session_id, epoch, by_id: false, wanted, forgotten: Vec::new() }
    }

    const EMPTY: Told = Told { has_records: false, is_diverging: false, ends: Some((5, 0)) };
    const FULL: Told = Told { has_records: true, ..EMPTY };
    const FAILED: Told = Told { ends: None, ..EMPTY };

    /// Topic, index, offset.
    type Place = (String, i32, i64);

    /// One turn: partitions to read, session of the answer, which are told.
    fn turn(
        sessions: &FetchSessions,
        request: Request,
        told: &[Told],
        now: Instant,
    ) -> Result<(Vec<Place>, i32, Vec<bool>), ErrorCode> {
        let (turn, wanted) = sessions.begin(request, now)?;
        let (id, is_told) = sessions.end(turn, told, now)?;
        let wanted = wanted.iter().map(|it| (it.topic.name.to_string(), it.index, it.offset));
        Ok((wanted.collect(), id, is_told))
    }

    fn place(name: &str, index: i32, offset: i64) -> Place {
        (name.to_owned(), index, offset)
    }

    #[test]
    fn a_session_remembers_changes_forgets_and_tells_what_is_new() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let all = vec![wanted("a", 0, 1), wanted("a", 1, 2), wanted("b", 0, 3)];
        let (_, id, told) =
            turn(&sessions, request(0, 0, all), &[FULL, EMPTY, FAILED], now).expect("a session");
        assert!(id > 0 && told == [true; 3]);
        // The one with records comes last, the failed one is told again.
        let (read, same, told) =
            turn(&sessions, request(id, 1, vec![wanted("a", 0, 9)]), &[EMPTY; 3], now).expect("1");
        assert_eq!(read, [place("a", 1, 2), place("b", 0, 3), place("a", 0, 9)]);
        assert_eq!((same, told), (id, vec![false, true, false]));
        // A start that moves is told, as is a high watermark.
        let moved = Told { ends: Some((5, 2)), ..EMPTY };
        let grown = Told { ends: Some((6, 0)), ..EMPTY };
        let (_, _, told) =
            turn(&sessions, request(id, 2, vec![]), &[moved, EMPTY, grown], now).expect("2");
        assert_eq!(told, [true, false, true]);
        let mut fewer = request(id, 3, vec![wanted("c", 7, 0)]);
        fewer.forgotten = vec![(wanted("a", 1, 0).topic, 1), (wanted("b", 0, 0).topic, 0)];
        let (read, _, told) = turn(&sessions, fewer, &[grown, EMPTY], now).expect("3");
        assert_eq!(read, [place("a", 0, 9), place("c", 7, 0)]);
        assert_eq!(told, [false, true]);
        // Nothing left: no session either.
        let mut none = request(id, 4, vec![]);
        none.forgotten = vec![(wanted("a", 0, 0).topic, 0), (wanted("c", 0, 0).topic, 7)];
        assert_eq!(turn(&sessions, none, &[], now), Ok((vec![], NO_SESSION, vec![])));
        assert_eq!(sessions.lock().bytes, 0);
    }

    #[test]
    fn what_does_not_fit_a_session_is_refused() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let one = || vec![wanted("a", 0, 1)];
        let (_, id, _) = turn(&sessions, request(0, 0, one()), &[EMPTY], now).expect("a session");
        let refused = |request, code| {
            assert_eq!(turn(&sessions, request, &[EMPTY], now), Err(code));
        };
        let other = if id == 1 { 2 } else { 1 };
        refused(request(other, 1, vec![]), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        for epoch in [2, -2, i32::MAX] {
            refused(request(id, epoch, vec![]), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        let by_id = Request { by_id: true, ..request(id, 1, vec![]) };
        refused(by_id, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        // Overtaken between its request and its answer.
        let (late, _) = sessions.begin(request(id, 1, vec![]), now).expect("the session is there");
        turn(&sessions, request(id, 2, vec![]), &[EMPTY], now).expect("and goes on");
        let ended = sessions.end(late, &[EMPTY], now);
        assert_eq!(ended, Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
        // An end of it needs no right epoch.
        let (_, none, _) = turn(&sessions, request(id, -1, one()), &[EMPTY], now).expect("alone");
        assert_eq!(none, NO_SESSION);
        refused(request(id, 3, vec![]), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn an_epoch_after_the_last_is_the_first() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let (_, id, _) = turn(&sessions, request(0, 0, vec![wanted("a", 0, 1)]), &[EMPTY], now)
            .expect("a session");
        sessions.lock().sessions.get_mut(&id).expect("it").epoch = i32::MAX;
        turn(&sessions, request(id, i32::MAX, vec![]), &[EMPTY], now).expect("the last");
        turn(&sessions, request(id, 1, vec![]), &[EMPTY], now).expect("the first");
    }

    #[test]
    fn sessions_are_few_and_only_unused_ones_make_room() {
        let (sessions, start) = (FetchSessions::default(), Instant::now());
        let open = |now| {
            let one = vec![wanted("a", 0, 1)];
            turn(&sessions, request(0, 0, one), &[EMPTY], now).expect("an answer").1
        };
        let ids: Vec<i32> = (0..MAX_SESSIONS).map(|_| open(start)).collect();
        assert!(!ids.contains(&NO_SESSION));
        let later = start + KEPT_FOR;
        assert_eq!(open(later.checked_sub(Duration::from_secs(1)).expect("later")), NO_SESSION);
        for id in &ids[1..] {
            turn(&sessions, request(*id, 1, vec![]), &[EMPTY], later).expect("it goes on");
        }
        assert_ne!(open(later), NO_SESSION);
        let gone = turn(&sessions, request(ids[0], 1, vec![]), &[EMPTY], later);
        assert_eq!(gone, Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
        assert_eq!(open(later), NO_SESSION);
    }

    #[test]
    fn memory_is_bounded_by_names_and_partitions() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let many =
            |count: i32| (0..count).map(|index| wanted("topic", index, 0)).collect::<Vec<_>>();
        let told = |count: i32| vec![EMPTY; count as usize];
        let (_, id, _) = turn(&sessions, request(0, 0, many(9)), &told(9), now).expect("small");
        assert_ne!(id, NO_SESSION);
        let (_, none, _) =
            turn(&sessions, request(0, 0, many(30_000)), &told(30_000), now).expect("an answer");
        assert_eq!(none, NO_SESSION);
        let long = vec![wanted(&"n".repeat(MAX_BYTES), 0, 0)];
        let (_, none, _) = turn(&sessions, request(0, 0, long), &[EMPTY], now).expect("an answer");
        assert_eq!(none, NO_SESSION);
        // One that outgrows it ends.
        let grown = turn(&sessions, request(id, 1, many(30_000)), &told(30_000), now);
        assert_eq!(grown, Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
        assert_eq!(sessions.lock().bytes, 0);
    }

    #[test]
    fn of_a_partition_that_is_named_twice_the_last_counts() {
        let (sessions, now) = (FetchSessions::default(), Instant::now());
        let twice = vec![wanted("a", 0, 1), wanted("b", 0, 2), wanted("a", 0, 3)];
        for epoch in [0, -1] {
            let (read, ..) = turn(&sessions, request(0, epoch, twice.clone()), &[EMPTY; 2], now)
                .expect("an answer");
            assert_eq!(read, [place("a", 0, 3), place("b", 0, 2)]);
        }
    }
}
