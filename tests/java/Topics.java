import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringSerializer;

/** Topics, their partitions, records and settings, by the AdminClient. */
final class Topics {
    private static final ConfigResource TUNED =
        new ConfigResource(ConfigResource.Type.TOPIC, "tuned");

    private final Checks checks;
    private final Admin admin;

    Topics(Checks checks, Admin admin) {
        this.checks = checks;
        this.admin = admin;
    }

    void run() {
        checks.check("create topics", this::create);
        checks.check("topics that cannot be", this::refused);
        checks.check("create with the server's defaults", this::defaults);
        checks.check("only validate a topic", this::validate);
        checks.check("replicas by hand", this::assigned);
        checks.check("describe and list topics", this::describe);
        checks.check("create partitions", this::partitions);
        checks.check("delete records", this::deleteRecords);
        checks.check("delete topics", this::delete);
        checks.check("describe configs", this::describeConfigs);
        checks.check("alter configs", this::alterConfigs);
        checks.check("configs that cannot be", this::refusedConfigs);
    }

    static KafkaProducer<String, String> producer(Checks checks) {
        var text = new StringSerializer();
        return new KafkaProducer<>(checks.settings(), text, text);
    }

    private void create() throws Exception {
        var result = admin.createTopics(List.of(
            topic("made", 3).configs(Map.of("retention.ms", "86400000")), topic("other", 1)));
        Checks.equal(3, result.numPartitions("made").get());
        Checks.equal(1, result.replicationFactor("made").get());
        Checks.equal("86400000", result.config("made").get().get("retention.ms").value());
        Checks.that(!result.topicId("made").get().equals(Uuid.ZERO_UUID), "no id");
        result.all().get();
    }

    private void refused() throws Exception {
        refuse(TopicExistsException.class, topic("made", 3));
        refuse(InvalidTopicException.class, topic("a name", 1));
        refuse(InvalidTopicException.class, topic("x".repeat(250), 1));
        refuse(InvalidTopicException.class, topic("..", 1));
        refuse(InvalidPartitionsException.class, topic("refused", 0));
        refuse(InvalidReplicationFactorException.class, new NewTopic("refused", 1, (short) 3));
        refuse(InvalidReplicationFactorException.class, new NewTopic("refused", 1, (short) 0));
        Map<String, String> unknown = Map.of("no.such.setting", "1");
        refuse(InvalidConfigurationException.class, topic("refused", 1).configs(unknown));
        Map<String, String> wrong = Map.of("retention.ms", "long");
        refuse(InvalidConfigurationException.class, topic("refused", 1).configs(wrong));
        Checks.that(!admin.listTopics().names().get().contains("refused"), "it was made");
    }

    private void refuse(Class<? extends Throwable> with, NewTopic topic) throws Exception {
        Checks.fails(with, () -> admin.createTopics(List.of(topic)).all().get());
    }

    private void defaults() throws Exception {
        NewTopic topic = new NewTopic("defaults", Optional.empty(), Optional.empty());
        var result = admin.createTopics(List.of(topic));
        Checks.equal(1, result.numPartitions("defaults").get());
        Checks.equal(1, result.replicationFactor("defaults").get());
    }

    private void validate() throws Exception {
        var only = new CreateTopicsOptions().validateOnly(true);
        var result = admin.createTopics(List.of(topic("imagined", 2)), only);
        Checks.equal(2, result.numPartitions("imagined").get());
        Checks.that(!admin.listTopics().names().get().contains("imagined"), "it was made");
    }

    private void assigned() throws Exception {
        int node = admin.describeCluster().controller().get().id();
        var replicas = Map.of(0, List.of(node), 1, List.of(node));
        admin.createTopics(List.of(new NewTopic("by-hand", replicas))).all().get();
        Checks.becomes(2, () -> description("by-hand").partitions().size());
    }

