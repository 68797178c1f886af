"""A bare disk as an image: a file that a machine boots by its own loader, as BOINC's vboxwrapper has them.

What kind of disk it is, its content says and no name. A disk may name other files: one that it lies over, one that
holds its data. They would be opened with the volunteer's rights and shown to the guest, so only a disk that is all in
one file is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError

_HEAD_BYTES = 4096

_QCOW = b"QFI\xfb"
_VMDK = b"KDMV"
_VMDK_TEXT = b"# Disk DescriptorFile"
_VDI = b"\x7f\x10\xda\xbe"
_BOOT = b"\x55\xaa"

_QCOW_DATA_FILE = 1 << 2


@dataclass(frozen=True, slots=True)
class BareDisk:
    """A disk (`work_disk_format`: qcow2, vdi, vmdk or raw) that each machine puts an overlay over; never written.

    `digest` tells one from another by size and time, for it may be large.
    """

    work_disk: Path
    work_disk_format: str
    digest: str
    arch: str = "x86_64"
    static_programs_only: bool = False


def load_disk(path: Path, resolve: Callable[[Path], Path] = lambda path: path) -> BareDisk:
    """Return the disk that `path` stands for. Only its first bytes are read.

    :raise ImageError: it is not there, is no disk that boots, or is not all in one file.
    """
    file = resolve(path)
    try:
        if file.exists() and not file.is_file():
            raise ImageError(f"image {path} is no file, and should be a disk")
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
        status = file.stat()
    except FileNotFoundError:
        raise ImageError(f"image {path} not found{'' if file == path else f': it stands for {file}'}") from None
    except OSError as error:
        raise ImageError(f"image {path} cannot be read: {error.strerror}. Check its permissions") from error
    try:
        kind = disk_format(head)
    except ValueError as error:
        raise ImageError(f"image {path} {error}") from None
    return BareDisk(file, kind, f"{kind} {status.st_size} {status.st_mtime_ns}")


def disk_format(head: bytes) -> str:
    """Return the format of a disk that begins with `head`.

    :raise ValueError: it is none, or names other files; the text goes on from the disk's name.
    """
    head = head.ljust(_HEAD_BYTES, b"\0")
    if head.startswith(_QCOW):
        version, backing = struct.unpack_from(">IQ", head, 4)
        if version not in (2, 3):
            raise ValueError("is of a version of qcow that is not known. Convert it: qemu-img convert -O qcow2")
        (features,) = struct.unpack_from(">Q", head, 72)
        if backing or (version == 3 and features & _QCOW_DATA_FILE):
            raise ValueError(_NOT_ALONE)
        return "qcow2"
    if head.startswith(_VMDK_TEXT):
        raise ValueError(_NOT_ALONE)
    if head.startswith(_VMDK):
        if not any(head[12:20]):  # then what else it consists of stands in its text
            raise ValueError(_NOT_ALONE)
        return "vmdk"
    if head[64:68] == _VDI:
        return "vdi"
    if head[510:512] == _BOOT:
        return "raw"
    raise ValueError("is no disk: neither qcow2, VDI nor VMDK, and without a boot sector")


_NOT_ALONE = (
    "needs other files, by names that are written in it. Make it one that stands alone: qemu-img convert -O qcow2"
)
