# SPDX-License-Identifier: BSD-2-Clause
"""The governor: over its budget the tracer takes in less, says so, and accuses nobody of what it did not see."""
import json

from lab import Lab, scenario, until
from parts.staging import among, meshed
from parts.truth import Crowd, lost_where, rows, verdicts

SAID = "of all CPUs' time"
BACK = "all connections are traced again"


def said(trace):
    """The steps that a tracer has said on standard error."""
    with open(trace.log, errors="replace") as f:
        return [line.rsplit(": ", 1)[1].strip() for line in f if SAID in line]


def latest(trace):
    """The last whole report of one that follows."""
    return json.loads(trace.text().rpartition("\n")[0].rpartition("\n")[2])


def counted(report, pair):
    row = rows(report).get(pair, {"entered": 0, "delivered": 0})
    return row["entered"], row["delivered"]


def check_steps(report, trace, budget):
    tracer = report["tracer"]
    steps = tracer["steps"]
    print("measured:", [(s["from"], s["to"], s["share"], round(s["cost_percent"], 2)) for s in steps],
          "untraced", [n["untraced"] for n in report["nodes"]], "cpu", round(tracer["cpu_percent"], 2))
    assert tracer["mode"] == "full" == steps[0]["from"] == steps[-1]["to"] and len(steps) == len(said(trace)), steps
    assert all(a["to"] == b["from"] for a, b in zip(steps, steps[1:])), steps
    assert steps[0]["cost_percent"] > steps[0]["budget_percent"] == budget, steps


def check_books(report, truth):
    """Not all is in them, and what is there is true."""
    assert sum(p["entered"] for p in report["pairs"]) < sum(t["sent"] for t in truth.values())
    for pair, row in rows(report).items():
        t = truth.get(pair)     # what came out of a connection that was not read may have no sender
        assert None in pair or row["entered"] <= t["sent"] and row["lost"]["min"] <= t["sent"] - t["received"], (t, row)
    # What the relays dropped they have said themselves; there is nothing else to find.
    assert len(verdicts(report)) == len(verdicts(report, "queue-drop")), report["verdicts"]
    assert sum(v["count"]["min"] for v in report["verdicts"]) <= lost_where(truth), report["verdicts"]


def flood(lab, budget):
    """A region under a tracer with so small a budget, flooded until it takes in less; quiet again, it takes in all."""
    relays = meshed(lab, env=None)
    trace = lab.derptrace("report", "--json", "-f", "--interval", "500ms", "--budget", f"{budget}%")
    peers = Crowd(lab, lab.host("clients"), relays)
    lab.clients_settled(20)
    peers.pairs("list", among(peers.names), "count=1200", "size=1-1400", "kind=mixed", "rate=100", "burst=4")
    peers.quiet()
    assert said(trace), "the budget was never exceeded"
    until(lambda: said(trace)[-1] == BACK, lambda: f"all to be traced again, it said {said(trace)}", 120, 0.1)
    return trace, peers


@scenario(timeout=210)
def test_budget():
    """A flood that costs more than the budget: down within seconds, and up again when it is quiet. Each step is in the
    report, the books balance, nobody is accused of what was not seen, and from then on every packet is counted again.
    """
    with Lab("budget") as lab:
        trace, peers = flood(lab, 1)
        few = ("list", among(peers.names), "size=1-1400", "kind=mixed", "rate=2")
        # One packet of each connection shows where it stands; what comes behind it is read.
        peers.pairs(*few, "count=1")
        peers.quiet(1500)
        middle, before = latest(trace), peers.truth()
        peers.pairs(*few, "count=5")
        peers.quiet(1500)
        truth = peers.truth()
        report = trace.stop()
        check_steps(report, trace, 1)
        check_books(report, truth)
        for pair, t in truth.items():
            now, then = counted(report, pair), counted(middle, pair)
            assert (now[0] - then[0], now[1] - then[1]) == \
                (t["sent"] - before[pair]["sent"], t["received"] - before[pair]["received"]), (t, now, then)


@scenario(timeout=210)
def test_budget_of_nothing():
    """The same with less than it costs to do nothing: still it comes back, for nothing is gained by staying away."""
    with Lab("nobudget") as lab:
        trace, peers = flood(lab, 0.1)
        truth = peers.truth()
        report = trace.stop()
        check_steps(report, trace, 0.1)
        check_books(report, truth)
