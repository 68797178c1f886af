"""An initramfs as bytes: the "newc" cpio archive, in which the same entries always give the same bytes.

The format is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Owner is root, times are 0.
Pure.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive: `path` is relative to the root, `mode` holds type and permissions as in `stat`."""

    path: str
    mode: int
    data: bytes = b""


def file(path: str, data: bytes, *, executable: bool = False) -> Entry:
    """Return a regular file."""
    return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def directory(path: str, *, sticky: bool = False) -> Entry:
    """Return a directory; with `sticky`, one like /tmp."""
    return Entry(path, stat.S_IFDIR | (0o1777 if sticky else 0o755))


def symlink(path: str, target: str) -> Entry:
    """Return a symbolic link to `target`."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive of `entries` and of the directories above them, sorted by path.

    :raise ValueError: two entries have the same path, or a path is not a plain relative one.
    """
    chosen: dict[str, Entry] = {}
    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        if "/".join(parts) != entry.path or ".." in parts or not parts:
            raise ValueError(f"{entry.path!r} is not a plain relative path")
        if entry.path in chosen:
            raise ValueError(f"{entry.path!r} is there twice")
        chosen[entry.path] = entry
    for path in list(chosen):
        for parent in list(PurePosixPath(path).parents)[:-1]:
            chosen.setdefault(str(parent), directory(str(parent)))
    records = [_record(number, chosen[path]) for number, path in enumerate(sorted(chosen), start=1)]
    return b"".join([*records, _record(0, Entry(TRAILER, 0))])


def _record(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
