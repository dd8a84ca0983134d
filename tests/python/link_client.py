"""A device of the link over TCP, written from protocol/SPEC.md and the standard library alone.

It samples readings at a steady rate, keeps them in memory until the gateway says that they are durable, and connects again
whenever the connection ends. `Device` takes bytes and time and gives bytes; `main` owns the socket and the ledger."""

import argparse
import json
import math
import os
import select
import socket
import time

# Types of frames, kinds of items, verdicts: section 3 and 4.
HELLO_REQ, HELLO_ACK, ACK, TIME_REQUEST, COMMAND = range(1, 6)
HELLO, ITEM, TIME_ANSWER, DESCRIPTION, RESULT = 0x41, 0x42, 0x43, 0x44, 0x46
BOOT, SCHEMA, BLOCK = 1, 2, 3
ACCEPTED, ACCEPTED_DESCRIBE, ASSIGNED = 0, 1, 2
VERSION = 1
# Seconds: first, and at most. The timers of section 5.
HELLO_WAIT, HELLO_WAIT_MOST = 0.5, 30
RETRANSMISSION, PROBE = "retransmission", "probe"
TIMERS = {RETRANSMISSION: (0.5, 10), PROBE: (1, 30), None: (math.inf, math.inf)}
RECEIVE_MAX = 640
TICK_HZ = 1_000_000
# Name, unit, mantissa, exponent, width in bits.
CHANNELS = [("number", "", 1, 0, 32), ("wave", "mm/s", 5, -2, 16), ("still", "Cel", 1, -1, 12)]
# So few that 600 bytes hold them whatever their codes are: 49 bits at most for each code and each row's time.
BLOCK_READINGS = 23
CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def zigzag(value, bits=32):
    return (value << 1 ^ value >> bits - 1) & (1 << bits) - 1


def signed(value, bits=32):
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


def short(text):
    return bytes([len(text.encode())]) + text.encode()


def frame(kind, body):
    """A whole frame. The delimiter before it is not always necessary, but always allowed."""
    plain = bytes([kind]) + varint(len(body)) + body
    plain += u32(crc32c(plain))
    out, block = bytearray(b"\0"), bytearray()
    for at, byte in enumerate(plain):
        if byte:
            block.append(byte)
        if not byte or len(block) == 254 and at + 1 < len(plain):
            out += bytes([len(block) + 1]) + block
            block.clear()
    return bytes(out) + bytes([len(block) + 1]) + block + b"\0"


