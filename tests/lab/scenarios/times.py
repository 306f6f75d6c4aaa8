# SPDX-License-Identifier: BSD-2-Clause
"""How long a person waits: for the first table, and for a loss to be on the screen. Printed; what takes ten times as
long as it should fails."""
import json
import os
import time

from lab import Lab, scenario, until
from parts.truth import Crowd

NOBODY = "nodekey:" + "5a" * 32
TOO_LONG_S = 10 * 1.0       # ten times the figure


def two_nodes(lab):
    relays = [lab.relay("derp1", mesh_with=["derp2.lab"]), lab.relay("derp2", mesh_with=["derp1.lab"])]
    lab.up()
    return relays


def lines(trace):
    """The reports that it has printed whole so far."""
    return [json.loads(line) for line in trace.text().splitlines(keepends=True) if line.endswith("\n")]


def heap_gib(relay):
    with open(f"/proc/{relay.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 2**20


def cpu_s(trace):
    with open(f"/proc/{trace.pid}/stat") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def shown(trace):
    """Packets that its last report says are lost."""
    reports = lines(trace)
    return sum(n["lost"]["min"] for n in reports[-1]["nodes"]) if reports else 0


@scenario(timeout=180)
def test_first_table():
    """1,000 TLS connections are open: the first table has each of them decrypted, and its peer named."""
    with Lab("first") as lab:
        relays = two_nodes(lab)
        Crowd(lab, lab.host("clients"), relays, count=1000)
        lab.clients_settled(1000)
        began = time.monotonic()
        trace = lab.derptrace("report", "-f", "--json", ready=False)
        until(lambda: lines(trace), "a first table", timeout=60, every=0.01)
        took, cpu = time.monotonic() - began, cpu_s(trace)
        first = lines(trace)[0]
        trace.stop()
        peers = sum(n["peers"] for n in first["nodes"])
        gib = sum(heap_gib(r) for r in relays)
        print(f"measured: first table {took:.2f} s after start ({cpu:.2f} s of CPU time): {peers} of 1000 open TLS "
              f"connections named, {first['tracer']['connections_without_secret']} without secret; the relays hold "
              f"{gib:.2f} GiB (must: 1 s per GiB)")
        assert peers == 1000 and first["tracer"]["connections_without_secret"] == 0, first["tracer"]
        assert took < TOO_LONG_S, took


@scenario(timeout=120)
def test_loss_shown():
    """A packet is lost: how long until -f shows it, once a second and as often as it can be asked to."""
    with Lab("shown") as lab:
        relays = two_nodes(lab)
        peers = Crowd(lab, lab.host("clients"), relays, count=4)
        lab.clients_settled(4)
        for interval in ("1s", "100ms"):
            trace = lab.derptrace("report", "-f", "--json", "--interval", interval)
            took = []
            for n in range(1, 10):
                time.sleep(n / 10)                      # at any moment of an interval
                began = time.monotonic()
                peers.load.command("send", "p0", NOBODY, "count=1", "size=200", "kind=wg")
                until(lambda: shown(trace) == n, "the loss to be shown", timeout=60, every=0.01)
                took.append(time.monotonic() - began)
            trace.stop()
            print(f"measured: -f --interval {interval} showed a loss after {min(took):.2f} to {max(took):.2f} s, "
                  f"median {sorted(took)[4]:.2f} s (must: 1 s)")
            assert sorted(took)[4] < TOO_LONG_S, took
