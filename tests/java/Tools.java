import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.BrokerApiVersionsCommand;
import org.apache.kafka.tools.ClusterTool;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.DeleteRecordsCommand;
import org.apache.kafka.tools.GetOffsetShell;
import org.apache.kafka.tools.GroupsCommand;
import org.apache.kafka.tools.LeaderElectionCommand;
import org.apache.kafka.tools.LogDirsCommand;
import org.apache.kafka.tools.MetadataQuorumCommand;
import org.apache.kafka.tools.ProducerPerformance;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.VerifiableConsumer;
import org.apache.kafka.tools.VerifiableProducer;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;
import org.apache.kafka.tools.reassign.ReassignPartitionsCommand;

/** Apache Kafka's command line tools, unmodified, in one process: a start of Java takes longer. */
final class Tools {
    private static final int LOAD = 5_000;

    /** A tool's main. */
    private interface Main {
        void run(String[] arguments) throws Exception;
    }

    private static final class Exited extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    private final Checks checks;
    private String node = "";
    /** Some tools catch whatever ends them early and leave once more. */
    private Integer exited;

    Tools(Checks checks) {
        this.checks = checks;
    }

    void run() throws Exception {
        Exit.Procedure leave = (code, message) -> {
            exited = exited == null ? (Integer) code : exited;
            throw new Exited();
        };
        Exit.setExitProcedure(leave);
        Exit.setHaltProcedure(leave);
        Exit.setShutdownHookAdder((name, hook) -> { });
        checks.check("kafka-cluster", this::cluster);
        checks.check("kafka-topics", this::topics);
        checks.check("kafka-configs", this::configs);
        checks.check("kafka-producer-perf-test", this::producerPerformance);
        checks.check("kafka-consumer-perf-test", this::consumerPerformance);
        checks.check("kafka-get-offsets", this::offsets);
        checks.check("kafka-console-producer and -consumer", this::console);
        checks.check("kafka-groups", this::groups);
        checks.check("kafka-consumer-groups", this::consumerGroups);
        checks.check("kafka-delete-records", this::deleteRecords);
        checks.check("kafka-log-dirs", this::logDirs);
        checks.check("kafka-metadata-quorum", this::quorum);
        checks.check("kafka-leader-election", this::election);
        checks.check("kafka-reassign-partitions", this::reassign);
        checks.check("kafka-broker-api-versions", this::versions);
        checks.check("VerifiableProducer", this::verifiableProducer);
        checks.check("VerifiableConsumer", this::verifiableConsumer);
    }

    private void cluster() throws Exception {
        has("Cluster ID: \\S+", run(ClusterTool::main, "cluster-id", "--bootstrap-server"));
        String brokers = run(ClusterTool::main, "list-endpoints", "--bootstrap-server");
        node = brokers.lines().skip(1).findFirst().orElseThrow().split("\\s+")[0];
        has(node + "\\s+127.0.0.1", brokers);
    }

    private void topics() throws Exception {
        String made = run(TopicCommand::main, "--create", "--topic", "tooled", "--partitions", "2",
            "--config", "retention.ms=9000000", "--bootstrap-server");
        has("Created topic tooled\\.", made);
        run(TopicCommand::main, "--create", "--topic", "tooled", "--if-not-exists",
            "--bootstrap-server");
        becomes("(?m)^tooled$", TopicCommand::main, "--list", "--bootstrap-server");
        String described = becomes("Topic: tooled\\s", TopicCommand::main, "--describe", "--topic",
            "tooled", "--bootstrap-server");
        has("PartitionCount: 2\\s+ReplicationFactor: 1", described);
        has("retention.ms=9000000", described);
        has("Partition: 1\\s+Leader: " + node + "\\s+Replicas: " + node + "\\s+Isr: " + node,
            described);
        run(TopicCommand::main, "--alter", "--topic", "tooled", "--partitions", "3",
            "--bootstrap-server");
        becomes("PartitionCount: 3", TopicCommand::main, "--describe", "--topic", "tooled",
            "--bootstrap-server");
        for (String bad : List.of("--under-replicated-partitions", "--unavailable-partitions")) {
            String few = run(TopicCommand::main, "--describe", bad, "--bootstrap-server");
            Checks.that(!few.contains("Topic:"), few);
        }
        String twice = exits(1, TopicCommand::main, "--create", "--topic", "tooled",
            "--bootstrap-server");
        has("already exists", twice);
        run(TopicCommand::main, "--delete", "--topic", "tooled", "--bootstrap-server");
        Checks.until("the topic's end", () -> !has("(?m)^tooled$", () ->
            run(TopicCommand::main, "--list", "--bootstrap-server")));
    }

