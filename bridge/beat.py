"""One beat for all that is done once a second: timers that ring at the same moment wake the process once.

A wake-up costs more than most of what is done then.
"""

from __future__ import annotations

import math


def next_beat(now: float, every_s: float = 1.0) -> float:
    """Return the next moment after `now` that is a multiple of `every_s`. Pure."""
    return (math.floor(now / every_s) + 1) * every_s
