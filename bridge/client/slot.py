"""The slot's small files: soft links, the lock, the finish file, the temporary exit.

(BOINC: lib/app_ipc.cpp, lib/filesys.cpp, api/boinc_api.cpp; what the client makes of each file was verified on clients
7.20.5 and 8.2.15.)
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from protocol.files import write_atomic

LOCK = "boinc_lockfile"
FINISH = "boinc_finish_called"
TEMPORARY_EXIT = "boinc_temporary_exit"

MAX_DELAY_S = 86_400
"""The client takes 300 s for anything longer."""

REASON_BYTES = 254
MESSAGE_BYTES = 1022
"""So long a line the client reads as one, in the temporary exit and in the finish file. What is left of a longer one it
takes for the next line, so the volunteer is not shown the notice that this one is (seen with 7.20.5)."""

_LINK_BYTES = 512


def exit_status(code: int) -> int:
    """Return the exit status that says `code`: only 0 is 0, whatever is left of a number in eight bits."""
    return code & 0xFF or int(code != 0)


class Locked(Exception):
    """Another process runs the job in this slot."""


class Slot:
    """One slot directory, or any directory when there is no client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: int | None = None

    def resolve(self, path: Path) -> Path:
        """Return the file that `path`, a name in the slot, stands for.

        The client puts one line `<soft_link>../../projects/P/FILE</soft_link>` where a file should be, for outputs too,
        whose target does not exist yet; or, where a project wants that, a symbolic link. What is neither, or does not
        exist, stands for itself.
        """
        try:
            if path.is_symlink():
                return Path(os.path.realpath(path))
            if not path.is_file():  # a pipe would wait for its writer
                return path
            with path.open("rb") as file:
                line = file.readline(_LINK_BYTES)
        except OSError:
            return path
        before, tag, rest = line.partition(b"<soft_link>")
        target, end, _ = rest.partition(b"</soft_link>")
        if not (tag and end) or before.strip():
            return path
        return Path(os.path.normpath(self.directory / os.fsdecode(target.strip())))

    def lock(self) -> None:
        """Become the one process that runs the job here; the lock lasts until `unlock` or the process' end.

        It is a record lock (`fcntl`), as the client's own library takes it, which `flock` would not exclude. Closing
        any descriptor of the file would drop it, so nothing else here opens it.

        :raise Locked: another process has it.
        :raise OSError: the file cannot be made.
        """
        if sys.platform == "win32":  # never run so far (docs/DESIGN.md)
            import msvcrt

            self._lock = os.open(self.directory / LOCK, os.O_WRONLY | os.O_CREAT)
            try:
                msvcrt.locking(self._lock, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                raise Locked(str(error)) from error
            return
        import fcntl

        fd = os.open(self.directory / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            os.close(fd)
            raise Locked(f"another process runs the job in {self.directory}") from error
        except OSError:
            pass  # a file system without locks: the client's library goes on too
        self._lock = fd

    def unlock(self) -> None:
        """Let go of the lock, if it is held."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.directory / LOCK).unlink()
            os.close(self._lock)
            self._lock = None

    def finished(self) -> int | None:
        """Return the number in the finish file; None if there is none."""
        try:
            with (self.directory / FINISH).open("rb") as file:
                first = file.readline(32)
        except FileNotFoundError:
            return None
        try:
            return int(first)
        except ValueError:
            return 0  # the client looks at its presence only

    def finish(self, code: int, message: str, *, notice: bool = False) -> None:
        """Write the finish file: the work is over, and the process ends with `code` at once.

        The client aborts a job whose process is still there 300 s later. `message` is for the volunteer.

        :raise OSError: it could not be written.
        """
        self._write(FINISH, str(code), message, notice, MESSAGE_BYTES)

    def exit_temporarily(self, delay_s: float, reason: str, *, notice: bool = False) -> None:
        """Write the temporary exit: the process ends now and the client starts it again after `delay_s`.

        The client ignores the file if it has no second line, so there is always a reason. With `notice` it is shown
        as something that the volunteer should do.

        :raise OSError: it could not be written.
        """
        self._write(TEMPORARY_EXIT, str(round(min(max(delay_s, 0.0), MAX_DELAY_S))), reason, notice, REASON_BYTES)

    def _write(self, name: str, number: str, text: str, notice: bool, most_bytes: int) -> None:
        one_line = _cut(" ".join(text.split()) or "no reason given", most_bytes)
        content = f"{number}\n{one_line}\n{'notice' if notice else ''}\n"
        write_atomic(self.directory / name, content.encode("utf-8", "replace"), durable=True)


def _cut(text: str, most_bytes: int) -> str:
    """Return a text of no more than so many bytes of UTF-8; one that was cut says so."""
    whole = text.encode("utf-8", "replace")
    if len(whole) <= most_bytes:
        return text
    return whole[: most_bytes - 3].decode("utf-8", "ignore") + "..."
