"""confluent-kafka, on librdkafka."""

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from matrix import *

admin = AdminClient({"bootstrap.servers": BROKER})


def done(futures):
    return {key: future.result(DEADLINE_S) for key, future in futures.items()}


def code(call):
    return fails(KafkaException, call).args[0].code()


def producer(**more):
    settings = {"bootstrap.servers": BROKER, "enable.idempotence": True}
    return Producer(settings | {key.replace("_", "."): value for key, value in more.items()})


def produce(topic, partition, count):
    errors = []
    sender = producer()
    for number in range(count):
        tell = lambda error, _: errors.append(error) if error else None
        sender.produce(topic, f"{number}", partition=partition, on_delivery=tell)
    equal(0, sender.flush(DEADLINE_S))
    equal([], errors)


def consumer(group, **more):
    settings = {
        "bootstrap.servers": BROKER,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "heartbeat.interval.ms": 100,
        "session.timeout.ms": 10_000,
    }
    return Consumer(settings | {key.replace("_", "."): value for key, value in more.items()})


def read(reader, count):
    records = []

    def more():
        message = reader.poll(0.1)
        if message is not None:
            assert message.error() is None, message.error()
            records.append(message)
        return len(records) >= count

    until(f"{count} records", more)
    return records


with check("create topics"):
    create = lambda name, partitions: done(admin.create_topics([NewTopic(name, partitions)]))
    for name, partitions in [("letters", 1), ("shared", 4), ("lasting", 1)]:
        create(name, partitions)
    equal(KafkaError.TOPIC_ALREADY_EXISTS, code(lambda: create("letters", 1)))
    equal(KafkaError.TOPIC_EXCEPTION, code(lambda: create("a b", 1)))

for codec in CODECS:
    with check(f"produce {codec}"):
        first = CODECS.index(codec) * EACH
        sender = producer(compression_type=codec, linger_ms=50)
        offsets = []
        for number in range(first, first + EACH):
            key, value, headers, time_ms = letter(number)
            tell = lambda error, message: offsets.append(error or message.offset())
            more = {"headers": headers, "timestamp": time_ms, "on_delivery": tell}
            sender.produce("letters", value, key, partition=0, **more)
        equal(0, sender.flush(DEADLINE_S))
        equal(list(range(first, first + EACH)), offsets)

with check("read every codec"):
    reader = consumer("letters")
    reader.assign([TopicPartition("letters", 0, OFFSET_BEGINNING)])
    for number, message in enumerate(read(reader, len(CODECS) * EACH)):
        got = (message.key(), message.value(), message.headers(), message.timestamp()[1])
        equal(letter(number), got)
        equal(number, message.offset())
    reader.close()

with check("offsets and times"):
    reader = consumer("times")
    equal((0, 500), reader.get_watermark_offsets(TopicPartition("letters", 0), timeout=DEADLINE_S))
    asked = [TopicPartition("letters", 0, BASE_MS + 250)]
    equal(250, reader.offsets_for_times(asked, timeout=DEADLINE_S)[0].offset)
    at = TopicPartition("letters", 0)
    specs = [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 500)]
    specs += [(OffsetSpec.max_timestamp(), 499), (OffsetSpec.for_timestamp(BASE_MS + 7), 7)]
    for spec, offset in specs:
        equal(offset, done(admin.list_offsets({at: spec}))[at].offset)
    reader.close()

for strategy in ["range", "roundrobin", "cooperative-sticky"]:
    name = "a group of two" if strategy == "range" else f"a group of two, {strategy}"
    # What lay in it before would be read, and read again by whoever gets the partition next.
    topic = "shared" if strategy == "range" else f"shared-{strategy}"
    with check(name):
        if topic != "shared":
            create(topic, 4)
        one, two = (consumer(strategy, partition_assignment_strategy=strategy) for _ in range(2))
        seen = []

        def turn():
            for reader in (one, two):
                message = reader.poll(0.02)
                if message is not None:
                    assert message.error() is None, message.error()
                    seen.append((message.partition(), message.offset()))
            return [len(one.assignment()), len(two.assignment())]

        one.subscribe([topic])
        until("all for one", lambda: turn()[0] == 4)
        two.subscribe([topic])
        until("half for each", lambda: turn() == [2, 2])
        before = len(seen)
        for partition in range(4):
            produce(topic, partition, 10)
        until("what was produced", lambda: turn() and len(seen) >= before + 40)
        equal(len(seen), len(set(seen)))
        one.commit(asynchronous=False)
        one.close()
        until("all for two", lambda: len(two.assignment()) == 4 or two.poll(0.02) and False)
        two.close()

