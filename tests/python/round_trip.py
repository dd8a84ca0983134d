"""Produces 500 records with headers (idempotent), reads them in a group, and commits; argv: broker, phase."""

import sys

from confluent_kafka import Consumer, Producer

COUNT = 500
DEADLINE_S = 60

broker, phase = sys.argv[1:3]
failures = []
producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "compression.type": "lz4"})
for number in range(COUNT):
    producer.produce(
        "python",
        key=str(number % 7),
        value=f"{phase} {number}",
        headers=[("n", str(number)), ("n", "again")],
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
left = producer.flush(DEADLINE_S)
assert left == 0 and not failures, (left, failures)

consumer = Consumer(
    {
        "bootstrap.servers": broker,
        "group.id": "python-readers",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
consumer.subscribe(["python"])
read = []
while len(read) < COUNT:
    message = consumer.poll(DEADLINE_S)
    assert message is not None, f"nothing more after {len(read)}"
    assert message.error() is None, message.error()
    number = message.headers()[0][1].decode()
    assert message.headers()[1] == ("n", b"again")
    assert message.value().decode() == f"{phase} {number}", message.value()
    read.append(int(number))
assert sorted(read) == list(range(COUNT))
consumer.commit(asynchronous=False)
consumer.close()
print(f"{phase}: {len(read)} read")
