"""What a measurement found: our samples beside the peer's, and the statistics of both. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

NOT_PRESENT = "not present"
"""What stands where a side could not run in this run; never a number from another one."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What we are compared with; `samples` is None if it could not run here."""

    name: str
    samples: Sequence[float] | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `samples` is None if ours could not run here; `wanted` is the goal, for people."""

    name: str
    unit: str
    samples: Sequence[float] | None
    peer: Peer | None = None
    wanted: str = ""
    percentile: int = 50

    @property
    def ours(self) -> float | None:
        """The percentile of our samples that the line is about."""
        return percentile_of(self.samples, self.percentile)

    @property
    def theirs(self) -> float | None:
        """The same percentile of the peer's."""
        return percentile_of(self.peer.samples, self.percentile) if self.peer else None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    def as_json(self) -> dict[str, object]:
        """Return the line as it stands in build/bench.json."""
        line: dict[str, object] = {"name": self.name, "unit": self.unit, "compared_at": f"p{self.percentile}"}
        line["ours"] = summary(self.samples, self.percentile)
        if self.peer is not None:
            line["peer"] = {"name": self.peer.name, "samples": summary(self.peer.samples, self.percentile)}
            line["ours_by_peer"] = self.ratio
        return line | {"wanted": self.wanted}


def percentile_of(samples: Sequence[float] | None, percentile: int) -> float | None:
    """Return a percentile (1 to 99) of the samples, between two of them if need be; None if there are none."""
    if not samples:
        return None
    if len(samples) == 1:
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[percentile - 1]


def summary(samples: Sequence[float] | None, percentile: int) -> dict[str, float] | str:
    """Return the statistics of one side, and the percentile that was asked for."""
    if not samples:
        return NOT_PRESENT
    found = {"n": len(samples), "median": statistics.median(samples), "min": min(samples), "max": max(samples)}
    return found | {f"p{percentile}": percentile_of(samples, percentile) or 0.0}


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every side once a round and return what each returned.

    Every other round goes backwards, so that a machine that gets slower by and by favours nobody.
    """
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            samples[name].append(sides[name]())
    return samples
