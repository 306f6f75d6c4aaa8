# SPDX-License-Identifier: BSD-2-Clause
"""Set-ups that nobody thought of: some seeds of random_region.py that once showed what was wrong."""
from lab import LabError, scenario
from parts.random_plan import compose
from random_region import play


def seed(number):
    wrong, notes = play(compose(number))
    print("measured:", ", ".join(notes) or "no note")
    if wrong:
        raise LabError(f"seed {number}:\n" + "\n".join(wrong))


@scenario(slow=True, timeout=180)
def test_websockets_under_way():
    """Plain HTTP and WebSockets, attached to while all send, one link missing."""
    seed(13)


@scenario(slow=True, long=True, timeout=180)
def test_idle_links():
    """Three nodes, attached to when their mesh is up and idle; a client moves."""
    seed(1057)


@scenario(slow=True, long=True, timeout=180)
def test_two_families():
    """A node with addresses of both families, traced from before the mesh is dialled, with a map; one link missing."""
    seed(90)


@scenario(slow=True, long=True, timeout=180)
def test_one_packet_each():
    """Connections that were open carry a packet each."""
    seed(1015)
