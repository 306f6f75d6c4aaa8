# SPDX-License-Identifier: BSD-2-Clause
"""Capture files: tcpdump's beside a live trace, and derptrace's own, in its eyes and in a stock tshark's."""
import os
import stat
import struct
import subprocess

from lab import ROOT, Lab, LabError, scenario, tail, until
from parts.proc import Proc
from parts.staging import DEEP
from parts.truth import Crowd, check_pairs, counters, rows, together

NOBODY = "nodekey:" + "5a" * 32
COUNT = 100
TRAFFIC = ("all", f"count={COUNT}", "size=1-1400", "kind=mixed", "rate=400", "burst=2")
DISSECTOR = f"{ROOT}/tools/wireshark/derp.lua"
PACKETS = {"4": "SendPacket", "5": "RecvPacket", "10": "ForwardPacket"}


def tcpdump(lab, path):
    """Everything that passes the lab's bridge."""
    log = path + ".log"
    proc = Proc("tcpdump", ["tcpdump", "-i", "br0", "-s", "0", "-B", "65536", "-Z", "root", "-w", path], log,
                ns=lab.net.bridge)
    lab.own(proc)
    until(lambda: "listening on" in tail(log), "tcpdump to listen", 10, 0.05)
    return proc


def stop(lab, proc):
    proc.send_signal(2)
    proc.wait(10)
    lab.disown(proc)


def secrets_of(path, to):
    """The key log inside a pcapng of ours, as a file."""
    with open(path, "rb") as f:
        data = f.read()
    at, found = 0, b""
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == 10:
            size = struct.unpack_from("<I", data, at + 12)[0]
            found += data[at + 16:at + 16 + size]
        at += length
    with open(to, "wb") as f:
        f.write(found)
    return found.decode().splitlines()


def tshark(path, *args):
    done = subprocess.run(["tshark", "-r", path, *args], capture_output=True, text=True)
    if done.returncode or "Lua" in done.stdout:
        raise LabError(f"tshark -r {path} {args}: {done.returncode}\n{done.stderr[-500:]}{done.stdout[-500:]}")
    return done.stdout


def frames(path, *args):
    """How many DERP frames of each type tshark sees with our dissector."""
    text = tshark(path, "-X", f"lua_script:{DISSECTOR}", "--disable-heuristic", "http_tls", "-T", "fields", "-e",
                  "derp.type", *args)
    found = {}
    for word in text.replace(",", "\n").split():
        found[int(word, 16)] = found.get(int(word, 16), 0) + 1
    return found


def troubles(path):
    """What tshark's expert has to say that is worse than talk; that TCP sends again is no fault of the file's."""
    fine = ("connection closing", "retransmission", "Duplicate ACK")
    text = tshark(path, "-q", "-z", "expert,note")
    return [line.strip() for line in text.splitlines()
            if " TCP " in line and not any(w in line for w in fine) or "Malformed" in line]


def report_of(lab, *args):
    return lab.derptrace("report", "--json", *args, pids=(), ready=False).wait()


def same(live, offline, why=False):
    """Pairs to the frame, links, and verdicts; why: with the relay's own word."""
    def pairs(r):
        return {k: (p["entered"], p["delivered"], p["in_flight"], p["lost"], p["untraced"])
                for k, p in rows(r).items()}

    def links(r):
        return sorted((k["state"], k["sent"], k["arrived"], k["lost"]["max"], k["untraced"]) for k in r["links"])

    def verdicts(r):
        return sorted((v["class"], v["count"]["min"], v["count"]["max"]) +
                      ((v["reason"] or "", v["basis"], v["hop"] or "") if why else ()) for v in r["verdicts"])

    for what in (pairs, links, verdicts):
        a, b = what(live), what(offline)
        if a != b:
            diff = [(k, a[k], b.get(k)) for k in a if a[k] != b.get(k)] if isinstance(a, dict) else (a, b)
            raise LabError(f"{what.__name__}: live and from a file: {diff[:10]}")


