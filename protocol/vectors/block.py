"""BLOCK bodies by SPEC.md alone: a second implementation, which the vectors come from.

Example: python3 block.py items.json   rewrites the BLOCK cases of items.json in place.
"""

import json
import sys

LAST, LINE, MEAN, VERBATIM = range(4)
MISSING = None


def s32(value):
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def zigzag(value):
    value = s32(value)
    return ((value << 1) ^ (value >> 31)) & 0xFFFFFFFF


def unzigzag(value):
    return s32((value >> 1) ^ -(value & 1))


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


class Writer:
    def __init__(self):
        self.bits = []

    def put(self, value, count):
        at = len(self.bits)
        self.bits += [value >> (count - 1 - n) & 1 for n in range(count)]
        return at

    def patch(self, at, value, count):
        self.bits[at : at + count] = [value >> (count - 1 - n) & 1 for n in range(count)]

    def bytes(self):
        bits = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(int("".join(map(str, bits[n : n + 8])), 2) for n in range(0, len(bits), 8))


class Reader:
    def __init__(self, data):
        self.bits = [byte >> (7 - n) & 1 for byte in data for n in range(8)]

    def take(self, count):
        if count > len(self.bits):
            raise ValueError("the bits end")
        value = int("".join(map(str, self.bits[:count])) or "0", 2)
        self.bits = self.bits[count:]
        return value


class Channel:
    """The state of one, and both directions."""

    def __init__(self, start):
        self.predictor, self.level = start >> 5 & 3, start & 31
        self.last = self.slope = 0
        self.begun = False
        self.spread = 4 if self.level == 0 else 16 << (self.level - 1)
        self.run_bits = 3
        # Encoder: place of the count and hits so far. Decoder: hits to come, and whether a miss follows.
        self.run = None

    def expected(self):
        slope = {LAST: 0, LINE: self.slope, MEAN: -(self.slope >> 1), VERBATIM: 0}[self.predictor]
        return s32(self.last + slope)

    def parameter(self):
        k = 0
        while 24 << k < self.spread:
            k += 1
        return k

    def learn(self, code, miss):
        if self.begun:
            self.slope = max(-32768, min(32767, s32(code - self.last)))
            self.spread += (16 * min(miss, 1 << 22) - self.spread) >> 3
        self.begun, self.last = True, code

    def end_run(self, hits):
        if hits == (1 << self.run_bits) - 1:
            self.run_bits = min(6, self.run_bits + 1)
        elif hits < 1 << (self.run_bits - 1):
            self.run_bits = max(1, self.run_bits - 1)

    def close(self, out):
        if self.run:
            at, hits = self.run
            out.patch(at, hits, self.run_bits)

    def put(self, code, out):
        if self.predictor == VERBATIM:
            width = self.level + 1
            least = -(1 << (width - 1))
            if code is not MISSING and least < code <= -least - 1:
                out.put(code & (1 << width) - 1, width)
            else:
                out.put(least & (1 << width) - 1, width)
                escape(code, out)
            return
        if not self.begun:
            if code is MISSING:
                out.put(33, 6)
                return
            value = zigzag(code)
            length = value.bit_length()
            out.put(length, 6)
            if length > 1:
                out.put(value & (1 << (length - 1)) - 1, length - 1)
            self.learn(code, 0)
            return
        miss = MISSING if code is MISSING else zigzag(code - self.expected())
        if self.run is None and self.spread >= 6:
            rice(code, miss, self.parameter(), out)
        else:
            if self.run is None:
                self.run = [out.put(0, self.run_bits), 0]
            self.run[1] += miss == 0
            if miss != 0 or self.run[1] == (1 << self.run_bits) - 1:
                self.close(out)
                self.end_run(self.run[1])
                self.run = None
            if miss != 0:
                rice(code, MISSING if miss is MISSING else miss - 1, 0, out)
        if code is not MISSING:
            self.learn(code, miss)

    def take(self, bits):
        expected = self.expected()
        if self.predictor == VERBATIM:
            width = self.level + 1
            value = bits.take(width)
            if value == 1 << (width - 1):
                return unescape(bits)
            return value - (1 << width) if value >> (width - 1) else value
        if not self.begun:
            length = bits.take(6)
            if length == 33:
                return MISSING
            if length > 33:
                raise ValueError("no length")
            code = unzigzag(1 << (length - 1) | bits.take(length - 1)) if length else 0
            self.learn(there(code), 0)
            return code
        if self.run is None and self.spread >= 6:
            code = unrice(expected, 0, self.parameter(), bits)
        else:
            if self.run is None:
                hits = bits.take(self.run_bits)
                self.run = [hits, hits != (1 << self.run_bits) - 1]
                self.end_run(hits)
            if self.run[0] == 0:
                code = unrice(expected, 1, 0, bits)
                self.run = None
            else:
                code = there(expected)
                self.run[0] -= 1
                if self.run == [0, False]:
                    self.run = None
        if code is not MISSING:
            self.learn(code, zigzag(code - expected))
        return code


