"""kafka-python."""

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.admin import ConfigResource, KafkaAdminClient, NewPartitions, NewTopic

from matrix import *

admin = KafkaAdminClient(bootstrap_servers=BROKER)


def produce(topic, partition, count):
    sender = KafkaProducer(bootstrap_servers=BROKER)
    sent = [sender.send(topic, str(n).encode(), partition=partition) for n in range(count)]
    for future in sent:
        future.get(DEADLINE_S)
    sender.close()


def consumer(group=None, **more):
    return KafkaConsumer(
        bootstrap_servers=BROKER,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=100,
        session_timeout_ms=10_000,
        **more,
    )


# A poll that ends in the middle of a join leaves this client (3.0.12) outside of its group for good:
# a group is formed well within this time, records end it earlier.
POLL_MS = 2_000


def poll(reader, wait_ms=POLL_MS):
    return [record for some in reader.poll(wait_ms).values() for record in some]


def read(reader, count):
    records = []

    def more():
        records.extend(poll(reader))
        return len(records) >= count

    until(f"{count} records", more)
    return records


with check("create topics"):
    topics = [("letters", 1), ("shared", 4), ("lasting", 1)]
    admin.create_topics([NewTopic(name, partitions, 1) for name, partitions in topics])
    admin.wait_for_topics(["letters", "shared", "lasting"])
    fails(errors.TopicAlreadyExistsError, lambda: admin.create_topics([NewTopic("letters", 1, 1)]))
    fails(errors.InvalidTopicError, lambda: admin.create_topics([NewTopic("a b", 1, 1)]))

for codec in CODECS:
    with check(f"produce {codec}"):
        first = CODECS.index(codec) * EACH
        kind = None if codec == "none" else codec
        sender = KafkaProducer(
            bootstrap_servers=BROKER, compression_type=kind, linger_ms=50, enable_idempotence=True
        )
        sent = []
        for number in range(first, first + EACH):
            key, value, headers, time_ms = letter(number)
            sent.append(sender.send("letters", value, key, headers, 0, time_ms))
        offsets = [future.get(DEADLINE_S).offset for future in sent]
        equal(list(range(first, first + EACH)), offsets)
        sender.close()

with check("read every codec"):
    reader = consumer()
    at = TopicPartition("letters", 0)
    reader.assign([at])
    reader.seek_to_beginning(at)
    for number, record in enumerate(read(reader, len(CODECS) * EACH)):
        got = (record.key, record.value, list(record.headers), record.timestamp)
        equal(letter(number), got)
        equal(number, record.offset)
    reader.close()

with check("offsets and times"):
    reader = consumer()
    at = TopicPartition("letters", 0)
    equal({at: 0}, reader.beginning_offsets([at]))
    equal({at: 500}, reader.end_offsets([at]))
    found = reader.offsets_for_times({at: BASE_MS + 250})[at]
    equal((250, BASE_MS + 250), (found.offset, found.timestamp))
    reader.close()

with check("a group of two"):
    one, two = consumer("pair"), consumer("pair")
    seen = []

    def turn():
        for reader in (one, two):
            if reader.subscription():
                seen.extend((record.partition, record.offset) for record in poll(reader, 250))
        return [len(one.assignment()), len(two.assignment())]

    one.partitions_for_topic("shared")
    one.subscribe(["shared"])
    until("all for one", lambda: turn()[0] == 4)
    two.subscribe(["shared"])
    until("half for each", lambda: turn() == [2, 2])
    for partition in range(4):
        produce("shared", partition, 10)
    until("what was produced", lambda: turn() and len(seen) >= 40)
    equal(40, len(set(seen)))
    one.commit()
    one.close()
    until("all for two", lambda: poll(two, 250) is not None and len(two.assignment()) == 4)
    two.close()

with check("list and describe"):
    assert {"letters", "shared"} <= set(admin.list_topics()), admin.list_topics()
    watcher = consumer("watched", client_id="eye")
    # A leader that joins before it has heard of the topic assigns nothing, and stays with that.
    watcher.partitions_for_topic("letters")
    watcher.subscribe(["letters"])
    until("the assignment", lambda: poll(watcher, 250) is not None and watcher.assignment())
    listed = [group["group_id"] for group in admin.list_groups()]
    assert {"watched", "pair"} <= set(listed), listed
    group = admin.describe_groups(["watched"])["watched"]
    equal("Stable", group["group_state"])
    equal(1, len(group["members"]))
    equal("eye", group["members"][0]["client_id"])
    watcher.close()
    equal(1, len(admin.describe_cluster()["brokers"]))

with check("configs, partitions and records"):
    change = ConfigResource("TOPIC", "shared", {"retention.ms": "9000000"})
    value = lambda: admin.describe_configs([ConfigResource("TOPIC", "shared")])
    admin.alter_configs([change])
    until("the setting", lambda: "9000000" in str(value()), BELATED_S)
    admin.create_partitions({"shared": NewPartitions(6)})
    size = lambda: len(admin.describe_topics(["shared"])[0]["partitions"])
    until("the partitions", lambda: size() == 6, BELATED_S)
    admin.delete_records({TopicPartition("shared", 0): 5})
    reader = consumer()
    equal([5], list(reader.beginning_offsets([TopicPartition("shared", 0)]).values()))
    reader.close()

produce("lasting", 0, 20)
member = consumer("lasting")
member.partitions_for_topic("lasting")
member.subscribe(["lasting"])
read(member, 20)
at = TopicPartition("lasting", 0)
member.commit({at: OffsetAndMetadata(7, "seven", -1)})
restart()

with check("committed after a SIGKILL"):
    got = member.committed(at, metadata=True)
    equal((7, "seven"), (got.offset, got.metadata))

    def told():
        try:
            return admin.list_group_offsets({"lasting": None})["lasting"][at].offset == 7
        except errors.KafkaError:
            # It has lost its connections and looks for the node again.
            return False

    until("what the admin is told", told)

with check("goes on after a SIGKILL"):
    produce("lasting", 0, 10)
    offsets = []

    def later():
        offsets.extend(record.offset for record in poll(member))
        return 29 in offsets

    until("what was produced after the kill", later)

    def commit():
        try:
            member.commit({at: OffsetAndMetadata(30, "", -1)})
            return True
        except errors.RebalanceInProgressError:
            # The group forms anew after the kill.
            poll(member)
            return False

    until("the commit", commit)
    member.close()
    admin.delete_groups(["lasting"])

with check("delete a topic"):
    admin.delete_topics(["letters"])
    until("its end", lambda: "letters" not in admin.list_topics(), BELATED_S)
    fails(errors.UnknownTopicOrPartitionError, lambda: admin.delete_topics(["letters"]))

admin.close()
finish()
