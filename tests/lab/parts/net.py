# SPDX-License-Identifier: BSD-2-Clause
"""The lab's network: a namespace with a bridge, a namespace per host, and what breaks the way between them.

Every lab has its own bridge, so labs that run side by side use the same addresses and never meet.
"""
import contextlib
import ctypes
import itertools
import os
import shutil

from .proc import LIBC, LabError, run

CLONE_NEWNET = 0x40000000
NETNS_DIR = "/run/netns"
HOSTS_DIR = "/etc/netns"


@contextlib.contextmanager
def inside(ns):
    """This thread in another network namespace: sockets made here stay there."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"{NETNS_DIR}/{ns}", os.O_RDONLY)
    try:
        if LIBC.setns(there, CLONE_NEWNET):
            raise LabError(f"setns {ns}: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        LIBC.setns(here, CLONE_NEWNET)
        os.close(there)
        os.close(here)


class Host:
    """A namespace with one interface, eth0, on the lab's bridge."""

    def __init__(self, name, ns, number):
        self.name, self.ns = name, ns
        self.ip4, self.ip6 = f"10.77.0.{number}", f"fd77::{number:x}"
        self.port = f"p{number}"        # its end on the bridge

    def __str__(self):
        return self.name

    def run(self, *argv, check=True):
        return run("ip", "netns", "exec", self.ns, *[str(a) for a in argv], check=check)

    def sysctl(self, name, value):
        self.run("sysctl", "-qw", f"{name}={value}")


class Break:
    """Something broken on purpose. mend() undoes it, once."""

    def __init__(self, what, mend):
        self.what, self._mend = what, mend

    def mend(self):
        undo, self._mend = self._mend, None
        if undo:
            undo()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mend()


