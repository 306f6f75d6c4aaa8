# SPDX-License-Identifier: BSD-2-Clause
"""What scenarios have in common: conditions to await, and the traffic that most of them send."""
from .proc import tail, until

def among(names, steps=(1, 2, 5)):
    """A list of pairs: from each peer to those so many places on. With two relays in turn, an odd step crosses."""
    return ",".join(f"{n}>{names[(i + s) % len(names)]}" for i, n in enumerate(names) for s in steps)


# Twenty peers, on one node and across, both kinds and all sizes, four to a segment: 10,200 packets, and no more at
# once for one destination than a relay's queue of 32 takes.
EVERYONE = ("list", among([f"p{i}" for i in range(20)]), "count=170", "size=1-1400", "kind=mixed", "rate=60", "burst=4")


def said(relay, words):
    """How often a relay has said so."""
    try:
        with open(relay.log, errors="replace") as f:
            return f.read().count(words)
    except OSError:
        return 0


def says(relay, words, more_than=0, timeout=30):
    """Awaits that a relay has said so more often than that."""
    until(lambda: said(relay, words) > more_than,
          lambda: f"{relay} to say {words!r} more than {more_than} times; its log:\n{tail(relay.log)}", timeout)


def knows(relay, count, timeout=20):
    """Awaits that a relay knows so many peers, its own, those behind its mesh, and the relays that dialled it."""
    until(lambda: relay.counters().clients_total >= count,
          lambda: f"{relay} to know {count} peers, it knows {relay.counters().clients_total}", timeout, 0.05)


def has_local(relay, count, timeout=20):
    """Awaits that so many keys are connected to this very relay."""
    until(lambda: relay.counters().clients_local == count,
          lambda: f"{relay} to have {count} peers, it has {relay.counters().clients_local}", timeout, 0.05)
