import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What a consumer does by itself; groups are in Groups. */
final class Consumers {
    private static final Duration POLL = Duration.ofMillis(100);
    private static final TopicPartition LINES = new TopicPartition("lines", 0);
    /** One record a second. */
    private static final long STEP_MS = 1_000;
    private static final int COUNT = 100;

    private final Checks checks;
    private final Admin admin;

    Consumers(Checks checks, Admin admin) {
        this.checks = checks;
        this.admin = admin;
    }

    void run() throws Exception {
        admin.createTopics(List.of(new NewTopic("lines", 2, (short) 1))).all().get();
        var text = new StringSerializer();
        try (var producer = new KafkaProducer<>(checks.settings(), text, text)) {
            for (int i = 0; i < COUNT; i++) {
                long time = Producers.BASE_MS + i * STEP_MS;
                producer.send(new ProducerRecord<>("lines", 0, time, "key", "line " + i));
            }
        }
        checks.check("seek and position", this::seek);
        checks.check("beginning and end offsets", this::ends);
        checks.check("offsets for times", this::times);
        checks.check("pause and resume", this::pause);
        checks.check("commit and committed", this::commit);
        checks.check("no offset and no reset", this::withoutReset);
        checks.check("an offset out of range", this::outOfRange);
        checks.check("list topics", this::list);
        checks.check("subscribe by pattern", this::pattern);
        checks.check("few bytes at a time", this::smallFetches);
        checks.check("read committed", this::readCommitted);
    }

    /** Whatever a partition holds from its beginning, at least so much. */
    static List<ConsumerRecord<String, String>> readAll(Checks checks, TopicPartition at,
            int count) {
        try (var consumer = consumer(checks)) {
            consumer.assign(List.of(at));
            consumer.seekToBeginning(List.of(at));
            return read(consumer, count);
        }
    }

