# SPDX-License-Identifier: BSD-2-Clause
"""What a user may hand to derptrace: each file that is not what it should be gets one clear line and the designed exit
code, and what was readable of it is reported all the same."""
import os
import shutil
import tempfile

import test_captures as captures


def said(done):
    """The one line on standard error."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, (done.args, done.returncode, done.stderr)
    return lines[0]


def test_pcap_of_records():
    """Records hold no packets: derptrace pcap says so, and leaves no file behind."""
    with tempfile.TemporaryDirectory() as d:
        captures.derptrace("record", "-o", f"{d}/a.dtr", captures.capture("meshed-plain.pcap"), code=0)
        for sources in ([f"{d}/a.dtr"], [captures.capture("meshed-plain.pcap"), f"{d}/a.dtr"], ["-"]):
            done = captures.derptrace("pcap", "-o", f"{d}/out.pcapng", *sources, code=2)
            assert f"{sources[-1]}: records hold no packets" in said(done), done.stderr
            assert not os.path.exists(f"{d}/out.pcapng")


def test_capture_of_any_name():
    """A capture is told by how it begins."""
    with tempfile.TemporaryDirectory() as d:
        for name in ("meshed-tls.pcapng", "meshed-plain.pcap"):
            shutil.copy(captures.capture(name), f"{d}/trace")
            r, _ = captures.report(f"{d}/trace", code=0)
            captures.check(r, name)
