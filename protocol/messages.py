"""What can be said: one frozen dataclass per message, with the wire type of each of its keys beside it.

The dataclasses are the Python form of the table "All messages" in docs/PROTOCOL.md; the codec reads them and holds no
list of keys of its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, TypeAlias


class HostState(enum.Enum):
    """The state that the host wants the guest to be in (B13)."""

    RUN = "run"  #: run the program; after PREPARE: go on
    PREPARE = "prepare"  #: let go of the share, a checkpoint of the machine is coming
    SAVE = "save"  #: have the program save its state now; it runs on
    STOP = "stop"  #: end the program without finishing the task


class GuestState(enum.Enum):
    """How far the guest says it is."""

    BOOTING = "booting"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Wire:
    """How one key is written: its form and bounds, the rule that judges it."""

    form: str
    rule: str
    low: float = 0
    high: float = 0
    many: bool = False
    required: bool = False
    words: type[enum.Enum] | None = None


MAX_COUNT = 2**53 - 1

_MISSING: Any = object()


def _key(wire: Wire, default: Any) -> Any:
    if default is _MISSING:
        return field(metadata={"wire": wire})
    return field(default=default, metadata={"wire": wire})


def _word(words: type[enum.Enum]) -> Any:
    return _key(Wire("word", "R11", words=words, required=True), _MISSING)


def _count(low: int, default: Any = _MISSING) -> Any:
    return _key(Wire("count", "R12", low=low, high=MAX_COUNT, required=default is _MISSING), default)


def _code() -> Any:
    return _key(Wire("code", "R13", low=-(2**31), high=2**31 - 1, required=True), _MISSING)


def _number(high: float, default: Any = None) -> Any:
    return _key(Wire("number", "R14", high=high, required=default is _MISSING), default)


def _name(default: Any = _MISSING) -> Any:
    return _key(Wire("name", "R16", required=default is _MISSING), default)


def _text(default: Any = None) -> Any:
    return _key(Wire("text", "R18", required=default is _MISSING), default)


def _many(form: str, rule: str) -> Any:
    return _key(Wire(form, rule, many=True), ())


@dataclass(frozen=True, slots=True)
class Command:
    """The state that the host wants. `seq` grows with each command; `time` is in seconds since 1970, UTC. After a
    `prepare` the guest stays away from the share for `away` seconds at least (B13).
    """

    seq: int = _count(1)
    state: HostState = _word(HostState)
    time: float | None = _number(1e11)
    away: float | None = _number(60.0)


@dataclass(frozen=True, slots=True)
class Task:
    """Which program to run, and with which files. `checkpoint_period` is in seconds.

    With `program_path` the program is not among the files, but in the guest: an absolute path there, or a name that the
    `PATH` finds. `package` is installed before it starts and removed when it has ended (B22).
    """

    program: str = _name()
    arg: tuple[str, ...] = _many("text", "R18")
    env: tuple[str, ...] = _many("setting", "R17")
    input: tuple[str, ...] = _many("name", "R16")
    output: tuple[str, ...] = _many("name", "R16")
    stdin: str | None = _name(None)
    stdout: str | None = _name(None)
    stderr: str | None = _name(None)
    checkpoint_period: float | None = _number(1e10)
    checkpoint_file: tuple[str, ...] = _many("name", "R16")
    package: tuple[str, ...] = _many("name", "R16")
    program_path: str | None = _text()


@dataclass(frozen=True, slots=True)
class InitData:
    """What the client knows of the job and a program may: names, versions, estimates and bounds.

    Times are seconds, memory and disk bytes; `p_fpops` and `p_iops` are operations per second of one of the host's
    processors, `computation_deadline` is in seconds since 1970, UTC.
    """

    app_name: str | None = _text()
    wu_name: str | None = _text()
    result_name: str | None = _text()
    app_version: int | None = _count(0, None)
    major_version: int | None = _count(0, None)
    minor_version: int | None = _count(0, None)
    release: int | None = _count(0, None)
    ncpus: float | None = _number(1e4)
    rsc_fpops_est: float | None = _number(1e30)
    rsc_fpops_bound: float | None = _number(1e30)
    rsc_memory_bound: float | None = _number(1e30)
    rsc_disk_bound: float | None = _number(1e30)
    wu_cpu_time: float | None = _number(1e10)
    starting_elapsed_time: float | None = _number(1e10)
    computation_deadline: float | None = _number(1e11)
    resource_share_fraction: float | None = _number(1)
    fraction_done_start: float | None = _number(1)
    fraction_done_end: float | None = _number(1)
    p_fpops: float | None = _number(1e30)
    p_iops: float | None = _number(1e30)


@dataclass(frozen=True, slots=True)
class Taken:
    """The highest numbers of trickles, uploads and saved states that were taken for good (B15, B21)."""

    trickle_up: int | None = _count(0, None)
    upload: int | None = _count(0, None)
    saved: int | None = _count(0, None)


@dataclass(frozen=True, slots=True)
class TrickleDown:
    """A message from the project, line by line."""

    text: tuple[str, ...] = _many("text", "R18")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of an upload; 0 is success."""

    status: int = _code()


