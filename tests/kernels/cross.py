#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Everything that a guest of another architecture runs, cross-built into build/ARCH.

    tests/kernels/cross.py ARCH [GOAL...]     arm64; by default the program and the load generator
"""
import os
import subprocess
import sys

sys.dont_write_bytecode = True

import debian                                           # noqa: E402

ROOT = debian.ROOT
TRIPLETS = {"arm64": "aarch64-linux-gnu"}               # by Debian's name, which is libbpf's and Go's too
GOALS = ["derptrace", "derpload"]


class Failed(Exception):
    """It was not built."""


def folder(arch):
    return f"{ROOT}/build/{arch}"


def libraries(arch, again=False):
    """The folder with the libraries to link with. debian.Unavailable where they, or a compiler, cannot be had."""
    if subprocess.run([f"{ROOT}/tools/setup/deps.sh", f"kernels-{arch}"], stdin=subprocess.DEVNULL).returncode:
        raise debian.Unavailable(f"no compiler or no qemu for {arch}, and they could not be installed")
    said = subprocess.run([f"{ROOT}/tools/setup/deps.sh", "libraries"], capture_output=True, text=True, check=True)
    return debian.sysroot(arch, said.stdout.split(), again)


def build(arch, goals, again=False):
    """Makes these, relative to folder(arch). Returns the folder of the libraries."""
    root, triplet = libraries(arch, again), TRIPLETS[arch]
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env.update(GOARCH=arch, CGO_ENABLED="0", PKG_CONFIG_SYSROOT_DIR=root,
               PKG_CONFIG_LIBDIR=f"{root}/usr/lib/{triplet}/pkgconfig:{root}/usr/share/pkgconfig")
    into = os.path.relpath(folder(arch), ROOT)
    argv = ["make", "--no-print-directory", f"-j{os.cpu_count() or 1}", f"B={into}", f"ARCH={arch}",
            f"CC={triplet}-gcc", f"AR={triplet}-ar", f"CFLAGS=--sysroot={root}", *(f"{into}/{goal}" for goal in goals)]
    if subprocess.run(argv, cwd=ROOT, env=env).returncode:
        raise Failed(f"not built for {arch}: {' '.join(goals)}")
    return root


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in TRIPLETS:
        print(__doc__.split("\n\n", 1)[1].rstrip(), file=sys.stderr)
        return 2
    try:
        build(sys.argv[1], sys.argv[2:] or GOALS)
    except (debian.Unavailable, Failed) as why:
        print(f"cross: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