    private void configs() throws Exception {
        create("configured", 1);
        String[] topic = {"--entity-type", "topics", "--entity-name", "configured"};
        Main main = kafka.admin.ConfigCommand::main;
        has("Completed updating config", run(main, with(topic, "--alter", "--add-config",
            "retention.ms=8000000,cleanup.policy=[compact,delete]", "--bootstrap-server")));
        String[] describe = with(topic, "--describe", "--bootstrap-server");
        has("cleanup.policy=compact,delete", becomes("retention.ms=8000000", main, describe));
        run(main, with(topic, "--alter", "--delete-config", "retention.ms", "--bootstrap-server"));
        Checks.until("the default", () -> !has("retention.ms=8000000", () -> run(main, describe)));
        has("retention.ms=604800000", run(main,
            with(topic, "--describe", "--all", "--bootstrap-server")));
        String[] broker = {"--entity-type", "brokers", "--entity-name", node};
        has("auto.create.topics.enable=true", run(main,
            with(broker, "--describe", "--all", "--bootstrap-server")));
        exits(1, main, with(topic, "--alter", "--add-config", "no.such=1", "--bootstrap-server"));
    }

    private void producerPerformance() throws Exception {
        create("load", 1);
        String printed = run(ProducerPerformance::main, "--topic", "load", "--num-records",
            "" + LOAD, "--record-size", "100", "--throughput", "-1", "--bootstrap-server");
        has(LOAD + " records sent", printed);
    }

    private void consumerPerformance() throws Exception {
        String printed = run(ConsumerPerformance::main, "--topic", "load", "--num-records",
            "" + LOAD, "--group", "measurers", "--timeout", "60000", "--bootstrap-server");
        String[] cells = printed.lines().reduce((a, b) -> b).orElseThrow().split(",\\s*");
        // start, end, MB, MB/s, records
        Checks.that(Integer.parseInt(cells[4]) >= LOAD, printed);
    }

    private void offsets() throws Exception {
        has("(?m)^load:0:" + LOAD + "$", run(GetOffsetShell::main, "--topic", "load",
            "--bootstrap-server"));
        has("(?m)^load:0:0$", run(GetOffsetShell::main, "--topic", "load", "--time", "earliest",
            "--bootstrap-server"));
        has("(?m)^load:0:\\d+$", run(GetOffsetShell::main, "--topic-partitions", "load:0",
            "--time", "max-timestamp", "--bootstrap-server"));
        // Nobody has written that late.
        String never = run(GetOffsetShell::main, "--topic", "load", "--time", "99999999999999",
            "--bootstrap-server");
        Checks.that(!Pattern.compile("load:0:\\d").matcher(never).find(), never);
    }

    private void console() throws Exception {
        create("spoken", 1);
        InputStream before = System.in;
        System.setIn(new ByteArrayInputStream("one:1\ntwo:2\nthree:3\n".getBytes()));
        try {
            run(ConsoleProducer::main, "--topic", "spoken", "--reader-property", "parse.key=true",
                "--reader-property", "key.separator=:", "--bootstrap-server");
        } finally {
            System.setIn(before);
        }
        String[] consume = {"--topic", "spoken", "--group", "listeners", "--from-beginning",
            "--formatter-property", "print.key=true", "--timeout-ms", "60000", "--max-messages"};
        String read = run(ConsoleConsumer::main, with(consume, "2", "--bootstrap-server"));
        Checks.equal(List.of("one\t1", "two\t2"), records(read));
        read = run(ConsoleConsumer::main, with(consume, "1", "--bootstrap-server"));
        Checks.equal(List.of("three\t3"), records(read));
    }

