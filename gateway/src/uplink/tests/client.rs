//! The client against a fake cluster that speaks the real protocol, with faults at chosen requests.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use krafka::{
    Kafka, Record as OutRecord,
    error::ErrorCode,
    testing::{ApiKey, Control, FakeBroker},
};

use crate::{
    journal::{Offset, PartitionId},
    record::Record,
    uplink::{
        centre::{
            Centre, CommitError, CursorScope, Leg, Session, Severity, Transaction, WantedTopic,
        },
        client::{KrafkaCentre, Timeouts},
        cursor::{self, Cursor},
    },
};

pub(super) const GATEWAY: [u8; 16] = [7; 16];

pub(super) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    request: Duration::from_millis(1_000),
    delivery: Duration::from_millis(2_000),
    coordinator: Duration::from_millis(2_500),
    transaction: Duration::from_millis(5_000),
    cursors: Duration::from_millis(1_500),
};

async fn cluster() -> FakeBroker {
    let broker = FakeBroker::start().await.unwrap();
    broker.set_transaction_version(2);
    broker
}

fn centre(broker: &FakeBroker) -> KrafkaCentre {
    KrafkaCentre {
        bootstrap: broker.bootstrap_servers(),
        gateway: GATEWAY,
        cursor_topic: "headwater-cursors".into(),
        timeouts: TIMEOUTS,
    }
}

pub(super) fn key(partition: u32) -> Bytes {
    cursor::key(GATEWAY, "t", partition)
}

pub(super) fn transaction(partition: u32, values: std::ops::Range<i64>) -> Transaction {
    let records: Vec<_> = values
        .clone()
        .map(|offset| Record {
            offset,
            timestamp: 1_700_000_000_000 + offset,
            key: (offset % 2 == 0).then(|| Bytes::from(format!("k{offset}"))),
            value: (offset != 3).then(|| Bytes::from(format!("v{offset}"))),
            headers: vec![("a".into(), Some("1".into())), ("a".into(), None)],
        })
        .collect();
    let cursor = Cursor {
        next: Offset(values.end),
        leader_epoch: 0,
        topic_id: [1; 16],
        tail: Some(u32::try_from(values.end).unwrap()),
    };
    let count = records.len();
    let leg = Leg {
        count,
        topic: "t".into(),
        index: partition,
        records,
        cursor_key: key(partition),
        cursor,
    };
    Transaction { legs: [(PartitionId(partition), leg)].into(), bytes: 0 }
}

pub(super) async fn ensure(
    session: &mut impl Session,
    name: &str,
    partitions: u32,
) -> Result<u32, String> {
    let wanted = WantedTopic { name: Arc::from(name), partitions };
    let answer = session.ensure_topics(&[wanted]).await.unwrap().remove(0);
    answer.map(|topic| topic.partitions)
}

pub(super) async fn next_at_centre(session: &mut impl Session, partition: u32) -> Option<i64> {
    let table = session.cursors(CursorScope::Home).await.unwrap();
    table.get(&key(partition)).map(|cursor| cursor.as_ref().unwrap().next.0)
}

#[tokio::test]
async fn data_and_cursor_arrive_together_and_whole() {
    let broker = cluster().await;
    let mut session = centre(&broker).open(&[]).await.unwrap();
    assert_eq!(ensure(&mut session, "t", 2).await, Ok(2));
    assert_eq!(next_at_centre(&mut session, 1).await, None);
    session.commit(&mut transaction(1, 0..5)).await.unwrap();
    session.commit(&mut transaction(1, 5..6)).await.unwrap();
    assert_eq!(next_at_centre(&mut session, 1).await, Some(6));

    let there = broker.committed_records("t").unwrap();
    assert_eq!(there.len(), 6);
    for (offset, record) in (0_i64..).zip(&there) {
        assert_eq!((record.partition, record.timestamp), (1, 1_700_000_000_000 + offset));
        assert_eq!(record.key.is_some(), offset % 2 == 0);
        assert_eq!(
            record.value_str().map(str::to_owned),
            (offset != 3).then(|| format!("v{offset}"))
        );
        assert_eq!(record.headers, [("a".into(), Some("1".into())), ("a".into(), None)]);
    }
}

#[tokio::test]
async fn a_topic_that_is_there_keeps_its_partitions() {
    let broker = cluster().await;
    broker.create_topic("t", 3);
    let mut session = centre(&broker).open(&[]).await.unwrap();
    assert_eq!(ensure(&mut session, "t", 8).await, Ok(3));
}

#[tokio::test]
async fn an_older_transaction_protocol_is_refused_in_clear_words() {
    let broker = FakeBroker::start().await.unwrap();
    broker.set_transaction_version(1);
    let error = centre(&broker).open(&[]).await.err().unwrap();
    assert!(error.message.contains("transaction.version 2"), "{error}");
}

#[tokio::test]
async fn a_centre_that_is_away_is_a_passing_error() {
    let mut away = centre(&cluster().await);
    away.bootstrap = "127.0.0.1:1".into();
    assert_eq!(away.open(&[]).await.err().unwrap().severity, Severity::Transient);
}

