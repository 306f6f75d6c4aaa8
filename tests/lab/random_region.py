#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Set-ups that nobody thought of: composed from a seed, played with real relays, judged against the truth.

    tests/lab/random_region.py 17 42         plays these seeds
    tests/lab/random_region.py --from 100 --for 30m     and on from here, so long
    tests/lab/random_region.py --show 17     the plan, as JSON, and nothing else
    tests/lab/random_region.py --plan FILE   a plan that was kept, or changed
    tests/lab/random_region.py --shrink 17   tries what can be left out of a plan that fails

Prints a line per seed, and of one that fails what was wrong. Exit code 1 when one failed. Run as root.
"""
import argparse
import copy
import json
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

from lab import Lab                                 # noqa: E402
from parts.random_judge import Judge                # noqa: E402
from parts.random_plan import compose               # noqa: E402
from parts.random_play import Play                  # noqa: E402

SECONDS = {"s": 1, "m": 60, "h": 3600}


def brief(plan):
    t = plan["trace"]
    links = " ".join(f"{k}:{v}" for k, v in plan["links"].items() if v != "up") or "whole"
    return (f"{'+'.join(n['kind'].replace('derper', 'd').replace('plainrelay', 'plain') for n in plan['nodes'])} "
            f"[{links}] {t['attach']} count={t['count']} xdp={t['xdp']} map={t['map']}"
            f"{' -f' if t['follow'] else ''} record={t['record']} {len(plan['clients'])} clients "
            f"{'/'.join(s['do'] for s in plan['steps'])}")


def play(plan, keep=None):
    """(what is wrong, notes)."""
    with Lab(f"rnd{plan['seed']}", keep_logs=keep) as lab:
        p = Play(lab, plan)
        p.run()
        judge = Judge(p)
        judge.judge()
        if keep:
            with open(f"{lab.dir}/truth.json", "w") as f:
                json.dump({"truth": [[*k, v] for k, v in p.truth_now.items()], "keys": p.keys, "flows": p.flows}, f,
                          indent=1)
        return judge.wrong, judge.notes


def tried(plan, keep=None):
    """The same of a lab that itself may fail."""
    try:
        return play(plan, keep)
    except KeyboardInterrupt:
        raise
    except Exception:
        text = traceback.format_exc()
        # What Go and OpenSSL make of a KeyUpdate amid traffic is now and then no record that either can read.
        if "bad record mac" in text and any(s["do"] == "keys" for s in plan["steps"]):
            return [], ["given up: a relay and a client fell out over a KeyUpdate"]
        return [text], ["the lab itself"]


def tell(plan, keep=None):
    began = time.monotonic()
    wrong, notes = tried(plan, keep)
    word = "FAIL" if wrong else "PASS"
    print(f"{word} {plan['seed']} {brief(plan)} ({time.monotonic() - began:.0f} s)"
          f"{' note: ' + '; '.join(notes) if notes else ''}", flush=True)
    for text in wrong[:30]:
        print("     | " + text.replace("\n", "\n     | ")[:3000], flush=True)
    return not wrong


def smaller(plan):
    """Plans with one thing less."""
    for i, s in enumerate(plan["steps"]):
        p = copy.deepcopy(plan)
        del p["steps"][i]
        yield f"without step {i} {s['do']}", p
        for j in range(len(s.get("flows", []))):
            p = copy.deepcopy(plan)
            del p["steps"][i]["flows"][j]
            yield f"without flow {j} of step {i}", p
    used = {w for s in plan["steps"] for w in [s.get("client"), *(f[e] for f in s.get("flows", []) for e in
                                                                  ("src", "dst"))]}
    for c in plan["clients"]:
        if c not in used and len(plan["clients"]) > 2:
            p = copy.deepcopy(plan)
            del p["clients"][c]
            yield f"without {c}", p
    for k, v in (("follow", False), ("record", "none"), ("map", "none"), ("xdp", "off"), ("count", "user"),
                 ("attach", "clients")):
        if plan["trace"][k] != v:
            p = copy.deepcopy(plan)
            p["trace"][k] = v
            yield f"{k} {v}", p


def shrink(plan, deadline):
    again = True
    while again and time.monotonic() < deadline:
        again = False
        for what, p in smaller(plan):
            if time.monotonic() > deadline:
                break
            wrong, notes = tried(p)
            print(f"{'still fails' if wrong else 'passes'} {what}" + (f": {wrong[0][:200]}" if wrong else ""),
                  flush=True)
            if wrong and "the lab itself" not in notes:
                plan, again = p, True
                break
    print(json.dumps(plan))
    return plan


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--from", dest="first", type=int, help="this seed and those after it")
    parser.add_argument("--for", dest="time", default="10m", help="no new seed after so long (10m)")
    parser.add_argument("--show", action="store_true", help="print the plans only")
    parser.add_argument("--plan", action="append", default=[], help="a file with a plan")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--keep", help="a folder for what the lab's processes wrote")
    args = parser.parse_args()
    deadline = time.monotonic() + float(args.time[:-1]) * SECONDS[args.time[-1]]
    plans = [compose(s) for s in args.seeds]
    for path in args.plan:
        with open(path) as f:
            plans.append(json.load(f))
    if args.show:
        print("\n".join(json.dumps(p) for p in plans))
        return 0
    if args.shrink:
        for p in plans:
            shrink(p, deadline)
        return 0
    good = True
    for p in plans:
        good &= tell(p, args.keep)
    seed = args.first
    while seed is not None and time.monotonic() < deadline:
        good &= tell(compose(seed), args.keep)
        seed += 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
