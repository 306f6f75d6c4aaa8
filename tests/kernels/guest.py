# SPDX-License-Identifier: BSD-2-Clause
"""A machine for one kernel: an initramfs that holds all it needs, booted under qemu's software emulation. What it says
comes over a serial port of its own, in sections.
"""
import ctypes
import dataclasses
import os
import re
import signal
import stat
import subprocess
import tempfile

import debian

HERE = os.path.dirname(os.path.abspath(__file__))
# Constants of the newc format of cpio: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst
MAGIC, TRAILER = b"070701", "TRAILER!!!"
SECTION = re.compile(rb"^=== (\S+)\n(.*?)^=== end \1 (\d+)$", re.S | re.M)


@dataclasses.dataclass
class Machine:
    """What qemu emulates, and what its serial ports are called there."""
    argv: list
    console: str
    said: str           # the other one


# Pointers are signed all the time on arm64: the cipher that it has for it takes longer to emulate than all else.
MACHINES = {
    "amd64": Machine(["qemu-system-x86_64", "-cpu", "max", "-device", "isa-serial,index=1,chardev=said"],
                     "ttyS0", "ttyS1"),
    "arm64": Machine(["qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on",
                      "-device", "pci-serial,chardev=said"], "ttyAMA0", "ttyS0"),
}


def libraries(program):
    """[(path there, path here)] of the interpreter and the shared libraries of a program; none for a static one."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True)
    missing = re.findall(r"(\S+) => not found", done.stdout)
    if missing:
        raise FileNotFoundError(f"{program} needs {' '.join(missing)}")
    return [(path, path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.M)]


def libraries_below(root, program):
    """The same of a program for another architecture, whose libraries are below this folder."""
    found, asked = {}, [program]
    while asked:
        done = subprocess.run(["readelf", "-ld", asked.pop()], capture_output=True, text=True, check=True)
        for name in re.findall(r"\(NEEDED\)\s+Shared library: \[(\S+)\]", done.stdout):
            if name in found:
                continue
            found[name] = debian.find(root, f"lib/*/{name}", f"usr/lib/*/{name}", f"lib/{name}")
            if not found[name]:
                raise FileNotFoundError(f"{program} needs {name}")
            asked.append(found[name])
        for path in re.findall(r"program interpreter: (\S+)\]", done.stdout):
            found[path] = root + path
    return [(name if name[0] == "/" else f"/lib/{name}", path) for name, path in found.items()]


class Archive:
    """An initramfs in the making."""

    def __init__(self):
        self.entries, self.seen = [], set()

    def _add(self, path, mode, data=b"", device=(0, 0)):
        path = path.strip("/")
        if path in self.seen:
            return
        parent = os.path.dirname(path)
        if parent:
            self._add(parent, stat.S_IFDIR | 0o755)
        self.seen.add(path)
        self.entries.append((path, mode, data, device))

    def directory(self, path):
        self._add(path, stat.S_IFDIR | 0o755)

    def file(self, path, data, mode=0o644):
        self._add(path, stat.S_IFREG | mode, data)

    def copy(self, source, path, mode=0o644):
        with open(source, "rb") as f:
            self.file(path, f.read(), mode)

    def link(self, path, target):
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path, major, minor):
        self._add(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def program(self, source, path, root=None):
        """With the libraries that it needs, where they are on this host, or below @root."""
        self.copy(source, path, 0o755)
        for there, here in libraries_below(root, source) if root else libraries(source):
            self.copy(here, there, 0o755)

    def write(self, f):
        for ino, (path, mode, data, device) in enumerate(self.entries, 1):
            self._entry(f, ino, path, mode, data, device)
        self._entry(f, 0, TRAILER, 0, b"", (0, 0))

    @staticmethod
    def _entry(f, ino, path, mode, data, device):
        name = path.encode() + b"\0"
        fields = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0]
        head = MAGIC + b"".join(b"%08X" % n for n in fields) + name
        for part in (head, data):
            f.write(part + b"\0" * (-len(part) % 4))


def archive(kernel, programs, files, root=None, modules=()):
    """What every guest has (BusyBox, init, the kernel's modules), these programs {name: path}, files {path: bytes},
    modules. @root: where the libraries of another architecture's programs are."""
    a = Archive()
    a.copy(kernel.busybox, "bin/busybox", 0o755)
    a.link("bin/sh", "busybox")
    a.copy(f"{HERE}/init", "init", 0o755)
    a.copy(f"{HERE}/nic", "nic")
    for folder in ("proc", "sys", "dev", "tmp", "empty", "etc", "run"):
        a.directory(folder)
    a.device("dev/console", 5, 1)
    for n, module in enumerate([*kernel.modules, *modules]):
        a.copy(module, f"modules/{n:02}-{os.path.basename(module)}")
    for name, path in programs.items():
        a.program(path, f"bin/{name}", root)
    for path, data in files.items():
        a.file(path, data)
    return a


def end_with_parent():
    """PR_SET_PDEATHSIG: no guest outlives the test that booted it, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# Two network cards on one wire, which leads nowhere else.
CARDS = [word for n in "01" for word in ("-netdev", f"hubport,id=wire{n},hubid=0",
                                         "-device", f"virtio-net-pci,netdev=wire{n},romfile=")]


def boot(kernel, initramfs, steps, folder, timeout):
    """Runs the steps in the guest. ({section: (code, bytes)}, the end of what went wrong or None)."""
    os.makedirs(folder, exist_ok=True)
    console, said = f"{folder}/console.log", f"{folder}/said.log"
    for path in (console, said):
        open(path, "wb").close()
    with tempfile.NamedTemporaryFile(dir=folder, prefix="initramfs-") as f:
        initramfs.write(f)
        f.flush()
        m = MACHINES[kernel.arch]
        argv = [*m.argv, "-accel", "tcg", "-smp", "1", "-m", "1G", "-nodefaults", "-no-reboot", "-display", "none",
                "-kernel", kernel.image, "-initrd", f.name, "-append",
                f"console={m.console} loglevel=4 panic=-1 mitigations=off said={m.said} steps={','.join(steps)}",
                "-serial", f"file:{console}", "-chardev", f"file,id=said,path={said}",
                *(CARDS if "nic" in steps else [])]
        proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                preexec_fn=end_with_parent)
        try:
            out, _ = proc.communicate(timeout=timeout)
            wrong = out.decode(errors="replace") if proc.returncode else None
        except subprocess.TimeoutExpired:
            wrong = f"did not end in {timeout} s"
        finally:
            if proc.poll() is None:
                proc.kill()
                proc.wait()
    with open(said, "rb") as f:
        text = f.read()
    sections = {m[1].decode(): (int(m[3]), m[2]) for m in SECTION.finditer(text)}
    if "done" not in sections:
        wrong = wrong or "the guest did not come to its end"
    if wrong:
        with open(console, "rb") as f:
            wrong = "\n".join([wrong, *tail(f.read()), *tail(text)])
    return sections, wrong


def tail(data, lines=30):
    return data.decode(errors="replace").splitlines()[-lines:]
