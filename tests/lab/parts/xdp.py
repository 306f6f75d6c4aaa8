# SPDX-License-Identifier: BSD-2-Clause
"""An XDP program of somebody else's, and who is on an interface."""
import contextlib
import ctypes
import json
import os
import platform
import struct

from .net import inside
from .proc import LIBC, LabError, run

SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 321)
PROG_LOAD, LINK_CREATE = 5, 28
PROG_TYPE_XDP, ATTACH_XDP = 6, 37
MODES = {"generic": 2, "native": 4}


def _bpf(command, attr):
    buffer = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    fd = LIBC.syscall(SYS_BPF, command, buffer, 128)
    if fd < 0:
        raise LabError(f"bpf({command}): {os.strerror(ctypes.get_errno())}")
    return fd


@contextlib.contextmanager
def stranger(host, mode, interface="eth0"):
    """A program that passes everything, on an interface as long as this lasts."""
    code = ctypes.create_string_buffer(struct.pack("<QQ", 2 << 32 | 0xb7, 0x95))       # r0 = XDP_PASS; exit
    name = ctypes.create_string_buffer(b"GPL\0")
    prog = _bpf(PROG_LOAD, struct.pack("<IIQQIIQI", PROG_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(name),
                                       0, 0, 0, 0))
    link = None
    try:
        with inside(host.ns):
            with open("/proc/thread-self/net/dev") as f:
                assert any(line.strip().startswith(interface + ":") for line in f), interface
            index = int(json.loads(run("ip", "-n", host.ns, "-j", "link", "show", interface))[0]["ifindex"])
            link = _bpf(LINK_CREATE, struct.pack("<IIII", prog, index, ATTACH_XDP, MODES[mode]))
        yield
    finally:
        for fd in (link, prog):
            if fd is not None:
                os.close(fd)


def attached(host, interface="eth0"):
    """The id of the program on an interface, and its mode; None: there is none."""
    row = json.loads(run("ip", "-n", host.ns, "-d", "-j", "link", "show", interface))[0].get("xdp")
    return (row["prog"]["id"], {1: "native", 2: "generic"}.get(row["mode"], row["mode"])) if row else None
