"""When a file that somebody writes in place is whole: once it has not changed for a while. Pure."""

from __future__ import annotations

from collections.abc import Hashable

STEADY_S = 1.0
"""The protocol's time of grace (B3)."""

EMPTY_S = 10.0
"""An empty file is what is seen between a shell's opening of a file and its writing, on a busy host for seconds; but
there are guests that write nothing into a trigger file (`touch`). BOINC's vboxwrapper looks every ten seconds itself.
"""


class Steady:
    """Watches one file by what is seen of it, None for no file; `now` is any steady clock's, in seconds."""

    def __init__(self) -> None:
        self._seen: Hashable = None
        self._since = 0.0
        self._judged = True

    def is_whole(self, seen: Hashable, now: float, for_s: float) -> bool:
        """Note what is seen; say whether it has been the same for `for_s` seconds."""
        if seen != self._seen:
            self._seen, self._since, self._judged = seen, now, False
        return seen is not None and now - self._since >= for_s

    def is_news(self, seen: Hashable, now: float, for_s: float) -> bool:
        """Say the same, but of each thing that is seen only once."""
        if not self.is_whole(seen, now, for_s) or self._judged:
            return False
        self._judged = True
        return True
