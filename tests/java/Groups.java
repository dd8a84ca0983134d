import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringSerializer;

/** What consumers do together: two members, each assignor, static members, and a SIGKILL. */
final class Groups {
    private static final Duration POLL = Duration.ofMillis(20);
    private static final int PARTITIONS = 4;

    private final Checks checks;
    private final Admin admin;

    Groups(Checks checks, Admin admin) {
        this.checks = checks;
        this.admin = admin;
    }

    void run() throws Exception {
        admin.createTopics(List.of(new NewTopic("shared", PARTITIONS, (short) 1))).all().get();
        checks.check("group with range", () -> comeAndGo("range", RangeAssignor.class));
        checks.check("group with roundrobin",
            () -> comeAndGo("roundrobin", RoundRobinAssignor.class));
        checks.check("group with sticky", () -> comeAndGo("sticky", StickyAssignor.class));
        checks.check("group with cooperative-sticky",
            () -> comeAndGo("cooperative-sticky", CooperativeStickyAssignor.class));
        checks.check("a static member comes back", this::staticMember);
        checks.check("a static member is fenced", this::fencedMember);
    }

    /** A member stays over the kill, and another one comes after it. */
    void runOverRestart() throws Exception {
        admin.createTopics(List.of(new NewTopic("lasting", 1, (short) 1))).all().get();
        produce("lasting", 20);
        Object[] settings = settings("lasting", RangeAssignor.class, "max.poll.records", 5);
        TopicPartition at = new TopicPartition("lasting", 0);
        try (var consumer = Consumers.consumer(checks, settings)) {
            consumer.subscribe(List.of("lasting"));
            Consumers.read(consumer, 10);
            consumer.commitSync(Map.of(at, new OffsetAndMetadata(7, "seven")));
            checks.restart();
            checks.check("committed after a SIGKILL", () -> {
                var committed = consumer.committed(Set.of(at)).get(at);
                Checks.equal(new OffsetAndMetadata(7, "seven"),
                    new OffsetAndMetadata(committed.offset(), committed.metadata()));
            });
            checks.check("a member goes on after a SIGKILL", () -> {
                produce("lasting", 20);
                long end = 40;
                Checks.until("the records behind the kill", () -> {
                    consumer.poll(POLL);
                    return !consumer.assignment().isEmpty() && consumer.position(at) == end;
                });
                consumer.commitSync();
                Checks.equal(end, consumer.committed(Set.of(at)).get(at).offset());
            });
        }
    }

    /** One has all, two share, and one has all again; meanwhile nothing is read twice. */
    private void comeAndGo(String group, Class<?> assignor) throws Exception {
        // Its own topic: what another group left there would be counted.
        admin.createTopics(List.of(new NewTopic(group, PARTITIONS, (short) 1))).all().get();
        Object[] settings = settings(group, assignor);
        List<String> read = new ArrayList<>();
        Seen seen = new Seen();
        try (var first = Consumers.consumer(checks, settings)) {
            first.subscribe(List.of(group), seen);
            await(Set.of(PARTITIONS), read, first);
            try (var second = Consumers.consumer(checks, settings)) {
                second.subscribe(List.of(group));
                await(Set.of(PARTITIONS / 2), read, first, second);
                Set<TopicPartition> both = new HashSet<>(first.assignment());
                both.addAll(second.assignment());
                Checks.equal(PARTITIONS, both.size());
                int before = read.size();
                produce(group, 40);
                Checks.until("what both read", () -> {
                    poll(read, first, second);
                    return read.size() >= before + 40;
                });
                Checks.equal(before + 40, read.size());
            }
            await(Set.of(PARTITIONS), read, first);
            Checks.equal(0, seen.lost);
            boolean cooperative = assignor == CooperativeStickyAssignor.class;
            Checks.equal(cooperative ? PARTITIONS / 2 : PARTITIONS, seen.revokedAtFirst);
        }
        Checks.equal(read.size(), new TreeSet<>(read).size());
    }

