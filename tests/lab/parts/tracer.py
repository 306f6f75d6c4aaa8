# SPDX-License-Identifier: BSD-2-Clause
"""derptrace itself, run outside all the lab's namespaces as a user runs it, and the laws its report must keep."""
import json
import os
import signal
import subprocess

from .proc import LabError, Proc, tail, until

SCHEMA = os.path.join(os.path.dirname(__file__), "../../../doc/report.schema.json")
VALIDATOR = None


def validate(report):
    """LabError where the report is not as doc/report.schema.json says."""
    global VALIDATOR
    if VALIDATOR is None:
        import jsonschema
        with open(SCHEMA) as f:
            VALIDATOR = jsonschema.Draft202012Validator(json.load(f))
    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in VALIDATOR.iter_errors(report)]
    if errors:
        raise LabError("report against its schema:\n" + "\n".join(errors[:10]))
    return report


def held(pid):
    """BPF programs, maps and links that a process holds: {("prog", number), ...}."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                words = [line.split(":") for line in f]
        except OSError:
            continue
        found |= {(k[:-3], int(v)) for k, v in (w for w in words if len(w) == 2)
                  if k in ("prog_id", "map_id", "link_id")}
    return found


def still_loaded(host, ids):
    """Those of them that the kernel has."""
    left = set()
    for kind in {k for k, _ in ids}:
        there = {line.split(":")[0] for line in host.run("bpftool", kind, "list").splitlines()}
        left |= {(k, n) for k, n in ids if k == kind and str(n) in there}
    return left


def law(report):
    """LabError unless the books of every node, link and pair balance to the frame."""
    wrong = []

    def balance(what, row, came, went):
        lost, untraced = row["lost"], row["untraced"]
        if row[came] != row[went] + row["in_flight"] + lost["min"] + untraced:
            wrong.append(f"{what}: {came} {row[came]} != {went} {row[went]} + in_flight {row['in_flight']} + "
                         f"lost {lost['min']} + untraced {untraced}")
        if not lost["min"] <= lost["max"] <= lost["min"] + untraced:
            wrong.append(f"{what}: lost {lost['min']} to {lost['max']} with {untraced} untraced")

    for n in report["nodes"]:
        if n["traced"]:
            balance(f"node {n['name']}", n, "entered", "left")
    for p in report["pairs"]:
        what = f"pair {p['src']} > {p['dst']}"
        balance(what, p, "entered", "delivered")
        for end in ("min", "max"):
            if sum(r[end] for r in p["lost_by"].values()) != p["lost"][end]:
                wrong.append(f"{what}: lost_by does not sum to lost.{end} {p['lost'][end]}: {p['lost_by']}")
    for k in report["links"]:
        if k["arrived"] is not None:
            balance(f"link {k['from']} > {k['to']}", k, "sent", "arrived")
    if wrong:
        raise LabError("the books do not balance:\n" + "\n".join(wrong[:20]))
    return report


class Trace:
    """A running derptrace. stop() ends it in order and returns what it printed, parsed when it is JSON."""

    def __init__(self, lab, argv, log, out, ready, stdin=None, to=None):
        self.out_path, self.ready_path, self.log = out, ready, log
        self.json = "--json" in argv
        self.code = None
        with open(out, "wb") as f:
            self.proc = Proc("derptrace", argv, log, out=f if to is None else to,
                             stdin=subprocess.DEVNULL if stdin is None else stdin)
        self.lab, self.pid = lab, self.proc.pid
        lab.own(self.proc)

    def wait_ready(self, timeout=30):
        def ready():
            self.proc.check()
            return os.path.exists(self.ready_path)
        until(ready, lambda: f"derptrace to be ready; its words:\n{tail(self.log)}", timeout, 0.01)
        return self

    def send_signal(self, sig):
        self.proc.send_signal(sig)

    def wait(self, timeout=30):
        """For a trace that ends by itself."""
        self.code = self.proc.wait(timeout)
        self.lab.disown(self.proc)
        return self.result()

    def stop(self, timeout=30):
        """SIGINT, and its report: a dict when --json was asked for (checked against the schema and the law)."""
        self.proc.send_signal(signal.SIGINT)
        return self.wait(timeout)

    def kill(self):
        self.proc.kill()
        self.lab.disown(self.proc)

    def text(self):
        with open(self.out_path, errors="replace") as f:
            return f.read()

    def result(self):
        text = self.text()
        if not self.json:
            return text
        try:
            reports = [json.loads(line) for line in text.splitlines() if line.strip()] \
                if "\n{" in text.strip() else [json.loads(text)]
        except ValueError as e:
            raise LabError(f"derptrace (exit {self.code}) printed no JSON: {e}\n{text[:500]}\n{tail(self.log)}") \
                from None
        for r in reports:
            law(validate(r))
        return reports[-1]
