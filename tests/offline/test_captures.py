# SPDX-License-Identifier: BSD-2-Clause
"""Kept capture files of a region of real relays: what derpload sent and received is what the report says, with no
privilege and no relay. truth.json has sent and received of each pair.

meshed-tls: two nodes, IPv4 and IPv6, secrets inside; meshed-plain: plain HTTP; unmeshed-tls: the two do not know
each other.
"""
import json
import os
import shutil
import socket
import subprocess
import tempfile

import blocks

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = f"{os.environ.get('DERPTRACE_BUILD', f'{ROOT}/build')}/derptrace"

with open(f"{HERE}/captures/truth.json") as f:
    TRUTH = json.load(f)


def derptrace(*args, code=None):
    done = subprocess.run([PROGRAM, *args], capture_output=True, text=True)
    assert code is None or done.returncode == code, (args, done.returncode, done.stderr)
    return done


def report(*files, code):
    done = derptrace("report", "--json", *files, code=code)
    return json.loads(done.stdout), done.stderr


def capture(name):
    return f"{HERE}/captures/{name}"


def check(r, name):
    pairs = {f"{p['src']} {p['dst']}": p for p in r["pairs"]}
    assert set(pairs) == set(TRUTH[name]), set(pairs) ^ set(TRUTH[name])
    for key, (sent, received) in TRUTH[name].items():
        p = pairs[key]
        assert (p["entered"], p["delivered"]) == (sent, received), (key, p)
        assert p["lost"]["min"] == sent - received and not p["untraced"] and not p["in_flight"], (key, p)
    assert len(r["nodes"]) == 2 and all(n["traced"] for n in r["nodes"]), r["nodes"]


def test_told_twice():
    """Nodes that two sources tell of, a capture and the records of it or a copy, are counted once, and that is said."""
    with tempfile.TemporaryDirectory() as d:
        for name, code in (("meshed-tls.pcapng", 0), ("meshed-plain.pcap", 0), ("unmeshed-tls.pcapng", 1)):
            derptrace("record", "-o", f"{d}/{name}.dtr", capture(name), code=0)
            shutil.copy(capture(name), f"{d}/{name}")
            for other in (f"{d}/{name}.dtr", f"{d}/{name}"):
                r, _ = report(capture(name), other, code=code)
                check(r, name)
                assert r["tracer"]["nodes_told_twice"] == 2, r["tracer"]
                assert {v["class"] for v in r["verdicts"]} == ({"no-mesh-route"} if code else set()), r["verdicts"]
            assert "are told twice" in derptrace("report", capture(name), other).stdout
        r, _ = report(capture("meshed-tls.pcapng"), capture("unmeshed-tls.pcapng"), code=1)
        assert len(r["nodes"]) == 4 and not r["tracer"]["nodes_told_twice"], r["tracer"]


def test_meshed():
    for name in ("meshed-tls.pcapng", "meshed-plain.pcap"):
        r, said = report(capture(name), code=0)
        check(r, name)
        assert not said and not r["verdicts"], (said, r["verdicts"])
        assert [k["state"] for k in r["links"]] == ["up", "up"], r["links"]


def test_unmeshed():
    r, _ = report(capture("unmeshed-tls.pcapng"), code=1)
    check(r, "unmeshed-tls.pcapng")
    assert {v["class"] for v in r["verdicts"]} == {"no-mesh-route"}, r["verdicts"]


def test_exported_again():
    """What derptrace pcap makes of a capture says the same, and with the secrets in a file of its owner's; without them
    what cannot be read stands there as frames, cut or whole, from which the same follows, again and again."""
    with tempfile.TemporaryDirectory() as d:
        for name in TRUTH:
            out = f"{d}/{name.partition('.')[0]}.pcapng"
            derptrace("pcap", "--with-secrets", "-o", out, capture(name), code=0)
            assert os.stat(out).st_mode & 0o777 == 0o600
            files = [out]
            for n, args in enumerate(([], ["--payload"], [])):
                files.append(f"{d}/bare{n}.pcapng")
                derptrace("pcap", *args, "-o", files[-1], files[-2] if n else capture(name), code=0)
            for f in files:
                r, said = report(f, code=1 if name.startswith("un") else 0)
                check(r, name)
                assert not said, said
                os.remove(f)


