"""The record in a slot that the results are home: nothing is left to be done, only to be told to the client."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from protocol.errors import RemoteProtocolError
from protocol.files import Door, write_atomic

from .errors import host_trouble
from .life.accounting import Progress

HOME = ".vmbridge.home"
_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class Home:
    """How the job ended, in the guest's words, its last figures, and whose CPU time the client is told of them."""

    message: str
    progress: Progress
    cpu_time: str = "host"


def write_home(directory: Path, home: Home) -> None:
    """Record that the results are at their places; on the disk when this returns.

    :raise HostError: it could not be written.
    """
    with host_trouble("record that the results are home"):
        write_atomic(directory / HOME, json.dumps(asdict(home)).encode(), durable=True)


def read_home(directory: Path) -> Home | None:
    """Return the record; None if there is none, or it makes no sense: then the job runs, and only time is lost.

    :raise OSError: it cannot be read now.
    """
    try:
        with Door(directory) as door:
            data = door.read(HOME, _LIMIT)
        if data is None:
            return None
        record: Any = json.loads(data)
        return Home(str(record["message"]), Progress(**record["progress"]), str(record["cpu_time"]))
    except (ValueError, KeyError, TypeError, RecursionError, RemoteProtocolError):
        return None
