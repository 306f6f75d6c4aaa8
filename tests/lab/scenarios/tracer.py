# SPDX-License-Identifier: BSD-2-Clause
"""The tracer itself: what it says when it sees only a part, and that nobody notices it."""
import json
import os
import signal
import subprocess
import time

from lab import BUILD, Lab, scenario, tail, until
from parts.staging import EVERYONE, all_is_well, among, knows, meshed
from parts.tracer import held, still_loaded, validate
from parts.truth import Crowd, check_counters, check_pairs, counters, link, lost_where, node, only_verdicts, rows

NOBODY = "nodekey:" + "5a" * 32


def intervals_hold(report, truth):
    """No pair's books say more than what was seen, and the truth lies in every interval."""
    for pair, row in rows(report).items():
        t = truth[pair]
        lost = t["sent"] - t["received"]
        assert row["entered"] <= t["sent"], (t, row)
        assert row["lost"]["min"] <= lost, (t, row)
        # What never entered the books is not in the interval either.
        unseen = t["sent"] - row["entered"]
        assert lost <= row["lost"]["max"] + row["in_flight"] + unseen, (t, row)


@scenario(slow=True, timeout=120)
def test_starved():
    """Two tracers, one with a ring of a page, one with a larger one, both stopped for five seconds under load: what
    they could not see is untraced, what was lost lies within what they say, and they accuse nobody.
    """
    with Lab("starved") as lab:
        relays = meshed(lab)
        traces = [lab.derptrace("report", "--json", "--ring", ring) for ring in ("4096", "512K")]
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs("list", among(peers.names), "count=20", "size=1-1400", "kind=mixed", "rate=20")
        peers.load.command("send", "p0", NOBODY, "count=1000", "size=1-1400", "kind=mixed", "rate=200", "id=nowhere")
        began = time.monotonic()
        for trace in traces:
            trace.send_signal(signal.SIGSTOP)
        peers.pairs("list", among(peers.names), "count=300", "size=1-1400", "kind=mixed", "rate=60", "burst=4")
        peers.load.wait_event("sent", id="nowhere")
        time.sleep(max(0.0, 5 - (time.monotonic() - began)))
        for trace in traces:
            trace.send_signal(signal.SIGCONT)
        peers.pairs("list", among(peers.names), "count=20", "size=1-1400", "kind=mixed", "rate=20")
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == 1000
        for trace in traces:
            report = trace.stop()
            untraced = sum(n["untraced"] for n in report["nodes"])
            # A packet that was seen neither coming nor going is in no book at all.
            unseen = sum(t["sent"] for t in truth.values()) - sum(p["entered"] for p in report["pairs"])
            assert report["tracer"]["segments_lost"] > 0 < untraced + unseen, (report["tracer"], report["nodes"])
            intervals_hold(report, truth)
            for v in report["verdicts"]:
                assert v["class"] == "peer-absent" and v["dst"] == NOBODY, v
                # Most of them were never seen: they are in no pair's books, but may be of these.
                assert v["count"]["min"] <= 1000 <= v["count"]["max"], v
            print("measured: entered", [n["entered"] for n in report["nodes"]], "untraced", untraced, report["tracer"])


@scenario(timeout=90)
def test_one_of_two_nodes():
    """Only the first is traced: its own pairs are exact, what it forwarded is known to have left for a node that
    nobody traces, and that is no loss.
    """
    with Lab("onetraced") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json", pids=[a.pid])
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == 0
        report = trace.stop()
        check_counters(report, [a], before)
        at = {key: peers.at[name] for name, key in peers.keys.items()}
        have = rows(report)
        for pair, t in truth.items():
            way, row = (at[pair[0]], at[pair[1]]), have.get(pair)
            if way == (b, b):
                assert not row or not row["entered"], row
            elif way[1] is a:
                assert row["entered"] == row["delivered"] == t["sent"] and row["lost"]["max"] == 0, row
            else:
                assert (row["entered"], row["lost"]["min"]) == (t["sent"], 0) and \
                    row["delivered"] + row["untraced"] == t["sent"], row
        forwarded = sum(t["sent"] for p, t in truth.items() if (at[p[0]], at[p[1]]) == (a, b))
        [v] = only_verdicts(report, "untraced-node")
        assert v["basis"] == "unknown" and v["count"]["min"] == 0 and v["count"]["max"] <= forwarded, v
        ab = [k for k in report["links"] if k["from"] == node(report, a)["name"]]
        assert len(ab) == 1 and (ab[0]["sent"], ab[0]["arrived"]) == (forwarded, None), report["links"]


