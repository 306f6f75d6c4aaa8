# SPDX-License-Identifier: BSD-2-Clause
"""At the network card: what reached it is what was sent; what it had and the socket had not, the host dropped. Nothing
that is there already is touched, and nothing stays behind.
"""
import contextlib
import re
import signal
import socket
import struct
import time

from lab import Lab, scenario, tail, until
from parts.net import inside
from parts.proc import run
from parts.staging import syns_again
from parts.truth import Crowd, check_pairs, link, node, only_verdicts
from parts.xdp import attached, stranger

TRAFFIC = ("ring", "count=200", "size=1-1400", "kind=mixed", "rate=200", "burst=4")
STUN = bytes.fromhex("00010014" "2112a442") + b"transactions" + b"\x80\x22\x00\x08tailnode" + b"\x80\x28\x00\x04"
CRC_XOR = 0x5354554e


def stun_request():
    """As tailscale's clients send it: SOFTWARE tailnode, FINGERPRINT."""
    import zlib
    return STUN + struct.pack(">I", zlib.crc32(STUN[:-4]) ^ CRC_XOR)


def ask(client, relay, count, port=3478):
    """Sends so many STUN requests; how many answers came back."""
    answers = 0
    with inside(client.ns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(0.2)
        for _ in range(count):
            sock.sendto(stun_request(), (relay.host.ip4, port))
            with contextlib.suppress(OSError):
                answers += sock.recv(1500)[:2] == b"\x01\x01"
    return answers


def acked_bytes(host, port):
    """What the clients' kernel knows of their open connections: payload acknowledged, how many, segments sent again."""
    out = run("ip", "netns", "exec", host.ns, "ss", "-Htin", "state", "established", "dport", "=", f":{port}")
    again = sum(int(n) for n in re.findall(r"retrans:\d+/(\d+)", out))
    found = [int(n) - 1 for n in re.findall(r"bytes_acked:(\d+)", out)]
    return sum(found), len(found), again


def healthy(lab, mode, family):
    relay = lab.relay("derp1", family=family)
    lab.up()
    clients = lab.host("clients")
    trace = lab.derptrace("report", "--json", "--xdp", mode)
    assert attached(relay.host)[1] == mode
    peers = Crowd(lab, clients, [relay])
    peers.pairs(*TRAFFIC)
    peers.quiet()
    sent, count, again = acked_bytes(clients, relay.port)
    report = trace.stop()
    assert attached(relay.host) is None
    only_verdicts(report)
    truth = peers.truth()
    check_pairs(report, truth)
    assert all(t["sent"] == t["received"] for t in truth.values()), truth
    nic = node(report, relay)["nic"]
    assert nic["mode"] == mode and nic["interfaces"] == "eth0", nic
    assert nic["syn"] == count == 20 and nic["drops"] == nic["rst"] == nic["fin"] == 0, nic
    assert again or nic["duplicates"] == 0, nic
    assert sent <= nic["bytes"] <= sent + again * 1500, (nic, sent, again)
    assert "watched: XDP " + mode in tail(trace.log, 50)


@scenario(timeout=60)
def test_healthy_native():
    """Natively on veth: no verdict, and the card's bytes are those that the clients' TCP sent, to the byte."""
    with Lab("nicnative") as lab:
        healthy(lab, "native", "4")


@scenario(timeout=60)
def test_healthy_generic():
    """In generic mode, over IPv6: the same."""
    with Lab("nicgeneric") as lab:
        healthy(lab, "generic", "6")


def says(trace, words, timeout=15):
    def there():
        with open(trace.log) as f:
            return words in f.read()
    until(there, lambda: f"derptrace to say {words!r}; its words:\n{tail(trace.log, 50)}", timeout, 0.05)


@scenario(timeout=60)
def test_strangers_stay():
    """A program that is there stays, in either mode; all else is traced; when it leaves, the card is watched."""
    with Lab("nicstranger") as lab:
        relay = lab.relay("derp1")
        lab.up()
        clients = lab.host("clients")
        for mode in ("native", "generic"):
            with stranger(relay.host, mode):
                theirs = attached(relay.host)
                trace = lab.derptrace("report", "--json")
                says(trace, "another XDP program is on it")
                assert attached(relay.host) == theirs
                peers = Crowd(lab, clients, [relay], count=4)
                peers.pairs("ring", "count=50", "size=1-1400", "rate=100")
                peers.quiet()
            says(trace, "is watched: XDP native")
            report = trace.stop()
            only_verdicts(report)
            check_pairs(report, peers.truth())
            assert trace.code == 0, tail(trace.log)
            peers.load.quit()
        with stranger(relay.host, "generic"):
            trace = lab.derptrace("report", "--json", "--xdp", "generic")
            trace.stop()
            assert trace.code == 3, tail(trace.log)


@scenario(timeout=60)
def test_killed_leaves_nothing():
    """kill -9: the program is gone from the interface with the tracer, in either mode."""
    with Lab("nickilled") as lab:
        relay = lab.relay("derp1")
        lab.up()
        for mode in ("native", "generic"):
            trace = lab.derptrace("report", "--xdp", mode)
            assert attached(relay.host)[1] == mode
            trace.kill()
            until(lambda: attached(relay.host) is None, f"nothing to be on {relay}'s interface")
        off = lab.derptrace("report", "--json", "--xdp", "off")
        assert attached(relay.host) is None
        assert node(off.stop(), relay)["nic"] is None


@scenario(timeout=60)
def test_interfaces_change():
    """Down and up, renamed, added, removed, while it is traced: said, counted on, and nothing is lost by it."""
    with Lab("nicchange") as lab:
        relay = lab.relay("derp1")
        lab.up()
        host = relay.host
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), [relay], count=4)
        host.run("ip", "link", "set", "eth0", "down")
        says(trace, "eth0 is down")
        host.run("ip", "link", "set", "eth0", "name", "wan0")
        host.run("ip", "link", "set", "wan0", "up")
        says(trace, "wan0 is up again")
        says(trace, "eth0 is called wan0 now")
        host.run("ip", "link", "add", "extra0", "type", "veth", "peer", "name", "extra1")
        host.run("ip", "addr", "add", "10.88.0.1/24", "dev", "extra0")
        says(trace, "extra0 is watched")
        assert attached(host, "extra0")
        host.run("ip", "link", "del", "extra0")
        says(trace, "extra0 is gone")
        peers.pairs("ring", "count=100", "size=1-1400", "rate=100")
        peers.quiet()
        report = trace.stop()
        only_verdicts(report)
        check_pairs(report, peers.truth())
        nic = node(report, relay)["nic"]
        assert nic["interfaces"] == "wan0" and nic["syn"] == 4 and nic["bytes"] > 4 * 100 * 100, nic


