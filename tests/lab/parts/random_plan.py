# SPDX-License-Identifier: BSD-2-Clause
"""A set-up of the lab, composed from a seed: data alone, so that it can be printed, kept, changed and played again.

A plan is a dict:

    nodes    [{kind, family, deep}]: n0, n1, n2
    links    {"0>1": how}: up, none (not meshed), or how it is broken: see BROKEN
    trace    attach (mesh, clients, middle, load, end), count, xdp, map (none, one, apart), follow, record (none, one,
             each)
    crowds   [{args, options, host}]: a process of clients each
    clients  {name: {crowd, node}}: connected from the beginning
    steps    what happens then, one after the other:
               {do: traffic, flows: [{src, dst, count, size, kind, rate, burst, coalesce}]}
               {do: join, client, node}, {do: leave, client, how}, {do: keys, client} (TLS 1.3 KeyUpdate)
               {do: twin, client, node}: the same key once more, from another host
               {do: hole, link, flows}: the link carries nothing for a while
               {do: flap, client, times}: its connection breaks again and again
               {do: slow, client, rate, flows}: it reads less than is sent
    dst may be "nobody", a key that is connected nowhere.
"""
import random

NOBODY = "nodekey:" + "5a" * 32
DERPERS = ("derper", "derper-stripped", "derper-pie", "derper-1.68")
# How a directed link may be broken, and how often.
BROKEN = {"none": 6, "refused": 2, "no-answer": 1, "tls": 2, "mesh-key": 2, "same-key": 1, "self": 1, "host-drop": 1}
TLS_ONLY = ("tls",)
WHOLE_NODE = ("mesh-key", "same-key")       # both directions at once
SEEN_ONCE = ("self", "same-key")            # who comes later sees nothing of it
SIZES = ("1", "1-100", "1-1400", "1-1400", "64-1400", "1200", "1380-1460", "2000-9000", "16384", "1-65536", "65536")
KINDS = ("wg", "wg", "disco", "mixed", "mixed", "zero", "garbage")


def compose(seed):
    r = random.Random(seed)
    plan = {"seed": seed}
    count = r.choice((1, 2, 2, 2, 2, 3, 3))
    plain = r.random() < 0.4
    plan["nodes"] = [{"kind": "plainrelay" if plain else r.choice(DERPERS), "family": r.choice(("4", "4", "6", "46")),
                      "deep": r.random() < 0.8} for _ in range(count)]
    plan["links"] = links(r, count, plain)
    plan["trace"] = trace(r, plan)
    plan["crowds"] = crowds(r, plan, plain)
    plan["clients"] = {f"c{i}": {"crowd": r.randrange(len(plan["crowds"])), "node": r.randrange(count)}
                       for i in range(r.choice((2, 3, 4, 6, 8, 12, 20, 40)))}
    plan["steps"] = Steps(r, plan, plain).steps
    return plan


def links(r, count, plain):
    found = {f"{x}>{y}": "up" for x in range(count) for y in range(count) if x != y}
    if count == 1 or r.random() < 0.45:
        return found
    hows = [h for h in BROKEN if not (plain and h in TLS_ONLY) and not (count > 2 and h in SEEN_ONCE)]
    for _ in range(r.choice((1, 1, 2, 3))):
        way = r.choice(sorted(found))
        how = r.choices(hows, [BROKEN[h] for h in hows])[0]
        if how in WHOLE_NODE:
            odd = way[0]        # this node's key is another than all others'
            for k in found:
                if odd in k:
                    found[k] = how
            break
        found[way] = how
        if how == "none" and r.random() < 0.5:
            found[way[::-1]] = "none"
    return found


def trace(r, plan):
    hows = set(plan["links"].values())
    attach = r.choice(("mesh", "clients", "clients", "middle", "middle", "load", "end"))
    if hows & set(SEEN_ONCE):
        attach = "mesh"
    count = len(plan["nodes"])
    both = all(h == "none" for h in plan["links"].values())
    return {"attach": attach,
            "count": r.choice(("kernel", "user", "")), "xdp": r.choice(("auto", "off", "", "generic")),
            "map": r.choice(("none", "none", "one", "apart" if both and count > 1 else "one")),
            "follow": r.random() < 0.25, "record": r.choice(("none", "none", "one", "each"))}