@scenario(timeout=90)
def test_one_node_alone():
    """One node, traced, and no map: a destination that it does not have may be on another one."""
    with Lab("alone") as lab:
        a = lab.relay("derp1")
        lab.up()
        before = counters([a])
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), [a])
        peers.send("p0", NOBODY, "count=200", "size=1-1400", "kind=mixed", "rate=400")
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == 200
        report = trace.stop()
        check_pairs(report, truth)
        check_counters(report, [a], before)
        [v] = only_verdicts(report, "peer-absent")
        assert v["basis"] == "unknown" and v["count"] == {"min": 200, "max": 200} and v["dst"] == NOBODY, v
        assert v["node"] == node(report, a)["name"] and v["hop"] == "client-in", v


def without(value, names):
    """The value, less all fields of these names, wherever they are."""
    if isinstance(value, list):
        return [without(v, names) for v in value]
    if isinstance(value, dict):
        return {k: without(v, names) for k, v in value.items() if k not in names}
    return value


def essence(report):
    """A report without what no two looks at the same thing share: when, how fast, at what cost; nor what a network card
    counts, which has room for one tracer at a time."""
    report = without(report, ("latency_us",))
    pairs = report["pairs"]
    pairs.sort(key=lambda p: (p["src"] or "", p["dst"] or ""))
    verdicts = [{k: v for k, v in w.items() if k not in ("first", "last", "evidence")} for w in report["verdicts"]]
    nodes = [{k: v for k, v in n.items() if k not in ("since", "nic")} for n in report["nodes"]]
    tracer = {k: v for k, v in report["tracer"].items() if k != "cpu_percent"}
    return {"pairs": pairs, "verdicts": verdicts, "nodes": sorted(nodes, key=lambda n: n["name"]),
            "links": sorted(report["links"], key=lambda k: (k["from"], k["to"])), "tracer": tracer}


def same(one, other, *parts):
    for part in parts or one:
        if one[part] != other[part]:
            if isinstance(one[part], list):
                raise AssertionError("\n".join([part] + [f"- {x}" for x in one[part] if x not in other[part]] +
                                               [f"+ {x}" for x in other[part] if x not in one[part]]))
            raise AssertionError(f"{part}: {one[part]} and {other[part]}")


def one_way(lab):
    """Something to report: the second does not dial the first."""
    a = lab.relay("derp1", mesh_with=["derp2.lab"])
    b = lab.relay("derp2")
    lab.up()
    return a, b


@scenario(timeout=90)
def test_more_pairs_than_rows():
    """Fewer rows, and fewer connections kept, than there are: what is over is in one row that is exact, its losses
    are told with their reason, and nobody is accused because one relay keeps a row that the other does not.
    """
    with Lab("rows") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json", "--max-pairs", 5, "--max-connections", 4)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs("ring", "count=100", "size=1-1400", "kind=mixed", "rate=100", "burst=4")
        for src in ("p0", "p1"):
            peers.send(src, NOBODY, "count=100", "size=1-1400", "kind=mixed", "rate=200")
        peers.quiet()
        truth = peers.truth()
        report = trace.stop()
        check_counters(report, relays, before)
        assert len(report["pairs"]) == 6, report["pairs"]
        other = rows(report)[None, None]
        named = [p for p in report["pairs"] if p["src"]]
        for row in named:
            t = truth[row["src"], row["dst"]]
            assert (row["entered"], row["delivered"], row["untraced"]) == (t["sent"], t["received"], 0), (t, row)
        for ours, theirs in (("entered", "sent"), ("delivered", "received")):
            assert other[ours] == sum(t[theirs] for t in truth.values()) - sum(p[ours] for p in named), other
        assert other["untraced"] == other["in_flight"] == 0, other
        said = {(v["node"], v["count"]["min"]) for v in only_verdicts(report, "peer-absent")}
        assert said == {(node(report, r)["name"], 100) for r in (a, b)}, said


