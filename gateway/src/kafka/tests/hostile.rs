//! Bytes that no correct client sends: limits, random and mutated frames, neighbours, shutdown.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::{ApiVersionsRequest, FetchRequest, OffsetFetchRequest, ProduceRequest};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::harness::*;
use crate::kafka::{dispatch::APIS, timer::Patience};

const FETCH_KEY: i16 = 1;

/// Frames per kind of damage.
const FRAMES: usize = 3_000;

#[tokio::test]
async fn frames_over_their_limit_close_the_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let hello = frame(0, 1, &ApiVersionsRequest::default());
    let announce = |length: i32, api_key: i16| {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&api_key.to_be_bytes());
        bytes
    };
    const KIB: i32 = 1024;
    let cases = [
        // Announced length, API, whether the client said hello before.
        (-1, 0, false),
        (i32::MIN, 0, true),
        (i32::MAX, 0, true),
        (0, 0, false),
        (7, 0, true),
        (64 * KIB + 1, 0, false),
        (64 * KIB + 1, 18, false),
        (512 * KIB + 1, 3, true),
        (8 * KIB * KIB + 1, 0, true),
        // "GET " as a length.
        (0x4745_5420, 0x2f20, false),
    ];
    for (length, api_key, says_hello) in cases {
        let mut wire = Wire::connect(&gateway).await;
        if says_hello {
            wire.send_bytes(&hello).await;
            wire.receive_frame().await.expect("an answer");
        }
        wire.try_send_bytes(&announce(length, api_key)).await;
        wire.expect_close().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn requests_that_nobody_serves_close_the_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    for (api_key, version) in [(4, 0), (-1, 0), (999, 0), (3, 14), (3, -1), (1, 3), (0, 14)] {
        let mut wire = Wire::connect(&gateway).await;
        wire.send_bytes(&raw_frame(api_key, version, false, &[0; 8])).await;
        wire.expect_close().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn counts_beyond_the_frame_reserve_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let huge = i32::MAX.to_be_bytes();
    // Metadata with 2^31 topics; Produce with 2^31 topics; both in four bytes.
    let produce = [&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..], &huge].concat();
    for (api_key, version, body) in [(3, 1, huge.to_vec()), (0, 3, produce)] {
        let mut wire = Wire::connect(&gateway).await;
        wire.send_bytes(&raw_frame(api_key, version, false, &body)).await;
        wire.expect_close().await;
    }
    // As many empty partitions as fit into a frame.
    let mut wire = Wire::connect(&gateway).await;
    let parts: Vec<(&str, i32, Bytes)> = (0..5000).map(|it| ("t", it, Bytes::new())).collect();
    let request = frame(3, 1, &produce_request(-1, &parts));
    assert!(request.len() < 128 * 1024);
    wire.send_bytes(&frame(0, 1, &ApiVersionsRequest::default())).await;
    wire.receive_frame().await.expect("an answer");
    wire.try_send_bytes(&request).await;
    wire.expect_close().await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_multiplies_a_small_request_is_not_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let note = "x".repeat(4096);
    let mut commit = kafka_wire::OffsetCommitRequest::default();
    commit.group_id = "g".into();
    commit.generation_id_or_member_epoch = -1;
    let mut partition = kafka_wire::offset_commit_request::OffsetCommitRequestPartition::default();
    partition.committed_metadata = Some(note.into());
    let mut topic = kafka_wire::offset_commit_request::OffsetCommitRequestTopic::default();
    topic.name = "t".into();
    topic.partitions = vec![partition];
    commit.topics = vec![topic];
    assert_eq!(wire.call(5, &commit).await.topics[0].partitions[0].error_code, 0);
    let mut topic = kafka_wire::offset_fetch_request::OffsetFetchRequestTopic::default();
    topic.name = "t".into();
    topic.partition_indexes = vec![0; 10_000];
    let mut request = OffsetFetchRequest::default();
    request.group_id = "g".into();
    request.topics = Some(vec![topic]);
    wire.send(5, &request).await;
    wire.expect_close().await;
    gateway.stop().await;
}

