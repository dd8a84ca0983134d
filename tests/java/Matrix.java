import java.util.Set;
import org.apache.kafka.clients.admin.Admin;

/** Apache Kafka's Java clients against a broker. Arguments: its address, and which parts. */
public final class Matrix {
    private Matrix() {
    }

    public static void main(String[] arguments) throws Exception {
        Checks checks = new Checks(arguments[0]);
        Set<String> parts = Set.of(arguments[1].split(","));
        try (Admin admin = Admin.create(checks.settings())) {
            if (parts.contains("clients")) {
                new Producers(checks, admin).run();
                new Consumers(checks, admin).run();
                Groups groups = new Groups(checks, admin);
                groups.run();
                groups.runOverRestart();
                new Producers(checks, admin).runOverRestart();
            }
            if (parts.contains("admin")) {
                new Topics(checks, admin).run();
                new GroupAdmin(checks, admin).run();
                new Questions(checks, admin).run();
            }
            if (parts.contains("tools")) {
                new Tools(checks).run();
            }
        }
        System.exit(checks.exitCode());
    }
}
