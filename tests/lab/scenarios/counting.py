# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel counts where TCP is not as it should be: holes, what comes again, segments of very many frames."""
import hashlib
import json
import signal
import struct

from lab import Lab, scenario, until
from parts.both import Both, two_nodes
from parts.truth import Crowd, lost_where, only_verdicts, rows

TRAFFIC = ("ring", "count=500", "size=1-1400", "kind=mixed", "rate=50", "burst=2")


@scenario(timeout=120)
def test_disorder():
    """One packet of fifty vanishes on the wire, everywhere: what came behind it waits, and is sent again in other
    pieces.
    """
    with Lab("ckdisorder") as lab:
        relays = two_nodes(lab)
        both = Both(lab, relays, least=0.3)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        with lab.net.lossy(50):
            peers.pairs(*TRAFFIC)
            peers.quiet(1000)
        truth = peers.truth()
        both.check(truth, *["queue-drop"] * (lost_where(truth) > 0))


def sent_again(host):
    return int(host.run("nstat", "-asz", "TcpRetransSegs").splitlines()[1].split()[1])


@scenario(timeout=90)
def test_many_frames():
    """All that a client sends to nineteen others is held back for a while, and comes at once: hundreds of frames in a
    segment, more than are counted in one.
    """
    with Lab("ckmany") as lab:
        # Room in the client's socket for all of it: what TCP gives by itself grows with what it was used for.
        lab.host("clients").sysctl("net.ipv4.tcp_wmem", "4096 4194304 4194304")
        relays = two_nodes(lab)
        both = Both(lab, relays, least=0.1)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        clients = lab.host("clients")
        for size in ("1-30", "24-24", "1-1400"):
            hole, before = lab.net.blackhole(clients, relays[0].host, dport=relays[0].port), sent_again(clients)
            peers.load.command("pairs", "list", ",".join(f"p0>p{i}" for i in range(1, 20)), "count=25", f"size={size}",
                               "kind=wg", "rate=0", "burst=5", f"id=many{size}")
            until(lambda: sent_again(clients) > before + 1, "what is held back to be sent again and again")
            hole.mend()
            peers.load.wait_event("sent_all")
            peers.quiet(1500)
        truth = peers.truth()
        assert lost_where(truth) == 0, truth
        both.check(truth)


@scenario(long=True, timeout=180)
def test_full_table():
    """A client writes to more keys than there are rows to count pairs: what has none is copied, all is in the books,
    and it is said.
    """
    with Lab("ckfull") as lab:
        relay = lab.relay("r1", kind="plainrelay")
        lab.up(meshed=False)
        traces = [lab.derptrace("report", "--json", "--count", where) for where in ("kernel", "user")]
        before = relay.counters()
        peers = Crowd(lab, lab.host("clients"), [relay], count=4)
        many, at_once = 68000, 400
        frames = [struct.pack("!BI", 4, 33) + hashlib.sha256(b"%d" % i).digest() + b"x" for i in range(many)]
        for i in range(0, many, at_once):
            peers.load.command("raw", "p0", b"".join(frames[i:i + at_once]).hex())
        peers.pairs("list", "p1>p2,p2>p1,p3>p1", "count=500", "size=1-1400", "kind=mixed", "rate=200")
        until(lambda: relay.counters().since(before).packets_received == many + 1500, "the relay to read all of it", 60)
        peers.quiet(5000)
        truth = peers.truth()
        assert "than the kernel has rows" in open(traces[0].log).read()
        for trace, full in zip(traces, (True, False)):
            trace.send_signal(signal.SIGINT)
            trace.proc.wait(60)
            report = json.loads(trace.text())       # too much of it to hold against the schema
            [n] = report["nodes"]
            assert (n["entered"], n["left"], n["lost"], n["untraced"]) == \
                (many + 1500, 1500, {"min": many, "max": many}, 0), n
            assert (report["tracer"]["segments_uncounted"] > 0) == full, report["tracer"]
            only_verdicts(report, "peer-absent")
            have = rows(report)
            assert len(have) == many + len(truth)
            assert all(have[pair]["delivered"] == 500 for pair in truth)
