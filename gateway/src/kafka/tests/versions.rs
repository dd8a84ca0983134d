//! What is told of versions: held against `apis.toml`, and read as clients read it.
//!
//! Clients draw conclusions from single entries. Each rule here is the client's own, applied to
//! the answer that it would get.

use std::collections::BTreeMap;

use kafka_wire::ApiVersionsRequest;
use serde::Deserialize;

use super::harness::*;
use crate::kafka::dispatch::{APIS, Api};

/// Lowest and highest version of each API.
type Ranges = BTreeMap<i16, (i16, i16)>;

#[derive(Deserialize)]
struct Table {
    api: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: i16,
    name: String,
    kafka: String,
    ours: Option<String>,
    served: Option<String>,
    why: Option<String>,
}

fn table() -> Vec<Line> {
    toml::from_str::<Table>(include_str!("../apis.toml")).expect("apis.toml is a table").api
}

fn range(text: &str) -> (i16, i16) {
    let (min, max) = text.split_once('-').expect("a range");
    (min.parse().expect("a version"), max.parse().expect("a version"))
}

/// What Apache Kafka 4.3 tells its clients.
fn kafka() -> Ranges {
    table().iter().map(|line| (line.key, range(&line.kafka))).collect()
}

/// What a client is told here.
async fn told() -> Ranges {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let response = Wire::connect(&gateway).await.call(2, &ApiVersionsRequest::default()).await;
    gateway.stop().await;
    let entries = response.api_keys.iter();
    entries.map(|api| (api.api_key, (api.min_version, api.max_version))).collect()
}

#[test]
fn the_table_says_what_dispatch_serves() {
    let lines = table();
    assert!(lines.is_sorted_by(|a, b| a.key < b.key), "each API once, by its key");
    for Api { key, name, .. } in APIS {
        let line = lines.iter().find(|line| line.key == *key);
        assert!(line.is_some_and(|line| line.ours.is_some()), "{name} is not in apis.toml");
    }
    for line in &lines {
        let name = &line.name;
        let (kafka_min, kafka_max) = range(&line.kafka);
        let api = APIS.iter().find(|api| api.key == line.key);
        assert_eq!(line.ours.is_some(), api.is_some(), "{name}");
        if let Some(api) = api {
            let ours = line.ours.as_deref().map_or((0, -1), range);
            assert_eq!(ours, (api.listed_min, api.max), "{name}");
            let served = line.served.as_deref().map_or(ours, range);
            assert_eq!(served, (api.min, api.max), "{name}");
            assert_eq!(api.name.strip_suffix("Request"), Some(&name[..]));
            assert!(kafka_min <= api.listed_min && api.max <= kafka_max, "{name}");
        }
        let differs = line.ours.as_deref() != Some(&line.kafka) || line.served.is_some();
        assert_eq!(differs, line.why.is_some(), "{name}: every difference has a reason");
    }
}

/// kafka-python 3.0: `infer_broker_version_from_api_versions`. The first line that fits wins.
fn kafka_python_release(told: &Ranges) -> &'static str {
    const PROBES: &[(&str, i16, i16)] = &[
        ("4.3", 35, 5),
        ("4.2", 2, 11),
        ("4.1", 0, 13),
        ("4.0", 2, 10),
        ("3.9", 1, 17),
        ("3.8", 0, 11),
        ("3.7", 1, 16),
        ("3.6", 24, 4),
        ("3.5", 1, 15),
        ("3.4", 4, 7),
        ("3.3", 29, 3),
        ("3.2", 11, 9),
        ("3.1", 1, 13),
        ("3.0", 2, 7),
        ("2.8", 0, 9),
        ("2.7", 1, 12),
    ];
    let fits = |&&(_, key, version): &&(&str, i16, i16)| {
        told.get(&key).is_some_and(|&(min, max)| (min..=max).contains(&version))
    };
    PROBES.iter().find(fits).map_or("older", |&(release, ..)| release)
}