@scenario(timeout=60)
def test_refused_once():
    """A bridge has no native mode: that is said once, however often other interfaces come and go."""
    with Lab("nicrefused") as lab:
        relay = lab.relay("derp1")
        lab.up()
        host = relay.host
        host.run("ip", "link", "add", "br0", "type", "bridge")
        host.run("ip", "addr", "add", "10.88.1.1/24", "dev", "br0")
        host.run("ip", "link", "set", "br0", "up")
        trace = lab.derptrace("report", "--json", "--xdp", "native")
        for name in ("first0", "second0"):
            host.run("ip", "link", "add", name, "type", "veth", "peer", "name", "far0")
            host.run("ip", "addr", "add", "10.88.0.1/24", "dev", name)
            says(trace, f"{name} is watched: XDP native")
            host.run("ip", "link", "del", name)
            says(trace, f"{name} is gone")
        trace.stop()
        with open(trace.log) as f:
            assert f.read().count("br0 is not watched") == 1, tail(trace.log, 50)
        assert trace.code == 3, tail(trace.log)


def strangers_dial(host, relay, count):
    """Connections begun and left to themselves."""
    socks = []
    with inside(host.ns):
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect((relay.host.ip4, relay.port))
            socks.append(sock)
    return socks


@scenario(slow=True, timeout=90)
def test_firewall_drops_clients():
    """The relay's own host drops some clients' SYNs: they reached the card, and no socket. Others are fine."""
    with Lab("nicfirewall") as lab:
        relay = lab.relay("derp1")
        lab.up()
        shut_out, clients = lab.host("shutout"), lab.host("clients")
        with lab.net.drop_at_host(relay.host, src=shut_out, dport=relay.port):
            trace = lab.derptrace("report", "--json")
            peers = Crowd(lab, clients, [relay], count=4)
            socks = strangers_dial(shut_out, relay, 3)
            peers.pairs("ring", "count=100", "size=1-1400", "rate=50")
            peers.quiet()
            time.sleep(4)       # TCP's own retries, after one second and three
            report = trace.stop()
        for sock in socks:
            sock.close()
        check_pairs(report, peers.truth())
        [verdict] = only_verdicts(report, "host-drop")
        words = " ".join(verdict["evidence"])
        assert verdict["node"] == node(report, relay)["name"] and not verdict["link"], verdict
        assert "packets of 3 connections never came to a socket" in verdict["summary"], verdict
        assert "reached no socket" in words and shut_out.ip4 in words and clients.ip4 not in words, words
        assert "nft list ruleset" in verdict["fix"], verdict
        assert node(report, relay)["nic"]["drops"] == 3


