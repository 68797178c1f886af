"""What a guest without our agent can say and the protocol has no word for."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages import Finished


@dataclass(frozen=True, slots=True)
class Completed(Finished):
    """The work is over; with `notice`, the volunteer is to be shown the message."""

    notice: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """The job is to be started again after `delay_s` seconds; with `notice`, the volunteer must do something first."""

    delay_s: float
    reason: str
    notice: bool = False
