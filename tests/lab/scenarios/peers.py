# SPDX-License-Identifier: BSD-2-Clause
"""Relays and mesh are well; it is a peer that is not there, has moved, is there twice, or does not answer."""
from lab import Lab, scenario, until
from parts.staging import EVERYONE, has_local, knows, meshed
from parts.truth import (Crowd, check_counters, check_pairs, check_verdicts, counters, expected, lost_where, node,
                         only_verdicts, rows, short, together)

NOBODY = "nodekey:" + "5a" * 32
ZERO = "nodekey:" + "00" * 32


@scenario(timeout=90)
def test_destination_nowhere():
    """Sent from both nodes to keys that are connected to none of them, one of them all zeros; all else arrives."""
    with Lab("absent") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        for src, dst in (("p0", NOBODY), ("p2", NOBODY), ("p1", ZERO)):
            peers.load.command("send", src, dst, "count=500", "size=1-1400", "kind=mixed", "rate=250", "burst=4")
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth, lambda s, d: d in (NOBODY, ZERO)) == lost_where(truth) == 1500
        assert [r.counters().since(before[r.name]).dropped("unknown_dest") for r in relays] == [1000, 500]
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, relays, before)
        found = check_verdicts(report, *(expected("peer-absent", lost, "unknown_dest", node=r, hop="client-in",
                                                  basis="relay") for r, lost in ((a, 1000), (b, 500))))
        assert [v["dst"] for v in found] == [NOBODY, ZERO], found
        for pair, row in rows(report).items():
            assert set(row["lost_by"]) == ({"peer-absent"} if pair[1] in (NOBODY, ZERO) else set()), row


@scenario(slow=True, timeout=120)
def test_old_socket_stale():
    """A peer moves from the first node to the second and its old connection hears nothing of it. The first goes on
    sending into the dead socket, until TCP gives up after 15 s; then it takes the mesh.
    """
    with Lab("stale") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        mover = Crowd(lab, lab.host("mover"), [a], count=1, prefix="m")
        knows(a, 22), knows(b, 22)
        key, home = mover.keys["m0"], mover.load.command
        peers.send("p0", key, "count=300", "size=1-1400", "kind=mixed", "rate=300", "burst=4")
        peers.quiet()
        [port] = [p for local, addr, p in a.sockets() if (local, addr) == (a.port, lab.host("mover").ip4)]
        lab.net.blackhole(a.host, lab.host("mover"), sport=a.port, dport=port)
        lab.net.blackhole(lab.host("mover"), a.host, sport=port, dport=a.port)
        home("close", "m0", "how=silent")
        mover.load.wait_event("down", peer="m0")
        home("peer", "m0", b.url)
        assert mover.load.wait_event("up", peer="m0")["key"] == key
        has_local(b, 12)
        for src in ("p0", "p2", "p1"):
            peers.load.command("send", src, key, "count=100", "size=1-1400", "kind=mixed", "rate=20",
                               "id=stale")
        peers.pairs(*EVERYONE)
        for _ in range(3):
            peers.load.wait_event("sent", dst=key, id="stale")
        assert a.counters().packets_forwarded_out - before["derp1"].packets_forwarded_out == \
            b.counters().packets_forwarded_in - before["derp2"].packets_forwarded_in
        has_local(a, 11, timeout=40)
        # The relay gave up after a write of 2 s; the kernel holds on to what it was given.
        until(lambda: f"[::ffff:{lab.host('mover').ip4}]:{port}" not in a.host.run("ss", "-Htan").split(),
              "the old socket to be gone", timeout=60, every=0.2)
        peers.send("p0", key, "count=300", "size=1-1400", "kind=mixed", "rate=300", "burst=4")
        peers.quiet()
        truth = together(peers, mover)
        at = {key: peers.at[n] for n, key in peers.keys.items()}
        lost = lost_where(truth, lambda s, d: d == key and at[s] is a)
        assert lost == lost_where(truth) == 200
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, relays, before, ended=[a])
        [v] = check_verdicts(report, expected("stale-route", lost, node=a, hop="client-out"))
        assert v["dst"] == key and any(node(report, b)["name"] in line for line in v["evidence"]), v


@scenario(timeout=90)
def test_not_told_yet():
    """A peer connects to the second while nothing of the second's reaches the first: the first cannot know of it, and
    what enters there meanwhile is lost. It is no stale route, and once the mesh has told, all arrives.
    """
    with Lab("untold") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        knows(a, 22), knows(b, 22)
        with lab.net.blackhole(b.host, a.host, sport=b.port):
            late = Crowd(lab, lab.host("late"), [b], count=1, prefix="l")
            has_local(b, 12)
            peers.send("p0", late.keys["l0"], "count=20", "size=1-1400", "kind=mixed", "rate=200")
            until(lambda: a.counters().dropped("unknown_dest") - before["derp1"].dropped("unknown_dest") == 20,
                  "the first to have dropped them")
        knows(a, 23)
        for src in ("p0", "p1"):
            peers.send(src, late.keys["l0"], "count=100", "size=1-1400", "kind=mixed", "rate=200")
        peers.pairs(*EVERYONE)
        peers.quiet()
        report = trace.stop()
        truth = together(peers, late)
        check_pairs(report, truth)
        check_counters(report, relays, before)
        [v] = check_verdicts(report, expected("peer-absent", 20, "unknown_dest", node=a, hop="client-in", link=(a, b),
                                              basis="relay"))
        assert v["dst"] == late.keys["l0"] and any("PeerPresent" in line for line in v["evidence"]), v


