# SPDX-License-Identifier: BSD-2-Clause
"""The lab's clients: derpload, whose counts are the ground truth, and derpclient, made of tailscale's own package."""
from .proc import Talker


class Client(Talker):
    """Line commands in, JSON events out: command(), wait_event(), stats(); ended with the lab, or by quit()."""

    def stats(self, timeout=30):
        self.command("stats")
        return self.wait_event("stats", timeout=timeout)

    def quit(self, timeout=10):
        self.command("quit")
        self.popen.stdin.close()
        return self.wait(timeout)


class Load(Client):
    """build/derpload; its commands and events are in tools/derpload/README.md."""


class GoClient(Client):
    """build/lab/bin/derpclient: tailscale's derphttp, many peers to a process."""

    def peer(self, name, relay, timeout=30):
        """Connects; returns the new peer's key. relay is a Relay or a URL."""
        self.command("peer", name, relay if isinstance(relay, str) else relay.url)
        return self.wait_event("peer", timeout=timeout, name=name)["key"]

    def send(self, src, dst, count, size=1200, rate=0):
        """Begins to send; dst is a name of this process or a nodekey. sent() awaits the end."""
        self.command("send", src, dst, count, size, rate)

    def sent(self, src, dst, timeout=60):
        return self.wait_event("sent", timeout=timeout, **{"from": src, "to": dst})
