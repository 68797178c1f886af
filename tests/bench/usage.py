"""What a process uses while it is watched for a while."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used in one window: CPU seconds per second, wake-ups per second, megabytes at its end."""

    cpu: float
    wake_ups: float
    pss: float


def watch(pids: Sequence[int], seconds: float) -> list[Usage]:
    """Watch some processes at once.

    CPU time is by their clocks, which count nanoseconds. Wake-ups are the context switches, voluntary and not, of all
    threads. PSS shares out what several processes map.
    """
    begun = [_counters(pid) for pid in pids]
    time.sleep(seconds)
    found = []
    for pid, before in zip(pids, begun, strict=True):
        wall, cpu, switches = (after - then for after, then in zip(_counters(pid), before, strict=True))
        found.append(Usage(cpu / wall, switches / wall, _pss_megabytes(pid)))
    return found


def _counters(pid: int) -> tuple[float, float, float]:
    return time.monotonic(), _cpu_seconds(pid), _switches(pid)


def _cpu_seconds(pid: int) -> float:
    """Read the CPU clock of another process, which counts nanoseconds; /proc/PID/stat counts hundredths."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3): the kernel's CPUCLOCK_SCHED of this process


def _switches(pid: int) -> float:
    lines = (
        line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().splitlines()
    )
    return float(sum(int(line.split()[1]) for line in lines if "voluntary_ctxt_switches:" in line))


def _pss_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
