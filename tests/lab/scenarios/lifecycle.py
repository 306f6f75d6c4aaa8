# SPDX-License-Identifier: BSD-2-Clause
"""Relays that end and come back, and connections that were on their way when the tracer came."""
import os
import signal
import time

from lab import Lab, run, scenario, until
from parts.staging import EVERYONE, all_is_well, among, meshed
from parts.truth import Crowd, check_counters, check_pairs, counters, lost_where, node, only_verdicts, rows, verdicts


@scenario(slow=True, timeout=150)
def test_node_killed_and_restarted():
    """The second dies under traffic and starts again: the trace picks the new process up, whose books start clean, and
    what was lost is the restart's. (Chosen by name: a pid would end with its process.)
    """
    with Lab("restart") as lab:
        comm = f"dt{os.getpid()}"
        relays = a, b = meshed(lab, comm=comm)
        old, before = b.pid, counters(relays)
        trace = lab.derptrace("report", "--json", "-f", "--interval", "200ms", "--comm", comm, pids=())
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.load.command("pairs", "list", among(peers.names), "count=100000", "size=1-1400", "kind=mixed", "rate=20",
                           "id=background")
        peers.pairs("list", among(peers.names), "count=120", "size=1-1400", "kind=mixed", "rate=60", "burst=4")
        b.restart(signal.SIGKILL)
        until(lambda: f'"pid":{b.pid},' in trace.text(), "the new process to be found")
        for name in peers.names[1::2]:
            peers.load.wait_event("down", peer=name)
            peers.load.command("peer", name, b.url)
        for name in peers.names[1::2]:
            peers.load.wait_event("up", peer=name)
        peers.load.command("stop", "background")
        peers.load.wait_event("sent_all", id="background")
        lab.mesh_up()
        lab.clients_settled(20)
        peers.quiet()
        lost = lost_where(peers.truth())
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == lost
        report = trace.stop()
        # What a dying connection took with it has never entered: derpload only knows that its kernel had it.
        at = {key: peers.at[name] for name, key in peers.keys.items()}
        for pair, row in rows(report).items():
            t = truth[pair]
            assert row["delivered"] >= t["received"] and row["entered"] <= t["sent"], (pair, t, row)
            assert row["untraced"] == 0, (pair, t, row)
            assert row["in_flight"] == 0 and (at[pair[0]] is b or row["entered"] == t["sent"]), (t, row)
        assert len(report["nodes"]) == 3 and {n["pid"] for n in report["nodes"]} == {a.pid, b.pid, old}
        new = node(report, b)
        [gone] = [n for n in report["nodes"] if n["pid"] == old]
        assert new["key"] == gone["key"] == b.key and new["peers"] == 10 and gone["peers"] == 0, report["nodes"]
        assert gone["ended"] <= new["since"], report["nodes"]
        check_counters(report, [b], {b.name: {}})
        check_counters(report, [a], before, ended=[a])
        [v] = verdicts(report, "node-restarted")
        assert v["node"] == gone["name"] or v["node"] == new["name"], v
        assert {w["class"] for w in report["verdicts"]} <= {"node-restarted", "link-down", "peer-absent"}, \
            [(w["class"], w["reason"], w["count"], w["summary"]) for w in report["verdicts"]]
        print("measured:", [(w["class"], w["reason"], w["count"]) for w in report["verdicts"]])


@scenario(timeout=90)
def test_node_stands_still():
    """The second gets no CPU for three seconds under traffic. What it then reads at once overruns its queues: the
    losses are the node's, and not those receivers' for whom they were.
    """
    with Lab("still") as lab:
        relays = a, b = meshed(lab, env=None)
        before = counters(relays)
        # What waited for three seconds comes at once, and the tracer may have to wait for a CPU meanwhile.
        trace = lab.derptrace("report", "--json", "--ring", "64M")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        # More than a queue of 32 holds in three seconds, and no more than relays have CPU for beside others' load:
        # at three times that they dropped in earnest, long after.
        peers.load.command("pairs", "list", among(peers.names), "count=240", "size=16-1400", "kind=mixed", "rate=30",
                           "burst=4", "id=load")
        until(lambda: b.counters().since(before[b.name]).packets_sent > 1000, "traffic to flow")
        b.send_signal(signal.SIGSTOP)
        time.sleep(3)       # what is tested is that length of time
        b.send_signal(signal.SIGCONT)
        peers.load.wait_event("sent_all", id="load")
        peers.quiet()
        truth = peers.truth()
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, relays, before)
        lost = lost_where(truth)
        assert lost > 100, truth
        [v] = only_verdicts(report, "node-slow")
        assert v["node"] == node(report, b)["name"] and v["link"] is None and v["basis"] == "relay", v
        assert v["count"] == {"min": lost, "max": lost}, (v, lost)
        print("measured:", v["summary"])


@scenario(timeout=90)
def test_backlog():
    """Clients that had connected, and that the relay had not yet accepted, when the tracer came."""
    with Lab("backlog") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        for r in relays:
            r.send_signal(signal.SIGSTOP)
        load = lab.derpload(lab.host("clients"))
        for i in range(20):
            load.command("peer", f"p{i}", relays[i % 2].url)
        for r in relays:
            until(lambda: waiting(r) >= 10, lambda: f"10 connections to wait at {r}, {waiting(r)} do")
        trace = lab.derptrace("report", "--json")
        for r in relays:
            r.send_signal(signal.SIGCONT)
        peers = Crowd.of(load, {f"p{i}": relays[i % 2] for i in range(20)})
        lab.clients_settled(20)
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        all_is_well(trace.stop(), relays, truth, before)


def waiting(relay):
    """How many connections wait to be accepted."""
    rows = relay.host.run("ss", "-Htln", "sport", "=", f":{relay.port}").splitlines()
    return sum(int(row.split()[1]) for row in rows)


@scenario(timeout=90)
def test_data_on_the_last_ack():
    """The handshake's last ACK is lost, so that the client's first data stand in for it and reach a listener."""
    with Lab("lastack") as lab:
        relays = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        clients = lab.host("clients")
        for r in relays:
            lab.net.lose_first_ack(clients, r.host, r.port)
        peers = Crowd(lab, clients, relays)
        lost = run("ip", "netns", "exec", lab.net.bridge, "nft", "list", "ruleset").count(f"{clients.ip4} . ")
        assert lost >= 20, lost
        lab.clients_settled(20)
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        all_is_well(trace.stop(), relays, truth, before)
