# SPDX-License-Identifier: BSD-2-Clause
"""The lab, before anything is traced in it: relays mesh and carry, breaks break and mend, counters tell the truth."""
import os
import signal
import socket
import time

from lab import Lab, LabError, scenario, tail, until
from parts.net import inside


def carry(lab, src_relay, dst_relay, count=500, rate=500, websocket=False, tag=""):
    """Sends count packets across and awaits every one; returns both keys."""
    one = lab.goclient(lab.host("c1"), websocket=websocket)
    two = lab.goclient(lab.host("c2"), websocket=websocket)
    src, dst = one.peer("src", src_relay), two.peer("dst", dst_relay)
    lab.clients_settled(2)
    one.send("src", dst, count, 1200, rate)
    assert one.sent("src", dst) == count
    until(lambda: received(two, "dst", src) == count, f"{count} packets to arrive")
    one.quit(), two.quit()
    return src, dst


def received(client, name, src):
    return client.stats()["peers"][name]["received"].get(src, {}).get("packets", 0)


@scenario(timeout=60)
def test_tls_region_of_three():
    """Three kinds of derper, each meshed with each; the relays' own counters balance."""
    with Lab("tls3") as lab:
        names = ["derp1", "derp2", "derp3"]
        nodes = [lab.relay(n, kind=k, mesh_with=[f"{o}.lab" for o in names if o != n])
                 for n, k in zip(names, ("derper", "derper-stripped", "derper-pie"))]
        lab.up()
        before = [n.counters() for n in nodes]
        carry(lab, nodes[0], nodes[2])
        grown = [n.counters().since(b) for n, b in zip(nodes, before)]
        assert grown[0].packets_received == grown[0].packets_forwarded_out == 500
        assert grown[2].packets_forwarded_in == grown[2].packets_sent == 500
        assert grown[1].packets_received == grown[1].packets_forwarded_in == 0
        assert [g.lost() for g in grown] == [0, 0, 0]


@scenario(timeout=60)
def test_plain_region_and_websocket():
    """Plain HTTP as Coder has it: an MPTCP listener, WebSocket clients, IPv6 names."""
    with Lab("plain") as lab:
        a = lab.relay("r1", kind="plainrelay", mesh_with=["r2.lab"], family="6")
        b = lab.relay("r2", kind="plainrelay", mesh_with=["r1.lab"], family="6", args=["-mptcp=false"])
        lab.up()
        assert "mptcp" in a.host.run("ss", "-HtlM") and "mptcp" not in b.host.run("ss", "-HtlM")
        assert any(peer == b.host.ip6 for _, peer, _ in a.sockets()), a.sockets()
        carry(lab, a, b, websocket=True)
        assert a.counters().packets_forwarded_out == 500
        assert "websocket" in a.varz() and a.counters()["derp_websocket_accepts"] == 1


@scenario(timeout=60)
def test_load():
    """derpload, 20 peers on two nodes, every pair of a ring: each packet counted at both ends and by the relays."""
    with Lab("load") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.up()
        load = lab.derpload(lab.host("c1"))
        load.peers({f"p{i}": (a, b)[i % 2] for i in range(20)})
        lab.clients_settled(20)
        load.pairs("ring", count=500, size="1-1400", kind="mixed", rate=100)
        load.barrier()
        load.quiet()
        books = load.books()
        assert len(books) == 20 and all(p["sent"] == p["received"] == 500 for p in books.values()), books
        seen = [r.counters() for r in (a, b)]
        assert sum(c.packets_received for c in seen) == 10000 == sum(c.packets_forwarded_in for c in seen)
        assert load.quit() == 0


@scenario(timeout=60)
def test_wrong_meshes():
    """Each way to mesh wrongly fails in the relay's own words."""
    def says(relay, words):
        until(lambda: words in tail(relay.log, 50), lambda: f"{relay} to say: {words}\n{tail(relay.log)}")

    with Lab("wrong") as lab:
        a = lab.relay("derp1", mesh_with=["other.lab", "derp1.lab", "closed.host"])
        b = lab.relay("derp2", mesh_with=[a], mesh_key="ab" * 32)
        c = lab.relay("derp3", mesh_with=[a], server_key=a)
        lab.net.name("other.lab", b.host)
        lab.net.name("closed.host", lab.host("closed"))
        lab.up(meshed=False)
        says(a, "remote error: tls")
        says(a, "detected self-connect")
        says(a, "connection refused")
        says(b, "Recv: ")
        says(c, "detected self-connect")
        assert a.key == c.key != b.key
        client = lab.goclient(lab.host("c1"))
        client.command("peer", "x", a.url)
        assert client.wait_event("up")["server"] == a.key
        assert a.counters().watchers == 0


