# SPDX-License-Identifier: BSD-2-Clause
"""A region of real relays in network namespaces: brought up, broken, mended, torn down.

    with Lab("healthy") as lab:
        a = lab.relay("derp1", mesh_with=["derp2.lab"])
        b = lab.relay("derp2", mesh_with=["derp1.lab"])
        lab.up()                                # both listen and are meshed
        trace = lab.derptrace("report", "--json")
        ...
        report = trace.stop()

The demo, the tests and the benches share it. Nothing is left behind, whatever happens in between. Run as root, with
the system's Python (python3-jsonschema), from the main thread.
"""
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from parts.certs import Authority                      # noqa: E402
from parts.clients import GoClient, Load               # noqa: E402
from parts.net import Net                              # noqa: E402
from parts.proc import LabError, run, tail, until      # noqa: E402
from parts.relay import Relay                          # noqa: E402
from parts.tracer import Trace, law, validate          # noqa: E402

__all__ = ["Lab", "LabError", "Skip", "scenario", "law", "validate", "until", "run", "tail"]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("DERPTRACE_BUILD", f"{ROOT}/build")
IN_NAMESPACE_OF_THEIR_OWN = ("unshare", "--pid", "--mount", "--cgroup", "--fork", "--kill-child", "--mount-proc")


class Skip(Exception):
    """Raised by a scenario that cannot run here: why."""


def scenario(slow=False, long=False, timeout=180):
    """Marks a test_ function: slow ones wait for the relays' own timers and run side by side; long ones run only with
    --all; timeout is in seconds.
    """
    def mark(function):
        function.slow, function.long, function.timeout = slow, long, timeout
        return function
    return mark


