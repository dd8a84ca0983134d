import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** What the AdminClient asks of a cluster. */
final class Questions {
    private static final TopicPartition AT = new TopicPartition("asked", 0);
    /** Not in the order of the offsets. */
    private static final long[] TIMES = {10, 40, 20, 30};

    private final Checks checks;
    private final Admin admin;
    private int node;

    Questions(Checks checks, Admin admin) {
        this.checks = checks;
        this.admin = admin;
    }

    void run() throws Exception {
        admin.createTopics(List.of(new NewTopic("asked", 1, (short) 1))).all().get();
        node = admin.describeCluster().controller().get().id();
        try (var producer = Topics.producer(checks)) {
            for (long time : TIMES) {
                long at = Producers.BASE_MS + time;
                producer.send(new ProducerRecord<>("asked", 0, at, "key", "value")).get();
            }
            checks.check("describe producers", this::producers);
        }
        checks.check("list offsets", this::offsets);
        checks.check("describe cluster", this::cluster);
        checks.check("describe features", () -> admin.describeFeatures().featureMetadata().get());
        checks.check("describe log dirs", this::logDirs);
        checks.check("elect leaders", this::elect);
        checks.check("list reassignments", () -> {
            Checks.equal(Map.of(), admin.listPartitionReassignments().reassignments().get());
            Checks.equal(Map.of(),
                admin.listPartitionReassignments(Set.of(AT)).reassignments().get());
        });
        checks.check("describe quorum", this::quorum);
        checks.check("describe client quotas", () -> {
            var quotas = admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get();
            Checks.equal(Map.of(), quotas);
        });
        checks.check("list config resources", this::configResources);
    }

    private void producers() throws Exception {
        var found = admin.describeProducers(List.of(AT)).partitionResult(AT).get();
        Checks.equal(1, found.activeProducers().size());
        var producer = found.activeProducers().get(0);
        Checks.equal(TIMES.length - 1, producer.lastSequence());
        Checks.equal(0, producer.producerEpoch());
        Checks.equal(Producers.BASE_MS + 30, producer.lastTimestamp());
        Checks.that(producer.currentTransactionStartOffset().isEmpty(), "a transaction");
    }

    private void offsets() throws Exception {
        Checks.equal(0L, ask(OffsetSpec.earliest()).offset());
        Checks.equal(4L, ask(OffsetSpec.latest()).offset());
        var max = ask(OffsetSpec.maxTimestamp());
        Checks.equal(1L, max.offset());
        Checks.equal(Producers.BASE_MS + 40, max.timestamp());
        var at = ask(OffsetSpec.forTimestamp(Producers.BASE_MS + 15));
        Checks.equal(1L, at.offset());
        Checks.equal(Producers.BASE_MS + 40, at.timestamp());
        Checks.equal(-1L, ask(OffsetSpec.forTimestamp(Producers.BASE_MS + 41)).offset());
        Checks.equal(0L, ask(OffsetSpec.earliestLocal()).offset());
        Checks.equal(-1L, ask(OffsetSpec.latestTiered()).offset());
        TopicPartition nowhere = new TopicPartition("nowhere", 0);
        Checks.fails(UnknownTopicOrPartitionException.class,
            () -> admin.listOffsets(Map.of(nowhere, OffsetSpec.latest())).all().get());
    }

    private ListOffsetsResultInfo ask(OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(AT, spec)).partitionResult(AT).get();
    }

    private void cluster() throws Exception {
        var cluster = admin.describeCluster();
        Checks.equal(1, cluster.nodes().get().size());
        var only = cluster.nodes().get().iterator().next();
        Checks.equal(checks.broker(), only.host() + ":" + only.port());
        Checks.equal(only.id(), cluster.controller().get().id());
        Checks.that(!cluster.clusterId().get().isEmpty(), "no id");
    }

    private void logDirs() throws Exception {
        var folders = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        Checks.equal(1, folders.size());
        var folder = folders.values().iterator().next();
        Checks.equal(null, folder.error());
        Checks.that(folder.totalBytes().getAsLong() > 0, "no total");
        Checks.that(folder.replicaInfos().get(AT).size() > 100, "no bytes");
        Checks.equal(0L, folder.replicaInfos().get(AT).offsetLag());
        var replica = new TopicPartitionReplica("asked", 0, node);
        var place = admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica);
        Checks.equal(folders.keySet().iterator().next(), place.getCurrentReplicaLogDir());
    }

    private void elect() throws Exception {
        TopicPartition nowhere = new TopicPartition("asked", 9);
        var result = admin.electLeaders(ElectionType.PREFERRED, Set.of(AT, nowhere)).partitions();
        Map<TopicPartition, Optional<Throwable>> told = result.get();
        Checks.equal(ElectionNotNeededException.class, told.get(AT).get().getClass());
        Checks.equal(UnknownTopicOrPartitionException.class, told.get(nowhere).get().getClass());
        Checks.equal(Map.of(), admin.electLeaders(ElectionType.PREFERRED, null).partitions().get());
    }

    private void quorum() throws Exception {
        var quorum = admin.describeMetadataQuorum().quorumInfo().get();
        Checks.equal(node, quorum.leaderId());
        Checks.equal(1, quorum.voters().size());
        Checks.equal(node, quorum.voters().get(0).replicaId());
        Checks.that(quorum.highWatermark() > 0, "no high watermark");
    }

    private void configResources() throws Exception {
        var all = admin.listConfigResources().all().get();
        Checks.that(all.contains(new ConfigResource(ConfigResource.Type.TOPIC, "asked")), "" + all);
        var brokers = admin.listConfigResources(Set.of(ConfigResource.Type.BROKER),
            new ListConfigResourcesOptions()).all().get();
        Checks.equal(Set.of("" + node),
            Set.copyOf(brokers.stream().map(ConfigResource::name).toList()));
    }
}