#[tokio::test]
async fn connections_are_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start_with(folder.path(), |config| config.max_connections = 2).await;
    let mut seated = [Wire::connect(&gateway).await, Wire::connect(&gateway).await];
    for wire in &mut seated {
        assert_eq!(wire.call(0, &ApiVersionsRequest::default()).await.error_code, 0);
    }
    let mut third = Wire::connect(&gateway).await;
    third.expect_close().await;
    for wire in &mut seated {
        assert_eq!(wire.call(0, &ApiVersionsRequest::default()).await.error_code, 0);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stop_answers_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut waiting = Wire::connect(&gateway).await;
    let mut idle = Wire::connect(&gateway).await;
    idle.call(0, &ApiVersionsRequest::default()).await;
    let mut request = FetchRequest::default();
    request.max_wait_ms = 60_000;
    request.min_bytes = 1;
    request.max_bytes = 1000;
    let mut topic = kafka_wire::fetch_request::FetchTopic::default();
    topic.topic = "t".into();
    topic.partitions = vec![Default::default()];
    request.topics = vec![topic];
    // The first request is answered, so the second is being served when the stop comes.
    let first = waiting.send(0, &ApiVersionsRequest::default()).await;
    let second = waiting.send(11, &request).await;
    waiting.receive::<ApiVersionsRequest>(0, first).await;
    let began = Instant::now();
    gateway.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let response = waiting.receive::<FetchRequest>(11, second).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    waiting.expect_close().await;
    idle.expect_close().await;
}

/// A Produce frame of 8 MiB, half of what all large frames together may take and more.
fn large_frame() -> Bytes {
    let records = Bytes::from(vec![0; 7 << 20]);
    frame(9, 1, &produce_request(-1, &[("t", 0, records)]))
}

#[tokio::test]
async fn whoever_withholds_memory_from_others_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let large = large_frame();
    let mut slow = Wire::connect(&gateway).await;
    slow.call(0, &ApiVersionsRequest::default()).await;
    slow.send_bytes(&large[..1000]).await;
    let mut small = Wire::connect(&gateway).await;
    let mut quick = Wire::connect(&gateway).await;
    quick.call(0, &ApiVersionsRequest::default()).await;
    let sending = tokio::spawn(async move {
        quick.send_bytes(&large).await;
        produced(&quick.receive::<ProduceRequest>(9, 1).await).0
    });
    assert_eq!(append(&mut small, "t", &["a"]).await, 0, "small requests have memory of their own");
    slow.expect_close().await;
    assert_ne!(sending.await.expect("an answer"), 0, "zeros are no batch");
    gateway.stop().await;
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let minutes = Patience::default().idle;
    let short = Duration::from_millis(150);
    let tick = Duration::from_millis(20);
    for (idle, stalled, is_partial) in [(short, minutes, false), (minutes, short, true)] {
        let patience = Patience { idle, stalled, tick, ..Patience::default() };
        let gateway = Gateway::start_patient(folder.path(), patience, |_| {}).await;
        let mut silent = Wire::connect(&gateway).await;
        // Before the last thing that is said: the server's silence begins before its answer is here.
        let began = Instant::now();
        silent.call(0, &ApiVersionsRequest::default()).await;
        if is_partial {
            silent.send_bytes(&large_frame()[..5]).await;
        }
        silent.expect_close().await;
        assert!(began.elapsed() >= short);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (unread, tick) = (Duration::from_millis(100), Duration::from_millis(20));
    let patience = Patience { unread, tick, ..Patience::default() };
    let gateway = Gateway::start_patient(folder.path(), patience, |_| {}).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let value = "x".repeat(900_000);
    for _ in 0..4 {
        wire.call(0, &ApiVersionsRequest::default()).await;
        append(&mut wire, "t", &[&value]).await;
    }
    let mut request = FetchRequest::default();
    request.max_bytes = i32::MAX;
    let mut partition = kafka_wire::fetch_request::FetchPartition::default();
    partition.partition_max_bytes = i32::MAX;
    let mut topic = kafka_wire::fetch_request::FetchTopic::default();
    topic.topic = "t".into();
    topic.partitions = vec![partition];
    request.topics = vec![topic];
    for _ in 0..50 {
        wire.send(11, &request).await;
    }
    wire.expect_cut().await;
    gateway.stop().await;
}