@dataclass(frozen=True, slots=True)
class Status:
    """The guest's state, its heartbeat counter and the `seq` of the last command it obeyed or refused."""

    state: GuestState = _word(GuestState)
    heartbeat: int = _count(0)
    ack: int | None = _count(1, None)
    refused: int | None = _count(1, None)
    agent: str | None = _text()
    message: str | None = _text()


@dataclass(frozen=True, slots=True)
class FractionDone:
    """How much of the work is done, 0 to 1: the one message that is a bare number."""

    value: float = _key(Wire("fraction", "R15", high=1, required=True), _MISSING)


@dataclass(frozen=True, slots=True)
class CreditReport:
    """Operations and CPU seconds so far, as the guest counts them."""

    fpops: float | None = _number(1e30)
    intops: float | None = _number(1e30)
    cpu_seconds: float | None = _number(1e10)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The program has saved its state `count` times, the last time at `cpu_seconds` of CPU time."""

    count: int = _count(1)
    cpu_seconds: float | None = _number(1e10)


@dataclass(frozen=True, slots=True)
class Finished:
    """The work is over; `code` 0 is success."""

    code: int = _code()
    message: str | None = _text()


MAX_DELAY_S = 86_400
"""The client lets no job wait longer for its next start, in seconds."""


@dataclass(frozen=True, slots=True)
class TemporaryExit:
    """The program has ended and is to be started again in `delay` seconds (B23).

    With a `notice` above 0 the volunteer is shown the message.
    """

    delay: float = _number(MAX_DELAY_S, _MISSING)
    message: str | None = _text()
    notice: int | None = _count(0, None)


@dataclass(frozen=True, slots=True)
class TrickleUp:
    """A message to the project, line by line."""

    variety: str = _text(_MISSING)
    text: tuple[str, ...] = _many("text", "R18")


@dataclass(frozen=True, slots=True)
class Upload:
    """A request to upload the output `name` now."""

    name: str = _name()


@dataclass(frozen=True, slots=True)
class Saved:
    """The program's own state, as these files in `saved/`; its CPU time was `cpu_seconds` at that moment (B21)."""

    file: tuple[str, ...] = _many("name", "R16")
    cpu_seconds: float | None = _number(1e10)


Message: TypeAlias = (
    Command
    | Task
    | InitData
    | Taken
    | TrickleDown
    | Uploaded
    | Status
    | FractionDone
    | CreditReport
    | Checkpoint
    | Finished
    | TemporaryExit
    | TrickleUp
    | Upload
    | Saved
)

VERSIONED: frozenset[type[Message]] = frozenset({Command, Task, Status})
"""The messages that begin with the key `protocol`."""

KINDS: dict[str, type[Message]] = {
    "command": Command,
    "task": Task,
    "init_data": InitData,
    "taken": Taken,
    "trickle_down": TrickleDown,
    "uploaded": Uploaded,
    "status": Status,
    "fraction_done": FractionDone,
    "creditreport": CreditReport,
    "checkpoint": Checkpoint,
    "finished": Finished,
    "temporary_exit": TemporaryExit,
    "trickle_up": TrickleUp,
    "upload": Upload,
    "saved": Saved,
}
"""File name, or the part before its number, to message."""
