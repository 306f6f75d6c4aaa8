#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What tracing costs: CPU time per relayed frame, traced against untraced, side by side in one run.

    tools/bench/run.py [--pairs N] [--frames N] [--rate PPS] [ARM...]

Each arm runs the same known traffic through a region of two real relays, in turn with the untraced arm right before
or after it (ABBA), because machines are noisy. The cost of an arm is the CPU time of the relays, of the clients (on
one host the kernel's receive path runs in the sender's time) and of whoever traces, divided by the frames that the
relays took in. The table has the median of the ratios and a bootstrap interval of 95 %: a figure counts as reached
when the upper bound is under it.
"""
import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/lab")
sys.dont_write_bytecode = True

from lab import BUILD, Lab                              # noqa: E402
from parts.truth import Crowd                           # noqa: E402

PEERS = 20


def cpu_ns(pid):
    """CPU time of all threads of a process, from the scheduler's own clock."""
    total = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
    return total


class Nobody:
    """The untraced arm."""
    pids = ()

    def __init__(self, lab):
        pass

    def end(self):
        pass


class Traced(Nobody):
    argv = ("report", "--json")

    def __init__(self, lab):
        self.trace = lab.derptrace(*self.argv)
        self.pids = (self.trace.pid,)

    def end(self):
        report = self.trace.stop()
        if report["tracer"]["segments_lost"]:
            print(f"# the tracer lost {report['tracer']['segments_lost']} segments", file=sys.stderr)


class Tcpdump(Nobody):
    """The relays' ports, whole packets, to a file."""

    def __init__(self, lab):
        self.files = [f"{lab.dir}/{r.name}.pcap" for r in lab.relays]
        self.procs = [subprocess.Popen(
            ["ip", "netns", "exec", r.host.ns, "tcpdump", "-i", "any", "-s0", "-U", "-w", path,
             "tcp", "port", str(r.port)],
            stderr=subprocess.PIPE, start_new_session=True) for r, path in zip(lab.relays, self.files)]
        for proc in self.procs:
            proc.stderr.readline()
        time.sleep(0.2)         # it says that it listens just before it does
        self.pids = tuple(p.pid for p in self.procs)

    def end(self):
        for proc in self.procs:
            proc.terminate()
            proc.communicate()
        for path in self.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


ARMS = {"traced": Traced, "tcpdump": Tcpdump}


class Bench:
    def __init__(self, lab, relays, options):
        self.lab, self.relays, self.options = lab, relays, options
        self.peers = Crowd(lab, lab.host("clients"), relays, count=PEERS)
        lab.clients_settled(PEERS)

    def run(self, arm):
        """CPU nanoseconds per frame, and frames per second, of one arm."""
        o = self.options
        watcher = arm(self.lab)
        pids = [r.pid for r in self.relays] + [self.peers.load.pid, *watcher.pids]
        each = max(1, o.frames // PEERS)
        frames = sum(r.counters().packets_received for r in self.relays)
        before, began = {pid: cpu_ns(pid) for pid in pids}, time.monotonic()
        self.peers.pairs("ring", f"count={each}", f"size={o.size}", "kind=wg", f"rate={o.rate // PEERS}",
                         f"burst={o.burst}")
        self.peers.quiet(100)
        spent, took = sum(cpu_ns(pid) - before[pid] for pid in pids), time.monotonic() - began
        watcher.end()
        frames = sum(r.counters().packets_received for r in self.relays) - frames
        return spent / frames, frames / took


def bootstrap(ratios, rounds=2000):
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]


def compare(bench, name, arm, pairs):
    """Ratios of arm to nobody, in ABBA order."""
    ratios, costs, rates = [], [], []
    for i in range(pairs):
        if i % 2:
            there, rate = bench.run(arm)
            base, base_rate = bench.run(Nobody)
        else:
            base, base_rate = bench.run(Nobody)
            there, rate = bench.run(arm)
        ratios.append(there / base)
        costs.append((base, there))
        rates.append(rate / base_rate)
        print(f"# {name} {i + 1}/{pairs}: {base:.0f} ns, {there:.0f} ns a frame", file=sys.stderr)
    low, high = bootstrap(ratios)
    return (name, statistics.median(b for b, _ in costs), statistics.median(t for _, t in costs),
            statistics.median(ratios), low, high, statistics.median(rates))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=20, help="interleaved pairs of runs (default 20)")
    parser.add_argument("--frames", type=int, default=20000, help="frames sent in a run (default 20000)")
    parser.add_argument("--rate", type=int, default=10000, help="frames per second, all peers together")
    parser.add_argument("--size", default="1200", help="bytes of a packet (default 1200)")
    parser.add_argument("--burst", type=int, default=1, help="frames in a client's write (default 1)")
    parser.add_argument("--relay", default="derper", help="derper (TLS) or plainrelay (default derper)")
    parser.add_argument("arms", nargs="*", default=[], help=f"of {', '.join(ARMS)} (default all)")
    options = parser.parse_args()
    names = options.arms or list(ARMS)
    for name in names:
        if name not in ARMS:
            parser.error(f"no arm {name}: {', '.join(ARMS)}")
    if not os.path.exists(f"{BUILD}/derptrace"):
        sys.exit("build/derptrace is missing: run make")
    with Lab("bench") as lab:
        relays = [lab.relay("derp1", kind=options.relay, mesh_with=["derp2.lab"]),
                  lab.relay("derp2", kind=options.relay, mesh_with=["derp1.lab"])]
        lab.up()
        bench = Bench(lab, relays, options)
        bench.run(Nobody)               # warm
        rows = [compare(bench, name, ARMS[name], options.pairs) for name in names]
    print(f"{options.relay}, {options.size}-byte packets, {options.rate}/s, {options.burst} a write, "
          f"{options.pairs} pairs of runs of {options.frames} frames\n")
    print("| arm | untraced ns/frame | ns/frame | ratio | 95 % | throughput |\n|---|---|---|---|---|---|")
    for name, base, there, ratio, low, high, rate in rows:
        print(f"| {name} | {base:.0f} | {there:.0f} | {ratio:.3f} | {low:.3f} - {high:.3f} | {rate:.3f} |")


if __name__ == "__main__":
    main()
