# SPDX-License-Identifier: BSD-2-Clause
"""Plays a plan: brings its region up, has it traced, does its steps, and keeps what really happened."""
import json
import random
import time

from .proc import LabError, run, tail, until
from .random_plan import NOBODY
from .staging import DEEP
from .tracer import held, still_loaded
from .truth import counters

FAILS = {"tls": "tls", "refused": "refused", "no-answer": "", "host-drop": "", "mesh-key": "Recv: ",
         "same-key": "self-connect", "self": "self-connect"}
GONE_SINCE = 1.3        # seconds after which a peer that left is no longer one that "was there just now"
ZERO = {"sent": 0, "received": 0, "sent_bytes": 0, "received_bytes": 0}


class Play:
    """After run(): reports, flows, truth() and whatever else the judge asks for."""

    def __init__(self, lab, plan):
        self.lab, self.plan, self.t = lab, plan, plan["trace"]
        self.relays, self.crowds, self.traces, self.flows = [], [], {}, []
        self.at, self.keys, self.proc_of, self.host_of = {}, {}, {}, {}     # by client
        self.twins, self.twin_loads, self.went_down, self.raw = {}, [], [], {}
        self.base, self.tag, self.left_at, self.held = {}, 0, {}, set()
        self.began = {}             # relay name: its counters when the trace began
        self.loading = set()        # pairs that were under way when the trace began
        self.stalled, self.flapped, self.load_ended = [], [], False

    # --- bringing up ------------------------------------------------------------------------------

    def way(self, x, y):
        return self.plan["links"].get(f"{x}>{y}", "up")

    def ways(self):
        return [(int(k[0]), int(k[2]), how) for k, how in self.plan["links"].items()]

    def declare(self):
        lab, links = self.lab, self.plan["links"]
        odd = {how: k[0] for k, how in reversed(list(links.items())) if how in ("mesh-key", "same-key")}
        for i, n in enumerate(self.plan["nodes"]):
            words = {"kind": n["kind"], "family": n["family"], "env": DEEP if n["deep"] else None}
            if odd.get("mesh-key") == str(i):
                words["mesh_key"] = "ab" * 32
            if odd.get("same-key") == str(i) and i:
                words["server_key"] = self.relays[0]
            elif odd.get("same-key") == "0" and i:
                words["server_key"] = self.relays[0]
            self.relays.append(lab.relay(f"derp{i + 1}", **words))
        for x, y, how in self.ways():
            a, b = self.relays[x], self.relays[y]
            if how == "tls":
                lab.net.name(f"other{x}{y}.lab", b.host, self.plan["nodes"][y]["family"])
                a.mesh_with.append(f"other{x}{y}.lab")
            elif how == "self":
                a.mesh_with.append(a.address)
            elif how != "none":
                a.mesh_with.append(b.address)
            if how == "refused":
                lab.net.refuse(b.host, b.port, src=a.host)
            elif how == "no-answer":
                lab.net.drop_syn(b.host, b.port, src=a.host)
            elif how == "host-drop":
                lab.net.drop_at_host(b.host, src=a.host, dport=b.port)

    def failures(self, x, y):
        """How often a relay has said that this dial of its failed."""
        how, a, b = self.way(x, y), self.relays[x], self.relays[y]
        name = {"tls": f"other{x}{y}.lab", "self": a.hostname}.get(how, b.hostname)
        try:
            with open(a.log, errors="replace") as f:
                return sum(name in line and "mesh" in line and FAILS[how] in line for line in f)
        except OSError:
            return 0

    def await_failures(self, before):
        for x, y, how in self.ways():
            if how in FAILS:
                until(lambda: self.failures(x, y) > before.get((x, y), 0),
                      lambda: f"{self.relays[x]} to fail to dial {self.relays[y]} ({how}); its log:\n"
                              f"{tail(self.relays[x].log)}", 45, 0.1)

    def await_mesh(self):
        for y, r in enumerate(self.relays):
            want = sum(self.way(x, y) == "up" for x in range(len(self.relays)) if x != y)
            until(lambda: r.counters().watchers >= want, lambda: f"{r} to be watched by {want}; its log:\n"
                  f"{tail(r.log)}", 40, 0.1)

    def map_file(self):
        nodes = [{"Name": f"{i + 1}", "RegionID": 1, "HostName": r.hostname, "IPv4": r.host.ip4, "IPv6": r.host.ip6,
                  "DERPPort": r.port, "STUNPort": -1} for i, r in enumerate(self.relays)]
        regions = {"1": {"RegionID": 1, "RegionCode": "lab", "RegionName": "Lab", "Nodes": nodes}}
        if self.t["map"] == "apart":
            regions = {}
            for i, n in enumerate(nodes):
                regions[str(i + 1)] = {"RegionID": i + 1, "RegionCode": f"lab{i}", "RegionName": f"Lab {i}",
                                       "Nodes": [{**n, "RegionID": i + 1}]}
        path = f"{self.lab.dir}/map.json"
        with open(path, "w") as f:
            json.dump({"Regions": regions}, f)
        return path

    def attach(self):
        args = ["--json"]
        how = ["--count", self.t["count"]] if self.t["count"] else []
        self.began = counters(self.relays) if self.t["attach"] != "mesh" else {r.name: {} for r in self.relays}
        if self.t["record"] != "none":
            pids = [r.pid for r in self.relays]
            for i, group in enumerate([pids] if self.t["record"] == "one" else [[p] for p in pids]):
                path = f"{self.lab.dir}/record{i}.dtr"
                self.traces[path] = self.lab.derptrace("record", "-o", path, "--budget", "off", *how, pids=group)
        if self.t["map"] != "none":
            args += ["--map", self.map_file()]
        if self.t["follow"]:
            args += ["-f", "--interval", "500ms"]
        if self.t["xdp"]:
            args += ["--xdp", self.t["xdp"]]
        self.traces["live"] = self.lab.derptrace("report", *args, *how)
        for trace in self.traces.values():
            self.held |= held(trace.pid)

    # --- clients ----------------------------------------------------------------------------------

    def start_crowds(self):
        for i, c in enumerate(self.plan["crowds"]):
            args = [*c["args"], "--seed", str(i + 1)]
            self.crowds.append((self.lab.derpload(self.lab.host(f"clients{i}"), *args), c["options"]))

    def connect(self, names):
        for name in names:
            load, options = self.proc_of[name]
            load.command("peer", name, self.relays[self.at[name]].url, options)
        for name in names:
            self.keys[name] = self.proc_of[name][0].wait_event("up", peer=name, timeout=40)["key"]

    def join(self, name, node, crowd=None):
        if crowd is not None:
            self.proc_of[name] = self.crowds[crowd]
        self.at[name] = node
        self.connect([name])

    def leave(self, name, how):
        self.proc_of[name][0].command("close", name, f"how={how}")
        self.proc_of[name][0].wait_event("down", peer=name)
        self.left_at[name] = time.monotonic()
        del self.at[name]

    def known(self, x):
        """The keys that this node is to know: its own clients, the nodes that dial it, and the same of its peers."""
        def here(y):
            clients = {self.keys[c] for c, n in self.at.items() if n == y}
            clients |= {self.keys[c] for c, n in self.twins.items() if n == y}
            return clients | {self.relays[z].key for z in range(len(self.relays)) if z != y and self.way(z, y) == "up"}
        found = here(x)
        for y in range(len(self.relays)):
            if x != y and self.way(x, y) == "up":
                found |= here(y)
        return found

    def settle(self):
        """Awaits that every node knows whom it is to know. A dial that fails late may count as a client meanwhile."""
        failing = any(how in ("mesh-key", "same-key", "self") for _, _, how in self.ways())
        for x, r in enumerate(self.relays):
            want = len(self.known(x))
            until(lambda: want <= r.counters().clients_total <= want + failing,
                  lambda: f"{r} to know {want} keys, it knows {r.counters().clients_total}", 30, 0.05)

    # --- traffic ----------------------------------------------------------------------------------

    def kind_of_flow(self, f, under=None):
        """(from node, to node or None, how the link between them is)."""
        x = self.at.get(f["src"], self.twins.get(f["src"]))
        y = self.at.get(f["dst"])
        return x, y, "same" if x == y else "absent" if y is None else under or self.way(x, y)

    def send(self, flows, under=None):
        """Begins them all, and awaits that all is written. A source that has left sends nothing."""
        waits = []
        for f in flows:
            if f["src"] not in self.at:
                continue
            x, y, link = self.kind_of_flow(f, under)
            src, dst = self.keys[f["src"]], NOBODY if f["dst"] == "nobody" else self.keys[f["dst"]]
            load = self.proc_of[f["src"]][0]
            self.tag += 1
            self.flows.append({**f, "from": x, "to": y, "link": link, "pair": (src, dst), "began": time.monotonic()})
            if f["kind"] == "garbage":
                self.send_garbage(load, f, src, dst)
            else:
                words = [f"{k}={f[k]}" for k in ("count", "size", "kind", "rate", "burst", "coalesce") if k in f]
                load.command("send", f["src"], dst, *words, f"id=f{self.tag}")
                waits.append((load, f"f{self.tag}"))
        for load, tag in waits:
            e = load.wait_event("sent", id=tag, timeout=90)
            if e.get("why"):
                raise LabError(f"derpload: {e}")
        for load, _ in self.all_crowds():
            if self.loading:        # what is sent all the time is never done
                load.stats("pairs=0", "peers=0")
            else:
                load.barrier()

    def send_garbage(self, load, f, src, dst):
        """Packets that nothing has made: random bytes, starts of frames, disco's mark with nothing behind it. Several
        to a write; and between them frames that no relay knows, but not to whom must find the first frame by its kind.
        """
        r = random.Random(f"{self.plan['seed']} {self.tag}")
        lo, hi = (int(v) for v in f["size"].split("-"))
        for done in range(0, f["count"], 8):
            blob = b""
            for _ in range(min(8, f["count"] - done)):
                n = r.randint(lo, hi)
                payload = r.choice((
                    lambda: r.randbytes(n),
                    lambda: (b"\x04" + n.to_bytes(4, "big") + bytes.fromhex(dst[8:]) + r.randbytes(n))[:n],
                    lambda: (b"\x05\0\0\0\x21" + bytes(33)) * (n // 38 + 1),
                    lambda: "TS💬".encode() + r.randbytes(r.randint(0, 20)),
                    lambda: b"\x17\x03\x03" + r.randbytes(n)))()[:65536]
                if r.random() < 0.1 and self.t["attach"] in ("mesh", "clients"):
                    blob += b"\x7e" + (7).to_bytes(4, "big") + r.randbytes(7)
                blob += b"\x04" + (32 + len(payload)).to_bytes(4, "big") + bytes.fromhex(dst[8:]) + payload
                t = self.raw.setdefault((src, dst), {"sent": 0, "sent_bytes": 0})
                t["sent"] += 1
                t["sent_bytes"] += len(payload)
            load.command("raw", f["src"], blob.hex())

    def all_crowds(self):
        return self.crowds + [(load, None) for load in self.twin_loads]

    def quiet(self, ms=500):
        """Awaits that nothing has arrived for a while; where something always does, that so long has passed."""
        if self.loading and not self.load_ended:
            time.sleep(ms / 1000 + 0.5)
            return
        for load, _ in self.all_crowds():
            load.quiet(ms, 60)

    def tally(self):
        """{pair: sums} of all processes, since they began."""
        found, damaged = {}, 0
        for load, _ in self.all_crowds():
            for p in load.stats()["pairs"]:
                t = found.setdefault((p["src"], p["dst"]), dict(ZERO))
                for k in ZERO:
                    t[k] += p[k] or 0
                damaged += p.get("corrupt", 0) + p.get("dup", 0)
        self.damaged = damaged
        for pair, g in self.raw.items():
            t = found.setdefault(pair, dict(ZERO))
            for k, v in g.items():
                t[k] += v
        return found

    def truth(self):
        """What was sent and received since the trace began."""
        found = {}
        for pair, t in self.tally().items():
            b = self.base.get(pair, ZERO)
            grown = {k: t[k] - b[k] for k in ZERO}
            if any(grown.values()):
                found[pair] = grown
        return found

    # --- steps ------------------------------------------------------------------------------------

    def do_traffic(self, s):
        gone = [t for f in s["flows"] for n, t in self.left_at.items() if n == f["dst"] and n not in self.at]
        if gone:
            time.sleep(max(0.0, GONE_SINCE - (time.monotonic() - max(gone))))
        self.send(s["flows"])
        self.quiet()

    def do_join(self, s):
        self.join(s["client"], s["node"], s.get("crowd"))
        self.settle()

    def do_leave(self, s):
        if s["client"] in self.at:
            self.leave(s["client"], s["how"])
            self.settle()

    def do_keys(self, s):
        name, crowd = s["client"], self.proc_of.get(s["client"])
        # What a relay of 2024 answers an OpenSSL client now and then is no record that it can read.
        if name in self.at and "--tls12" not in self.plan["crowds"][self.crowds.index(crowd)]["args"] and \
                self.relays[self.at[name]].kind != "derper-1.68":
            crowd[0].command("keyupdate", name)

    def do_hole(self, s):
        x, y = (self.relays[int(n)] for n in s["link"].split(">"))
        hole = self.lab.net.blackhole(x.host, y.host, dport=y.port)
        self.send(s["flows"], under="hole")
        time.sleep(3)           # so long it stands, whatever the traffic took
        hole.mend()
        self.stalled.append(s["link"])
        self.quiet(3500)

    def do_twin(self, s):
        """A second process with the same seed and name has the same key; then the first speaks again."""
        name = s["client"]
        crowd = self.crowds.index(self.proc_of[name])
        load = self.lab.derpload(self.lab.host("twin"), *self.plan["crowds"][crowd]["args"], "--seed", str(crowd + 1))
        self.twin_loads.append(load)
        load.command("peer", name, self.relays[s["node"]].url, self.crowds[crowd][1])
        if load.wait_event("up", peer=name)["key"] != self.keys[name]:
            raise LabError("the twin has another key")
        self.twins[name] = s["node"]
        self.settle()
        self.send(s["flows"])
        self.quiet()

    def do_flap(self, s):
        name = s["client"]
        if name not in self.at:
            return
        node = self.at[name]
        for _ in range(s["times"]):
            self.leave(name, "rst")
            self.join(name, node)
            self.settle()
        self.flapped.append(self.keys[name])

    def do_slow(self, s):
        if s["client"] not in self.at:
            return
        load, _ = self.proc_of[s["client"]]
        load.command("drip", s["client"], s["rate"])
        self.send(s["flows"])
        load.command("resume", s["client"])
        self.quiet(1500)

    # --- the whole --------------------------------------------------------------------------------

    def begin_load(self):
        """Between some who stay."""
        restless = {s.get("client") for s in self.plan["steps"]}
        names = [n for n in sorted(self.at) if n not in restless][:6]
        for i, n in enumerate(names):
            dst = names[(i + 1) % len(names)]
            pair = self.keys[n], self.keys[dst]
            self.loading.add(pair)
            x, y, link = self.kind_of_flow({"src": n, "dst": dst})
            self.flows.append({"src": n, "dst": dst, "count": None, "kind": "wg", "from": x, "to": y, "link": link,
                               "pair": pair, "began": time.monotonic()})
            self.proc_of[n][0].command("send", n, self.keys[dst], "count=1000000", "size=100-1400", "rate=15",
                                       "id=load")

    def end_load(self):
        self.load_ended = True
        for load, _ in self.crowds:
            load.command("stop", "load")
        for src, _ in self.loading:
            name = next(n for n, k in self.keys.items() if k == src)
            self.proc_of[name][0].wait_event("sent", id="load", src_name=name)

    def attach_late(self):
        self.quiet(300)
        self.base = self.tally()
        before = {(x, y): self.failures(x, y) for x, y, how in self.ways() if how in FAILS}
        self.attach()
        self.await_failures(before)

    def run(self):
        t, lab = self.t["attach"], self.lab
        self.declare()
        lab.up(meshed=False, meanwhile=self.attach if t == "mesh" else None)
        if t == "mesh":
            self.await_failures({})
        self.await_mesh()
        self.start_crowds()
        if t == "clients":
            self.attach_late()
        names = list(self.plan["clients"])
        for n in names:
            self.at[n] = self.plan["clients"][n]["node"]
            self.proc_of[n] = self.crowds[self.plan["clients"][n]["crowd"]]
        early = names[:len(names) // 2] if t == "middle" else names
        for n in names:
            if n not in early:
                del self.at[n]
        self.connect(early)
        self.settle()
        steps = list(self.plan["steps"])
        if t in ("middle", "end", "load"):
            if steps and steps[0]["do"] == "traffic" and t != "load":
                self.send([f for f in steps[0]["flows"] if f["dst"] in self.at or f["dst"] == "nobody"])
                self.quiet(1500)
            self.flows.clear()
            if t == "load":
                self.begin_load()
            self.attach_late()
        for n in names:
            if n not in early:
                self.at[n] = self.plan["clients"][n]["node"]
        self.connect([n for n in names if n not in early])
        self.settle()
        for s in steps:
            getattr(self, f"do_{s['do']}")(s)
        if self.loading:
            self.end_load()
        self.finish()

    def finish(self):
        self.quiet(2500)        # what the relay does not name is known a second after its queue has drained
        self.truth_now = self.truth()
        self.grown = {r.name: r.counters().since(self.began[r.name]) for r in self.relays}
        for load, _ in self.all_crowds():
            self.went_down += [e for e in load.events if e.get("ev") == "down"]
        self.report = self.traces["live"].stop()
        for path, trace in self.traces.items():
            if path != "live":
                trace.stop()
        files = [p for p in self.traces if p != "live"]
        self.replayed = None
        if files:
            args = ["--map", f"{self.lab.dir}/map.json"] if self.t["map"] != "none" else []
            self.replayed = self.lab.derptrace("report", "--json", *args, *files, pids=(), ready=False)
            self.replay = self.replayed.wait()
        host = self.lab.host("clients0")
        try:
            until(lambda: not still_loaded(host, self.held), "", 10, 0.2)
            self.left = set()
        except LabError:
            self.left = still_loaded(host, self.held)
        for load, _ in self.all_crowds():
            self.went_down += [e for e in load.events if e.get("ev") == "down"]