class Lab:
    def __init__(self, name, keep_logs=None):
        self.name, self.prefix = name, f"dt-{os.getpid()}-{name}"
        self.bin, self.keep_logs = f"{BUILD}/lab/bin", keep_logs
        self.mesh_key = os.urandom(32).hex()
        self.relays, self._procs, self._old_handlers = [], [], {}
        self._runs = 0
        self.dir = self.net = self.authority = None

    def __enter__(self):
        if os.geteuid():
            raise LabError("the lab needs root: it makes network namespaces")
        for sig in (signal.SIGTERM, signal.SIGINT):
            self._old_handlers[sig] = signal.signal(sig, self._interrupted)
        try:
            self.dir = tempfile.mkdtemp(prefix=self.prefix + ".")
            self.net = Net(self.prefix)
            self.authority = Authority(f"{self.dir}/ca")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def _interrupted(sig, _):
        raise KeyboardInterrupt(f"signal {sig}")

    def close(self):
        """Everything down, in reverse; safe to call twice. A second Ctrl-C does not stop it half way."""
        for sig in self._old_handlers:
            signal.signal(sig, signal.SIG_IGN)
        for proc in reversed(self._procs):
            proc.end()
        self._procs.clear()
        if self.net:
            self.net.destroy()
            self.net = None
        if self.dir:
            if self.keep_logs:
                shutil.copytree(self.dir, self.keep_logs, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None
        for sig, old in self._old_handlers.items():
            signal.signal(sig, old)
        self._old_handlers.clear()

    def own(self, proc):
        self._procs.append(proc)

    def disown(self, proc):
        with contextlib.suppress(ValueError):
            self._procs.remove(proc)

    # --- bringing up ------------------------------------------------------------------------------

    def host(self, name):
        return self.net.host(name)

    def relay(self, name, kind="derper", host=None, hostname=None, port=None, mesh_with=(), mesh_key=None,
              server_key=None, stun_port=3478, args=(), env=None, container=False, family="4", comm=None):
        """Declares a relay; up() starts it. Each has a host of its own unless one is named.

        mesh_with: Relays, or names as derper's -mesh-with takes them (HOST[:PORT][/DIALHOST]); it may be changed
        until the relay starts. mesh_key: 64 hex digits, by default the lab's. server_key: a Relay whose server key
        this one shares. container: in pid, mount and cgroup namespaces of its own. comm: the process's name, at most
        15 characters, so that --comm chooses this lab's relays, those not yet started too. family: which of its
        addresses its name leads to, "4", "6" or "46". A name that is not in its certificate is one given to its host
        behind its back: lab.net.name("other.lab", relay.host).
        """
        where = self.net.host(host or name)
        relay = Relay(self, name, where, kind, hostname, port, mesh_with, mesh_key, server_key, stun_port, args, env,
                      IN_NAMESPACE_OF_THEIR_OWN if container else (), family, comm)
        self.relays.append(relay)
        return relay

    def up(self, meshed=True, timeout=30, meanwhile=None):
        """Starts every relay not yet started, and awaits that they listen and (meshed) that each link is up.

        A relay whose first dial is refused waits 5 s before the next, so dials are kept back until all of them
        listen: TCP's own retry then comes after one second. meanwhile is called when all listen and nobody was
        reached yet: who looks from there on sees every dial answered, the one to itself too, which has no second.
        """
        fresh = [r for r in self.relays if r.pid is None]
        with contextlib.ExitStack() as gate:
            for r in fresh:
                gate.enter_context(self.net.gate(r.host, r.port))
            for r in fresh:
                r.start(wait=False)
            for r in fresh:
                r.wait_listening()
            if meanwhile:
                meanwhile()
        if meshed:
            self.mesh_up(timeout)
        return fresh

    def mesh_up(self, timeout=30):
        """Awaits, on the relays' own counters, that everyone who is to dial a relay watches it."""
        for r in self.relays:
            dialled_by = [o for o in self.relays if o is not r and o.pid and
                          any(p is r or p == r.address or p == r.hostname for p in o.mesh_with)]
            if r.pid and dialled_by:
                names = ", ".join(map(str, dialled_by))
                until(lambda: r.counters().watchers >= len(dialled_by),
                      lambda: f"{r} to be watched by {names}; its log:\n{tail(r.log)}", timeout, 0.1)

    def clients_settled(self, count, timeout=20):
        """Awaits that every running relay of a whole mesh knows this many clients, its own and the others'.

        A relay's count has the other nodes in it too: each that dials is a client of whom it dials.
        """
        running = [r for r in self.relays if r.pid]
        dialling = [r for r in running if r.mesh_with]
        for r in running:
            until(lambda: r.counters().clients_total >= count + len(dialling), f"{r} to know {count} clients",
                  timeout, 0.1)

    # --- who speaks and who looks -----------------------------------------------------------------

    def _log(self, stem):
        self._runs += 1
        return f"{self.dir}/{stem}-{self._runs}"

    def derpload(self, host, *args):
        load = Load("derpload", [f"{BUILD}/derpload", "--cafile", self.authority.ca, *args],
                    self._log("derpload") + ".log", ns=host.ns)
        self.own(load)
        return load

    def goclient(self, host, websocket=False):
        client = GoClient("derpclient", [f"{self.bin}/derpclient"] + (["-ws"] if websocket else []),
                          self._log("derpclient") + ".log", ns=host.ns, env={"SSL_CERT_FILE": self.authority.ca})
        self.own(client)
        return client

    def idlelinker(self, host, *args):
        from parts.proc import Proc
        proc = Proc("idlelinker", [f"{self.bin}/idlelinker", *args], self._log("idlelinker") + ".log", ns=host.ns)
        self.own(proc)
        return proc

    def derptrace(self, verb, *args, pids=None, ready=True, timeout=30, stdin=None, out=None):
        """Starts derptrace on this lab's relays (pids=() takes whatever the host has) and awaits that it is ready.

        stdin, out: descriptors to read from and to write to, where it is not for us.
        """
        base = self._log("derptrace")
        argv = [f"{BUILD}/derptrace", verb, *map(str, args)]
        for pid in [r.pid for r in self.relays if r.pid] if pids is None else pids:
            argv += ["--pid", str(pid)]
        if ready:
            argv += ["--ready-file", base + ".ready"]
        trace = Trace(self, argv, base + ".log", base + ".out", base + ".ready", stdin, out)
        trace.started = time.monotonic()
        return trace.wait_ready(timeout) if ready else trace
