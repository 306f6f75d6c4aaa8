# SPDX-License-Identifier: BSD-2-Clause
"""pcapng files, block by block: what a test cuts out of one, or makes of several."""
import struct

SECTION, INTERFACE, PACKET, SECRETS = 0x0A0D0D0A, 1, 6, 10


def read(path):
    """[(type, the whole block)]; little-endian, as all files here are."""
    with open(path, "rb") as f:
        data = f.read()
    blocks, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        blocks.append((kind, data[at:at + size]))
        at += size
    return blocks


def write(path, blocks):
    with open(path, "wb") as f:
        f.write(b"".join(b for _, b in blocks))


def time_of(block):
    """Of a packet, in the interface's units."""
    high, low = struct.unpack_from("<II", block, 12)
    return high << 32 | low


def since(blocks, seconds):
    """Without the packets of the first @seconds; times are microseconds."""
    first = min(time_of(b) for kind, b in blocks if kind == PACKET)
    return [(kind, b) for kind, b in blocks
            if kind != PACKET or time_of(b) - first >= seconds * 1000000]


def holding(blocks, *words):
    """Without the packets that hold none of these bytes."""
    return [(kind, b) for kind, b in blocks if kind != PACKET or any(w in b for w in words)]


def secrets(text):
    """A block of TLS key log lines."""
    body = text + b"\0" * (-len(text) % 4)
    size = 20 + len(body)
    return SECRETS, struct.pack("<IIII", SECRETS, size, 0x544C534B, len(text)) + body + struct.pack("<I", size)


def with_secrets_of(blocks, wanted):
    """With the lines of those client randoms only for which wanted(random) holds."""
    out = []
    for kind, b in blocks:
        if kind == SECRETS:
            text = b[16:16 + struct.unpack_from("<I", b, 12)[0]]
            lines = [x for x in text.splitlines() if wanted(bytes.fromhex(x.split()[1].decode()))]
            kind, b = secrets(b"\n".join(lines) + b"\n")
        out.append((kind, b))
    return out
