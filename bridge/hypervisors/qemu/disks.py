"""What QEMU itself thinks of a bare disk, before it becomes a machine's."""

from __future__ import annotations

import json
from typing import Any

from ...errors import CommandFailed, ImageError
from ...image.bare import BareDisk
from ..child import run_briefly
from .probe import find


async def refuse_dependent(disk: BareDisk) -> None:
    """See to it that a disk stands alone, also in the eyes of who will read it.

    :raise ImageError: it does not, or is broken.
    """
    words = ["info", "--output=json", "-f", disk.work_disk_format, str(disk.work_disk.absolute())]
    try:
        said: Any = json.loads(await run_briefly([str(find("qemu-img")), *words]))
        own = said["filename"]
        more = said.get("format-specific", {}).get("data", {})
        others = [said.get("backing-filename"), more.get("data-file")]
        others += [extent.get("filename") for extent in more.get("extents", []) if extent.get("filename") != own]
    except (CommandFailed, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"image {disk.work_disk} is no disk that QEMU can read: {error}") from error
    if found := [name for name in others if name]:
        raise ImageError(
            f"image {disk.work_disk} needs another file, {found[0]!r:.200}. Make it one that stands alone: "
            "qemu-img convert -O qcow2"
        )
