"""The machine's own disk as a file: made whole or not at all, and what is left of it for the machine that goes on."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import ImageError
from ...image import Image
from ...image.bare import BareDisk
from ...trees import remove_tree
from . import delta
from .vmx import DISK, FOLDER


def make(image: Image | BareDisk, before: Path | None, disk: Path) -> None:
    """Make the machine's disk, over that of an image or over that in the folder of the machine `before`.

    :raise ImageError: VMware could not run it.
    :raise OSError: it could not be made.
    """
    below = image.work_disk if before is None else before / FOLDER / DISK
    assert below is not None, "an image without a disk is refused"
    below = below.resolve()
    try:
        with below.open("rb") as file:
            head = file.read(delta.HEAD_BYTES)
            at, size = delta.description_at(head)
            file.seek(at)
            parent = delta.parent(head, file.read(size), is_ours=before is not None)
            length, parts = delta.delta(parent, str(below), disk.name)
    except ValueError as error:
        raise ImageError(f"image {below} {error}") from error
    new = disk.with_suffix(".new")  # a disk that is there is whole
    with new.open("wb") as file:
        file.truncate(length)
        for at, part in parts:
            file.seek(at)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    new.replace(disk)


def leave(folder: Path) -> None:
    """Do as `Continues.leave_disk` says."""
    for place, kept in ((folder, FOLDER), (folder / FOLDER, DISK)):
        for name in os.listdir(place):
            if name != kept:
                remove_tree(place / name)
