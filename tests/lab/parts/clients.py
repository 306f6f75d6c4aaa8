# SPDX-License-Identifier: BSD-2-Clause
"""The lab's clients: derpload, whose counts are the ground truth, and derpclient, made of tailscale's own package."""
from .proc import LabError, Talker


def _url(relay):
    return relay if isinstance(relay, str) else relay.url


def _options(options):
    return [f"{k}={v}" for k, v in options.items()]


class Client(Talker):
    """Line commands in, JSON events out: command(), wait_event(), stats(); ended with the lab, or by quit()."""

    def stats(self, *options, timeout=30):
        self.command("stats", *options)
        return self.wait_event("stats", timeout=timeout)

    def quit(self, timeout=10):
        self.command("quit")
        self.popen.stdin.close()
        return self.wait(timeout)


class Load(Client):
    """build/derpload: `derpload --help` lists its commands. Options of a command are given by name: rate=1000."""

    _barriers = 0

    def peer(self, name, relay, timeout=30, **options):
        """Connects; returns the new peer's key."""
        return self.peers({name: relay}, timeout, **options)[name]

    def peers(self, where, timeout=60, **options):
        """Connects many at once: {name: Relay or URL}; returns {name: key}. LabError when one does not come up."""
        for name, relay in where.items():
            self.command("peer", name, _url(relay), *_options(options))
        self.barrier(timeout)
        keys = {}
        for name in where:
            up = [e for e in self.events if e.get("ev") in ("up", "down") and e.get("peer") == name]
            if not up or up[-1]["ev"] == "down":
                raise LabError(f"derpload: {name} did not come up: {up}")
            self.events = [e for e in self.events if e not in up]
            keys[name] = up[-1]["key"]
        return keys

    def send(self, src, dst, **options):
        """Begins to send: count=, size=MIN-MAX, kind=wg|disco|mixed|wginit|zero, rate=, burst=, coalesce=1."""
        self.command("send", src, dst, *_options(options))

    def pairs(self, which, **options):
        """Begins to send between many: "ring", "all" or "list SRC>DST,..."."""
        self.command("pairs", *which.split(), *_options(options))

    def barrier(self, timeout=60):
        """Awaits that everything begun before is done: connects, and packets handed to the kernel."""
        self._barriers += 1
        tag = f"lab{self._barriers}"
        self.command("barrier", tag, f"timeout={int(timeout * 1000)}")
        if self.wait_event("barrier", timeout=timeout + 10, id=tag).get("timeout"):
            raise LabError(f"derpload: not done within {timeout:g} s; its last words: {self.events[-3:]}")

    def quiet(self, ms=300, timeout=30):
        """Awaits that no peer of this process has received a packet for so long."""
        self.command("quiet", ms, f"timeout={int(timeout * 1000)}")
        if self.wait_event("quiet", timeout=timeout + 10).get("timeout"):
            raise LabError(f"derpload: packets still arrived after {timeout:g} s")

    def expect(self, name, count, timeout=30):
        """Awaits that a peer has received so many packets in all."""
        self.command("expect", name, f"count={count}", f"timeout={int(timeout * 1000)}")
        e = self.wait_event("expect", timeout=timeout + 10, peer=name)
        if e.get("timeout"):
            raise LabError(f"derpload: {name} received {e['received']} of {count} packets in {timeout:g} s")

    def books(self):
        """What was sent and received: {(src key, dst key): pair of the stats}."""
        return {(p["src"], p["dst"]): p for p in self.stats()["pairs"]}


class GoClient(Client):
    """build/lab/bin/derpclient: tailscale's derphttp, many peers to a process."""

    def peer(self, name, relay, timeout=30):
        """Connects; returns the new peer's key. relay is a Relay or a URL."""
        self.command("peer", name, _url(relay))
        return self.wait_event("up", timeout=timeout, peer=name)["key"]

    def send(self, src, dst, count, size=1200, rate=0):
        """Begins to send; dst is a nodekey. sent() awaits the end and returns how many packets were sent."""
        self.command("send", src, dst, count, size, rate)

    def sent(self, src, dst, timeout=60):
        e = self.wait_event("sent", timeout=timeout, src_name=src, dst=dst)
        if "error" in e:
            raise LabError(f"derpclient: {src} to {dst}: {e['error']}")
        return e["sent"]
