"""What the programs of the clients share: checks that say what became of them, and what is written.

See tests/src/checks.rs. Each program's only argument is the broker's address.
"""

import sys
import time
import traceback

BROKER = sys.argv[1]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# Records of each codec.
EACH = 100
# Within any retention, and not the time at which anything is appended.
BASE_MS = int(time.time() * 1000) - 3_600_000
DEADLINE_S = 60
# What the controller did and the broker has not heard of.
BELATED_S = 10

failed = False


class check:
    """A block whose failure is told and does not end the program."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        global failed
        if kind is None:
            print(f"ok {self.name}", flush=True)
            return False
        if not issubclass(kind, Exception):
            return False
        failed = True
        line = traceback.extract_tb(trace)[-1].lineno
        text = " ".join(repr(error).split())
        print(f"FAILED {self.name}: {text} (line {trace.tb_lineno}, {line})", flush=True)
        traceback.print_exception(kind, error, trace)
        return True


def equal(expected, got):
    assert expected == got, f"expected {expected!r}, got {got!r}"


def fails(kinds, call):
    """The call raises one of these, which is returned."""
    try:
        call()
    except kinds as error:
        return error
    raise AssertionError("it succeeded")


def until(what, condition, deadline=DEADLINE_S):
    """Each look may itself wait a little."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.01)


def restart():
    """Returns when the broker has been killed and serves again."""
    print("restart", flush=True)
    sys.stdin.readline()


def letter(number):
    """Key, value, headers and time; some without key, some without value, one header name twice."""
    key = None if number % 10 == 1 else f"key {number % 7}".encode()
    value = None if number % 10 == 2 else f"letter {number} {'x' * (number % 50)}".encode()
    headers = [("n", str(number).encode()), ("n", b"again"), ("empty", b"")]
    return key, value, headers, BASE_MS + number


def finish():
    sys.exit(1 if failed else 0)