def unframe(coded):
    """Type and body of what lay between two delimiters."""
    plain, at = bytearray(), 0
    while at < len(coded):
        code = coded[at]
        if at + code > len(coded):
            raise ValueError("COBS")
        plain += coded[at + 1 : at + code]
        at += code
        if code < 255 and at < len(coded):
            plain.append(0)
    reader = Reader(bytes(plain))
    kind, length = reader.uint(1), reader.varint()
    body = reader.take(length)
    if reader.uint(4) != crc32c(plain[:-4]) or reader.at != len(plain) or len(plain) > RECEIVE_MAX:
        raise ValueError("length or CRC")
    return kind, body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise ValueError("too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def uint(self, count):
        return int.from_bytes(self.take(count), "little")

    def varint(self, bits=64):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.uint(1)
            value |= (byte & 127) << shift
            if byte < 128:
                if value >> bits or shift and not byte:
                    break
                return value
        raise ValueError("varint")

    def position(self):
        return self.varint(32), self.varint()


def bits(value, count):
    return format(value & (1 << count) - 1, f"0{count}b") if count else ""


def rice(miss, k, code):
    if code is None:
        return "1" * 17
    if miss >> k >= 16:
        return "1" * 16 + "0" + bits(code, 32)
    return "1" * (miss >> k) + "0" + bits(miss, k)


def last(codes, level):
    """The codes of one channel as strings of bits, one for each row; None is a missing code."""
    rows, before, spread = [], None, 16 << level - 1 if level else 4
    run_bits, hits, was_largest = 3, None, False  # hits: how many are left of the run, None outside of one
    for at, code in enumerate(codes):
        if before is None:
            head = 0 if code is None else zigzag(code)
            length = 33 if code is None else head.bit_length()
            rows.append(bits(length, 6) + (bits(head, length - 1) if head else ""))
            before = code
            continue
        miss = None if code is None else zigzag(signed(code - before))
        if hits:
            rows.append("")
            hits -= 1
        elif hits == 0 and not was_largest:
            rows.append(rice(miss and miss - 1, 0, code))
            hits = None
        elif spread < 6:
            largest = (1 << run_bits) - 1
            alike = (n for n, code in enumerate(codes[at:]) if code != before)
            hits = min(next(alike, len(codes) - at), largest)
            was_largest = hits == largest
            rows.append(bits(hits, run_bits) + ("" if hits else rice(miss and miss - 1, 0, code)))
            if was_largest:
                run_bits = min(run_bits + 1, 6)
            elif hits < 1 << run_bits - 1:
                run_bits = max(run_bits - 1, 1)
            hits = hits - 1 if hits else None
        else:
            rows.append(rice(miss, next(k for k in range(32) if 24 << k >= spread), code))
            hits = None
        if code is not None:
            spread += (16 * min(miss, 1 << 22) - spread) // 8
            before = code
    return rows


def shortest(codes):
    """The start byte of predictor 0 whose level suits these codes best, and their rows."""
    ways = [(level, last(codes, level)) for level in (0, 2, 5, 9, 14)]
    return min(ways, key=lambda way: sum(map(len, way[1])))


def block(first_seq, readings):
    """The body of a BLOCK whose rows carry their own ticks; a reading is its tick and its codes."""
    ticks = [tick for tick, _ in readings]
    time_start, times = shortest([after - tick for tick, after in zip(ticks, ticks[1:])])
    starts, columns = zip(*(shortest(codes) for codes in zip(*(codes for _, codes in readings))))
    rows = "".join(map("".join, zip(["", *times], *columns)))
    rows += "0" * (-len(rows) % 8)
    starts = [start | 128 for start in starts[:-1]] + [starts[-1]]
    head = varint(first_seq) + varint(0) + varint(zigzag(signed(ticks[0], 64), 64))
    head += varint(len(readings)) + bytes([time_start, *starts])
    return head + int(rows, 2).to_bytes(len(rows) // 8, "big")


def channel(name, unit, mantissa, exponent, width):
    scale = varint(zigzag(mantissa)) + bytes([exponent & 255, width])
    return short(name) + short(unit) + scale + varint(0)  # read at no fixed period


def schema_hash(channels):
    value = 0xCBF29CE484222325
    for byte in bytes([len(channels)]) + b"".join(channels):
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


class State:
    """Boot counter and stream in a file: what outlives a reset."""

    def __init__(self, path):
        self.path, self.boot, self.stream = path, 0, 0
        if os.path.exists(path):
            with open(path) as file:
                self.boot, self.stream = json.load(file)

    def store(self):
        with open(self.path + ".new", "w") as file:
            json.dump([self.boot, self.stream], file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)


class Device:
    """Sections 4 and 5. `durable`, `received`, `sent`, `cursor` and `next` are one past the last item that is durable, has
    arrived, was sent, was sent since going back, and was queued; items of this boot count from 0."""

    def __init__(self, name, state, ledger, now):
        self.name, self.state, self.ledger = name, state, ledger
        state.boot += 1
        state.store()
        self.boot = state.boot
        ledger("X", self.boot, "power")
        if state.stream:
            ledger("S", self.boot, f"{state.stream:016x}")
        self.items, self.transmissions, self.readings, self.seq = [], [], [], 0
        self.durable = self.received = self.sent = self.cursor = self.next = 0
        self.pending, self.buffer, self.errors = b"", b"", 0
        self.attempt, self.session, self.in_session = 1, 0, False
        self.window, self.timer, self.expiries, self.went_back = 0, None, 0, False
        self.wait, self.deadline = HELLO_WAIT, now
        self.sent_again = 0
        channels = [channel(*each) for each in CHANNELS]
        hashed = u64(schema_hash(channels))
        self.description = [(BOOT, b"\1" + varint(TICK_HZ) + hashed + varint(0))]
        for index, each in enumerate(channels):
            self.description.append((SCHEMA, hashed + bytes([index, len(channels)]) + each))
        for kind, body in self.description:
            self.queue(kind, body)

    def queue(self, kind, body):
        # The items of the boot before are gone with its memory; without a stream there was none.
        predecessor = (0, b"") if self.next else (1, b"") if self.state.stream else (2, b"\0\0")
        self.items.append((kind, predecessor, body))
        self.transmissions.append(0)
        self.next += 1

    def sample(self, tick, codes):
        self.ledger("R", self.boot, self.seq, *("-" if code is None else code for code in codes))
        self.readings.append((tick, codes))
        self.seq += 1
        if len(self.readings) == BLOCK_READINGS:
            self.seal()

    def seal(self):
        if self.readings:
            first = self.seq - len(self.readings)
            self.ledger("B", self.boot, self.next, first, len(self.readings))
            self.queue(BLOCK, block(first, self.readings))
            self.readings = []

    def connected(self, now):
        self.buffer = self.pending = b""
        self.end_session(now)

    def end_session(self, now):
        self.in_session, self.wait = False, HELLO_WAIT
        self.attempt += 1
        self.hello(now)

    def hello(self, now):
        body = bytes([VERSION, VERSION]) + short(self.name) + u64(self.state.stream)
        body += varint(self.attempt) + self.position(self.durable) + self.position(self.next)
        # It promises no sign of life and always listens.
        self.pending += frame(HELLO, body + varint(RECEIVE_MAX) + varint(0) + varint(0))
        if not self.in_session:
            self.deadline = now + self.wait

    def position(self, item):
        return varint(self.boot) + varint(item)

    def count(self, position):
        """How many items of this boot lie at or below a position."""
        boot, item = position
        return item + 1 if boot == self.boot else 0 if boot < self.boot else math.inf

    def receive(self, data, now):
        *frames, self.buffer = (self.buffer + data).split(b"\0")
        if len(self.buffer) > 2 * RECEIVE_MAX:
            self.buffer = b"\xff"  # whatever follows up to the next delimiter is no frame
        for coded in filter(None, frames):
            try:
                kind, body = unframe(coded)
            except ValueError:
                self.errors += 1
                continue
            try:
                self.take(kind, Reader(body), now)
            except ValueError:
                pass  # malformed: nothing changes

    def take(self, kind, reader, now):
        if kind not in (HELLO_REQ, HELLO_ACK, ACK, TIME_REQUEST, COMMAND):
            return
        session = reader.uint(4)
        if kind == HELLO_REQ and session:
            if session == self.session:
                self.hello(now)
            else:
                self.session = session
                self.end_session(now)
        elif kind == HELLO_ACK and session:
            self.take_hello_ack(session, reader, now)
        elif self.in_session and session == self.session:
            {ACK: self.take_ack, TIME_REQUEST: self.tell_time, COMMAND: self.refuse}[kind](reader, now)

    def take_hello_ack(self, session, reader, now):
        boot, attempt = reader.varint(32), reader.varint(32)
        version, verdict, stream = reader.uint(1), reader.uint(1), reader.uint(8)
        start, window = self.count(reader.position()), reader.varint(32)
        accepted = verdict in (ACCEPTED, ACCEPTED_DESCRIBE)
        if (boot, attempt) != (self.boot, self.attempt):
            return
        if accepted and (stream != self.state.stream or version != VERSION or start > self.next):
            return
        if verdict == ASSIGNED and stream not in (0, self.state.stream):
            self.state.stream = stream
            self.state.store()
            self.ledger("S", self.boot, f"{stream:016x}")
            self.end_session(now)
        elif self.in_session and (not accepted or session != self.session):
            self.end_session(now)
        elif accepted:
            self.free(start)
            if not self.in_session:
                self.in_session, self.session, self.window = True, session, window
                self.received = self.sent = self.cursor = self.durable
                self.timer, self.expiries, self.went_back = None, 0, False
            if verdict == ACCEPTED_DESCRIBE:
                for kind, body in self.description:
                    self.pending += frame(DESCRIPTION, varint(self.boot) + bytes([kind]) + body)

    def take_ack(self, reader, now):
        stream, durable, received = reader.uint(8), reader.position(), reader.position()
        reader.varint(32)  # the bitmap: this device sends more again than it has to
        window, echo = reader.varint(32), reader.uint(1)
        durable, received = self.count(durable), self.count(received)
        if stream != self.state.stream or max(durable, received) > self.sent:
            return
        moved = durable > self.durable or received > self.received
        if moved or self.received == self.sent:
            self.expiries = 0
        if moved or self.received == self.sent and window > self.window:
            self.timer = None  # starts anew
        if received > self.received:
            self.went_back = False
        elif echo & 8 and self.received < self.sent and not self.went_back:
            self.cursor, self.went_back = self.received, True
        self.window, self.received = window, max(self.received, received, durable)
        self.cursor = max(self.cursor, self.received)
        self.free(durable)

    def free(self, durable):
        if durable > self.durable:
            del self.items[: durable - self.durable], self.transmissions[: durable - self.durable]
            self.durable = durable
            self.ledger("A", self.boot, durable - 1)

    def tell_time(self, reader, now):
        body = varint(reader.varint(32)) + varint(self.boot) + varint(int(now * TICK_HZ))
        self.pending = frame(TIME_ANSWER, body + varint(self.errors) + varint(0)) + self.pending

    def refuse(self, reader, now):
        """It knows no command; 2: meant for another boot, 3: no such command."""
        boot, number = reader.varint(32), reader.varint()
        status = bytes([3 if boot == self.boot else 2])
        self.pending += frame(RESULT, varint(number) + varint(self.boot) + status)

    def fits_window(self):
        *before, item = [len(body) for _, _, body in self.items[: self.cursor - self.durable + 1]]
        return self.window and (not before or sum(before) + item <= self.window)

    def send(self):
        index = self.cursor - self.durable
        kind, (code, predecessor), body = self.items[index]
        self.sent_again += self.transmissions[index] > 0
        self.transmissions[index] = min(self.transmissions[index] + 1, 7)
        head = bytes([kind | code << 3 | self.transmissions[index] << 5])
        self.pending += frame(ITEM, head + self.position(self.cursor) + predecessor + body)
        self.cursor += 1
        self.sent = max(self.sent, self.cursor)

    def transmit(self, now):
        """What is to be written now."""
        if now >= self.deadline:
            self.expire(now)
        while self.in_session and self.cursor < self.next and self.fits_window():
            self.send()
        if self.in_session:
            self.arm(now)
        out, self.pending = self.pending, b""
        return out

    def expire(self, now):
        if not self.in_session:
            self.wait = min(2 * self.wait, HELLO_WAIT_MOST)
            return self.hello(now)
        self.expiries += 1
        if self.expiries == 4:
            return self.end_session(now)
        self.wait = min(2 * self.wait, TIMERS[self.timer][1])
        self.deadline = now + self.wait
        self.cursor, self.went_back = self.received, False
        if self.timer == PROBE:
            self.cursor = self.durable if self.received == self.next else self.received
            self.send()

    def arm(self, now):
        timer = None
        if self.sent > self.received and self.window:
            timer = RETRANSMISSION
        elif self.next > self.durable:
            timer = PROBE
        if timer != self.timer:
            self.timer = timer
            self.wait = TIMERS[timer][0]
            self.deadline = now + self.wait


def codes(number):
    """What is read: a counter, something that swings, and something that hardly moves and is sometimes missing."""
    still = None if number % 97 < 3 else -40 + number // 250 % 7
    return [number, round(2000 * math.sin(number / 40)), still]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway", help="HOST:PORT of its device listener")
    parser.add_argument("--device", default="python-1")
    parser.add_argument("--state", required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--readings", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="readings a second")
    arguments = parser.parse_args()
    host, port = arguments.gateway.rsplit(":", 1)
    ledger = open(arguments.ledger, "a")

    def note(*fields):
        print(*fields, file=ledger)

    begin = time.monotonic()
    device = Device(arguments.device, State(arguments.state), note, begin)
    link, connections = None, 0
    while device.durable < device.next or device.seq < arguments.readings:
        now = time.monotonic()
        while device.seq < min(arguments.readings, int((now - begin) * arguments.rate)):
            device.sample(int((begin + device.seq / arguments.rate) * TICK_HZ), codes(device.seq))
            if device.seq == arguments.readings:
                device.seal()
        ledger.flush()
        try:
            if link is None:
                link = socket.create_connection((host, int(port)), timeout=5)
                device.connected(now)
                connections += 1
            link.sendall(device.transmit(now))
            # No longer than until the next reading or the next timer.
            if select.select([link], [], [], 0.005)[0]:
                data = link.recv(1 << 16)
                if not data:
                    raise ConnectionError("closed")
                device.receive(data, time.monotonic())
        except OSError:
            if link:
                link.close()
            link = None
            time.sleep(0.05)
    ledger.flush()
    print(f"{device.next} items durable, {connections} connections, {device.sent_again} sent again")


if __name__ == "__main__":
    main()
