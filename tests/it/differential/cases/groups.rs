//! Groups: members that come and go, and what they commit.

use serde_json::{Value, json};

use super::Cases;
use crate::differential::step::Answered;

/// Nobody is given up because the machine is slow.
const SESSION_MS: i32 = 300_000;
const REBALANCE_MS: i32 = 2_000;
/// What a consumer of no topics says: version 0, no topics, no data.
const SUBSCRIPTION: &str = "000000000000ffffffff";

pub(super) fn add(cases: &mut Cases<'_>) {
    for version in 0..=9 {
        life(cases, version);
    }
    two_members(cases);
    static_member(cases);
    joins(cases);
    commits(cases);
    others(cases);
    delete(cases);
}

fn join(group: &str, member: &str) -> Value {
    json!({
        "GroupId": group, "SessionTimeoutMs": SESSION_MS, "RebalanceTimeoutMs": REBALANCE_MS,
        "MemberId": member, "GroupInstanceId": null, "ProtocolType": "consumer",
        "Protocols": [{ "Name": "range", "Metadata": SUBSCRIPTION }, { "Name": "sticky", "Metadata": "01" }],
    })
}

fn member(group: &str, number: usize) -> String {
    crate::differential::names::member(group, number)
}

/// One member from its first request to its last; the other requests in the version that fits best.
fn life(cases: &mut Cases<'_>, version: i16) {
    let group = format!("life-{version}");
    let id = member(&group, 1);
    let (sync, beat, leave) = (version.min(5), version.min(4), version.min(5));
    cases.at("JoinGroup", version, "first", &join(&group, ""));
    cases.at("DescribeGroups", 5, "joining", &json!({ "Groups": [group] }));
    // From version 4 on, the first answer was only an id.
    cases.at("JoinGroup", version, "with its id", &join(&group, &id));
    // It said nothing new, so nobody has to be asked again.
    let generation = 1;
    let of = |generation: i32, member: &str| json!({ "GroupId": group, "GenerationId": generation, "MemberId": member });
    cases.at("Heartbeat", beat, "before the assignment", &of(generation, &id));
    let mut synced = of(generation, &id);
    synced["ProtocolType"] = "consumer".into();
    synced["ProtocolName"] = "range".into();
    synced["Assignments"] = json!([{ "MemberId": id, "Assignment": "000100" }]);
    for (field, value) in [
        ("GenerationId", json!(9)),
        ("MemberId", json!("nobody")),
        ("ProtocolName", json!("other")),
    ] {
        let mut wrong = synced.clone();
        wrong[field] = value;
        cases.at("SyncGroup", sync, &format!("wrong {field}"), &wrong);
    }
    cases.at("SyncGroup", sync, "as leader", &synced);
    cases.at("SyncGroup", sync, "again", &synced);
    cases.at("Heartbeat", beat, "as member", &of(generation, &id));
    cases.at("Heartbeat", beat, "in another generation", &of(generation + 1, &id));
    cases.at("Heartbeat", beat, "as nobody", &of(generation, "nobody"));
    for described in 0..=6 {
        cases.at(
            "DescribeGroups",
            described,
            "stable",
            &json!({
                "Groups": [group, "no-such", ""], "IncludeAuthorizedOperations": true,
            }),
        );
    }
    let commit = |generation: i32, member: &str| {
        json!({
            "GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member,
            "Topics": [{ "Name": "one", "TopicId": "id of one", "Partitions": [
                { "PartitionIndex": 0, "CommittedOffset": 3, "CommittedMetadata": "m" },
            ] }],
        })
    };
    for version in [2, 6, 9, 10] {
        cases.at("OffsetCommit", version, "as member", &commit(generation, &id));
        cases.at("OffsetCommit", version, "in another generation", &commit(generation + 1, &id));
        cases.at("OffsetCommit", version, "as nobody", &commit(generation, "nobody"));
        cases.at("OffsetCommit", version, "from outside", &commit(-1, ""));
    }
    cases.last(
        "OffsetDelete",
        "of a member",
        &json!({ "GroupId": group, "Topics": [
        { "Name": "one", "Partitions": [{ "PartitionIndex": 0 }] },
    ] }),
    );
    cases.last("DeleteGroups", "with a member", &json!({ "GroupsNames": [group] }));
    cases.each("ListGroups", "with members", &json!({}));
    cases.at("JoinGroup", version, "again", &join(&group, &id));
    let leaving = |member: &str| {
        json!({ "GroupId": group, "MemberId": member, "Members": [
            { "MemberId": member, "GroupInstanceId": null },
        ] })
    };
    cases.at("LeaveGroup", leave, "as nobody", &leaving("nobody"));
    cases.at("LeaveGroup", leave, "as member", &leaving(&id));
    cases.at("LeaveGroup", leave, "again", &leaving(&id));
    cases.at("Heartbeat", beat, "after leaving", &of(generation, &id));
    for described in 5..=6 {
        cases.at("DescribeGroups", described, "left", &json!({ "Groups": [group] }));
    }
}

