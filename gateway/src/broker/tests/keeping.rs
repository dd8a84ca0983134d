//! What topics keep: by time, by size, for the centre, and when the storage is full.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{BROKER_OPTIONS, batch, full::fill, one, records, reopen, settings, values};
use crate::{
    Shutdown,
    broker::{AppendError, Broker, Keeper},
    journal::{
        self, AdmitError, Clock, ClockQuality, JournalOptions, Moment, Offset, PartitionId,
        RealDisk,
    },
    record::{Batch, BatchBuilder, Record},
};

const HOUR_MS: u64 = 3_600_000;

/// A clock that stands still but for [`Hands::pass`].
#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Hands {
    fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Moment {
        let monotonic_ms = self.0.load(Ordering::Relaxed);
        Moment { unix_ms: 0, quality: ClockQuality::Unknown, monotonic_ms }
    }
}

async fn open_with(folder: &Path, hands: &Arc<Hands>) -> Arc<Broker> {
    let options = JournalOptions {
        max_bytes: Some(32 << 20),
        segment_bytes: Some(1 << 20),
        clock: Arc::clone(hands) as Arc<dyn Clock>,
        ..JournalOptions::default()
    };
    let disk = RealDisk::open(folder).expect("no other journal is open there");
    let (journal, state) = journal::open(disk, &options).expect("a healthy folder");
    Broker::open(journal, state, BROKER_OPTIONS).await.expect("a healthy journal")
}

fn keeper(broker: &Arc<Broker>) -> Keeper {
    Keeper::new(Arc::clone(broker), Duration::from_secs(3600))
}

async fn topic(broker: &Broker, name: &str, pairs: &[(&str, &str)]) -> PartitionId {
    broker.create_topic(name, None, settings(pairs)).await.expect("created").partitions[0]
}

async fn put(broker: &Broker, partition: PartitionId, batch: Batch) {
    broker.append(one(partition, batch)).expect("taken").durable().await.expect("durable");
}

fn large(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::default();
    builder.push(0, None, Some(&vec![7; bytes]), &[]);
    builder.finish().expect("not empty")
}

fn start(broker: &Broker, partition: PartitionId) -> i64 {
    broker.ends(partition).start.0
}

/// The headers of a gap record, without the names' common part.
fn gap_of(record: &Record) -> Option<BTreeMap<String, String>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: BTreeMap<_, _> = record
        .headers
        .iter()
        .map(|(name, value)| (text(name), text(value.as_deref().unwrap_or_default())))
        .collect();
    headers.contains_key("gap").then_some(headers)
}

#[tokio::test]
async fn records_go_when_they_are_old_and_not_before() {
    let folder = tempfile::tempdir().expect("folder");
    let hands = Arc::new(Hands::default());
    let broker = open_with(folder.path(), &hands).await;
    let short = topic(&broker, "short", &[("retention.ms", "7200000")]).await;
    let long = topic(&broker, "long", &[]).await;
    let compacted =
        topic(&broker, "keys", &[("retention.ms", "1"), ("cleanup.policy", "compact")]).await;
    for value in ["0 h", "1 h", "2 h", "3 h"] {
        for partition in [short, long, compacted] {
            put(&broker, partition, batch(&[value])).await;
        }
        hands.pass(HOUR_MS);
    }
    let mut keeper = keeper(&broker);
    keeper.retain().await.expect("done");
    assert_eq!(values(&broker, short).await, ["3 h"], "two hours old is old");
    assert_eq!((start(&broker, long), start(&broker, compacted)), (0, 0));
    assert_eq!(broker.keeping().expired_records, 3);
    hands.pass(7 * 24 * HOUR_MS);
    keeper.retain().await.expect("done");
    assert_eq!((start(&broker, short), start(&broker, long)), (4, 4));
    assert_eq!(start(&broker, compacted), 0, "only compacted");
    drop(keeper);
    let broker = reopen(broker, folder.path()).await;
    assert_eq!((start(&broker, short), start(&broker, long)), (4, 4));
}