@scenario(timeout=60)
def test_breaks():
    """Each break does what it says, and mending ends it."""
    with Lab("breaks") as lab:
        one, two = lab.host("one"), lab.host("two")

        def reaches(src, dst, size=56):
            with inside(dst.ns):
                listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with inside(src.ns):
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with listener, sender:
                listener.bind((dst.ip4, 0))
                listener.settimeout(0.5)
                sender.sendto(bytes(size), listener.getsockname())
                try:
                    return len(listener.recv(2048)) == size
                except TimeoutError:
                    return False

        def connects(port=443):
            code = one.run("curl", "-sko", "/dev/null", "-m", "1", "-w", "%{exitcode}",
                           f"https://{relay.host.ip4}:{port}/", check=False)
            return {"0": "yes", "7": "refused", "28": "no answer", "35": "yes"}.get(code, code)

        relay = lab.relay("derp1")
        lab.up()
        assert connects() == "yes"
        with lab.net.drop_syn(relay.host, 443):
            assert connects() == "no answer"
        with lab.net.refuse(relay.host, 443, src=one):
            assert connects() == "refused"
        with lab.net.drop_at_host(relay.host, src=one, dport=443):
            assert connects() == "no answer"
        with lab.net.blackhole(one, relay.host):
            assert connects() == "no answer"
        assert connects() == "yes"
        with lab.net.drop_large(one, two, 600):
            assert reaches(one, two) and not reaches(one, two, 1000) and reaches(two, one, 1000)
        assert reaches(one, two, 1000)
        with lab.net.shape(one, rate="1mbit"):
            assert "tbf" in one.run("tc", "qdisc", "show", "dev", "eth0")
        assert "tbf" not in one.run("tc", "qdisc", "show", "dev", "eth0")
        with lab.net.small_buffers(one, receive=8192):
            assert one.run("sysctl", "-n", "net.ipv4.tcp_rmem").split() == ["4096", "8192", "8192"]
        assert one.run("sysctl", "-n", "net.ipv4.tcp_rmem").split()[2] != "8192"


@scenario(slow=True, timeout=60)
def test_two_on_a_host_and_a_container():
    """Two relays in one namespace, one of them in pid and mount namespaces of its own; killed and started again."""
    with Lab("inside") as lab:
        a = lab.relay("derp1", host="shared", mesh_with=["derp2.lab:8443"])
        b = lab.relay("derp2", host="shared", port=8443, stun_port=3479, mesh_with=["derp1.lab"], container=True)
        lab.up()
        assert a.host is b.host and b.pid != b.proc.pid
        assert os.readlink(f"/proc/{b.pid}/exe").endswith("/derper")
        assert os.readlink(f"/proc/{b.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
        carry(lab, a, b)
        old = b.pid
        b.restart()
        assert b.pid != old and not os.path.exists(f"/proc/{old}")
        a.send_signal(signal.SIGSTOP)
        a.send_signal(signal.SIGCONT)
        lab.mesh_up()


@scenario(slow=True, timeout=60)
def test_reset():
    """A mesh connection that is reset is dialled again by its owner, after the 5 s that it waits."""
    with Lab("reset") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2")
        lab.up()
        before = {s for s in a.sockets() if s[2] == 443}
        lab.net.reset(a.host, b.host)
        began = time.monotonic()
        until(lambda: {s for s in a.sockets() if s[2] == 443} - before, "the mesh to be dialled again")
        lab.mesh_up()
        print(f"measured: mesh redialled {time.monotonic() - began:.1f} s after a reset")


@scenario(timeout=60)
def test_teardown():
    """A lab leaves nothing behind, whatever ends it."""
    def left(prefix):
        return [n for d in ("/run/netns", "/etc/netns", "/tmp") if os.path.isdir(d)
                for n in os.listdir(d) if n.startswith(prefix)]
    try:
        with Lab("down") as lab:
            prefix = lab.prefix
            relay = lab.relay("derp1")
            lab.up()
            assert left(prefix)
            raise LabError("on purpose")
    except LabError as e:
        assert str(e) == "on purpose"
    assert not left(prefix), left(prefix)
    assert not os.path.exists(f"/proc/{relay.proc.pid}")
    try:
        with Lab("signal") as lab:
            prefix = lab.prefix
            lab.relay("derp1")
            lab.up()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            raise AssertionError("the signal was lost")
    except KeyboardInterrupt:
        pass
    assert not left(prefix), left(prefix)