/// Two members: the second joins, so the first has to join again, and the leader assigns for both.
fn two_members(cases: &mut Cases<'_>) {
    for version in [1, 3] {
        let group = format!("two-{version}");
        let (first, second) = (member(&group, 1), member(&group, 2));
        cases.at("JoinGroup", version, "the first of two", &join(&group, ""));
        let mut synced = json!({ "GroupId": group, "GenerationId": 1, "MemberId": first,
            "Assignments": [{ "MemberId": first, "Assignment": "01" }] });
        cases.at("SyncGroup", 0, "the first alone", &synced);
        let waiting = cases.at("JoinGroup", version, "the second of two", &join(&group, ""));
        (waiting.connection, waiting.answered) = (1, Answered::Later);
        cases.at("JoinGroup", version, "the first again", &join(&group, &first));
        synced["GenerationId"] = 2.into();
        synced["MemberId"] = second.clone().into();
        synced["Assignments"] = json!([]);
        let waiting = cases.at("SyncGroup", 0, "the second", &synced);
        (waiting.connection, waiting.answered) = (1, Answered::Later);
        synced["MemberId"] = first.clone().into();
        synced["Assignments"] = json!([
            { "MemberId": first, "Assignment": "01" }, { "MemberId": second, "Assignment": "02" },
        ]);
        cases.at("SyncGroup", 0, "the first, for both", &synced);
        cases.at("DescribeGroups", 5, "of two", &json!({ "Groups": [group] }));
        cases.at(
            "LeaveGroup",
            3,
            "both",
            &json!({ "GroupId": group, "Members": [
            { "MemberId": first, "GroupInstanceId": null },
            { "MemberId": "nobody", "GroupInstanceId": null },
            { "MemberId": second, "GroupInstanceId": null },
        ] }),
        );
    }
}

fn static_member(cases: &mut Cases<'_>) {
    for version in 5..=9 {
        let group = format!("static-{version}");
        let (first, second) = (member(&group, 1), member(&group, 2));
        let as_instance = |member: &str| {
            let mut join = join(&group, member);
            join["GroupInstanceId"] = "instance".into();
            join
        };
        cases.at("JoinGroup", version, "static", &as_instance(""));
        let synced = |member: &str| {
            json!({ "GroupId": group, "GenerationId": 1, "MemberId": member,
                "GroupInstanceId": "instance", "ProtocolType": "consumer", "ProtocolName": "range",
                "Assignments": [{ "MemberId": member, "Assignment": "01" }] })
        };
        cases.at("SyncGroup", 5, "static", &synced(&first));
        cases.at("JoinGroup", version, "static, anew", &as_instance(""));
        cases.at("SyncGroup", 5, "static, anew", &synced(&second));
        cases.at("SyncGroup", 5, "static, fenced", &synced(&first));
        cases.at("JoinGroup", version, "static, fenced", &as_instance(&first));
        cases.at(
            "Heartbeat",
            4,
            "static, fenced",
            &json!({ "GroupId": group, "GenerationId": 1,
            "MemberId": first, "GroupInstanceId": "instance" }),
        );
        cases.at(
            "Heartbeat",
            4,
            "unknown instance",
            &json!({ "GroupId": group, "GenerationId": 1,
            "MemberId": second, "GroupInstanceId": "other" }),
        );
        cases.at("DescribeGroups", 5, "static", &json!({ "Groups": [group] }));
        cases.at(
            "LeaveGroup",
            5,
            "static",
            &json!({ "GroupId": group, "Members": [
            { "MemberId": first, "GroupInstanceId": "instance" },
            { "MemberId": "", "GroupInstanceId": "other" },
            { "MemberId": "", "GroupInstanceId": "instance" },
        ] }),
        );
    }
}