def compared(lab, meshed, **kind):
    """One traffic, seen live, by tcpdump on the wire, and by derptrace pcap."""
    a = lab.relay("derp1", mesh_with=["derp2.lab"] if meshed else [], env=DEEP, **kind)
    b = lab.relay("derp2", mesh_with=["derp1.lab"] if meshed else [], env=DEEP, **kind)
    clients = lab.host("clients")
    wire, own, one = (f"{lab.dir}/{n}" for n in ("wire.pcap", "own.pcapng", "one.pcapng"))
    dump, traces = tcpdump(lab, wire), []

    def meanwhile():
        traces.append(lab.derptrace("pcap", "-o", own, "--with-secrets"))
        traces.append(lab.derptrace("pcap", "-o", one, "--with-secrets", pids=[a.pid]))
        traces.append(lab.derptrace("report", "--json"))

    lab.up(meanwhile=meanwhile, meshed=meshed)
    peers = Crowd(lab, clients, [a, b], count=6)
    if meshed:
        lab.clients_settled(6)
    peers.pairs(*TRAFFIC)
    peers.quiet(1500)
    # A file knows no time but its packets': one more, so that what was lost a second ago is lost in it, too.
    peers.send("p0", "p2", "count=1")
    peers.quiet(300)
    truth, live = peers.truth(), traces[2].stop()
    for t in traces[:2]:
        t.stop()
        assert "were lost" not in tail(t.log), tail(t.log)
    stop(lab, dump)
    check_pairs(live, truth)
    return live, wire, own, one


@scenario(timeout=120)
def test_tcpdump_tls():
    """A capture of the wire and the secrets give the live report's pairs, links and verdicts; so does our own file,
    which a stock tshark decrypts without a complaint."""
    with Lab("files-tls") as lab:
        live, wire, own, one = compared(lab, True, family="46")
        keys = f"{lab.dir}/keys.txt"
        assert len(secrets_of(own, keys)) % 4 == 0
        same(live, report_of(lab, "--keylog", keys, wire))
        same(live, report_of(lab, own))
        assert not troubles(one), troubles(one)
        seen = frames(one)
        assert seen[4] == 15 * COUNT + 1 and seen[0x0a] > 0, seen
        assert stat.S_IMODE(os.stat(own).st_mode) == 0o600


@scenario(timeout=120)
def test_tcpdump_plain():
    """The same of a plain region, where no secrets are needed."""
    with Lab("files-plain") as lab:
        live, wire, own, one = compared(lab, True, kind="plainrelay")
        same(live, report_of(lab, wire))
        same(live, report_of(lab, own))
        assert not troubles(one), troubles(one)


@scenario(timeout=120)
def test_tcpdump_seed_case():
    """Two nodes that are not meshed: a capture of the wire tells it as the live trace does."""
    with Lab("files-seed") as lab:
        live, wire, own, one = compared(lab, False)
        keys = f"{lab.dir}/keys.txt"
        secrets_of(own, keys)
        assert {v["class"] for v in live["verdicts"]} >= {"no-mesh-route"}, live["verdicts"]
        same(live, report_of(lab, "--keylog", keys, wire))
        same(live, report_of(lab, own))


@scenario(timeout=120)
def test_open_connections():
    """Attached to open connections: theirs are decrypted frames with clear heads only, the new ones' secrets are
    inside; without --with-secrets no secret is, and all are frames. A report reads both back. Killed, what was
    written can be read."""
    with Lab("files-open") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        clients = lab.host("clients")
        lab.up()
        old = Crowd(lab, clients, [a, b], count=4, prefix="old")
        mixed, bare, killed = (f"{lab.dir}/{n}.pcapng" for n in ("mixed", "bare", "killed"))
        traces = [lab.derptrace("pcap", "-o", mixed, "--with-secrets"), lab.derptrace("pcap", "-o", bare),
                  lab.derptrace("pcap", "-o", killed)]
        new = Crowd(lab, clients, [a, b], count=4, prefix="new")
        for crowd in (old, new):
            crowd.pairs(*TRAFFIC)
        for crowd in (old, new):
            crowd.quiet()
        traces.pop().kill()
        for t in traces:
            t.stop()
        said = tail(traces[0].log)
        assert "4 with their secrets inside" in said and "8 as decrypted frames" in said, said
        assert len(secrets_of(mixed, f"{lab.dir}/keys.txt")) == 4 * 4
        assert not secrets_of(bare, f"{lab.dir}/none.txt")
        sent, forwarded = 2 * 12 * COUNT, 2 * 8 * COUNT
        got = frames(mixed, "-Y", "derptrace")
        assert got[4] == sent // 2 and got[0x0a] == 2 * forwarded, got
        for path in (bare, killed):
            got = frames(path, "-Y", "derptrace")
            assert got[4] == sent and got[0x0a] == 2 * forwarded, (path, got)
        longest = max(map(int, tshark(bare, "-Y", "frame.interface_name contains \"frames\"", "-T", "fields", "-e",
                                      "frame.cap_len").split()))
        assert longest <= 136 + 5 + 182, longest
        truth = together(old, new)
        for path in (mixed, bare):
            check_pairs(report_of(lab, path), truth)


