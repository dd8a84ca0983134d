import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.function.BooleanSupplier;

/** Runs checks, says what became of each, asks for SIGKILLs of the broker (tests/src/checks.rs). */
final class Checks {
    /** Each wait of a check ends with this. */
    static final Duration DEADLINE = Duration.ofSeconds(60);

    private static final Duration BELATED = Duration.ofSeconds(10);

    /** What is checked. */
    interface Check {
        void run() throws Exception;
    }

    /** Tools print to System.out, which their checks catch. */
    private final PrintStream out = System.out;
    private final BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    private final String broker;
    private int failed;

    Checks(String broker) {
        this.broker = broker;
    }

    void check(String name, Check check) {
        try {
            check.run();
            out.println("ok " + name);
        } catch (Throwable error) {
            failed++;
            out.println("FAILED " + name + ": " + oneLine(error));
        }
    }

    /** Returns when the broker has been killed and serves again. */
    void restart() throws Exception {
        out.println("restart");
        out.flush();
        in.readLine();
    }

    int exitCode() {
        return failed == 0 ? 0 : 1;
    }

    /** Configuration of any client. */
    Map<String, Object> settings(Object... more) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", broker);
        for (int i = 0; i < more.length; i += 2) {
            settings.put((String) more[i], more[i + 1]);
        }
        return settings;
    }

    String broker() {
        return broker;
    }

    static void equal(Object expected, Object got) {
        that(Objects.equals(expected, got), "expected " + expected + ", got " + got);
    }

    static void that(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    /** The call fails with exactly this. */
    static void fails(Class<? extends Throwable> with, Check call) throws Exception {
        try {
            call.run();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            if (cause.getClass() == with) {
                return;
            }
            throw new AssertionError("expected " + with.getSimpleName() + ", got " + cause, cause);
        }
        throw new AssertionError("expected " + with.getSimpleName() + ", it succeeded");
    }

    /** Each look may itself wait a little. */
    static void until(String what, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (!condition.getAsBoolean()) {
            that(System.nanoTime() < end, "in vain: " + what);
            Thread.sleep(10);
        }
    }

    /** What may take a moment: the controller has done it, and the broker hears of it. */
    static void becomes(Object expected, Callable<Object> got) throws Exception {
        long end = System.nanoTime() + BELATED.toNanos();
        while (true) {
            Object now = null;
            try {
                now = got.call();
            } catch (ExecutionException error) {
                // Not known there yet.
                now = error.getCause();
            }
            if (Objects.equals(expected, now) || System.nanoTime() > end) {
                equal(expected, now);
                return;
            }
            Thread.sleep(10);
        }
    }

    private static String oneLine(Throwable error) {
        StringBuilder text = new StringBuilder(String.valueOf(error));
        for (StackTraceElement at : error.getStackTrace()) {
            String file = String.valueOf(at.getFileName());
            if (at.getClassName().indexOf('.') < 0 && !file.equals("Checks.java")) {
                text.append(" at ").append(file).append(':').append(at.getLineNumber());
                break;
            }
        }
        return text.toString().replace('\n', ' ');
    }
}