#[tokio::test]
async fn refused_records_are_told_from_lost_transactions() {
    for (code, poison) in [
        (ErrorCode::MessageTooLarge, true),
        (ErrorCode::RecordListTooLarge, true),
        (ErrorCode::InvalidTimestamp, true),
        (ErrorCode::InvalidRecord, true),
        (ErrorCode::TopicAuthorizationFailed, true),
        (ErrorCode::PolicyViolation, true),
        (ErrorCode::UnknownServerError, false),
        (ErrorCode::InvalidProducerEpoch, false),
        (ErrorCode::TransactionAbortable, false),
    ] {
        let broker = cluster().await;
        let mut session = centre(&broker).open(&[]).await.unwrap();
        ensure(&mut session, "t", 1).await.unwrap();
        broker.on_once(ApiKey::Produce, move |_| Control::Error(code));
        let error = session.commit(&mut transaction(0, 0..4)).await.unwrap_err();
        match error {
            CommitError::Poison(refused) => {
                assert!(poison, "{code:?}");
                assert_eq!(refused, [(PartitionId(0), format!("{code:?}"))]);
            }
            CommitError::Lost(error) => assert!(!poison, "{code:?}: {error}"),
        }
        assert!(broker.committed_records("t").unwrap().is_empty());
        let mut session = centre(&broker).open(&[]).await.unwrap();
        assert_eq!(next_at_centre(&mut session, 0).await, None);
    }
}

#[tokio::test]
async fn a_record_that_the_client_cannot_even_queue_is_refused_too() {
    let broker = cluster().await;
    let mut session = centre(&broker).open(&[]).await.unwrap();
    ensure(&mut session, "t", 1).await.unwrap();
    let mut transaction = transaction(0, 0..4);
    let huge = Bytes::from(vec![0; 40 << 20]);
    transaction.legs.get_mut(&PartitionId(0)).unwrap().records[2].value = Some(huge);
    match session.commit(&mut transaction).await.unwrap_err() {
        CommitError::Poison(refused) => {
            assert!(refused[0].1.contains("buffer_memory"), "{refused:?}");
        }
        CommitError::Lost(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_unknown_outcome_shows_in_the_cursors() {
    let cases = [
        (Control::ApplyThen(Box::new(Control::Disconnect)), Some(4)),
        (Control::ApplyThen(Box::new(Control::Silence)), Some(4)),
        (Control::Disconnect, None),
        (Control::Silence, None),
    ];
    let cases = cases.map(|(control, committed)| tokio::spawn(unknown_outcome(control, committed)));
    for case in cases {
        case.await.unwrap();
    }
}

async fn unknown_outcome(control: Control, committed: Option<i64>) {
    let broker = cluster().await;
    let mut session = centre(&broker).open(&[]).await.unwrap();
    ensure(&mut session, "t", 1).await.unwrap();
    let answer = control.clone();
    broker.on(ApiKey::EndTxn, move |_| answer.clone());
    let error = session.commit(&mut transaction(0, 0..4)).await.unwrap_err();
    assert!(matches!(error, CommitError::Lost(_)), "{control:?}: {error:?}");
    drop(session);
    broker.clear_hooks();

    let mut session = centre(&broker).open(&[]).await.unwrap();
    assert_eq!(next_at_centre(&mut session, 0).await, committed, "{control:?}");
    let there = broker.committed_records("t").unwrap().len();
    assert_eq!(there, committed.map_or(0, |_| 4), "{control:?}");
}

#[tokio::test]
async fn a_second_session_throws_the_first_one_out() {
    let broker = cluster().await;
    let mut first = centre(&broker).open(&[]).await.unwrap();
    ensure(&mut first, "t", 1).await.unwrap();
    let mut second = centre(&broker).open(&[]).await.unwrap();
    assert!(matches!(first.commit(&mut transaction(0, 0..2)).await, Err(CommitError::Lost(_))));
    second.commit(&mut transaction(0, 0..2)).await.unwrap();
    assert_eq!(broker.committed_records("t").unwrap().len(), 2);
}

#[tokio::test]
async fn cursors_behind_another_gateways_open_transaction_are_waited_for_not_missed() {
    let broker = cluster().await;
    let mut session = centre(&broker).open(&[]).await.unwrap();
    ensure(&mut session, "t", 1).await.unwrap();
    session.commit(&mut transaction(0, 0..2)).await.unwrap();

    let kafka = Kafka::builder(broker.bootstrap_servers()).connect().await.unwrap();
    let other = kafka.producer().build_transactional("another").await.unwrap();
    let home = cursor::home_partition(GATEWAY, 8);
    other.begin().unwrap();
    let record = OutRecord::new("headwater-cursors", "x").key("headwater/1/other/t/0");
    let _sent = other.send(record.partition(home)).await.unwrap();
    session.commit(&mut transaction(0, 2..4)).await.unwrap();

    let error = session.cursors(CursorScope::Home).await.err().unwrap();
    assert!(error.message.contains("another gateway's transaction"), "{error}");
    other.abort().await.unwrap();
    assert_eq!(next_at_centre(&mut session, 0).await, Some(4));
}

#[tokio::test]
async fn cursors_are_found_after_the_cursor_topic_was_given_more_partitions() {
    let broker = cluster().await;
    broker.create_topic("headwater-cursors", 1);
    let mut session = centre(&broker).open(&[]).await.unwrap();
    ensure(&mut session, "t", 1).await.unwrap();
    session.commit(&mut transaction(0, 0..2)).await.unwrap();
    broker.add_partitions("headwater-cursors", 63);
    assert_ne!(cursor::home_partition(GATEWAY, 64), 0, "the home moves in this test");
    let mut session = centre(&broker).open(&[]).await.unwrap();
    assert_eq!(next_at_centre(&mut session, 0).await, None);
    let table = session.cursors(CursorScope::Everything).await.unwrap();
    assert_eq!(table.get(&key(0)).unwrap().as_ref().unwrap().next, Offset(2));
}