fn joins(cases: &mut Cases<'_>) {
    let alone = join("joins-{n}", "");
    cases.mutated("JoinGroup", "alone", &alone);
    for (label, field, value) in [
        ("session too short", "SessionTimeoutMs", json!(5)),
        ("session too long", "SessionTimeoutMs", json!(3_000_000)),
        ("no group", "GroupId", json!("")),
        ("no protocols", "Protocols", json!([])),
        ("no protocol type", "ProtocolType", json!("")),
        ("an unknown member", "MemberId", json!("nobody")),
    ] {
        let mut request = alone.clone();
        request[field] = value;
        cases.each("JoinGroup", label, &request);
    }
    let beat = json!({ "GroupId": "no-such", "GenerationId": 1, "MemberId": "nobody" });
    cases.mutated("Heartbeat", "of no group", &beat);
    let sync = json!({ "GroupId": "no-such", "GenerationId": 1, "MemberId": "nobody",
        "ProtocolType": "consumer", "ProtocolName": "range",
        "Assignments": [{ "MemberId": "nobody", "Assignment": "00" }] });
    cases.mutated("SyncGroup", "of no group", &sync);
    let leave = json!({ "GroupId": "no-such", "MemberId": "nobody", "Members": [
        { "MemberId": "nobody", "GroupInstanceId": null },
    ] });
    cases.mutated("LeaveGroup", "of no group", &leave);
    // Another kind of protocol than the members have.
    cases.at("JoinGroup", 3, "of a kind", &join("kinds", ""));
    let mut other = join("kinds", "");
    other["ProtocolType"] = "connect".into();
    cases.at("JoinGroup", 3, "of another kind", &other);
    let mut other = join("kinds", "");
    other["Protocols"] = json!([{ "Name": "unheard", "Metadata": "" }]);
    cases.at("JoinGroup", 3, "without a common protocol", &other);
}

