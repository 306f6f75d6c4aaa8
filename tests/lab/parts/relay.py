# SPDX-License-Identifier: BSD-2-Clause
"""A real relay: derper (with symbols, stripped, PIE, of 2024) over TLS, or plainrelay over plain HTTP, in a host's
namespace.

Its counters are the relay's own (/debug/varz, which it shows to loopback alone): what the tests hold ours against,
and never what ours are made of.
"""
import json
import os
import re
import signal
import socket
import ssl

from .certs import public_key
from .net import inside
from .proc import LabError, Proc, run, until

DERPER_KINDS = ("derper", "derper-stripped", "derper-pie", "derper-1.68")
KINDS = DERPER_KINDS + ("plainrelay",)
SERIES = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Counters(dict):
    """Every series of /debug/varz by its whole name, and by words the ones that books are made of."""

    def dropped(self, reason=None):
        """Packets dropped for this reason, or a dict of all reasons, both kinds of packet together."""
        by = {}
        for name, value in self.items():
            # Older relays count by reason and by kind of packet apart.
            if name.startswith(("derp_packets_dropped{", "derp_packets_dropped_reason{")):
                why = dict(LABEL.findall(name))["reason"]
                by[why] = by.get(why, 0) + value
        return by.get(reason, 0) if reason else by

    def lost(self):
        return sum(self.dropped().values())

    def __getattr__(self, name):
        for full in (f"derp_{name}", f"gauge_derp_{name}", f"counter_derp_{name}", name):
            if full in self:
                return self[full]
        raise AttributeError(f"no such counter: {name}")

    def since(self, before):
        """The growth of every counter since an earlier look."""
        return Counters({k: v - before.get(k, 0) for k, v in self.items()})


