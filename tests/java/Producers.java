import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringSerializer;

/** What producers do. */
final class Producers {
    /** Records of each codec. */
    static final int EACH = 100;
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    /** Within any retention, and not the time at which anything is appended. */
    static final long BASE_MS = System.currentTimeMillis() - 3_600_000;

    private final Checks checks;
    private final Admin admin;

    Producers(Checks checks, Admin admin) {
        this.checks = checks;
        this.admin = admin;
    }

    void run() throws Exception {
        create("letters", 1, Map.of());
        for (String codec : CODECS) {
            checks.check("produce " + codec, () -> produceWith(codec));
        }
        checks.check("read every codec", this::readBack);
        checks.check("acks 0 and 1", this::lesserAcks);
        checks.check("too large a record", this::tooLarge);
        checks.check("a compacted topic wants keys", this::withoutKey);
        checks.check("append time", this::appendTime);
        checks.check("a timestamp outside of the limits", this::lateTimestamp);
        checks.check("partitions of a topic", () -> {
            create("wide", 5, Map.of());
            try (var producer = producer()) {
                Checks.equal(5, producer.partitionsFor("wide").size());
            }
        });
    }

    /** In order and exactly once, with the broker killed while records are on their way. */
    void runOverRestart() throws Exception {
        create("steady", 1, Map.of());
        int count = 3_000;
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        // Every batch is a request, so that the kill finds some of them half done.
        try (var producer = producer("batch.size", 200, "delivery.timeout.ms", 60_000)) {
            Thread sending = new Thread(() -> {
                for (int number = 0; number < count; number++) {
                    sent.add(producer.send(new ProducerRecord<>("steady", 0, null, "n " + number)));
                }
            });
            sending.start();
            checks.restart();
            sending.join();
            checks.check("idempotent over a SIGKILL", () -> {
                for (Future<RecordMetadata> future : sent) {
                    future.get(60, TimeUnit.SECONDS);
                }
                List<String> read = new ArrayList<>();
                TopicPartition at = new TopicPartition("steady", 0);
                for (var record : Consumers.readAll(checks, at, count)) {
                    read.add(record.value());
                }
                for (int number = 0; number < count; number++) {
                    Checks.equal("n " + number, read.get(number));
                }
                Checks.equal(count, read.size());
            });
        }
    }

    private void produceWith(String codec) throws Exception {
        int first = CODECS.indexOf(codec) * EACH;
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = producer("compression.type", codec, "linger.ms", 20)) {
            for (int number = first; number < first + EACH; number++) {
                sent.add(producer.send(letter(number)));
            }
            producer.flush();
            for (int i = 0; i < EACH; i++) {
                RecordMetadata at = sent.get(i).get(60, TimeUnit.SECONDS);
                Checks.equal((long) first + i, at.offset());
                Checks.equal(BASE_MS + first + i, at.timestamp());
            }
        }
    }

    /** Some without key, some without value, one header name twice, one header without value. */
    private static ProducerRecord<String, String> letter(int number) {
        String key = number % 10 == 1 ? null : "key " + number % 7;
        String value = number % 10 == 2 ? null : "letter " + number + " " + "x".repeat(number % 50);
        List<Header> headers = List.of(header("n", "" + number), header("n", "again"),
            new RecordHeader("none", (byte[]) null), header("", "nameless"));
        return new ProducerRecord<>("letters", 0, BASE_MS + number, key, value, headers);
    }

    private static Header header(String name, String value) {
        return new RecordHeader(name, value.getBytes(StandardCharsets.UTF_8));
    }

    private void readBack() {
        int count = CODECS.size() * EACH;
        var read = Consumers.readAll(checks, new TopicPartition("letters", 0), count);
        Checks.equal(count, read.size());
        for (int number = 0; number < count; number++) {
            ConsumerRecord<String, String> record = read.get(number);
            ProducerRecord<String, String> sent = letter(number);
            Checks.equal((long) number, record.offset());
            Checks.equal(sent.key(), record.key());
            Checks.equal(sent.value(), record.value());
            Checks.equal(sent.timestamp(), record.timestamp());
            Checks.equal(List.of(sent.headers().toArray()), List.of(record.headers().toArray()));
        }
    }

    private void lesserAcks() throws Exception {
        create("lesser", 1, Map.of());
        for (String acks : List.of("0", "1")) {
            try (var producer = producer("acks", acks, "enable.idempotence", false)) {
                for (int i = 0; i < 10; i++) {
                    producer.send(new ProducerRecord<>("lesser", "acks " + acks)).get();
                }
            }
        }
        Checks.equal(20, Consumers.readAll(checks, new TopicPartition("lesser", 0), 20).size());
    }

    private void tooLarge() throws Exception {
        create("small", 1, Map.of("max.message.bytes", "1000"));
        try (var producer = producer()) {
            producer.send(new ProducerRecord<>("small", "x".repeat(500))).get();
            Checks.fails(RecordTooLargeException.class,
                () -> producer.send(new ProducerRecord<>("small", "x".repeat(5_000))).get());
            // The producer goes on.
            Checks.equal(1L, producer.send(new ProducerRecord<>("small", "y")).get().offset());
        }
    }

    private void withoutKey() throws Exception {
        create("compacted", 1, Map.of("cleanup.policy", "compact"));
        try (var producer = producer()) {
            Checks.fails(InvalidRecordException.class,
                () -> producer.send(new ProducerRecord<>("compacted", "no key")).get());
            producer.send(new ProducerRecord<>("compacted", "key", "value")).get();
            producer.send(new ProducerRecord<>("compacted", "key", null)).get();
        }
    }

    private void appendTime() throws Exception {
        create("stamped", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (var producer = producer()) {
            var sent = new ProducerRecord<>("stamped", 0, BASE_MS, "key", "value");
            long said = producer.send(sent).get().timestamp();
            Checks.that(said >= before, said + " is before " + before);
            var read = Consumers.readAll(checks, new TopicPartition("stamped", 0), 1).get(0);
            Checks.equal(said, read.timestamp());
            Checks.equal("LogAppendTime", read.timestampType().toString());
        }
    }

    private void lateTimestamp() throws Exception {
        create("punctual", 1, Map.of("message.timestamp.before.max.ms", "60000"));
        try (var producer = producer()) {
            Checks.fails(InvalidTimestampException.class, () -> producer.send(
                new ProducerRecord<>("punctual", 0, BASE_MS, "key", "value")).get());
            producer.send(new ProducerRecord<>("punctual", "key", "value")).get();
        }
    }

    private void create(String topic, int partitions, Map<String, String> configs)
            throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs)))
            .all().get();
    }

    private KafkaProducer<String, String> producer(Object... more) {
        var text = new StringSerializer();
        return new KafkaProducer<>(checks.settings(more), text, text);
    }
}
