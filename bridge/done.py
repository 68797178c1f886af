"""The record in a slot of how many tasks of a job are done, in the file and form of BOINC's wrapper.

`wrapper_checkpoint.txt` holds a line `<tasks done> <CPU time> <run time>`, in seconds, so a slot that an older program
has left goes on here, and whoever reads that file finds what they know. A second line holds the rest of the progress.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from protocol.errors import RemoteProtocolError
from protocol.files import Door, write_atomic

from .errors import host_trouble
from .life.accounting import Progress

DONE = "wrapper_checkpoint.txt"
_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class Done:
    """How many tasks are done, and the job's progress then, or at a later checkpoint of the next one."""

    tasks: int = 0
    progress: Progress = Progress()


class Record(Protocol):
    """Where it is kept which tasks are done."""

    def read(self) -> Done | None: ...

    def write(self, done: Done) -> None: ...


class Unrecorded:
    """For jobs that begin anew at each start, and those that have nothing but a machine, which has a better record."""

    def read(self) -> Done | None:
        """Nothing is done."""
        return None

    def write(self, done: Done) -> None:
        """Nothing is kept."""


class Recorded:
    """The record in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> Done | None:
        """Return the record; None if there is none, or it makes no sense: then the job begins anew.

        :raise HostError: it cannot be read now.
        """
        with host_trouble("read which tasks are done"), Door(self._directory) as door:
            try:
                return _parse(door.read(DONE, _LIMIT))
            except (ValueError, TypeError, OverflowError, RecursionError, RemoteProtocolError):
                return None

    def write(self, done: Done) -> None:
        """Record what is done; on the disk when this returns.

        :raise HostError: it could not be written; the record is as it was.
        """
        progress = done.progress
        first = f"{done.tasks} {progress.cpu_seconds:.6f} {progress.run_seconds:.6f}\n"
        with host_trouble("record which tasks are done"):
            data = first + json.dumps(asdict(progress)) + "\n"
            write_atomic(self._directory / DONE, data.encode(), durable=True)


def _parse(data: bytes | None) -> Done | None:
    if data is None:
        return None
    first, _, rest = data.partition(b"\n")
    tasks, cpu_seconds, run_seconds = first.split()
    if int(tasks) < 0 or not (0.0 <= float(cpu_seconds) < math.inf and 0.0 <= float(run_seconds) < math.inf):
        return None
    if rest.strip():
        record: dict[str, Any] = dict(json.loads(rest))
        may_be_none = {name for name, value in asdict(Progress()).items() if value is None}
        if not all((value is None and name in may_be_none) or abs(value) < math.inf for name, value in record.items()):
            return None
        return Done(int(tasks), Progress(**record))
    cpu = float(cpu_seconds)
    return Done(int(tasks), Progress(cpu_seconds=cpu, checkpoint_cpu_seconds=cpu, run_seconds=float(run_seconds)))
