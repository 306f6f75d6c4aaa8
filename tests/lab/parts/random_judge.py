# SPDX-License-Identifier: BSD-2-Clause
"""What a report must say of a plan that was played: by the manual's words, the clients' counts and the relays' own
counters, and by nothing that the product has computed.
"""
from .truth import node, rows

QUEUE = ("queue_head", "queue_tail")
QUEUED = {"queue-drop", "node-slow"}            # the latter where the machine gave the relay no processor
HANDSHAKE_S = 2         # initiations of flows that began so far apart may have gone on for the verdict's 5 s


class Judge:
    """Collects what is wrong, a line each, in wrong; what is only worth knowing in notes."""

    def __init__(self, play):
        self.play, self.plan, self.t = play, play.plan, play.t
        self.report, self.truth = play.report, play.truth_now
        self.wrong, self.notes = [], []
        self.n = len(play.relays)
        self.dropped = {r.name: play.grown[r.name].dropped() for r in play.relays}
        self.queue_drops = sum(d.get(q, 0) for d in self.dropped.values() for q in QUEUE)
        self.exact = not play.loading

    def fail(self, text):
        self.wrong.append(text)

    # --- what the set-up demands --------------------------------------------------------------------

    def missing_class(self, x, y):
        """The class of what is lost because nothing leads from x to y."""
        how = self.play.way(x, y)
        if self.t["map"] == "apart":
            return "peer-absent"
        if how == "none":
            return "link-one-way" if self.play.way(y, x) == "up" else "no-mesh-route"
        if how == "host-drop" and self.t["xdp"] != "off":
            return "host-drop"
        return "link-down"

    def flow_class(self, f):
        if f["link"] in ("same", "up", "hole"):
            return None
        if f["link"] == "absent":
            return "peer-absent"
        return self.missing_class(f["from"], f["to"])

    def charges(self):
        """{pair: {class: packets}} that the set-up loses for certain, and {class: {(from, to): packets}}."""
        by_pair, by_class = {}, {}
        for f in self.play.flows:
            cls = self.flow_class(f)
            if cls and f["count"]:
                charge = by_pair.setdefault(f["pair"], {})
                charge[cls] = charge.get(cls, 0) + f["count"]
                where = (f["from"], None if cls == "peer-absent" else f["to"])
                by_class.setdefault(cls, {})
                by_class[cls][where] = by_class[cls].get(where, 0) + f["count"]
        return by_pair, by_class

    def demands(self):
        """Classes that must be there, each with a set of which one is enough; and those that may be there."""
        must, may = [], set()
        for f in self.play.flows:
            if self.flow_class(f):
                must.append({self.flow_class(f)})
        for x, y, how in self.play.ways():
            if self.t["map"] == "apart" or how == "up":
                continue
            cls = self.missing_class(x, y)
            if how != "none" or cls == "link-one-way":
                must.append({cls})
            elif self.t["map"] == "one":
                may.add(cls)
        # The network card was not watched when the dial began that was under way.
        if "host-drop" in [how for _, _, how in self.play.ways()] and self.t["attach"] != "mesh":
            may.add("link-down")
        if self.play.stalled:
            must.append({"link-stalled"})
        if self.play.flapped:
            must.append({"flapping"})
        if self.play.twins:
            must.append({"duplicate-peer"})
        if self.queue_drops:
            must.append(QUEUED)
        first, last = {}, {}
        for f in self.play.flows:
            if f["kind"] in ("mixed", "wginit"):
                first.setdefault(f["pair"], f["began"])
                last[f["pair"]] = f["began"]
        if any(last[p] - first[p] > HANDSHAKE_S for p in first):
            may.add("handshake-unanswered")
        return must, may

    # --- the parts of a report ----------------------------------------------------------------------

    def verdicts(self):
        must, may = self.demands()
        there = {v["class"] for v in self.report["verdicts"]}
        for m in must:
            if not there & m:
                self.fail(f"no verdict {' or '.join(sorted(m))}")
        false = there - set().union(may, *must)
        for v in self.report["verdicts"]:
            if v["class"] in false:
                self.fail(f"false verdict {v['class']} {v['reason']} {v['count']}: {v['summary']} {v['evidence']}")
            if not (v["summary"] and v["fix"] and all(v["evidence"])):
                self.fail(f"verdict without words: {v}")
        if "node-slow" in there:
            self.notes.append("node-slow")
        if not self.exact:
            return
        _, by_class = self.charges()
        names = [node(self.report, r)["name"] for r in self.play.relays]
        for cls, where in by_class.items():
            for (x, y), count in where.items():
                found = [v for v in self.report["verdicts"] if v["class"] == cls and v["node"] == names[x] and
                         (y is None or v["link"] == {"from": names[x], "to": names[y]})]
                have = sum(v["count"]["min"] for v in found)
                if have != count and not (cls == "host-drop" and have < count and self.t["attach"] != "mesh"):
                    self.fail(f"{cls} at {x} to {y}: {have} instead of {count}: {found}")
        queued = sum(v["count"]["min"] for v in self.report["verdicts"] if v["class"] in QUEUED)
        if queued > self.queue_drops or queued < self.queue_drops and not self.blurred():
            self.fail(f"{queued} lost from queues, the relays dropped {self.queue_drops}")

    def blurred(self):
        """Of equal packets that a queue dropped it need not be known whose they were."""
        return self.queue_drops and any(f["kind"] in ("zero", "garbage") for f in self.play.flows)

    def pairs(self):
        have, (by_pair, _) = rows(self.report), self.charges()
        for pair, t in self.truth.items():
            row, short = have.pop(pair, None), f"{self.name(pair[0])}>{self.name(pair[1])}"
            if not row:
                self.fail(f"{short}: no row, {t}")
                continue
            lost = t["sent"] - t["received"]
            if pair in self.play.loading:
                # What was on its way when its count was taken may be counted at one end alone.
                if not row["delivered"] <= row["entered"] <= t["sent"] + 5 or row["lost"]["min"] > lost + 5:
                    self.fail(f"{short} (under way when the trace began): {t} {self.books(row)}")
                continue
            if row["untraced"] and self.blurred():
                if not row["lost"]["min"] <= lost <= row["lost"]["max"]:
                    self.fail(f"{short}: {t} {self.books(row)}")
                continue
            ours = row["entered"], row["delivered"], row["lost"]["min"], row["in_flight"], row["untraced"]
            if ours != (t["sent"], t["received"], lost, 0, 0):
                self.fail(f"{short}: sent {t['sent']}, received {t['received']}; {self.books(row)}")
            want = by_pair.get(pair, {})
            charged = {c: r["min"] for c, r in row["lost_by"].items() if c not in QUEUED and r["min"]}
            if "host-drop" in want:
                charged["host-drop"] = charged.get("host-drop", 0) + charged.pop("link-down", 0)
            if self.exact and charged != want:
                self.fail(f"{short}: charged to {row['lost_by']} instead of {want}")
            self.bytes(short, row, t)
        for pair, row in have.items():
            if row["entered"] and pair not in self.play.loading:
                self.fail(f"{self.name(pair[0])}>{self.name(pair[1])}: nothing was sent; {self.books(row)}")

    def bytes(self, short, row, t):
        for hop, kind in (("client-in", "sent"), ("client-out", "received")):
            frames, size = (sum(h[k] for h in row["path"] if h["hop"] == hop) for k in ("frames", "bytes"))
            if (frames, size) != (t[kind], t[f"{kind}_bytes"]):
                self.fail(f"{short}: {hop} {frames} packets, {size} bytes; {kind} {t[kind]}, {t[f'{kind}_bytes']}")

    @staticmethod
    def books(row):
        return {k: row[k] for k in ("entered", "delivered", "in_flight", "lost", "lost_by", "untraced")} | {
            "path": [(h["node"], h["hop"], h["frames"]) for h in row["path"]]}

    def name(self, key):
        return next((n for n, k in self.play.keys.items() if k == key), (key or "?")[8:16])

    def nodes(self):
        for i, r in enumerate(self.play.relays):
            row, grown = node(self.report, r), self.play.grown[r.name]
            # A relay that nobody has ever connected to has not told its key.
            alone = not any(i in (f["from"], f["to"]) for f in self.play.flows) and not any(
                i in (x, y) and how != "none" for x, y, how in self.play.ways())
            if row["key"] != r.key and not (alone and row["key"] is None) or not row["traced"]:
                self.fail(f"node {r}: key {row['key']} instead of {r.key}, traced {row['traced']}")
            peers = {self.play.keys[c] for c, n in [*self.play.at.items(), *self.play.twins.items()] if n == i}
            if row["peers"] != len(peers):
                self.fail(f"node {r}: {row['peers']} peers instead of {len(peers)}")
            if not self.exact:
                continue
            came = grown.packets_received + grown.packets_forwarded_in
            went = grown.packets_sent + grown.packets_forwarded_out
            ours = row["entered"], row["left"], row["lost"]["min"], row["in_flight"], row["untraced"]
            theirs = came, went - row["unflushed"], grown.lost() + row["unflushed"], 0, 0
            if ours != theirs and not (row["untraced"] and self.blurred() and ours[:2] == theirs[:2]):
                self.fail(f"node {r}: (entered, left, lost, in flight, untraced) {ours}, its own counters say {theirs} "
                          f"{grown.dropped()}")
            if self.t["map"] != "none" and row["name"] != r.hostname:
                self.fail(f"node {r} is called {row['name']}")
        if len(self.report["nodes"]) != self.n:
            self.fail(f"{len(self.report['nodes'])} nodes: {self.report['nodes']}")

    def links(self):
        names = [node(self.report, r)["name"] for r in self.play.relays]
        have = {(k["from"], k["to"]): k for k in self.report["links"]}
        wanted = {} if self.t["map"] == "apart" else {(names[x], names[y]): (x, y, how) for x, y, how in
                                                      self.play.ways()}
        if set(have) != set(wanted):
            self.fail(f"links {sorted(have)} instead of {sorted(wanted)}")
        for ends, (x, y, how) in wanted.items():
            k = have.get(ends)
            if not k:
                continue
            if how == "up":
                good = k["state"] == "up" and k["reason"] is None
            elif how == "none":
                good = k["state"] in ("down", "unknown") and k["reason"] in (None, "no-dial")
            elif how == "host-drop" and self.t["xdp"] == "off":
                good = (k["state"], k["reason"]) == ("down", "no-answer")
            elif how == "host-drop" and self.t["attach"] != "mesh":
                good = k["state"] == "down" and k["reason"] in ("host-drop", "no-answer")
            else:
                good = (k["state"], k["reason"]) == ("down", how)
            if not good:
                self.fail(f"link {x}>{y} that is {how}: {k}")
            crossed = sum(f["count"] for f in self.play.flows if f["link"] in ("up", "hole") and f["count"] and
                          (f["from"], f["to"]) == (x, y)) if not self.play.twins else k["sent"]
            if self.exact and how == "up" and not crossed - self.queue_drops <= k["sent"] <= crossed:
                self.fail(f"link {x}>{y}: {crossed} were to cross: {k}")
            if self.exact and k["arrived"] != k["sent"]:
                self.fail(f"link {x}>{y}: {k}")

    def tracer(self):
        t = self.report["tracer"]
        if t["connections_without_secret"] or t["connections_unsynchronised"] or t["segments_lost"]:
            self.fail(f"tracer: {t}")
        if self.t["count"] == "user" and t.get("frames_counted"):
            self.fail(f"counted in the kernel: {t}")
        lost = any(p["lost"]["min"] for p in self.report["pairs"])
        code = 1 if lost or self.report["verdicts"] else 0
        if self.play.traces["live"].code != code:
            self.fail(f"exit code {self.play.traces['live'].code} instead of {code}")

    def replayed(self):
        """What was recorded meanwhile says the same as the live trace."""
        if not self.play.replayed or not self.exact:
            return
        if self.play.replayed.code != self.play.traces["live"].code:
            self.fail(f"exit code {self.play.replayed.code} of the report of records")

        def essence(r):
            pids = {n["name"]: n["pid"] for n in r["nodes"]}
            return {
                "pairs": {p: (self.books(row) | {"path": sorted(
                    (pids[h["node"]], h["hop"], h["frames"], h["bytes"]) for h in row["path"])})
                    for p, row in rows(r).items() if row["entered"]},
                "links": {(pids[k["from"]], pids[k["to"]]): (k["state"], k["sent"], k["arrived"], k["reason"])
                          for k in r["links"]},
                "nodes": {n["pid"]: [n[k] for k in ("key", "name", "peers", "entered", "left", "in_flight", "lost",
                                                    "untraced")] for n in r["nodes"]},
                "verdicts": {(v["class"], v["reason"], pids.get(v["node"]), v["link"] and v["link"]["from"], v["hop"],
                              v["basis"], v["src"], v["dst"]): v["count"]["min"] for v in r["verdicts"]}}
        live, again = essence(self.report), essence(self.play.replay)
        if "host-drop" in {how for _, _, how in self.play.ways()}:      # records are made without XDP
            for e in live, again:
                del e["verdicts"], e["links"]
                for p in e["pairs"].values():
                    del p["lost_by"]
        for what, a in live.items():
            b = again[what]
            for k in a.keys() | b.keys():
                if a.get(k) != b.get(k):
                    self.fail(f"records: {what} {k}: {b.get(k)} instead of {a.get(k)}")

    def around(self):
        if self.play.went_down:
            self.fail(f"connections ended: {self.play.went_down}")
        garbage = sum(t["sent"] for t in self.play.raw.values())
        if self.play.damaged > garbage:
            self.fail(f"{self.play.damaged} payloads damaged or doubled on the way, of {garbage} that were garbage")
        if not self.play.held or self.play.left:
            self.fail(f"left in the kernel: {self.play.left} of {len(self.play.held)}")
        odd = {r: {w: n for w, n in d.items() if n and w not in QUEUE + ("unknown_dest",)}
               for r, d in self.dropped.items()}
        if any(odd.values()):
            self.notes.append(f"the relays dropped {odd}")
        if self.queue_drops:
            self.notes.append(f"{self.queue_drops} dropped from queues")

    def judge(self):
        for part in (self.around, self.tracer, self.nodes, self.links, self.pairs, self.verdicts, self.replayed):
            part()
        return self.wrong
