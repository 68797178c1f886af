"""When a guest counts as lost, and when its program as hung. Pure.

Volunteers' machines are busy: a machine at the lowest priority may get no processor for minutes, and then its silence
says nothing. So silence is measured first in the CPU time that the machine really got. A machine that waits for
something that never comes uses none, so there is a limit on the clock as well, a generous one.

A guest whose agent lives may hide a program that waits for ever. That one uses no CPU time of its own and reports
nothing, however long its machine runs. (One that computes for ever is the project's to bound: `rsc_fpops_bound`.)
"""

from __future__ import annotations

from dataclasses import dataclass

from .accounting import Progress


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a guest may be silent: seconds of its machine's CPU time, and seconds on the clock."""

    cpu_s: float
    clock_s: float


BOOT = Limits(cpu_s=120.0, clock_s=600.0)
"""From the machine's start to the first word of the guest. Under emulation the tiny image needs two seconds of CPU."""

SILENCE = Limits(cpu_s=300.0, clock_s=3600.0)
"""Between two signs of life. A guest gives one every ten seconds of its own time."""


def heartbeat_limits(interval_s: float, cpus: int) -> Limits:
    """Return how long a guest may be silent that is to give a sign of life every `interval_s` seconds of its own time.

    All of its machine's processors may be at work meanwhile. It must come up first, so it has as long as any guest.
    """
    return Limits(max(interval_s * cpus, BOOT.cpu_s), max(12.0 * interval_s, BOOT.clock_s))


class Patience:
    """Measures the time since the last sign of life."""

    def __init__(self, limits: Limits, *, cpu_s: float, now: float) -> None:
        self._limits = limits
        self._cpu_s = cpu_s
        self._now = now

    def lost(self, *, cpu_s: float, now: float) -> str | None:
        """Say why the guest counts as lost at this CPU time and clock, or None while it does not."""
        if (spent := cpu_s - self._cpu_s) > self._limits.cpu_s:
            return f"silent for {spent:.0f} seconds of its machine's CPU time"
        if (waited := now - self._now) > self._limits.clock_s:
            return f"silent for {waited:.0f} seconds, in which its machine used {spent:.0f} seconds of CPU time"
        return None


HUNG_S = 3600.0
"""So long a program may do nothing, in seconds in which its machine runs."""

_WORK_CPU_S = 1.0
"""Less CPU time in all that while is no work: even a machine that gets a thousandth of a processor is above it."""


class Idleness:
    """Measures how long the program has done nothing; `None` as limit waits for ever."""

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._reported: object = None
        self._cpu_s = 0.0
        self._since = 0.0

    def hung(self, progress: Progress, *, now: float) -> str | None:
        """Say why the program counts as hung, at this clock that goes while the machine runs; None while it does not.

        A guest that does not tell the program's CPU time cannot be judged.
        """
        cpu_s = progress.guest_cpu_seconds
        if self._limit_s is None or cpu_s is None:
            return None
        reported = (progress.fraction_done, progress.fpops, progress.intops, progress.checkpoints)
        if reported != self._reported or abs(cpu_s - self._cpu_s) >= _WORK_CPU_S:
            self._reported, self._cpu_s, self._since = reported, cpu_s, now
        if (idle := now - self._since) > self._limit_s:
            return f"it has reported nothing for {idle:.0f} seconds and used no processor"
        return None
