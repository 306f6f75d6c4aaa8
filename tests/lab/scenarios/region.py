# SPDX-License-Identifier: BSD-2-Clause
"""The region as it should be, and the ways to mesh it wrongly."""
import time

from lab import Lab, scenario
from parts.staging import DEEP, knows
from parts.truth import Crowd, check_counters, check_pairs, counters, link, node, only_verdicts, rows

NOBODY = "nodekey:" + "5a" * 32
TRAFFIC = ("ring", "count=500", "size=1-1400", "kind=mixed", "rate=250", "burst=4")


def two_nodes(lab, meshed_a=True, meshed_b=True, **kind):
    a = lab.relay("derp1", mesh_with=["derp2.lab"] if meshed_a else [], **kind)
    b = lab.relay("derp2", mesh_with=["derp1.lab"] if meshed_b else [], **kind)
    lab.up()
    return a, b


def traced_traffic(lab, relays, *args, traffic=TRAFFIC, **crowd):
    """Trace from before the first client, known traffic, report: with what was sent and the relays' counters before."""
    before = counters(relays)
    trace = lab.derptrace("report", "--json", *args)
    peers = Crowd(lab, lab.host("clients"), relays, **crowd)
    if all(r.mesh_with for r in relays):
        lab.clients_settled(len(peers.names))
    for r in relays:
        if r.mesh_with:
            knows(r, len(peers.names))
    peers.pairs(*traffic)
    peers.quiet()
    report = trace.stop()
    return report, peers, before


def all_is_well(report, peers, before, relays):
    only_verdicts(report)
    truth = peers.truth()
    assert sum(t["sent"] for t in truth.values()) >= 10000
    assert all(t["sent"] == t["received"] for t in truth.values()), truth
    check_pairs(report, truth)
    check_counters(report, relays, before)
    assert report["tracer"]["connections_without_secret"] == 0
    assert report["tracer"]["connections_unsynchronised"] == 0
    assert report["tracer"]["segments_lost"] == 0
    for relay in relays:
        assert node(report, relay)["key"] == relay.key
    for x in relays:
        for y in relays:
            assert x is y or link(report, x, y)["state"] == "up", report["links"]


@scenario(timeout=90)
def test_healthy_two_nodes():
    """Two meshed TLS nodes, twenty peers on both: no verdict, every book balanced, delivered is what arrived."""
    with Lab("healthy2") as lab:
        relays = two_nodes(lab, env=DEEP)
        report, peers, before = traced_traffic(lab, relays)
        all_is_well(report, peers, before, relays)


@scenario(timeout=90)
def test_seed_case():
    """Two nodes of one region that are not meshed: those who landed apart are cut off, those together are fine."""
    with Lab("seed") as lab:
        relays = two_nodes(lab, False, False, env=DEEP)
        report, peers, before = traced_traffic(lab, relays, traffic=(
            "list", "p0>p1,p1>p0,p0>p2,p2>p0,p1>p3,p3>p1,p4>p7,p5>p9,p10>p12,p11>p15", "count=1000",
            "size=1-1400", "kind=mixed", "rate=400", "burst=4"))
        truth = peers.truth()
        check_pairs(report, truth)
        check_counters(report, relays, before)
        found = only_verdicts(report, "no-mesh-route")
        for pair, row in rows(report).items():
            expected = 1000 if peers.crosses(*pair) else 0
            assert row["lost"] == {"min": expected, "max": expected}, row
            assert set(row["lost_by"]) == ({"no-mesh-route"} if expected else set()), row
        assert sum(v["count"]["min"] for v in found) == sum(r["lost"]["min"] for r in rows(report).values())
        assert {(v["link"]["from"], v["link"]["to"]) for v in found} == \
            {(node(report, x)["name"], node(report, y)["name"]) for x, y in (relays, relays[::-1])}
        assert all(v["basis"] == "relay" and v["hop"] == "client-in" and "region" in v["fix"] for v in found), found


@scenario(timeout=90)
def test_meshed_one_way():
    """Only the first dials the second: what the second should forward is lost, and the missing direction is named."""
    with Lab("oneway") as lab:
        relays = a, b = two_nodes(lab, True, False, env=DEEP)
        report, peers, before = traced_traffic(lab, relays)
        check_pairs(report, peers.truth())
        check_counters(report, relays, before)
        [v] = only_verdicts(report, "link-one-way")
        assert v["link"] == {"from": node(report, b)["name"], "to": node(report, a)["name"]}, v
        assert link(report, a, b)["state"] == "up" and link(report, b, a)["state"] == "down"
        assert all(peers.at[peers.name_of(p[0])] is b for p, r in rows(report).items() if r["lost"]["max"])


