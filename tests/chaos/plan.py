"""From a seed to the harm of one round, and the matrix of what was hit. Pure."""

from __future__ import annotations

import enum
import errno
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from random import Random


class Step(enum.Enum):
    """Where in its life a job is hit."""

    STAGING = "staging"
    BOOT = "boot"
    RUN = "run"
    PREPARE = "prepare"
    SAVE = "save"
    COMMIT = "commit"  #: the record of a state is written, or has just been
    RESTORE = "restore"  #: as boot, from a state
    LEAVE = "leave"  #: after a quit
    COLLECT = "collect"
    HOME = "home"  #: the record that the results are home
    REMOVE = "remove"
    FINISH = "finish"


class Harm(enum.Enum):
    """What is done to it."""

    BRIDGE = "bridge killed"
    MACHINE = "QEMU killed"
    QUIT = "quit"
    QUIT_KILL = "quit, killed"  #: the client's patience, shortened
    LAST_CALL = "killed at call"
    EIO = "EIO at call"
    ENOSPC = "ENOSPC at call"
    FULL = "disk full"  #: for a while, on a real file system
    POWER = "power cut"  #: the process dies, and what it had not made durable is lost
    CLOCK = "clock jump"  #: the bridge is told another time of day from now on
    GUEST = "guest"  #: the program does something to its machine


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`-th call of `operation` on a path with `path` in it, and `times` - 1 more."""

    operation: str
    path: str
    number: int = 1
    times: int = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One harm at one step, `delay` seconds after the step was seen; `lasts` seconds where it lasts.

    `call` is hit exactly, and `after` says that the process dies when it is done. `order` is the program's. The clock
    jumps by `jump` seconds.
    """

    step: Step
    harm: Harm
    delay: float = 0.0
    lasts: float = 0.0
    call: Call | None = None
    after: bool = False
    order: str = ""
    jump: int = 0

    @property
    def how(self) -> int:
        """What happens at the call, as calls.c reads it."""
        codes = {Harm.EIO: errno.EIO, Harm.ENOSPC: errno.ENOSPC}
        return codes.get(self.harm, -2 if self.after else -1)

    def __str__(self) -> str:
        what = f"{self.harm.value} at {self.step.value}"
        if self.order:
            return f"{what}: {self.order}"
        if self.call is None:
            return f"{what} + {self.delay:.2f} s{f', by {self.jump} s' if self.jump else ''}"
        call = f"{self.call.operation} {self.call.path} #{self.call.number}"
        return f"{what}: {call}, {self.call.times} times{', after it' if self.after else ''}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The harm of one round, one fault for each start; afterwards the job is left in peace."""

    seed: int
    faults: tuple[Fault, ...]


Cell = tuple[Step, Harm]

# How long after a step has been seen it may still be going on, in seconds.
_LASTS = {
    Step.STAGING: 0.1,
    Step.BOOT: 2.5,
    Step.RUN: 4.0,
    Step.PREPARE: 0.6,
    Step.SAVE: 0.3,
    Step.COMMIT: 0.1,
    Step.RESTORE: 1.5,
    Step.LEAVE: 1.5,
    Step.COLLECT: 0.1,
    Step.HOME: 0.05,
    Step.REMOVE: 0.1,
    Step.FINISH: 0.02,
}

_WRITES = ("open", "write", "fsync", "rename")

_CALLS: dict[Step, tuple[tuple[tuple[str, ...], str, int], ...]] = {
    Step.STAGING: (
        (("open",), "/boinc_lockfile", 1),
        (("open",), "/.vmbridge.lock", 1),
        (_WRITES, "vmbridge", 2),
        (("mkdir",), "/machine", 1),
        (("mkdir",), "/shared", 4),
        (("open", "write"), "/shared/host/", 6),
        (("rename",), "/shared/host/", 3),
    ),
    Step.RUN: ((("write",), "/stderr.txt", 8), (("open",), "/shared/guest/", 30), (("open",), "/shared/guest", 1)),
    Step.PREPARE: ((("open", "write", "rename"), "command", 3),),
    Step.COMMIT: ((_WRITES, "/machine/.checkpoints.json", 3), (("rename",), "/machine/checkpoints.json", 3)),
    Step.RESTORE: (
        (("open",), "checkpoints.json", 2),
        (("write", "fsync"), "checkpoints.json", 2),
        (("rename",), "checkpoints.json", 2),
        (("open",), "/machine/spent", 1),
    ),
    Step.LEAVE: (
        (("open", "write", "rename"), "/machine/.spent", 1),
        (("open", "write", "rename"), "command", 4),
        (_WRITES, "checkpoints.json", 4),
        (("unlink",), "shared/", 5),
    ),
    Step.COLLECT: (
        (("open", "write", "fsync"), "/machine/result", 1),
        (("rename",), "/out.txt", 1),
        (("open",), "/shared/guest/out", 2),
    ),
    Step.HOME: ((_WRITES, ".vmbridge.home", 1),),
    Step.REMOVE: ((("unlink",), "/machine/", 3), (("unlink",), "shared/", 5), (("unlink",), "vmbridge", 2)),
    Step.FINISH: ((_WRITES, "boinc_finish_called", 1), (("unlink",), "/boinc_lockfile", 1)),
}

_JUMPS_S = (3600, -3600, 86_400, -86_400)

ORDERS = ("agent", "off", "crash", "self", "hog", "fill")
"""What the program can be told to do: end the agent, switch the machine off, panic, die, be busy, fill its disk."""

_NO_MACHINE = "the bridge ends the machine itself before that"
_NO_CALLS = "the bridge writes nothing then"
_RUNS_ONLY = "there is no program then"

IMPOSSIBLE: dict[Cell, str] = {
    (Step.STAGING, Harm.MACHINE): "there is no machine yet",
    **{(step, Harm.MACHINE): _NO_MACHINE for step in (Step.COLLECT, Step.HOME, Step.REMOVE, Step.FINISH)},
    **{(step, harm): _NO_CALLS for step in (Step.BOOT, Step.SAVE) for harm in (Harm.LAST_CALL, Harm.EIO, Harm.ENOSPC)},
    **{(step, Harm.GUEST): _RUNS_ONLY for step in Step if step is not Step.RUN},
    (Step.LEAVE, Harm.QUIT_KILL): "the same as a kill then",
}

_KILLS = (Harm.QUIT, Harm.BRIDGE, Harm.MACHINE)

CELLS: tuple[Cell, ...] = tuple((step, harm) for step in Step for harm in Harm if (step, harm) not in IMPOSSIBLE)


def plan(seed: int, *, real_disk: bool, harms: Collection[Harm] = tuple(Harm)) -> Plan:
    """Return the plan of a seed; consecutive seeds go through the cells. `real_disk`: one can be filled."""
    random = Random(seed)
    cells = [cell for cell in CELLS if cell[1] in harms and (real_disk or cell[1] is not Harm.FULL)]
    # A step that is prime to their number, so that neighbours are not alike.
    first = cells[seed * 37 % len(cells)]
    faults = [_fault(random, first, real_disk)]
    if first[0] is Step.RESTORE or random.random() < 0.4:
        faults.insert(0, Fault(Step.COMMIT, random.choice(_KILLS), random.random()))
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        faults.append(_fault(random, random.choice(cells), real_disk))
    return Plan(seed, tuple(faults))


def _fault(random: Random, cell: Cell, real_disk: bool) -> Fault:
    step, harm = cell
    delay = random.random() * _LASTS[step]
    match harm:
        case Harm.POWER if step not in _CALLS or random.random() < 0.4:
            return Fault(step, harm, delay)
        case Harm.LAST_CALL | Harm.EIO | Harm.ENOSPC | Harm.POWER:
            operations, path, numbers = random.choice(_CALLS[step])
            times = random.choice((1, 1, 2, 1000)) if harm in (Harm.EIO, Harm.ENOSPC) else 1
            if step is Step.FINISH:
                times = 1  # or it would never end
            call = Call(random.choice(operations), path, random.randint(1, numbers), times)
            return Fault(step, harm, delay, call=call, after=random.random() < 0.5)
        case Harm.GUEST:
            return Fault(step, harm, order=random.choice([one for one in ORDERS if real_disk or one != "fill"]))
        case Harm.CLOCK:
            return Fault(step, harm, delay, jump=random.choice(_JUMPS_S))
        case _:
            return Fault(step, harm, delay, lasts=random.random() * 4)


def matrix(hits: Counter[Cell]) -> str:
    """Return the table of steps and harms with how often each cell was hit; `-` cannot be."""
    head = " " * 10 + "".join(f"{harm.value:>15}" for harm in Harm)
    rows = [head]
    for step in Step:
        cells = ("-" if (step, harm) in IMPOSSIBLE else str(hits[step, harm]) for harm in Harm)
        rows.append(f"{step.value:10}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(rows)


def reasons() -> str:
    """Return why the cells that cannot be hit cannot."""
    by_reason: dict[str, list[str]] = {}
    for (step, harm), reason in IMPOSSIBLE.items():
        by_reason.setdefault(f"{harm.value}: {reason}", []).append(step.value)
    return "\n".join(f"- {reason} ({', '.join(steps)})" for reason, steps in by_reason.items())
