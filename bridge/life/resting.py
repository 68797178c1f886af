"""A program that has asked to be started again later, and when that is worth leaving the computer for (B23).

The guest starts it by itself when its rest is over. So a short one is passed in the machine, which uses no processor
then; for a long one the job leaves, and the client may use the computer for something else.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.files import Door
from protocol.layout import TEMPORARY_EXIT
from protocol.messages import TemporaryExit

from ..guest.said import Postponed

SHORT_S = 60.0
"""The client looks once a minute what it should start, and to leave and to come back costs a checkpoint and a boot. The
least delay that it is told, too, so that a guest that asks again and again cannot keep it busy.
"""

AGAIN_S = 300.0
"""So long after a machine could not be kept for another time, no rest of its program is a reason to leave."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What the guest has said, and when; all times are seconds of one clock."""

    said: TemporaryExit
    heard_at: float

    def left_s(self, now: float) -> float:
        """Return how long it still lasts."""
        return max(0.0, self.said.delay - (now - self.heard_at))

    @property
    def reason(self) -> str:
        """Why, for people; never empty, because the client takes no temporary exit without one."""
        message = " ".join((self.said.message or "").split())
        printable = (char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in message)
        return "".join(printable) or "the program asks to be started again later"

    def postponed(self, now: float) -> Postponed | None:
        """Return as what the job should leave, or None: it should stay."""
        left_s, notice = self.left_s(now), bool(self.said.notice)
        if left_s < SHORT_S and not (notice and left_s > 0):
            return None
        return Postponed(max(left_s, SHORT_S), self.reason, notice)


class Resting:
    """The rest that the guest has told of last, as long as it lasts: its file is there."""

    def __init__(self) -> None:
        self._rest: Rest | None = None
        self._stays_until = 0.0

    def hear(self, message: TemporaryExit, now: float) -> tuple[Rest, bool]:
        """Take what the guest says; return the rest, and whether it is a new one."""
        new = self._rest is None
        self._rest = Rest(message, now)
        return self._rest, new

    def lasts(self, door: Door) -> bool:
        """Look whether there is one."""
        if self._rest is not None and not door.is_there(TEMPORARY_EXIT):
            self._rest = None
        return self._rest is not None

    def left_s(self, now: float) -> float:
        """Return how long it still lasts."""
        return 0.0 if self._rest is None else self._rest.left_s(now)

    def stay(self, now: float) -> None:
        """The machine could not be kept for another time."""
        self._stays_until = now + AGAIN_S

    def postponed(self, now: float) -> Postponed | None:
        """Return as what the job should leave, or None: it should stay."""
        return None if self._rest is None or now < self._stays_until else self._rest.postponed(now)
