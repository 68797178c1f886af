"""What a program says through its files: how far it is, and that it has saved its state.

They may be anything: a pipe, a folder, gigabytes. Nothing is waited for, and no more is read than the end.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

FRACTION_BYTES = 32
"""So much of the end of its file is read for a fraction, as BOINC's wrapper does."""

_NUMBER = re.compile(rb"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")


def fraction_in(end: bytes) -> float | None:
    """Return the number at the beginning of the last line that has one, not below 0 and not above 1. Pure."""
    numbers = (_NUMBER.match(line) for line in end.split(b"\n"))
    found = [float(number[1]) for number in numbers if number]
    return min(max(found[-1], 0.0), 1.0) if found else None


def fraction_of(file: Path) -> float | None:
    """Return how far a program is by its `file`, None if it does not say."""
    return fraction_in(end_of(file, FRACTION_BYTES))


def end_of(file: Path, size: int) -> bytes:
    """Return the last bytes of a regular file, none if it is something else or cannot be read."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a device may do something
            return b""
        fd = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            known = os.fstat(fd)
            if not stat.S_ISREG(known.st_mode):
                return b""
            os.lseek(fd, max(known.st_size - size, 0), os.SEEK_SET)
            return os.read(fd, size)
        finally:
            os.close(fd)
    except OSError:
        return b""


class Saving:
    """Notices that a program has written its checkpoint file again."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._changed: int | None = None

    def seen(self) -> bool:
        """Say whether the file has changed since the last look. The first sight of it says nothing."""
        if self._file is None:
            return False
        try:
            changed = self._file.stat().st_mtime_ns
        except OSError:
            return False
        before, self._changed = self._changed, changed
        return before is not None and changed != before
