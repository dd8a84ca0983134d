//! Follows the partitions of a topic: read, fold, apply.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::{StoreError, Views, last_value::Changes, store::Applied};
use crate::{
    Shutdown,
    broker::{Isolation, Topic},
    journal::{Offset, PartitionId, ReadError},
};

/// Read at once.
const READ_BYTES: usize = 512 * 1024;
/// What was applied since is applied again after a kill.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// After an error, and until a topic is there.
const RETRY: Duration = Duration::from_secs(5);

/// Until shutdown.
pub(super) async fn topic(views: Arc<Views>, name: String, shutdown: Shutdown) {
    let known = loop {
        if let Some(known) = views.broker.topic(&name) {
            break known;
        }
        if sleep(RETRY, &shutdown).await {
            return;
        }
    };
    let mut partitions = JoinSet::new();
    for &partition in &known.partitions {
        let (views, known, shutdown) = (Arc::clone(&views), Arc::clone(&known), shutdown.clone());
        partitions.spawn(async move {
            loop {
                match follow(&views, &known, partition, &shutdown).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(topic = known.name, %error, "a view stands still"),
                }
                if sleep(RETRY, &shutdown).await {
                    return;
                }
            }
        });
    }
    while partitions.join_next().await.is_some() {}
}

/// Follows one partition; returns when shutdown is requested.
async fn follow(
    views: &Arc<Views>,
    topic: &Topic,
    partition: PartitionId,
    shutdown: &Shutdown,
) -> Result<(), StoreError> {
    let mut next = begin(views, topic, partition).await?;
    let mut flushed = Instant::now();
    loop {
        if shutdown.is_requested() {
            return Ok(());
        }
        let read = views.broker.read_isolated(partition, next, READ_BYTES, Isolation::Committed);
        let fetched = match read.await {
            Ok(fetched) => fetched,
            Err(ReadError::Damaged { .. }) => {
                // Keys whose last record is lost keep the one before: the log tells no better.
                let past = views.broker.next_readable(partition, next).await;
                next = past.ok().flatten().unwrap_or(views.broker.ends(partition).stable);
                continue;
            }
            // Retention went past it: what was deleted has to leave the view, too.
            Err(ReadError::OutOfRange { .. }) => {
                next = begin(views, topic, partition).await?;
                continue;
            }
            Err(error) => {
                tracing::warn!(topic = topic.name, %error, "a view cannot read the log");
                if sleep(RETRY, shutdown).await {
                    return Ok(());
                }
                continue;
            }
        };
        let mut changes = Changes::default();
        changes.fold(&fetched);
        let Some(end) = changes.next else {
            let wants = [(partition, next)];
            tokio::select! {
                () = views.broker.wait_stable(&wants) => {}
                () = shutdown.requested() => return Ok(()),
            }
            continue;
        };
        next = Offset(end);
        let applied = Applied { next: end, ..of_log(views, topic) };
        let is_checkpoint = flushed.elapsed() > CHECKPOINT;
        if is_checkpoint {
            flushed = Instant::now();
        }
        blocking(views, move |views| {
            views.store.apply(partition, &changes, &applied)?;
            if is_checkpoint { views.store.flush() } else { Ok(()) }
        })
        .await?;
    }
}

/// Where to go on; a view that is not certainly of this log is thrown away.
async fn begin(
    views: &Arc<Views>,
    topic: &Topic,
    partition: PartitionId,
) -> Result<Offset, StoreError> {
    let log = of_log(views, topic);
    let ends = views.broker.ends(partition);
    blocking(views, move |views| {
        let applied = views.store.applied(partition)?;
        if let Some(applied) = applied.filter(|it| it.goes_on(&log, ends.start, ends.stable)) {
            return Ok(Offset(applied.next));
        }
        views.store.clear(partition)?;
        Ok(ends.start)
    })
    .await
}

fn of_log(views: &Views, topic: &Topic) -> Applied {
    Applied { topic: topic.id, incarnation: views.broker.incarnation(), next: 0 }
}

/// Runs sled's file I/O where it may block; a panic of it is an error.
async fn blocking<R: Send + 'static>(
    views: &Arc<Views>,
    work: impl FnOnce(&Views) -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    let views = Arc::clone(views);
    let done = tokio::task::spawn_blocking(move || work(&views)).await;
    done.unwrap_or_else(|error| Err(StoreError::panicked(&error)))
}

/// True when shutdown is requested.
async fn sleep(span: Duration, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = tokio::time::sleep(span) => false,
        () = shutdown.requested() => true,
    }
}
