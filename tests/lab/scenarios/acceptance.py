# SPDX-License-Identifier: BSD-2-Clause
"""Clients as they come and go, and packets that cannot be told apart: nobody else is accused of what they do."""
import time

from lab import Lab, scenario
from parts.staging import meshed
from parts.truth import Crowd, check_counters, check_pairs, counters, node, only_verdicts, rows


@scenario(timeout=90)
def test_client_killed():
    """A client is killed while both nodes send to it. The relays hear of it at once, so what comes after it is for
    nobody: it is absent at both nodes, and no route was stale.
    """
    with Lab("killed") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays, count=4)
        victim = Crowd(lab, lab.host("victim"), [b], count=1, prefix="v", args=("--seed", "2"))
        key = victim.keys["v0"]
        lab.clients_settled(5)
        for src in ("p0", "p1"):
            peers.load.command("send", src, key, "count=400", "size=200-1000", "kind=wg", "rate=200", f"id={src}")
        time.sleep(1)
        victim.load.kill()
        lab.disown(victim.load)
        for src in ("p0", "p1"):
            peers.load.wait_event("sent", id=src)
        peers.quiet()
        report = trace.stop()
        check_counters(report, relays, before, ended=(b,))
        assert {v["class"] for v in report["verdicts"]} <= {"peer-absent", "last-hop"}, report["verdicts"]
        absent = {v["node"]: v for v in report["verdicts"] if v["reason"] == "unknown_dest"}
        assert set(absent) == {node(report, a)["name"], node(report, b)["name"]}, report["verdicts"]
        for v in absent.values():
            assert v["basis"] == "relay" and v["dst"] == key and 100 <= v["count"]["min"] <= 300, v


@scenario(timeout=90)
def test_clients_refused():
    """The relay admits nobody: that is the one thing to say, not that its clients keep coming back."""
    with Lab("refused") as lab:
        a = lab.relay("derp1", args=["-verify-clients"])
        lab.up()
        trace = lab.derptrace("report", "--json")
        client = lab.goclient(lab.host("clients"))
        for i in range(3):
            client.command("peer", f"c{i}", a.url)
        time.sleep(4)
        report = trace.stop()
        [v] = only_verdicts(report, "not-admitted")
        assert v["node"] == node(report, a)["name"] and v["count"] == {"min": 0, "max": 0}, v


@scenario(timeout=90)
def test_equal_packets_to_a_slow_client():
    """Packets of equal bytes, of one sender's and of two, dropped from a queue whose socket holds older ones: each is
    lost once, and by whom is known though the relay does not say.
    """
    with Lab("equal") as lab:
        relays = a, b = meshed(lab, env=None)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays, count=6)
        lab.clients_settled(6)
        peers.load.command("drip", "p2", 1000000)
        kinds = {"p0": "zero", "p1": "wg", "p3": "zero", "p4": "zero"}
        for src, kind in kinds.items():
            peers.load.command("send", src, "p2", "count=1500", "size=8000", f"kind={kind}", "rate=750", f"id={src}")
        for src in kinds:
            peers.load.wait_event("sent", id=src)
        time.sleep(2)
        peers.load.command("resume", "p2")
        peers.quiet(1000)
        truth = peers.truth()
        report = trace.stop()
        only_verdicts(report, "queue-drop")
        check_pairs(report, truth)
        check_counters(report, relays, before)
        assert sum(p["entered"] for p in rows(report).values()) == 6000
