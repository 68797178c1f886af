"""Bring the results out of the guest's folder into the job directory, whole and durable or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from protocol import layout
from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_folder

from ..errors import GuestError, HostError, host_trouble
from .copy import copy_content

STDERR_BYTES = 65_536


def collect(door: Door, names: Iterable[str], directory: Path, scratch: Path) -> list[Path]:
    """Copy the outputs `names` from the guest into `directory` and return their paths.

    Each appears complete or not at all, and is on the disk when this returns: it is written in `scratch`, a folder of
    ours on the same file system, and moved. All that can be brought are brought, also when one cannot.

    :raise GuestError: an output is missing or is no regular file.
    :raise HostError: there is no room, or it cannot be read or written.
    """
    problems: list[GuestError | HostError] = []
    brought = []
    for name in names:
        try:
            _bring(door, name, directory, scratch / "result")
        except (GuestError, HostError) as error:
            problems.append(error)
        else:
            brought.append(directory / name)
    with host_trouble(f"make the results in {directory} durable"):
        sync_folder(directory)
    if problems:
        raise type(problems[0])("; ".join(map(str, problems)))
    return brought


def _bring(door: Door, name: str, directory: Path, temporary: Path) -> None:
    with host_trouble(f"bring the output {name} to {directory}"):
        try:
            source = door.open(f"{layout.OUT}/{name}")
        except FileNotFoundError:
            raise GuestError(f"the output {name} is missing: the program did not write it") from None
        except RemoteProtocolError as error:
            raise GuestError(f"the output {name} cannot be taken: {error.reason}") from error
        try:
            _copy(source, temporary, name)
            temporary.replace(directory / name)
        finally:
            os.close(source)
            temporary.unlink(missing_ok=True)


def _copy(source: int, temporary: Path, name: str) -> None:
    size = os.fstat(source).st_size
    there = os.statvfs(temporary.parent)
    if size > (free := there.f_bavail * there.f_frsize):
        raise HostError(f"the output {name} has {size:,} bytes, but only {free:,} are free in {temporary.parent}")
    with temporary.open("xb") as file:
        copy_content(source, file.fileno(), size)
        os.fsync(file.fileno())


def stderr_tail(door: Door) -> str:
    """Return the end of what the program wrote to its standard error, as far as the guest brought it."""
    try:
        data = door.read(layout.STDERR, STDERR_BYTES)
    except (RemoteProtocolError, OSError):
        data = None
    return (data or b"").decode("utf-8", "replace")
