"""aiokafka, on asyncio."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata

from matrix import *


async def eventually(what, condition, deadline=DEADLINE_S):
    end = time.monotonic() + deadline
    while not await condition():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(0.01)


async def produce(topic, partition, count):
    async with AIOKafkaProducer(bootstrap_servers=BROKER) as sender:
        for number in range(count):
            await sender.send_and_wait(topic, str(number).encode(), partition=partition)


def consumer(*topics, group=None, **more):
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=BROKER,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=100,
        session_timeout_ms=10_000,
        metadata_max_age_ms=5_000,
        **more,
    )


async def poll(reader, wait_ms=50):
    found = await reader.getmany(timeout_ms=wait_ms)
    return [record for some in found.values() for record in some]


async def read(reader, count):
    records = []

    async def more():
        records.extend(await poll(reader))
        return len(records) >= count

    await eventually(f"{count} records", more)
    return records


async def records(admin):
    with check("create topics"):
        topics = [NewTopic("letters", 1, 1), NewTopic("shared", 4, 1), NewTopic("lasting", 1, 1)]
        answer = await admin.create_topics(topics)
        equal([0, 0, 0], [topic[1] for topic in answer.topic_errors])
        answer = await admin.create_topics([NewTopic("letters", 1, 1), NewTopic("a b", 1, 1)])
        equal({"letters": 36, "a b": 17}, {topic[0]: topic[1] for topic in answer.topic_errors})

    for codec in CODECS:
        with check(f"produce {codec}"):
            first = CODECS.index(codec) * EACH
            settings = {"compression_type": None if codec == "none" else codec, "linger_ms": 50}
            sender = AIOKafkaProducer(bootstrap_servers=BROKER, enable_idempotence=True, **settings)
            async with sender:
                sent = []
                for number in range(first, first + EACH):
                    key, value, headers, time_ms = letter(number)
                    sent.append(await sender.send("letters", value, key, 0, time_ms, headers))
                offsets = [(await future).offset for future in sent]
            equal(list(range(first, first + EACH)), offsets)

    at = TopicPartition("letters", 0)
    with check("read every codec"):
        async with consumer() as reader:
            reader.assign([at])
            await reader.seek_to_beginning(at)
            for number, record in enumerate(await read(reader, len(CODECS) * EACH)):
                got = (record.key, record.value, list(record.headers), record.timestamp)
                equal(letter(number), got)
                equal(number, record.offset)

    with check("offsets and times"):
        async with consumer() as reader:
            equal({at: 0}, await reader.beginning_offsets([at]))
            equal({at: 500}, await reader.end_offsets([at]))
            found = (await reader.offsets_for_times({at: BASE_MS + 250}))[at]
            equal((250, BASE_MS + 250), (found.offset, found.timestamp))


async def groups(admin):
    with check("a group of two"):
        one, two = consumer("shared", group="pair"), consumer("shared", group="pair")
        seen = []
        await one.start()

        async def turn(*readers):
            for reader in readers:
                seen.extend((record.partition, record.offset) for record in await poll(reader, 20))
            return [len(reader.assignment()) for reader in readers]

        async def shares(readers, expected):
            return await turn(*readers) == expected

        await eventually("all for one", lambda: shares([one], [4]))
        joining = asyncio.create_task(two.start())
        await eventually("two's start", lambda: started(joining, turn(one)))
        await eventually("half for each", lambda: shares([one, two], [2, 2]))
        for partition in range(4):
            await produce("shared", partition, 10)

        async def all_read():
            await turn(one, two)
            return len(seen) >= 40

        await eventually("what was produced", all_read)
        equal(40, len(set(seen)))
        await one.commit()
        await one.stop()
        await eventually("all for two", lambda: shares([two], [4]))
        await two.stop()

    with check("list and describe"):
        listed = await admin.list_topics()
        assert {"letters", "shared"} <= set(listed), listed
        async with consumer("letters", group="watched", client_id="eye") as watcher:
            await read(watcher, 1)
            named = [group[0] for group in await admin.list_consumer_groups()]
            assert {"watched", "pair"} <= set(named), named
            answer = await admin.describe_consumer_groups(["watched"])
            _, group, state, _, protocol, members = answer[0].groups[0][:6]
            equal(("watched", "Stable"), (group, state))
            equal(1, len(members))
            assert "eye" in members[0], members
        equal(1, len((await admin.describe_cluster())["brokers"]))


async def started(task, meanwhile):
    await meanwhile
    return task.done()


async def settings(admin):
    with check("configs, partitions and records"):
        topic = ConfigResourceType.TOPIC
        await admin.alter_configs([ConfigResource(topic, "shared", {"retention.ms": "9000000"})])

        async def is_set():
            told = await admin.describe_configs([ConfigResource(topic, "shared")])
            return "9000000" in str(told)

        await eventually("the setting", is_set, BELATED_S)
        await admin.create_partitions({"shared": NewPartitions(6)})

        async def grown():
            return len((await admin.describe_topics(["shared"]))[0]["partitions"]) == 6

        await eventually("the partitions", grown, BELATED_S)
        at = TopicPartition("shared", 0)
        equal({at: 5}, await admin.delete_records({at: RecordsToDelete(5)}))


async def over_restart(admin):
    at = TopicPartition("lasting", 0)
    await produce("lasting", 0, 20)
    async with consumer("lasting", group="lasting") as member:
        await read(member, 20)
        await member.commit({at: OffsetAndMetadata(7, "seven")})
        # In a thread, for the member's heart to go on beating.
        await asyncio.to_thread(restart)

        with check("committed after a SIGKILL"):
            equal(7, await member.committed(at))
            told = await admin.list_consumer_group_offsets("lasting")
            equal((7, "seven"), (told[at].offset, told[at].metadata))

        with check("goes on after a SIGKILL"):
            await produce("lasting", 0, 10)
            offsets = []

            async def later():
                offsets.extend(record.offset for record in await poll(member))
                return 29 in offsets

            await eventually("what was produced after the kill", later)

            async def commit():
                try:
                    await member.commit({at: OffsetAndMetadata(30, "")})
                    return True
                except CommitFailedError:
                    # The group forms anew after the kill.
                    await poll(member)
                    return False

            await eventually("the commit", commit)
            equal(30, await member.committed(at))


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BROKER)
    await admin.start()
    await records(admin)
    await groups(admin)
    await settings(admin)
    await over_restart(admin)
    with check("delete a topic"):
        await admin.delete_topics(["letters"])

        async def gone():
            return "letters" not in await admin.list_topics()

        await eventually("its end", gone, BELATED_S)
        answer = await admin.delete_topics(["letters"])
        equal([("letters", 3)], [tuple(topic[:2]) for topic in answer.topic_error_codes])
    await admin.close()


asyncio.run(main())
finish()