def test_damaged():
    """Cut anywhere, it says so in one line and at which byte; what came before is reported."""
    with open(capture("meshed-tls.pcapng"), "rb") as f:
        whole = f.read()
    with tempfile.TemporaryDirectory() as d:
        for size in (len(whole) - 3, len(whole) * 3 // 4, len(whole) // 2):
            path = f"{d}/cut.pcapng"
            with open(path, "wb") as f:
                f.write(whole[:size])
            r, said = report(path, code=3)
            assert said.count("\n") == 1 and "cut.pcapng: damaged at byte" in said, said
            assert r["nodes"], r


def test_keylog():
    """Lines that are no secrets are named; a key log that is not there is, too."""
    with tempfile.TemporaryDirectory() as d:
        keys = f"{d}/keys.txt"
        with open(keys, "w") as f:
            f.write("# comment\nCLIENT_TRAFFIC_SECRET_0 zz zz\n")
        _, said = report("--keylog", keys, capture("meshed-plain.pcap"), code=3)
        assert "keys.txt: line 2: " in said and said.count("\n") == 1, said
        _, said = report("--keylog", f"{d}/none", capture("meshed-plain.pcap"), code=3)
        assert "none: cannot read the key log" in said, said


def test_begun_late():
    """Begun when the mesh, and then every connection, was open: the secrets are tried on what has no ClientHello in the
    file, before anything is called missing."""
    whole = blocks.read(capture("meshed-tls.pcapng"))
    with tempfile.TemporaryDirectory() as d:
        for seconds in (2.0, 3.0, 3.0855):
            blocks.write(f"{d}/late.pcapng", blocks.since(whole, seconds))
            r, said = report(f"{d}/late.pcapng", code=0)
            check(r, "meshed-tls.pcapng")
            assert not said and [k["state"] for k in r["links"]] == ["up", "up"], (seconds, said, r["links"])


def test_mesh_not_decrypted():
    """What crosses a mesh connection that nobody can read enters once: it is the same at both nodes."""
    late = blocks.since(blocks.read(capture("meshed-tls.pcapng")), 3.0)
    packets = b"".join(b for kind, b in late if kind == blocks.PACKET)
    with tempfile.TemporaryDirectory() as d:
        blocks.write(f"{d}/late.pcapng", blocks.with_secrets_of(late, lambda random: random in packets))
        r, _ = report(f"{d}/late.pcapng", code=0)
        check(r, "meshed-tls.pcapng")
        assert {k["state"] for k in r["links"]} == {"unknown"}, r["links"]


def test_several():
    """Of two hosts, each with its own capture: one report, and one file in order of time, whoever is named first."""
    whole = blocks.read(capture("meshed-tls.pcapng"))
    with tempfile.TemporaryDirectory() as d:
        hosts = []
        for n in (1, 2):
            hosts.append(f"{d}/host{n}.pcapng")
            ends = socket.inet_pton(socket.AF_INET6, f"fd77::{n}"), socket.inet_aton(f"10.77.0.{n}")
            blocks.write(hosts[-1], blocks.holding(whole, *ends))
        for files in (hosts, hosts[::-1]):
            r, said = report(*files, code=0)
            check(r, "meshed-tls.pcapng")
            assert not said and [k["state"] for k in r["links"]] == ["up", "up"], (said, r["links"])
            for args in ([], ["--with-secrets"]):
                derptrace("pcap", *args, "-o", f"{d}/both.pcapng", *files, code=0)
                times = [blocks.time_of(b) for kind, b in blocks.read(f"{d}/both.pcapng") if kind == blocks.PACKET]
                assert times == sorted(times)
                r, said = report(f"{d}/both.pcapng", code=0)
                check(r, "meshed-tls.pcapng")
                assert not said, said
                os.remove(f"{d}/both.pcapng")
