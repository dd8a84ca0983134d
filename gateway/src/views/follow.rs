//! Follows all partitions of all topics that have a view: read in one pass, fold, apply.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{StoreError, Views, last_value::Changes, store::Applied};
use crate::{
    Shutdown,
    broker::{Fetched, Isolation, Topic},
    journal::{Offset, PartitionId, ReadError, Want},
};

/// Read at once, of all partitions together.
const READ_BYTES: usize = 2 * 1024 * 1024;
/// What was applied since is applied again after a kill.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// After an error, and until a topic is there.
const RETRY: Duration = Duration::from_secs(5);

/// All partitions, and how far their views are.
#[derive(Debug)]
pub(super) struct Follower {
    views: Arc<Views>,
    partitions: BTreeMap<PartitionId, Followed>,
    /// The last one that was read: the next ones go first.
    last_read: PartitionId,
}

/// One partition.
#[derive(Debug)]
struct Followed {
    topic: Arc<Topic>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its view is to be looked at, not before then.
    Begins(Instant),
    /// This offset comes next.
    At(Offset),
}

impl Follower {
    pub(super) fn new(views: Arc<Views>) -> Self {
        Self { views, partitions: BTreeMap::new(), last_read: PartitionId(0) }
    }

    /// Until shutdown.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut flushed = Instant::now();
        let mut is_dirty = false;
        while !shutdown.is_requested() {
            self.adopt();
            self.begin().await;
            let has_read = self.read().await;
            is_dirty |= has_read;
            if !has_read {
                tokio::select! {
                    () = self.wait() => {}
                    () = shutdown.requested() => {}
                }
            }
            if is_dirty && flushed.elapsed() > CHECKPOINT {
                (flushed, is_dirty) = (Instant::now(), false);
                if let Err(error) = blocking(&self.views, |views| views.store.flush()).await {
                    tracing::warn!(%error, "the views were not flushed");
                }
            }
        }
    }

    /// Takes in partitions that came, and lets go of those of deleted topics.
    fn adopt(&mut self) {
        let named = self.views.topics.iter();
        let topics: Vec<_> = named.filter_map(|name| self.views.broker.topic(name)).collect();
        self.partitions
            .retain(|partition, _| topics.iter().any(|topic| topic.partitions.contains(partition)));
        for topic in topics {
            for partition in &topic.partitions {
                let begins = || Followed {
                    topic: Arc::clone(&topic),
                    standing: Standing::Begins(Instant::now()),
                };
                self.partitions.entry(*partition).or_insert_with(begins);
            }
        }
    }

    /// Decides for partitions whose turn has come where to go on; a view that is not certainly of this log is thrown
    /// away.
    async fn begin(&mut self) {
        let now = Instant::now();
        for (&partition, followed) in &mut self.partitions {
            if !matches!(followed.standing, Standing::Begins(due) if due <= now) {
                continue;
            }
            let log = of_log(&self.views, &followed.topic);
            let ends = self.views.broker.ends(partition);
            let begun = blocking(&self.views, move |views| {
                let applied = views.store.applied(partition)?;
                if let Some(it) = applied.filter(|it| it.goes_on(&log, ends.start, ends.stable)) {
                    return Ok(Offset(it.next));
                }
                views.store.clear(partition)?;
                Ok(ends.start)
            });
            followed.standing = match begun.await {
                Ok(next) => Standing::At(next),
                Err(error) => followed.stands_still(&error),
            };
        }
    }

    /// Reads what is new, and applies it; false if nothing is.
    async fn read(&mut self) -> bool {
        let wants = self.wants();
        if wants.is_empty() {
            return false;
        }
        let read =
            self.views.broker.read_many_isolated(wants.clone(), READ_BYTES, Isolation::Committed);
        let mut fetched = Vec::new();
        for (want, answer) in wants.iter().zip(read.await) {
            self.last_read = want.partition;
            match (answer, self.partitions.get(&want.partition)) {
                (Ok(batches), Some(followed)) => {
                    let log = of_log(&self.views, &followed.topic);
                    fetched.push((want.partition, log, batches));
                }
                (Err(error), _) => self.pass(want, &error).await,
                (Ok(_), None) => {}
            }
        }
        self.apply(fetched).await;
        true
    }

    /// What is behind, in equal shares.
    fn wants(&self) -> Vec<Want> {
        let after = (Bound::Excluded(self.last_read), Bound::Unbounded);
        let order = self.partitions.range(after).chain(self.partitions.range(..=self.last_read));
        let behind: Vec<_> = order
            .filter_map(|(&partition, followed)| match followed.standing {
                Standing::At(next) if next < self.views.broker.ends(partition).stable => {
                    Some((partition, next))
                }
                _ => None,
            })
            .collect();
        let max_bytes = READ_BYTES / behind.len().max(1);
        let want = |(partition, from)| Want { partition, from, max_bytes };
        behind.into_iter().map(want).collect()
    }

    /// Decides what to do about what cannot be read.
    async fn pass(&mut self, want: &Want, error: &ReadError) {
        let Want { partition, from, .. } = *want;
        let standing = match error {
            // Keys whose last record is lost keep the one before: the log tells no better.
            ReadError::Damaged { .. } => self.behind(partition, from).await,
            // Retention went past it: what was deleted has to leave the view, too.
            ReadError::OutOfRange { .. } => Standing::Begins(Instant::now()),
            error => later(partition, error),
        };
        if let Some(followed) = self.partitions.get_mut(&partition) {
            followed.standing = standing;
        }
    }

    /// Where to go on where nothing can be read.
    async fn behind(&self, partition: PartitionId, from: Offset) -> Standing {
        // Looked up first: what is appended meanwhile may be readable.
        let stable = self.views.broker.ends(partition).stable;
        match self.views.broker.next_readable(partition, from).await {
            Ok(next) => Standing::At(next.unwrap_or(stable)),
            Err(error) => later(partition, &error),
        }
    }

    /// Folds and applies what was read, where that may block.
    async fn apply(&mut self, fetched: Vec<(PartitionId, Applied, Fetched)>) {
        let partitions: Vec<_> = fetched.iter().map(|(partition, ..)| *partition).collect();
        let applied = blocking(&self.views, move |views| {
            let each = fetched.iter();
            Ok(each.map(|(partition, log, read)| fold(views, *partition, log, read)).collect())
        });
        let applied: Vec<_> = match applied.await {
            Ok(applied) => applied,
            Err(error) => partitions.iter().map(|_| Err(error.clone())).collect(),
        };
        for (partition, applied) in partitions.iter().zip(applied) {
            let Some(followed) = self.partitions.get(partition) else { continue };
            let standing = match (applied, followed.standing) {
                (Ok(Some(next)), _) => Standing::At(next),
                // Offsets that were given up, at the end of the log.
                (Ok(None), Standing::At(from)) => self.behind(*partition, from).await,
                (Ok(None), standing) => standing,
                (Err(error), _) => followed.stands_still(&error),
            };
            if let Some(followed) = self.partitions.get_mut(partition) {
                followed.standing = standing;
            }
        }
    }

    /// Until there may be something to do.
    async fn wait(&self) {
        let next = |(&partition, followed): (&PartitionId, &Followed)| match followed.standing {
            Standing::At(next) => Some((partition, next)),
            Standing::Begins(_) => None,
        };
        let wants: Vec<_> = self.partitions.iter().filter_map(next).collect();
        let news = async {
            match wants.is_empty() {
                true => std::future::pending().await,
                false => self.views.broker.wait_stable(&wants).await,
            }
        };
        // Topics come without a word, and errors are got over.
        drop(tokio::time::timeout(RETRY, news).await);
    }
}

