"""The folder with all that VirtualBox keeps of a machine: how large it is, made durable, copied whole and put back.

A saved state of VirtualBox's is spread over files: a description, memory, and disks that lie over each other. What
breaks one of them may break all states, so a copy is one of them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from protocol.files import sync_file, sync_folder, write_atomic

from ...copying import copy_content
from ...errors import CommandFailed
from ...trees import remove_tree
from .plan import BOX, DISK, box_of, copy_of, is_copy

_LEFT = "disks.json"
"""In a box of which only disks are left: which, the lowest first."""

_OLD = ".old"
"""What the box becomes for a moment when a copy takes its place."""


class Box:
    """The box of the machine in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._box = box_of(directory)

    def bytes(self) -> int:
        """Return how large a copy would be now."""
        return sum(_sizes(self._box))

    def largest(self) -> int:
        """Return how large the largest file is."""
        return max(_sizes(self._box), default=0)

    def sync(self) -> None:
        """Bring all of it to the disk, whoever has written it.

        :raise OSError: it could not be.
        """
        _sync(self._box)

    def mend(self) -> None:
        """Put a description into its place that VirtualBox was about to put there when it was killed.

        It writes a new one beside it (`-tmp`), moves the one before aside (`-prev`), and then the new one into its
        place: for a moment there is none (seen with 7.2.22).

        :raise OSError: it could not be put there.
        """
        for before in self._box.rglob("*-prev"):
            place = before.with_name(before.name.removesuffix("-prev"))
            if not place.exists():
                new = place.with_name(f"{place.name}-tmp")
                (new if _is_whole(new) else before).replace(place)

    def forget_strays(self) -> None:
        """Delete disks and memory that are named nowhere, because something was cut short.

        :raise OSError: one could not be deleted.
        """
        descriptions = (*self._box.rglob("*.vbox"), *self._box.rglob("VirtualBox.xml"))
        known = "".join(file.read_text(encoding="utf-8", errors="replace") for file in descriptions)
        for file in (*self._box.rglob("*.sav"), *self._box.rglob("{*}.vdi")):
            if file.name not in known:
                file.unlink(missing_ok=True)

    async def copy(self, tag: str) -> None:
        """Copy it. If that fails or is cancelled, there is no copy.

        :raise OSError: it could not be copied.
        """
        target = copy_of(self._directory, tag)
        unwanted = threading.Event()
        copying = asyncio.ensure_future(asyncio.to_thread(_copy, self._box, target, lambda: not unwanted.is_set()))
        try:
            await asyncio.shield(copying)
        except BaseException:
            unwanted.set()
            with contextlib.suppress(OSError):
                await copying
            remove_tree(target)
            raise

    async def sync_copy(self, tag: str) -> None:
        """Bring the copy to the disk.

        :raise OSError: it could not be.
        """
        await asyncio.to_thread(_sync, copy_of(self._directory, tag))
        await asyncio.to_thread(sync_folder, self._directory)

    async def put_back(self, tag: str) -> None:
        """Make the copy the box. Nothing happens if it is not there (any more).

        No name can be taken from a folder that is not empty; so for a moment there is the copy and no box, and who
        comes then puts it back once more.

        :raise OSError: it could not be; the copy is as it was.
        """
        copy, old = copy_of(self._directory, tag), self._box.with_name(self._box.name + _OLD)
        if copy.exists():
            remove_tree(old)
            with contextlib.suppress(FileNotFoundError):
                self._box.rename(old)
            copy.rename(self._box)
            await asyncio.to_thread(sync_folder, self._directory)
        remove_tree(old)

    def forget_copies(self, but: str | None) -> None:
        """Delete all copies but one.

        :raise OSError: one could not be deleted.
        """
        for name in os.listdir(self._directory):
            if is_copy(name) and (but is None or name != copy_of(self._directory, but).name):
                remove_tree(self._directory / name)

    def remove(self) -> None:
        """Delete all of it, with all copies.

        :raise OSError: something could not be deleted.
        """
        self.forget_copies(None)
        for folder in (self._box.with_name(self._box.name + _OLD), self._box):
            remove_tree(folder)


