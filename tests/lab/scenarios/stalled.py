# SPDX-License-Identifier: BSD-2-Clause
"""A mesh link that is up and carries nothing: one direction of its connection vanishes on the way."""
from lab import Lab, scenario, until
from parts.staging import DEEP, EVERYONE, knows, meshed, says
from parts.truth import (Crowd, check_counters, check_pairs, check_verdicts, counters, expected, link, lost_where, node,
                         only_verdicts, rows, verdicts)

ACROSS = ",".join(f"p{i}>p{i + 1}" for i in range(0, 20, 2))
BESIDE = ",".join(f"p{i}>p{(i + 2) % 20}" for i in range(0, 20, 2))


class Staged:
    """Two meshed nodes, traced, twenty peers, and healthy traffic so far."""

    def __init__(self, lab):
        self.lab = lab
        self.a = lab.relay("derp1", mesh_with=["derp2.lab"], env=DEEP)
        self.b = lab.relay("derp2", mesh_with=["derp1.lab"], env=DEEP)
        self.relays = self.a, self.b
        lab.up()
        self.before = counters(self.relays)
        self.trace = lab.derptrace("report", "--json")
        self.peers = Crowd(lab, lab.host("clients"), self.relays)
        lab.clients_settled(20)
        self.healthy()

    def healthy(self):
        """Traffic among all, every packet of which arrives."""
        before = lost_where(self.peers.truth())
        self.peers.pairs(*EVERYONE)
        self.peers.quiet()
        assert lost_where(self.peers.truth()) == before

    def blackhole(self):
        """What the first sends on its mesh connection is dropped; a new connection would pass."""
        [port] = [local for local, addr, port in self.a.sockets() if (addr, port) == (self.b.host.ip4, self.b.port)]
        return self.lab.net.blackhole(self.a.host, self.b.host, sport=port, dport=self.b.port)

    def grown(self):
        return [r.counters().since(self.before[r.name]) for r in self.relays]

    def swallowed(self):
        """Packets that the first counts as forwarded, and that the second has never seen."""
        grown = self.grown()
        return grown[0].packets_forwarded_out - grown[1].packets_forwarded_in


def settle(staged, truth, ended=()):
    report = staged.trace.stop()
    check_pairs(report, truth)
    check_counters(report, staged.relays, staged.before, ended=ended)
    return report


@scenario(slow=True, timeout=90)
def test_blackhole_healed():
    """Healed before anybody gives up: TCP sends all of it again. Nothing is lost, and the standstill is told."""
    with Lab("healed") as lab:
        s = Staged(lab)
        hole = s.blackhole()
        s.peers.load.command("pairs", "list", ACROSS, "count=20", "size=1-400", "kind=mixed", "rate=10", "id=pairs")
        s.peers.load.wait_event("sent_all")
        until(lambda: s.swallowed() == 200, "200 packets to be swallowed")
        hole.mend()
        s.peers.quiet(3000)
        truth = s.peers.truth()
        assert lost_where(truth) == s.swallowed() == 0
        report = settle(s, truth)
        check_verdicts(report, expected("link-stalled", 0, "blackhole", link=(s.a, s.b), hop="mesh-out"))
        assert link(report, s.a, s.b)["state"] == "up"


@scenario(slow=True, timeout=90)
def test_mtu():
    """Large segments vanish, and always have: small packets pass, and the first large one stops all behind it."""
    with Lab("mtu") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        hole = lab.net.drop_large(a.host, b.host, 900)
        peers.pairs("list", ACROSS, "count=40", "size=16-400", "kind=mixed", "rate=20")
        peers.quiet()
        assert lost_where(peers.truth()) == 0
        peers.load.command("pairs", "list", ACROSS, "count=4", "size=1200-1400", "kind=mixed", "rate=1", "id=pairs")
        peers.load.wait_event("sent_all")
        until(lambda: a.counters().since(before[a.name]).packets_forwarded_out == 440, "all to be forwarded")
        hole.mend()
        peers.quiet(3000)
        truth = peers.truth()
        assert lost_where(truth) == 0
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, relays, before)
        [v] = check_verdicts(report, expected("link-stalled", 0, "mtu", link=(a, b), hop="mesh-out"))
        assert any("400 forwards" in line for line in v["evidence"]), v["evidence"]


