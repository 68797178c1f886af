"""The shared memory as the client makes it: a file in the slot, or a System V segment; eight channels in it."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

CHANNEL_BYTES = 1024
BYTES = 8 * CHANNEL_BYTES
MMAP_FILE = "boinc_mmap_file"

CONTROL, GRAPHICS_REPLY, HEARTBEAT, APP_STATUS, TRICKLE_UP, TRICKLE_DOWN = 0, 3, 4, 5, 6, 7

_IPC_CREAT, _IPC_EXCL, _IPC_RMID = 0o1000, 0o2000, 0


class Kind(enum.Enum):
    """Where the memory is: it depends on the API version that the server has seen in the application."""

    FILE = "boinc_mmap_file"
    SYSTEM_V = "System V"


class Memory:
    """The channels, by number. A message that has not been read is never written over."""

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def clear(self) -> None:
        """Forget everything, as the client does before each start."""
        self.view[:] = bytes(BYTES)

    def full(self, channel: int) -> bool:
        """There is a message in the channel."""
        return self.view[channel * CHANNEL_BYTES] != 0

    def send(self, channel: int, text: str) -> bool:
        """Put a message in, or say False if the last one has not been read."""
        at = channel * CHANNEL_BYTES
        data = text.encode() + b"\0"
        assert len(data) < CHANNEL_BYTES
        if self.view[at]:
            return False
        self.view[at + 1 : at + 1 + len(data)] = data
        self.view[at] = 1
        return True

    def receive(self, channel: int) -> str | None:
        """Take a message out; None if there is none."""
        at = channel * CHANNEL_BYTES
        if not self.view[at]:
            return None
        text, end, _ = bytes(self.view[at + 1 : at + CHANNEL_BYTES]).partition(b"\0")
        assert end, "a message without its NUL"
        self.view[at] = 0
        return text.decode()


@contextlib.contextmanager
def file_memory(slot: Path) -> Iterator[Memory]:
    """Make `boinc_mmap_file`, all zeros."""
    with (slot / MMAP_FILE).open("w+b") as file:
        file.truncate(BYTES)
        with mmap.mmap(file.fileno(), BYTES) as mapped, memoryview(mapped) as view:
            yield Memory(view)


@contextlib.contextmanager
def system_v_memory(key: int) -> Iterator[Memory]:
    """Make a System V segment; gone afterwards.

    :raise FileExistsError: somebody else's has this key.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmdt.argtypes = (ctypes.c_void_p,)
    number = libc.shmget(ctypes.c_int(key), ctypes.c_size_t(BYTES), _IPC_CREAT | _IPC_EXCL | 0o660)
    if number < 0:
        raise OSError(ctypes.get_errno(), f"no System V segment with key {key}")
    try:
        address = libc.shmat(number, None, 0)
        assert address not in (None, ctypes.c_void_p(-1).value)
        try:
            yield Memory(memoryview((ctypes.c_ubyte * BYTES).from_address(address)).cast("B"))
        finally:
            libc.shmdt(address)
    finally:
        libc.shmctl(number, _IPC_RMID, None)


def ftok(path: Path) -> int:
    """Return the System V key that stands for a file, with project number 1."""
    status = os.stat(path)
    return 1 << 24 | (status.st_dev & 0xFF) << 16 | status.st_ino & 0xFFFF