def leave_disks(directory: Path) -> None:
    """Delete all that lies in the folder of a machine that has ended but the disks that it had then.

    Which lie over which is noted first. May be called again, and the folder may have got another name meanwhile.

    :raise HypervisorError: nobody knows which disks these are; nothing was deleted.
    :raise OSError: something could not be deleted.
    """
    box = box_of(directory)
    if not (box / _LEFT).exists():
        Box(directory).mend()
        try:
            [description] = box.glob("*/*.vbox")
            disks = disks_in(description.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise CommandFailed(f"it is not known which disks {directory} has: {error}") from error
        own = max(number for number, disk in enumerate(disks) if Path(disk).name == DISK)
        found = [*disks[:own], DISK, *(f"{description.parent.name}/{disk}" for disk in disks[own + 1 :])]
        write_atomic(box / _LEFT, json.dumps(found).encode(), durable=True)
    kept = {box / _LEFT, *(box / disk for disk in json.loads((box / _LEFT).read_bytes()))}
    for name in os.listdir(directory):
        if name != BOX:
            remove_tree(directory / name)
    for path in sorted(box.rglob("*"), reverse=True):  # what is in a folder before the folder
        if not any(disk == path or path in disk.parents for disk in kept):
            remove_tree(path)
    for disk in kept:
        if disk.is_relative_to(box):
            disk.chmod(0o444)


def disks_left(directory: Path) -> list[str]:
    """Return the disks that were left in the folder of a machine, each of which lies over the one before.

    :raise OSError: it is not known.
    """
    return [str(box_of(directory) / disk) for disk in json.loads((box_of(directory) / _LEFT).read_bytes())]


def disks_in(description: str) -> list[str]:
    """Return where the disks are that a machine has now, the lowest first, by VirtualBox's own description of it.

    :raise ValueError: it cannot be read, or does not tell.
    """
    try:
        machine = ElementTree.fromstring(description).find("{*}Machine")
        if machine is not None:
            now = [part for part in machine if not part.tag.endswith("}Snapshot")]
            devices = [device for part in now for device in part.iterfind(".//{*}AttachedDevice[@type='HardDisk']")]
            [wanted] = [image.get("uuid") for device in devices for image in device.iterfind("{*}Image")]
            for disk in machine.iterfind("{*}MediaRegistry/{*}HardDisks/{*}HardDisk"):
                if way := _way(disk, wanted):
                    return way
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    raise ValueError("its description names no disk")


def _way(disk: ElementTree.Element, wanted: str | None) -> list[str]:
    here = [disk.get("location", "")]
    if disk.get("uuid") == wanted:
        return here
    ways = (_way(above, wanted) for above in disk.iterfind("{*}HardDisk"))
    return next(([*here, *way] for way in ways if way), [])


def tags_in_box(box: Path) -> set[str] | None:
    """Return the tags of the saved states in a box, or a copy of one, by VirtualBox's own description of the machine.

    None where there is none that could be read.
    """
    tags = set()
    try:
        for file in [*box.glob("*/*.vbox")] or [box / "no machine"]:
            tags.update(re.findall(r'<Snapshot\s[^>]*\bname="([^"]*)"', file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return tags


def _is_whole(description: Path) -> bool:
    try:
        ElementTree.fromstring(description.read_bytes())
    except (OSError, ElementTree.ParseError):
        return False
    return True


def _sizes(folder: Path) -> Iterator[int]:
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if file.is_file():
                yield file.stat().st_size


def _sync(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            sync_file(path)


def _copy(source: Path, target: Path, wanted: Callable[[], bool]) -> None:
    target.mkdir()
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir()
        elif path.is_file():
            with path.open("rb") as reading, there.open("wb") as writing:
                copy_content(reading.fileno(), writing.fileno(), os.fstat(reading.fileno()).st_size, wanted)
