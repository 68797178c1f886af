"""What a job tells its project now and then about the work done, for credit. Pure.

Two trickles at a time: the one that BOINC's wrapper sends with `--trickle`, byte by byte, for servers that know it, and
one of our own variety with more in it. (wrapper facts, a.1: the wrapper's `cpu_time` is the run time.)
"""

from __future__ import annotations

from .accounting import Progress, estimated_fpops

OURS = "vmbridge"
WRAPPERS = "cpu_time"


class Earnings:
    """Says when the next two are due: every `every_s` seconds in which the machine ran."""

    def __init__(self, every_s: float, p_fpops: float = 0.0) -> None:
        """`p_fpops` is how many operations the host's benchmark does in a second, 0 if nobody knows."""
        self._every_s = every_s
        self._p_fpops = p_fpops
        self._last_s: float | None = None

    def due(self, progress: Progress) -> dict[str, str]:
        """Return what is to be sent now, variety to text; nothing most of the time.

        A start tells nothing that an earlier one has told: the time is counted from the first call on.
        """
        if self._last_s is None or progress.run_seconds < self._last_s:
            self._last_s = progress.run_seconds
        if progress.run_seconds - self._last_s < self._every_s:
            return {}
        self._last_s = progress.run_seconds
        return {WRAPPERS: f"<cpu_time>{progress.run_seconds:f}</cpu_time>", OURS: _ours(progress, self._p_fpops)}


def _ours(progress: Progress, p_fpops: float) -> str:
    """`runtime` is what BOINC's own handler for credit by trickles reads; CPU times are seconds.

    An estimate has a name of its own, so that nobody takes it for what a program has counted.
    """
    values = {
        "runtime": progress.run_seconds,
        "cpu_time": progress.cpu_seconds,
        "guest_cpu_time": progress.guest_cpu_seconds,
        "fpops": progress.fpops,
        "fpops_estimated": estimated_fpops(progress, p_fpops),
        "intops": progress.intops,
        "fraction_done": progress.fraction_done,
    }
    return "".join(f"<{tag}>{value:.6f}</{tag}>\n" for tag, value in values.items() if value is not None)
