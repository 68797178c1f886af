"""Bring the results out of the guest's folder to their places, whole and durable or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from protocol import layout
from protocol.errors import RemoteProtocolError
from protocol.files import Door, sync_folder

from ..copying import always, copy_content
from ..errors import GuestError, HostError, host_trouble

STDERR_BYTES = 65_536


def collect(
    door: Door, places: Mapping[str, Path], scratch: Path, wanted: Callable[[], bool] = always, folder: str = layout.OUT
) -> list[Path]:
    """Copy the outputs that `places` names from the guest to the paths it gives them, and return these.

    They lie in the guest's `folder`, "" for the top of its share.

    Each appears complete or not at all, and is on the disk when this returns: it is written in `scratch`, a folder of
    ours, and moved; where that is another file system, beside its place. All that can be brought are brought, also
    when one cannot; but none any more as soon as they are not `wanted`.

    :raise GuestError: an output is missing or is no regular file.
    :raise HostError: there is no room, it cannot be read or written, or is not wanted.
    """
    problems: list[GuestError | HostError] = []
    brought = []
    for name, place in places.items():
        try:
            source = f"{folder}/{name}" if folder else name
            _bring(door, source, name, place, scratch / "result", wanted)
        except (GuestError, HostError) as error:
            problems.append(error)
        else:
            brought.append(place)
    for target in dict.fromkeys(place.parent for place in brought):
        with host_trouble(f"make the results in {target} durable"):
            sync_folder(target)
    if problems:
        raise type(problems[0])("; ".join(map(str, problems)))
    return brought


def _bring(door: Door, path: str, name: str, place: Path, temporary: Path, wanted: Callable[[], bool]) -> None:
    with host_trouble(f"bring the output {name} to {place}"):
        try:
            source = door.open(path)
        except FileNotFoundError:
            raise GuestError(f"the output {name} is missing: the program did not write it") from None
        except RemoteProtocolError as error:
            raise GuestError(f"the output {name} cannot be taken: {error.reason}") from error
        try:
            try:
                _put(source, temporary, place, name, wanted)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # Slots in memory, say, and the project's folder on a disk. The name is always the same, so that what a
                # crash leaves there is replaced the next time.
                _put(source, place.with_name(f".{place.name[:200]}.vmbridge"), place, name, wanted)
        finally:
            os.close(source)


def _put(source: int, temporary: Path, place: Path, name: str, wanted: Callable[[], bool]) -> None:
    try:
        _copy(source, temporary, name, wanted)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(source: int, temporary: Path, name: str, wanted: Callable[[], bool]) -> None:
    os.lseek(source, 0, os.SEEK_SET)
    size = os.fstat(source).st_size
    there = os.statvfs(temporary.parent)
    if size > (free := there.f_bavail * there.f_frsize):
        raise HostError(f"the output {name} has {size:,} bytes, but only {free:,} are free in {temporary.parent}")
    with temporary.open("wb") as file:
        copy_content(source, file.fileno(), size, wanted)
        os.fsync(file.fileno())


def stderr_tail(door: Door) -> str:
    """Return the end of what the program wrote to its standard error, as far as the guest brought it."""
    try:
        data = door.read(layout.STDERR, STDERR_BYTES)
    except (RemoteProtocolError, OSError):
        data = None
    return (data or b"").decode("utf-8", "replace")
