"""Copy a file's content at the speed of `cp`: shared extents where the file system can, the kernel's copy elsewhere."""

from __future__ import annotations

import errno
import os

_CHUNK = 1 << 30
_CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}


def copy_content(source: int, target: int) -> int:
    """Copy everything from descriptor `source` to descriptor `target`, both at their start; return the bytes copied.

    :raise OSError: reading or writing failed.
    """
    copied = 0
    while True:
        try:
            count = os.copy_file_range(source, target, _CHUNK) if hasattr(os, "copy_file_range") else -1
        except OSError as error:
            if copied or error.errno not in _CANNOT:
                raise
            count = -1
        if count < 0:
            return _copy_by_hand(source, target)
        if count == 0:
            return copied or _copy_by_hand(source, target)  # some file systems answer 0 for files they cannot copy
        copied += count


def _copy_by_hand(source: int, target: int) -> int:
    copied = 0
    buffer = memoryview(bytearray(1 << 20))
    while size := os.readv(source, [buffer]):
        rest = buffer[:size]
        while rest:
            rest = rest[os.write(target, rest) :]
        copied += size
    return copied
