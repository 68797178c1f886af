"""What the client makes of a process that has ended: its exit status, and two files in the slot. Pure.

Linux; observed on clients 7.20.5 and 8.2.15.
"""

from __future__ import annotations

import enum
import re
import signal
from dataclasses import dataclass

ERR_TOO_MANY_EXITS = -226
MAX_PREMATURE_EXITS = 100
"""So many exits without a checkpoint between them are forgiven."""

MAX_DELAY_S = 86_400
DEFAULT_DELAY_S = 300

_REASON_BUFFER = 256
_MESSAGE_BUFFER = 1024

_HARMLESS = frozenset(signal.Signals[name] for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM", "SIGSTOP"))


class TaskState(enum.Enum):
    """What the client has asked of the process before it ended."""

    EXECUTING = "executing"
    QUIT_PENDING = "quit pending"
    ABORT_PENDING = "abort pending"


class End(enum.Enum):
    """What becomes of the job."""

    SUCCESS = "success"
    ERROR = "computation error"  #: `code` goes to the project
    ABORTED = "aborted"
    TEMPORARY_EXIT = "temporary exit"  #: started again after `delay_s`
    PREMATURE_EXIT = "premature exit"  #: started again at once; counted
    RESTART = "restart"  #: started again; not counted
    LATER = "later"  #: it did what it was asked to: started again when the client likes


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What becomes of the job, and what the volunteer gets to read."""

    end: End
    code: int = 0
    delay_s: int = 0
    reason: str = ""
    notice: bool = False


def conclude(
    status: int,
    *,
    finish_file: str | None = None,
    temporary_exit: str | None = None,
    state: TaskState = TaskState.EXECUTING,
    premature_exits: int = 0,
) -> Conclusion:
    """Judge a process that a running client has seen end.

    `status` is the exit status, or minus the number of the signal that killed the process. `finish_file` and
    `temporary_exit` are the contents of the files, None where there is none. `premature_exits` were counted before.
    """
    if state is TaskState.ABORT_PENDING:
        return Conclusion(End.ABORTED)
    if state is TaskState.QUIT_PENDING:
        return Conclusion(End.LATER)
    if status < 0:
        return _killed(-status)
    if temporary_exit is not None and (postponed := _temporary(temporary_exit)) is not None:
        return _counted(postponed, premature_exits)
    if status:
        return Conclusion(End.ERROR, code=status)
    if finish_file is None:
        return _counted(Conclusion(End.PREMATURE_EXIT), premature_exits)
    return _finished(finish_file)


def conclude_at_start(finish_file: str) -> Conclusion:
    """Judge a job whose finish file a client finds when it starts; its process ended while there was no client.

    The number in the file counts here, and it is taken for what wait(2) returns: 0 is success, a small number is the
    signal that killed the process.
    """
    match = re.match(r"\s*(-?\d+)", finish_file)
    raw = int(match[1]) if match else 0
    if raw == 0:
        return _finished(finish_file)
    low = raw & 0x7F
    if low == 0:
        return Conclusion(End.ERROR, code=raw >> 8 & 0xFF)
    if low == 0x7F:
        return Conclusion(End.ERROR, code=raw, reason="process exited for unknown reason")
    return _killed(low)


def _killed(number: int) -> Conclusion:
    if number in _HARMLESS:
        return Conclusion(End.RESTART)
    return Conclusion(End.ERROR, code=number, reason=f"process got signal {number}")


def _temporary(text: str) -> Conclusion | None:
    """Read a temporary exit; None if it does not count, which is so without a second line."""
    lines = _lines(text, _REASON_BUFFER)
    if len(lines) < 2:
        return None
    match = re.match(r"\s*([+-]?\d+)", lines[0])
    delay = int(match[1]) if match else -1
    if not 0 <= delay <= MAX_DELAY_S:
        delay = DEFAULT_DELAY_S
    return Conclusion(End.TEMPORARY_EXIT, delay_s=delay, reason=lines[1], notice=_notice(lines))


def _finished(text: str) -> Conclusion:
    lines = _lines(text, _MESSAGE_BUFFER)
    message = lines[1] if len(lines) > 2 else ""
    return Conclusion(End.SUCCESS, reason=message, notice=_notice(lines))


def _lines(text: str, buffer: int) -> list[str]:
    """Read as C does, into a buffer: what is left of a line that is too long, be it only its end, is the next line."""
    found = []
    for line in text.encode().splitlines(keepends=True):
        found += [line[start : start + buffer - 1] for start in range(0, len(line), buffer - 1)]
    return [piece.decode("utf-8", "replace").strip() for piece in found]


def _notice(lines: list[str]) -> bool:
    return len(lines) > 2 and "notice" in lines[2]


def _counted(conclusion: Conclusion, before: int) -> Conclusion:
    return conclusion if before < MAX_PREMATURE_EXITS else Conclusion(End.ERROR, code=ERR_TOO_MANY_EXITS)