    static KafkaConsumer<String, String> consumer(Checks checks, Object... more) {
        var text = new StringDeserializer();
        return new KafkaConsumer<>(checks.settings(more), text, text);
    }

    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> from,
            int count) {
        List<ConsumerRecord<String, String>> read = new ArrayList<>();
        long end = System.nanoTime() + Checks.DEADLINE.toNanos();
        while (read.size() < count) {
            Checks.that(System.nanoTime() < end, read.size() + " records instead of " + count);
            from.poll(POLL).forEach(read::add);
        }
        return read;
    }

    private void seek() {
        try (var consumer = consumer(checks, "max.poll.records", 10)) {
            consumer.assign(List.of(LINES));
            consumer.seek(LINES, 42);
            Checks.equal(42L, consumer.position(LINES));
            Checks.equal("line 42", read(consumer, 10).get(0).value());
            Checks.equal(52L, consumer.position(LINES));
            consumer.seekToBeginning(List.of(LINES));
            Checks.equal(0L, consumer.position(LINES));
            Checks.equal("line 0", read(consumer, 1).get(0).value());
            consumer.seekToEnd(List.of(LINES));
            Checks.equal((long) COUNT, consumer.position(LINES));
            consumer.seek(LINES, new OffsetAndMetadata(7, Optional.of(0), "with an epoch"));
            Checks.equal("line 7", read(consumer, 1).get(0).value());
        }
    }

    private void ends() {
        TopicPartition empty = new TopicPartition("lines", 1);
        try (var consumer = consumer(checks)) {
            var both = List.of(LINES, empty);
            Checks.equal(Map.of(LINES, 0L, empty, 0L), consumer.beginningOffsets(both));
            Checks.equal(Map.of(LINES, (long) COUNT, empty, 0L), consumer.endOffsets(both));
        }
    }

    private void times() {
        TopicPartition empty = new TopicPartition("lines", 1);
        try (var consumer = consumer(checks)) {
            long between = Producers.BASE_MS + 29 * STEP_MS + 1;
            var found = consumer.offsetsForTimes(Map.of(LINES, between, empty, between));
            Checks.equal(30L, found.get(LINES).offset());
            Checks.equal(Producers.BASE_MS + 30 * STEP_MS, found.get(LINES).timestamp());
            Checks.equal(null, found.get(empty));
            long exact = Producers.BASE_MS + 30 * STEP_MS;
            Checks.equal(30L, consumer.offsetsForTimes(Map.of(LINES, exact)).get(LINES).offset());
            Checks.equal(0L, consumer.offsetsForTimes(Map.of(LINES, 0L)).get(LINES).offset());
            long after = Producers.BASE_MS + COUNT * STEP_MS;
            Checks.equal(null, consumer.offsetsForTimes(Map.of(LINES, after)).get(LINES));
        }
    }

    private void pause() {
        try (var consumer = consumer(checks, "max.poll.records", 1)) {
            consumer.assign(List.of(LINES));
            consumer.seekToBeginning(List.of(LINES));
            Checks.equal("line 0", read(consumer, 1).get(0).value());
            consumer.pause(List.of(LINES));
            Checks.equal(Set.of(LINES), consumer.paused());
            Checks.that(consumer.poll(POLL).isEmpty(), "a record of a paused partition");
            consumer.resume(List.of(LINES));
            Checks.equal("line 1", read(consumer, 1).get(0).value());
        }
    }

    private void commit() throws Exception {
        Object[] settings = {"group.id", "committers", "enable.auto.commit", false};
        try (var consumer = consumer(checks, settings)) {
            consumer.assign(List.of(LINES));
            Checks.equal(null, consumer.committed(Set.of(LINES)).get(LINES));
            consumer.commitSync(Map.of(LINES, new OffsetAndMetadata(3, "a word")));
            OffsetAndMetadata committed = consumer.committed(Set.of(LINES)).get(LINES);
            Checks.equal(3L, committed.offset());
            Checks.equal("a word", committed.metadata());
            CompletableFuture<Long> done = new CompletableFuture<>();
            consumer.commitAsync(Map.of(LINES, new OffsetAndMetadata(5)), (offsets, error) -> {
                if (error == null) {
                    done.complete(offsets.get(LINES).offset());
                } else {
                    done.completeExceptionally(error);
                }
            });
            Checks.until("the commit", () -> {
                consumer.poll(Duration.ofMillis(10));
                return done.isDone();
            });
            Checks.equal(5L, done.get(1, TimeUnit.SECONDS));
        }
        try (var consumer = consumer(checks, settings)) {
            consumer.assign(List.of(LINES));
            Checks.equal("line 5", read(consumer, 1).get(0).value());
        }
    }

    private void withoutReset() throws Exception {
        Object[] settings = {"group.id", "nobody", "auto.offset.reset", "none"};
        try (var consumer = consumer(checks, settings)) {
            consumer.assign(List.of(LINES));
            Checks.fails(NoOffsetForPartitionException.class, () -> read(consumer, 1));
        }
    }

    private void outOfRange() throws Exception {
        try (var consumer = consumer(checks, "auto.offset.reset", "none")) {
            consumer.assign(List.of(LINES));
            consumer.seek(LINES, COUNT + 1_000);
            Checks.fails(OffsetOutOfRangeException.class, () -> read(consumer, 1));
        }
        try (var consumer = consumer(checks, "auto.offset.reset", "earliest")) {
            consumer.assign(List.of(LINES));
            consumer.seek(LINES, COUNT + 1_000);
            Checks.equal("line 0", read(consumer, 1).get(0).value());
        }
    }

    private void list() {
        try (var consumer = consumer(checks)) {
            var topics = consumer.listTopics();
            Checks.equal(2, topics.get("lines").size());
            Checks.equal(5, topics.get("wide").size());
        }
    }

    private void pattern() {
        Object[] settings = {"group.id", "by pattern", "auto.offset.reset", "earliest"};
        try (var consumer = consumer(checks, settings)) {
            consumer.subscribe(Pattern.compile("lin.s"));
            Checks.equal(COUNT, read(consumer, COUNT).size());
        }
    }

    private void smallFetches() {
        Object[] settings = {"fetch.max.bytes", 1, "max.partition.fetch.bytes", 1};
        try (var consumer = consumer(checks, settings)) {
            consumer.assign(List.of(new TopicPartition("letters", 0)));
            consumer.seekToBeginning(consumer.assignment());
            Checks.equal(500, read(consumer, 500).size());
        }
    }

    private void readCommitted() {
        try (var consumer = consumer(checks, "isolation.level", "read_committed")) {
            consumer.assign(List.of(LINES));
            consumer.seekToBeginning(List.of(LINES));
            Checks.equal(COUNT, read(consumer, COUNT).size());
            Checks.equal((long) COUNT, consumer.endOffsets(List.of(LINES)).get(LINES));
        }
    }
}
