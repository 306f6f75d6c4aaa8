#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What tracing costs: CPU time per relayed frame, traced against untraced, side by side in one run.

    tools/bench/run.py [--pairs N] [--only tls|plain|rooms] [--readme] [ARM...]

Each round sends the same known traffic through a region of two real relays, once for each arm, with nobody looking
before, between and after; every second round goes backwards, because machines drift. An arm's ratio of a round is its
cost against the two untraced runs around it. The cost is the CPU time of the relays, of the kernel in the clients'
time (on one host its receive path runs there) and in its own packet threads, and of whoever looks on, by the frames
that clients gave to the relays. Every fourth round the same is done flat out, for the throughput.

The table has the median of the ratios and a bootstrap interval of 95 %: a target counts as reached when the upper
bound is under it. Nothing is written but to standard output, unless --readme is given.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{ROOT}/tests/lab")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from lab import BUILD, Lab                              # noqa: E402
from parts.truth import Crowd                           # noqa: E402

import arms                                             # noqa: E402
import page                                             # noqa: E402
from measure import cpu_ns, median_of, share_of, softirq_threads, thread_ns, user_ns   # noqa: E402

PEERS = 20
BURSTS = (1, 4)         # frames in a client's write
BETWEEN = 2             # arms between two untraced runs
FLAT_OUT_EVERY = 4      # rounds


class Region:
    """Two relays, twenty peers, and the traffic among them."""

    def __init__(self, lab, kind, options):
        self.lab, self.options = lab, options
        self.relays = [lab.relay("derp1", kind=kind, mesh_with=["derp2.lab"]),
                       lab.relay("derp2", kind=kind, mesh_with=["derp1.lab"])]
        lab.up()
        self.peers = Crowd(lab, lab.host("clients"), self.relays, count=PEERS)
        lab.clients_settled(PEERS)
        self.softirq = softirq_threads()
        self.user_ns = dict.fromkeys(BURSTS, 0)     # of the clients, and in how many frames
        self.user_frames = dict.fromkeys(BURSTS, 0)

    def frames(self):
        return sum(r.counters().packets_received for r in self.relays)

    def send(self, frames, rate, burst):
        self.peers.pairs("ring", f"count={max(1, frames // PEERS)}", f"size={self.options.size}", "kind=wg",
                         f"rate={rate // PEERS}", f"burst={burst}")
        self.peers.quiet(20)

    def clocks(self, watcher):
        pids = [r.pid for r in self.relays] + [self.peers.load.pid, *watcher.pids]
        return sum(map(cpu_ns, pids)) + sum(map(thread_ns, self.softirq))

    def measured(self, watcher, rate, burst):
        """CPU nanoseconds a frame, and frames a second."""
        frames, user, began = self.frames(), user_ns(self.peers.load.pid), time.monotonic()
        spent = self.clocks(watcher)
        self.send(self.options.frames, rate, burst)
        spent, took = self.clocks(watcher) - spent, time.monotonic() - began - 0.02
        frames = self.frames() - frames
        if rate:
            self.user_ns[burst] += user_ns(self.peers.load.pid) - user
            self.user_frames[burst] += frames
        return spent / frames, frames / took

    def run(self, arm, bursts, flat_out):
        """{burst: CPU ns a frame}, frames a second flat out or None, and a note, of one arm."""
        watcher = arm(self.lab)
        if watcher.warm:
            self.send(self.options.rate * watcher.warm, self.options.rate, bursts[0])
        costs = {burst: self.measured(watcher, self.options.rate, burst)[0] for burst in bursts}
        speed = self.measured(watcher, 0, bursts[-1])[1] if flat_out else None
        watcher.end()
        return costs, speed, watcher.note

    def clients_ns(self, burst):
        """What the clients did for a frame outside the kernel: the same whoever looks on, and none of the relay's."""
        return self.user_ns[burst] / self.user_frames[burst]


def order_of(names, backwards):
    """Arms with None, the untraced, before, after, and between every two."""
    names = list(reversed(names)) if backwards else list(names)
    order = [None]
    for i in range(0, len(names), BETWEEN):
        order += names[i:i + BETWEEN] + [None]
    return order