@scenario(slow=True, timeout=90)
def test_syn_that_comes_twice():
    """A SYN that is dropped once and answered the second time is no host-drop, nor one that was dropped on the way."""
    with Lab("nictwice") as lab:
        relay = lab.relay("derp1")
        lab.up()
        clients, far = lab.host("clients"), lab.host("far")
        trace = lab.derptrace("report", "--json")
        with lab.net.drop_at_host(relay.host, src=clients, dport=relay.port):
            socks = strangers_dial(clients, relay, 3)
            time.sleep(0.5)
        with lab.net.drop_syn(relay.host, relay.port, src=far):
            socks += strangers_dial(far, relay, 3)
            time.sleep(5)
        with inside(clients.ns):
            for sock in socks[:3]:
                assert sock.getpeername()
        report = trace.stop()
        only_verdicts(report)
        nic = node(report, relay)["nic"]
        assert nic["drops"] == 0 and nic["syn"] == 6, nic


@scenario(slow=True, timeout=90)
def test_firewall_drops_a_mesh_dial():
    """A node's host drops what another node dials: the link is down by host-drop, and the packets are charged to it."""
    with Lab("nicmesh") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        with lab.net.drop_at_host(b.host, src=a.host, dport=b.port):
            lab.up(meshed=False)
            trace = lab.derptrace("report", "--json")
            peers = Crowd(lab, lab.host("clients"), [a, b], count=4)
            time.sleep(8)
            peers.pairs("list", "p0>p1,p1>p0", "count=50", "size=1-1400", "rate=50")
            peers.quiet()
            report = trace.stop()
        [verdict] = only_verdicts(report, "host-drop")
        lost = sum(t["sent"] - t["received"] for t in peers.truth().values())
        assert lost == 50 and verdict["count"] == {"min": lost, "max": lost}, verdict
        down = link(report, a, b)
        assert (down["state"], down["reason"]) == ("down", "host-drop"), down
        assert verdict["link"] == {"from": down["from"], "to": down["to"]}, verdict
        assert verdict["reason"] == "host-drop" and "reached no socket" in " ".join(verdict["evidence"]), verdict


@scenario(slow=True, timeout=90)
def test_lost_on_the_way():
    """The same dial, lost before it reaches the host: no host-drop, and the report says that the card saw nothing."""
    with Lab("nicway") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        with lab.net.blackhole(a.host, b.host, dport=b.port):
            lab.up(meshed=False)
            trace = lab.derptrace("report", "--json")
            peers = Crowd(lab, lab.host("clients"), [a, b], count=4)
            time.sleep(8)
            peers.pairs("list", "p0>p1,p1>p0", "count=50", "size=1-1400", "rate=50")
            peers.quiet()
            report = trace.stop()
        [verdict] = only_verdicts(report, "link-down")
        assert verdict["reason"] == "no-answer", verdict
        assert any("never reached the network card" in line for line in verdict["evidence"]), verdict


