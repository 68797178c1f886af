"""What QEMU is told. Pure: a description in, the words of the command line out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.layout import GUEST_TAG, HOST_TAG

from ...image import Image
from .. import MachineSpec
from .frames import GATEWAY, NETWORK, RESOLVER

if TYPE_CHECKING:
    from ..finding import Finding

_TCG_MODELS = {"x86_64": "Nehalem-v1", "aarch64": "cortex-a72"}
"""Fixed models, because a machine restored on another one is dead without an error."""

CABLE = "cable"
"""What the network card is connected to; QMP's `set_link` plugs it in and out."""

NODE = "work"
"""The block node of the machine's own disk."""

WORK_DISK = "work.qcow2"
"""The machine's own disk, in its folder."""

TB_CACHE_MB = 64
"""What TCG may take for translated code; by itself it takes up to a gigabyte."""

ACCELERATORS = {"kvm": "kvm", "tcg": f"tcg,thread=multi,tb-size={TB_CACHE_MB}"}


@dataclass(frozen=True, slots=True)
class Accelerated:
    """A QEMU program, for guests of `arch`, and the accelerator that was found to work with it ("kvm" or "tcg").

    `kvm_held` says why KVM does not work for the time being, where another program has what it needs.
    """

    program: Path
    version: str
    accelerator: str
    kvm_held: Finding | None = field(default=None, compare=False)
    arch: str = "x86_64"

    @property
    def cpu(self) -> str:
        """The processor that a guest sees."""
        return "host" if self.accelerator == "kvm" else _TCG_MODELS[self.arch]

    def __str__(self) -> str:
        return f"QEMU {self.version}, {self.accelerator.upper()}"


def base(qemu: Accelerated) -> list[str]:
    """The machine that boots a kernel, without its devices."""
    return [*_bare_of_all(qemu), "-no-reboot", *_BOARDS[qemu.arch]]


_BOARDS = {
    "x86_64": [
        # The ports and buses left out here cost boot time and are never used.
        "-machine", "q35,smm=off,vmport=off,sata=off,smbus=off",
        # SeaBIOS takes 0.1 s longer; qboot is in Debian's qemu-system-data and in every QEMU since 5.0.
        "-bios", "qboot.rom",
    ],
    # Without firmware: the kernel is started as a boot loader would. Version 3 of the interrupt controller serves more
    # than eight processors. Under KVM (never tried) it must be the host's, which QEMU finds.
    "aarch64": ["-machine", "virt,gic-version=max"],
}  # fmt: skip


def disk_base(qemu: Accelerated) -> list[str]:
    """The machine that boots a disk, without it: a PC of the kind that VirtualBox has, with SeaBIOS and a screen that
    nobody sees, for loaders and systems that look for one. Such a system may start anew.
    """
    return [*_bare_of_all(qemu), "-machine", "pc,vmport=off", "-device", "VGA,vgamem_mb=16"]


def _bare_of_all(qemu: Accelerated) -> list[str]:
    """No defaults, no network, no display, and no way for QEMU to do more."""
    return [
        str(qemu.program),
        "-nodefaults", "-no-user-config",
        "-display", "none",
        "-nic", "none",
        "-accel", ACCELERATORS[qemu.accelerator],
        "-cpu", qemu.cpu,
        "-chardev", "stdio,id=console,signal=off",
        "-serial", "chardev:console",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]  # fmt: skip


