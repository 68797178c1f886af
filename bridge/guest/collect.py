"""Bring the results out of the guest's folder into the job directory, whole and durable or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from protocol import layout
from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_folder

from ..errors import GuestError, HostError, host_trouble
from .copy import copy_content

STDERR_BYTES = 65_536


def collect(door: Door, names: Iterable[str], directory: Path) -> list[Path]:
    """Copy the outputs `names` from the guest into `directory` and return their paths.

    Each appears complete or not at all, and is on the disk when this returns. All that are there are brought, also when
    one is missing.

    :raise GuestError: an output is missing or is no regular file.
    :raise HostError: there is no room, or it cannot be written.
    """
    problems = []
    brought = []
    for name in names:
        try:
            fd = door.open(f"{layout.OUT}/{name}")
        except FileNotFoundError:
            problems.append(f"the output {name} is missing: the program did not write it")
            continue
        except RemoteProtocolError as error:
            problems.append(f"the output {name} cannot be taken: {error.reason}")
            continue
        try:
            with host_trouble(f"bring the output {name} to {directory}"):
                _copy(fd, directory, name)
        finally:
            os.close(fd)
        brought.append(directory / name)
    with host_trouble(f"make the results in {directory} durable"):
        sync_folder(directory)
    if problems:
        raise GuestError("; ".join(problems))
    return brought


def _copy(source: int, directory: Path, name: str) -> None:
    size = os.fstat(source).st_size
    there = os.statvfs(directory)
    if size > (free := there.f_bavail * there.f_frsize):
        raise HostError(f"the output {name} has {size:,} bytes, but only {free:,} are free in {directory}")
    temporary = directory / f".{name}.vmbridge-tmp"
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            copy_content(source, file.fileno())
            os.fsync(file.fileno())
        temporary.replace(directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def stderr_tail(door: Door) -> str:
    """Return the end of what the program wrote to its standard error, as far as the guest brought it."""
    try:
        data = door.read(layout.STDERR, STDERR_BYTES)
    except (RemoteProtocolError, OSError):
        data = None
    return (data or b"").decode("utf-8", "replace")
