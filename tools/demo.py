#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A region of two real relays, broken and mended, and what derptrace says of it: run by `make demo`.

Everything happens in network namespaces that are removed at the end, whatever ends it. Exit code: 0 when each report
said what was so; 1 when one did not; 3 when the demo could not run; 130 after Ctrl-C.
"""
import json
import os
import re
import shutil
import sys
import textwrap
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{ROOT}/tests/lab")
sys.dont_write_bytecode = True

from lab import BUILD, Lab, LabError, tail, until       # noqa: E402
from parts.truth import Crowd                           # noqa: E402

PEERS, COUNT, RATE = 20, 200, 100
TRAFFIC = (f"count={COUNT}", "size=1-1400", "kind=mixed", f"rate={RATE}")
LANDING = re.compile(r"^\s+on (the same node|different nodes)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)\s+([\d.,]+)\s*$", re.M)
VERDICT = re.compile(r"^(DT\d{3}) (\S+)", re.M)
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class Wrong(Exception):
    """The report does not say what was so."""


# --- how it reads ---------------------------------------------------------------------------------

def paint(code, text):
    return f"\33[{code}m{text}\33[0m" if COLOUR else text


def say(text):
    print("\n" + textwrap.fill(" ".join(text.split()), 80), flush=True)


def heading(text):
    print("\n" + paint("1", f"--- {text} " + "-" * max(0, 75 - len(text))), flush=True)


def command(prompt, *words):
    """A command as it is run; long lists are cut in the middle of their commas."""
    line = " ".join(w if len(w) < 60 else w[:w.index(",", 20) + 1] + "..." for w in map(str, words))
    print(textwrap.fill(f"{prompt} {line}", 80, subsequent_indent="    ", break_long_words=False,
                        break_on_hyphens=False), flush=True)


def number(text):
    return int(text.replace(",", ""))


# --- the region -----------------------------------------------------------------------------------

def relay_command(relay):
    """derper's own command line, without the files that every relay of the lab has."""
    words = [f"-hostname {relay.hostname}", f"-a :{relay.port}", "-certmode manual", "-mesh-psk-file mesh.key"]
    if relay.mesh_with:
        words.append("-mesh-with " + ",".join(relay.mesh_with))
    command(f"{relay.name}$", "derper", *words)


def start(lab, relays, meshed):
    """Both relays begin anew, with or without the mesh."""
    for relay, other in zip(relays, relays[::-1]):
        if relay.pid:
            relay.stop()
        relay.mesh_with = [other.hostname] if meshed else []
        relay_command(relay)
    lab.up(meshed)


def write_map(lab, relays):
    """The DERP map, as clients are given it: both nodes in one region."""
    nodes = [{"Name": f"1{letter}", "RegionID": 1, "HostName": r.hostname, "IPv4": r.host.ip4}
             for letter, r in zip("ab", relays)]
    with open(f"{lab.dir}/derpmap.json", "w") as f:
        json.dump({"Regions": {"1": {"RegionID": 1, "RegionCode": "lab", "Nodes": nodes}}}, f, indent=1)
    return f.name


def conversations(names):
    """Each peer talks with one on its own node and with one on the other, both ways."""
    pairs = []
    for i in range(0, len(names), 4):
        a, b, c, d = names[i:i + 4]
        pairs += [f"{x}>{y}" for x, y in ((a, c), (c, a), (b, d), (d, b), (a, b), (b, a), (c, d), (d, c))]
    return pairs


def traffic(lab, peers):
    pairs = conversations(peers.names)
    command("derpload>", "pairs list", ",".join(pairs), *TRAFFIC)
    peers.pairs("list", ",".join(pairs), *TRAFFIC)
    peers.quiet()


class Truth:
    """What derpload knows of the packets between peers on different nodes (or on the same one)."""

    def __init__(self, peers):
        self.rows = {True: [0, 0], False: [0, 0]}
        for (src, dst), row in peers.truth().items():
            sums = self.rows[peers.crosses(src, dst)]
            sums[0] += row["sent"]
            sums[1] += row["received"]


# --- one look -------------------------------------------------------------------------------------

def traced(lab, relays, peers):
    """Attaches to the running relays, lets known traffic flow, ends the trace: its text and its exit code."""
    trace = lab.derptrace("report", "--map", write_map(lab, relays), ready=False)
    shown = os.path.relpath(f"{BUILD}/derptrace")
    command("#", shown, "report", "--map derpmap.json", *[f"--pid {r.pid}" for r in relays])

    def attached():
        trace.proc.check()
        return "attached to" in tail(trace.log)
    until(attached, lambda: f"derptrace to attach; its words:\n{tail(trace.log)}", 30)
    print(tail(trace.log).rstrip(), flush=True)
    traffic(lab, peers)
    text = trace.stop()
    print("^C\n" + text.rstrip(), flush=True)
    return text, trace.code


