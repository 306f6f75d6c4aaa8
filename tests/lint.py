#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The house rules that a machine can check: size, width, licence lines, the one-way flow of includes, who may print,
words that say something was left for later, and what stands at the top of the tree.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP = {"Makefile", "bpf", "user", "tools", "tests", "vmlinux", "README.md", "doc", "LICENSES"}
CODE = re.compile(r"\.(c|h|py|sh|go|lua)$|^(Makefile|tests/run|\.ci/run)$")
LINES, COLUMNS = 600, 120      # 100 columns are aimed at in C; what is refused is what no screen shows
BSD, DUAL = "BSD-2-Clause", "GPL-2.0-only OR BSD-2-Clause"

# A room may include those before it, never those behind it. Data flows the same way, but for the records: the ledger
# fills them in, so their shape comes first.
ROOMS = ["base", "derpmap", "capture", "stream", "record", "ledger", "correlate", "view", "cmd"]
PRINTS = {"view", "cmd"}
PRIVATE = re.compile(r"(^internal|_private|_internal)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
PRINT = re.compile(r"\b(?:v?printf|puts|putchar|perror)\s*\(|\bv?f(?:printf|puts|putc)\s*\([^;]*\bstd(?:out|err)\b")
LATER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|not imple" r"mented")
LOG = "user/base/log.c"         # the one file below view and cmd that owns standard error


def files():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(f"lint: git ls-files: {out.stderr.strip()}")
    return [f for f in out.stdout.splitlines() if os.path.isfile(f"{ROOT}/{f}")]


def room_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "user" and len(parts) > 2 else None


def check_top(path):
    top = path.split("/")[0]
    if top not in TOP and not top.startswith("."):
        yield 1, f"{top} has no place at the top of the tree"


def check_head(path, lines):
    head = "\n".join(lines[:3])
    want = DUAL if path.startswith("bpf/") else BSD
    if f"SPDX-License-Identifier: {want}" not in head:
        yield 1, f"no line `SPDX-License-Identifier: {want}` at the head"


def check_size(path, lines):
    if len(lines) > LINES:
        yield LINES + 1, f"{len(lines)} lines: over {LINES}, so more than one thing"
    for n, line in enumerate(lines, 1):
        if len(line.expandtabs(8)) > COLUMNS:
            yield n, f"{len(line.expandtabs(8))} columns: over {COLUMNS}"
        if line != line.rstrip():
            yield n, "blanks at the end of the line"


def check_includes(path, lines):
    room = room_of(path)
    for n, line in enumerate(lines, 1):
        m = INCLUDE.match(line)
        if not m or "/" not in m.group(1):
            continue
        other, name = m.group(1).rsplit("/", 1)
        if other not in ROOMS or other == room:
            continue
        # A test may look at one part of a room by itself.
        if PRIVATE.search(name) and not path.startswith("tests/"):
            yield n, f"{m.group(1)} is private to its room"
        if room in ROOMS and ROOMS.index(other) > ROOMS.index(room):
            yield n, f"{room} includes {m.group(1)}: data flows the other way"


def check_printing(path, lines):
    room = room_of(path)
    if not room or room in PRINTS or path == LOG or not path.endswith(".c"):
        return
    for n, line in enumerate(lines, 1):
        if PRINT.search(line) and not line.lstrip().startswith(("*", "/*", "//")):
            yield n, "only view/ and cmd/ print"


def check_words(lines):
    for n, line in enumerate(lines, 1):
        m = LATER.search(line)
        if m:
            yield n, f"`{m.group(0)}`: do it, or leave it out"


def main():
    wrong = checked = 0
    for path in files():
        found = list(check_top(path))
        if CODE.search(path) and not path.startswith("vmlinux/"):
            checked += 1
            with open(f"{ROOT}/{path}", errors="replace") as f:
                lines = f.read().splitlines()
            found += check_head(path, lines)
            found += check_size(path, lines)
            found += check_includes(path, lines)
            found += check_printing(path, lines)
            found += check_words(lines)
        for n, why in found:
            print(f"{path}:{n}: {why}")
            wrong += 1
    print(f"lint: {checked} files, {wrong} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