class Relay:
    """Declared by Lab.relay(); start(), kill(), restart() and stop() as often as wanted. pid is the relay's own."""

    def __init__(self, lab, name, host, kind, hostname, port, mesh_with, mesh_key, server_key, stun_port, args, env,
                 wrap, family, comm):
        if kind not in KINDS:
            raise LabError(f"no relay of kind {kind}: {', '.join(KINDS)}")
        self.lab, self.name, self.host, self.kind = lab, name, host, kind
        self.tls = kind != "plainrelay"
        self.hostname = hostname or f"{name}.lab"
        self.port = port or (443 if self.tls else 80)
        self.mesh_with, self.mesh_key = list(mesh_with), mesh_key
        self.stun_port = stun_port
        self.args, self.env, self.wrap = list(args), env or {}, list(wrap)
        self.dir = f"{lab.dir}/{name}"
        self.log = f"{self.dir}/relay.log"
        self.proc = self.pid = None
        os.makedirs(self.dir)
        self.program = f"{lab.bin}/{kind}"
        if comm:        # a process is named after the path it was started by
            os.symlink(self.program, f"{self.dir}/{comm}")
            self.program = f"{self.dir}/{comm}"
        lab.net.name(self.hostname, host, family)
        if server_key:
            self._share_key(server_key)

    @property
    def address(self):
        """HOST[:PORT], as another relay's mesh list has it."""
        return self.hostname if self.port == (443 if self.tls else 80) else f"{self.hostname}:{self.port}"

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://{self.address}/derp"

    def _share_key(self, other):
        """Two nodes with one server key: the other's key file is made first, then copied."""
        other.make_key()
        with open(f"{other.dir}/server.key") as f, open(f"{self.dir}/server.key", "w") as g:
            g.write(f.read())

    def make_key(self):
        path = f"{self.dir}/server.key"
        if not os.path.exists(path):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                json.dump({"PrivateKey": "privkey:" + os.urandom(32).hex()}, f)

    @property
    def key(self):
        """The DERP server key, as reports have it: nodekey:HEX."""
        self.make_key()
        with open(f"{self.dir}/server.key") as f:
            private = bytes.fromhex(json.load(f)["PrivateKey"].removeprefix("privkey:"))
        return "nodekey:" + public_key(private).hex()

    def _argv(self):
        peers = [p if isinstance(p, str) else p.address for p in self.mesh_with]
        key = self.mesh_key or self.lab.mesh_key
        argv = [self.program, "-a", f":{self.port}", "-c", f"{self.dir}/server.key"]
        if self.tls:
            self.lab.authority.certificate(self.hostname)
            with open(f"{self.dir}/mesh.key", "w") as f:
                f.write(key + "\n")
            argv += ["-http-port", "-1", "-stun-port", self.stun_port, "-certmode", "manual", "-certdir",
                     self.lab.authority.dir, "-hostname", self.hostname, "-mesh-psk-file", f"{self.dir}/mesh.key"]
            if peers:
                argv += ["-mesh-with", ",".join(peers)]
        else:
            argv += ["-mesh-key", key]
            if peers:
                argv += ["-mesh-with", ",".join(f"http://{p}" for p in peers)]
        return self.wrap + argv + self.args

    def start(self, wait=True):
        self.make_key()
        env = {"SSL_CERT_FILE": self.lab.authority.ca, "HOME": self.dir, **self.env}
        self.proc = Proc(self.name, self._argv(), self.log, ns=self.host.ns, env=env)
        self.lab.own(self.proc)
        if wait:
            self.wait_listening()
        return self

    def wait_listening(self):
        def listens():
            self.proc.check()
            try:
                with inside(self.host.ns):
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                return False
        until(listens, f"{self.name} to listen on {self.port}")
        self.pid = self.proc.inner = self._relay_pid()

    def _relay_pid(self):
        """Where the relay is wrapped (unshare --fork), it is the innermost child."""
        pid = self.proc.pid
        while self.wrap:
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                children = f.read().split()
            if not children:
                break
            pid = int(children[0])
        return pid

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def _end(self, sig):
        self.proc.send_signal(sig)
        self.proc.wait()
        self.lab.disown(self.proc)
        self.pid = None

    def restart(self, sig=signal.SIGKILL):
        self._end(sig)
        return self.start()

    def send_signal(self, sig):
        self.proc.send_signal(sig)

    def varz(self, path="/debug/varz"):
        with inside(self.host.ns):
            sock = socket.create_connection(("127.0.0.1", self.port), 10)
        with sock:
            if self.tls:
                context = ssl.create_default_context(cafile=self.lab.authority.ca)
                # The name in the certificate may be wrong on purpose; who answers is beyond doubt here.
                context.check_hostname = False
                sock = context.wrap_socket(sock, server_hostname=self.hostname)
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.hostname}\r\nConnection: close\r\n\r\n".encode())
            with sock.makefile("rb") as f:
                head, _, body = f.read().partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise LabError(f"{self.name}: {path}: {head[:200]!r}")
        if b"chunked" in head.lower():
            whole = b""
            while body:
                size, _, body = body.partition(b"\r\n")
                n = int(size, 16)
                whole, body = whole + body[:n], body[n + 2:]
            body = whole
        return body.decode()

    def counters(self):
        found = Counters()
        for line in self.varz().splitlines():
            m = SERIES.match(line)
            if m:
                name, labels, value = m.groups()
                number = float(value)
                found[f"{name}{{{labels}}}" if labels else name] = int(number) if number.is_integer() else number
        return found

    def sockets(self):
        """Its established connections, from ss: (local port, peer address, peer port)."""
        rows = []
        out = run("ip", "netns", "exec", self.host.ns, "ss", "-Htn", "state", "established")
        for line in out.splitlines():
            local, peer = line.split()[2:4]
            addr, _, port = peer.rpartition(":")
            rows.append((int(local.rpartition(":")[2]), addr.strip("[]").removeprefix("::ffff:"), int(port)))
        return rows

    def __str__(self):
        return self.name