@scenario(timeout=120)
def test_records_say_the_same():
    """A report from a file of records is the live one; both looked at the same relays at the same time, and two
    tracers on one relay are both exact.
    """
    with Lab("records") as lab:
        relays = one_way(lab)
        before = counters(relays)
        path = f"{lab.dir}/region.dtr"
        live = lab.derptrace("report", "--json")
        record = lab.derptrace("record", "-o", path, "--budget", "off")
        peers = Crowd(lab, lab.host("clients"), relays)
        knows(relays[0], 20)
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        first = live.stop()
        record.stop()
        assert record.code == 0, record.code
        replay = lab.derptrace("report", "--json", path, pids=(), ready=False)
        second = replay.wait()
        for report in (first, second):
            check_pairs(report, truth)
            check_counters(report, relays, before)
            only_verdicts(report, "link-one-way")
        assert live.code == replay.code == 1
        same(essence(first), essence(second))


def piped(lab, here, there, *args):
    """What `ssh there derptrace record -o - | derptrace report live -` does."""
    read, write = os.pipe()
    record = lab.derptrace("record", "-o", "-", "--budget", "off", pids=[there.pid], out=write)
    os.close(write)
    report = lab.derptrace("report", "--json", *args, "live", "-", pids=[here.pid], stdin=read)
    os.close(read)
    return record, report


@scenario(timeout=120)
def test_two_hosts_by_pipe():
    """Each node traced by a process of its own and joined by a pipe: as if one had traced both."""
    with Lab("pipe") as lab:
        relays = a, b = one_way(lab)
        before = counters(relays)
        both = lab.derptrace("report", "--json")
        record, joined = piped(lab, a, b)
        peers = Crowd(lab, lab.host("clients"), relays)
        knows(a, 20)
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        record.stop()
        reports = joined.stop(), both.stop()
        for report in reports:
            check_pairs(report, truth)
            check_counters(report, relays, before)
        assert (record.code, joined.code, both.code) == (0, 1, 1)
        same(essence(reports[0]), essence(reports[1]), "pairs", "verdicts", "nodes", "links")


@scenario(timeout=90)
def test_follow():
    """A line per interval, from a trace that is ready: all of one window, whose end alone moves; over a pipe too."""
    with Lab("follow") as lab:
        a, b = meshed(lab)
        often = "-f", "--interval", "100ms"
        trace = lab.derptrace("report", "--json", *often)
        record, joined = piped(lab, a, b, *often)
        for t in trace, joined:
            until(lambda: t.text().count("\n") >= 8, "eight lines")
        record.stop()
        trace.stop()
        joined.stop()
        for t in trace, joined:
            lines = [json.loads(line) for line in t.text().splitlines()]
            starts, ends = [{r["window"][which] for r in lines} for which in ("start", "end")]
            assert len(starts) == 1 and len(ends) > 7, (starts, ends)
            assert min(len(r["nodes"]) for r in lines) == 2, [len(r["nodes"]) for r in lines]