@scenario(slow=True, timeout=90)
def test_firewall_drops_an_open_link():
    """On a mesh link that is up the far host begins to drop what arrives: host-drop, with bytes that TCP never got."""
    with Lab("nicopen") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.up()
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), [a, b], count=4)
        lab.clients_settled(4)
        peers.pairs("list", "p0>p1,p1>p0", "count=50", "size=1-1400", "rate=100")
        peers.quiet()
        with lab.net.drop_at_host(b.host, src=a.host, dport=b.port):
            peers.pairs("list", "p0>p1", "count=20", "size=1-1400", "rate=100")
            time.sleep(6)
            report = trace.stop()
        found = only_verdicts(report, "host-drop")
        assert len(found) == 1 and found[0]["reason"] == "host-drop", found
        assert found[0]["link"]["to"] == node(report, b)["name"], found
        assert any("that TCP was never given" in line for line in found[0]["evidence"]), found
        assert link(report, a, b)["reason"] == "host-drop", report["links"]


def waiting(host, port):
    """How many connections wait to be accepted."""
    out = run("ip", "netns", "exec", host.ns, "ss", "-Hltn", "sport", "=", f":{port}")
    return int(out.split()[1])


@scenario(slow=True, timeout=90)
def test_accept_queue_is_full():
    """The relay stands still and its queue of connections to accept is short: host-drop, at the listener, of every
    connection, whenever in the tracer's second its SYNs come.
    """
    with Lab("nicbacklog") as lab:
        lab.host("derp1").sysctl("net.core.somaxconn", 2)
        relay = lab.relay("derp1")
        lab.up()
        clients = lab.host("clients")
        trace = lab.derptrace("report", "--json")
        relay.send_signal(signal.SIGSTOP)
        try:
            socks = strangers_dial(clients, relay, 3)
            until(lambda: waiting(relay.host, relay.port) == 3, "the queue to be full")
            for _ in range(7):
                socks += strangers_dial(clients, relay, 1)
                time.sleep(0.14)        # a seventh of the second after which TCP and the tracer come again
            until(lambda: [n for n in syns_again(clients, relay.port) if n >= 3][6:], "SYNs to be sent again")
            report = trace.stop()
        finally:
            relay.send_signal(signal.SIGCONT)
        for sock in socks:
            sock.close()
        [verdict] = only_verdicts(report, "host-drop")
        assert any("reached the listener and were dropped there" in line for line in verdict["evidence"]), verdict
        assert "somaxconn" in verdict["fix"] and "nft" not in verdict["fix"], verdict
        assert node(report, relay)["nic"]["drops"] == 7, node(report, relay)["nic"]


@scenario(timeout=60)
def test_stun():
    """STUN that is answered: requests at the card, at the socket, and answers are as many; scanners do not count."""
    with Lab("nicstun") as lab:
        relay = lab.relay("derp1")
        lab.up()
        client = lab.host("client")
        trace = lab.derptrace("report", "--json")
        with inside(client.ns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                sock.sendto(STUN.replace(b"tailnode", b"scanner!") + b"\0\0\0\0", (relay.host.ip4, 3478))
        assert ask(client, relay, 20) == 20
        report = trace.stop()
        only_verdicts(report)
        nic = node(report, relay)["nic"]
        assert nic["stun_in"] == nic["stun_heard"] == nic["stun_out"] == 20 and nic["stun_listens"], nic


@scenario(timeout=60)
def test_stun_unanswered():
    """STUN without answers: the host drops requests, then answers; and a relay that does not serve it at all."""
    with Lab("nicnostun") as lab:
        relay = lab.relay("derp1")
        deaf = lab.relay("derp2", args=["-stun=false"])
        lab.up(meshed=False)
        client = lab.host("client")
        for hook, way, heard in (("input", "dport", 0), ("output", "sport", 12)):
            rule = lab.net._nft(relay.host.ns, "inet", hook, [f"udp {way} 3478 drop"], f"STUN {hook} dropped")
            with rule:
                trace = lab.derptrace("report", "--json", pids=[relay.pid])
                assert ask(client, relay, 12) == 0
                report = trace.stop()
            [verdict] = only_verdicts(report, "stun-unanswered")
            nic = node(report, relay)["nic"]
            assert (nic["stun_in"], nic["stun_heard"], nic["stun_out"]) == (12, heard, 0), nic
            assert ("on their way in" in verdict["fix"]) == (hook == "input"), verdict
        trace = lab.derptrace("report", "--json", pids=[deaf.pid])
        assert ask(client, deaf, 12) == 0
        report = trace.stop()
        [verdict] = only_verdicts(report, "stun-unanswered")
        assert not node(report, deaf)["nic"]["stun_listens"] and "-stun must not be false" in verdict["fix"], verdict
