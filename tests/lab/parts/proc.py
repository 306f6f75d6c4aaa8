# SPDX-License-Identifier: BSD-2-Clause
"""Processes of the lab: started, awaited, ended by their own pid, and dead when the lab's process is.

Start them from the main thread: the kernel ends a child when the thread that made it ends.
"""
import ctypes
import glob
import json
import os
import queue
import signal
import subprocess
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class LabError(Exception):
    """The lab could not do what was asked: what, and the last lines of the log that says why."""


def run(*argv, stdin=None, check=True):
    """Runs a command to its end and returns its standard output; raises LabError with its words when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def until(condition, what, timeout=15.0, every=0.02):
    """Awaits a condition and returns its first true value; LabError says what was awaited (a text, or what makes it
    then: a log has more in it at the end than at the beginning).
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s for {what() if callable(what) else what}")
        time.sleep(every)


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


def _die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The lab blocks or handles these while it is torn down; its children must not inherit that.
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, signal.SIG_DFL)


class Proc:
    """A process, in a network namespace (ns) or in this one. Standard error goes to its log, and standard output too
    unless it is asked for: out is a file to write to, or PIPE.
    """

    def __init__(self, name, argv, log, ns=None, env=None, out=None, stdin=subprocess.DEVNULL):
        self.name, self.log = name, log
        argv = [str(a) for a in argv]
        if ns:
            argv = ["ip", "netns", "exec", ns] + argv
        with open(log, "ab") as err:
            self.popen = subprocess.Popen(
                argv, stdin=stdin, stdout=err if out is None else out, stderr=err,
                env={**os.environ, **(env or {})}, preexec_fn=_die_with_parent, start_new_session=True)
        self.pid = self.popen.pid
        self.inner = None       # who signals are for, where this process only waits for another

    def alive(self):
        return self.popen.poll() is None

    def check(self):
        if not self.alive():
            raise LabError(f"{self.name} ended with {self.popen.returncode}:\n{tail(self.log)}")

    def send_signal(self, sig):
        """Of SIGSTOP the end is awaited: a thread that runs on another CPU goes on for a moment."""
        if self.alive():
            try:
                os.kill(self.inner or self.pid, sig)
            except ProcessLookupError:
                return
            if sig == signal.SIGSTOP:
                until(self._stands, f"{self.name} to stand still", every=0.002)

    def _stands(self):
        for path in glob.glob(f"/proc/{self.inner or self.pid}/task/*/stat"):
            try:
                with open(path) as f:
                    if f.read().rpartition(")")[2].split()[0] != "T":
                        return False
            except (FileNotFoundError, ProcessLookupError):
                pass
        return True

    def wait(self, timeout=10):
        """Its exit code; LabError when it does not end in time."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} (pid {self.pid}) did not end in {timeout} s:\n{tail(self.log)}") from None

    def kill(self):
        self.send_signal(signal.SIGKILL)
        self.popen.kill()
        return self.popen.wait()

    def end(self, sig=signal.SIGTERM, timeout=5):
        """Ends it politely, then not: for tearing down, so it raises nothing."""
        self.send_signal(signal.SIGCONT)
        self.send_signal(sig)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._last_words()
        for f in (self.popen.stdin, self.popen.stdout):
            if f:
                try:
                    f.close()
                except OSError:
                    pass

    def _last_words(self):
        """Who reads from it is done before its pipe is closed."""


class Talker(Proc):
    """A process that takes line commands on standard input and answers with one JSON object a line."""

    def __init__(self, name, argv, log, ns=None, env=None):
        super().__init__(name, argv, log, ns=ns, env=env, out=subprocess.PIPE, stdin=subprocess.PIPE)
        self.events = []            # those not yet waited for, in order
        self._queue = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _last_words(self):
        self._reader.join(5)

    def _read(self):
        for line in self.popen.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"ev": "garbage", "line": line.decode(errors="replace")}
            self._queue.put(event)
        self._queue.put(None)

    def command(self, *words):
        self.check()
        line = " ".join(str(w) for w in words) + "\n"
        try:
            self.popen.stdin.write(line.encode())
            self.popen.stdin.flush()
        except OSError as e:
            raise LabError(f"{self.name}: {line.strip()}: {e}\n{tail(self.log)}") from None

    def wait_event(self, event, timeout=30, **fields):
        """The first event of this name (and these fields) not yet taken. An error event raises LabError."""
        deadline = time.monotonic() + timeout

        def fits(e):
            return e.get("ev") == event and all(e.get(k) == v for k, v in fields.items())

        for i, e in enumerate(self.events):
            if fits(e):
                return self.events.pop(i)
        while True:
            try:
                e = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise LabError(f"{self.name}: waited {timeout:g} s for {event} {fields or ''}; "
                               f"untaken: {self.events[-5:]}\n{tail(self.log)}") from None
            if e is None:
                self._queue.put(None)       # whoever asks next must not wait for it
                raise LabError(f"{self.name} ended with {self.popen.wait()} before {event} {fields or ''}\n"
                               f"{tail(self.log)}")
            if fits(e):
                return e
            if e.get("ev") == "error":
                raise LabError(f"{self.name}: {e}")
            self.events.append(e)
