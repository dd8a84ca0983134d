//! Records: producing, fetching, offsets, and who produced them.

use headwater_tests::schema::batches;
use serde_json::{Value, json};

use super::Cases;

/// Timestamp of the first record; far enough in the past for a clock that is set by and by.
const TIME: i64 = 1_700_000_000_000;

pub(super) fn add(cases: &mut Cases<'_>) {
    produce(cases);
    garbage(cases);
    idempotent(cases);
    fetch(cases);
    offsets(cases);
    epochs(cases);
    producers(cases);
    delete_records(cases);
}

fn to(topic: &str, partition: i32, records: Value) -> Value {
    json!({ "Acks": -1, "TimeoutMs": 9_000, "TopicData": [{
        "Name": topic, "TopicId": format!("id of {topic}"),
        "PartitionData": [{ "Index": partition, "Records": records }],
    }] })
}

fn produce(cases: &mut Cases<'_>) {
    let values = |values: &[&str]| json!([batches::of_values(TIME, values)]);
    let plain = to("one", 0, values(&["first", "second", "third"]));
    cases.mutated("Produce", "three records", &plain);
    for acks in [0, 1] {
        let mut request = plain.clone();
        request["Acks"] = acks.into();
        cases.each("Produce", &format!("acks {acks}"), &request);
        let mut nowhere = to("no-such", 0, values(&["lost"]));
        nowhere["Acks"] = acks.into();
        cases.each("Produce", &format!("acks {acks} to nowhere"), &nowhere);
    }
    cases.each("Produce", "no such partition", &to("one", 7, values(&["lost"])));
    cases.each("Produce", "too large", &to("small", 0, values(&["x".repeat(300).as_str()])));
    cases.each("Produce", "no keys for a compacted topic", &to("compacted", 0, values(&["v"])));
    let keyed = batches::of_records(TIME, &[(Some("k"), Some("v")), (Some("k"), None)]);
    cases.each("Produce", "keys for a compacted topic", &to("compacted", 0, json!([keyed])));
    cases.each("Produce", "append time", &to("append-time", 0, values(&["now"])));
    let two = json!([batches::of_values(TIME, &["a"]), batches::of_values(TIME, &["b"])]);
    cases.each("Produce", "two batches", &to("one", 0, two));
    for partition in 0..3 {
        let some = values(&["first", "second", "third", "fourth"]);
        cases.last("Produce", "to three partitions", &to("three", partition, some));
    }
    // What is wrong with a batch.
    for (label, field, value) in [
        ("wrong CRC", "crc", json!("wrong")),
        ("too many records", "count", json!(7)),
        ("no records counted", "count", json!(0)),
        ("negative count", "count", json!(-1)),
        ("wrong last offset", "lastOffsetDelta", json!(9)),
        ("negative last offset", "lastOffsetDelta", json!(-1)),
        ("transactional", "attributes", json!(16)),
        ("control", "attributes", json!(32)),
        ("unknown codec", "attributes", json!(7)),
        ("append time set", "attributes", json!(8)),
        ("a base offset", "baseOffset", json!(77)),
        ("a leader epoch", "leaderEpoch", json!(5)),
        ("max timestamp of its own", "maxTimestamp", json!(TIME + 99)),
        ("an epoch without producer", "producerEpoch", json!(0)),
        ("a sequence without producer", "baseSequence", json!(0)),
        ("an unknown producer", "producerId", json!(7)),
    ] {
        let mut batch = batches::of_values(TIME, &["first", "second"]);
        batch[field] = value;
        cases.each("Produce", label, &to("one", 0, json!([batch])));
    }
}

/// Headwater looks at records where a topic's settings ask for it alone, so this one is of no use to others.
fn garbage(cases: &mut Cases<'_>) {
    let mut batch = batches::of_values(TIME, &["first", "second"]);
    batch["attributes"] = 1.into();
    cases.each("Produce", "gzip that is none", &to("garbage", 0, json!([batch])));
}

fn idempotent(cases: &mut Cases<'_>) {
    let none = json!({ "TransactionalId": null, "TransactionTimeoutMs": 60_000 });
    cases.mutated("InitProducerId", "a producer", &none);
    let old = json!({ "TransactionalId": null, "TransactionTimeoutMs": 60_000,
        "ProducerId": "last", "ProducerEpoch": 0 });
    for version in 3..=5 {
        cases.at("InitProducerId", version, "a higher epoch", &old);
    }
    cases.each(
        "InitProducerId",
        "of a transaction",
        &json!({
            "TransactionalId": "t", "TransactionTimeoutMs": 60_000,
        }),
    );
    cases.last("InitProducerId", "a producer", &none);
    for (label, epoch, sequence) in [
        ("not from the beginning", 0, 5),
        ("the first", 0, 0),
        ("the first again", 0, 0),
        ("the next", 0, 2),
        ("a gap", 0, 9),
        ("the first after the next", 0, 0),
        ("a higher epoch not from 0", 1, 5),
        ("a higher epoch", 1, 0),
        ("an old epoch", 0, 4),
        ("a part of what is there", 1, 1),
    ] {
        let mut batch = batches::of_values(TIME, &["first", "second"]);
        batch["producerId"] = json!("last");
        batch["producerEpoch"] = epoch.into();
        batch["baseSequence"] = sequence.into();
        cases.last("Produce", label, &to("three", 0, json!([batch])));
    }
}

