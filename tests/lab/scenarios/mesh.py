# SPDX-License-Identifier: BSD-2-Clause
"""Links that do not come up: why not is said where the dial stopped, and what did not cross is charged to it."""
from lab import Lab, scenario, until
from parts.staging import EVERYONE, knows, said, says, syns_again
from parts.truth import (Crowd, check_counters, check_pairs, check_verdicts, counters, expected, link, lost_where, node,
                         rows)


def failing(lab, relays, words, late=False, slow=False):
    """Two nodes of which some cannot dial: traced from before the first dial, or late, in the middle of it all.

    words: what the log of each relay that fails says when it does. slow: the answers take their time, so that the
    tracer tells of the dials before.
    """
    begun = []

    def again():
        return [n for r in relays for n in syns_again(r.host, relays[0].port)]

    def trace():
        before = max(again(), default=0)
        begun.append(lab.derptrace("report", "--json"))
        if slow:
            until(lambda: len(again()) == len(relays) and min(again()) > before + 2, "the dials to wait")

    lab.up(meshed=False, meanwhile=None if late else trace)
    if late:
        for r, w in words.items():
            says(r, w)
        trace()
    # A late trace must see a dial of its own: the relays try again every five seconds.
    before = {r: said(r, w) if late else 0 for r, w in words.items()}
    for r, w in words.items():
        says(r, w, before[r])
    return begun[0]


def hold(lab, relays, trace, down, only_once=False):
    """Traffic among all; what should have crossed a link that is down is lost there, and all else arrives.

    down: {(from, to): reason}.
    """
    before = counters(relays)
    peers = Crowd(lab, lab.host("clients"), relays)
    for r in relays:
        own = sum(at is r for at in peers.at.values())
        knows(r, own if any(link[0] is r for link in down) else len(peers.names))
    peers.pairs(*EVERYONE)
    peers.quiet()
    truth = peers.truth()
    at = {key: peers.at[name] for name, key in peers.keys.items()}
    for pair, t in truth.items():
        way = at[pair[0]], at[pair[1]]
        assert t["received"] == (0 if way in down else t["sent"]), (pair, t)
    assert sum(t["sent"] for t in truth.values()) >= 10000
    for r in relays:
        lost = lost_where(truth, lambda s, d: (at[s], at[d]) in down and at[s] is r)
        assert r.counters().since(before[r.name]).dropped("unknown_dest") == lost
    report = trace.stop()
    check_pairs(report, truth)
    check_counters(report, relays, before)
    for r in relays:
        assert node(report, r)["key"] == r.key
    wanted = []
    for (x, y), reason in down.items():
        lost = lost_where(truth, lambda s, d: (at[s], at[d]) == (x, y))
        wanted.append(expected("link-down", lost, reason, node=x, link=(x, y), hop="client-in", basis="relay"))
        row = link(report, x, y)
        assert (row["state"], row["reason"], row["sent"]) == ("down", reason, 0), row
    for x in relays:
        for y in relays:
            assert x is y or (x, y) in down or link(report, x, y)["state"] == "up", report["links"]
    for pair, row in rows(report).items():
        charged = {"link-down"} if (at[pair[0]], at[pair[1]]) in down else set()
        assert set(row["lost_by"]) == charged, row
    return check_verdicts(report, *wanted)


@scenario(timeout=90)
def test_mesh_keys_differ():
    """Each takes the other for a client: it is let in, asks to watch, and is thrown out."""
    with Lab("meshkey") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"], mesh_key="ab" * 32)
        trace = failing(lab, (a, b), {a: "Recv: ", b: "Recv: "}, slow=True)
        hold(lab, (a, b), trace, {(a, b): "mesh-key", (b, a): "mesh-key"})


@scenario(timeout=90)
def test_mesh_name_not_in_certificate():
    """The first dials the second by a name that its certificate does not have; the other way all is well."""
    with Lab("tls") as lab:
        a = lab.relay("derp1", mesh_with=["other.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.net.name("other.lab", b.host)
        trace = failing(lab, (a, b), {a: "remote error: tls"})
        [v] = hold(lab, (a, b), trace, {(a, b): "tls"})
        assert any("other.lab" in line for line in v["evidence"]), v


@scenario(timeout=90)
def test_mesh_port_refused():
    """The second's port answers the first's SYN with a reset."""
    with Lab("refused") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.net.refuse(b.host, b.port, src=a.host)
        trace = failing(lab, (a, b), {a: "connection refused"})
        hold(lab, (a, b), trace, {(a, b): "refused"})


@scenario(slow=True, timeout=90)
def test_mesh_syn_dropped():
    """Nobody answers the first's SYN to the second."""
    with Lab("noanswer") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.net.drop_syn(b.host, b.port, src=a.host)
        trace = failing(lab, (a, b), {a: "mesh connect: "})
        hold(lab, (a, b), trace, {(a, b): "no-answer"})


@scenario(timeout=90)
def test_node_dials_itself():
    """The first's mesh entry leads to itself: it says so once, and never dials again."""
    with Lab("self") as lab:
        a = lab.relay("derp1", mesh_with=["derp1.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        trace = failing(lab, (a, b), {a: "detected self-connect"})
        hold(lab, (a, b), trace, {(a, b): "self"})


@scenario(timeout=90)
def test_two_nodes_with_one_server_key():
    """Each takes the other for itself."""
    with Lab("samekey") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"], server_key=a)
        trace = failing(lab, (a, b), {a: "detected self-connect", b: "detected self-connect"}, slow=True)
        hold(lab, (a, b), trace, {(a, b): "same-key", (b, a): "same-key"})


@scenario(slow=True, timeout=120)
def test_late_to_a_mesh_that_fails():
    """Attached in the middle: one way is refused, the other never answered, and the next dials tell."""
    with Lab("latefail") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.net.refuse(b.host, b.port, src=a.host)
        lab.net.drop_syn(a.host, a.port, src=b.host)
        trace = failing(lab, (a, b), {a: "connection refused", b: "mesh connect: "}, late=True)
        hold(lab, (a, b), trace, {(a, b): "refused", (b, a): "no-answer"})
