# SPDX-License-Identifier: BSD-2-Clause
"""Tests that are Python functions test_* in the files of a folder: found, and each run in a process of its own.

Run as a program it runs one: scenarios.py FILE FUNCTION; exit code 0 passed, 77 skipped, else failed.
"""
import dataclasses
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
SKIPPED = 77
GRACE = 20      # seconds for a scenario that is told to end, to tear its lab down

_running = {}
_lock = threading.Lock()
_stopping = False


@dataclasses.dataclass
class Test:
    path: str
    function: str
    slow: bool
    long: bool
    timeout: float

    @property
    def name(self):
        folder = os.path.relpath(self.path, TESTS).split(os.sep)[0]
        return f"{folder}/{os.path.basename(self.path)[:-3]}.{self.function[5:]}"


def load(path):
    for folder in (f"{TESTS}/lab", os.path.dirname(path)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("scenario_" + os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def discover(folder):
    """The tests of a folder, in the order of files and lines, and the files that could not be read, with why."""
    tests, broken = [], []
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        path = f"{folder}/{name}"
        if not name.endswith(".py") or name.startswith("_"):
            continue
        try:
            module = load(path)
        except Exception:
            broken.append((os.path.relpath(path, TESTS), traceback.format_exc()))
            continue
        for key, f in vars(module).items():
            if key.startswith("test_") and callable(f):
                tests.append(Test(path, key, getattr(f, "slow", False), getattr(f, "long", False),
                                  getattr(f, "timeout", 180)))
    return tests, broken


def why_not(folder, make):
    """Why the tests of this folder cannot run here; None when they can. Builds what the lab needs."""
    if not folder.startswith("lab"):
        return None
    if os.geteuid():
        return "needs root"
    if subprocess.run([f"{ROOT}/tools/setup/go.sh", "--path"], capture_output=True).returncode:
        return "no Go for the relays"
    return None if make("lab-bin") else "the relays could not be built"


def leftovers(pid):
    try:
        return [n for n in os.listdir("/run/netns") if n.startswith(f"dt-{pid}-")]
    except OSError:
        return []


def sweep(pid):
    """What a scenario left, by the prefix that bears its pid: namespaces, what runs in them, directories."""
    sys.path.insert(0, f"{TESTS}/lab")
    from parts.net import destroy_prefix
    destroy_prefix(f"dt-{pid}")
    tmp = tempfile.gettempdir()
    for name in os.listdir(tmp):
        if name.startswith(f"dt-{pid}-"):
            shutil.rmtree(f"{tmp}/{name}", ignore_errors=True)


def run(test):
    """(name, PASS | FAIL | SKIP, seconds, note, output) of one test."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        with _lock:
            if _stopping:
                return test.name, "FAIL", 0, "interrupted", ""
            proc = subprocess.Popen([sys.executable, __file__, test.path, test.function], stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
            _running[proc.pid] = proc
        try:
            code, note = proc.wait(test.timeout), ""
        except subprocess.TimeoutExpired:
            code, note = 1, f"did not end in {test.timeout:g} s"
            proc.send_signal(signal.SIGTERM)
            try:
                proc.wait(GRACE)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
        with _lock:
            del _running[proc.pid]
        left = leftovers(proc.pid)
        if left:
            code, note = code or 1, f"{note} left behind: {' '.join(left)}".strip()
        sweep(proc.pid)
        out.seek(0)
        text = out.read()
    word = {0: "PASS", SKIPPED: "SKIP"}.get(code, "FAIL")
    if word == "SKIP":
        note = text.strip().splitlines()[-1] if text.strip() else ""
    return test.name, word, time.monotonic() - began, note, text


def stop_all():
    """Tells every running test to tear down; run() sees them end."""
    global _stopping
    _stopping = True
    for proc in list(_running.values()):
        proc.send_signal(signal.SIGTERM)


def main():
    path, function = sys.argv[1:3]
    module = load(path)
    from lab import Skip
    try:
        getattr(module, function)()
    except Skip as why:
        print(why)
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