def one_round(region, table, bursts, number, rows):
    order = order_of(table, number % 2)
    flat_out = number % FLAT_OUT_EVERY == 0
    results = [region.run(table[n][0] if n else arms.Nobody, bursts, flat_out) for n in order]
    bases = [i for i, n in enumerate(order) if n is None]
    for i, name in enumerate(order):
        if name is None:
            continue
        around = [results[max(b for b in bases if b < i)], results[min(b for b in bases if b > i)]]
        for burst in bursts:
            row = rows.setdefault((burst, name), {"base": [], "cost": [], "speed": [], "notes": []})
            row["base"].append(statistics.mean(costs[burst] for costs, _, _ in around))
            row["cost"].append(results[i][0][burst])
            row["notes"].append(results[i][2])
            if flat_out:
                row["speed"].append(results[i][1] / statistics.mean(speed for _, speed, _ in around))


def tables_of(title, kind, table, bursts, options):
    """A table for each number of frames in a write."""
    rows, began, tables = {}, time.monotonic(), []
    with Lab("bench") as lab:
        region = Region(lab, kind, options)
        region.run(arms.Nobody, bursts, True)           # warm
        for i in range(options.pairs):
            one_round(region, table, bursts, i, rows)
            print(f"# {title}: round {i + 1} of {options.pairs}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    for burst in bursts:
        have = [summary(name, rows[burst, name], table[name][1], burst, region.clients_ns(burst)) for name in table]
        add_shares(have)
        tables.append((f"{title}, {burst} frame{'s' * (burst > 1)} a write", have))
    return tables


def summary(name, row, target, burst, clients_ns):
    if isinstance(target, dict):
        target = target[burst]
    base, cost = ([v - clients_ns for v in row[k]] for k in ("base", "cost"))
    ratio, low, high = median_of([c / b for c, b in zip(cost, base)])
    notes = statistics.mode(row["notes"])
    return {"name": f"{name} ({notes})" if notes else name, "base": statistics.median(base),
            "cost": statistics.median(cost), "ratio": ratio, "low": low, "high": high,
            "speed": statistics.median(row["speed"]), "target": target,
            "rounds": len(cost), "added": [c - b for c, b in zip(cost, base)]}


def add_shares(rows):
    """Each arm's added cost against tcpdump's of the same round."""
    dump = next((r for r in rows if r["name"] == "tcpdump"), None)
    for r in rows:
        r["share"] = share_of(r["added"], dump["added"]) if dump and r is not dump else None


def rooms(options):
    """What the rooms do by themselves: the output of their programs."""
    rates = subprocess.run([f"{BUILD}/bench/rates", str(options.max_pairs)], capture_output=True, text=True, check=True)
    asked = [subprocess.run([f"{BUILD}/rooms", what], capture_output=True, text=True, check=True).stdout
             for what in ("speed", "memory")]
    return [line.split("\t") for line in rates.stdout.splitlines()], asked


def chosen(table, names):
    return {n: a for n, a in table.items() if not names or n in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=20, help="interleaved rounds of runs (default 20)")
    parser.add_argument("--frames", type=int, default=8000, help="frames sent in a run (default 8000)")
    parser.add_argument("--rate", type=int, default=10000, help="frames per second, all peers together")
    parser.add_argument("--size", default="1200", help="bytes of a packet (default 1200)")
    parser.add_argument("--max-pairs", type=int, default=1000000, help="of the rooms' measurement (default 1000000)")
    parser.add_argument("--only", choices=("tls", "plain", "rooms"), action="append", help="a part of it; repeatable")
    parser.add_argument("--readme", action="store_true", help="write it into tools/bench/README.md, with a plot")
    parser.add_argument("arms", nargs="*", help="of a table's rows; by default all")
    options = parser.parse_args()
    parts = options.only or ["tls", "plain", "rooms"]
    tables = []
    for part, title, kind, table, bursts in (("tls", "TLS relay", "derper", arms.TLS, BURSTS[:1]),
                                             ("plain", "plain relay", "plainrelay", arms.plain(), BURSTS)):
        table = chosen(table, options.arms)
        if part in parts and table:
            tables += tables_of(title, kind, table, bursts, options)
    for title, rows in tables:
        print(page.table(title, rows), flush=True)
    measured = rooms(options) if "rooms" in parts else None
    if measured:
        print(page.rooms(*measured))
    if options.readme:
        page.write(f"{ROOT}/tools/bench", tables, measured, options)


if __name__ == "__main__":
    main()
