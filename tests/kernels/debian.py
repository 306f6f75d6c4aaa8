# SPDX-License-Identifier: BSD-2-Clause
"""Debian's kernels, and libraries of another architecture to link with, fetched through an apt of our own under build/:
its sources are the machine's with other suites; the machine's own stay as they are. Nothing is installed; packages are
unpacked.
"""
import dataclasses
import glob
import lzma
import os
import platform
import re
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNELS = f"{ROOT}/build/kernels"
MODULES = ("inet_diag", "tcp_diag")     # sockets are asked through these
# Interfaces of many kinds.
NIC_MODULES = ("veth", "bridge", "bonding", "8021q", "macvlan", "dummy", "virtio_pci", "virtio_net")
BUSYBOX = "busybox-static"
MARK = "fetched"                        # written last, into a kernel's folder: its package's name


class Unavailable(Exception):
    """No such kernel can be had here, and why."""


@dataclasses.dataclass
class Choice:
    suites: list        # where it is looked for
    version: str        # of the package's name, a pattern
    arch: str = "amd64"
    flavour: str = "cloud-amd64"


CHOICES = {
    "5.10": Choice(["bullseye", "bullseye-security"], r"5\.10\.\d+-\d+"),
    "6.1": Choice(["bookworm", "bookworm-security"], r"6\.1\.\d+-\d+"),
    "6.12": Choice(["trixie", "trixie-security"], r"6\.12\.[\w.+]+"),
    "newest": Choice(["trixie-backports", "sid"], r"\d+\.\d+\.\d+[\w.+-]*"),
    # Its security updates are listed for arm64, and not there.
    "5.10-arm64": Choice(["bullseye"], r"5\.10\.\d+-\d+", "arm64", "cloud-arm64"),
    "6.1-arm64": Choice(["bookworm", "bookworm-security"], r"6\.1\.\d+-\d+", "arm64", "cloud-arm64"),
    # Its pages are of 16 KiB.
    "6.12-arm64-16k": Choice(["trixie", "trixie-security"], r"6\.12\.[\w.+]+", "arm64", "arm64-16k"),
    "newest-arm64": Choice(["trixie-backports", "sid"], r"\d+\.\d+\.\d+[\w.+-]*", "arm64", "cloud-arm64"),
}


@dataclasses.dataclass
class Kernel:
    name: str           # as asked for: 5.10
    package: str
    image: str          # path of vmlinuz
    modules: list       # paths, in the order of loading
    busybox: str        # a static one, of the same release
    arch: str           # as Debian calls it


# --- sources -------------------------------------------------------------------------------------

def stanzas(text):
    """The entries of a deb822 sources file, as dicts with lower-case names."""
    for part in re.split(r"\n\s*\n", text):
        fields, name = {}, None
        for line in part.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields and fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            yield fields


def one_line(text):
    """The entries of a sources.list, in the same form."""
    for line in text.splitlines():
        m = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if m:
            options = dict(o.split("=", 1) for o in (m.group(1) or "").split() if "=" in o)
            options = {name.lower(): value for name, value in options.items()}
            yield {"types": "deb", "uris": m.group(2), "suites": m.group(3), "components": m.group(4), **options}


