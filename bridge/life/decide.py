"""Collected facts -> how the job ended. Pure; the facts may have come in any order."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from protocol.messages import Finished

from ..errors import BridgeError, HostError, HypervisorError
from ..guest.said import Completed, Postponed


@dataclass(slots=True)
class Facts:
    """What is known about the end of a job. Each field is filled in where it is learned, and judged only here."""

    interrupted: bool = False
    aborted: bool = False
    finished: Finished | None = None
    collected: bool = False
    errors: list[BridgeError] = field(default_factory=list)
    guest_error: str | None = None
    postponed: Postponed | None = None
    machine_gone: str | None = None
    lost: str | None = None
    stderr: str = ""
    console: str = ""


class End(enum.Enum):
    """The ways in which a job ends."""

    SUCCESS = "success"
    INTERRUPTED = "interrupted"  #: it may go on another time
    ABORTED = "aborted"  #: nobody wants it any more
    POSTPONED = "postponed"  #: the guest says that it cannot go on now
    PROGRAM_FAILED = "program failed"
    GUEST_FAILED = "guest failed"  #: it says itself that it cannot
    MACHINE_FAILED = "machine failed"  #: it ended, or the guest is silent
    BRIDGE_FAILED = "bridge failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: for people `message` and `details` (the end of what the program or the console printed).

    `code` is the program's, where it ended by itself. With `notice` the guest wants the volunteer to be told, and
    after `delay_s` seconds to be started again, where it has postponed the job.
    """

    end: End
    message: str
    details: str = ""
    error: BridgeError | None = None
    code: int = 0
    notice: bool = False
    delay_s: float = 0.0


DETAIL_LINES = 20


def decide(facts: Facts) -> Outcome:
    """Judge the facts, the one that explains the others first.

    A program that failed also leaves outputs missing, and a machine that was removed is gone: so the order matters.
    Success is only what was brought home: a guest may say that it has finished when it is too late to collect.
    """
    finished = facts.finished
    notice = isinstance(finished, Completed) and finished.notice
    if finished is not None and finished.code == 0 and facts.collected:
        return Outcome(End.SUCCESS, finished.message or "finished", notice=notice)
    if facts.aborted:
        return Outcome(End.ABORTED, "aborted")
    if facts.interrupted:
        return Outcome(End.INTERRUPTED, "interrupted before the results were complete")
    if finished is not None and finished.code != 0:
        reason = f": {finished.message}" if finished.message else ""
        message = f"the program ended with code {finished.code}{reason}"
        return Outcome(End.PROGRAM_FAILED, message, last_lines(facts.stderr), code=finished.code, notice=notice)
    if facts.errors:
        error = facts.errors[0]
        return Outcome(End.BRIDGE_FAILED, str(error), last_lines(facts.stderr), error)
    if (postponed := facts.postponed) is not None:
        return Outcome(End.POSTPONED, postponed.reason, notice=postponed.notice, delay_s=postponed.delay_s)
    if facts.guest_error is not None:
        return Outcome(
            End.GUEST_FAILED, f"the guest cannot run the task: {facts.guest_error}", last_lines(facts.console)
        )
    if facts.machine_gone is not None:
        message = f"the machine ended before the program had finished: {facts.machine_gone}"
        return Outcome(End.MACHINE_FAILED, message, last_lines(facts.console))
    assert facts.lost is not None, "a job ended without a reason"
    return Outcome(End.MACHINE_FAILED, facts.lost, last_lines(facts.console))


def machine_failed(facts: Facts) -> bool:
    """Say whether what ended the job is that its machine ended by itself, or that its guest was lost."""
    return (facts.machine_gone or facts.lost) is not None and decide(facts).end is End.MACHINE_FAILED


def may_go_on(facts: Facts) -> bool:
    """Say whether the job may succeed another time, from its last checkpoint: what ended it was not its own doing.

    Where nothing is known, because the bridge itself is broken, it may.
    """
    if facts == Facts(stderr=facts.stderr, console=facts.console):
        return True
    return goes_on(decide(facts))


def goes_on(outcome: Outcome) -> bool:
    """Say whether a job that ended so may succeed another time."""
    if outcome.end is End.BRIDGE_FAILED:
        return isinstance(outcome.error, HypervisorError | HostError)
    return outcome.end in (End.INTERRUPTED, End.POSTPONED, End.MACHINE_FAILED)


def last_lines(text: str) -> str:
    """Return the end of foreign text, safe to print: the last lines without anything that a terminal would obey."""
    lines = text.replace("\r", "\n").split("\n")
    printable = (
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line) for line in lines
    )
    return "\n".join([line[:500] for line in printable if line.strip()][-DETAIL_LINES:])