with check("list and describe"):
    metadata = admin.list_topics(timeout=DEADLINE_S)
    equal(4, len(metadata.topics["shared"].partitions))
    described = done(admin.describe_topics(TopicCollection(["shared"])))["shared"]
    equal(4, len(described.partitions))
    listed = admin.list_consumer_groups().result(DEADLINE_S).valid
    assert "range" in [group.group_id for group in listed], listed
    watcher = consumer("watched", client_id="eye", group_instance_id="watcher")
    watcher.subscribe(["letters"])
    until("the assignment", lambda: watcher.poll(0.02) is None and watcher.assignment())
    group = done(admin.describe_consumer_groups(["watched"]))["watched"]
    equal((ConsumerGroupState.STABLE, "range"), (group.state, group.partition_assignor))
    member = group.members[0]
    equal(("eye", "watcher"), (member.client_id, member.group_instance_id))
    equal([TopicPartition("letters", 0)], member.assignment.topic_partitions)
    delete = lambda: done(admin.delete_consumer_groups(["watched"]))
    equal(KafkaError.NON_EMPTY_GROUP, code(delete))
    watcher.close()
    cluster = admin.describe_cluster().result(DEADLINE_S)
    equal([BROKER], [f"{node.host}:{node.port}" for node in cluster.nodes])

with check("configs, partitions and records"):
    resource = ConfigResource(ResourceType.TOPIC, "shared")
    entry = ConfigEntry("retention.ms", "9000000", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, "shared", incremental_configs=[entry])
    done(admin.incremental_alter_configs([change]))
    value = lambda: done(admin.describe_configs([resource]))[resource]["retention.ms"].value
    until("the setting", lambda: value() == "9000000", BELATED_S)
    change = ConfigResource(ResourceType.TOPIC, "shared", {"retention.ms": "8000000"})
    done(admin.alter_configs([change]))
    until("the setting", lambda: value() == "8000000", BELATED_S)
    done(admin.create_partitions([NewPartitions("shared", 6)]))
    grown = lambda: len(admin.list_topics(timeout=DEADLINE_S).topics["shared"].partitions) == 6
    until("the partitions", grown, BELATED_S)
    at = TopicPartition("shared", 0, 5)
    equal(5, list(done(admin.delete_records([at])).values())[0].low_watermark)

produce("lasting", 0, 20)
member = consumer("lasting")
member.subscribe(["lasting"])
read(member, 20)
member.commit(offsets=[TopicPartition("lasting", 0, 7, "seven")], asynchronous=False)
restart()

with check("committed after a SIGKILL"):
    asked = [TopicPartition("lasting", 0)]
    equal((7, "seven"), [(at.offset, at.metadata) for at in member.committed(asked, DEADLINE_S)][0])
    asked = [ConsumerGroupTopicPartitions("lasting")]
    told = done(admin.list_consumer_group_offsets(asked))["lasting"].topic_partitions
    equal([("lasting", 0, 7)], [(at.topic, at.partition, at.offset) for at in told])

with check("goes on after a SIGKILL"):
    produce("lasting", 0, 10)
    last = []

    def later():
        message = member.poll(0.1)
        if message is not None and message.error() is None:
            last.append(message.offset())
        return 29 in last

    until("what was produced after the kill", later)
    member.commit(offsets=[TopicPartition("lasting", 0, 30)], asynchronous=False)
    member.close()
    done(admin.delete_consumer_groups(["lasting"]))

with check("delete a topic"):
    done(admin.delete_topics(["letters"]))
    gone = lambda: "letters" not in admin.list_topics(timeout=DEADLINE_S).topics
    until("its end", gone, BELATED_S)
    equal(KafkaError.UNKNOWN_TOPIC_OR_PART, code(lambda: done(admin.delete_topics(["letters"]))))

finish()