    private void describe() throws Exception {
        TopicDescription made = description("made");
        Checks.equal(3, made.partitions().size());
        Checks.equal(false, made.isInternal());
        for (var partition : made.partitions()) {
            Checks.equal(1, partition.replicas().size());
            Checks.equal(partition.replicas(), partition.isr());
            Checks.equal(partition.leader(), partition.replicas().get(0));
        }
        var ids = TopicCollection.ofTopicIds(List.of(made.topicId()));
        var byId = admin.describeTopics(ids).topicIdValues().get(made.topicId()).get();
        Checks.equal("made", byId.name());
        var listed = admin.listTopics(new ListTopicsOptions().listInternal(true)).listings().get();
        Checks.that(listed.stream().anyMatch(it -> it.topicId().equals(made.topicId())), "missing");
        Checks.fails(UnknownTopicOrPartitionException.class, () -> description("nowhere"));
        var nobody = TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()));
        Checks.fails(UnknownTopicIdException.class,
            () -> admin.describeTopics(nobody).allTopicIds().get());
        Checks.that(!admin.listTopics().names().get().contains("nowhere"), "asking made it");
    }

    private void partitions() throws Exception {
        grow("other", 4);
        Checks.becomes(4, () -> description("other").partitions().size());
        Checks.fails(InvalidPartitionsException.class, () -> grow("other", 4));
        Checks.fails(InvalidPartitionsException.class, () -> grow("other", 2));
        Checks.fails(UnknownTopicOrPartitionException.class, () -> grow("nowhere", 2));
        try (var producer = producer(checks)) {
            var sent = new ProducerRecord<String, String>("other", 3, null, "in the new one");
            Checks.equal(0L, producer.send(sent).get().offset());
        }
    }

    private void grow(String topic, int to) throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(to))).all().get();
    }

    private void deleteRecords() throws Exception {
        admin.createTopics(List.of(topic("shrinking", 1))).all().get();
        try (var producer = producer(checks)) {
            for (int i = 0; i < 10; i++) {
                producer.send(new ProducerRecord<>("shrinking", "value " + i)).get();
            }
        }
        TopicPartition at = new TopicPartition("shrinking", 0);
        Checks.equal(4L, deleteBefore(at, 4));
        Checks.equal(4L, admin.listOffsets(Map.of(at, OffsetSpec.earliest())).partitionResult(at)
            .get().offset());
        var left = Consumers.readAll(checks, at, 6);
        Checks.equal("value 4", left.get(0).value());
        Checks.equal(6, left.size());
        Checks.equal(4L, deleteBefore(at, 2));
        Checks.fails(OffsetOutOfRangeException.class, () -> deleteBefore(at, 11));
        Checks.equal(10L, deleteBefore(at, -1));
    }

    private long deleteBefore(TopicPartition at, long offset) throws Exception {
        var request = Map.of(at, RecordsToDelete.beforeOffset(offset));
        var options = new org.apache.kafka.clients.admin.DeleteRecordsOptions().timeoutMs(5_000);
        return admin.deleteRecords(request, options).lowWatermarks().get(at).get().lowWatermark();
    }

    private void delete() throws Exception {
        admin.deleteTopics(List.of("by-hand")).all().get();
        Uuid id = description("defaults").topicId();
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        Checks.becomes(Set.of(), () -> {
            Set<String> left = new HashSet<>(admin.listTopics().names().get());
            left.retainAll(Set.of("by-hand", "defaults"));
            return left;
        });
        Checks.fails(UnknownTopicOrPartitionException.class,
            () -> admin.deleteTopics(List.of("nowhere")).all().get());
        Checks.fails(UnknownTopicIdException.class,
            () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
        // The name is free, and what was below it is gone.
        admin.createTopics(List.of(topic("by-hand", 1))).all().get();
        Checks.becomes(1, () -> description("by-hand").partitions().size());
    }

    private void describeConfigs() throws Exception {
        admin.createTopics(List.of(topic("tuned", 1).configs(Map.of("retention.ms", "5000000",
            "max.message.bytes", "2000000", "cleanup.policy", "compact")))).all().get();
        Checks.becomes("5000000", () -> config().get("retention.ms").value());
        Config config = config();
        entry(config, "retention.ms", "5000000", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        entry(config, "max.message.bytes", "2000000",
            ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        entry(config, "compression.type", "producer", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
        // Where it is from depends on how the cluster was formatted.
        Checks.equal("1", config.get("min.insync.replicas").value());
        Checks.equal(ConfigEntry.ConfigType.LONG, config.get("retention.ms").type());
        Checks.equal(ConfigEntry.ConfigType.LIST, config.get("cleanup.policy").type());

        var all = new DescribeConfigsOptions().includeSynonyms(true);
        var told = admin.describeConfigs(List.of(TUNED), all).all().get().get(TUNED);
        var synonyms = told.get("max.message.bytes").synonyms();
        Checks.equal("2000000", synonyms.get(0).value());
        Checks.that(synonyms.size() > 1, "only " + synonyms);

        var nowhere = new ConfigResource(ConfigResource.Type.TOPIC, "nowhere");
        Checks.fails(UnknownTopicOrPartitionException.class,
            () -> admin.describeConfigs(List.of(nowhere)).all().get());
        String node = admin.describeCluster().controller().get().idString();
        var broker = new ConfigResource(ConfigResource.Type.BROKER, node);
        var settings = admin.describeConfigs(List.of(broker)).all().get().get(broker);
        Checks.equal("true", settings.get("auto.create.topics.enable").value());
        Checks.equal("1", settings.get("num.partitions").value());
    }

    private static void entry(Config config, String name, String value,
            ConfigEntry.ConfigSource source) {
        Checks.equal(name + "=" + value + " " + source,
            name + "=" + config.get(name).value() + " " + config.get(name).source());
    }

    private void alterConfigs() throws Exception {
        alter(OpType.SET, "retention.ms", "7000000", OpType.DELETE, "max.message.bytes", "");
        Checks.becomes("7000000", () -> config().get("retention.ms").value());
        Checks.becomes("1048588", () -> config().get("max.message.bytes").value());
        Checks.equal(true, config().get("max.message.bytes").isDefault());
        alter(OpType.APPEND, "cleanup.policy", "delete");
        Checks.becomes(Set.of("compact", "delete"),
            () -> Set.of(config().get("cleanup.policy").value().split(",")));
        alter(OpType.SUBTRACT, "cleanup.policy", "compact");
        Checks.becomes("delete", () -> config().get("cleanup.policy").value());
        var only = new AlterConfigsOptions().validateOnly(true);
        admin.incrementalAlterConfigs(Map.of(TUNED, ops(OpType.SET, "retention.ms", "1")), only)
            .all().get();
        Checks.equal("7000000", config().get("retention.ms").value());
    }

    private void refusedConfigs() throws Exception {
        Class<InvalidConfigurationException> invalid = InvalidConfigurationException.class;
        Checks.fails(invalid, () -> alter(OpType.SET, "no.such.setting", "1"));
        Checks.fails(invalid, () -> alter(OpType.SET, "retention.ms", "long"));
        Checks.fails(invalid, () -> alter(OpType.SET, "cleanup.policy", "burn"));
        Checks.fails(invalid, () -> alter(OpType.SET, "compression.type", "rar"));
        Checks.fails(invalid, () -> alter(OpType.APPEND, "retention.ms", "1"));
        var nowhere = new ConfigResource(ConfigResource.Type.TOPIC, "nowhere");
        Checks.fails(UnknownTopicOrPartitionException.class, () -> admin.incrementalAlterConfigs(
            Map.of(nowhere, ops(OpType.SET, "retention.ms", "1"))).all().get());
        Checks.equal("7000000", config().get("retention.ms").value());
    }

    private Config config() throws Exception {
        return admin.describeConfigs(List.of(TUNED)).all().get().get(TUNED);
    }

    private void alter(Object... operations) throws Exception {
        admin.incrementalAlterConfigs(Map.of(TUNED, ops(operations))).all().get();
    }

    private static Collection<AlterConfigOp> ops(Object... operations) {
        List<AlterConfigOp> ops = new ArrayList<>();
        for (int i = 0; i < operations.length; i += 3) {
            ConfigEntry entry =
                new ConfigEntry((String) operations[i + 1], (String) operations[i + 2]);
            ops.add(new AlterConfigOp(entry, (OpType) operations[i]));
        }
        return ops;
    }

    private TopicDescription description(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private static NewTopic topic(String name, int partitions) {
        return new NewTopic(name, partitions, (short) 1).configs(new HashMap<>());
    }
}
