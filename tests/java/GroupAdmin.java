import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ClassicGroupState;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups and their offsets, by the AdminClient. */
final class GroupAdmin {
    private static final TopicPartition ZERO = new TopicPartition("watched", 0);
    private static final TopicPartition ONE = new TopicPartition("watched", 1);
    private static final TopicPartition BESIDE = new TopicPartition("beside", 0);
    private static final String GROUP = "watchers";

    private final Checks checks;
    private final Admin admin;

    GroupAdmin(Checks checks, Admin admin) {
        this.checks = checks;
        this.admin = admin;
    }

    void run() throws Exception {
        admin.createTopics(List.of(new NewTopic("watched", 2, (short) 1),
            new NewTopic("beside", 1, (short) 1))).all().get();
        Object[] settings = {"group.id", GROUP, "group.instance.id", "watcher", "client.id", "eye",
            "heartbeat.interval.ms", 100, "session.timeout.ms", 10_000};
        try (var member = Consumers.consumer(checks, settings)) {
            member.subscribe(List.of("watched"));
            Checks.until("the assignment", () -> {
                member.poll(Duration.ofMillis(20));
                return member.assignment().size() == 2;
            });
            member.commitSync(Map.of(ZERO, new OffsetAndMetadata(0, "a word")));
            member.commitSync(Map.of(BESIDE, new OffsetAndMetadata(0)));
            checks.check("list groups", this::list);
            checks.check("describe groups", this::describe);
            checks.check("list offsets of a group", this::offsets);
            checks.check("a group with members is protected", () -> busy(member));
            checks.check("remove a member", this::remove);
        }
        checks.check("alter offsets of a group", this::alter);
        checks.check("delete offsets of a group", this::deleteOffsets);
        checks.check("delete groups", this::delete);
    }

    private void list() throws Exception {
        var all = admin.listGroups().all().get();
        var found = all.stream().filter(it -> it.groupId().equals(GROUP)).toList();
        Checks.equal(1, found.size());
        Checks.equal(GroupType.CLASSIC, found.get(0).type().get());
        Checks.equal("consumer", found.get(0).protocol());
        Checks.equal(GroupState.STABLE, found.get(0).groupState().get());
        var empty = new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY));
        Checks.equal(Set.of(), named(empty));
        var stable = new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE));
        Checks.equal(Set.of(GROUP), named(stable));
        Checks.equal(Set.of(),
            named(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))));
        Checks.equal(Set.of(GROUP),
            named(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))));
    }

    private Set<String> named(ListGroupsOptions options) throws Exception {
        return admin.listGroups(options).all().get().stream().map(it -> it.groupId())
            .filter(GROUP::equals).collect(Collectors.toSet());
    }

    private void describe() throws Exception {
        var group = admin.describeConsumerGroups(List.of(GROUP)).all().get().get(GROUP);
        Checks.equal(GroupState.STABLE, group.groupState());
        Checks.equal("range", group.partitionAssignor());
        Checks.equal(admin.describeCluster().controller().get().id(), group.coordinator().id());
        Checks.equal(1, group.members().size());
        var member = group.members().iterator().next();
        Checks.equal("eye", member.clientId());
        Checks.equal("watcher", member.groupInstanceId().get());
        Checks.equal("/127.0.0.1", member.host());
        Checks.equal(Set.of(ZERO, ONE), member.assignment().topicPartitions());
        var classic = admin.describeClassicGroups(List.of(GROUP)).all().get().get(GROUP);
        Checks.equal(ClassicGroupState.STABLE, classic.state());
        Checks.equal("range", classic.protocolData());
        Checks.fails(GroupIdNotFoundException.class,
            () -> admin.describeConsumerGroups(List.of("nobody")).all().get());
    }

    private void offsets() throws Exception {
        var all = admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get();
        Checks.equal(Set.of(ZERO, BESIDE), all.keySet());
        Checks.equal("a word", all.get(ZERO).metadata());
        var spec = new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(ZERO, ONE));
        var some = admin.listConsumerGroupOffsets(Map.of(GROUP, spec, "nobody", spec));
        Checks.equal(0L, some.partitionsToOffsetAndMetadata(GROUP).get().get(ZERO).offset());
        Checks.equal(null, some.partitionsToOffsetAndMetadata(GROUP).get().get(ONE));
        Checks.equal(null, some.partitionsToOffsetAndMetadata("nobody").get().get(ZERO));
    }

    private void busy(KafkaConsumer<String, String> member) throws Exception {
        Checks.fails(GroupNotEmptyException.class,
            () -> admin.deleteConsumerGroups(List.of(GROUP)).all().get());
        Checks.fails(UnknownMemberIdException.class, () -> set(ZERO, 1));
        Checks.fails(GroupSubscribedToTopicException.class,
            () -> admin.deleteConsumerGroupOffsets(GROUP, Set.of(ZERO)).all().get());
        // Nobody reads that one.
        admin.deleteConsumerGroupOffsets(GROUP, Set.of(BESIDE)).all().get();
        Checks.equal(null, member.committed(Set.of(BESIDE)).get(BESIDE));
    }

    private void remove() throws Exception {
        var who = Set.of(new MemberToRemove("watcher"));
        admin.removeMembersFromConsumerGroup(GROUP,
            new RemoveMembersFromConsumerGroupOptions(who)).all().get();
        var group = admin.describeConsumerGroups(List.of(GROUP)).all().get().get(GROUP);
        Checks.equal(0, group.members().size());
        Checks.equal(GroupState.EMPTY, group.groupState());
    }

    private void alter() throws Exception {
        set(ONE, 0);
        var all = admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get();
        Checks.equal(Set.of(ZERO, ONE), all.keySet());
        // A group that nobody has been in.
        admin.alterConsumerGroupOffsets("made by hand", Map.of(ZERO, new OffsetAndMetadata(0)))
            .all().get();
        var made = admin.describeConsumerGroups(List.of("made by hand")).all().get();
        Checks.equal(GroupState.EMPTY, made.get("made by hand").groupState());
    }

    private void set(TopicPartition at, long offset) throws Exception {
        admin.alterConsumerGroupOffsets(GROUP, Map.of(at, new OffsetAndMetadata(offset)))
            .all().get();
    }

    private void deleteOffsets() throws Exception {
        admin.deleteConsumerGroupOffsets(GROUP, Set.of(ONE)).all().get();
        var all = admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get();
        Checks.equal(Set.of(ZERO), all.keySet());
        Checks.fails(GroupIdNotFoundException.class,
            () -> admin.deleteConsumerGroupOffsets("nobody", Set.of(ONE)).all().get());
    }

    private void delete() throws Exception {
        admin.deleteConsumerGroups(List.of(GROUP, "made by hand")).all().get();
        var names = admin.listGroups().all().get().stream().map(it -> it.groupId()).toList();
        Checks.that(!names.contains(GROUP) && !names.contains("made by hand"), "left: " + names);
        Checks.fails(GroupIdNotFoundException.class,
            () -> admin.deleteConsumerGroups(List.of("nobody")).all().get());
    }
}
