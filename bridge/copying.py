"""Copy a file's content at the speed of `cp`: shared extents where the file system can, the kernel's copy elsewhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

_CHUNK = 64 << 20
"""A thread cannot be cancelled; between two of these it asks whether it shall go on."""

_CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}


def always() -> bool:
    """Nobody can say that a copy is not wanted any more."""
    return True


def copy_content(source: int, target: int, size: int, wanted: Callable[[], bool] = always) -> int:
    """Copy up to `size` bytes from descriptor `source` to descriptor `target`; return how many there were.

    A file that grows meanwhile, because somebody writes it without end, is copied no further.

    :raise OSError: reading or writing failed, or the copy is not `wanted` any more (ECANCELED).
    """
    copied = 0
    while copied < size:
        _ask(wanted)
        try:
            count = os.copy_file_range(source, target, min(_CHUNK, size - copied))
        except OSError as error:
            if copied or error.errno not in _CANNOT:
                raise
            count = 0
        if count == 0:  # the end; or, at the beginning, a file system that cannot do it and does not say so
            return copied or _copy_by_hand(source, target, size, wanted)
        copied += count
    return copied


def _ask(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise OSError(errno.ECANCELED, "not wanted any more")


def _copy_by_hand(source: int, target: int, size: int, wanted: Callable[[], bool]) -> int:
    copied = 0
    buffer = memoryview(bytearray(1 << 20))
    while count := os.readv(source, [buffer[: min(len(buffer), size - copied)]]):
        _ask(wanted)
        rest = buffer[:count]
        while rest:
            rest = rest[os.write(target, rest) :]
        copied += count
    return copied