def machine(
    spec: MachineSpec,
    qemu: Accelerated,
    *,
    work_disk: Path | None,
    qmp_fd: int,
    security_model: str,
    gate_fds: tuple[int, int] | None = None,
    from_tag: str | None = None,
    tsc_khz: int | None = None,
) -> list[str]:
    """The command line of one machine, with its exports and its work disk.

    With `from_tag` it loads this saved state instead, and waits to be told to go on. `qmp_fd` is an inherited,
    connected socket. `security_model` is `mapped-xattr` or `mapped-file`: with either, what the guest plants as a link
    or a device is a plain file on the host. A machine with a network card has `gate_fds`, by which each frame of the
    card goes out of QEMU and comes in again; it waits to be told to go on, too. `tsc_khz` is the frequency of the
    host's time-stamp counter, for a kernel that would measure it (tsc.py).
    """
    image = spec.image
    if isinstance(image, Image):
        words = base(qemu)
        cmdline = kernel_words(image, tsc_khz)
        words += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", cmdline]
        words += _export("host", spec.share.host, HOST_TAG, f"security_model={security_model},readonly=on")
        words += _export("guest", spec.share.guest, GUEST_TAG, f"security_model={security_model}")
        disk, card = [] if image.work_disk is None else ["virtio-blk-pci"], "virtio"
    else:
        assert spec.hardware is not None
        words = disk_base(qemu)
        for number, (tag, folder) in enumerate(spec.hardware.exports):
            words += _export(f"export{number}", folder, tag, f"security_model={security_model}")
        disk, card = _DISKS[spec.hardware.disk_controller], spec.hardware.network_card
    words += ["-name", f"guest=vmbridge-{_option(spec.name)}"]
    words += ["-m", f"{spec.memory_mb}M", "-smp", str(spec.cpus)]
    words += ["-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"]
    if work_disk is not None:
        words += ["-blockdev", f"driver=file,filename={_option(work_disk)},node-name=work-file"]
        words += ["-blockdev", f"driver=qcow2,file=work-file,node-name={NODE}"]
    for controller in disk[:-1]:
        words += ["-device", controller]
    if disk:
        # When the host cannot write its disk the machine stands still: the guest would take it for its own trouble.
        words += ["-device", f"{disk[-1]},drive={NODE},werror=stop,rerror=stop"]
    if gate_fds is not None:
        words += _card(card, *gate_fds)
    if from_tag is not None:
        words += ["-loadvm", from_tag]
    if waits(spec, from_tag):
        words += ["-S"]
    return words


def kernel_words(image: Image, tsc_khz: int | None) -> str:
    """Return the kernel's command line. `tsc_khz` is as in `machine`."""
    return image.cmdline if tsc_khz is None else f"{image.cmdline} tsc_early_khz={tsc_khz}"


def waits(spec: MachineSpec, from_tag: str | None) -> bool:
    """Say whether the machine does not run before it is told to."""
    return spec.network or from_tag is not None


_DISKS = {
    "ide": ["ide-hd,bus=ide.0"],  # the controller is part of this PC
    "sata": ["ich9-ahci,id=disks", "ide-hd,bus=disks.0"],
    "scsi": ["lsi53c895a,id=disks", "scsi-hd,bus=disks.0"],
    "sas": ["mptsas1068,id=disks", "scsi-hd,bus=disks.0"],
    "virtio": ["virtio-scsi-pci,id=disks", "scsi-hd,bus=disks.0"],
}
"""Controller and disk, by what the job file calls the controller. VirtualBox's `scsi` is one that QEMU does not have;
this is the one that systems of that time know."""

CARDS = {"e1000": "e1000", "pcnet": "pcnet", "virtio": "virtio-net-pci"}
"""QEMU's name of a network card, by what the job file calls it."""

WAY_OUT = f"user,id={CABLE},net={NETWORK},host={GATEWAY},dns={RESOLVER},ipv6=off"
"""QEMU's user networking. It opens no port of the host's and serves no files: there is no way in."""


def _card(card: str, from_card: int, to_network: int) -> list[str]:
    """A network card whose frames pass the gate (gate.py) on their way out."""
    return [
        "-netdev", WAY_OUT,
        "-chardev", f"socket,id=from-card,fd={from_card}",
        "-chardev", f"socket,id=to-network,fd={to_network}",
        "-object", f"filter-redirector,id=gate,netdev={CABLE},queue=rx,outdev=from-card,indev=to-network",
        "-device", f"{CARDS[card]},netdev={CABLE},romfile=",
    ]  # fmt: skip


def _export(name: str, folder: Path, tag: str, how: str) -> list[str]:
    return [
        "-fsdev", f"local,id={name},path={_option(folder)},{how}",
        "-device", f"virtio-9p-pci,fsdev={name},mount_tag={tag}",
    ]  # fmt: skip


def _option(value: object) -> str:
    """Write a value inside one of QEMU's comma-separated options, where a comma is written twice."""
    return str(value).replace(",", ",,")
