# SPDX-License-Identifier: BSD-2-Clause
"""Where relays stand: more nodes, other binaries, other address families, namespaces, and hosts that are short of
something. All is well in each, and every book exact.
"""
import socket
import struct
import time

from lab import Lab, scenario, tail, until
from parts.net import inside
from parts.staging import DEEP, EVERYONE, all_is_well, among, healthy, meshed
from parts.truth import Crowd, counters, lost_where, node, together


@scenario(timeout=90)
def test_three_nodes():
    """Three meshed nodes, thirty peers."""
    with Lab("three") as lab:
        names = [f"p{i}" for i in range(30)]
        healthy(lab, meshed(lab, 3), count=30, traffic=("list", among(names), "count=115", *EVERYONE[3:]))


@scenario(timeout=90)
def test_stripped_and_pie():
    """A derper without symbols and one that is position independent, over IPv6."""
    with Lab("binaries") as lab:
        a = lab.relay("derp1", kind="derper-stripped", mesh_with=["derp2.lab"], family="6", env=DEEP)
        b = lab.relay("derp2", kind="derper-pie", mesh_with=["derp1.lab"], family="46", env=DEEP)
        lab.up()
        healthy(lab, [a, b])


@scenario(timeout=90)
def test_plain_http_and_websocket():
    """As Coder's replicas are: plain HTTP, one listener MPTCP, half of the peers on WebSocket, IPv4 and IPv6."""
    with Lab("plain") as lab:
        a = lab.relay("r1", kind="plainrelay", mesh_with=["r2.lab"], family="46", env=DEEP)
        b = lab.relay("r2", kind="plainrelay", mesh_with=["r1.lab"], family="6", args=["-mptcp=false"], env=DEEP)
        relays = a, b
        lab.up()
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        sockets = Crowd(lab, lab.host("browsers"), relays, prefix="w", proto="ws")
        lab.clients_settled(40)
        peers.pairs(*EVERYONE)
        sockets.pairs("list", among(sockets.names), *EVERYONE[2:])
        for i in range(20):
            over = ("count=50", "size=1-1400", "kind=mixed", "rate=50", "id=over")
            peers.load.command("send", f"p{i}", sockets.keys[f"w{i}"], *over)
            sockets.load.command("send", f"w{i}", peers.keys[f"p{(i + 3) % 20}"], *over)
        for crowd in (peers, sockets):
            for _ in range(20):
                crowd.load.wait_event("sent", id="over")
        peers.quiet(), sockets.quiet()
        truth = together(peers, sockets)
        all_is_well(trace.stop(), relays, truth, before)


@scenario(timeout=90)
def test_two_in_one_namespace():
    """Two nodes on one host, meshed over loopback, one of them in a container: pid, mount and cgroup of its own."""
    with Lab("oneroof") as lab:
        a = lab.relay("derp1", host="shared", mesh_with=["derp2.lab:8443"], env=DEEP)
        b = lab.relay("derp2", host="shared", port=8443, stun_port=3479, mesh_with=["derp1.lab"], container=True,
                      env=DEEP)
        lab.up()
        healthy(lab, [a, b])


@scenario(timeout=90)
def test_large_packets_and_small_buffers():
    """Packets of up to 16 KiB into receive buffers of 8 KiB: every frame is in pieces, and senders wait."""
    with Lab("small") as lab:
        for name in ("derp1", "derp2"):
            lab.net.small_buffers(lab.host(name), receive=8192)
        relays = meshed(lab)
        healthy(lab, relays, traffic=("list", among([f"p{i}" for i in range(20)]), "count=170", "size=1-16384",
                                      "kind=mixed", "rate=15", "coalesce=1"))


@scenario(timeout=90)
def test_dropping_qdisc():
    """A token bucket behind the relays' sockets drops what it cannot send at once: TCP sends it again, and no frame is
    counted twice.
    """
    with Lab("tbf") as lab:
        relays = meshed(lab)
        for r in relays:
            lab.net.shape(r.host, rate="200mbit", burst="4000", limit="6000")
        healthy(lab, relays, traffic=(*EVERYONE[:2], "count=170", "size=1-1400", "kind=mixed", "rate=30", "burst=4"))
        dropped = [r.host.run("tc", "-s", "qdisc", "show", "dev", "eth0") for r in relays]
        assert all("dropped 0" not in d for d in dropped), dropped


@scenario(timeout=90)
def test_no_memory_for_socket_storage():
    """Sockets may hold no ancillary memory: what cannot be traced is said, nobody is accused, and no connection of the
    relay is lost.
    """
    with Lab("optmem") as lab:
        for name in ("derp1", "derp2"):
            lab.host(name).sysctl("net.core.optmem_max", 64)
        relays = meshed(lab)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == 0 and not [e for e in peers.load.events if e["ev"] == "down"]
        report = trace.stop()
        for v in report["verdicts"]:
            assert v["basis"] == "unknown" and v["count"]["min"] == 0, v
        assert trace.code == 3 and "optmem_max" in tail(trace.log), (trace.code, tail(trace.log))


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def segment(src, dst, sport, dport, seq, ack, payload, wrong=0):
    """A TCP segment with data; wrong is added to its checksum."""
    head = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xffffffff, ack & 0xffffffff, 5 << 4, 0x18, 1024, 0, 0)
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, 6, len(head) + len(payload))
    sum_ = (checksum(pseudo + head + payload) + wrong) & 0xffff
    return head[:16] + struct.pack("!H", sum_) + head[18:] + payload