#[tokio::test]
async fn a_partition_keeps_at_least_the_bytes_that_it_may() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open_with(folder.path(), &Arc::default()).await;
    let bytes = large(10_000).len() * 3;
    let partition = topic(&broker, "t", &[("retention.bytes", &bytes.to_string())]).await;
    for _ in 0..10 {
        put(&broker, partition, large(10_000)).await;
    }
    keeper(&broker).retain().await.expect("done");
    assert_eq!(start(&broker, partition), 7);
    put(&broker, partition, batch(&["small"])).await;
    keeper(&broker).retain().await.expect("done");
    assert_eq!(start(&broker, partition), 7, "without the oldest large one it would be less");
}

#[tokio::test]
async fn what_the_centre_does_not_hold_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let hands = Arc::new(Hands::default());
    let broker = open_with(folder.path(), &hands).await;
    broker.protect_forwarded(|topic| topic.starts_with("up"));
    let old = ("retention.ms", "1");
    let kept = topic(&broker, "up-kept", &[old]).await;
    let other = topic(&broker, "local", &[old]).await;
    let told = topic(&broker, "up-told", &[old, ("headwater.unreplicated.policy", "drop")]).await;
    for partition in [kept, other, told] {
        for _ in 0..4 {
            put(&broker, partition, batch(&["x"])).await;
        }
    }
    hands.pass(HOUR_MS);
    let mut keeper = keeper(&broker);
    keeper.retain().await.expect("done");
    let starts = || [kept, other, told].map(|partition| start(&broker, partition));
    assert_eq!(starts(), [0, 4, 4], "nothing was heard of the centre yet");
    assert_eq!(broker.keeping().held_back_partitions, 1);
    broker.set_replicated(kept, Offset(3));
    keeper.retain().await.expect("done");
    assert_eq!(starts(), [3, 4, 4]);
    broker.set_replicated(kept, Offset(4));
    keeper.retain().await.expect("done");
    assert_eq!(starts(), [4, 4, 4]);
    assert_eq!(broker.keeping().held_back_partitions, 0);
}

