"""What a power cut leaves of a folder: from the journal of power.c, lose what its writer had not made durable.

Names go as a journaling file system loses them: the last ones, from a random moment on, in reverse order, but for those
in a folder that was synced since. Data that was not synced is whole, cut short, zeros or gone, also where the name of
the file is durable. What others have written (QEMU its disk) is as it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

KEPT = "stderr.txt"
"""Nothing is lost of this file: it is the judge's witness."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a name, the `index`-th line of the journal. `grave` is another name of the file that lost `path`."""

    index: int
    kind: str
    path: Path
    inode: int = 0
    source: Path | None = None
    grave: Path | None = None

    def is_in(self, folder: Path) -> bool:
        """A sync of `folder` makes it durable."""
        return folder == self.path.parent or (self.source is not None and folder == self.source.parent)


@dataclass(slots=True)
class Pending:
    """What is not durable: changes of names, in order, and files, with how many of their bytes are safe."""

    changes: list[Change] = field(default_factory=list)
    safe: dict[int, int] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)


def pending(lines: Iterable[str]) -> Pending:
    """Read a journal. Pure."""
    left = Pending()
    for index, line in enumerate(lines):
        kind, *words = line.split("\t")
        match kind:
            case "data":
                inode = int(words[0])
                left.written[inode] = index
                left.safe[inode] = min(left.safe.get(inode, 0), int(words[1]))
            case "sync":
                inode, size, upto = (int(word) for word in words[:3])
                left.safe[inode] = size
                if left.written.get(inode, -1) < upto:
                    left.written.pop(inode, None)
            case "names":
                left.changes = _without(left.changes, _path(words[1]), int(words[0]))
            case _:
                left.changes.append(_change(index, kind, words))
    return left


def _change(index: int, kind: str, words: list[str]) -> Change:
    match kind:
        case "mkdir" | "rmdir":
            return Change(index, kind, _path(words[0]))
        case "made":
            return Change(index, kind, _path(words[1]), int(words[0]))
        case "gone":
            return Change(index, kind, _path(words[1]), int(words[0]), grave=_grave(words[2]))
        case "moved":
            return Change(index, kind, _path(words[2]), int(words[0]), _path(words[1]), _grave(words[3]))
    raise ValueError(f"no line of a journal: {kind}")


def _path(word: str) -> Path:
    return Path(os.path.normpath(word))


def _grave(word: str) -> Path | None:
    return None if word == "-" else Path(word)


def _without(changes: list[Change], synced: Path, upto: int) -> list[Change]:
    """Return the changes that are not durable when the folder `synced` was synced at line `upto`."""
    gone = {one.path for one in changes if one.kind == "rmdir" and one.index < upto and one.is_in(synced)}
    return [
        one
        for one in changes
        if one.index >= upto or not (one.is_in(synced) or any(folder in one.path.parents for folder in gone))
    ]


class Power:
    """The power of one folder, `root`; the journal and the graves lie in `beside`, on the same file system."""

    def __init__(self, root: Path, beside: Path) -> None:
        self._root = root
        self._journal = beside / "journal"
        self._graves = beside / "graves"

    def environment(self) -> dict[str, str]:
        """Return what power.c wants to know."""
        self._graves.mkdir(exist_ok=True)
        return {
            "POWER_ROOT": os.fspath(self._root),
            "POWER_JOURNAL": os.fspath(self._journal),
            "POWER_GRAVES": os.fspath(self._graves),
        }

    def cut(self, random: Random) -> list[str]:
        """Lose what was not durable, when nobody is at work any more; returns what was lost, for people."""
        lines = self._journal.read_text(errors="surrogateescape").split("\n")[:-1] if self._journal.exists() else []
        left = pending(lines)
        told = []
        for change in reversed(left.changes[_from(random, len(left.changes)) :]):
            if _undo(change):
                told.append(f"{change.kind} {change.path.relative_to(self._root)}")
        for path in _files(self._root):
            inode = path.lstat().st_ino
            if inode in left.written and path.name != KEPT and (how := _spoil(path, left.safe[inode], random)):
                told.append(f"{how} {path.relative_to(self._root)}")
        self._journal.unlink(missing_ok=True)
        shutil.rmtree(self._graves, ignore_errors=True)
        return told


def _from(random: Random, count: int) -> int:
    """Return from which change on they are lost: the first, any, or none of them, and so only data."""
    return random.choice((0, random.randint(0, count), count))


def _undo(change: Change) -> bool:
    """Undo a change, unless it was undone by others since."""
    path, source = change.path, change.source
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        match change.kind:
            case "mkdir":
                shutil.rmtree(path)
            case "rmdir":
                path.mkdir()
            case "made":
                if path.lstat().st_ino != change.inode:
                    return False
                path.unlink()
            case "gone":
                if change.grave is None:
                    return False
                os.link(change.grave, path, follow_symlinks=False)
            case "moved":
                assert source is not None
                if path.lstat().st_ino != change.inode:
                    return False
                path.rename(source)
                if change.grave is not None:
                    os.link(change.grave, path, follow_symlinks=False)
        return True
    return False


def _spoil(path: Path, safe: int, random: Random) -> str:
    """Lose data of a file behind its first `safe` bytes; returns how, "" if nothing was lost."""
    size = path.stat().st_size
    safe = min(safe, size)
    left = random.choice((safe, safe, random.randint(safe, size), size))
    zeros = random.random() < 0.25
    if left == size:
        return ""
    os.truncate(path, left)
    if zeros:
        os.truncate(path, size)
    return f"{'zeros' if zeros else 'nothing'} after {left} of {size} bytes in"


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path
