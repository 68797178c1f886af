"""When a guest counts as lost. Pure.

Volunteers' machines are busy: a machine at the lowest priority may get no processor for minutes, and then its silence
says nothing. So silence is measured first in the CPU time that the machine really got. A machine that waits for
something that never comes uses none, so there is a limit on the clock as well, a generous one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a guest may be silent: seconds of its machine's CPU time, and seconds on the clock."""

    cpu_s: float
    clock_s: float


BOOT = Limits(cpu_s=120.0, clock_s=600.0)
"""From the machine's start to the first word of the guest. Under emulation the tiny image needs two seconds of CPU."""

SILENCE = Limits(cpu_s=300.0, clock_s=3600.0)
"""Between two signs of life. A guest gives one every ten seconds of its own time."""


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
