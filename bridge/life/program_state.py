"""What the program itself has saved: the files that its job names, as one complete set on the host's disk, or none.

It is the checkpoint that fails apart from the machine's: plain files, which any machine can take up, of any QEMU, also
where machines cannot be saved at all. A set is a folder under a number of its own. It is written under another name,
synced, and renamed; only then the one before goes. So whatever is cut off at whatever instant, one whole set is there,
or none was ever told to the guest as taken. What it says is between the program and itself; what a power cut or a disk
has done to it is found out by digests.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_folder
from protocol.layout import SAVED
from protocol.messages import CreditReport

from ..copying import always, copy_content
from ..digest import sha256_of
from ..errors import GuestError, HostError, host_trouble
from ..trees import remove_tree
from .accounting import Progress, account, at_checkpoint

logger = getLogger(__name__)

FORMAT = "vmbridge-program-state 1"
FOLDER = "saved"
NEW = "new"
RECORD = ".record.json"
"""Beside the files of a set, whose names never begin with a point."""


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """One whole set: where the files lie, and how far the job was then."""

    number: int
    files: Mapping[str, Path]
    progress: Progress


class ProgramState:
    """The newest set of one job, in a folder of the machine's. What takes time is called in a thread."""

    def __init__(self, folder: Path, names: Collection[str], room: Callable[[int], str | None]) -> None:
        """`names` are the files that may be in a set; `room` says why there is none for so many bytes more, or None."""
        self._folder = folder / FOLDER
        self._names = frozenset(names)
        self._room = room
        self.newest: SavedFiles | None = None

    def find(self) -> None:
        """Find the newest set that is as it was written, and delete everything else.

        :raise OSError: the disk cannot be read now.
        """
        remove_tree(self._folder / NEW)
        self.newest = None
        for number in _numbers(self._folder):
            if self.newest is None:
                try:
                    self.newest = read_set(self._folder / str(number))
                    continue
                except ValueError as error:
                    logger.warning("what the program has saved (%d) is broken and is not used: %s", number, error)
            remove_tree(self._folder / str(number))

    def take(
        self,
        door: Door,
        names: Collection[str],
        progress: Progress,
        cpu_seconds: float | None,
        wanted: Callable[[], bool] = always,
    ) -> None:
        """Copy these files of `saved/` in the guest's folder; the set is the newest, and durable, when this returns.

        `progress` is the job's at that moment, `cpu_seconds` what the program says of its own CPU time. It is cut off
        when it is not `wanted` any more.

        :raise GuestError: there is no whole set of the task's files.
        :raise HostError: there is no room, or it cannot be written; what was kept before is as it was.
        """
        if not names or not self._names.issuperset(names):
            raise GuestError(f"it is no set of the task's checkpoint files: {', '.join(sorted(names))[:200]}")
        new = self._folder / NEW
        with host_trouble("keep what the program has saved"):
            self._make_folders(new)
            try:
                record = self._copy_all(door, sorted(set(names)), new, wanted)
                progress = at_checkpoint(account(progress, CreditReport(cpu_seconds=cpu_seconds)))
                _write(new / RECORD, {"format": FORMAT, "files": record, "progress": asdict(progress)})
                sync_folder(new)
                number = max(_numbers(self._folder), default=0) + 1
                new.rename(self._folder / str(number))
            except BaseException:
                with contextlib.suppress(OSError):
                    remove_tree(new)
                raise
            sync_folder(self._folder)
        self.newest = _set(number, self._folder / str(number), record, progress)
        self._forget_older(number)

    def _make_folders(self, new: Path) -> None:
        remove_tree(new)
        if not self._folder.exists():
            self._folder.mkdir()
            sync_folder(self._folder.parent)
        new.mkdir()

    def _copy_all(self, door: Door, names: Collection[str], target: Path, wanted: Callable[[], bool]) -> dict[str, Any]:
        sizes = {}
        for name in names:
            with _opened(door, name) as source:
                sizes[name] = os.fstat(source).st_size
        if reason := self._room(sum(sizes.values())):
            raise HostError(f"what the program has saved must wait: {reason}")
        record = {}
        for name, size in sizes.items():
            with _opened(door, name) as source, (target / name).open("xb") as file:
                if copy_content(source, file.fileno(), size, wanted) != size or os.fstat(source).st_size != size:
                    raise GuestError(f"saved/{name} has changed while it was copied")
                os.fsync(file.fileno())
            record[name] = {"size": size, "sha256": sha256_of(target / name)}
        return record

    def _forget_older(self, number: int) -> None:
        try:
            for older in _numbers(self._folder):
                if older < number:
                    remove_tree(self._folder / str(older))
        except OSError as error:
            logger.warning("what the program had saved before stays: %s", error)


@contextlib.contextmanager
def _opened(door: Door, name: str) -> Iterator[int]:
    try:
        fd = door.open(f"{SAVED}/{name}")
    except FileNotFoundError:
        raise GuestError(f"saved/{name} is missing") from None
    except RemoteProtocolError as error:
        raise GuestError(f"saved/{name} cannot be taken: {error.reason}") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _write(file: Path, record: Mapping[str, Any]) -> None:
    with file.open("x", encoding="ascii") as opened:
        json.dump(record, opened, indent=1)
        opened.flush()
        os.fsync(opened.fileno())


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the sets, newest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def any_saved(machine: Path) -> bool:
    """Say whether there is a set in the machine's folder."""
    return bool(_numbers(machine / FOLDER))


def newest_set(machine: Path) -> SavedFiles | None:
    """Return the newest set in the machine's folder, touching nothing; None if there is none.

    :raise ValueError: it is broken.
    :raise OSError: it cannot be read.
    """
    numbers = _numbers(machine / FOLDER)
    return read_set(machine / FOLDER / str(numbers[0])) if numbers else None


def read_set(folder: Path) -> SavedFiles:
    """Read one set and check every byte of it.

    :raise ValueError: it is not as it was written; the text says why.
    :raise OSError: it cannot be read.
    """
    try:
        record = json.loads((folder / RECORD).read_bytes())
        if record["format"] != FORMAT:
            raise ValueError(f"it is of another version: {record['format']}")
        progress = Progress(**record["progress"])
        for name, known in record["files"].items():
            file = folder / name
            if file.stat().st_size != known["size"] or sha256_of(file) != known["sha256"]:
                raise ValueError(f"{name} is not what was written")
        return _set(int(folder.name), folder, record["files"], progress)
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its record makes no sense: {error!r}") from error


def _set(number: int, folder: Path, record: Mapping[str, Any], progress: Progress) -> SavedFiles:
    return SavedFiles(number, {name: folder / name for name in record}, progress)
