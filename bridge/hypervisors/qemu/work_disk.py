"""A machine's own disk: made, tidied up, and what of it is left for the machine that goes on with it."""

from __future__ import annotations

import json
import os
from logging import getLogger
from pathlib import Path
from typing import Any

from ...errors import CommandFailed
from ...trees import remove_tree
from .. import MachineSpec
from ..child import run_briefly
from .command_line import WORK_DISK
from .probe import find

logger = getLogger(__name__)


def work_disk(spec: MachineSpec) -> Path:
    """Return where a machine's disk is."""
    return spec.directory / WORK_DISK


async def make(spec: MachineSpec) -> None:
    """Make the machine's own disk: an overlay over the image's or over an earlier machine's, never written again.

    Without that it is a disk that the guest does not see and that only holds saved states.

    :raise HypervisorError: it could not be made.
    """
    image, disk = spec.image, work_disk(spec)
    assert image is not None
    base, form = image.work_disk, image.work_disk_format
    if spec.before is not None and base is not None:
        base, form = spec.before / WORK_DISK, "qcow2"
    over = ["-F", form, "-b", str(base.resolve())] if base is not None else []
    size = [] if over else ["1M"]
    new = disk.with_suffix(".new")  # a disk that is there is whole
    await run_briefly([str(find("qemu-img")), "create", "-q", "-f", "qcow2", *over, str(new), *size])
    new.replace(disk)


async def tidy(spec: MachineSpec) -> None:
    """A QEMU that was killed while it wrote leaves clusters behind that nobody uses, which would add up."""
    try:
        await run_briefly([str(find("qemu-img")), "check", "-q", "-r", "leaks", str(work_disk(spec))])
    except CommandFailed as error:
        logger.warning("the machine's disk was not tidied up: %s", error)


async def leave(folder: Path) -> None:
    """Do as `Continues.leave_disk` says."""
    for name in os.listdir(folder):
        if name != WORK_DISK:
            remove_tree(folder / name)
    program, disk = str(find("qemu-img")), str(folder / WORK_DISK)
    info: Any = json.loads(await run_briefly([program, "info", "--output=json", disk]))
    for snapshot in info.get("snapshots", []):
        await run_briefly([program, "snapshot", "-q", "-d", snapshot["name"], disk])
