# SPDX-License-Identifier: BSD-2-Clause
"""What a user may hand to derptrace: each file that is not what it should be gets one clear line and the designed exit
code, and what was readable of it is reported all the same."""
import gzip
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import zlib

import blocks
import test_captures as captures


def said(done):
    """The one line on standard error."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, (done.args, done.returncode, done.stderr)
    return lines[0]


def test_pcap_of_records():
    """Records hold no packets: derptrace pcap says so, and leaves no file behind."""
    with tempfile.TemporaryDirectory() as d:
        captures.derptrace("record", "-o", f"{d}/a.dtr", captures.capture("meshed-plain.pcap"), code=0)
        for sources in ([f"{d}/a.dtr"], [captures.capture("meshed-plain.pcap"), f"{d}/a.dtr"], ["-"]):
            done = captures.derptrace("pcap", "-o", f"{d}/out.pcapng", *sources, code=2)
            assert f"{sources[-1]}: records hold no packets" in said(done), done.stderr
            assert not os.path.exists(f"{d}/out.pcapng")


def test_capture_of_any_name():
    """A capture is told by how it begins."""
    with tempfile.TemporaryDirectory() as d:
        for name in ("meshed-tls.pcapng", "meshed-plain.pcap"):
            shutil.copy(captures.capture(name), f"{d}/trace")
            r, _ = captures.report(f"{d}/trace", code=0)
            captures.check(r, name)


def test_options_that_exclude_each_other():
    """What cannot be done is refused before anything is."""
    with tempfile.TemporaryDirectory() as d:
        dtr, pcap = f"{d}/a.dtr", captures.capture("unmeshed-tls.pcapng")
        captures.derptrace("record", "-o", dtr, pcap)
        for words, *args in (
                ("--json and --html", "report", "--json", "--html", dtr),
                ("--html is", "report", "--html", "-f", "live"),
                ("--html is", "report", "--html", "--interval", "1s", "live"),
                ("--comm takes a name", "report", "--comm", "", "live"),
                ("a source without a name", "report", ""),
                ("named twice", "report", "live", "live"),
                ("named twice", "report", dtr, f"{d}/./a.dtr")):
            line = said(captures.derptrace(*args, code=2))
            assert words in line and "derptrace " + args[0] in line, (args, line)
        assert os.listdir(d) == ["a.dtr"], os.listdir(d)


def test_options_that_are_not_heeded():
    """Nothing is left out silently: what no source can do, and what is given twice. The rest is done."""
    with tempfile.TemporaryDirectory() as d:
        dtr, pcap = f"{d}/a.dtr", captures.capture("unmeshed-tls.pcapng")
        captures.derptrace("record", "-o", dtr, pcap)
        for words, *args in (
                ("--interval is for", "top", "--interval", "1s", dtr),
                ("--duration is for", "report", "--duration", "1s", dtr),
                ("--pid is for", "report", "--pid", "1", dtr),
                ("--xdp is for", "pcap", "--xdp", "native", "-o", f"{d}/out.pcapng", pcap),
                ("--count is for", "report", "--count", "user", pcap),
                ("--ring is for", "record", "--ring", "4M", "-o", f"{d}/out.dtr", pcap),
                ("--keylog is for", "report", "--keylog", pcap, dtr),
                ("--max-connections is for", "report", "--max-connections", "9", dtr),
                ("--map is of no use", "record", "--map", pcap, "-o", f"{d}/out.dtr", pcap),
                ("--count is of no use", "pcap", "--count", "kernel", "-o", f"{d}/out.pcapng", pcap),
                ("--rows is given twice", "report", "--rows", "3", "--rows", "4", dtr)):
            heard = captures.derptrace(*args, code=None)
            assert heard.returncode in (0, 1), (args, heard)
            assert any(line.startswith(f"derptrace {args[0]}: {words}")
                       for line in heard.stderr.splitlines()), (args, heard.stderr)


def test_records_onto_themselves():
    """What is a source is not written to, which would never end."""
    with tempfile.TemporaryDirectory() as d:
        captures.derptrace("record", "-o", f"{d}/a.dtr", captures.capture("unmeshed-tls.pcapng"))
        before = content(f"{d}/a.dtr")
        line = said(captures.derptrace("record", "-o", f"{d}/./a.dtr", f"{d}/a.dtr", code=3))
        assert "it is a source, too" in line and content(f"{d}/a.dtr") == before, line


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def content(path):
    with open(path, "rb") as f:
        return f.read()


def refused(path, words, *args):
    """Nothing of it can be read: one line, exit code 3."""
    line = said(captures.derptrace("report", "--json", *args, path, code=3))
    assert f"{path}: {words}" in line, (words, line)


def test_not_what_it_seems():
    """Empty, a directory, compressed, cut in its first bytes, something else, not there."""
    with tempfile.TemporaryDirectory() as d:
        captures.derptrace("record", "-o", f"{d}/good.dtr", captures.capture("meshed-plain.pcap"), code=0)
        for name, good in (("a.pcap", captures.capture("meshed-plain.pcap")), ("b.dtr", f"{d}/good.dtr"),
                           ("c.pcapng", captures.capture("meshed-tls.pcapng"))):
            path, whole = f"{d}/{name}", content(good)
            refused(path, "cannot read: No such file")
            os.mkdir(path)
            refused(path, "a directory; name the file inside")
            os.rmdir(path)
            refused(write(path, b""), "")
            assert "empty" in said(captures.derptrace("report", path))
            for size in (1, 4, 9, 15):
                refused(write(path, whole[:size]), "")
            refused(write(path, b"#!/bin/sh\nexit 0\n# of no use to anybody\n"), "no")
            refused(write(path, gzip.compress(whole)), "")
            assert "compressed; unpack it first (gunzip)" in said(captures.derptrace("report", path))


def test_cut_records():
    """Cut anywhere, records say so in one line and at which byte; whole snapshots before it are reported."""
    with tempfile.TemporaryDirectory() as d:
        captures.derptrace("record", "-o", f"{d}/good.dtr", captures.capture("meshed-tls.pcapng"), code=0)
        whole = content(f"{d}/good.dtr")
        for size in range(len(whole) // 2, len(whole), len(whole) // 40):
            path = write(f"{d}/cut.dtr", whole[:size])
            done = captures.derptrace("report", "--json", path, code=3)
            assert f"{path}: cut" in said(done) and f"at byte {size}" in said(done), done.stderr
        assert json.loads(done.stdout)["nodes"], done.stdout
        broken = bytearray(whole)
        broken[len(whole) * 3 // 4] ^= 0x55
        refused(write(f"{d}/broken.dtr", broken), "a damaged block at byte ")


def snapshot_times(path):
    """When the snapshots of a .dtr were taken, as they stand there: of each block's first record, field 3."""
    data, at, times = content(path), 8, []
    while at < len(data):
        _, size, _, _ = struct.unpack_from("<IIII", data, at)
        record = zlib.decompress(data[at + 16:at + 16 + size])[4:]
        at += 16 + size
        p = 9                                   # the agent, eight bytes
        while record[p] >> 3 != 3:              # the node
            p = varint(record, p + 1)[1]
        times.append(varint(record, p + 1)[0])
    return times


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 128:
            return value, at