    private static List<String> records(String printed) {
        return printed.lines().filter(it -> it.contains("\t")).toList();
    }

    private void groups() throws Exception {
        has("listeners\\s+Classic", run(GroupsCommand::main, "--list",
            "--bootstrap-server"));
        has("listeners", run(GroupsCommand::main, "--list", "--consumer", "--bootstrap-server"));
    }

    private void consumerGroups() throws Exception {
        String[] group = {"--group", "listeners"};
        Main main = ConsumerGroupCommand::main;
        has("(?m)^listeners$", run(main, "--list", "--bootstrap-server"));
        has("listeners\\s+\\S*\\s*Empty", run(main, "--list", "--state", "--bootstrap-server"));
        has("listeners\\s+spoken\\s+0\\s+3\\s+3\\s+0", run(main,
            with(group, "--describe", "--bootstrap-server")));
        has("Empty\\s+0", run(main, with(group, "--describe", "--state", "--bootstrap-server")));
        has("has no active members", run(main,
            with(group, "--describe", "--members", "--verbose", "--bootstrap-server")));
        has("listeners\\s+spoken\\s+0\\s+1", run(main, with(group, "--reset-offsets",
            "--to-offset", "1", "--topic", "spoken", "--execute", "--bootstrap-server")));
        has("listeners\\s+spoken\\s+0\\s+1\\s+3\\s+2", run(main,
            with(group, "--describe", "--offsets", "--bootstrap-server")));
        has("listeners\\s+spoken\\s+0\\s+3", run(main, with(group, "--reset-offsets", "--to-latest",
            "--all-topics", "--dry-run", "--bootstrap-server")));
        run(main, "--group", "listeners", "--delete-offsets", "--topic", "spoken",
            "--bootstrap-server");
        run(main, "--group", "measurers", "--delete", "--bootstrap-server");
        Checks.that(!has("(?m)^measurers$", () -> run(main, "--list", "--bootstrap-server")),
            "it was not deleted");
        has("GroupIdNotFoundException",
            ran(main, "--group", "nobody", "--describe", "--bootstrap-server"));
    }

    private void deleteRecords() throws Exception {
        Path file = Files.createTempFile("delete-records", ".json");
        try {
            Files.writeString(file, "{\"version\":1,\"partitions\":["
                + "{\"topic\":\"load\",\"partition\":0,\"offset\":1000}]}");
            has("partition: load-0\\s+low_watermark: 1000", run(DeleteRecordsCommand::main,
                "--offset-json-file", file.toString(), "--bootstrap-server"));
        } finally {
            Files.delete(file);
        }
        has("(?m)^load:0:1000$", run(GetOffsetShell::main, "--topic", "load", "--time", "-2",
            "--bootstrap-server"));
    }

    private void logDirs() throws Exception {
        String printed = run(LogDirsCommand::main, "--describe", "--topic-list", "load",
            "--bootstrap-server");
        has("\"partition\":\"load-0\",\"size\":[1-9]", printed.replace(" ", ""));
    }

    private void quorum() throws Exception {
        String status = run(MetadataQuorumCommand::main, "--bootstrap-server", "describe",
            "--status");
        has("LeaderId:\\s+" + node, status);
        String replicas = run(MetadataQuorumCommand::main, "--bootstrap-server", "describe",
            "--replication");
        has(node + "\\s.*Leader", replicas);
    }

    private void election() throws Exception {
        String printed = run(LeaderElectionCommand::main, "--election-type", "preferred", "--topic",
            "load", "--partition", "0", "--bootstrap-server");
        has("Valid replica already elected for partitions load-0", printed);
    }

    private void reassign() throws Exception {
        has("No partition reassignments found", run(ReassignPartitionsCommand::main, "--list",
            "--bootstrap-server"));
    }

