# SPDX-License-Identifier: BSD-2-Clause
"""CPU time of processes, and what twenty ratios say."""
import glob
import os
import random
import statistics
import time


def cpu_ns(pid):
    """CPU time of a process, all its threads, those that have ended too; 0 where it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def user_ns(pid):
    """The part of it that was spent outside the kernel: sampled by the clock's tick, so of use over many seconds."""
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[11]) * 1000000000 // os.sysconf("SC_CLK_TCK")


def thread_ns(pid):
    """CPU time of one thread, from the scheduler."""
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0])


def softirq_threads():
    """The kernel's own threads that take packets where nobody else does."""
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as f:
                if f.read().startswith("ksoftirqd/"):
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


ROUNDS = 2000


def bounds(samples):
    samples = sorted(samples)
    return samples[int(0.025 * len(samples))], samples[int(0.975 * len(samples))]


def median_of(values):
    """Median and its bounds of 95 %, by bootstrap."""
    rng = random.Random(1)
    low, high = bounds(statistics.median(rng.choices(values, k=len(values))) for _ in range(ROUNDS))
    return statistics.median(values), low, high


def share_of(values, others):
    """Of two medians of the same rounds; None where the other is not above nothing."""
    rng, samples = random.Random(1), []
    pairs = list(zip(values, others))
    for _ in range(ROUNDS):
        some = rng.choices(pairs, k=len(pairs))
        other = statistics.median(o for _, o in some)
        if other <= 0:
            return None
        samples.append(statistics.median(v for v, _ in some) / other)
    return (statistics.median(values) / statistics.median(others), *bounds(samples))