def test_records_by_time():
    """Records of several files are told in order of time, as captures are, whatever the order they are named in."""
    with tempfile.TemporaryDirectory() as d:
        for name, source in (("a", "meshed-tls.pcapng"), ("b", "meshed-plain.pcap"), ("c", "meshed-tls.pcapng")):
            captures.derptrace("record", "-o", f"{d}/{name}.dtr", captures.capture(source))
        apart = {name: snapshot_times(f"{d}/{name}.dtr") for name in "abc"}
        assert len(apart["a"]) > 1 and apart["a"] == apart["c"] != apart["b"], apart
        for order in ("abc", "cba"):
            captures.derptrace("record", "-o", f"{d}/{order}.dtr", *(f"{d}/{name}.dtr" for name in order))
            assert snapshot_times(f"{d}/{order}.dtr") == sorted(sum(apart.values(), [])), order


def test_cut_captures():
    """A capture that was cut between two blocks is whole, in one it says where; no cut is told as anything else."""
    whole = blocks.read(captures.capture("meshed-tls.pcapng"))
    data = b"".join(b for _, b in whole)
    with tempfile.TemporaryDirectory() as d:
        at = 0
        for n, (_, block) in enumerate(whole):
            if n < 6 or n % 50 == 0:
                path = write(f"{d}/cut.pcapng", data[:at + len(block)])
                done = captures.derptrace("report", "--json", path)
                assert "damaged" not in done.stderr and done.stderr.count("\n") <= 1, done.stderr
                assert done.returncode == (3 if done.stderr else 0), (done.returncode, done.stderr)
                path = write(f"{d}/cut.pcapng", data[:at + len(block) // 2])
                refused(path, f"damaged at byte {at}: the file ends inside a block; ")
            at += len(block)


def test_hostile_lengths():
    """What a block claims of itself is checked where it stands; what came before it is used."""
    whole = blocks.read(captures.capture("meshed-tls.pcapng"))
    n = [i for i, (kind, _) in enumerate(whole) if kind == blocks.PACKET][200]
    at = sum(len(b) for _, b in whole[:n])
    with tempfile.TemporaryDirectory() as d:
        for offset, value, words in ((4, 0xFFFFFFF0, "a block longer than any"),
                                     (4, 8, "a block of an impossible length"),
                                     (4, 0x101, "a block of an impossible length"),
                                     (8, 77, "a packet of an interface"),
                                     (20, 0xFFFFFFFF, "a packet longer than its block")):
            block = bytearray(whole[n][1])
            struct.pack_into("<I", block, offset, value)
            path = f"{d}/hostile.pcapng"
            blocks.write(path, [*whole[:n], (blocks.PACKET, bytes(block)), *whole[n + 1:]])
            refused(path, f"damaged at byte {at}: {words}")
            r, _ = captures.report(path, code=3)
            assert r["nodes"] and r["pairs"], r


def test_key_logs():
    """All bad lines of a key log are one line, said once for several captures; so is one that is none."""
    both = [captures.capture("meshed-plain.pcap"), captures.capture("meshed-tls.pcapng")]
    good = b"CLIENT_TRAFFIC_SECRET_0 " + b"0" * 64 + b" " + b"1" * 64 + b"\n"
    with tempfile.TemporaryDirectory() as d:
        keys = f"{d}/keys.txt"
        for text, words in ((good + b"nonsense\n" + good, "line 2: not LABEL CLIENT_RANDOM SECRET; the other"),
                            (good + b"x y\n" * 90, "line 2: not LABEL CLIENT_RANDOM SECRET, and 89 more lines; the"),
                            (b"x\n" * 90, "line 1: not LABEL CLIENT_RANDOM SECRET, nor is any other"),
                            (b"", "the key log is empty"), (gzip.compress(good), "the key log is compressed; unpack")):
            write(keys, text)
            done = captures.derptrace("report", "--json", "--keylog", keys, *both, code=3)
            assert f"{keys}: {words}" in said(done), done.stderr
            assert json.loads(done.stdout)["pairs"]
        write(keys, b"# nothing\n\nEXPORTER_SECRET 00 11\n")
        captures.derptrace("report", "--json", "--keylog", keys, both[0], code=0)


def test_no_secrets():
    """A capture without its secrets is no error: what was seen is reported, and what is missing is said."""
    with tempfile.TemporaryDirectory() as d:
        path = f"{d}/sealed.pcapng"
        whole = blocks.read(captures.capture("meshed-tls.pcapng"))
        blocks.write(path, [(kind, b) for kind, b in whole if kind != blocks.SECRETS])
        line = said(captures.derptrace("report", path, code=0))
        assert f"{path}: 8 TLS connections have no secret in it; name the key log with --keylog" in line, line


def copies(path, folder, count):
    """So many files of the same content."""
    return [shutil.copy(path, f"{folder}/{i}-{os.path.basename(path)}") for i in range(count)]


def test_full_disk():
    """One line says that the disk is full; what stands there by then is whole. A limit on files' size stands for it."""
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    with tempfile.TemporaryDirectory() as d:
        some = copies(captures.capture("unmeshed-tls.pcapng"), d, 8)
        captures.derptrace("record", "-o", f"{d}/whole.dtr", *some, code=0)
        many = copies(f"{d}/whole.dtr", d, 20)
        for name, verb in (("a.dtr", "record"), ("b.pcapng", "pcap")):
            sources = [captures.capture("meshed-plain.pcap")]
            if verb == "record":
                sources = many
            done = subprocess.run([captures.PROGRAM, verb, "-o", f"{d}/{name}", *sources], capture_output=True,
                                  text=True, preexec_fn=small, restore_signals=False)
            assert done.returncode == 3, done
            assert said(done).endswith(f"{d}/{name}: cannot write: File too large; what was written before is whole")
            assert 1000 < os.path.getsize(f"{d}/{name}") <= 20000
        packets = subprocess.run(["tshark", "-r", f"{d}/b.pcapng"], capture_output=True, text=True)
        assert packets.returncode == 0 and packets.stdout.count("\n") > 5, packets
        captures.derptrace("report", f"{d}/a.dtr", code=3)


def test_nowhere_to_write():
    """Output that goes nowhere is told; a pipe that is closed is how its reader says: enough."""
    plain = captures.capture("meshed-plain.pcap")
    for args in (["--help"], ["--version"], ["help", "top"], ["report", plain], ["report", "--json", plain],
                 ["record", "-o", "-", plain], ["pcap", "-o", "-", plain], ["map", "check", "--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([captures.PROGRAM, *args], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 3 and "cannot write: No space left on device" in said(done), (args, done)
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([captures.PROGRAM, *args], stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert done.returncode in (0, -signal.SIGPIPE), (args, done)
        assert len(done.stderr.splitlines()) == ("-o" in args and not done.returncode), (args, done)


def test_appended():
    """Standard output is a file of the shell's: what stands in it already stays."""
    with tempfile.TemporaryDirectory() as d:
        for _ in range(2):
            with open(f"{d}/a.pcapng", "a") as f:
                subprocess.run([captures.PROGRAM, "pcap", "-o", "-", captures.capture("meshed-plain.pcap")], stdout=f,
                               stderr=subprocess.PIPE, check=True)
            before = os.path.getsize(f"{d}/a.pcapng") if not _ else before
        assert os.path.getsize(f"{d}/a.pcapng") == 2 * before


def test_pipe_without_writer():
    """Nobody waits for it longer than for Ctrl-C."""
    with tempfile.TemporaryDirectory() as d:
        os.mkfifo(f"{d}/a.pcap")
        refused(f"{d}/a.pcap", "not a file; a capture is read twice")
        os.mkfifo(f"{d}/a.dtr")
        proc = subprocess.Popen([captures.PROGRAM, "report", f"{d}/a.dtr"])
        with open(f"/proc/{proc.pid}/status") as f:
            status = f.read
            while "SigBlk:\t0000000000000000" not in status() or "(sleeping)" not in (f.seek(0), status())[1]:
                f.seek(0)
        proc.terminate()
        assert proc.wait(10) == -15


def test_permission():
    """What may not be read, or written, is named, with what to do; nothing is left behind, and the rest is read."""
    # Root is one who may, unless he gives that up.
    bound = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    plain, sealed = captures.capture("meshed-plain.pcap"), captures.capture("meshed-tls.pcapng")

    def denied(path, *args):
        done = subprocess.run([*bound, captures.PROGRAM, *args], capture_output=True, text=True)
        line = said(done)
        assert done.returncode == 3 and f"{path}: " in line and "Permission denied; r" in line and \
            " as a user who may" in line, (args, done.returncode, line)
        return done

    with tempfile.TemporaryDirectory() as d:
        captures.derptrace("record", "-o", f"{d}/b.dtr", plain, code=0)
        for name, source in (("a.pcap", plain), ("c.pcapng", sealed), ("map.json", plain), ("keys.txt", plain)):
            shutil.copy(source, f"{d}/{name}")
        os.mkdir(f"{d}/dir")
        for name in ("a.pcap", "b.dtr", "c.pcapng", "map.json", "keys.txt", "dir"):
            os.chmod(f"{d}/{name}", 0)
        for name in ("a.pcap", "b.dtr", "c.pcapng"):
            denied(f"{d}/{name}", "report", "--json", f"{d}/{name}")
            assert json.loads(denied(f"{d}/{name}", "report", "--json", f"{d}/{name}", plain).stdout)["pairs"]
        done = denied(f"{d}/keys.txt", "report", "--json", "--keylog", f"{d}/keys.txt", plain)
        assert json.loads(done.stdout)["pairs"]
        denied(f"{d}/map.json", "report", "--map", f"{d}/map.json", plain)
        denied(f"{d}/map.json", "map", "check", f"{d}/map.json")
        for path in ("dir/x", "b.dtr"):
            denied(f"{d}/{path}", "record", "-o", f"{d}/{path}", plain)
            denied(f"{d}/{path}", "pcap", "-o", f"{d}/{path}", plain)
        os.chmod(f"{d}/dir", 0o700)
        assert os.listdir(f"{d}/dir") == []


def test_broken_map():
    """Without its map a report would say other things: it is refused, with the place."""
    with tempfile.TemporaryDirectory() as d:
        for text, words in ((b"", "the file is empty"), (b"{", "the file is cut off"), (b"[]", "no DERP map"),
                            (b"{\n \"Regions\": {\"1\": }}", "map.json:2:")):
            path = write(f"{d}/map.json", text)
            done = captures.derptrace("report", "--map", path, captures.capture("meshed-plain.pcap"), code=3)
            assert words in said(done), done.stderr
