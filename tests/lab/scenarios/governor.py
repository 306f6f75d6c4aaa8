# SPDX-License-Identifier: BSD-2-Clause
"""The governor: over its budget the tracer takes in less, says so, and accuses nobody of what it did not see."""
from lab import Lab, scenario, until
from parts.staging import among, meshed
from parts.truth import Crowd, counters, lost_where, node, rows

SAID = "of all CPUs' time"


def said(trace):
    """The steps that a tracer has said on standard error."""
    with open(trace.log, errors="replace") as f:
        return [line.rsplit(": ", 1)[1].strip() for line in f if SAID in line]


@scenario(timeout=150)
def test_budget():
    """A flood that costs more than the budget: down within seconds, up again when it is quiet. All of it is in the
    report, the books balance, nobody is accused, and every packet arrives.
    """
    with Lab("budget") as lab:
        relays = meshed(lab)
        before = counters(relays)
        trace = lab.derptrace("report", "--json", "--budget", "0.1%")
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs("list", among(peers.names), "count=10", "size=1-1400", "kind=mixed", "rate=20")
        peers.pairs("list", among(peers.names), "count=1200", "size=1-1400", "kind=mixed", "rate=150", "burst=4")
        peers.quiet()
        down = len(said(trace))
        assert down, "the budget was never exceeded"
        until(lambda: said(trace)[-1:] == ["all connections are traced again"],
              lambda: f"everything to be traced again, it said {said(trace)}", 60, 0.1)
        peers.pairs("list", among(peers.names), "count=10", "size=1-1400", "kind=mixed", "rate=20")
        peers.quiet()
        truth = peers.truth()
        report = trace.stop()
        tracer = report["tracer"]
        assert tracer["mode"] == "full" and tracer["steps"], tracer
        print("measured:", [(s["from"], s["to"], s["share"], round(s["cost_percent"], 2)) for s in tracer["steps"]],
              "untraced", [n["untraced"] for n in report["nodes"]], "cpu", tracer["cpu_percent"])
        for step, after in zip(tracer["steps"], tracer["steps"][1:]):
            assert step["to"] == after["from"], tracer["steps"]
        assert tracer["steps"][0]["from"] == "full" and tracer["steps"][0]["cost_percent"] > 0.1, tracer["steps"]
        assert sum(p["entered"] for p in report["pairs"]) < sum(t["sent"] for t in truth.values())
        grown = sum(r.counters().since(before[r.name]).lost() for r in relays)
        print("lost", lost_where(truth), grown)
        for pair, row in rows(report).items():
            if None in pair:    # what came out of a connection that was not read has no sender
                continue
            t = truth[pair]
            lost = t["sent"] - t["received"]
            assert row["entered"] <= t["sent"] and row["lost"]["min"] <= lost, (t, row)
        if not grown:
            assert not report["verdicts"], report["verdicts"]
