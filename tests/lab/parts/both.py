# SPDX-License-Identifier: BSD-2-Clause
"""Packets counted in the kernel, held against a tracer that has seen each of them."""
from .staging import DEEP
from .truth import check_counters, check_pairs, counters, only_verdicts, rows


class Both:
    """Two tracers of one region at once: one counts in the kernel, the other sees every packet."""

    def __init__(self, lab, relays, least=0.9):
        self.least = least              # so many of all sightings are to be counted
        self.relays, self.before = relays, counters(relays)
        self.kernel = lab.derptrace("report", "--json", "--count", "kernel")
        self.user = lab.derptrace("report", "--json", "--count", "user", "--xdp", "off")

    def stop(self):
        """Both reports, whose books are equal: the kernel's first."""
        kernel, user = self.kernel.stop(), self.user.stop()
        counted, all_in = kernel["tracer"]["frames_counted"], sum(n["entered"] + n["left"] for n in kernel["nodes"])
        print(f"measured: {counted} of {all_in} sightings counted in the kernel")
        assert counted > all_in * self.least and user["tracer"]["frames_counted"] == 0
        assert kernel["tracer"]["segments_uncounted"] == 0
        have, wanted = books(kernel), books(user)
        wrong = [f"{pair}: {have.get(pair)} instead of {wanted.get(pair)}"
                 for pair in have.keys() | wanted.keys() if have.get(pair) != wanted.get(pair)]
        assert not wrong, "\n".join(wrong[:20])
        return kernel, user

    def check(self, truth, *verdicts):
        """Both say what the clients and the relays say, and nothing else."""
        for report in self.stop():
            only_verdicts(report, *verdicts)
            check_pairs(report, truth)
            check_counters(report, self.relays, self.before)


def books(report):
    return {pair: {k: r[k] for k in ("entered", "delivered", "in_flight", "lost", "untraced", "lost_by")}
            for pair, r in rows(report).items()}


def two_nodes(lab, meshed_a=True, meshed_b=True, env=DEEP):
    a = lab.relay("derp1", kind="plainrelay", mesh_with=["derp2.lab"] if meshed_a else [], env=env)
    b = lab.relay("derp2", kind="plainrelay", mesh_with=["derp1.lab"] if meshed_b else [], env=env)
    lab.up()
    return a, b
