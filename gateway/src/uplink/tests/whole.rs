//! The whole uplink, from a real local log to a fake central cluster that speaks the real protocol.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use krafka::{
    error::ErrorCode,
    testing::{ApiKey, Control, FakeBroker},
};

use crate::{journal::Offset, record::TransactionOutcome};

use super::site::{DEADLINE, Running, Site, eventually, value};

async fn cluster() -> FakeBroker {
    let broker = FakeBroker::start().await.unwrap();
    broker.set_transaction_version(2);
    broker
}

/// What a read_committed consumer finds in one partition.
fn there(cluster: &FakeBroker, topic: &str, partition: u32) -> Vec<String> {
    let records = cluster.committed_records(topic).unwrap();
    records
        .iter()
        .filter(|record| u32::try_from(record.partition) == Ok(partition))
        .map(|record| record.value_str().unwrap().to_owned())
        .collect()
}

fn assert_exactly(cluster: &FakeBroker, topic: &str, partition: u32, until: i64) {
    let expect: Vec<_> = (0..until).map(|offset| value(topic, partition, offset)).collect();
    let found = there(cluster, topic, partition);
    assert_eq!(found.len(), expect.len(), "{topic}-{partition}");
    assert_eq!(found, expect, "{topic}-{partition}");
}

async fn until_there(cluster: &FakeBroker, topic: &str, partition: u32, until: i64) {
    let want = usize::try_from(until).unwrap();
    eventually("the records are at the centre", || {
        let found = there(cluster, topic, partition).len();
        if found >= want { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_arrives_once_and_in_order_and_the_status_says_so() {
    let (cluster, site) = (cluster().await, Site::new().await);
    site.topic("a", 2).await;
    site.append_until("a", 0, 500).await;
    site.append_until("a", 1, 3).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    uplink.caught_up().await;
    site.topic("later", 1).await;
    site.append_until("later", 0, 20).await;
    until_there(&cluster, "later", 0, 20).await;
    site.append_until("a", 0, 800).await;
    until_there(&cluster, "a", 0, 800).await;
    uplink.caught_up().await;
    for (topic, partition, until) in [("a", 0, 800), ("a", 1, 3), ("later", 0, 20)] {
        assert_exactly(&cluster, topic, partition, until);
        let id = site.broker().topic(topic).unwrap().partitions[partition as usize];
        assert_eq!(site.broker().replicated(id).map(|offset| offset.0), Some(until));
    }
    let status = uplink.status();
    assert_eq!((status.records, status.lag_records, status.last_error), (823, 0, None));
    assert!(status.transactions > 0);
    assert_eq!(status.partitions.len(), 3);
    assert_eq!(status.partitions[0].next, Some(800));
    assert!(uplink.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_at_any_request_neither_lose_nor_double() {
    use ApiKey::{
        CreateTopics, EndTxn, Fetch, FindCoordinator, InitProducerId, ListOffsets, Metadata,
        Produce,
    };
    let applied = |control| Control::ApplyThen(Box::new(control));
    // Which request, what happens to it, to every how many-th of them, how often.
    let cases = [
        (Produce, Control::Disconnect, 3, 5),
        (Produce, applied(Control::Disconnect), 1, 3),
        (Produce, applied(Control::Disconnect), 3, 5),
        (Produce, applied(Control::Silence), 4, 2),
        (Produce, Control::Error(ErrorCode::NotLeaderForPartition), 2, 5),
        (Produce, Control::Error(ErrorCode::UnknownServerError), 3, 3),
        (Produce, Control::Error(ErrorCode::OutOfOrderSequenceNumber), 3, 3),
        (EndTxn, Control::Disconnect, 1, 8),
        (EndTxn, Control::Disconnect, 2, 4),
        (EndTxn, applied(Control::Disconnect), 1, 8),
        (EndTxn, applied(Control::Disconnect), 2, 4),
        (EndTxn, applied(Control::Silence), 2, 3),
        (EndTxn, Control::Error(ErrorCode::CoordinatorNotAvailable), 2, 4),
        (EndTxn, Control::Error(ErrorCode::InvalidProducerEpoch), 3, 2),
        (EndTxn, Control::Error(ErrorCode::UnknownServerError), 2, 2),
        (EndTxn, applied(Control::Error(ErrorCode::RequestTimedOut)), 2, 3),
        (InitProducerId, Control::Disconnect, 1, 2),
        (InitProducerId, Control::Error(ErrorCode::ConcurrentTransactions), 1, 2),
        (FindCoordinator, Control::Disconnect, 1, 2),
        (Fetch, Control::Disconnect, 1, 1),
        (Fetch, Control::CorruptRecords, 1, 1),
        (ListOffsets, Control::Error(ErrorCode::LeaderNotAvailable), 1, 1),
        (Metadata, Control::Disconnect, 1, 2),
        (CreateTopics, applied(Control::Disconnect), 1, 1),
    ];
    let cases = cases.map(|(api, control, every, times)| {
        let faults = Arc::new(AtomicU32::new(times));
        tokio::spawn(one_fault(api, control, every, faults))
    });
    for case in cases {
        case.await.unwrap();
    }
}

async fn one_fault(api: ApiKey, control: Control, every: u64, faults: Arc<AtomicU32>) {
    let (cluster, site) = (cluster().await, Site::new().await);
    site.topic("a", 2).await;
    site.append_until("a", 0, 100).await;
    if api != ApiKey::CreateTopics {
        // The first transaction is whole, so that there is a cursor to go wrong with.
        let uplink = site.uplink(&cluster.bootstrap_servers());
        uplink.caught_up().await;
        uplink.stop().await;
    }
    let case = format!("{api:?} {control:?} every {every}");
    let left = faults.clone();
    cluster.clear_requests();
    cluster.on(api, move |request| {
        let due = (request.api_call_index + 1).is_multiple_of(every);
        let take = |left: u32| if due { left.checked_sub(1) } else { None };
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => control.clone(),
            Err(_) => Control::Pass,
        }
    });
    let uplink = site.uplink(&cluster.bootstrap_servers());
    for until in [300, 600, 1_200] {
        site.append_until("a", 0, until).await;
        site.append_until("a", 1, until / 3).await;
    }
    // How many requests that takes is the uplink's affair: more records until all faults have come.
    let mut end = 1_200;
    let deadline = Instant::now() + DEADLINE;
    while faults.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < deadline, "not every fault of {case} came");
        uplink.caught_up().await;
        end += 20;
        site.append_until("a", 0, end).await;
    }
    uplink.caught_up().await;
    assert_exactly(&cluster, "a", 0, end);
    assert_exactly(&cluster, "a", 1, 400);
    uplink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_centre_that_crashes_again_and_again_gets_everything_once() {
    let (cluster, site) = (cluster().await, Site::new().await);
    site.topic("a", 1).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    for round in 1..=6_i64 {
        site.append_until("a", 0, round * 300).await;
        until_there(&cluster, "a", 0, round * 300 - 250).await;
        cluster.crash(0);
        site.append_until("a", 0, round * 300 + 20).await;
        eventually("the loss is noticed", || {
            let status = uplink.status();
            if status.last_error.is_some() { Ok(()) } else { Err(status) }
        })
        .await;
        cluster.restart(0);
    }
    until_there(&cluster, "a", 0, 1_820).await;
    assert_exactly(&cluster, "a", 0, 1_820);
    uplink.caught_up().await;
    assert_eq!(uplink.status().last_error, None);
    uplink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_the_gateway_and_lost_hints_change_nothing() {
    let (cluster, mut site) = (cluster().await, Site::new().await);
    site.topic("a", 1).await;
    let control = Control::ApplyThen(Box::new(Control::Disconnect));
    for round in 1..=4_i64 {
        site.append_until("a", 0, round * 200).await;
        let uplink = site.uplink(&cluster.bootstrap_servers());
        if round == 3 {
            // Stopped with an outcome that nobody here knows.
            let control = control.clone();
            cluster.on(ApiKey::EndTxn, move |_| control.clone());
            until_there(&cluster, "a", 0, round * 200 - 199).await;
        } else {
            until_there(&cluster, "a", 0, round * 200).await;
            uplink.caught_up().await;
        }
        assert!(uplink.stop().await, "a stop takes less than 2 s");
        cluster.clear_hooks();
        if round % 2 == 0 {
            site.forget_hints().await;
        }
        site.restart().await;
    }
    assert_exactly(&cluster, "a", 0, 800);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_local_transactions_the_centre_gets_what_was_committed() {
    let (cluster, site) = (cluster().await, Site::new().await);
    site.topic("a", 1).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    let id = site.broker().topic("a").unwrap().partitions[0];
    site.append_transactional("a", 7, 0, &["aborted"]).await;
    site.append_transactional("a", 8, 0, &["committed", "too"]).await;
    site.append_until("a", 0, 5).await;
    site.end_transaction("a", 7, TransactionOutcome::Abort).await;
    // Nothing before the first open transaction ends; only then what lies behind it.
    eventually("the aborted one is passed", || {
        let next = uplink.status().partitions.first().and_then(|partition| partition.next);
        if next == Some(1) { Ok(()) } else { Err(next) }
    })
    .await;
    assert_eq!(there(&cluster, "a", 0), Vec::<String>::new());
    assert_eq!(site.broker().ends(id).stable, Offset(1));
    site.end_transaction("a", 8, TransactionOutcome::Commit).await;
    uplink.caught_up().await;
    let plain = [3, 4].map(|offset| value("a", 0, offset));
    let expect = ["committed".to_owned(), "too".to_owned()].into_iter().chain(plain);
    assert_eq!(there(&cluster, "a", 0), expect.collect::<Vec<_>>());
    assert_eq!(site.broker().replicated(id), Some(Offset(7)));
    uplink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_centre_that_is_away_from_the_start_is_waited_for() {
    let (cluster, mut site) = (cluster().await, Site::new().await);
    cluster.crash(0);
    site.topic("a", 1).await;
    site.append_until("a", 0, 100).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    let status = eventually("it says so", || {
        let status = uplink.status();
        if status.last_error.is_some() { Ok(status) } else { Err(()) }
    })
    .await;
    assert_eq!((status.connected, status.lag_records), (false, 100));
    cluster.restart(0);
    uplink.caught_up().await;
    assert_exactly(&cluster, "a", 0, 100);
    uplink.stop().await;

    // Away again: the hint still tells what is there.
    cluster.crash(0);
    site.restart().await;
    site.append_until("a", 0, 130).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    let lag = eventually("the lag counts from the hint", || match uplink.status().lag_records {
        30 => Ok(30),
        other => Err(other),
    })
    .await;
    assert_eq!(lag, 30);
    assert!(uplink.stop().await, "a stop does not wait for the centre");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_the_centre_lacks_is_left_out_with_its_reason() {
    let (cluster, site) = (cluster().await, Site::new().await);
    cluster.create_topic("a", 1);
    site.topic("a", 2).await;
    site.topic("b", 1).await;
    for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
        site.append_until(topic, partition, 10).await;
    }
    let uplink = site.uplink(&cluster.bootstrap_servers());
    until_there(&cluster, "a", 0, 10).await;
    until_there(&cluster, "b", 0, 10).await;
    let status = eventually("only its lag is left", || {
        let status = uplink.status();
        if status.lag_records == 10 { Ok(status) } else { Err(status) }
    })
    .await;
    let error = status.last_error.unwrap();
    assert!(
        error.starts_with("a partition 1: topic \"a\" has 1 partitions at the centre"),
        "{error}"
    );
    uplink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_restored_from_an_older_copy_halts_instead_of_mixing_two_histories() {
    let (cluster, mut site) = (cluster().await, Site::new().await);
    site.topic("a", 1).await;
    site.topic("b", 1).await;
    site.append_until("a", 0, 100).await;
    site.append_until("b", 0, 100).await;
    let copy = site.copy().await;
    site.append_until("a", 0, 200).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    uplink.caught_up().await;
    uplink.stop().await;
    site.restore(&copy).await;

    let uplink = site.uplink(&cluster.bootstrap_servers());
    let error = halted(&uplink).await;
    assert!(error.contains("restored from an older copy"), "{error}");
    site.append_until("b", 0, 110).await;
    until_there(&cluster, "b", 0, 110).await;
    site.append_until("a", 0, 300).await;
    site.append_until("b", 0, 120).await;
    until_there(&cluster, "b", 0, 120).await;
    assert_exactly(&cluster, "a", 0, 200);
    uplink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_folder_that_was_written_past_the_cursor_halts_too() {
    let (cluster, mut site) = (cluster().await, Site::new().await);
    site.topic("a", 1).await;
    site.append_until("a", 0, 100).await;
    let copy = site.copy().await;
    site.append_until("a", 0, 200).await;
    let uplink = site.uplink(&cluster.bootstrap_servers());
    uplink.caught_up().await;
    uplink.stop().await;
    site.restore(&copy).await;
    site.append_others_until("a", 0, 300).await;

    let uplink = site.uplink(&cluster.bootstrap_servers());
    let error = halted(&uplink).await;
    assert!(error.contains("written anew"), "{error}");
    assert_exactly(&cluster, "a", 0, 200);
    assert!(uplink.stop().await);
}

async fn halted(uplink: &Running) -> String {
    eventually("it halts", || uplink.status().last_error.ok_or(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_centre_does_not_hold_up_a_stop() {
    for api in
        [ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Fetch, ApiKey::Produce, ApiKey::EndTxn]
    {
        let (cluster, site) = (cluster().await, Site::new().await);
        cluster.create_topic("headwater-cursors", 1);
        cluster.create_topic("a", 1);
        site.topic("a", 1).await;
        site.append_until("a", 0, 10).await;
        cluster.on(api, |_| Control::Silence);
        let uplink = site.uplink(&cluster.bootstrap_servers());
        if api != ApiKey::Fetch {
            let seen = cluster.wait_for_requests(api, 1, std::time::Duration::from_secs(10)).await;
            assert!(seen, "{api:?}");
        }
        assert!(uplink.stop().await, "{api:?}");
    }
}