/// Appends until so many batches were taken, waiting where there is no space.
async fn push(broker: &Broker, partition: PartitionId, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    for _ in 0..count {
        let commit = loop {
            match broker.append(one(partition, large(50_000))) {
                Ok(commit) => break commit,
                Err(AppendError::Journal(AdmitError::Full)) => {
                    assert!(Instant::now() < deadline, "{:?}", broker.journal().status());
                    sleep(Duration::from_millis(2)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        commit.durable().await.expect("durable");
    }
}

#[tokio::test]
async fn the_oldest_records_make_room_and_gap_records_say_so() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open_with(folder.path(), &Arc::default()).await;
    let partition = topic(&broker, "t", &[("headwater.full.policy", "drop-oldest")]).await;
    let shutdown = Shutdown::new();
    let running = tokio::spawn(keeper(&broker).run(shutdown.clone()));
    // Three times what there is room for.
    push(&broker, partition, 1800).await;
    // It counts what it dropped once that is durable, a moment after readers see it.
    shutdown.request();
    running.await.expect("ended");
    let gaps: Vec<_> = records(&broker, partition).await.iter().filter_map(gap_of).collect();
    let start = start(&broker, partition);
    assert!(start > 1000 && gaps.len() > 5, "{start}, {} gaps", gaps.len());
    for gap in &gaps {
        assert_eq!(gap["gap.reason"], "overflow-oldest");
        let number = |name: &str| gap[name].parse::<i64>().expect("a number");
        assert_eq!(number("gap"), number("gap.to") - number("gap.from"));
    }
    // One range follows the other, up to where the log begins now.
    for pair in gaps.windows(2) {
        assert_eq!(pair[0]["gap.to"], pair[1]["gap.from"]);
    }
    assert_eq!(gaps.last().map(|gap| gap["gap.to"].clone()), Some(start.to_string()));
    let keeping = broker.keeping();
    assert_eq!((keeping.dropped_records, keeping.refused_records), (start as u64, 0));
    // Not more than needed: nearly all of the budget is in use.
    let status = broker.journal().status();
    assert!(status.used_bytes <= status.max_bytes, "{status:?}");
    assert!(status.segments >= 24, "{status:?}");
}

#[tokio::test]
async fn a_topic_that_has_to_keep_its_records_blocks_those_that_would_make_room() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open_with(folder.path(), &Arc::default()).await;
    broker.protect_forwarded(|topic| topic == "up");
    let held = topic(&broker, "up", &[("headwater.full.policy", "drop-oldest")]).await;
    let partition = topic(&broker, "t", &[("headwater.full.policy", "drop-oldest")]).await;
    put(&broker, partition, batch(&["would make room"])).await;
    fill(&broker, held, large).await;
    let mut keeper = keeper(&broker);
    keeper.make_room().await.expect("decided");
    assert_eq!((start(&broker, held), start(&broker, partition)), (0, 0));
    assert!(broker.keeping().is_blocked && broker.keeping().is_full);
    let end = broker.journal().ends(held).durable;
    broker.set_replicated(held, end);
    keeper.make_room().await.expect("decided");
    assert_eq!(start(&broker, partition), 1);
    assert!(start(&broker, held) > 0 && !broker.keeping().is_blocked);
    push(&broker, partition, 1).await;
    assert!(!broker.keeping().is_full);
}

#[tokio::test]
async fn what_has_to_stay_is_copied_out_of_the_way_where_that_pays() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open_with(folder.path(), &Arc::default()).await;
    broker.protect_forwarded(|topic| topic == "up");
    let held = topic(&broker, "up", &[("headwater.full.policy", "drop-oldest")]).await;
    let partition = topic(&broker, "t", &[("headwater.full.policy", "drop-oldest")]).await;
    put(&broker, held, batch(&["not at the centre"])).await;
    let shutdown = Shutdown::new();
    let running = tokio::spawn(keeper(&broker).run(shutdown.clone()));
    push(&broker, partition, 900).await;
    shutdown.request();
    running.await.expect("ended");
    assert!(start(&broker, partition) > 100);
    assert_eq!(start(&broker, held), 0);
    let found = records(&broker, held).await;
    assert_eq!(found[0].value.as_deref(), Some(&b"not at the centre"[..]));
    let status = broker.journal().status();
    assert!(status.cold_segments > 0 && status.used_bytes <= status.max_bytes, "{status:?}");
}

#[tokio::test]
async fn new_records_are_refused_for_good_between_two_gap_records() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open_with(folder.path(), &Arc::default()).await;
    let partition = topic(&broker, "t", &[("headwater.full.policy", "drop-newest")]).await;
    let filler = topic(&broker, "filler", &[]).await;
    fill(&broker, filler, large).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut refused = 0;
    while refused < 5 {
        match broker.append(one(partition, batch(&["a", "b", "c"]))) {
            Err(AppendError::Dropped) => {
                refused += 1;
                // Whoever is refused can read why.
                let found = records(&broker, partition).await;
                let gap = gap_of(found.last().expect("a gap")).expect("a gap");
                assert_eq!((gap["gap"].as_str(), gap["gap.from"].as_str()), ("0", "0"));
            }
            Err(AppendError::Journal(AdmitError::Full)) => {
                assert!(Instant::now() < deadline);
                assert_eq!(refused, 0, "once begun nobody is kept waiting");
                sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("taken in full storage"),
        }
    }
    // The other topic's policy is another one.
    let waits = broker.append(one(filler, batch(&["x"]))).expect_err("full");
    assert!(matches!(waits, AppendError::Journal(AdmitError::Full)), "{waits}");
    // Nor does it hit a sender that brings its records again.
    let waits = broker.append_kept(one(partition, batch(&["x"]))).expect_err("full");
    assert!(matches!(waits, AppendError::Journal(AdmitError::Full)), "{waits}");
    broker.delete_records(filler, None).await.expect("works on full storage");
    let offset = loop {
        match broker.append(one(partition, batch(&["after"]))) {
            Ok(commit) => {
                let offset = commit.base_offsets()[0];
                commit.durable().await.expect("durable");
                break offset;
            }
            Err(AppendError::Dropped) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(offset, Offset(2), "gap, gap");
    let found = records(&broker, partition).await;
    let gap = gap_of(&found[1]).expect("a gap");
    assert_eq!(gap["gap.reason"], "overflow-newest");
    // One record each of those after the space was freed, three of the others.
    assert_eq!(gap["gap"], (15 + refused - 5).to_string());
    assert_eq!(broker.keeping().refused_records, 15 + refused - 5);
    assert_eq!(found[2].value.as_deref(), Some(&b"after"[..]));
}