@scenario(timeout=90)
def test_one_key_from_two_addresses():
    """One key twice on one node, another once on each node: both addresses of both are told. Nothing is lost."""
    with Lab("twice") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        one = Crowd(lab, lab.host("one"), [b], count=2, prefix="t")
        knows(a, 23), knows(b, 23)
        peers.send("p0", one.keys["t0"], "count=100", "size=1-1400", "kind=mixed", "rate=100")
        peers.quiet()
        two = Crowd(lab, lab.host("two"), [b, a], count=2, prefix="t")
        assert one.keys == two.keys
        has_local(b, 13), has_local(a, 12)
        for src, dst in (("p1", "t0"), ("p2", "t0"), ("p1", "t1"), ("p2", "t1")):
            peers.load.command("send", src, one.keys[dst], "count=300", "size=1-1400", "kind=mixed", "rate=200")
        # Both speak. Whoever spoke last is sent to; the other hears nothing, and lives on.
        for crowd, dst in ((one, "p5"), (two, "p6")):
            for src in crowd.names:
                crowd.load.command("send", src, peers.keys[dst], "count=30", "size=1-1400", "kind=mixed", "rate=10")
        peers.pairs(*EVERYONE)
        for crowd in (one, two):
            for src in crowd.names:
                crowd.load.wait_event("sent", src_name=src)
        peers.quiet(), one.quiet(), two.quiet()
        truth = together(peers, one, two)
        assert lost_where(truth) == 0, {p: t for p, t in truth.items() if t["sent"] != t["received"]}
        assert [r.counters().since(before[r.name]).lost() for r in relays] == [0, 0]
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, relays, before)
        told = [line for v in only_verdicts(report, "duplicate-peer") for line in [v["summary"], *v["evidence"]]]
        for host in ("one", "two"):
            assert any(f"{lab.host(host).ip4}:" in line for line in told), told
        for key in one.keys.values():
            assert any(v["src"] == key or v["dst"] == key for v in report["verdicts"]) or \
                any(short(key) in line for line in told), report["verdicts"]
        assert all(v["count"] == {"min": 0, "max": 0} for v in report["verdicts"])


@scenario(slow=True, timeout=90)
def test_handshakes_unanswered():
    """WireGuard initiations are relayed and delivered, on one node and across, and nobody answers."""
    with Lab("unanswered") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        for src, dst in (("p0", "p9"), ("p3", "p12"), ("p4", "p14")):
            peers.load.command("send", src, dst, "count=7", "kind=wginit", "rate=1", "id=init")
        peers.pairs(*EVERYONE)
        for _ in range(3):
            peers.load.wait_event("sent", id="init")
        # A peer asks again after five seconds, and gives up after ninety.
        peers.quiet(6000)
        truth = peers.truth()
        assert lost_where(truth) == 0
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, relays, before)
        found = only_verdicts(report, "handshake-unanswered")
        told = [line for v in found for line in [v["summary"], *v["evidence"]]]
        for name in ("p9", "p12", "p14"):
            assert any(v["dst"] == peers.keys[name] for v in found) or \
                any(short(peers.keys[name]) in line for line in told), (name, told)
        assert all(v["count"] == {"min": 0, "max": 0} for v in found)


@scenario(slow=True, timeout=90)
def test_paused_reader_is_closed():
    """A peer stops reading under a flood from both nodes. Its relay closes it after a write of 2 s, though the socket
    lives on with what nobody reads: from then on it is connected nowhere, and both nodes know it.
    """
    with Lab("paused") as lab:
        relays = a, b = meshed(lab, env=None)
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays, count=4)
        slow = Crowd(lab, lab.host("slow"), [b], count=1, prefix="s", options="rcvbuf=20000")
        lab.clients_settled(5)
        slow.load.command("pause", "s0")
        for src in ("p0", "p1"):
            peers.load.command("send", src, slow.keys["s0"], "size=1000-1400", "kind=mixed", "count=100000",
                               "rate=1000", "burst=4", "id=flood")
        for r in relays:
            until(lambda: r.counters().since(before[r.name]).dropped("unknown_dest") > 1000, f"{r} to drop 1000")
        slow.load.command("resume", "s0")
        # Whether it read all that was sent shows in how it ended; see it where this fails.
        print("s0:", slow.load.wait_event("down", peer="s0"))
        peers.load.command("stop", "flood")
        for _ in range(2):
            peers.load.wait_event("sent", dst=slow.keys["s0"])
        slow.quiet()
        report = trace.stop()
        truth = together(peers, slow)
        check_pairs(report, truth)
        check_counters(report, relays, before, ended=[b])
        found = only_verdicts(report, "queue-drop", "peer-absent")
        for r in relays:
            nowhere = [v for v in found if v["node"] == node(report, r)["name"] and v["reason"] == "unknown_dest"]
            dropped = r.counters().since(before[r.name]).dropped("unknown_dest")
            assert [(v["class"], v["count"]["min"]) for v in nowhere] == [("peer-absent", dropped)], found
