# SPDX-License-Identifier: BSD-2-Clause
"""Plain HTTP relays, their packets counted in the kernel: the books are those of a tracer that has seen each packet."""
from lab import Lab, scenario, until
from parts.both import Both, two_nodes
from parts.staging import knows
from parts.truth import Crowd, counters, lost_where, only_verdicts, rows

TRAFFIC = ("ring", "count=500", "size=1-1400", "kind=mixed", "rate=250", "burst=4")


@scenario(timeout=90)
def test_healthy():
    """Two meshed nodes, twenty peers on both."""
    with Lab("ckhealthy") as lab:
        relays = two_nodes(lab)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        peers.quiet()
        truth = peers.truth()
        both.check(truth)


@scenario(timeout=90)
def test_seed_case():
    """Two nodes that are not meshed: those who landed apart are cut off."""
    with Lab("ckseed") as lab:
        relays = two_nodes(lab, False, False)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays)
        peers.pairs("list", "p0>p1,p1>p0,p0>p2,p2>p0,p1>p3,p3>p1,p4>p7,p5>p9,p10>p12,p11>p15", "count=1000",
                    "size=1-1400", "kind=mixed", "rate=400", "burst=4")
        peers.quiet()
        truth = peers.truth()
        both.check(truth, "no-mesh-route")


@scenario(timeout=90)
def test_one_way():
    """Only the first dials the second."""
    with Lab("ckoneway") as lab:
        relays = two_nodes(lab, True, False)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays)
        knows(relays[0], 20)
        peers.pairs(*TRAFFIC)
        peers.quiet()
        truth = peers.truth()
        both.check(truth, "link-one-way")


@scenario(slow=True, timeout=90)
def test_blackhole():
    """What the first sends on its mesh connection vanishes for a while, and is sent again."""
    with Lab("ckhole") as lab:
        relays = a, b = two_nodes(lab)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        peers.quiet()
        [port] = [local for local, addr, port in a.sockets() if (addr, port) == (b.host.ip4, b.port)]
        hole = lab.net.blackhole(a.host, b.host, sport=port, dport=b.port)
        across = ",".join(f"p{i}>p{i + 1}" for i in range(0, 20, 2))
        peers.load.command("pairs", "list", across, "count=20", "size=1-400", "kind=mixed", "rate=10", "id=pairs")
        peers.load.wait_event("sent_all")

        def swallowed():
            out, into = (r.counters().since(both.before[r.name]) for r in relays)
            return out.packets_forwarded_out - into.packets_forwarded_in
        until(lambda: swallowed() == 200, "200 packets to be swallowed")
        hole.mend()
        peers.quiet(3000)
        truth = peers.truth()
        both.check(truth, "link-stalled")


@scenario(timeout=120)
def test_queue_drops():
    """A slow destination flooded from both nodes: what its queue dropped is named, to the frame."""
    with Lab("ckqueue") as lab:
        relays = a, b = two_nodes(lab, env=None)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays, count=20)
        slow = Crowd(lab, lab.host("slow"), [b], count=1, prefix="s", options="rcvbuf=4096")
        lab.clients_settled(21)
        slow.load.command("drip", "s0", 200000)
        for src in ("p0", "p1"):
            peers.load.command("send", src, slow.keys["s0"], "count=6000", "size=1000-1400", "kind=mixed", "rate=1500",
                               "burst=4")
        peers.pairs(*TRAFFIC)
        for _ in range(2):
            peers.load.wait_event("sent", dst=slow.keys["s0"])
        slow.load.command("resume", "s0")
        slow.quiet(2500)                # what the relay did not name is known a second after the queue has drained
        truth = peers.truth()
        for pair, t in slow.truth().items():
            truth[pair] = {**truth[pair], "received": t["received"]}
        assert sum(t["sent"] - t["received"] for t in truth.values()) > 1000
        both.check(truth, "queue-drop")


@scenario(timeout=90)
def test_websockets():
    """All peers come by WebSocket, as Coder's agents fall back to: what they send is masked."""
    with Lab("ckweb") as lab:
        relays = two_nodes(lab)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays, proto="ws")
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        peers.quiet()
        truth = peers.truth()
        both.check(truth)


@scenario(timeout=120)
def test_websocket_losses():
    """Nodes that are not meshed, and a slow destination: what is dropped on WebSockets is named, to the frame."""
    with Lab("ckweblost") as lab:
        relays = a, _ = two_nodes(lab, False, False, env=None)
        both = Both(lab, relays)
        peers = Crowd(lab, lab.host("clients"), relays, proto="ws")
        slow = Crowd(lab, lab.host("slow"), [a], count=1, prefix="s", proto="ws", options="rcvbuf=4096")
        slow.load.command("drip", "s0", 200000)
        for src in ("p0", "p2"):
            peers.load.command("send", src, slow.keys["s0"], "count=6000", "size=1000-1400", "kind=mixed", "rate=1500",
                               "burst=4")
        peers.pairs("list", "p0>p1,p1>p0,p0>p2,p2>p0,p1>p3,p3>p1,p4>p7", "count=500", "size=1-1400", "kind=mixed",
                    "rate=250", "burst=4")
        for _ in range(2):
            peers.load.wait_event("sent", dst=slow.keys["s0"])
        slow.load.command("resume", "s0")
        slow.quiet(2500)
        truth = peers.truth()
        for pair, t in slow.truth().items():
            truth[pair] = {**truth[pair], "received": t["received"]}
        assert lost_where(truth, lambda src, dst: dst == slow.keys["s0"]) > 1000
        both.check(truth, "no-mesh-route", "queue-drop")


@scenario(timeout=120)
def test_open_connections():
    """Attached under load to 200 connections that are open: what enters since then is counted to the frame."""
    with Lab("ckopen") as lab:
        relays = two_nodes(lab)
        peers = Crowd(lab, lab.host("clients"), relays, count=200)
        lab.clients_settled(200)
        peers.load.command("pairs", "ring", "count=100000", "size=100-1400", "kind=mixed", "rate=10", "burst=2",
                           "id=background")
        traces = [lab.derptrace("report", "--json", "--count", where) for where in ("kernel", "user")]
        apart = ",".join(f"p{i}>p{(i + 101) % 200}" for i in range(200))
        peers.pairs("list", apart, "count=61", "size=1-1400", "kind=mixed", "rate=30")
        peers.load.command("stop", "background")
        peers.quiet()
        truth = peers.truth()
        for trace in traces:
            report = trace.stop()
            only_verdicts(report)
            assert report["tracer"]["connections_unsynchronised"] == 0, report["tracer"]
            assert sum(n["peers"] for n in report["nodes"]) == 200, report["nodes"]
            have = rows(report)
            assert len(have) == 400
            for pair, t in truth.items():
                row = have[pair]
                assert t["sent"] == t["received"], t
                if t["sent"] == 61:             # since all was attached: to the frame
                    assert (row["entered"], row["delivered"], row["untraced"]) == (61, 61, 0), row
                else:                           # on its way since before that
                    assert row["delivered"] <= row["entered"] <= t["sent"] and row["lost"]["min"] == 0, (t, row)
