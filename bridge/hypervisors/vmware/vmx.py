"""The machine as VMware's table of names and values (a .vmx file). Pure."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from protocol.layout import GUEST_TAG, HOST_TAG

from ...image import Image
from .. import MachineSpec

FOLDER = "vmware"
"""Where all files of a machine lie, in its folder: what VMware calls those that it makes is its own to choose."""

VMX = "machine.vmx"
DISK = "disk.vmdk"
CONSOLE = "console.txt"
LOG = "vmware.log"

_BUS = "sata"
"""Of the disk of a guest of ours, whose kernel has a module for it."""

_CONTROLLERS = {"ide": None, "sata": None, "scsi": "lsilogic", "sas": "lsisas1068"}
"""The model of the controller, by what the job file calls it, where there are several."""

_ISOLATED = ("copy", "paste", "dnd", "setGUIOptions", "log", "diskShrink", "diskWiper", "unityActive", "ghi.autologon")
"""What the guest could ask of the host by itself, beside its folders."""

_ABSENT = ("floppy0", "sound", "usb", "ehci", "ethernet0", "vmci0")

_ENDED = re.compile(r"VMX has left the building: 0\b")
_FULL = re.compile(r"msg\.hbacommon\.outofspace|no more space for virtual disk", re.IGNORECASE)


def machine_name(directory: Path) -> str:
    """Return the name of the machine in `directory`, by which no other is called."""
    return f"vmbridge-{hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]}"


def refusal(spec: MachineSpec) -> str | None:
    """Say why VMware cannot be given this machine; None if it can. What its disk refers to is not looked at."""
    if spec.network:
        return (
            "the job needs the network, and a machine under VMware cannot have one that reaches nothing near. "
            "Choose qemu"
        )
    if spec.hardware is not None and spec.hardware.disk_controller not in _CONTROLLERS:
        named = ", ".join(_CONTROLLERS)
        return f"VMware has no disk controller {spec.hardware.disk_controller!r}. Choose one of {named}, or qemu"
    return None


def exports(spec: MachineSpec) -> tuple[tuple[str, Path, bool], ...]:
    """Return the shared folders: by which name, which folder, and whether the guest may write into it."""
    if spec.hardware is not None:
        return tuple((tag, folder, True) for tag, folder in spec.hardware.exports)
    return ((HOST_TAG, spec.share.host, False), (GUEST_TAG, spec.share.guest, True))


def table(spec: MachineSpec) -> dict[str, str]:
    """Return the machine. Its files lie in its own folder; of the host it sees nothing but its shared folders."""
    found = {
        ".encoding": "UTF-8",
        "config.version": "8",
        "virtualHW.version": "10",  # of Workstation 10, Player 6 and Fusion 6 (2013): the first with SATA
        "displayName": machine_name(spec.directory),
        "annotation": f"{spec.name}: a machine of the BOINC VM bridge, in {spec.directory}",
        "guestOS": "otherlinux-64",
        "firmware": "bios",
        "memsize": str(-(-spec.memory_mb // 4) * 4),  # a multiple of four, VMware says
        "numvcpus": str(spec.cpus),
        "mainMem.useNamedFile": "FALSE",  # or there is a file of this size beside the disk
        "autostart": "none",
        "msg.autoAnswer": "TRUE",  # nobody sees its questions
        "uuid.action": "create",
        "tools.upgrade.policy": "manual",
        "log.keepOld": "0",
        "serial0.present": "TRUE",
        "serial0.fileType": "file",
        "serial0.fileName": CONSOLE,
        "answer.msg.serial.file.open": "Append",  # a machine that was saved goes on with it
    }
    found.update(_disk(spec))
    found.update(_cd(spec))
    found.update({f"{device}.present": "FALSE" for device in _ABSENT})
    found.update({f"isolation.tools.{what}.disable": "TRUE" for what in _ISOLATED})
    found.update(_folders(spec))
    return found


def devices(spec: MachineSpec) -> str:
    """Return what is another for another machine: what it is made of, without names, places, and what it may cost."""
    apart = ("displayName", "annotation", "memsize", "numvcpus")
    found = (
        f"{name}={value}"
        for name, value in sorted(table(spec).items())
        if name not in apart and not name.endswith(("fileName", "hostPath"))
    )
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def _disk(spec: MachineSpec) -> dict[str, str]:
    bus = _BUS if spec.hardware is None else spec.hardware.disk_controller
    model = _CONTROLLERS[bus]
    name = f"{'scsi' if model else bus}0"
    controller = {f"{name}.present": "TRUE", **({} if model is None else {f"{name}.virtualDev": model})}
    disk = {"present": "TRUE", "fileName": DISK, "deviceType": "disk", "mode": "persistent"}
    return {**controller, **{f"{name}:0.{key}": value for key, value in disk.items()}}


def _cd(spec: MachineSpec) -> dict[str, str]:
    """Return the CD by which a guest of ours boots; its disk has no loader."""
    if not isinstance(spec.image, Image) or spec.image.boot_cd is None:
        return {}
    cd = {"present": "TRUE", "fileName": str(spec.image.boot_cd.resolve()), "deviceType": "cdrom-image"}
    return {"bios.bootOrder": "cdrom,hdd", "ide1.present": "TRUE", **{f"ide1:0.{key}": cd[key] for key in cd}}


def _folders(spec: MachineSpec) -> dict[str, str]:
    shared = exports(spec)
    found = {
        "isolation.tools.hgfs.disable": "FALSE",
        "sharedFolder.option": "alwaysEnabled",
        "sharedFolder.maxNum": str(len(shared)),
    }
    for number, (tag, folder, writable) in enumerate(shared):
        found.update({
            f"sharedFolder{number}.present": "TRUE",
            f"sharedFolder{number}.enabled": "TRUE",
            f"sharedFolder{number}.readAccess": "TRUE",
            f"sharedFolder{number}.writeAccess": "TRUE" if writable else "FALSE",
            f"sharedFolder{number}.hostPath": str(folder.resolve()),
            f"sharedFolder{number}.guestName": tag,
            f"sharedFolder{number}.expiration": "never",
            f"sharedFolder{number}.followSymlinks": "FALSE",
        })  # fmt: skip
    return found


def written(entries: Mapping[str, str]) -> str:
    """Return the text of the file. What could end a value is written as VMware writes it, `|` and two digits."""
    return "".join(f'{name} = "{_escaped(value)}"\n' for name, value in entries.items())


def _escaped(value: str) -> str:
    return re.sub(r'[\0-\x1f"|#\x7f]', lambda found: f"|{ord(found[0]):02X}", value)


def read(text: str) -> dict[str, str]:
    """Return the names and values of a file that VMware has written, the later of two. What is no such line is none."""
    found = re.findall(r'^[ \t]*([^\s=#"]+)[ \t]*=[ \t]*"([^"\r\n]*)"', text, re.MULTILINE)
    return {name: re.sub(r"\|([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), value) for name, value in found}


def changed(text: str, entries: Mapping[str, str]) -> str:
    """Return the text of a file with other values. VMware takes its names in whatever letters."""
    ours = {name.lower() for name in entries}
    kept = {name: value for name, value in read(text).items() if name.lower() not in ours}
    return written({**kept, **entries})


_SAVED = "checkpoint.vmState"


def saved_in(text: str) -> str | None:
    """Return the file that holds the memory of a machine that was suspended, as its own file names it."""
    return next((value for name, value in read(text).items() if name.lower() == _SAVED.lower() and value), None)


def going_on(spec: MachineSpec, memory: str, *, stays: bool) -> dict[str, str]:
    """Return the entries by which the machine goes on from a file with its memory. It stays as it is, or is used up.

    VMware writes the same when a machine is reverted to a snapshot that was taken while it ran, or suspended.
    """
    return {**table(spec), _SAVED: memory, f"{_SAVED}.readOnly": "TRUE" if stays else "FALSE"}


def ended_in_order(log: str) -> bool:
    """Say whether the machine switched itself off, by the end of its log."""
    return _ENDED.search(log) is not None


def disk_is_full(log: str) -> bool:
    """Say whether the machine could not write its disk, by the end of its log."""
    return _FULL.search(log) is not None