@scenario(timeout=120)
def test_pipe_cut():
    """The far host's tracer dies in the middle: what had come is kept, the rest is untraced and no loss, and the exit
    code says that not all that was asked was done.
    """
    with Lab("cut") as lab:
        relays = a, b = meshed(lab)
        before = counters(relays)
        record, joined = piped(lab, a, b)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*EVERYONE)
        record.kill()
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = peers.truth()
        assert lost_where(truth) == 0
        report = joined.stop()
        assert joined.code == 3, joined.code
        check_counters(report, [a], before)
        intervals_hold(report, truth)
        at = {key: peers.at[name] for name, key in peers.keys.items()}
        untraced = 0
        for pair, row in rows(report).items():
            if (at[pair[0]], at[pair[1]]) == (a, a):
                assert row["delivered"] == truth[pair]["sent"] and not row["untraced"], row
            untraced += row["untraced"]
            assert row["lost"]["min"] == 0, row
        assert untraced > 0
        for v in report["verdicts"]:
            assert v["basis"] == "unknown" and v["count"]["min"] == 0, v
        assert node(report, b)["entered"] > 0, report["nodes"]


@scenario(timeout=90)
def test_tracer_killed():
    """kill -9 leaves no program, map or link behind, and the relays go on as if nothing had been."""
    with Lab("killed") as lab:
        relays = meshed(lab)
        trace = lab.derptrace("report", "--json")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs("list", among(peers.names), "count=20", "size=1-1400", "kind=mixed", "rate=20")
        mine = held(trace.pid)
        host = lab.host("clients")
        assert {k for k, _ in mine} == {"prog", "map", "link"} and still_loaded(host, mine) == mine, mine
        trace.kill()
        until(lambda: not still_loaded(host, mine), lambda: f"to be gone: {still_loaded(host, mine)}")
        peers.pairs(*EVERYONE)
        peers.quiet()
        assert lost_where(peers.truth()) == 0
        assert not [e for e in peers.load.events if e["ev"] == "down"]
        # And the next one traces as the first did.
        before = counters(relays)
        sent = {p: t["sent"] for p, t in peers.truth().items()}
        trace = lab.derptrace("report", "--json")
        peers.pairs(*EVERYONE)
        peers.quiet()
        truth = {p: {**t, "sent": t["sent"] - sent[p], "received": t["received"] - sent[p]}
                 for p, t in peers.truth().items()}
        all_is_well(trace.stop(), relays, truth, before)