class Net:
    def __init__(self, prefix):
        self.prefix, self.bridge = prefix, f"{prefix}-lan"
        self.hosts, self.names, self.breaks = {}, [], []
        self._tables = itertools.count()
        self._numbers = itertools.count(1)
        run("ip", "netns", "add", self.bridge)
        run("ip", "-n", self.bridge, "-batch", "-", stdin="link add br0 type bridge\nlink set br0 up\n")

    def host(self, name):
        """The host of this name, made when it is not there yet."""
        if name in self.hosts:
            return self.hosts[name]
        host = Host(name, f"{self.prefix}-{name}", next(self._numbers))
        self.hosts[name] = host
        run("ip", "netns", "add", host.ns)
        run("ip", "-n", self.bridge, "-batch", "-", stdin=(
            f"link add name {host.port} type veth peer name eth0 netns {host.ns}\n"
            f"link set {host.port} master br0 up\n"))
        run("ip", "-n", host.ns, "-batch", "-", stdin=(
            f"link set lo up\nlink set eth0 up\n"
            f"addr add {host.ip4}/24 dev eth0\naddr add {host.ip6}/64 dev eth0 nodad\n"))
        os.makedirs(f"{HOSTS_DIR}/{host.ns}", exist_ok=True)
        self.name(f"{name}.host", host)
        return host

    def name(self, name, host, family="4"):
        """A name for a host, for everybody in this lab; family "4", "6" or "46"."""
        for f, addr in (("4", host.ip4), ("6", host.ip6)):
            if f in family and (addr, name) not in self.names:
                self.names.append((addr, name))
        text = "127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for a, n in self.names)
        for h in self.hosts.values():
            # Written in place: it is bind-mounted into the processes that are already there.
            with open(f"{HOSTS_DIR}/{h.ns}/hosts", "w") as f:
                f.write(text)

    def forget_breaks(self):
        for b in reversed(self.breaks):
            b.mend()
        self.breaks.clear()

    def destroy(self):
        destroy_prefix(self.prefix)

    # --- breaking ---------------------------------------------------------------------------------

    def _broken(self, what, mend):
        b = Break(what, mend)
        self.breaks.append(b)
        return b

    def _nft(self, ns, family, hook, rules, what, then=None, sets=""):
        """A table of its own for each break, so that mending is one deletion (and then())."""
        table = f"dt{next(self._tables)}"
        run("ip", "netns", "exec", ns, "nft", "-f", "-", stdin=(
            f"table {family} {table} {{\n{sets}chain c {{\ntype filter hook {hook} priority 0;\n" +
            "\n".join(rules) + "\n}\n}\n"))

        def mend():
            run("ip", "netns", "exec", ns, "nft", "delete", "table", family, table)
            if then:
                then()
        return self._broken(what, mend)

    @staticmethod
    def _match(src=None, dst=None, sport=None, dport=None):
        """The match, for IPv4 and for IPv6."""
        for ip, addr in (("ip", "ip4"), ("ip6", "ip6")):
            words = [f"{ip} {way} {getattr(h, addr)}" for way, h in (("saddr", src), ("daddr", dst)) if h]
            words += [f"tcp {way} {p}" for way, p in (("sport", sport), ("dport", dport)) if p]
            if not src and not dst and ip == "ip6":
                continue
            yield " ".join(words)

    def blackhole(self, src, dst, sport=None, dport=None):
        """Packets from src to dst vanish on the wire; the other way is left alone."""
        rules = [f"{m} drop" for m in self._match(src, dst, sport, dport)]
        return self._nft(self.bridge, "bridge", "forward", rules, f"blackhole {src} to {dst}")

    def lossy(self, one_of):
        """Of packets that carry data one in so many vanishes, whoever sends them to whom."""
        return self._nft(self.bridge, "bridge", "forward", [f"meta length > 100 numgen random mod {one_of} == 0 drop"],
                         f"one packet of {one_of} lost")

    def drop_syn(self, dst, dport, src=None):
        """Connections to this port are never answered; those that are open live on."""
        rules = [f"{m} tcp flags & (syn | ack) == syn drop" for m in self._match(src, dst, None, dport)]
        return self._nft(self.bridge, "bridge", "forward", rules, f"SYN to {dst}:{dport} dropped")

    def lose_first_ack(self, src, dst, dport):
        """The bare ACK that ends each handshake is lost: what completes it is the client's first data. (IPv4)"""
        flow = "ip saddr . tcp sport"
        rule = (f"ip saddr {src.ip4} ip daddr {dst.ip4} tcp dport {dport} tcp flags == ack meta length <= 60 "
                f"{flow} != @seen add @seen {{ {flow} }} drop")
        return self._nft(self.bridge, "bridge", "forward", [rule], f"first ACK from {src} to {dst} lost",
                         sets="set seen {\ntype ipv4_addr . inet_service; flags dynamic; size 65535;\n}\n")

    def gate(self, host, port):
        """New connections to this port wait, wherever they come from, but for those to 127.0.0.1."""
        syn = f"tcp dport {port} tcp flags & (syn | ack) == syn drop"
        return self._nft(host.ns, "inet", "input", [f"ip daddr != 127.0.0.1 {syn}", f"meta nfproto ipv6 {syn}"],
                         f"{host}:{port} not open yet")

    def refuse(self, dst, dport, src=None):
        """Connections to this port are refused, and those that are open are reset."""
        rules = [f"{m} reject with tcp reset" for m in self._match(src, None, None, dport)]
        return self._nft(dst.ns, "inet", "input", rules, f"{dst}:{dport} refused")

    def drop_at_host(self, dst, src=None, sport=None, dport=None):
        """Packets that reached the host's NIC are dropped by its own firewall, before any socket."""
        rules = [f"{m} drop" for m in self._match(src, None, sport, dport)]
        return self._nft(dst.ns, "inet", "input", rules, f"dropped by {dst}")

    def drop_large(self, src, dst, size):
        """Packets over size bytes vanish between src and dst and nobody is told: a path MTU black hole."""
        def segments(most):
            run("ip", "-n", src.ns, "link", "set", "dev", "eth0", "gso_max_segs", most)

        segments("1")       # with segmentation offload one "packet" on a veth is many
        rules = [f"{m} meta length > {size} drop" for m in self._match(src, dst)]
        return self._nft(self.bridge, "bridge", "forward", rules, f"over {size} bytes from {src} to {dst} dropped",
                         then=lambda: segments("65535"))

    def shape(self, host, rate="20mbit", burst="25000", limit="30000"):
        """A token bucket behind the host's sockets: what it cannot send in time, it drops (bytes, or tc's units)."""
        host.run("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", burst, "limit", limit)
        return self._broken(f"{host} shaped to {rate}", lambda: host.run("tc", "qdisc", "del", "dev", "eth0", "root"))

    def small_buffers(self, host, receive=4096, send=None):
        """Socket buffers of connections made from now on, in bytes."""
        before = {}
        for name, size in (("tcp_rmem", receive), ("tcp_wmem", send)):
            if size:
                key = f"net.ipv4.{name}"
                before[key] = host.run("sysctl", "-n", key).strip()
                host.sysctl(key, f"{min(4096, size)} {size} {size}")
        return self._broken(f"small buffers at {host}", lambda: [host.sysctl(k, v) for k, v in before.items()])

    def reset(self, host, peer, port=None):
        """Ends the host's connections with another host, as a middlebox's RST would: once, nothing to mend."""
        for addr in (peer.ip4, peer.ip6):
            words = ["dst", f"[{addr}]" if ":" in addr else addr]
            if port:
                words += ["and", "(", "sport", "=", f":{port}", "or", "dport", "=", f":{port}", ")"]
            host.run("ss", "-K", *words)


def destroy_prefix(prefix):
    """Removes every namespace of this prefix, ending by pid what still runs inside; raises nothing."""
    try:
        found = [n for n in os.listdir(NETNS_DIR) if n.startswith(prefix + "-")]
    except OSError:
        found = []
    for ns in found:
        for pid in run("ip", "netns", "pids", ns, check=False).split():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid), 9)
        run("ip", "netns", "del", ns, check=False)
    with contextlib.suppress(OSError):
        for d in os.listdir(HOSTS_DIR):
            if d.startswith(prefix + "-"):
                shutil.rmtree(f"{HOSTS_DIR}/{d}", ignore_errors=True)
