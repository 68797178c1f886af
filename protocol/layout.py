"""The names in the shared directory, and who writes each (docs/PROTOCOL.md, "The two folders")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import RemoteProtocolError

HOST_TAG = "vmbridge_host"
GUEST_TAG = "vmbridge_guest"

COMMAND = "command"
TASK = "task"
TAKEN = "taken"
INIT_DATA = "init_data"
TRICKLE_DOWN = "trickle_down"
UPLOADED = "uploaded"
IN = "in"
AGENT = "agent"

STATUS = "status"
FRACTION_DONE = "fraction_done"
CREDITREPORT = "creditreport"
CHECKPOINT = "checkpoint"
FINISHED = "finished"
TEMPORARY_EXIT = "temporary_exit"
TRICKLE_UP = "trickle_up"
UPLOAD = "upload"
SAVED = "saved"
"""The message `saved.N`, and the folder of the files that it names."""
OUT = "out"
STDERR = "stderr"

HOST_FILES = (COMMAND, TASK, INIT_DATA, TAKEN)
GUEST_FILES = (STATUS, FRACTION_DONE, CREDITREPORT, CHECKPOINT, FINISHED, TEMPORARY_EXIT)
NUMBERED = (TRICKLE_DOWN, UPLOADED, TRICKLE_UP, UPLOAD, SAVED)

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Share:
    """The two exports of one machine as folders on the host; the same folder twice when they are one."""

    host: Path
    guest: Path

    @classmethod
    def two_folders(cls, root: Path) -> Share:
        """The layout for machines: the guest can write to one export only."""
        return cls(root / "host", root / "guest")

    @classmethod
    def one_folder(cls, root: Path) -> Share:
        """The layout for people who play the guest, and for guests made for older programs (B17)."""
        return cls(root, root)


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file name means: `kind` is one of the names above, or None for a name to ignore (B4)."""

    kind: str | None
    number: int | None = None


def parse_name(name: str) -> FileName:
    """Say what the file `name` in a shared folder is.

    :raise RemoteProtocolError: `name` is a numbered one with a bad number (R19).
    """
    if name in HOST_FILES or name in GUEST_FILES:
        return FileName(name)
    stem, point, number = name.partition(".")
    if not point or stem not in NUMBERED:
        return FileName(None)
    if not _NUMBER.fullmatch(number):
        raise RemoteProtocolError("R19", f"{stem!r} is followed by {number[:40]!r}, not by a number from 1")
    return FileName(stem, int(number))
