"""Saved states of a machine, each a folder of its own beside the machine's files: memory, disk, and its .vmx.

VMware writes the memory when it suspends the machine. A folder gets its name when all in it is on the disk, and loses
it before anything in it is deleted; so what has a name is whole, whenever somebody is killed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from protocol.files import sync_file, sync_folder

from ...copying import always, copy_content
from ...errors import CommandFailed
from ...trees import remove_tree
from .vmx import DISK, VMX

_ENDING = ".state"
_UNNAMED = ".unnamed"
_MEMORY = (".vmss", ".vmem")


class States:
    """The saved states in a machine's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of the folders of all states."""
        with contextlib.suppress(FileNotFoundError):
            return [name for name in os.listdir(self._folder) if name.endswith(_ENDING)]
        return []

    def tags(self) -> list[str]:
        """Return the tags of all states."""
        return [name.removesuffix(_ENDING) for name in self.names()]

    def bytes(self) -> int:
        """Return how many bytes one that is saved now would take, beside the memory."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / DISK).stat().st_size
        return 0

    def keep(self, tag: str, memory: Path, wanted: Callable[[], bool] = always) -> Path:
        """Make a state of a machine that is suspended; it is durable when this returns where its memory lies.

        `memory` is the file that VMware has named; it stays where it is.

        :raise CommandFailed: there is one of this name.
        :raise OSError: it could not be made, or is not `wanted` any more; the machine's files are as they were.
        """
        state = self._state(tag)
        if state.exists():
            raise CommandFailed(f"there is a saved state {tag} already")
        new = state.with_suffix(_UNNAMED)
        remove_tree(new)
        new.mkdir()
        _copy(self._folder / DISK, new / DISK, wanted)
        _copy(self._folder / VMX, new / VMX, wanted)
        for file in _files(memory):
            _link(file, new / file.name, wanted)
        for name in os.listdir(new):
            sync_file(new / name)
        sync_folder(new)
        new.rename(state)
        sync_folder(self._folder)
        with contextlib.suppress(OSError):  # it must be gone when the machine goes on, and is looked for again then
            self.forget_memory()
        return state / memory.name

    def put_back(self, tag: str) -> Path:
        """Make the disk and the .vmx of a state those of a machine that is not there; return where its memory lies.

        :raise CommandFailed: there is no such state.
        :raise OSError: it could not be done; the state is as it was.
        """
        state = self._state(tag)
        try:
            memory = next(file for file in state.iterdir() if file.suffix == _MEMORY[0])
        except (FileNotFoundError, StopIteration):
            raise CommandFailed(f"there is no saved state {tag}") from None
        for name in (DISK, VMX):
            new = self._folder / f"{name}{_UNNAMED}"
            _copy(state / name, new)
            new.replace(self._folder / name)
        return memory

    def forget_all_but(self, tags: Collection[str]) -> None:
        """Delete all states but these, and what was not finished.

        :raise OSError: one could not be deleted.
        """
        kept = {self._state(tag).name for tag in tags}
        for name in os.listdir(self._folder):
            path = self._folder / name
            if name.endswith(_ENDING) and name not in kept:
                unnamed = path.with_suffix(_UNNAMED)
                remove_tree(unnamed)
                path = path.rename(unnamed)
            if path.name.endswith(_UNNAMED):
                remove_tree(path)

    def forget_memory(self) -> None:
        """Delete the memory of a machine that goes on from a state: VMware may write over it, and it is the same file.

        :raise OSError: it could not be deleted.
        """
        for name in os.listdir(self._folder):
            if name.endswith(_MEMORY):
                (self._folder / name).unlink()

    def _state(self, tag: str) -> Path:
        return self._folder / f"{tag}{_ENDING}"


def _files(memory: Path) -> list[Path]:
    """Return the files that hold a machine's memory. VMware writes one or two."""
    return [file for file in (memory, memory.with_suffix(_MEMORY[1])) if file.exists()]


def _copy(source: Path, target: Path, wanted: Callable[[], bool] = always) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        copy_content(reading.fileno(), writing.fileno(), os.fstat(reading.fileno()).st_size, wanted)


def _link(source: Path, target: Path, wanted: Callable[[], bool]) -> None:
    """Give a file that is not written any more a second name, where the file system can; else copy it."""
    try:
        os.link(source, target)
    except OSError:
        _copy(source, target, wanted)