#[tokio::test]
async fn kafka_python_finds_one_release() {
    assert_eq!(kafka_python_release(&kafka()), "4.3");
    assert_eq!(kafka_python_release(&told().await), "4.3");
}

/// librdkafka: `rd_kafka_feature_map`. A feature is on if each range overlaps the broker's.
fn librdkafka_features(told: &Ranges) -> Vec<&'static str> {
    type Need = (i16, i16, i16);
    const FEATURES: &[(&str, &[Need])] = &[
        ("MsgVer1", &[(0, 2, 2), (1, 2, 2)]),
        ("MsgVer2", &[(0, 3, 3), (1, 4, 4)]),
        ("ApiVersion", &[(18, 0, 0)]),
        ("BrokerGroupCoordinator", &[(10, 0, 0)]),
        (
            "BrokerBalancedConsumer",
            &[(10, 0, 0), (8, 1, 2), (9, 1, 1), (11, 0, 0), (14, 0, 0), (12, 0, 0), (13, 0, 0)],
        ),
        ("ThrottleTime", &[(0, 1, 2), (1, 1, 2)]),
        ("Sasl", &[(11, 0, 0)]),
        ("SaslHandshake", &[(17, 0, 0)]),
        ("LZ4", &[(10, 0, 0)]),
        ("OffsetTime", &[(2, 1, 1)]),
        ("IdempotentProducer", &[(22, 0, 0)]),
        ("ZSTD", &[(0, 7, 7), (1, 10, 10)]),
        ("SaslAuthReq", &[(17, 1, 1), (36, 0, 1)]),
    ];
    let overlaps = |&(key, least, most): &Need| {
        told.get(&key).is_some_and(|&(min, max)| least <= max && min <= most)
    };
    let is_on = |(_, needs): &&(&str, &[Need])| needs.iter().all(overlaps);
    FEATURES.iter().filter(is_on).map(|&(name, _)| name).collect()
}

#[tokio::test]
async fn librdkafka_has_the_features_that_it_has_with_kafka() {
    let told = told().await;
    let mut expect = librdkafka_features(&kafka());
    expect.retain(|name| !["SaslHandshake", "SaslAuthReq"].contains(name));
    assert_eq!(librdkafka_features(&told), expect);
    assert!(["MsgVer2", "IdempotentProducer", "ZSTD"].iter().all(|it| expect.contains(it)));
    // Before 2.11.1: gzip, snappy and LZ4 only for a broker that lists version 0 of Produce.
    assert_eq!(told[&0].0, 0);
}

/// Sarama 1.46: `restrictApiVersion`. What a request is sent as whose constructor chose `wanted`.
fn sarama_version(told: (i16, i16), wanted: i16) -> i16 {
    let (min, max) = told;
    wanted.min(wanted.min(max).max(min))
}

/// Sarama with automatic negotiation: `negotiateApiVersion`.
fn sarama_negotiated(told: (i16, i16), client: (i16, i16)) -> Option<i16> {
    let (min, max) = (client.0.max(told.0), client.1.min(told.1));
    (min <= max).then_some(max)
}

#[tokio::test]
async fn sarama_sends_nothing_that_is_refused_here_and_taken_by_kafka() {
    let told = told().await;
    for api in APIS {
        let (kafka_min, kafka_max) = kafka()[&api.key];
        // Produce 0 to 2 is listed and refused by both.
        for wanted in kafka_min.max(api.min)..=kafka_max + 3 {
            let sent = sarama_version(told[&api.key], wanted);
            assert!((api.min..=api.max).contains(&sent), "{} {wanted} -> {sent}", api.name);
            let sent = sarama_negotiated(told[&api.key], (api.min, wanted));
            assert_eq!(sent, Some(wanted.min(api.max)), "{}", api.name);
        }
    }
    assert_eq!(sarama_negotiated((4, 17), (0, 3)), None);
}