def machine_sources():
    """[(URI, suite, signed-by or None)] of the machine's Debian entries that have a main."""
    found = []
    for path in sorted(["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]):
        form = {".list": one_line, ".sources": stanzas}.get(os.path.splitext(path)[1])
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        for entry in form(text) if form else ():
            if "deb" not in entry.get("types", "").split() or "main" not in entry.get("components", "").split():
                continue
            found += [(uri, suite, entry.get("signed-by"))
                      for uri in entry["uris"].split() for suite in entry["suites"].split()]
    return found


def codename():
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def sources_for(suites, sources, here):
    """Text of a sources file for these suites: what the machine has for its own release, with the suite changed."""
    text = []
    for suite in suites:
        kind = "-security" if suite.endswith("-security") else ""
        for uri, theirs, signed in sources:
            if theirs.rstrip("/").replace("/updates", "-security") == here + kind:
                text.append(f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n" +
                            (f"Signed-By: {signed}\n" if signed else ""))
    return "\n".join(text)


# --- apt -----------------------------------------------------------------------------------------

class Apt:
    """apt-get and apt-cache with a root of their own. How the machine reaches its archive (Acquire) is kept."""

    def __init__(self, name, suites, arch):
        self.dir = f"{KERNELS}/apt/{name}"
        for folder in ("lists/partial", "cache/archives/partial"):
            os.makedirs(f"{self.dir}/{folder}", exist_ok=True)
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Unavailable("no apt-get or dpkg-deb here")
        text = sources_for(suites, machine_sources(), codename())
        if not text:
            raise Unavailable("the machine's apt has no Debian archive for its own release")
        self._write("debian.sources", text)
        self._write("status", "")
        dump = self._run(["apt-config", "dump"], dict(os.environ))
        acquire = [line for line in dump.splitlines()
                   if line.startswith("Acquire::") and not line.startswith("Acquire::IndexTargets")]
        self.conf = self._write("apt.conf", "\n".join(acquire) + f"""
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{self.dir}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{self.dir}";
Dir::State::lists "{self.dir}/lists";
Dir::State::status "{self.dir}/status";
Dir::Cache "{self.dir}/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Architecture "{arch}";
APT::Architectures "{arch}";
""")

    def _write(self, name, text):
        path = f"{self.dir}/{name}"
        with open(path, "w") as f:
            f.write(text)
        return path

    def _run(self, argv, env, cwd=None):
        done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise Unavailable(f"{' '.join(argv[:2])}: {' '.join(last)}")
        return done.stdout

    def run(self, *argv, cwd=None):
        return self._run(list(argv), {**os.environ, "APT_CONFIG": self.conf, "LC_ALL": "C"}, cwd)

    def update(self):
        self.run("apt-get", "update", "-qq", "--error-on=any")

    def names(self, pattern):
        return [line.split(" - ")[0] for line in self.run("apt-cache", "search", "--names-only", pattern).splitlines()]

    def depends(self, package):
        return re.findall(r"^  Depends: (\S+)", self.run("apt-cache", "depends", package), re.M)

    def unpack(self, package, folder):
        debs = f"{folder}.debs"
        shutil.rmtree(debs, ignore_errors=True)
        os.makedirs(debs)
        try:
            self.run("apt-get", "download", "-qq", package, cwd=debs)
            [deb] = os.listdir(debs)
            self.run("dpkg-deb", "-x", f"{debs}/{deb}", folder)
        finally:
            shutil.rmtree(debs, ignore_errors=True)

    def unpack_with_depends(self, packages, folder):
        """They, and all that they need."""
        self.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "--download-only", *packages)
        for deb in glob.glob(f"{self.dir}/cache/archives/*.deb"):
            self.run("dpkg-deb", "-x", deb, folder)


def in_order(names):
    """By version, as dpkg and sort agree on it."""
    return subprocess.run(["sort", "-V"], input="\n".join(names), capture_output=True, text=True,
                          check=True).stdout.split()


# --- kernels -------------------------------------------------------------------------------------

def find(folder, *patterns):
    return next((path for p in patterns for path in sorted(glob.glob(f"{folder}/{p}", recursive=True))), None)


def module(folder, name):
    """The path of a kernel's module, made plain; None where it has none, or it is built in."""
    path = find(folder, f"**/{name}.ko", f"**/{name}.ko.xz")
    if path and path.endswith(".xz"):
        plain = path[:-len(".xz")]
        with lzma.open(path) as packed, open(plain, "wb") as f:
            shutil.copyfileobj(packed, f)
        path = plain
    return path


def with_depends(kernel, names):
    """These modules and what they need, in the order of loading. What is missing is left out."""
    folder, found = f"{KERNELS}/{kernel.name}", []
    for name in names:
        # The file of a module is called by either.
        path = next(filter(None, (module(folder, n) for n in (name, name.replace("_", "-")))), None)
        if path and path not in found:
            with open(path, "rb") as f:
                depends = re.search(rb"\0depends=([^\0]*)\0", f.read())
            needs = with_depends(kernel, depends[1].decode().split(",")) if depends and depends[1] else []
            found += [p for p in [*needs, path] if p not in found]
    return found


def unpacked(name, folder):
    """The kernel in this folder, its modules made plain; None where it is not whole."""
    try:
        with open(f"{folder}/{MARK}") as f:
            package = f.read().strip()
    except OSError:
        return None
    image = find(folder, "boot/vmlinuz-*", "**/lib/modules/*/vmlinuz")
    busybox = find(folder, "bin/busybox", "usr/bin/busybox")
    modules = [module(folder, m) for m in MODULES]
    whole = image and busybox and all(modules)
    return Kernel(name, package, image, modules, busybox, CHOICES[name].arch) if whole else None


def fetch(name, again=False):
    """The kernel of this name, fetched where it is not there yet, or again. Unavailable says why not."""
    if name not in CHOICES:
        raise Unavailable(f"no kernel is called {name}: {', '.join(CHOICES)}")
    folder = f"{KERNELS}/{name}"
    kernel = None if again else unpacked(name, folder)
    if kernel:
        return kernel
    choice = CHOICES[name]
    apt = Apt(name, choice.suites, choice.arch)
    apt.update()
    names = [n for n in apt.names(f"^linux-image-[0-9].*-{choice.flavour}$")
             if re.fullmatch(f"linux-image-{choice.version}-{choice.flavour}", n)]
    if not names:
        raise Unavailable(f"no linux-image-...-{choice.flavour} in {' '.join(choice.suites)}")
    package = in_order(names)[-1]
    shutil.rmtree(folder, ignore_errors=True)
    # Newer ones are in parts: the package of this name is then all but empty, and depends on them.
    parts = [d for d in apt.depends(package) if re.match("linux-(binary|modules)-", d)]
    for part in [package, *parts, BUSYBOX]:
        apt.unpack(part, folder)
    shutil.rmtree(apt.dir)      # lists of packages, far bigger than what was wanted
    with open(f"{folder}/{MARK}", "w") as f:
        f.write(package + "\n")
    kernel = unpacked(name, folder)
    if not kernel:
        raise Unavailable(f"{package} or {BUSYBOX} lacks what was expected: vmlinuz, {' '.join(MODULES)}, busybox")
    return kernel


# --- libraries of another architecture -----------------------------------------------------------

def sysroot(arch, packages, again=False):
    """A folder with these packages of the machine's own release, and all that they need, for this architecture."""
    folder = f"{KERNELS}/sysroot-{arch}"
    wanted = " ".join(packages)
    try:
        with open(f"{folder}/{MARK}") as f:
            if f.read().strip() == wanted and not again:
                return folder
    except OSError:
        pass
    here = codename()
    apt = Apt(f"sysroot-{arch}", [here, f"{here}-security"], arch)
    apt.update()
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    apt.unpack_with_depends(packages, folder)
    shutil.rmtree(apt.dir)
    with open(f"{folder}/{MARK}", "w") as f:
        f.write(wanted + "\n")
    return folder
