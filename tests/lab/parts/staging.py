# SPDX-License-Identifier: BSD-2-Clause
"""What scenarios have in common: conditions to await, and the traffic that most of them send."""
import re

from .proc import run, tail, until
from .truth import Crowd, check_counters, check_pairs, counters, link, lost_where, node, only_verdicts

def among(names, steps=(1, 2, 5)):
    """A list of pairs: from each peer to those so many places on. With two relays in turn, an odd step crosses."""
    return ",".join(f"{n}>{names[(i + s) % len(names)]}" for i, n in enumerate(names) for s in steps)


# Twenty peers, on one node and across, both kinds and all sizes, four to a segment: 10,200 packets, and no more at
# once for one destination than a relay's queue of 32 takes.
EVERYONE = ("list", among([f"p{i}" for i in range(20)]), "count=170", "size=1-1400", "kind=mixed", "rate=60", "burst=4")


# Queues for relays of which nothing is to be lost: one that gets no processor for a while has all that came meanwhile
# at once, and 32 packets, the relay's own measure, are an eighth of a second's.
DEEP = {"TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH": "512"}


def said(relay, words):
    """How often a relay has said so."""
    try:
        with open(relay.log, errors="replace") as f:
            return f.read().count(words)
    except OSError:
        return 0


def says(relay, words, more_than=0, timeout=30):
    """Awaits that a relay has said so more often than that."""
    until(lambda: said(relay, words) > more_than,
          lambda: f"{relay} to say {words!r} more than {more_than} times; its log:\n{tail(relay.log)}", timeout)


def knows(relay, count, timeout=20):
    """Awaits that a relay knows so many peers, its own, those behind its mesh, and the relays that dialled it."""
    until(lambda: relay.counters().clients_total >= count,
          lambda: f"{relay} to know {count} peers, it knows {relay.counters().clients_total}", timeout, 0.05)


def has_local(relay, count, timeout=20):
    """Awaits that so many keys are connected to this very relay."""
    until(lambda: relay.counters().clients_local == count,
          lambda: f"{relay} to have {count} peers, it has {relay.counters().clients_local}", timeout, 0.05)


def syns_again(host, port):
    """Of the connections that are not answered, how often each has sent its SYN again."""
    out = run("ip", "netns", "exec", host.ns, "ss", "-Hton", "state", "syn-sent", "dport", "=", f":{port}")
    return [int(n) for n in re.findall(r"timer:\(on,[^,]*,(\d+)\)", out)]


def meshed(lab, count=2, env=DEEP, **kind):
    """So many nodes, each meshed with each."""
    names = [f"derp{i + 1}" for i in range(count)]
    relays = [lab.relay(n, mesh_with=[f"{o}.lab" for o in names if o != n], env=env, **kind)
              for n in names]
    lab.up()
    return relays


def all_is_well(report, relays, truth, before):
    """Every packet arrived and every book says so: no verdict, nothing unread, all links up."""
    assert sum(t["sent"] for t in truth.values()) >= 10000 and lost_where(truth) == 0
    only_verdicts(report)
    check_pairs(report, truth)
    check_counters(report, relays, before)
    tracer = report["tracer"]
    assert not (tracer["connections_without_secret"] or tracer["connections_unsynchronised"] or
                tracer["segments_lost"]), tracer
    assert all(n["untraced"] == 0 for n in report["nodes"]), report["nodes"]
    for x in relays:
        assert node(report, x)["key"] == x.key
        for y in relays:
            assert x is y or link(report, x, y)["state"] == "up", report["links"]


def healthy(lab, relays, *args, traffic=EVERYONE, **crowd):
    """Traced from before the first client, twenty peers, everything arrives and all is well. Returns the report."""
    before = counters(relays)
    trace = lab.derptrace("report", "--json", *args)
    peers = Crowd(lab, lab.host("clients"), relays, **crowd)
    lab.clients_settled(len(peers.names))
    peers.pairs(*traffic)
    peers.quiet()
    truth = peers.truth()
    assert lost_where(truth) == 0, truth
    report = trace.stop()
    all_is_well(report, relays, truth, before)
    return report