@scenario(timeout=120)
def test_drops():
    """What the relay said of its drops is in our own file: a report from it has the same reasons. The file is one
    for a stock tshark all the same, and our dissector shows them."""
    with Lab("files-drops") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.up()
        bare, inside = f"{lab.dir}/bare.pcapng", f"{lab.dir}/inside.pcapng"
        peers = Crowd(lab, lab.host("clients"), [a, b], count=4)
        slow = Crowd(lab, lab.host("slow"), [b], count=1, prefix="s", options="rcvbuf=4096")
        lab.clients_settled(5)
        # Nobody asks the relays for their counters meanwhile: a connection that is no DERP, and that a file without
        # secrets cannot tell from one, might have been the absent peer's.
        before = counters([a, b])
        traces = [lab.derptrace("pcap", "-o", bare), lab.derptrace("pcap", "-o", inside, "--with-secrets"),
                  lab.derptrace("report", "--json")]
        slow.load.command("drip", "s0", 100000)
        for src, dst in (("p0", slow.keys["s0"]), ("p1", slow.keys["s0"]), ("p2", NOBODY), ("p3", NOBODY)):
            peers.load.command("send", src, dst, "count=600", "size=1000-1400", "kind=mixed", "rate=600", "id=send")
        for _ in range(4):
            peers.load.wait_event("sent", id="send")
        slow.load.command("resume", "s0")
        slow.quiet(1500)
        # A file knows of no link on which nothing passed.
        peers.send("p0", peers.keys["p1"], "count=1")
        peers.send("p1", peers.keys["p0"], "count=1")
        peers.quiet(300)
        live = traces[2].stop()
        for t in traces[:2]:
            t.stop()
            assert "were lost" not in tail(t.log), tail(t.log)
        check_pairs(live, together(peers, slow))
        dropped = sum(r.counters().since(before[r.name]).lost() for r in (a, b))
        assert dropped > 1300, dropped
        assert {v["reason"] for v in live["verdicts"]} >= {"unknown_dest", "queue_head"}, live["verdicts"]
        for path in (bare, inside):
            same(live, report_of(lab, path), why=True)
            assert not tshark(path, "-Y", "_ws.malformed")
            reasons = tshark(path, "-X", f"lua_script:{DISSECTOR}", "-Y", "derptrace.drop", "-T", "fields", "-e",
                             "derptrace.drop").split()
            assert len(reasons) == dropped and "queue_head" in reasons, (len(reasons), dropped, set(reasons))


@scenario(timeout=60)
def test_private():
    """Secrets never go into a file that others may read, nor over a source."""
    with Lab("files-private") as lab:
        path, own = f"{lab.dir}/open.pcapng", f"{lab.dir}/source.pcap"
        for p in (path, own):
            with open(p, "wb") as f:
                f.write(b"precious")
            os.chmod(p, 0o644)
        for args, word in ((("-o", path, "--with-secrets"), "others may read it"), (("-o", own, own), "source")):
            trace = lab.derptrace("pcap", *args, pids=(), ready=False)
            trace.wait()
            assert trace.code == 3 and word in tail(trace.log), (args, trace.code, tail(trace.log))
            with open(args[1], "rb") as f:
                assert f.read() == b"precious"
