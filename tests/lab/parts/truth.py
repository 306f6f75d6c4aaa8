# SPDX-License-Identifier: BSD-2-Clause
"""What really happened, from those who cannot be wrong: derpload knows what it sent and received, a relay counts what
it dropped. A report is held against both, to the frame.
"""
import base64

from .proc import LabError


class Crowd:
    """Peers of one derpload process, spread over relays in turn, and the traffic among them."""

    def __init__(self, lab, host, relays, count=20, prefix="p", proto="derp", args=(), options=""):
        self._settle(lab.derpload(host, *args),
                     {f"{prefix}{i}": relays[i % len(relays)] for i in range(count)})
        for name in self.names:
            self.load.command("peer", name, self.at[name].url, f"proto={proto}", options)
        self._await()

    @classmethod
    def of(cls, load, at):
        """Peers that were told to connect before: {name: relay}."""
        crowd = cls.__new__(cls)
        crowd._settle(load, at)
        crowd._await()
        return crowd

    def _settle(self, load, at):
        self.load, self.at, self.names, self.keys, self._sends = load, at, list(at), {}, 0

    def _await(self):
        for name in self.names:
            self.keys[name] = self.load.wait_event("up", peer=name)["key"]

    def pairs(self, *words, timeout=60):
        """Sends among the peers (derpload's pairs command) and awaits that all of it was written."""
        self.load.command("pairs", *words, "id=pairs")
        self.load.wait_event("sent_all", timeout=timeout)

    def send(self, src, dst, *words, timeout=60):
        """Sends one pair's packets and awaits that all of them were written."""
        self._sends += 1
        self.load.command("send", src, dst, *words, f"id=send{self._sends}")
        self.load.wait_event("sent", timeout=timeout, id=f"send{self._sends}")

    def quiet(self, ms=500, timeout=60):
        """Awaits that nothing has arrived for a while."""
        self.load.command("quiet", ms)
        self.load.wait_event("quiet", timeout=timeout)

    def name_of(self, key):
        return next(n for n, k in self.keys.items() if k == key)

    def crosses(self, src, dst):
        return self.at[self.name_of(src)] is not self.at[self.name_of(dst)]

    def truth(self):
        """{(src key, dst key): {"sent", "received"}} of all pairs that sent anything."""
        rows = self.load.stats()["pairs"]
        wrong = [r for r in rows if r.get("corrupt") or r.get("dup")]
        if wrong:
            raise LabError(f"payloads were damaged or doubled on the way: {wrong[:3]}")
        return {(r["src"], r["dst"]): {**r, "sent": r["sent"] or 0, "received": r["received"] or 0}
                for r in rows if r["sent"] or r["received"]}


def together(*crowds):
    """The truth of several crowds that send to each other: each knows what its own peers sent and received."""
    truth = {}
    for crowd in crowds:
        for pair, t in crowd.truth().items():
            sums = truth.setdefault(pair, {"sent": 0, "received": 0})
            sums["sent"] += t["sent"]
            sums["received"] += t["received"]
    return truth


def short(key):
    """A key as it stands in sentences: [AbCdE]."""
    return f"[{base64.b64encode(bytes.fromhex(key.removeprefix('nodekey:'))).decode()[:5]}]"


def rows(report):
    return {(p["src"], p["dst"]): p for p in report["pairs"]}


def node(report, relay):
    """The report's row of a relay's present process."""
    found = [n for n in report["nodes"] if n["pid"] == relay.pid]
    if len(found) != 1:
        raise LabError(f"{len(found)} nodes with {relay}'s pid {relay.pid}: "
                       f"{[(n['name'], n['pid']) for n in report['nodes']]}")
    return found[0]


def link(report, a, b):
    names = node(report, a)["name"], node(report, b)["name"]
    found = [k for k in report["links"] if (k["from"], k["to"]) == names]
    if len(found) != 1:
        raise LabError(f"{len(found)} links {names}: {report['links']}")
    return found[0]


def verdicts(report, *classes):
    return [v for v in report["verdicts"] if not classes or v["class"] in classes]


def only_verdicts(report, *classes):
    """Every class is there, and no other."""
    there = {v["class"] for v in report["verdicts"]}
    if there != set(classes):
        raise LabError(f"verdicts {sorted(there)} instead of {sorted(classes)}:\n" +
                       "\n".join(f"{v['class']} {v['reason']}: {v['summary']}" for v in report["verdicts"]))
    return report["verdicts"]


