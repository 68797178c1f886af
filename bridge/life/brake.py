"""Work in a thread that stands still, goes on or is given up as the loop says, between two pieces of it."""

from __future__ import annotations

import threading


class GivenUp(Exception):
    """Nobody wants the work any more that a `Brake` was passed to."""


class Brake:
    """What the loop holds, and the work calls before each piece."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held = False
        self._given_up = False

    def hold(self, held: bool) -> None:
        """Let the work stand still before its next piece, or go on."""
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def give_up(self) -> None:
        """End the work before its next piece, also if it stands still, and all work to come."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def __call__(self) -> None:
        """Return when the work may go on.

        :raise GivenUp: it is to end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or not self._held)
            if self._given_up:
                raise GivenUp
