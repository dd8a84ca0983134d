//! Apache Kafka's own Java clients, AdminClient and command line tools (tests/java).

use headwater_tests::clients;

#[test]
fn java_producers_consumers_and_groups() {
    run(
        "clients",
        &[
            "produce none",
            "produce gzip",
            "produce snappy",
            "produce lz4",
            "produce zstd",
            "read every codec",
            "acks 0 and 1",
            "too large a record",
            "a compacted topic wants keys",
            "append time",
            "a timestamp outside of the limits",
            "partitions of a topic",
            "seek and position",
            "beginning and end offsets",
            "offsets for times",
            "pause and resume",
            "commit and committed",
            "no offset and no reset",
            "an offset out of range",
            "list topics",
            "subscribe by pattern",
            "few bytes at a time",
            "read committed",
            "group with range",
            "group with roundrobin",
            "group with sticky",
            "group with cooperative-sticky",
            "a static member comes back",
            "a static member is fenced",
            "committed after a SIGKILL",
            "a member goes on after a SIGKILL",
            "idempotent over a SIGKILL",
        ],
    );
}

#[test]
fn java_admin() {
    run(
        "admin",
        &[
            "create topics",
            "topics that cannot be",
            "create with the server's defaults",
            "only validate a topic",
            "replicas by hand",
            "describe and list topics",
            "create partitions",
            "delete records",
            "delete topics",
            "describe configs",
            "alter configs",
            "configs that cannot be",
            "list groups",
            "describe groups",
            "list offsets of a group",
            "a group with members is protected",
            "remove a member",
            "alter offsets of a group",
            "delete offsets of a group",
            "delete groups",
            "describe producers",
            "list offsets",
            "describe cluster",
            "describe features",
            "describe log dirs",
            "elect leaders",
            "list reassignments",
            "describe quorum",
            "describe client quotas",
            "list config resources",
        ],
    );
}

#[test]
fn java_command_line_tools() {
    run(
        "tools",
        &[
            "kafka-cluster",
            "kafka-topics",
            "kafka-configs",
            "kafka-producer-perf-test",
            "kafka-consumer-perf-test",
            "kafka-get-offsets",
            "kafka-console-producer and -consumer",
            "kafka-groups",
            "kafka-consumer-groups",
            "kafka-delete-records",
            "kafka-log-dirs",
            "kafka-metadata-quorum",
            "kafka-leader-election",
            "kafka-reassign-partitions",
            "kafka-broker-api-versions",
            "VerifiableProducer",
            "VerifiableConsumer",
        ],
    );
}

fn run(part: &str, expected: &[&str]) {
    super::run(expected, |broker| {
        let mut command = clients::java_program("Matrix");
        command.arg(broker.to_string()).arg(part);
        command
    });
}
