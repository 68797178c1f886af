"""How much of the machine everything else used while we measured: what to look at first when a figure is strange."""

from __future__ import annotations

import os
import time

import psutil


class Others:
    """Counts from its making on. Programs of ours count as ours once they have ended."""

    def __init__(self) -> None:
        self._begun = time.monotonic(), _busy_elsewhere()

    def cpus(self) -> float:
        """Return how many processors all others kept busy on average, the kernel's own work included."""
        then, before = self._begun
        return max(0.0, (_busy_elsewhere() - before) / (time.monotonic() - then))


def _busy_elsewhere() -> float:
    everybody, we = psutil.cpu_times(), os.times()
    busy: float = sum(everybody) - everybody.idle - everybody.iowait - everybody.guest - everybody.guest_nice
    return busy - we.user - we.system - we.children_user - we.children_system
