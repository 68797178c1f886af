"""What a job takes of the volunteer's disk, counted as the client counts it, within bounds that no guest can stretch.

The client looks every five minutes, and ends a job that takes more than its bound with one line that says no more.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import OverBound

LOOK_EVERY_S = 20.0

MOST_FILES = 50_000
MOST_DEPTH = 16
"""A guest that keeps to the protocol needs a dozen files and two levels. One that does not could have the host list
folders for ever, or hide what it wrote below a path that is too long to be named."""


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def used_bytes(folder: Path) -> int:
    """Return the apparent size of all files below `folder`, which may change meanwhile; links are not followed.

    :raise OverBound: there are too many files, or folders in folders, to tell.
    """
    return sum(_sizes(str(folder), None, MOST_DEPTH, itertools.count(1)))


def _sizes(name: str, within: int | None, depth: int, number: Iterator[int]) -> Iterator[int]:
    """Yield the size of each file below the folder `name`, seen from the open folder `within`."""
    try:
        opened = os.open(name, _FOLDER, dir_fd=within)
    except OSError:  # it has just gone
        return
    try:
        if depth < 0:
            raise OverBound(f"there are folders more than {MOST_DEPTH} deep in the job's folder")
        with os.scandir(opened) as entries:
            for entry in entries:
                if next(number) > MOST_FILES:
                    raise OverBound(f"there are more than {MOST_FILES:,} files in the job's folder")
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    yield from _sizes(entry.name, opened, depth - 1, number)
                else:
                    yield status.st_size
    finally:
        os.close(opened)


def over_bound(used: int, bound: float) -> OverBound | None:
    """Say that `used` bytes are more than `bound`, of which 0 is none."""
    if not 0 < bound < used:
        return None
    return OverBound(
        f"the job takes {used >> 20:,} MB of the disk, and the project allows it {int(bound) >> 20:,} (rsc_disk_bound)"
    )
