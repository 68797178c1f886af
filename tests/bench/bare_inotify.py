"""The peer of `notice`: as little as can stand between the kernel's notice and a decoded message."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from protocol.codec import decode, size_limit
from protocol.errors import RemoteProtocolError
from protocol.files import Door
from protocol.layout import GUEST_FILES
from protocol.messages import Message

_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_IN_NONBLOCK = os.O_NONBLOCK
_IN_CLOEXEC = os.O_CLOEXEC
_EVENT = struct.Struct("iIII")


class BareInotify:
    """Calls `heard` for each message in a folder: one descriptor, read in the event loop itself."""

    def __init__(self, folder: Path, heard: Callable[[Message], None]) -> None:
        """:raise OSError: there is no inotify here."""
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            raise OSError("no inotify in the C library")
        self._heard = heard
        self._door = Door(folder)
        self._fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        mask = _IN_CLOSE_WRITE | _IN_MOVED_TO
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot watch", os.fspath(folder))
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def stop(self) -> None:
        """Watch no more."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._door.close()

    def _readable(self) -> None:
        for name in dict.fromkeys(_names(os.read(self._fd, 65_536))):
            if name in GUEST_FILES:
                self._read(name)

    def _read(self, kind: str) -> None:
        try:
            data = self._door.read(kind, size_limit(kind))
            if data is not None:
                self._heard(decode(kind, data))
        except RemoteProtocolError:
            pass


def _names(events: bytes) -> Iterator[str]:
    while events:
        *_, length = _EVENT.unpack_from(events)
        end = _EVENT.size + length
        yield os.fsdecode(events[_EVENT.size : end].rstrip(b"\0"))
        events = events[end:]