fn commits(cases: &mut Cases<'_>) {
    let commit = json!({
        "GroupId": "commits-{n}", "GenerationIdOrMemberEpoch": -1, "MemberId": "",
        "Topics": [{ "Name": "three", "TopicId": "id of three", "Partitions": [
            { "PartitionIndex": 1, "CommittedOffset": 3, "CommittedMetadata": "text" },
        ] }],
    });
    cases.mutated("OffsetCommit", "from outside", &commit);
    for (label, topic, partition, offset, metadata) in [
        ("to nowhere", "no-such", 0, 3, json!("")),
        ("no such partition", "three", 9, 3, json!("")),
        ("a negative offset", "three", 0, -5, json!("")),
        ("much metadata", "three", 0, 3, json!("m".repeat(5_000))),
        ("no metadata", "three", 0, 3, Value::Null),
        ("behind the end", "three", 0, 1_i64 << 40, json!("")),
    ] {
        let mut request = commit.clone();
        request["GroupId"] = "outside".into();
        request["Topics"] = json!([{ "Name": topic, "TopicId": format!("id of {topic}"),
            "Partitions": [{ "PartitionIndex": partition, "CommittedOffset": offset,
                "CommittedMetadata": metadata }] }]);
        cases.each("OffsetCommit", label, &request);
    }
    // One that stays when others are deleted: so does the group.
    let mut request = commit.clone();
    request["GroupId"] = "outside".into();
    request["Topics"] = json!([{ "Name": "empty", "TopicId": "id of empty", "Partitions": [
        { "PartitionIndex": 0, "CommittedOffset": 1 },
    ] }]);
    cases.last("OffsetCommit", "one more", &request);
    let mut request = commit.clone();
    request["GroupId"] = "outside".into();
    request["Topics"][0]["Partitions"][0]["CommittedLeaderEpoch"] = 0.into();
    cases.each("OffsetCommit", "with an epoch", &request);

    let topics = json!([
        { "Name": "three", "TopicId": "id of three", "PartitionIndexes": [0, 1, 2, 9] },
        { "Name": "no-such", "TopicId": "id of no-such", "PartitionIndexes": [0] },
    ]);
    let fetch = |topics: &Value| {
        // Of one group, before there were ids.
        let mut named = topics.clone();
        for topic in named.as_array_mut().into_iter().flatten() {
            topic.as_object_mut().expect("a topic").remove("TopicId");
        }
        json!({ "GroupId": "outside", "Topics": named,
            "Groups": [{ "GroupId": "outside", "Topics": topics }, { "GroupId": "no-such", "Topics": topics }] })
    };
    cases.mutated("OffsetFetch", "some", &fetch(&topics));
    cases.each("OffsetFetch", "none", &fetch(&json!([])));
    for version in 2..=10 {
        cases.at("OffsetFetch", version, "all", &fetch(&Value::Null));
    }
    cases.each(
        "OffsetDelete",
        "some",
        &json!({ "GroupId": "outside", "Topics": [
        { "Name": "three", "Partitions": [{ "PartitionIndex": 1 }, { "PartitionIndex": 9 }] },
        { "Name": "no-such", "Partitions": [{ "PartitionIndex": 0 }] },
    ] }),
    );
    cases.mutated(
        "OffsetDelete",
        "one",
        &json!({ "GroupId": "outside", "Topics": [
        { "Name": "three", "Partitions": [{ "PartitionIndex": 0 }] },
    ] }),
    );
    cases.last("OffsetFetch", "after the deletion", &fetch(&Value::Null));
}

fn others(cases: &mut Cases<'_>) {
    cases.mutated("DescribeGroups", "one", &json!({ "Groups": ["outside"] }));
    for states in [json!(["Empty"]), json!(["Stable"]), json!(["stable", "Dead"]), json!(["Odd"])] {
        for version in 4..=5 {
            let some = json!({ "StatesFilter": states });
            cases.at("ListGroups", version, "by state", &some);
        }
    }
    for types in [json!(["classic"]), json!(["Consumer"]), json!(["odd"])] {
        cases.at("ListGroups", 5, "by type", &json!({ "TypesFilter": types }));
    }
}

fn delete(cases: &mut Cases<'_>) {
    for version in 0..=2 {
        let group = format!("deleted-{version}");
        cases.at(
            "OffsetCommit",
            8,
            "to be deleted",
            &json!({
                "GroupId": group, "Topics": [{ "Name": "one", "Partitions": [
                    { "PartitionIndex": 0, "CommittedOffset": 1 },
                ] }],
            }),
        );
        let names = json!({ "GroupsNames": [group, "no-such", "static-5"] });
        cases.at("DeleteGroups", version, "some", &names);
        cases.at("DeleteGroups", version, "again", &names);
    }
    cases.each("DeleteGroups", "none", &json!({ "GroupsNames": [] }));
    cases.each("DeleteGroups", "twice", &json!({ "GroupsNames": ["outside", "outside"] }));
}
