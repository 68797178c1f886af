"""Copies of a machine's disk, each named after the newest saved state in it: what breaks one leaves the other.

A qcow2 whose tables are broken loses all states in it at once, so two states in one file are no two generations.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from protocol.files import sync_file, sync_folder

from ...copying import copy_content

_AT_A_TIME = 64 << 20
_ENDING = ".copy.qcow2"


class Copies:
    """The copies of one disk, in its folder. Which of them count is the caller's to know."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    def bytes(self) -> int:
        """Return how large a copy would be now."""
        with contextlib.suppress(FileNotFoundError):
            return self._disk.stat().st_size
        return 0

    async def take(self, tag: str) -> None:
        """Copy the disk, which nobody writes. If it fails or is cancelled, there is no copy.

        :raise OSError: it could not be copied.
        """
        copy = self._file(tag)
        try:
            size = self.bytes()
            for start in range(0, size, _AT_A_TIME):  # a thread cannot be cancelled, but between two it ends
                await asyncio.to_thread(_copy_part, self._disk, copy, start)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise

    async def sync(self, tag: str) -> None:
        """Bring the copy to the disk.

        :raise OSError: it could not be; what of it is there is not known.
        """
        await asyncio.to_thread(_sync, self._file(tag))

    async def put_back(self, tag: str) -> None:
        """Make the copy the disk, in place of what was there. Nothing happens if it is not there (any more).

        :raise OSError: it could not be; everything is as it was.
        """
        with contextlib.suppress(FileNotFoundError):
            self._file(tag).replace(self._disk)
            await asyncio.to_thread(sync_folder, self._disk.parent)

    def forget_all_but(self, tag: str | None) -> None:
        """Delete all copies but one.

        :raise OSError: one could not be deleted.
        """
        for name in copies_in(self._disk.parent):
            if tag is None or name != copy_name(tag):
                (self._disk.parent / name).unlink()

    def _file(self, tag: str) -> Path:
        return self._disk.with_name(copy_name(tag))


def copy_name(tag: str) -> str:
    """Return the name of the copy in which `tag` is the newest state."""
    return tag + _ENDING


def copies_in(folder: Path) -> list[str]:
    """Return the names of all copies in a machine's folder."""
    return [name for name in os.listdir(folder) if name.endswith(_ENDING)]


def _copy_part(source: Path, target: Path, start: int) -> None:
    with source.open("rb") as reading, target.open("r+b" if start else "wb") as writing:
        reading.seek(start)
        writing.seek(start)
        copy_content(reading.fileno(), writing.fileno(), _AT_A_TIME)


def _sync(path: Path) -> None:
    sync_file(path)
    sync_folder(path.parent)