def there(code):
    if code == -1 << 31:
        raise ValueError("a missing code, spelled out")
    return code


def escape(code, out):
    out.put(int(code is MISSING), 1)
    if code is not MISSING:
        out.put(code & 0xFFFFFFFF, 32)


def unescape(bits):
    return MISSING if bits.take(1) else there(s32(bits.take(32)))


def rice(code, miss, k, out):
    if code is MISSING or miss >> k >= 16:
        out.put(0xFFFF, 16)
        escape(code, out)
    else:
        out.put((1 << (miss >> k)) - 1, miss >> k)
        out.put(0, 1)
        out.put(miss & (1 << k) - 1, k)


def unrice(expected, least, k, bits):
    ones = 0
    while ones < 16 and bits.take(1):
        ones += 1
    if ones == 16:
        return unescape(bits)
    return there(s32(expected + unzigzag((ones << k | bits.take(k)) + least)))


def encode(first_seq, period, rows, starts, time_start=4):
    """Rows are (tick, codes)."""
    out, time = Writer(), Channel(time_start)
    channels = [Channel(start) for start in starts]
    for index, (tick, codes) in enumerate(rows):
        if period == 0 and index > 0:
            elapsed = tick - rows[index - 1][0]
            if elapsed < 1 << 31:
                time.put(elapsed, out)
            else:
                time.put(MISSING, out)
                out.put(elapsed, 64)
        for channel, code in zip(channels, codes):
            channel.put(code, out)
    for channel in [time, *channels]:
        channel.close(out)
    marks = [start | 0x80 for start in starts[:-1]] + [starts[-1]]
    starts = ([time_start] if period == 0 else []) + marks
    return head_of(first_seq, period, rows) + bytes(starts) + out.bytes()


def head_of(first_seq, period, rows):
    """The first tick as a distance from where the period alone would put it, modulo 2^64, zigzag."""
    distance = (rows[0][0] - first_seq * period) % (1 << 64)
    folded = distance << 1 if distance < 1 << 63 else 2 * ((1 << 64) - distance) - 1
    return b"".join(map(varint, [first_seq, period, folded, len(rows)]))


def decode(period, first_tick, count, starts, data, time_start=4):
    bits, time = Reader(data), Channel(time_start)
    channels = [Channel(start) for start in starts]
    tick, rows = first_tick, []
    for index in range(count):
        if index > 0 and period == 0:
            elapsed = time.take(bits)
            tick += bits.take(64) if elapsed is MISSING else elapsed
        elif index > 0:
            tick += period
        rows.append((tick, [channel.take(bits) for channel in channels]))
    assert len(bits.bits) < 8 and not any(bits.bits)
    return rows


def case(name, first_seq, period, rows, starts=None, time_start=4):
    """Without starts: as the first block of a device has them, which can be built again."""
    own = starts is not None
    starts = starts or [4] * len(rows[0][1])
    body = encode(first_seq, period, rows, starts, time_start)
    head = len(head_of(first_seq, period, rows))
    data = body[head + len(starts) + (period == 0) :]
    assert decode(period, rows[0][0], len(rows), starts, data, time_start) == rows, name
    meaning = {
        "first_seq": str(first_seq),
        "first_tick": str(rows[0][0]),
        "period": period,
        "rows": [
            {"seq": str(first_seq + n), "tick": str(tick), "codes": codes}
            for n, (tick, codes) in enumerate(rows)
        ],
    }
    whole = {"name": f"BLOCK: {name}", "kind": 3, "body": body.hex(), "meaning": meaning}
    return whole | ({"starts": "of its own"} if own else {})


def fixed(period, first_tick, codes):
    return [(first_tick + n * period, list(row)) for n, row in enumerate(codes)]


def walk(count, steps, start=0):
    """A repeatable walk with steps of -steps to steps."""
    state, code, codes = 12345, start, []
    for _ in range(count):
        codes.append(code)
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        code += (state >> 16) % (2 * steps + 1) - steps
    return codes


