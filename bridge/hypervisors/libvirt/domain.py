"""The machine as libvirt's XML: what `qemu/command_line.py` says in QEMU's words. Pure."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from protocol.layout import GUEST_TAG, HOST_TAG

from ...image import Image
from .. import MachineSpec
from ..qemu.command_line import CABLE, CARDS, TB_CACHE_MB, WAY_OUT, Accelerated, kernel_words

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
_NAMESPACE = uuid.UUID("3c1f0a52-7d0e-4f0c-9b25-6d1b8f3a9e41")
_PREFIX = "vmbridge-"

_BUSES = {
    "ide": ("ide", None),
    "sata": ("sata", None),
    "scsi": ("scsi", "lsilogic"),
    "sas": ("scsi", "lsisas1068"),
    "virtio": ("scsi", "virtio-scsi"),
}
"""Bus and model of the controller, by what the job file calls it."""

WALL = "wall"
"""What the network card's frames end at as long as the gate is not there (monitor.py)."""


def machine_id(directory: Path) -> uuid.UUID:
    """Return the id of the machine in `directory`: always the same, so that one that was left behind is found."""
    return uuid.uuid5(_NAMESPACE, os.fsencode(directory.resolve()).decode("latin-1"))


def domain_name(machine: uuid.UUID) -> str:
    """Return the name of a machine of ours."""
    return f"{_PREFIX}{machine.hex[:16]}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who QEMU is to be: the user and group whose files it works with."""

    uid: int
    gid: int


def disk_name(spec: MachineSpec) -> str:
    """Return what libvirt calls the machine's disk."""
    bus = "virtio" if spec.hardware is None else _BUSES[spec.hardware.disk_controller][0]
    return {"virtio": "vda", "ide": "hda"}.get(bus, "sda")


def domain(
    spec: MachineSpec,
    qemu: Accelerated,
    *,
    work_disk: Path,
    owner: Owner | None,
    firmware: Path | None,
    tsc_khz: int | None = None,
    from_tag: str | None = None,
) -> str:
    """Return the description of one machine, with its exports and its work disk.

    With `from_tag` it begins with this saved state. `owner` is None where libvirt itself is the owner of the files.
    `firmware` is what a kernel is booted by, None QEMU's own. `tsc_khz` is as in `qemu/command_line.py`.
    """
    ElementTree.register_namespace("qemu", QEMU_NAMESPACE)
    root = Element("domain", type="kvm" if qemu.accelerator == "kvm" else "qemu")
    machine = machine_id(spec.directory)
    _text(root, "name", domain_name(machine))
    _text(root, "uuid", str(machine))
    _text(root, "description", f"{spec.name}: a machine of the BOINC VM bridge, in {spec.directory}")
    _text(root, "memory", str(spec.memory_mb), unit="MiB")
    _text(root, "vcpu", str(spec.cpus))
    _system(root, spec, firmware, tsc_khz)
    features = SubElement(root, "features")
    SubElement(features, "acpi")
    if isinstance(spec.image, Image):
        SubElement(features, "smm", state="off")
    SubElement(features, "vmport", state="off")
    if qemu.accelerator == "tcg":
        _text(SubElement(features, "tcg"), "tb-cache", str(TB_CACHE_MB), unit="MiB")
    _processor(root, qemu)
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "destroy" if isinstance(spec.image, Image) else "restart")
    _text(root, "on_crash", "destroy")
    _devices(root, spec, qemu, work_disk)
    if owner is not None:
        # As ourselves, and no file changes hands: libvirt would give the image, which others use, to its own user.
        label = SubElement(root, "seclabel", type="static", model="dac", relabel="no")
        _text(label, "label", f"+{owner.uid}:+{owner.gid}")
    if more := [*_card(spec), *([] if from_tag is None else ["-loadvm", from_tag])]:
        commandline = SubElement(root, f"{{{QEMU_NAMESPACE}}}commandline")
        for word in more:
            SubElement(commandline, f"{{{QEMU_NAMESPACE}}}arg", value=word)
    return ElementTree.tostring(root, encoding="unicode")


def _system(root: Element, spec: MachineSpec, firmware: Path | None, tsc_khz: int | None) -> None:
    image = spec.image
    assert image is not None
    system = SubElement(root, "os")
    if isinstance(image, Image):
        _text(system, "type", "hvm", arch=image.arch, machine="q35")
        if firmware is not None:
            _text(system, "loader", str(firmware), type="rom")
        _text(system, "kernel", str(image.kernel.resolve()))
        _text(system, "initrd", str(image.initramfs.resolve()))
        _text(system, "cmdline", kernel_words(image, tsc_khz))
    else:
        _text(system, "type", "hvm", arch=image.arch, machine="pc")


def _processor(root: Element, qemu: Accelerated) -> None:
    if qemu.accelerator == "kvm":
        SubElement(root, "cpu", mode="host-passthrough")
    else:
        cpu = SubElement(root, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", qemu.cpu.partition("-")[0], fallback="forbid")


def _devices(root: Element, spec: MachineSpec, qemu: Accelerated, work_disk: Path) -> None:
    devices = SubElement(root, "devices")
    _text(devices, "emulator", str(qemu.program))
    SubElement(devices, "controller", type="usb", model="none")
    SubElement(devices, "memballoon", model="none")
    SubElement(SubElement(devices, "serial", type="pty"), "target", port="0")
    if isinstance(spec.image, Image):
        bus, model = "virtio", None
        _export(devices, spec.share.host, HOST_TAG, readonly=True)
        _export(devices, spec.share.guest, GUEST_TAG)
    else:
        assert spec.hardware is not None
        bus, model = _BUSES[spec.hardware.disk_controller]
        SubElement(SubElement(devices, "video"), "model", type="vga", vram="16384")
        for tag, folder in spec.hardware.exports:
            _export(devices, folder, tag)
    if model is not None:
        SubElement(devices, "controller", type="scsi", index="0", model=model)
    disk = SubElement(devices, "disk", type="file", device="disk")
    # When the host cannot write its disk the machine stands still: the guest would take it for its own trouble.
    SubElement(disk, "driver", name="qemu", type="qcow2", error_policy="stop", rerror_policy="stop")
    SubElement(disk, "source", file=str(work_disk.resolve()))
    SubElement(disk, "target", dev=disk_name(spec), bus=bus)


def _card(spec: MachineSpec) -> list[str]:
    """The network card, in QEMU's own words: libvirt has none for the filter, nor for a network without IPv6.

    What it sends goes nowhere: the gate takes the place of the wall before the machine runs.
    """
    if not spec.network:
        return []
    device = CARDS["virtio" if spec.hardware is None else spec.hardware.network_card]
    return [
        "-netdev", WAY_OUT,
        "-chardev", f"null,id={WALL}",
        "-object", f"filter-redirector,id={WALL},netdev={CABLE},queue=rx,outdev={WALL}",
        # A place where libvirt puts nothing: QEMU makes this one before libvirt's own devices.
        "-device", f"{device},netdev={CABLE},romfile=,addr=0x10",
    ]  # fmt: skip


def _export(devices: Element, folder: Path, tag: str, *, readonly: bool = False) -> None:
    """What the guest plants as a link or a device is a plain file on the host, as with QEMU's `mapped-xattr`."""
    export = SubElement(devices, "filesystem", type="mount", accessmode="mapped")
    SubElement(export, "source", dir=str(folder.resolve()))
    SubElement(export, "target", dir=tag)
    if readonly:
        SubElement(export, "readonly")


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = text