def found(report, verdict):
    """A verdict in the words of expected()."""
    names = {n["name"]: n["pid"] for n in report["nodes"]}
    link = verdict["link"]
    return (verdict["class"], verdict["reason"], names.get(verdict["node"]),
            (names.get(link["from"]), names.get(link["to"])) if link else None, verdict["hop"], verdict["basis"],
            (verdict["count"]["min"], verdict["count"]["max"]))


def expected(cls, lost, reason=None, node=None, link=None, hop=None, basis="wire"):
    """A verdict as it must be; node and the two of link are relays, lost is a number of frames."""
    ends = (link[0].pid, link[1].pid) if link else None
    return (cls, reason, node.pid if node else None, ends, hop, basis, (lost, lost))


def check_verdicts(report, *wanted):
    """These verdicts and no others: class, reason, node, link, hop, basis and how many frames. Returns them in the
    order asked for. Each must say something, and how to mend it.
    """
    have = [(found(report, v), v) for v in report["verdicts"]]
    result, missing = [], []
    for w in wanted:
        fits = next((h for h in have if h[0] == w), None)
        if fits:
            have.remove(fits)
            result.append(fits[1])
        else:
            missing.append(w)
    if missing or have:
        raise LabError("verdicts (class, reason, node, link, hop, basis, lost)\nmissing:\n" +
                       "\n".join(map(str, missing)) + "\ninstead:\n" +
                       "\n".join(f"{f}\n  {v['summary']}\n  {v['evidence']}" for f, v in have))
    silent = [v for v in result if not v["summary"] or not v["fix"] or not all(v["evidence"])]
    if silent:
        raise LabError(f"verdicts without words: {silent}")
    return result


def lost_where(truth, chosen=lambda src, dst: True):
    """How many frames were sent and never arrived, of the pairs that were chosen by their keys."""
    return sum(t["sent"] - t["received"] for pair, t in truth.items() if chosen(*pair))


def check_pairs(report, truth, settled=True):
    """Each pair's row says what was sent and what arrived; settled: and all the rest is lost, nothing in flight."""
    wrong, have = [], rows(report)
    for pair, t in truth.items():
        row = have.pop(pair, None)
        if not row:
            wrong.append(f"{pair}: no row, sent {t['sent']}")
            continue
        lost = t["sent"] - t["received"]
        if row["untraced"]:
            if not row["lost"]["min"] <= lost <= row["lost"]["max"] + row["in_flight"] or row["entered"] > t["sent"]:
                wrong.append(f"{pair}: sent {t['sent']}, arrived {t['received']}; {summary(row)}")
            continue
        if (row["entered"], row["delivered"]) != (t["sent"], t["received"]) or \
                settled and (row["lost"]["min"], row["in_flight"]) != (lost, 0):
            wrong.append(f"{pair}: sent {t['sent']}, arrived {t['received']}; {summary(row)}")
    wrong += [f"{pair}: nothing was sent; {summary(row)}" for pair, row in have.items() if row["entered"]]
    if wrong:
        raise LabError(f"{len(wrong)} pairs are not what was sent and received:\n" + "\n".join(wrong[:12]) +
                       f"\ntracer: {report['tracer']}")


def summary(row):
    books = {k: row[k] for k in ("entered", "delivered", "in_flight", "lost", "lost_by", "untraced")}
    return f"the report has {books} path {[(h['node'], h['hop'], h['frames']) for h in row['path']]}"


def check_counters(report, relays, before, settled=True, ended=()):
    """Each node's books against the relay's own counters since the trace began.

    ended: relays of which connections ended with packets unsent in the kernel, which the relay counts as sent.
    """
    wrong = []
    for relay in relays:
        row, grown = node(report, relay), relay.counters().since(before[relay.name])
        came = grown.packets_received + grown.packets_forwarded_in
        went = grown.packets_sent + grown.packets_forwarded_out
        over = row["lost"]["min"] - grown.lost() if relay in ended else row["unflushed"]
        relays_word = {"entered": came, "left": went - over, "lost": grown.lost() + over}
        ours = {"entered": row["entered"], "left": row["left"], "lost": row["lost"]["min"]}
        if row["untraced"] or not settled:
            continue
        if ours != relays_word or row["in_flight"] or not 0 <= row["unflushed"] <= over:
            wrong.append(f"{relay}: the relay counts {relays_word} {grown.dropped()}, the report has {ours}, "
                         f"in flight {row['in_flight']}, unflushed {row['unflushed']}")
    if wrong:
        raise LabError("books against the relays' own counters:\n" + "\n".join(wrong) + f"\n{report['tracer']}")


def counters(relays):
    return {r.name: r.counters() for r in relays}
