"""One machine as VirtualBox is to have it, and the names of all that is made for it. Pure."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.layout import GUEST_TAG, HOST_TAG

from ...image import Image
from ...image.bare import BareDisk
from .. import MachineSpec

BOX = "box"
"""The folder with all that VirtualBox keeps of the machine: its registry, the machine, disks and saved states."""

DISK = "disk.vdi"
"""In the box: the machine's own disk."""

CONSOLE = "console.txt"
"""What the machine's first serial port has printed."""

_HOME = "home"
_MADE = "made"
_CHECK = "check"
_COPY = ".copy"
_FORMATS = ("vdi", "vmdk")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the machine is to be. All paths are absolute.

    `settings` is its own file, in a folder where VirtualBox keeps what belongs to it. `disk`, on a `controller` of a
    job file's name, lies over the last of `parents`, each of which lies over the one before; it is made if it is a
    `new_disk`. With a `cd` it boots from that. Of the `exports`, a tag and a folder, only some may be written.
    """

    name: str
    settings: str
    memory_mb: int
    cpus: int
    console: str
    disk: str
    parents: tuple[str, ...]
    new_disk: bool
    controller: str
    cd: str | None
    exports: tuple[tuple[str, str, bool], ...]


def plan(spec: MachineSpec, left: Sequence[str] = ()) -> Plan:
    """Return what the machine is to be. It goes on with a disk that is whole, or over the disks `left` by another."""
    image, hardware = spec.image, spec.hardware
    assert image is not None and image.work_disk is not None
    box, name = box_of(spec.directory), machine_name(spec.directory)
    exports = [(HOST_TAG, spec.share.host, False), (GUEST_TAG, spec.share.guest, True)]
    if hardware is not None:
        exports = [(tag, folder, True) for tag, folder in hardware.exports]
    return Plan(
        name=name,
        settings=str(box / name / f"{name}.vbox"),
        memory_mb=spec.memory_mb,
        cpus=spec.cpus,
        console=str(absolute(spec.directory) / CONSOLE),
        disk=str(box / DISK),
        parents=tuple(left) or (str(image.work_disk.resolve()),),
        new_disk=not made(spec.directory).exists(),
        controller="sata" if hardware is None else hardware.disk_controller,
        cd=str(image.boot_cd.resolve()) if isinstance(image, Image) and image.boot_cd is not None else None,
        exports=tuple((tag, str(absolute(folder)), writable) for tag, folder, writable in exports),
    )


def refusal(image: Image | BareDisk) -> str | None:
    """Say why VirtualBox cannot boot an image; None if it can."""
    if image.arch != "x86_64":
        return f"it is for {image.arch}, and VirtualBox here boots x86_64"
    if isinstance(image, Image) and (image.boot_cd is None or image.work_disk is None):
        return "it is a kernel with its first file system, and VirtualBox boots only disks and CDs"
    if image.work_disk_format not in _FORMATS:
        return f"it is a {image.work_disk_format} disk, and VirtualBox puts a disk of its own only over VDI and VMDK"
    return None


def machine_name(directory: Path) -> str:
    """Return the name of the machine in this folder, which no other has."""
    return f"vmbridge-{hashlib.sha256(os.fsencode(absolute(directory))).hexdigest()[:16]}"


def box_of(directory: Path) -> Path:
    """Return the folder with all that VirtualBox keeps of the machine in `directory`."""
    return absolute(directory) / BOX


def made(directory: Path) -> Path:
    """Return the file that says that the machine's disk is whole."""
    return box_of(directory) / _MADE


def forgotten(directory: Path) -> tuple[Path, ...]:
    """Return what is made anew at each start of a machine that goes on with its disk: all but that."""
    return (*(box_of(directory) / name for name in (_HOME, machine_name(directory))), directory / CONSOLE)


def copy_of(directory: Path, tag: str) -> Path:
    """Return the copy of the box in which `tag` is the newest state."""
    return absolute(directory) / f"{tag}{_COPY}"


def check_of(directory: Path) -> Path:
    """Return the folder of the registry in which it is tried whether the API can be loaded."""
    return absolute(directory) / _CHECK


def is_copy(name: str) -> bool:
    """Say whether that is the name of a copy, of any state."""
    return name.endswith(_COPY)


def environment(directory: Path) -> Mapping[str, str]:
    """Return what makes VirtualBox's programs use a service and a registry of this machine's own.

    The second is the name of a socket's folder in /tmp, which else is the user's.
    """
    return {"VBOX_USER_HOME": str(box_of(directory) / _HOME), "VBOX_IPC_SOCKETID": machine_name(directory)}


def socket_folder(directory: Path) -> Path:
    """Return where the service of this machine's own has its socket."""
    return Path(f"/tmp/.vbox-{machine_name(directory)}-ipc")


def absolute(path: Path) -> Path:
    """Return an absolute path, with the links in it as they are."""
    return Path(os.path.abspath(path))
