# SPDX-License-Identifier: BSD-2-Clause
"""Who looks on while the traffic passes: nobody, derptrace in its modes, tcpdump, and a stand-in for what tracers of
TLS do today. Each is started, looks, and ends; pids are what its CPU time is read of.
"""
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request

from lab import BUILD

TCPDUMP_LISTENS = 0.2       # it says that it listens just before it does


class Nobody:
    """The untraced arm."""
    pids = ()
    warm = 0                # seconds of traffic before it counts
    note = ""

    def __init__(self, lab):
        pass

    def end(self):
        pass


class Tracer(Nobody):
    """derptrace report, every frame decoded, every pair counted."""
    argv = ("report", "--json", "--xdp", "off")

    def __init__(self, lab):
        self.trace = lab.derptrace(*self.argv)
        self.pids = (self.trace.pid,)

    def end(self):
        report = self.trace.stop()
        lost = report["tracer"]["segments_lost"]
        if lost:
            print(f"# {' '.join(self.argv)} lost {lost} segments", file=sys.stderr)


class Counting(Tracer):
    argv = ("report", "--json", "--xdp", "off", "--count", "kernel")


class CountingUser(Tracer):
    argv = ("report", "--json", "--xdp", "off", "--count", "user")


class CountingXdp(Tracer):
    argv = ("report", "--json", "--xdp", "auto", "--count", "kernel")


class CountingUserXdp(Tracer):
    argv = ("report", "--json", "--xdp", "auto", "--count", "user")


class Serve(Nobody):
    """derptrace serve as it is by default, with its governor; what it does in its first seconds does not count."""
    warm = 3
    port = 9469

    def __init__(self, lab):
        self.trace = lab.derptrace("serve", "--listen", f"127.0.0.1:{self.port}")
        self.pids = (self.trace.pid,)

    def level(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
            for line in page.read().decode().splitlines():
                if line.startswith("derptrace_level{") and line.endswith(" 1"):
                    return line.split('"')[1]
        return "?"

    def end(self):
        self.note = self.level()
        self.trace.send_signal(signal.SIGINT)
        self.trace.wait()


class Pcapng(Nobody):
    """derptrace pcap: the packets, and the decoded frames beside them."""

    def __init__(self, lab):
        self.path = f"{lab.dir}/bench.pcapng"
        self.trace = lab.derptrace("pcap", "-o", self.path, "--xdp", "off")
        self.pids = (self.trace.pid,)

    def end(self):
        self.trace.stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class Tcpdump(Nobody):
    """tcpdump -s0 -w of the relays' ports, one for each relay."""

    def __init__(self, lab):
        self.files = [f"{lab.dir}/{r.name}.pcap" for r in lab.relays]
        self.procs = [subprocess.Popen(
            ["ip", "netns", "exec", r.host.ns, "tcpdump", "-i", "any", "-s0", "-w", path, "tcp", "port", str(r.port)],
            stderr=subprocess.PIPE, start_new_session=True) for r, path in zip(lab.relays, self.files)]
        for proc in self.procs:
            proc.stderr.readline()
        time.sleep(TCPDUMP_LISTENS)
        self.pids = tuple(p.pid for p in self.procs)

    def end(self):
        for proc in self.procs:
            proc.terminate()
            proc.communicate()
        for path in self.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class Calls(Nobody):
    """A probe at every call of crypto/tls Read and Write, which copies the buffer."""

    def __init__(self, lab):
        self.proc = subprocess.Popen([f"{BUILD}/bench/calls", lab.relays[0].program], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, start_new_session=True, text=True)
        if self.proc.stdout.readline() != "ready\n":
            raise SystemExit("build/bench/calls could not place its probes")
        self.pids = (self.proc.pid,)

    def end(self):
        self.proc.terminate()
        self.proc.communicate()


def takes(option):
    """Does derptrace report know this option?"""
    text = subprocess.run([f"{BUILD}/derptrace", "report", "--help"], capture_output=True, text=True).stdout
    return option in text


# Target: (must, stretch) of the ratio traced / untraced, or None; the plain ones depend on the frames in a write.
TLS = {
    "TLS full": (Tracer, (1.05, 1.02)),
    "serve, governed": (Serve, (1.01, 1.005)),
    "tcpdump": (Tcpdump, None),
    "full pcapng": (Pcapng, None),
    "probe per call": (Calls, None),
}
PLAIN = {
    "counting": (Counting, {4: (1.01, 1.005), 1: (1.03, 1.02)}),
    "counting, XDP": (CountingXdp, {4: (1.01, 1.005), 1: (1.03, 1.02)}),
    "in user space": (CountingUser, None),
    "tcpdump": (Tcpdump, None),
}


def plain():
    """Those that this build can do."""
    arms = dict(PLAIN)
    if not takes("--count"):        # nothing but user space counts then
        CountingUser.argv, CountingUserXdp.argv = Tracer.argv, Tracer.argv[:-1] + ("auto",)
        arms["in user space, XDP"] = (CountingUserXdp, None)
        for name in ("counting", "counting, XDP"):
            arms.pop(name)
    return arms