def valid():
    three = [[440, 512, 0], [441, None, 0], [441, 511, 1], [438, 511, None]]
    still = [[7, 1000]] * 20 + [[8, 1000]] + [[8, 1000]] * 90 + [[8, None], [8, 1001], [9, 1001]]
    noisy = list(zip(walk(40, 1, 2150), walk(40, 30, -400), walk(40, 5000)))
    ramp = [[n * n // 7, 3 * n, -n] for n in range(40)]
    white = [[(n * 40503) % 65536 - 32768, (n * 977) % 256 - 128] for n in range(24)]
    extremes = [[0x7FFFFFFF, -0x7FFFFFFF], [-0x7FFFFFFF, 0x7FFFFFFF]]
    own = [(1 << 33, [0]), ((1 << 33) + 1, [-1]), ((1 << 33) + 1, [1]), ((1 << 33) + 100_000, [None])]
    event = [(10_000 * n + n % 3, [n % 2]) for n in range(30)]
    late = [(0, [5]), ((1 << 31) - 1, [5]), (1 << 32, [5]), ((1 << 64) - 1, [5])]
    return [
        case("one reading", 0, 3277, [(5000, [440])]),
        case("fixed period, three channels, one missing", 30, 3277, fixed(3277, 100_000, three)),
        case("runs, and what ends them", 0, 10, fixed(10, 0, still)),
        case("small, middling and large steps", 100, 328, fixed(328, 1 << 40, noisy)),
        case("ticks of their own", 7, 0, own),
        case("nearly regular ticks of their own", 7, 0, event),
        case("ticks far apart", 0, 0, late),
        case("extremes", (1 << 64) - 3, 10, fixed(10, (1 << 64) - 21, extremes)),
        case("32 channels", 0, 1, fixed(1, 0, [[0] * 32] * 2)),
        case("nothing but missing", 0, 1, fixed(1, 0, [[None, None]] * 3)),
        case("lines", 1, 5, fixed(5, 9, ramp), [LINE << 5 | 1, LINE << 5, LINE << 5 | 3]),
        case("means", 1, 5, fixed(5, 9, noisy), [MEAN << 5 | 1, MEAN << 5 | 6, MEAN << 5 | 12]),
        case("quiet from the start", 0, 10, fixed(10, 0, still), [0, 0]),
        case("verbatim", 0, 10, fixed(10, 0, white), [VERBATIM << 5 | 15, VERBATIM << 5 | 7]),
        case("verbatim, with escapes", 0, 10, fixed(10, 0, still), [VERBATIM << 5 | 3, 0x7F]),
        case("the highest level", 0, 1, fixed(1, 0, extremes * 3), [23, 23]),
    ]


def malformed():
    three = case("", 30, 3277, fixed(3277, 100_000, [[440, 512, 0], [441, None, 0]]))["body"]
    one = lambda *tail: (bytes([0, 1, 0, 1]) + bytes(tail)).hex()
    rows = lambda count, *tail: (bytes([0, 1, 0]) + varint(count) + bytes(tail)).hex()
    late = encode(0, 0, [(0, [1]), (1, [1])], [4])
    bodies = {
        "cut": three[:-2],
        "a byte too many": three + "00",
        "a bit too many": three[:-2] + f"{int(three[-2:], 16) | 1:02x}",
        "no rows": rows(0, 4, 0),
        "no starts": one(),
        "starts without an end": one(0x84, 0x84),
        "33 channels": one(*[0x84] * 32, 4, *[0] * 25),
        "a level above 23": one(24, 0),
        "65536 rows": rows(65536, 4, *[0] * 590),
        "count beyond the bytes": rows(65535, 4, *[0] * 590),
        "time with another start behind it": (bytes([0, 0, 0, 1, 0x84, 4, 0])).hex(),
        "ticks beyond 64 bits": ("000001" + late.hex()[6:]),
        "numbers beyond 64 bits": ("ff" * 9 + "01" + "010001" + "0400"),
        "a code that means missing, spelled out": one(4, 0b10000011, 0xFF, 0xFF, 0xFF, 0xFC + 2),
        "a length of 34": one(4, 34 << 2),
    }
    return [{"name": f"BLOCK: {name}", "kind": 3, "body": body} for name, body in bodies.items()]


def lines(content):
    """JSON with a line for each case."""
    text = lambda value: json.dumps(value, ensure_ascii=False)
    lists = (
        f" {text(key)}: [\n" + ",\n".join(f"  {text(case)}" for case in cases) + "\n ]"
        for key, cases in content.items()
    )
    return "{\n" + ",\n".join(lists) + "\n}\n"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        content = json.load(file)
    for key, blocks in (("valid", valid()), ("malformed", malformed())):
        content[key] = [case for case in content[key] if case["kind"] != 3] + blocks
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(lines(content))
