# SPDX-License-Identifier: BSD-2-Clause
"""How long packets stay in a relay, and are on their way to the next one: what is told against what the clients see."""
from lab import Lab, scenario
from parts.staging import meshed
from parts.truth import Crowd, link, node, rows

# One after the other: half of a burst waits, and the median would lie between those that do and those that do not.
TRAFFIC = ("ring", "count=600", "size=70-1400", "kind=wg", "rate=200")
OFF = 1.25              # a quantile is off by a quarter at most


def sane(told, samples=1):
    """p50 and p99 of packets that were timed, in that order."""
    assert told and told["samples"] >= samples and 0 < told["p50"] <= told["p99"], told
    return told


def check_pairs(report, peers, truth, samples):
    """No quantile is above what the slowest packet of its pair needed from client to client."""
    for pair, row in rows(report).items():
        told = sane(row["latency_us"], samples)
        t = truth[pair]
        assert t["timed"] == t["received"] > 0, t
        most = t["took_max_ns"] / 1000 * OFF
        assert told["p50"] <= most, (told, t)
        if not peers.crosses(*pair):            # else two nodes' p99s are added up, of different packets
            assert told["p99"] <= most, (told, t)
        hops = {h["hop"]: h["latency_us"] for h in row["path"]}
        assert hops["client-in"] is None, row
        assert ("mesh-in" in hops) == peers.crosses(*pair), row
        for hop in set(hops) - {"client-in"}:
            sane(hops[hop])
        if "mesh-in" not in hops:
            assert hops["client-out"] == told, row


def check_nodes_and_links(report, relays, samples, hops):
    for x in relays:
        sane(node(report, x)["latency_us"], samples)
        for y in relays:
            if x is not y:
                sane(link(report, x, y)["latency_us"], hops)


@scenario(timeout=90)
def test_latency():
    """Every packet seen: each pair's time inside and each link's on the way, no more than from client to client."""
    with Lab("latency") as lab:
        relays = meshed(lab)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        peers.quiet()
        truth = peers.truth()
        report = trace.stop()
        check_pairs(report, peers, truth, 200)
        for row in rows(report).values():
            assert row["latency_us"]["samples"] == row["delivered"], row
        check_nodes_and_links(report, relays, 4000, 5)


@scenario(timeout=90)
def test_counted():
    """The kernel times one packet in 32 of those that it counts: of the same traffic it tells the same."""
    with Lab("latencyk") as lab:
        relays = meshed(lab, kind="plainrelay")
        kernel = lab.derptrace("report", "--json", "--count", "kernel")
        user = lab.derptrace("report", "--json", "--count", "user", "--xdp", "off")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        peers.quiet()
        truth = peers.truth()
        kernel, user = kernel.stop(), user.stop()
        check_pairs(user, peers, truth, 200)
        check_pairs(kernel, peers, truth, 3)
        for report, samples in ((user, 4000), (kernel, 100)):
            check_nodes_and_links(report, relays, samples, 5)
        assert kernel["tracer"]["frames_counted"] and not user["tracer"]["frames_counted"]
        for relay in relays:
            few, all_of_them = (node(report, relay)["latency_us"] for report in (kernel, user))
            print(f"measured: {relay.name} kernel {few} user {all_of_them}")
            assert few["samples"] < all_of_them["samples"] / 8, (few, all_of_them)
            for quantile, factor in (("p50", 3), ("p99", 6)):   # the slowest four of 400, on a busy machine
                assert 1 / factor < few[quantile] / all_of_them[quantile] < factor, (few, all_of_them)
