"""The job directory as a place of work: one owner at a time, and nothing of ours left in it afterwards.

Three names in a job directory are the bridge's own: `shared` (the share), `machine` (the machine's files) and
`.vmbridge.lock`. The lock file is made before the other two and deleted after them. So if it is there, what lies in
them was left by a bridge that was killed, and goes; if it is not, they are somebody else's and are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import HostError, host_trouble
from .guest.folders import remove_tree

SHARED = "shared"
MACHINE = "machine"
LOCK = ".vmbridge.lock"


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folders in which one job works."""

    shared: Path
    machine: Path


@contextmanager
def occupy(directory: Path) -> Iterator[Workplace]:
    """Own `directory` for the time of the block: clean when it begins, clean when it ends.

    :raise HostError: another bridge is at work here, `shared` or `machine` is somebody else's, or the disk does not
        allow it.
    """
    place = Workplace(directory / SHARED, directory / MACHINE)
    lock_file = directory / LOCK
    left_behind = lock_file.exists()
    lock = FileLock(lock_file, timeout=0)
    with host_trouble(f"lock {lock_file}"):
        try:
            lock.acquire()
        except Timeout as error:
            raise HostError(f"another bridge is at work in {directory}. Wait until it has ended") from error
    try:
        if not left_behind:
            _refuse_foreign(place)
        _clean(place)
        with host_trouble(f"make {place.machine}"):
            place.machine.mkdir()
        try:
            yield place
        finally:
            _clean(place)
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held, or it might be the next owner's
        lock.release()


def _refuse_foreign(place: Workplace) -> None:
    for folder in (place.shared, place.machine):
        if folder.exists() or folder.is_symlink():
            raise HostError(
                f"{folder} is there and was not made by the bridge, which uses this name itself. Move it away"
            )


def _clean(place: Workplace) -> None:
    for folder in (place.shared, place.machine):
        with host_trouble(f"remove {folder}"):
            remove_tree(folder)