fn from(topic: &str, partition: i32, offset: i64) -> Value {
    json!({ "MaxWaitMs": 10, "MinBytes": 1, "MaxBytes": 1 << 20, "Topics": [{
        "Topic": topic, "TopicId": format!("id of {topic}"), "Partitions": [
            { "Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20 },
        ],
    }] })
}

fn fetch(cases: &mut Cases<'_>) {
    let mut few = from("three", 1, 0);
    few["MaxBytes"] = 100.into();
    cases.mutated("Fetch", "few bytes", &few);
    for (label, topic, partition, offset) in [
        ("from the beginning", "three", 2, 0),
        ("from the middle", "three", 1, 2),
        ("from the end", "three", 1, 4),
        ("behind the end", "three", 1, 5),
        ("an empty one", "empty", 0, 0),
        ("a negative offset", "three", 1, -1),
        ("no such topic", "no-such", 0, 0),
        ("no such partition", "three", 9, 0),
        ("a compacted topic", "compacted", 0, 0),
    ] {
        cases.each("Fetch", label, &from(topic, partition, offset));
    }
    for (label, field, value) in [
        ("an old leader epoch", "CurrentLeaderEpoch", 0),
        ("a future leader epoch", "CurrentLeaderEpoch", 99),
        ("a future fetched epoch", "LastFetchedEpoch", 99),
        ("as a follower", "LogStartOffset", 0),
    ] {
        let mut request = from("three", 1, 0);
        request["Topics"][0]["Partitions"][0][field] = value.into();
        cases.each("Fetch", label, &request);
    }
    let mut committed = from("three", 0, 0);
    committed["IsolationLevel"] = 1.into();
    cases.each("Fetch", "committed", &committed);
}

fn offsets(cases: &mut Cases<'_>) {
    let at = |topic: &str, partition: i32, timestamp: i64| {
        json!({ "ReplicaId": -1, "TimeoutMs": 1_000, "Topics": [{ "Name": topic, "Partitions": [
            { "PartitionIndex": partition, "Timestamp": timestamp },
        ] }] })
    };
    for timestamp in [-1, -2, -3, -4, -5, -6, -7, 0, TIME, TIME + 1, TIME + 3, TIME + 4] {
        let label =
            if timestamp < 0 { format!("{timestamp}") } else { format!("+{}", timestamp - TIME) };
        cases.each("ListOffsets", &format!("at {label}"), &at("three", 1, timestamp));
    }
    for timestamp in [-1, -2, -3, TIME] {
        cases.each("ListOffsets", "empty", &at("empty", 0, timestamp));
    }
    cases.each("ListOffsets", "no such topic", &at("no-such", 0, -1));
    cases.each("ListOffsets", "no such partition", &at("three", 8, -1));
    cases.mutated("ListOffsets", "the end", &at("three", 1, -1));
}

fn epochs(cases: &mut Cases<'_>) {
    let of = |topic: &str, current: i32, epoch: i32| {
        json!({ "ReplicaId": -1, "Topics": [{ "Topic": topic, "Partitions": [
            { "Partition": 0, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch },
        ] }] })
    };
    cases.mutated("OffsetForLeaderEpoch", "the current one", &of("one", -1, 0));
    cases.each("OffsetForLeaderEpoch", "of nothing", &of("no-such", -1, 0));
    cases.each("OffsetForLeaderEpoch", "a future leader", &of("one", 99, 0));
    cases.each("OffsetForLeaderEpoch", "of an empty one", &of("empty", -1, 0));
}

fn producers(cases: &mut Cases<'_>) {
    let of = json!({ "Topics": [
        { "Name": "three", "PartitionIndexes": [0, 1, 9] }, { "Name": "no-such", "PartitionIndexes": [0] },
    ] });
    cases.mutated("DescribeProducers", "of partitions", &of);
}

fn delete_records(cases: &mut Cases<'_>) {
    let up_to = |topic: &str, partition: i32, offset: i64| {
        json!({ "TimeoutMs": 9_000, "Topics": [{ "Name": topic, "Partitions": [
            { "PartitionIndex": partition, "Offset": offset },
        ] }] })
    };
    for (label, topic, partition, offset) in [
        ("two", "three", 2, 2),
        ("back", "three", 2, 1),
        ("behind the end", "three", 2, 99),
        ("a negative offset", "three", 2, -2),
        ("no such topic", "no-such", 0, 0),
        ("no such partition", "three", 9, 0),
        ("of a compacted topic", "compacted", 0, 1),
        ("all", "three", 2, -1),
    ] {
        cases.each("DeleteRecords", label, &up_to(topic, partition, offset));
    }
    cases.mutated("DeleteRecords", "none", &up_to("empty", 0, 0));
    for timestamp in [-1, -2, -3, -4, TIME] {
        cases.last(
            "ListOffsets",
            "after the deletion",
            &json!({ "ReplicaId": -1, "Topics": [
            { "Name": "three", "Partitions": [{ "PartitionIndex": 2, "Timestamp": timestamp }] },
        ] }),
        );
    }
    cases.each("Fetch", "what was deleted", &from("three", 2, 0));
}
