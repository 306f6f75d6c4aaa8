# SPDX-License-Identifier: BSD-2-Clause
"""What a person sees: on a terminal, on a poor one, on none."""
import os
import pty
import subprocess
import tempfile

import test_captures as captures

UNMESHED = captures.capture("unmeshed-tls.pcapng")


def begin(*args, **env):
    """Its process, and the terminal that it runs on."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update({"TERM": "xterm", **env})
        os.execv(captures.PROGRAM, [captures.PROGRAM, *args])
    return pid, fd


def written(fd, until=None):
    """What it writes from now on: to its end, or until it has written that."""
    said = b""
    while not until or until not in said:
        try:
            more = os.read(fd, 65536)
        except OSError:
            break
        if not more:
            break
        said += more
    return said.decode(errors="replace")


def on_terminal(*args, **env):
    """What it wrote to a terminal, and its exit code."""
    pid, fd = begin(*args, **env)
    said = written(fd)
    os.close(fd)
    return said, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_colour():
    """Only on a terminal that has it, and only for who wants it."""
    said, code = on_terminal("report", UNMESHED)
    assert code == 1 and "\33[31m" in said, (code, said)
    said, code = on_terminal("report", UNMESHED, NO_COLOR="")
    assert "\33[31m" in said, said
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        said, code = on_terminal("report", UNMESHED, **env)
        assert code == 1 and "DT001" in said and "\33" not in said, (env, said)
    said = captures.derptrace("report", UNMESHED, code=1).stdout
    assert "DT001" in said and "\33" not in said


def test_top_says_why_not():
    """What went wrong is not gone with the screen that top draws on."""
    said, code = on_terminal("top", "--comm", "no-such-relay")
    assert code == 3 and said.startswith("derptrace top: ") and "\33" not in said, (code, said)


def test_top_says_what_happens():
    """While top has the screen what is said on standard error stands at its bottom, and is said again at its end."""
    with tempfile.TemporaryDirectory() as folder:
        pipes = [f"{folder}/{name}.dtr" for name in ("one", "two")]
        for pipe in pipes:
            os.mkfifo(pipe)
        record = f"{folder}/region.dtr"
        captures.derptrace("record", "-o", record, UNMESHED)
        pid, fd = begin("top", *pipes)
        with open(pipes[0], "wb") as one, open(pipes[1], "wb"), open(record, "rb") as f:
            one.write(f.read())
            one.flush()
            screen = written(fd, b"DT001")
            one.write(b"no block of records")
            one.close()
            screen += written(fd, b"one.dtr: ")
            assert "\33[?1049h" in screen and "\33[?1049l" not in screen, screen
            os.write(fd, b"q")
            after = written(fd).split("\33[?1049l")[1]
        os.close(fd)
        assert "one.dtr: " in after and "DT001" in after, after
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_top_without_a_screen():
    """A terminal that cannot be drawn on gets lines, and the exit code of a report."""
    for term in ("dumb", "no-such-terminal"):
        said, code = on_terminal("top", UNMESHED, TERM=term)
        assert code == 1 and "DT001" in said and "\33" not in said, (term, code, said)
    done = subprocess.run([captures.PROGRAM, "top", UNMESHED], capture_output=True,
                          text=True)
    assert done.returncode == 1 and "DT001" in done.stdout and "\33" not in done.stdout, done


def test_first_line():
    """What was traced is one line, and nothing is wider than a terminal."""
    for name, code in (("unmeshed-tls.pcapng", 1), ("meshed-plain.pcap", 0)):
        lines = captures.derptrace("report", captures.capture(name), code=code).stdout.splitlines()
        assert " traced, " in lines[0] and lines[0].endswith(" s"), lines[0]
        assert max(map(len, lines)) <= 80, lines
