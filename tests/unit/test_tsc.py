"""The counter's frequency, measured while the measuring program itself is interrupted."""

from __future__ import annotations

import itertools

import pytest

from bridge.hypervisors.qemu.tsc import frequency, frequency_khz


class Time:
    """A clock of nanoseconds and a counter of 2.5 GHz; each look takes a while, and some looks take very long."""

    def __init__(self, pauses_ns: list[int]) -> None:
        self._now_ns = 1_000_000
        self._pauses = itertools.cycle(pauses_ns)

    def nanoseconds(self) -> int:
        self._now_ns += next(self._pauses)
        return self._now_ns

    def counter(self) -> int:
        self._now_ns += next(self._pauses)
        return self._now_ns * 5 // 2

    def sleep(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)


@pytest.mark.parametrize("pauses", [[40], [40, 50, 60, 30_000_000, 40, 50, 40], [9_000_000, 40, 40, 40, 40]])
def test_interruptions_do_not_matter(pauses: list[int]) -> None:
    clock = Time(pauses)
    assert frequency(clock.counter, clock.nanoseconds, clock.sleep) == pytest.approx(2_500_000, rel=1e-4)


def test_the_real_one() -> None:
    first = frequency_khz()
    if first is None:
        pytest.skip("the counter cannot be read here")
    frequency_khz.cache_clear()
    assert frequency_khz() == pytest.approx(first, rel=0.005)