def crowds(r, plan, plain):
    """Kinds of clients. What is not TLS 1.3 can be read only from its beginning."""
    early = plan["trace"]["attach"] in ("mesh", "clients")
    found = [{"args": [], "options": ""}]
    for _ in range(r.choice((0, 1, 1, 2))):
        options = r.choice(("proto=ws", "proto=ws", "prefer=1", "pings=1", "faststart=1", "sndbuf=8192"))
        args = r.choice(([], [], ["--ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
                         ["--ciphersuites", "TLS_AES_256_GCM_SHA384"], ["--tls12"])) if not plain else []
        if args == ["--tls12"] and (not early or "faststart" in options):
            args = []
        found.append({"args": args, "options": options})
    return found


class Steps:
    def __init__(self, r, plan, plain):
        self.r, self.plan, self.plain, self.steps = r, plan, plain, []
        self.at = {c: v["node"] for c, v in plan["clients"].items()}
        self.fresh, self.holed = 0, False
        self.traffic()
        for _ in range(r.choice((1, 2, 2, 3, 4))):
            kinds = [self.traffic, self.traffic, self.join, self.leave, self.move]
            if not plain:
                kinds.append(self.keys)
            if "up" in plan["links"].values():
                kinds.append(self.hole)
            if r.random() < 0.3:
                kinds += [self.twin, self.flap, self.slow]
            r.choice(kinds)()
        self.traffic()

    def step(self, do, **words):
        self.steps.append({"do": do, **words})

    def someone(self):
        return self.r.choice(sorted(self.at))

    def flow(self, src=None, dst=None, kind=None):
        r = self.r
        src = src or self.someone()
        if dst is None:
            dst = "nobody" if r.random() < 0.06 else src if r.random() < 0.05 else self.someone()
        kind = kind or r.choice(KINDS)
        size = r.choice(SIZES)
        most = int(size.split("-")[-1])
        if kind == "zero":
            size = str(most)
        if kind == "garbage":
            size, most = "1-1400", 1400
        count = r.choice((1, 5, 20, 61, 150, 400))
        count = max(1, min(count, 3_000_000 // most))
        pace = r.choice(("trickle", "steady", "steady", "burst"))
        flow = {"src": src, "dst": dst, "count": count, "size": size, "kind": kind}
        if pace == "trickle":
            flow["count"], flow["rate"] = min(count, 20), r.choice((5, 10, 20))
        elif pace == "steady":
            # Two seconds at most; nor more bytes than a busy machine passes on.
            flow["rate"] = max(20, count // 2, min(r.choice((50, 100, 300)), 2_000_000 // most))
            flow["burst"] = r.choice((1, 1, 2, 4, 8)) if most <= 9000 else 1
        else:
            flow["count"], flow["rate"], flow["burst"] = min(count, 24), 0, r.choice((1, 4, 24))
        # Relays and clients write whole frames: a stream that is met in mid-packet is found by its third header.
        if r.random() < 0.15 and self.plan["trace"]["attach"] in ("mesh", "clients"):
            flow["coalesce"] = 1
        return flow

    def flows(self, most):
        found = [self.flow() for _ in range(self.r.randint(1, most))]
        if self.r.random() < 0.3:       # both ways
            found += [self.flow(f["dst"], f["src"]) for f in found if f["dst"] != "nobody" and f["dst"] != f["src"]][:3]
        return found

    def traffic(self):
        if self.at:
            self.step("traffic", flows=self.flows(self.r.choice((3, 8, 16))))

    def join(self):
        name, self.fresh = f"j{self.fresh}", self.fresh + 1
        self.at[name] = self.r.randrange(len(self.plan["nodes"]))
        self.step("join", client=name, node=self.at[name], crowd=self.r.randrange(len(self.plan["crowds"])))
        self.step("traffic", flows=[self.flow(name), self.flow(dst=name)])

    def leave(self):
        if len(self.at) < 2:
            return
        name = self.someone()
        del self.at[name]
        self.step("leave", client=name, how=self.r.choice(("fin", "fin", "rst")))
        if self.r.random() < 0.6:
            self.step("traffic", flows=[self.flow(dst=name)])

    def move(self):
        name = self.someone()
        self.step("leave", client=name, how=self.r.choice(("fin", "rst")))
        self.at[name] = self.r.randrange(len(self.plan["nodes"]))
        self.step("join", client=name, node=self.at[name])
        self.step("traffic", flows=[self.flow(name), self.flow(dst=name)])

    def keys(self):
        name = self.someone()
        self.step("keys", client=name)
        self.step("traffic", flows=[self.flow(name), self.flow(dst=name)])

    def hole(self):
        """Small packets, none of which fills a socket: all of them arrive when it is over."""
        ways = [k for k, how in self.plan["links"].items() if how == "up"]
        way = self.r.choice(sorted(ways))
        ends = [[c for c in sorted(self.at) if self.at[c] == int(n)] for n in way.split(">")]
        if self.holed or not all(ends) or self.plan["trace"]["attach"] not in ("mesh", "clients"):
            return
        self.holed = True
        flows = [{"src": self.r.choice(ends[0]), "dst": self.r.choice(ends[1]), "count": 20, "size": "1-400",
                  "kind": self.r.choice(("wg", "disco", "zero")), "rate": 10} for _ in range(self.r.randint(1, 4))]
        for f in flows:
            if f["kind"] == "zero":
                f["size"] = "100"
        self.step("hole", link=way, flows=flows)

    def twin(self):
        """Only where every node reaches every other: else who is reached is a matter of luck."""
        if set(self.plan["links"].values()) - {"up"} or any(s["do"] == "twin" for s in self.steps):
            return
        name = self.someone()
        others = [c for c in sorted(self.at) if c != name]
        if not others or self.plan["trace"]["attach"] not in ("mesh", "clients"):
            return
        del self.at[name]               # nothing else happens to it
        self.step("twin", client=name, node=self.r.randrange(len(self.plan["nodes"])),
                  flows=[{"src": name, "dst": self.r.choice(others), "count": 20, "size": "1-1400", "kind": "wg",
                          "rate": 20},
                         {"src": self.r.choice(others), "dst": name, "count": 20, "size": "1-1400", "kind": "wg",
                          "rate": 20}])

    def flap(self):
        if self.plan["trace"]["attach"] in ("mesh", "clients"):
            self.step("flap", client=self.someone(), times=4)

    def slow(self):
        """A reader that takes less than is sent."""
        name = self.someone()
        self.step("slow", client=name, rate=self.r.choice((50000, 200000)),
                  flows=[{"src": s, "dst": name, "count": 500, "size": self.r.choice(("1000-1400", "8000")),
                          "kind": self.r.choice(("wg", "disco", "zero", "mixed")), "rate": 400, "burst": 4}
                         for s in {self.someone(), self.someone()}])
        for f in self.steps[-1]["flows"]:
            if f["kind"] == "zero":
                f["size"] = "8000"
