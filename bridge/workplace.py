"""The job directory as a place of work: one owner at a time, and nothing of ours left in it afterwards.

Four names in a job directory are the bridge's own: `shared` (the share), `machine` (the machine's files, which may be
kept for the next owner; `.vmbridge.machine.0` and so on are those of earlier tasks), a lock and a mark. The mark is
made when it is certain that `shared` and `machine` are not there, and deleted when they are gone again. So where it
stands, what lies in them was left by a bridge that was killed or will go on, and is ours; where it does not, they are
somebody else's and are not touched.

A guest without our agent shares `shared` with the client, which may have put inputs there, and takes outputs from it
when we have gone. That one is only ours to look after: it is found as it is, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from protocol.files import sync_folder, write_atomic

from .errors import HostError, host_trouble
from .trees import remove_tree

SHARED = "shared"
MACHINE = "machine"
LOCK = ".vmbridge.lock"
MARK = ".vmbridge"

_MARK_TEXT = b"The folders 'shared' and 'machine' beside this file are the VM bridge's and will be deleted.\n"
_MACHINE_MARK_TEXT = b"The folder 'machine' beside this file is the VM bridge's and will be deleted.\n"


@dataclass(slots=True)
class Workplace:
    """The folders in which one job works. With `keep_machine`, the machine's is left for the next owner.

    That is so from the beginning if the last owner left one that is wanted: only who knows better may let it go. With
    `shared_stays`, `shared` is not the bridge's own.
    """

    shared: Path
    machine: Path
    keep_machine: bool = False
    shared_stays: bool = False

    def aside(self) -> dict[int, Path]:
        """Return the machines that were set aside, by the numbers of their tasks."""
        pattern = re.compile(re.escape(self._aside(0).stem) + r"\.([0-9]{1,9})")
        found = ((pattern.fullmatch(path.name), path) for path in self.machine.parent.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def set_aside(self, number: int) -> None:
        """Put what lies in the machine's folder aside, as that of the task `number`, and make a new folder.

        :raise HostError: it could not be; nothing is lost.
        """
        with host_trouble(f"set {self.machine} aside"):
            self.machine.rename(self._aside(number))
            self.machine.mkdir()
            sync_folder(self.machine.parent)

    def _aside(self, number: int) -> Path:
        """Such a name no output and no member of an archive can have."""
        return self.machine.with_name(f"{MARK}.{self.machine.name}.{number}")

    def folders(self) -> list[Path]:
        """Return all that is the bridge's own here."""
        return [*self._share(), self.machine, *self.aside().values()]

    def _share(self) -> list[Path]:
        return [] if self.shared_stays else [self.shared]

    def clear(self) -> None:
        """Remove the share, and the machine with all that was set aside unless it is to be kept.

        :raise HostError: something could not be removed.
        """
        for folder in self._share() if self.keep_machine else self.folders():
            _remove(folder)


@contextmanager
def occupy(
    directory: Path, worth_keeping: Callable[[Path], bool] = lambda machine: False, *, shared_stays: bool = False
) -> Iterator[Workplace]:
    """Own `directory` for the time of the block: clean when it begins, clean when it ends.

    `worth_keeping` looks at a machine's folder that the last owner left, and says whether this one wants it. With
    `shared_stays`, nothing is done about the folder `shared`; nor where the last owner said so and was cut off.

    :raise HostError: another bridge is at work here, `shared` or `machine` is somebody else's, or the disk does not
        allow it. What could not be deleted is marked, and the next owner tries again.
    """
    place = Workplace(directory / SHARED, directory / MACHINE, shared_stays=shared_stays)
    with own(directory), _marked(directory / MARK, place):
        place.keep_machine = worth_keeping(place.machine)
        place.clear()
        with host_trouble(f"make {place.machine}"):
            place.machine.mkdir(exist_ok=True)
            sync_folder(directory)  # a state that is recorded in it is of no use without its name
        try:
            yield place
        finally:
            place.clear()


@contextmanager
def own(directory: Path) -> Iterator[None]:
    """Be the only bridge that is at work in `directory` for the time of the block.

    :raise HostError: another one is, or the disk does not allow it.
    """
    file = directory / LOCK
    lock = FileLock(file, timeout=0)
    with host_trouble(f"lock {file}"):
        try:
            lock.acquire()
        except Timeout as error:
            raise HostError(f"another bridge is at work in {file.parent}. Wait until it has ended") from error
    try:
        yield
    finally:
        # Deleted while it is held: after the release it might be the next owner's. filelock notices if somebody waits
        # on a lock file that has no name any more.
        with host_trouble(f"unlock {file}"):
            file.unlink(missing_ok=True)
            lock.release()


@contextmanager
def _marked(mark: Path, place: Workplace) -> Iterator[None]:
    with host_trouble(f"read {mark}"):
        marked = mark.read_bytes() if mark.exists() else None
    if marked is None:
        _refuse_foreign(place)
        with host_trouble(f"write {mark}"):
            write_atomic(mark, _MACHINE_MARK_TEXT if place.shared_stays else _MARK_TEXT, durable=True)
    elif marked == _MACHINE_MARK_TEXT:
        place.shared_stays = True
    try:
        yield
    finally:
        if not any(folder.exists() for folder in place.folders()):
            with host_trouble(f"remove {mark}"):
                mark.unlink(missing_ok=True)


def _refuse_foreign(place: Workplace) -> None:
    for folder in place.folders():
        if folder.exists() or folder.is_symlink():
            raise HostError(
                f"{folder} is there and was not made by the bridge, which uses this name itself. Move it away"
            )


def _remove(folder: Path) -> None:
    with host_trouble(f"remove {folder}"):
        remove_tree(folder)
