"""When the client will look into a channel next. Pure; `now` is in seconds of any steady clock.

The client looks about once a second, at a moment of its own, and never sees a value younger than the message that lies
in the channel, which may not be written over. To have the newest value there when it looks, a writer must know that
moment. It learns it from messages that lay unread for a while and then were taken: two of them, one period apart, are
a rhythm. A reader that takes everything at once has none, and whoever writes to it writes at once.
"""

from __future__ import annotations

import math

PERIOD_S = 1.0
"""Between two looks of the client (TASK_POLL_PERIOD; 1.0006 measured)."""

BEFORE_S = 0.04
"""So long before the earliest moment of the next look a value is written: our timers may be late on a busy host."""

_TOLERANCE_S = 0.2
"""Looks are seen only at our own, ten times a second; two of them are that uncertain together."""

_MISSED_AT_MOST = 5
"""So many periods a message may have lain there, written just after a look, say, and still tell the rhythm."""


class Rhythm:
    """Learns from what becomes of our messages in one channel."""

    def __init__(self) -> None:
        self._written: float | None = None
        self._unread: float | None = None
        self._taken: float | None = None
        self._known = False

    def wrote(self, now: float) -> None:
        """A message was put in."""
        self._written = now
        self._unread = None

    def look(self, now: float, *, full: bool) -> None:
        """The channel was looked at, and the message was still there (`full`) or had been taken."""
        if self._written is None:
            return
        if full:
            self._unread = now
            return
        written, self._written = self._written, None
        earliest = written if self._unread is None else self._unread
        fits = self._taken is not None and _is_whole(earliest - self._taken)
        # A message that was taken before it was ever seen unread tells nothing, unless its moment was foretold.
        self._known = fits and (self._known or self._unread is not None)
        self._taken = earliest if self._known or self._unread is not None else None

    def write_at(self, now: float) -> float:
        """Return when the next value should be written into the empty channel: `now`, or a moment to come."""
        if not self._known or self._taken is None:
            return now
        next_look = self._taken + PERIOD_S
        if now > next_look:
            # It has just looked, or soon will have: what is written now would be old at the look after that.
            next_look += math.ceil((now - next_look) / PERIOD_S) * PERIOD_S
        return max(now, next_look - BEFORE_S)


def _is_whole(seconds: float) -> bool:
    """Say whether a time is a small number of periods."""
    periods = round(seconds / PERIOD_S)
    return 1 <= periods <= _MISSED_AT_MOST and abs(seconds - periods * PERIOD_S) <= _TOLERANCE_S
