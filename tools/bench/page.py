# SPDX-License-Identifier: BSD-2-Clause
"""Results as people read them: tables, a plot, and the measured part of the README."""
import datetime
import os
import platform
import re
import subprocess

BEGIN, END = "<!-- measured: written by make bench-readme -->", "<!-- end of what was measured -->"
PLOT = "cost.svg"
ROUNDS = 20             # fewer do not bound a median


def reached(row):
    """Which targets the upper bound is under."""
    if not row["target"]:
        return ""
    must, stretch = row["target"]
    if row["rounds"] < ROUNDS:
        return f"{must:g}: {row['rounds']} rounds tell nothing"
    if row["high"] <= stretch:
        return f"{stretch:g}: reached, stretch too"
    if row["high"] <= must:
        return f"{must:g}: reached"
    return f"{must:g}: {'below the noise' if row['low'] <= must else 'not reached'}"


def table(title, rows):
    lines = [f"**{title}**", "",
             "| | untraced ns/frame | ns/frame | ratio | 95 % | added cost / tcpdump's | throughput | target |",
             "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        share = "{:.2f} ({:.2f} - {:.2f})".format(*r["share"]) if r.get("share") else ""
        lines.append(f"| {r['name']} | {r['base']:.0f} | {r['cost']:.0f} | {r['ratio']:.3f} | "
                     f"{r['low']:.3f} - {r['high']:.3f} | {share} | {r['speed']:.3f} | {reached(r)} |")
    return "\n".join(lines) + "\n"


def number(value):
    value = float(value)
    for unit, by in (("M", 1e6), ("k", 1e3)):
        if value >= by:
            return f"{value / by:.1f} {unit}"
    return f"{value:.1f}"


# Observations a second and core: must, stretch.
RATES = {"correlator, in memory": (20e6, 40e6), "correlator, from records": (5e6, 10e6)}


def rate_reached(what, rate):
    if what not in RATES:
        return ""
    must, stretch = RATES[what]
    word = "reached, stretch too" if rate >= stretch else "reached" if rate >= must else "not reached"
    return f"{number(must)}: {word}"


def as_table(text):
    """What the programs print, as tables that have their second line."""
    blocks = []
    for block in text.strip().split("\n\n"):
        rows = [line.rpartition("|")[0] + "|" if line.startswith("|") else line for line in block.splitlines()]
        if rows[0].startswith("|") and not "".join(rows[1:2]).startswith("|---"):
            rows.insert(1, "|---" * (rows[0].count("|") - 1) + "|")
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def rooms(rates, others):
    lines = ["**Rooms, a second and core**", "", "| | pairs | a second | bytes a pair | target |",
             "|---|---|---|---|---|"]
    for what, pairs, rate, size in rates:
        # With few pairs what is there anyway would count as theirs.
        shown = size if int(pairs) >= 10000 and float(size) else ""
        lines.append(f"| {what} | {int(pairs) or ''} | {number(rate)} | {shown} | {rate_reached(what, float(rate))} |")
    speed, memory = map(as_table, others)
    return "\n".join(lines) + f"\n\n**stream, CPU time a frame**\n\n{speed}\n**Memory, bytes each**\n\n{memory}"


def plot(tables):
    """Ratios with their intervals, one under the other; the target is a tick."""
    rows = [(title, r) for title, rows_of in tables for r in rows_of]
    most = max([1.1] + [r["high"] for _, r in rows if r["high"] < 3]) * 1.02
    left, width, step = 230, 520, 22
    height = 40 + step * (len(rows) + len(tables)) + 30

    def x(ratio):
        return left + (min(ratio, most) - 0.95) / (most - 0.95) * width

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{height}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           '<text x="10" y="18">CPU time per relayed frame, against nobody looking: median, 95 %; red: target</text>']
    y, last = 40, None
    for title, r in rows:
        if title != last:
            out.append(f'<text x="10" y="{y + 4}" font-weight="bold">{title}</text>')
            y, last = y + step, title
        out.append(f'<text x="24" y="{y + 4}">{r["name"]}</text>')
        out.append(f'<line x1="{x(r["low"]):.1f}" x2="{x(r["high"]):.1f}" y1="{y}" y2="{y}" '
                   'stroke="#357" stroke-width="3"/>')
        out.append(f'<circle cx="{x(r["ratio"]):.1f}" cy="{y}" r="4" fill="#135"/>')
        if r["target"]:
            at = x(r["target"][0])
            out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y - 8}" y2="{y + 8}" stroke="#c22" stroke-width="2"/>')
        out.append(f'<text x="{x(r["high"]) + 8:.1f}" y="{y + 4}" fill="#555">{r["ratio"]:.3f}</text>')
        y += step
    out.append(f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="30" y2="{y}" stroke="#aaa"/>')
    out.append(f'<text x="{x(1):.1f}" y="{y + 16}" text-anchor="middle" fill="#555">1.00</text></svg>')
    return "\n".join(out) + "\n"


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) >> 20
    return (f"{os.cpu_count()} cores ({cpu.group(1).strip() if cpu else platform.machine()}), {memory} GiB, "
            f"Linux {platform.release()}")


def commit(folder):
    return subprocess.run(["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True,
                          text=True).stdout.strip()


def write(folder, tables, measured, options):
    """The measured part of the README, and its plot."""
    today = datetime.date.today().isoformat()
    text = [f"Measured {today} on {machine()}; commit {commit(folder)}. Two relays and all clients on this machine, "
            f"{options.pairs} rounds, {options.frames} frames of {options.size} bytes a run, {options.rate} a second.",
            ""]
    for title, rows in tables:
        text.append(table(title, rows))
    if tables:
        text.append(f"![CPU time per relayed frame]({PLOT})\n")
        with open(f"{folder}/{PLOT}", "w") as f:
            f.write(plot(tables))
    if measured:
        text.append(rooms(*measured))
    path = f"{folder}/README.md"
    with open(path) as f:
        page = f.read()
    head, rest = page.split(BEGIN)
    with open(path, "w") as f:
        f.write(f"{head}{BEGIN}\n" + "\n".join(text).rstrip() + f"\n{END}{rest.split(END)[1]}")