    /** Within its session a static member finds what it had, and nobody else is disturbed. */
    private void staticMember() throws Exception {
        Seen seen = new Seen();
        List<String> read = new ArrayList<>();
        try (var other = Consumers.consumer(checks, instance("static", "one"))) {
            other.subscribe(List.of("shared"), seen);
            Set<TopicPartition> had;
            try (var member = Consumers.consumer(checks, instance("static", "two"))) {
                member.subscribe(List.of("shared"));
                await(Set.of(PARTITIONS / 2), read, other, member);
                had = Set.copyOf(member.assignment());
            }
            int assigned = seen.assigned;
            String generation = other.groupMetadata().generationId() + "";
            try (var member = Consumers.consumer(checks, instance("static", "two"))) {
                member.subscribe(List.of("shared"));
                await(Set.of(PARTITIONS / 2), read, other, member);
                Checks.equal(had, member.assignment());
                Checks.equal(generation, member.groupMetadata().generationId() + "");
            }
            Checks.equal(assigned, seen.assigned);
        }
    }

    private void fencedMember() throws Exception {
        List<String> read = new ArrayList<>();
        try (var old = Consumers.consumer(checks, instance("fenced", "three"))) {
            old.subscribe(List.of("shared"));
            Checks.until("the old one's assignment", () -> {
                poll(read, old);
                return !old.assignment().isEmpty();
            });
            try (var young = Consumers.consumer(checks, instance("fenced", "three"))) {
                young.subscribe(List.of("shared"));
                Checks.Check both = () -> Checks.until("the fence", () -> {
                    poll(read, young, old);
                    return false;
                });
                Checks.fails(FencedInstanceIdException.class, both);
            }
        }
    }

    private Object[] instance(String group, String name) {
        return settings(group, RangeAssignor.class, "group.instance.id", name);
    }

    private static Object[] settings(String group, Class<?> assignor, Object... more) {
        List<Object> all = new ArrayList<>(List.of("group.id", group));
        all.addAll(List.of("partition.assignment.strategy", assignor.getName()));
        all.addAll(List.of("auto.offset.reset", "earliest", "session.timeout.ms", 10_000));
        // Whoever has to join hears of it by this.
        all.addAll(List.of("heartbeat.interval.ms", 100));
        all.addAll(List.of(more));
        return all.toArray();
    }

    /** Polls until each has one of these numbers of partitions. */
    @SafeVarargs
    private static void await(Set<Integer> counts, List<String> read,
            KafkaConsumer<String, String>... members) throws InterruptedException {
        Checks.until("an assignment of " + counts, () -> {
            poll(read, members);
            for (var member : members) {
                if (!counts.contains(member.assignment().size())) {
                    return false;
                }
            }
            return true;
        });
    }

    @SafeVarargs
    private static void poll(List<String> read, KafkaConsumer<String, String>... members) {
        for (var member : members) {
            for (var record : member.poll(POLL)) {
                read.add(record.topic() + record.partition() + " " + record.offset());
            }
            try {
                member.commitSync();
            } catch (RebalanceInProgressException later) {
                // Cooperative members go on reading in a rebalance, and commit after it.
                continue;
            }
        }
    }

    private void produce(String topic, int count) throws Exception {
        int partitions = topic.equals("lasting") ? 1 : PARTITIONS;
        var text = new StringSerializer();
        try (var producer = new KafkaProducer<>(checks.settings(), text, text)) {
            for (int i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(topic, i % partitions, "key", "value " + i));
            }
        }
    }

    /** What a member was told. */
    private static final class Seen implements ConsumerRebalanceListener {
        int assigned;
        int revokedAtFirst;
        int lost;

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            assigned++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revokedAtFirst = revokedAtFirst == 0 ? partitions.size() : revokedAtFirst;
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            lost++;
        }
    }
}
