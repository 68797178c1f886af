"""What VirtualBox is told. Pure: a description in, the words for VBoxManage out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from ...image import Image
from ...image.bare import BareDisk
from .. import MachineSpec

HOME = "virtualbox"
"""VirtualBox's settings and registry, of this machine alone (VBOX_USER_HOME)."""

DISK = "disk.vdi"
"""The machine's own disk, over the image."""

CONSOLE = "console.txt"
"""What the machine's first serial port has printed."""

MADE = "made"
"""A file that says that the disk is whole."""

_SPARE = "spare.vdi"
_FORMATS = ("vdi", "vmdk")
_CONTROLLER = "disks"


def machine_name(directory: Path) -> str:
    """Return the name of the machine in this folder, which no other has."""
    return f"vmbridge-{_hash(directory)}"


def own_files(directory: Path) -> tuple[Path, ...]:
    """Return all that is made in a machine's folder."""
    return tuple(directory / name for name in (MADE, HOME, machine_name(directory), DISK, _SPARE, CONSOLE))


def environment(directory: Path) -> Mapping[str, str]:
    """Return what makes VirtualBox's programs use a service and a registry of this machine's own.

    The second is the name of a socket's folder in /tmp, which else is the user's.
    """
    return {"VBOX_USER_HOME": str(_absolute(directory) / HOME), "VBOX_IPC_SOCKETID": machine_name(directory)}


def socket_folder(directory: Path) -> Path:
    """Return where the service of this machine's own has its socket."""
    return Path(f"/tmp/.vbox-{machine_name(directory)}-ipc")


def refusal(image: Image | BareDisk) -> str | None:
    """Say why VirtualBox cannot boot an image; None if it can."""
    if image.arch != "x86_64":
        return f"it is for {image.arch}, and VirtualBox here boots x86_64"
    if isinstance(image, Image):
        return "it is a kernel with its first file system, and VirtualBox boots only disks"
    if image.work_disk_format not in _FORMATS:
        return f"it is a {image.work_disk_format} disk, and VirtualBox puts a disk of its own only over VDI and VMDK"
    return None


def forgotten(directory: Path) -> tuple[Path, ...]:
    """Return what of it is made anew at each start: all but a disk that is whole."""
    return tuple(file for file in own_files(directory) if file.name not in (MADE, DISK))


def making(spec: MachineSpec, *, has_disk: bool) -> list[list[str]]:
    """Return the words of each VBoxManage that together make a machine in an empty registry.

    No network, sound, USB or screen for others, and nothing that is shared but the exports. With `has_disk` it goes on
    with the disk that lies in its folder. VBoxManage has no word for opening an image, without which VirtualBox does
    not know what the disk lies over; so a spare disk is made over the image, for as long as the other is attached.
    """
    image, hardware = spec.image, spec.hardware
    assert isinstance(image, BareDisk) and hardware is not None
    name, folder = machine_name(spec.directory), _absolute(spec.directory)
    disk, spare = str(folder / DISK), str(folder / _SPARE)
    parent = str(image.work_disk.resolve())
    return [
        ["createvm", "--name", name, "--ostype", "Linux_64", "--basefolder", str(folder), "--register"],
        [
            "modifyvm", name,
            "--memory", str(spec.memory_mb), "--cpus", str(spec.cpus), "--vram", "16",
            "--ioapic", "on", "--rtcuseutc", "on",
            "--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none",
            "--nic1", "none", "--vrde", "off", "--clipboard", "disabled", "--draganddrop", "disabled",
            "--uart1", "0x3F8", "4", "--uartmode1", "file", str(folder / CONSOLE),
        ],
        [
            "createmedium", "disk", "--filename", spare if has_disk else disk,
            "--diffparent", parent, "--format", "VDI",
        ],
        ["storagectl", name, "--name", _CONTROLLER, "--add", hardware.disk_controller, "--bootable", "on"],
        [
            "storageattach", name, "--storagectl", _CONTROLLER, "--port", "0", "--device", "0",
            "--type", "hdd", "--medium", disk,
        ],
        *([["closemedium", "disk", spare, "--delete"]] if has_disk else []),
        *(
            ["sharedfolder", "add", name, "--name", tag, "--hostpath", str(_absolute(export))]
            for tag, export in hardware.exports
        ),
    ]  # fmt: skip


def state_in(said: str) -> str:
    """Return the machine's state from what `showvminfo --machinereadable` has said; empty if it is not in there."""
    for line in said.splitlines():
        name, _, value = line.partition("=")
        if name == "VMState":
            return value.strip('"')
    return ""


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _hash(directory: Path) -> str:
    return hashlib.sha256(os.fsencode(_absolute(directory))).hexdigest()[:16]