    private void versions() throws Exception {
        String printed = run(BrokerApiVersionsCommand::main, "--bootstrap-server");
        has("Produce\\(0\\): 0 to 13 \\[usable: 13\\]", printed);
        has("Fetch\\(1\\): 4 to 18 \\[usable: 18\\]", printed);
    }

    private void verifiableProducer() throws Exception {
        create("verified", 2);
        // It sends the last ones when its process ends.
        String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
        Process process = new ProcessBuilder(java, "-XX:TieredStopAtLevel=1", "-cp",
            System.getProperty("java.class.path"), VerifiableProducer.class.getName(), "--topic",
            "verified", "--max-messages", "200", "--repeating-keys", "5", "--bootstrap-server",
            checks.broker()).start();
        String printed = new String(process.getInputStream().readAllBytes());
        Checks.equal(0, process.waitFor());
        Checks.equal(200L,
            printed.lines().filter(it -> it.contains("producer_send_success")).count());
        has("\"sent\":200", printed);
        has("\"acked\":200", printed);
    }

    private void verifiableConsumer() throws Exception {
        String printed = run(VerifiableConsumer::main, "--topic", "verified", "--group-id",
            "verifiers", "--reset-policy", "earliest", "--max-messages", "200",
            "--bootstrap-server");
        has("\"partitions_assigned\"", printed);
        has("\"offsets_committed\"", printed);
        has("\"shutdown_complete\"", printed);
        long count = 0;
        var consumed = Pattern.compile("\"records_consumed\".*?\"count\":(\\d+)|\"count\":(\\d+).*?"
            + "\"records_consumed\"");
        for (String line : printed.lines().toList()) {
            var match = consumed.matcher(line);
            if (match.find()) {
                count += Long.parseLong(match.group(1) == null ? match.group(2) : match.group(1));
            }
        }
        Checks.equal(200L, count);
    }

    private void create(String topic, int partitions) throws Exception {
        run(TopicCommand::main, "--create", "--topic", topic, "--partitions", "" + partitions,
            "--bootstrap-server");
        becomes("Topic: " + topic, TopicCommand::main, "--describe", "--topic", topic,
            "--bootstrap-server");
    }

    /** What a tool printed that had to succeed. */
    private String run(Main main, String... arguments) throws Exception {
        return exits(0, main, arguments);
    }

    private String exits(int code, Main main, String... arguments) throws Exception {
        String printed = ran(main, arguments);
        Checks.that(exited == null ? code == 0 : exited == code,
            String.join(" ", arguments) + " ended with " + exited + ": " + printed);
        return printed;
    }

    /** What a tool printed, however it ended. */
    private String ran(Main main, String... arguments) throws Exception {
        exited = null;
        List<String> all = new ArrayList<>(List.of(arguments));
        all.add(all.indexOf("--bootstrap-server") + 1, checks.broker());
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream out = System.out;
        PrintStream err = System.err;
        PrintStream caught = new PrintStream(printed, true, StandardCharsets.UTF_8);
        System.setOut(caught);
        System.setErr(caught);
        try {
            main.run(all.toArray(new String[0]));
        } catch (Exited exit) {
            Checks.that(exited != null, "it left without a code");
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        return printed.toString(StandardCharsets.UTF_8);
    }

    /** A controller's word takes a moment to reach the broker. */
    private String becomes(String pattern, Main main, String... arguments) throws Exception {
        String[] last = {""};
        Checks.until(pattern, () -> has(pattern, () -> last[0] = ran(main, arguments)));
        return last[0];
    }

    private interface Printed {
        String get() throws Exception;
    }

    private static boolean has(String pattern, Printed printed) {
        try {
            return Pattern.compile(pattern).matcher(printed.get()).find();
        } catch (Exception error) {
            throw new AssertionError(error);
        }
    }

    private static void has(String pattern, String printed) {
        Checks.that(Pattern.compile(pattern).matcher(printed).find(),
            "no " + pattern + " in " + printed);
    }

    private static String[] with(String[] first, String... more) {
        List<String> all = new ArrayList<>(List.of(first));
        all.addAll(List.of(more));
        return all.toArray(new String[0]);
    }
}
