"""The only I/O of the protocol: replace a file whole, and the one door for reading what a guest wrote.

A guest may plant anything under any name: a link to /etc/passwd, a FIFO that blocks its reader, a sparse file of a
terabyte. Everything read from its folder goes through `Door` (B7).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from pathlib import Path
from types import TracebackType

from .errors import RemoteProtocolError

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PLANTED = {errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EISDIR}


class Door:
    """A folder that somebody else writes, opened once, so that no path through it is ever walked again."""

    def __init__(self, folder: Path) -> None:
        """:raise OSError: `folder` is not a folder that can be opened."""
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the content of the file `name`, None if there is none.

        :raise RemoteProtocolError: it is no regular file (B7), or longer than `limit` bytes (R1).
        """
        try:
            fd = self.open(name)
        except FileNotFoundError:
            return None
        try:
            data = os.read(fd, limit + 1)
            while 0 < len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
                data += more
        finally:
            os.close(fd)
        if len(data) > limit:
            raise RemoteProtocolError("R1", f"more than {limit:,} bytes")
        return data

    def tail(self, name: str, size: int) -> bytes | None:
        """Return the last `size` bytes of the file `name`, all of a shorter one; None if there is none.

        :raise RemoteProtocolError: it is no regular file (B7).
        """
        try:
            fd = self.open(name)
        except FileNotFoundError:
            return None
        try:
            return os.pread(fd, size, max(0, os.fstat(fd).st_size - size))
        finally:
            os.close(fd)

    def stamp(self, name: str) -> tuple[int, int, int] | None:
        """Return what is another after each change of the file `name`, which nobody can set; None if there is none."""
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size

    def take_out(self, name: str, target: Path) -> None:
        """Move whatever is called `name` out of the folder, to the new name `target` on the same file system.

        :raise OSError: it is not there, or cannot be moved.
        """
        os.rename(name, target, src_dir_fd=self._fd)

    def some_names(self, most: int) -> list[str]:
        """Return the names in the folder, `most` of them at most: how many there are is the guest's choice."""
        with os.scandir(self._fd) as entries:
            return [entry.name for entry in itertools.islice(entries, most)]

    def is_there(self, name: str) -> bool:
        """Say whether there is anything of this name in the folder. Nothing is opened."""
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError as error:
            return error.errno != errno.ENOENT
        return True

    def open(self, name: str) -> int:
        """Open the regular file `name`, or `folder/name`, for reading and return its descriptor.

        :raise FileNotFoundError: there is none.
        :raise RemoteProtocolError: it is no regular file, or the folder is no folder (B7).
        """
        *folders, last = name.split("/")
        with contextlib.ExitStack() as open_folders:
            at = self._fd
            for folder in folders:
                at = _open_planted(folder, _OPEN | os.O_DIRECTORY, at)
                open_folders.callback(os.close, at)
            fd = _open_planted(last, _OPEN, at)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise RemoteProtocolError("B7", "it is no regular file")
        return fd


def _open_planted(name: str, flags: int, at: int) -> int:
    try:
        return os.open(name, flags, dir_fd=at)
    except OSError as error:
        if error.errno in _PLANTED:
            raise RemoteProtocolError("B7", f"it is no regular file: {error.strerror}") from error
        raise


def write_atomic(path: Path, data: bytes, *, durable: bool) -> None:
    """Make `path` a file with the content `data`; readers see the old one or the new one, never a part (B2).

    With `durable` it is also on the disk when this returns. On failure the old file is untouched and nothing is left.

    :raise OSError: it could not be written.
    """
    temporary = unfinished(path)
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(fd)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def unfinished(path: Path) -> Path:
    """Return the file that a `write_atomic` of `path` leaves behind when its process is killed."""
    return path.with_name(f".{path.name}.tmp")


def sync_file(path: Path) -> None:
    """Make the content of a file durable, whoever wrote it."""
    _sync(path, os.O_RDONLY | os.O_CLOEXEC)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
