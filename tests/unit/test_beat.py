"""The common beat of what is done once a second."""

from __future__ import annotations

import pytest

from bridge.beat import next_beat


@pytest.mark.parametrize(("now", "expected"), [(0.0, 1.0), (0.3, 1.0), (0.999, 1.0), (1.0, 2.0), (12345.678, 12346.0)])
def test_everybody_gets_the_same_moment_and_it_is_yet_to_come(now: float, expected: float) -> None:
    assert next_beat(now) == expected


def test_a_faster_beat() -> None:
    assert next_beat(7.26, 0.5) == 7.5
