# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel counts where TCP is not as it should be: holes, what comes again, segments of very many frames."""
from lab import Lab, scenario
from parts.both import Both, two_nodes
from parts.truth import Crowd, lost_where

TRAFFIC = ("ring", "count=500", "size=1-1400", "kind=mixed", "rate=50", "burst=2")


@scenario(timeout=120)
def test_disorder():
    """One packet of fifty vanishes on the wire, everywhere: what came behind it waits, and is sent again in other
    pieces.
    """
    with Lab("ckdisorder") as lab:
        relays = two_nodes(lab)
        both = Both(lab, relays, least=0.3)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        with lab.net.lossy(50):
            peers.pairs(*TRAFFIC)
            peers.quiet(1000)
        truth = peers.truth()
        both.check(truth, *["queue-drop"] * (lost_where(truth) > 0))


@scenario(timeout=90)
def test_many_frames():
    """All that a client sends to nineteen others is held back for a while, and comes at once: hundreds of frames in a
    segment, more than are counted in one.
    """
    with Lab("ckmany") as lab:
        # Room in the client's socket for all of it: what TCP gives by itself grows with what it was used for.
        lab.host("clients").sysctl("net.ipv4.tcp_wmem", "4096 4194304 4194304")
        relays = two_nodes(lab)
        both = Both(lab, relays, least=0.1)
        peers = Crowd(lab, lab.host("clients"), relays)
        lab.clients_settled(20)
        peers.pairs(*TRAFFIC)
        for size in ("1-30", "24-24", "1-1400"):
            hole = lab.net.blackhole(lab.host("clients"), relays[0].host, dport=relays[0].port)
            peers.load.command("pairs", "list", ",".join(f"p0>p{i}" for i in range(1, 20)), "count=25", f"size={size}",
                               "kind=wg", "rate=0", "burst=5", f"id=many{size}")
            peers.load.wait_event("sent_all")
            hole.mend()
            peers.quiet(1500)
        truth = peers.truth()
        assert lost_where(truth) == 0, truth
        both.check(truth)