class Wire:
    """What a host sends to a relay, heard beside it: {source port: (next sequence number, acknowledged)}."""

    def __init__(self, host, relay):
        self.relay = relay
        with inside(host.ns):
            self.heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.heard.setblocking(False)
        self.src, self.dst, self.flows = host.ip4, relay.host.ip4, {}

    def listen(self):
        while True:
            try:
                data, where = self.heard.recvfrom(65536)
            except BlockingIOError:
                return
            if where[2] != socket.PACKET_OUTGOING or len(data) < 40 or data[0] >> 4 != 4 or data[9] != 6 or \
                    data[16:20] != socket.inet_aton(self.dst):
                continue
            tcp = data[(data[0] & 15) * 4:struct.unpack("!H", data[2:4])[0]]
            sport, dport, seq, ack = struct.unpack("!HHII", tcp[:12])
            # Ours are heard too: they have no options.
            if dport == self.relay.port and tcp[12] >> 4 > 5:
                self.flows[sport] = seq + len(tcp) - (tcp[12] >> 4) * 4 + (tcp[13] >> 1 & 1), ack

    def forge(self, payload):
        """On every connection: the payload in place with a wrong checksum, before the window, and behind it."""
        self.listen()
        for sport, (seq, ack) in self.flows.items():
            for at, wrong in ((seq, 1), (seq - (1 << 20), 0), (seq + (1 << 29), 0)):
                data = segment(self.src, self.dst, sport, self.relay.port, at, ack, payload, wrong)
                self.raw.sendto(data, (self.dst, 0))
        return 3 * len(self.flows)


@scenario(timeout=90)
def test_forged_segments():
    """Segments that TCP throws away, in the middle of plain DERP: they look like packets sent, and are none."""
    with Lab("forged") as lab:
        a = lab.relay("r1", kind="plainrelay", mesh_with=["r2.lab"], args=["-mptcp=false"], env=DEEP)
        b = lab.relay("r2", kind="plainrelay", mesh_with=["r1.lab"], args=["-mptcp=false"], env=DEEP)
        relays = a, b
        lab.up()
        clients = lab.host("clients")
        wires = [Wire(clients, r) for r in relays]
        before = counters(relays)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, clients, relays)
        lab.clients_settled(20)
        frame = struct.pack("!BI", 4, 32 + 100) + bytes.fromhex(peers.keys["p0"].removeprefix("nodekey:")) + bytes(100)
        forged = 0
        peers.load.command("pairs", *EVERYONE, "id=pairs")
        while not [e for e in peers.load.events if e["ev"] == "sent_all"]:
            forged += sum(w.forge(frame * 5) for w in wires)
            peers.load.command("stats", "pairs=0", "peers=0")
            peers.load.wait_event("stats")
            time.sleep(0.005)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == 0, [r.counters().since(before[r.name]).dropped() for r in relays]
        assert forged > 300, forged
        errors = sum(int(r.host.run("nstat", "-asz", "TcpInCsumErrors").splitlines()[1].split()[1]) for r in relays)
        assert errors >= forged // 4, (errors, forged)
        report = trace.stop()
        print(f"measured: {forged} forged segments, {errors} bad checksums seen by the relays' kernel")
        all_is_well(report, relays, truth, before)


@scenario(timeout=90)
def test_who_is_a_relay():
    """Without being told whom to trace: every relay is found by what it serves, and programs that merely link DERP
    are none. (Other labs may run on this host; theirs are not looked at.)
    """
    with Lab("who") as lab:
        derper = lab.relay("derp1")
        plain = lab.relay("r1", kind="plainrelay")
        relays = derper, plain
        lab.up(meshed=False)
        others = [lab.idlelinker(lab.host("o1")), lab.idlelinker(lab.host("o2"), "-server")]
        for o, host in zip(others, ("o1", "o2")):
            until(lambda: ":8080" in lab.host(host).run("ss", "-Htln"), f"{host} to listen")
        peers = [Crowd(lab, lab.host("clients"), [r], count=2, prefix=r.name) for r in relays]
        trace = lab.derptrace("report", "--json", pids=())
        for crowd in peers:
            crowd.send(crowd.names[0], crowd.names[1], "count=100", "rate=200")
            crowd.quiet()
        report = trace.stop()
        pids = {n["pid"] for n in report["nodes"]}
        assert {derper.pid, plain.pid} <= pids and not pids & {o.pid for o in others}, report["nodes"]
        for r in relays:
            assert node(report, r)["entered"] == 100 == node(report, r)["left"], node(report, r)