/// A runner with a seed, so that a failure can be repeated.
fn runner() -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn next<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

/// Sends one frame and something valid after it: the server answers, or closes, and lives.
async fn survive(gateway: &Gateway, wire: &mut Option<Wire>, bytes: &[u8]) {
    if wire.is_none() {
        *wire = Some(Wire::connect(gateway).await);
    }
    if let Some(open) = wire {
        open.try_send_bytes(bytes).await;
        open.try_send_bytes(&frame(0, i32::MAX, &ApiVersionsRequest::default())).await;
        loop {
            match open.receive_frame().await {
                None => {
                    *wire = None;
                    break;
                }
                Some(answer) if answer.starts_with(&i32::MAX.to_be_bytes()) => break,
                Some(_) => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bodies_of_every_api_are_answered_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut runner = runner();
    let small = proptest::collection::vec(proptest::num::u8::ANY, 0..64);
    // Small values make plausible counts and lengths.
    let plausible = proptest::collection::vec(0_u8..4, 0..64);
    let mut wire = None;
    for round in 0..FRAMES {
        let api = &APIS[round % APIS.len()];
        let versions = api.min..=api.max;
        let version = next(&mut runner, &versions);
        let mut body = match round % 2 {
            0 => next(&mut runner, &small),
            _ => next(&mut runner, &plausible),
        };
        if api.key == FETCH_KEY {
            // Replica and longest wait: a wait for data is legal, and only takes time.
            let head = body.len().min(8);
            body[..head].fill(0);
        }
        let is_flexible = api.is_flexible(version);
        survive(&gateway, &mut wire, &raw_frame(api.key, version, is_flexible, &body)).await;
    }
    let mut neighbour = Wire::connect(&gateway).await;
    assert_eq!(append(&mut neighbour, "t", &["a"]).await, 0, "nothing was appended by chance");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_requests_are_answered_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let records = batch(&["a", "b"]).bytes().clone();
    let mut fetch = FetchRequest::default();
    fetch.max_bytes = 1000;
    fetch.min_bytes = 0;
    let mut topic = kafka_wire::fetch_request::FetchTopic::default();
    topic.topic = "t".into();
    topic.partitions = vec![Default::default()];
    fetch.topics = vec![topic];
    let seeds = [
        frame(3, 1, &produce_request(-1, &[("t", 0, records.clone())])),
        frame(9, 1, &produce_request(-1, &[("t", 0, records)])),
        frame(4, 1, &fetch),
        frame(12, 1, &fetch),
        frame(9, 1, &metadata_request(Some(&["t"]), true)),
        frame(1, 1, &metadata_request(None, true)),
        frame(3, 1, &ApiVersionsRequest::default()),
    ];
    let mut runner = runner();
    let place = 4_usize..1_000_000;
    let mut wire = None;
    for round in 0..FRAMES {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..=round % 3 {
            let at = 4 + (next(&mut runner, &place) - 4) % (bytes.len() - 4);
            bytes[at] ^= 1 << next(&mut runner, &(0_u32..8));
        }
        // acks=0 has no answer, and long waits only take time: both are legal and tested elsewhere.
        survive(&gateway, &mut wire, &bytes).await;
    }
    let mut neighbour = Wire::connect(&gateway).await;
    neighbour.call(9, &produce_request(-1, &[])).await;
    gateway.stop().await;
}

#[tokio::test]
async fn half_a_frame_and_silence_disturb_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let whole = frame(9, 1, &produce_request(-1, &[("t", 0, batch(&["a"]).bytes().clone())]));
    let mut halves = Vec::new();
    for end in (1..whole.len()).step_by(7) {
        let mut wire = Wire::connect(&gateway).await;
        wire.send_bytes(&whole[..end]).await;
        halves.push((wire, end));
    }
    let mut neighbour = Wire::connect(&gateway).await;
    assert_eq!(append(&mut neighbour, "t", &["b"]).await, 0);
    for (mut wire, end) in halves {
        wire.send_bytes(&whole[end..]).await;
        let response = wire.receive::<ProduceRequest>(9, 1).await;
        assert_eq!(produced(&response).0, 0);
    }
    gateway.stop().await;
}