def attached_and_detached(lab, relays, times):
    """So many times under traffic, ten at once. Nobody notices, and nobody is accused."""
    peers = Crowd(lab, lab.host("clients"), relays)
    lab.clients_settled(20)
    sockets = [sorted(r.sockets()) for r in relays]
    peers.load.command("pairs", "list", among(peers.names, (1, 2)), "count=1000000", "size=1-1400", "kind=mixed",
                       "rate=25", "id=all")
    began, accused = time.monotonic(), []
    for _ in range(times // 10):
        ten = [lab.derptrace("report", "--json", "--duration", "200ms", ready=False) for _ in range(10)]
        for trace in ten:
            report = trace.wait()
            accused += [(v["class"], v["reason"], v["count"], v["summary"], v["evidence"]) for v in report["verdicts"]]
            assert trace.code == (1 if report["verdicts"] else 0), (trace.code, tail(trace.log))
            assert sum(n["entered"] for n in report["nodes"]) > 0
    took = time.monotonic() - began
    until(lambda: sum(t["sent"] for t in peers.truth().values()) >= 10000, "10,000 packets to be sent", 60, 0.1)
    peers.load.command("stop", "all")
    peers.load.wait_event("sent_all", id="all")
    peers.quiet()
    truth = peers.truth()
    sent = sum(t["sent"] for t in truth.values())
    print(f"measured: {times} times in {took:.1f} s, {sent} packets")
    assert lost_where(truth) == 0
    assert [sorted(r.sockets()) for r in relays] == sockets
    assert not [e for e in peers.load.events if e["ev"] == "down"]
    assert not accused, accused


@scenario(slow=True, timeout=240)
def test_attach_and_detach():
    """A hundred times under traffic: no packet is lost, no connection closed, no verdict about nothing. Most of them in
    plain HTTP: where TLS connections are open already, each attach costs a second of guessing at their secrets.
    """
    with Lab("hundred") as lab:
        attached_and_detached(lab, meshed(lab), 20)
    with Lab("plain") as lab:
        relays = [lab.relay(f"r{i}", kind="plainrelay", mesh_with=[f"r{3 - i}.lab"], args=["-mptcp=false"])
                  for i in (1, 2)]
        lab.up()
        attached_and_detached(lab, relays, 80)


@scenario(timeout=60)
def test_no_rights():
    """Each right that is missing has a line of its own, in the trace and in doctor, and so has what is not there."""
    with Lab("rights") as lab:
        relay, packed = lab.relay("derp1"), lab.relay("derp2")
        with open(packed.program, "rb") as f:
            image = bytearray(f.read())
        image[40:48], image[60:62] = bytes(8), bytes(2)     # of the sections: where they are told, and how many
        packed.program = f"{packed.dir}/packed"
        with open(os.open(packed.program, os.O_WRONLY | os.O_CREAT, 0o755), "wb") as f:
            f.write(image)
        lab.up(meshed=False)

        def said(without, verb, *args):
            drop = ",".join(f"-{w}" for w in without) or "+all"
            argv = ["setpriv", "--bounding-set", drop, f"{BUILD}/derptrace", verb, *args]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
            return done.returncode, (done.stdout if verb == "doctor" else done.stderr).splitlines()

        for without, name in ((("bpf", "sys_admin"), "CAP_BPF"), (("perfmon", "sys_admin"), "CAP_PERFMON"),
                              (("net_admin", "sys_admin"), "CAP_NET_ADMIN"), (("sys_ptrace",), "CAP_SYS_PTRACE"),
                              (("sys_admin",), "CAP_SYS_ADMIN")):
            code, lines = said(without, "report", "--pid", str(relay.pid))
            assert code == 3 and len(lines) == 1 and f"{name} is missing" in lines[0] and "root" in lines[0], lines
            code, lines = said(without, "doctor")
            assert code == (1 if name == "CAP_SYS_ADMIN" else 3), (code, lines)
            assert [line for line in lines if " rights " in line and name in line], lines
        for args, words in ((("--pid", str(os.getpid())), "no DERP server is in its program"),
                            (("--pid", str(packed.pid)), "section headers are gone"),
                            (("--comm", "dtnobody"), "none is called dtnobody"),
                            (("--cgroup", "/dtnowhere"), "none runs below the cgroup /dtnowhere")):
            code, lines = said((), "report", *args)
            assert code == 3 and len(lines) == 1 and words in lines[0], lines


@scenario(timeout=60)
def test_in_a_container_without_types():
    """The tracer beside a relay in a container whose kernel tells no types: its probes find the process."""
    with Lab("inside") as lab:
        relay = lab.relay("derp1", container=True)
        lab.up(meshed=False)
        ready, log = f"{lab.dir}/inside.ready", open(f"{lab.dir}/inside.log", "w+")
        with log:
            argv = ["nsenter", "-t", str(relay.pid), "-p", "unshare", "-m", "sh", "-c",
                    'mount -t proc none /proc && mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh",
                    f"{BUILD}/derptrace", "report", "--json", "--xdp", "off", "--pid", "1", "--duration", "6s",
                    "--ready-file", ready]
            trace = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
            until(lambda: os.path.exists(ready), "the tracer to be ready")
            peers = Crowd(lab, lab.host("clients"), [relay], count=6)
            peers.load.command("send", "p0", NOBODY, "count=100", "size=1-1400", "kind=mixed", "rate=250", "burst=4")
            peers.pairs("all", "count=20", "size=1-1400", "kind=mixed", "rate=200")
            peers.quiet()
            report = validate(json.loads(trace.communicate(timeout=30)[0]))
            log.seek(0)
            said = [line for line in log if "pid namespace" in line]
        assert trace.returncode == 1 and len(said) == 1, (trace.returncode, said, tail(log.name))
        check_pairs(report, peers.truth())
        [v] = report["verdicts"]
        assert (v["class"], v["count"]["min"]) == ("peer-absent", 100) and "its own word" in v["evidence"][0], v