fn later(partition: PartitionId, error: &ReadError) -> Standing {
    tracing::warn!(partition = partition.0, %error, "a view cannot read the log");
    Standing::Begins(Instant::now() + RETRY)
}

impl Followed {
    fn stands_still(&self, error: &StoreError) -> Standing {
        tracing::warn!(topic = self.topic.name, %error, "a view stands still");
        Standing::Begins(Instant::now() + RETRY)
    }
}

/// Folds batches into the view of a partition; where it goes on, if anything was there.
fn fold(
    views: &Views,
    partition: PartitionId,
    log: &Applied,
    fetched: &Fetched,
) -> Result<Option<Offset>, StoreError> {
    let mut changes = Changes::default();
    changes.fold(fetched);
    let Some(next) = changes.next else { return Ok(None) };
    views.store.apply(partition, &changes, &Applied { next, ..*log })?;
    Ok(Some(Offset(next)))
}

fn of_log(views: &Views, topic: &Topic) -> Applied {
    Applied { topic: topic.id, incarnation: views.broker.incarnation(), next: 0 }
}

/// Runs sled's file I/O where it may block; a panic of it is an error.
pub(super) async fn blocking<R: Send + 'static>(
    views: &Arc<Views>,
    work: impl FnOnce(&Views) -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    let views = Arc::clone(views);
    let done = tokio::task::spawn_blocking(move || work(&views)).await;
    done.unwrap_or_else(|error| Err(StoreError::panicked(&error)))
}