@scenario(timeout=120)
def test_queue_drops():
    """A slow destination flooded from both nodes: what its queue dropped is named, to the frame."""
    with Lab("queue") as lab:
        relays = a, b = two_nodes(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
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
        slow.quiet()
        report = trace.stop()
        truth = peers.truth()
        for pair, t in slow.truth().items():
            truth[pair] = {**truth[pair], "received": t["received"]}
        assert sum(t["sent"] - t["received"] for t in truth.values()) > 1000
        check_pairs(report, truth)
        check_counters(report, relays, before)
        found = only_verdicts(report, "queue-drop")
        assert sum(v["count"]["min"] for v in found) == sum(n["lost"]["min"] for n in report["nodes"])
        worst = max(found, key=lambda v: v["count"]["min"])
        assert worst["node"] == node(report, b)["name"] and worst["reason"] == "queue_head", found


@scenario(timeout=120)
def test_attach_to_open_connections():
    """Attached under load to 200 open TLS connections: each is decrypted and its peer named."""
    with Lab("open") as lab:
        relays = two_nodes(lab, env=DEEP)
        peers = Crowd(lab, lab.host("clients"), relays, count=200)
        lab.clients_settled(200)
        peers.load.command("pairs", "ring", "count=100000", "size=100-1400", "kind=mixed", "rate=10", "burst=2",
                           "id=background")
        trace = lab.derptrace("report", "--json")
        took = time.monotonic() - trace.started
        print(f"measured: 200 open TLS connections under load read {took:.2f} s after start")
        apart = ",".join(f"p{i}>p{(i + 101) % 200}" for i in range(200))
        peers.pairs("list", apart, "count=60", "size=1-1400", "kind=mixed", "rate=30")
        peers.load.command("stop", "background")
        peers.quiet()
        report = trace.stop()
        only_verdicts(report)
        tracer = report["tracer"]
        assert tracer["connections_without_secret"] == 0 and tracer["connections_unsynchronised"] == 0, tracer
        assert sum(n["peers"] for n in report["nodes"]) == 200, report["nodes"]
        truth, have = peers.truth(), rows(report)
        assert len(have) == 400
        for pair, t in truth.items():
            row = have[pair]
            assert t["sent"] == t["received"], t
            if t["sent"] == 60:             # since all was attached: to the frame
                assert (row["entered"], row["delivered"], row["untraced"]) == (60, 60, 0), row
            else:                           # on its way since before that
                assert row["delivered"] <= row["entered"] <= t["sent"] and row["lost"]["min"] == 0, (t, row)


@scenario(timeout=120)
def test_older_relay():
    """A relay of 2024, stripped, beside one of today, attached to when all are connected already: it gives its reasons
    as numbers, and each loss has the reason that its own counters have.
    """
    with Lab("older") as lab:
        relays = a, b = (lab.relay("derp1", mesh_with=["derp2.lab"]),
                         lab.relay("derp2", kind="derper-1.68", mesh_with=["derp1.lab"]))
        lab.up()
        peers = Crowd(lab, lab.host("clients"), relays, count=20)
        slow = Crowd(lab, lab.host("slow"), [b], count=1, prefix="s", options="rcvbuf=4096")
        lab.clients_settled(21)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        slow.load.command("drip", "s0", 100000)
        # So few that they cannot be too many at a time for the relay to be asked about each.
        for src in ("p0", "p1"):
            peers.load.command("send", src, slow.keys["s0"], "count=700", "size=1000-1400", "kind=mixed", "rate=3000",
                               "burst=4")
        for src in ("p0", "p1"):
            peers.load.command("send", src, NOBODY, "count=200", "size=1-1400", "kind=mixed", "rate=250")
        peers.pairs(*TRAFFIC)
        for dst in (slow.keys["s0"], NOBODY) * 2:
            peers.load.wait_event("sent", dst=dst)
        slow.load.command("resume", "s0")
        slow.quiet(), peers.quiet()
        report, truth = trace.stop(), peers.truth()
        for pair, t in slow.truth().items():
            truth[pair] = {**truth[pair], "received": t["received"]}
        check_pairs(report, truth)
        check_counters(report, relays, before)
        assert report["tracer"]["connections_without_secret"] == 0, report["tracer"]
        assert [node(report, r)["key"] for r in relays] == [a.key, b.key], report["nodes"]
        found = only_verdicts(report, "queue-drop", "peer-absent")
        told = {r.name: r.counters().since(before[r.name]).dropped() for r in relays}
        for relay in relays:
            said = {v["reason"]: v["count"]["min"] for v in found if v["node"] == node(report, relay)["name"]}
            assert said == {why: n for why, n in told[relay.name].items() if n}, (said, told)
        assert told["derp2"]["queue_head"] > 100 and all(v["basis"] == "relay" for v in found), (told, found)
