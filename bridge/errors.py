"""What can go wrong, by meaning, so that whoever catches an error knows whose move it is.

BridgeError
├── JobFileError       the job must be mended: the file, the element and the line are in the message
├── ImageError         the image must be mended or built
├── HypervisorError    the machine cannot run here
│   ├── NotInstalled       a program is missing
│   ├── NotPermitted       it is there but may not be used
│   ├── CommandFailed      it was tried and failed
│   └── Hindered           it is known why, and whose move it is
├── HostError          the host's own trouble: disk full, a folder that cannot be written, a directory in use
└── GuestError         the guest or the program in it failed
    └── OverBound          it takes more of the disk than it may

A message says what happened, with the value, and then what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BridgeError(Exception):
    """Base of all errors that end a job and that the user is told about in one sentence."""


class JobFileError(BridgeError):
    """The job file must be mended: `line` (0: as a whole), `element` and `problem` say where and how."""

    def __init__(self, file: Path, line: int, element: str, problem: str) -> None:
        where = f"{file}, line {line}" if line else f"{file}"
        what = f"<{repr(element)[1:-1]:.60}>: " if element else ""  # it may be anything, and long
        super().__init__(f"{where}: {what}{problem}")
        self.line = line
        self.element = element
        self.problem = problem


class ImageError(BridgeError):
    """The image must be mended or built."""


class HypervisorError(BridgeError):
    """The machine cannot run here."""


class NotInstalled(HypervisorError):
    """A program is missing on this host."""


class NotPermitted(HypervisorError):
    """A program or device is there, but this user may not use it."""


class CommandFailed(HypervisorError):
    """A program was started and failed; the message holds the end of what it said."""


class Hindered(HypervisorError):
    """It is known why: the job is to be tried again after `delay_s` seconds, with `notice` when somebody has to act."""

    def __init__(self, sentence: str, *, delay_s: float, notice: bool) -> None:
        super().__init__(sentence)
        self.delay_s = delay_s
        self.notice = notice


class HostError(BridgeError):
    """The host is in trouble: the disk is full, a folder cannot be written, somebody else holds the directory."""


class GuestError(BridgeError):
    """The guest or the program in it failed."""


class OverBound(GuestError):
    """The guest takes more of the disk than the project allows the job."""


@contextmanager
def host_trouble(doing: str) -> Iterator[None]:
    """Turn an `OSError` in the block into a `HostError` that says what was being done and to which file."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise HostError(f"cannot {doing}: {error.strerror or error}{name}") from error