@scenario(slow=True, timeout=120)
def test_blackhole_then_reset():
    """Packets vanish, then the connection is reset and dialled again: what is lost is the tail of the stream, and it
    is the same by the clients' count, by stream position, and by difference of the relays' counters.
    """
    with Lab("blackhole") as lab:
        s = Staged(lab)
        s.blackhole()
        s.peers.load.command("pairs", "list", ACROSS, "count=20", "size=1-400", "kind=mixed", "rate=7", "id=pairs")
        s.peers.load.wait_event("sent_all")
        lost = 200
        until(lambda: s.swallowed() == lost, f"{lost} packets to be swallowed")
        lab.net.reset(s.a.host, s.b.host, s.b.port)
        says(s.a, "Recv: ")
        knows(s.a, 21)
        knows(s.b, 21)
        s.healthy()
        truth = s.peers.truth()
        # The relays know of no loss at all: the second never saw these packets, the first counts them as forwarded.
        assert [g.lost() for g in s.grown()] == [0, 0] and s.swallowed() == lost
        assert lost_where(truth) == lost
        report = settle(s, truth, [s.a])
        found = only_verdicts(report, "link-stalled")
        ab = link(report, s.a, s.b)
        assert ab["lost"]["min"] == ab["lost"]["max"] == ab["sent"] - ab["arrived"], ab
        assert ab["lost"]["min"] + node(report, s.a)["lost"]["min"] == lost, (ab, node(report, s.a))
        assert sum(v["count"]["min"] for v in found) == sum(v["count"]["max"] for v in found) == lost, found
        assert {(v["link"]["from"], v["link"]["to"], v["reason"]) for v in found} == \
            {(node(report, s.a)["name"], node(report, s.b)["name"], "blackhole")}, found
        assert all(set(r["lost_by"]) <= {"link-stalled"} for r in rows(report).values())


@scenario(slow=True, timeout=150)
def test_blackhole_past_the_write_deadline():
    """The first's socket fills, and its write blocks: whoever sends across waits, with all that it sends to its
    neighbours. After 5 s the relay closes the link, swallows what it was about to forward, and has no routes until it
    watches again.
    """
    with Lab("deadline") as lab:
        s = Staged(lab)
        s.blackhole()
        load = s.peers.load
        load.command("pairs", "list", ACROSS, "count=30", "size=10000-40000", "kind=mixed", "rate=5", "id=across")
        load.command("pairs", "list", BESIDE, "count=30", "size=1-1400", "kind=mixed", "rate=5", "id=beside")
        load.wait_event("sent_all", id="beside")
        load.wait_event("sent_all", id="across")
        says(s.a, "Recv: ")
        knows(s.a, 21)
        s.peers.quiet()
        s.healthy()
        truth, grown = s.peers.truth(), s.grown()
        assert lost_where(truth) == s.swallowed() + grown[0].lost() and grown[1].lost() == 0
        assert s.swallowed() > 0 < grown[0].dropped("unknown_dest") == grown[0].lost()
        print("measured: swallowed", s.swallowed(), "without a route", grown[0].lost())
        report = settle(s, truth, [s.a])
        # The link is up again a moment before it is told who is where: what comes then finds no route yet.
        stale = verdicts(report, "stale-route")
        early = sum(v["count"]["min"] for v in stale)
        assert early <= 10, stale
        report["verdicts"] = [v for v in report["verdicts"] if v not in stale]
        stalled, _ = check_verdicts(
            report,
            expected("link-stalled", s.swallowed(), "blackhole", link=(s.a, s.b), node=s.a, hop="mesh-out"),
            expected("link-down", grown[0].lost() - early, "closed", link=(s.a, s.b), node=s.a, hop="client-in",
                     basis="relay"))
        assert node(report, s.a)["unflushed"] > 0
        # Who waited behind it, though nothing of theirs went that way.
        assert any("wait" in line or "held" in line for line in stalled["evidence"]), stalled["evidence"]