def landings(text):
    """The report's 2x2 of landings: {across: (sent, delivered, lost)}."""
    found = {m.group(1) == "different nodes": tuple(map(number, m.groups()[2:])) for m in LANDING.finditer(text)
             if ".." not in m.group(5)}
    if len(found) != 2:
        raise Wrong("the report has no exact table of landings")
    return found


def hold_against_truth(text, code, truth, expected):
    """The verdicts are those expected, the losses derpload's, to the packet; the exit code says which it was."""
    found = {name for _, name in VERDICT.findall(text)}
    if found != expected:
        raise Wrong(f"verdicts: {', '.join(sorted(found)) or 'none'}; they should be: {', '.join(expected) or 'none'}")
    if code != (1 if expected else 0):
        raise Wrong(f"derptrace ended with exit code {code}")
    for across, (sent, delivered, lost) in landings(text).items():
        if [sent, delivered, lost] != [*truth.rows[across], truth.rows[across][0] - truth.rows[across][1]]:
            raise Wrong(f"derptrace counts {sent} sent, {delivered} delivered, {lost} lost; derpload sent "
                        f"{truth.rows[across][0]} and received {truth.rows[across][1]}")


def compare(text, code, peers, *expected):
    truth = Truth(peers)
    hold_against_truth(text, code, truth, set(expected))
    said, words = landings(text), []
    for across, where in ((False, "the same node"), (True, "different nodes")):
        sent, arrived = truth.rows[across]
        words.append(f"{sent:,} packets were sent between peers on {where}, {arrived:,} arrived; "
                     f"derptrace says {said[across][2]:,} lost.")
    print("\n" + paint("32", "\n".join(textwrap.fill(f"derpload: {w}", 80) for w in words)), flush=True)


def connect(lab, relays):
    command("derpload>", f"peer p0 {relays[0].url}", f"  (p1 on {relays[1].name}, and so on: {PEERS} peers)")
    peers = Crowd(lab, lab.host("clients"), relays, count=PEERS)
    return peers


# --- the story ------------------------------------------------------------------------------------

def story(lab):
    heading("1. A region as it should be")
    say("""Two real derpers, derp1.lab and derp2.lab, each in a network namespace of its own, with TLS. The DERP map
        has them in one region: a client may land on either, so each must forward to the other what is for the
        other's clients. They are meshed.""")
    relays = [lab.relay("derp1"), lab.relay("derp2")]
    start(lab, relays, True)
    say(f"{PEERS} peers connect, half of them to each node.")
    peers = connect(lab, relays)
    lab.clients_settled(PEERS)
    say("""derptrace attaches to the running relays, whose connections are open and encrypted. Nothing is restarted.
        Then each peer talks with one on its own node and with one on the other; Ctrl-C ends the trace.""")
    text, code = traced(lab, relays, peers)
    compare(text, code, peers)

    heading("2. The mesh is broken")
    say("""The relays are started again without -mesh-with: the case of a region with a public and a private node. Both
        are healthy, every peer is connected, and no log says anything. Users say: sometimes it works.""")
    peers.load.quit()
    start(lab, relays, False)
    peers = connect(lab, relays)
    say("The same traffic.")
    text, code = traced(lab, relays, peers)
    compare(text, code, peers, "no-mesh-route")

    heading("3. The fix")
    say("The relays are meshed, as the report's last lines say.")
    peers.load.quit()
    start(lab, relays, True)
    peers = connect(lab, relays)
    lab.clients_settled(PEERS)
    say("The same traffic.")
    text, code = traced(lab, relays, peers)
    compare(text, code, peers)
    peers.load.quit()


def as_root():
    """Network namespaces and BPF need root; sudo is asked where it is there."""
    if not os.geteuid():
        return
    sudo = shutil.which("sudo")
    if not sudo:
        print("demo: needs root (network namespaces, BPF); run it as root", file=sys.stderr)
        sys.exit(3)
    print("demo: needs root (network namespaces, BPF): asking sudo", file=sys.stderr)
    os.execv(sudo, [sudo, sys.executable, os.path.abspath(__file__)])


def main():
    as_root()
    began = time.monotonic()
    try:
        with Lab("demo") as lab:
            story(lab)
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the relays and their namespaces are gone", file=sys.stderr)
        return 130
    except Wrong as e:
        print(f"\ndemo: FAILED: {e}", file=sys.stderr)
        return 1
    except (LabError, OSError) as e:
        print(f"\ndemo: could not run: {e}", file=sys.stderr)
        return 3
    heading(f"Done in {time.monotonic() - began:.0f} s; relays, peers and namespaces are gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
