"""Messages by SPEC.md alone: a second implementation, which the bodies and frames of the vectors come from.

Example: python3 message.py messages.json   writes the cases of messages.json anew from their fields.
"""

import json
import sys

from block import lines, varint


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def cobs(data):
    """Without the delimiter."""
    out = bytearray()
    parts = data.split(b"\0")
    for number, part in enumerate(parts):
        while len(part) >= 254:
            out += b"\xff" + part[:254]
            part = part[254:]
            if not part and number == len(parts) - 1:
                return bytes(out)
        out += bytes([len(part) + 1]) + part
    return bytes(out)


def frame(kind, body):
    content = bytes([kind]) + varint(len(body)) + body
    return cobs(content + crc32c(content).to_bytes(4, "little")) + b"\0"


def u32(value):
    return value.to_bytes(4, "little")


def u64(hexadecimal):
    return int(hexadecimal, 16).to_bytes(8, "little")


def position(value):
    return b"".join(varint(int(part)) for part in value)


def item(it):
    """Head byte: kind, how the predecessor is named, transmission count."""
    at, before, kind = it["position"], it["predecessor"], it["kind"]
    if before is None:
        form, named = 1, b""
    elif [int(n) for n in before] == [int(at[0]), int(at[1]) - 1]:
        form, named = 0, b""
    else:
        form, named = 2, position(before)
    short, long_kind = (kind, b"") if kind <= 7 else (0, bytes([kind]))
    head = bytes([it["transmission"] << 5 | form << 3 | short])
    return head + long_kind + position(at) + named + bytes.fromhex(it["item"])


BODIES = {
    0x01: lambda it: u32(it["session"]),
    0x02: lambda it: u32(it["session"])
    + varint(it["boot"])
    + varint(it["attempt"])
    + bytes([it["version"], it["verdict"]])
    + u64(it["stream"])
    + position(it["start"])
    + varint(it["window"]),
    0x03: lambda it: u32(it["session"])
    + u64(it["stream"])
    + position(it["durable"])
    + position(it["received"])
    + varint(it["bitmap"])
    + varint(it["window"])
    + bytes([it["echo"] | it["missing"] << 3]),
    0x04: lambda it: u32(it["session"]) + varint(it["id"]) + varint(int(it["wall_ms"])),
    0x05: lambda it: u32(it["session"])
    + varint(it["boot"])
    + varint(int(it["id"]))
    + bytes.fromhex(it["payload"]),
    0x41: lambda it: bytes([it["version_min"], it["version_max"], len(it["device"])])
    + it["device"].encode()
    + u64(it["stream"])
    + varint(it["attempt"])
    + position(it["oldest"])
    + position(it["next"])
    + varint(it["receive_max"])
    + varint(it["longest_silence_ms"])
    + varint(it["listen_window_ms"]),
    0x42: item,
    0x43: lambda it: varint(it["id"])
    + varint(it["boot"])
    + varint(int(it["tick"]))
    + varint(it["errors"])
    + varint(it["overruns"]),
    0x44: lambda it: varint(it["boot"]) + bytes([it["kind"]]) + bytes.fromhex(it["item"]),
    0x45: lambda it: varint(it["boot"])
    + varint(int(it["tick"]))
    + bytes([it["severity"]])
    + varint(it["lost"])
    + it["text"].encode(),
    0x46: lambda it: varint(int(it["id"]))
    + varint(it["boot"])
    + bytes([it["status"]])
    + bytes.fromhex(it["payload"]),
}


def malformed_items():
    """Head, position, predecessor, body."""
    bodies = {
        "transmission 0": "0403060164",
        "boot 0": "2400060164",
        "adjacent predecessor of item 0": "210300",
        "unknown predecessor of item 1": "290301",
        "neighbour named explicitly": "3403060305641c01",
        "its own predecessor": "3403060306641c01",
        "unknown way to name the predecessor": "3c0306641c01",
        "a short kind spelled out": "20040306641c01",
        "no kind": "20",
        "no position": "24",
    }
    return [{"name": f"ITEM: {name}", "type": 0x42, "body": body} for name, body in bodies.items()]


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        content = json.load(file)
    for case in content["valid"]:
        body = BODIES[case["type"]](case["fields"])
        fields = case.pop("fields")
        case |= {"body": body.hex(), "frame": frame(case["type"], body).hex(), "fields": fields}
    others = [case for case in content["malformed"] if case["type"] != 0x42]
    content["malformed"] = others + malformed_items()
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(lines(content))
