"""How a job ended, in the client's terms: what is written into the slot, and the exit status. Pure.

The client reads three things (boinc-runtime facts, "What the client does for each kind of exit"): the exit status, the
finish file, the temporary exit. Whose move it is decides between them: a broken job or program is an error that the
project gets to see; trouble of the host passes, so the client is asked to start the job again; after an order of the
client's own the process just goes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import BridgeError, GuestError, Hindered, ImageError, JobFileError, NotInstalled, NotPermitted, OverBound
from .failures import MOST_FAILURES
from .life.decide import End, Outcome
from .options import OptionError

EXIT_ABORTED_BY_CLIENT = 194
EXIT_CHILD_FAILED = 195
EXIT_DISK_LIMIT_EXCEEDED = 196
EXIT_INIT_FAILURE = 206

SOON_S = 300.0
"""Trouble that passes by itself. The client looks only once a minute, and gives a job up after 100 such exits."""

WHEN_MENDED_S = 3600.0
"""Trouble that waits for the volunteer. Restarting the client tries again at once."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is over for good: a finish file, and `code` as exit status; 0 is success. With `notice`, the volunteer is
    shown the message.
    """

    code: int
    message: str
    notice: bool = False


@dataclass(frozen=True, slots=True)
class TemporaryExit:
    """Start the job again after `delay_s`; with `notice`, the volunteer must do something first."""

    delay_s: float
    reason: str
    notice: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """Go without a file: the client knows why."""

    code: int


Verdict = Finish | TemporaryExit | Leave


def verdict_of(outcome: Outcome, failures: int = 0) -> Verdict:
    """Judge an outcome; `failures` is how many machines have failed since the job last came further."""
    match outcome.end:
        case End.SUCCESS:
            return Finish(0, outcome.message, outcome.notice)
        case End.INTERRUPTED:
            return Leave(0)
        case End.ABORTED:
            return Leave(EXIT_ABORTED_BY_CLIENT)
        case End.PROGRAM_FAILED:
            # Any other number would be cut to eight bits, and might come out as success.
            code = outcome.code if 0 < outcome.code < 256 else EXIT_CHILD_FAILED
            return Finish(code, outcome.message, outcome.notice)
        case End.POSTPONED:
            return TemporaryExit(outcome.delay_s, outcome.message, outcome.notice)
        case End.GUEST_FAILED:
            return Finish(EXIT_CHILD_FAILED, outcome.message)
        case End.MACHINE_FAILED if failures >= MOST_FAILURES:
            return Finish(EXIT_CHILD_FAILED, f"{outcome.message}; so did {failures - 1} machines before at this point")
        case End.MACHINE_FAILED:
            return TemporaryExit(SOON_S, outcome.message)
        case End.BRIDGE_FAILED:
            assert outcome.error is not None
            return verdict_on(outcome.error)


def verdict_on(error: BridgeError) -> Verdict:
    """Judge an error that ended the job or did not let it begin."""
    match error:
        case JobFileError() | ImageError() | OptionError():
            return Finish(EXIT_INIT_FAILURE, str(error))
        case OverBound():
            return Finish(EXIT_DISK_LIMIT_EXCEEDED, str(error))
        case GuestError():
            return Finish(EXIT_CHILD_FAILED, str(error))
        case Hindered(delay_s=delay_s, notice=notice):
            return TemporaryExit(delay_s, str(error), notice)
        case NotInstalled() | NotPermitted():
            return TemporaryExit(WHEN_MENDED_S, str(error), notice=True)
    return TemporaryExit(SOON_S, str(error))
