"""Bare disks: known by their content, and refused where they name other files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from bridge.errors import ImageError
from bridge.hypervisors import DISK_CONTROLLERS, NETWORK_CARDS, Hardware, MachineSpec
from bridge.hypervisors.qemu.command_line import machine
from bridge.image.bare import BareDisk, disk_format, load_disk
from protocol.layout import Share

from .test_qemu import TCG, after


def qcow2(version: int = 3, backing: int = 0, features: int = 0) -> bytes:
    return struct.pack(">4sIQ", b"QFI\xfb", version, backing).ljust(72, b"\0") + struct.pack(">Q", features)


RAW = b"\0" * 510 + b"\x55\xaa"
VDI = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe"
VMDK = b"KDMV" + struct.pack("<IIQ", 1, 3, 65536)


@pytest.mark.parametrize(
    ("head", "kind"),
    [(qcow2(), "qcow2"), (qcow2(2), "qcow2"), (VDI, "vdi"), (VMDK, "vmdk"), (RAW, "raw")],
)
def test_what_kind_of_disk_it_is_its_content_says(tmp_path: Path, head: bytes, kind: str) -> None:
    link = tmp_path / "vm_image.vdi"
    link.write_bytes(head)
    disk = load_disk(Path("a name in the slot"), lambda path: link)
    assert (disk.work_disk, disk.work_disk_format) == (link, kind)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(qcow2(backing=512), id="qcow2 over another disk"),
        pytest.param(qcow2(2, backing=512), id="old qcow2 over another disk"),
        pytest.param(qcow2(features=4), id="qcow2 with its data elsewhere"),
        pytest.param(b"# Disk DescriptorFile\nRW 8 FLAT /etc/shadow 0\n", id="vmdk that is a text"),
        pytest.param(b"KDMV" + struct.pack("<IIQ", 1, 3, 0), id="vmdk that consists of what its text names"),
    ],
)
def test_a_disk_that_needs_other_files_is_refused(tmp_path: Path, head: bytes) -> None:
    """Its names would be opened with the volunteer's rights: /etc/shadow as a disk of the guest's."""
    (tmp_path / "disk").write_bytes(head)
    with pytest.raises(ImageError, match=r"needs other files.*qemu-img convert"):
        load_disk(tmp_path / "disk")


@pytest.mark.parametrize("head", [b"", b"QFI", qcow2(4), b"#!/bin/sh\n", b"\0" * 4096, os.urandom(510) + b"\0\0"])
def test_what_is_no_disk_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"is no disk|not known"):
        disk_format(head)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"vm_image\.vdi not found"):
        load_disk(tmp_path / "vm_image.vdi")
    with pytest.raises(ImageError, match="stands for"):
        load_disk(tmp_path / "vm_image.vdi", lambda path: tmp_path / "other")
    with pytest.raises(ImageError, match="is no file"):
        load_disk(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for its writer
    with pytest.raises(ImageError, match="is no file"):
        load_disk(tmp_path / "pipe")


def words(controller: str = "sata", card: str | None = None) -> list[str]:
    disk = BareDisk(Path("/i/vm_image.vdi"), "vdi", "vdi 1 1")
    exports = (("shared", Path("/slot,1/shared")), ("scratch", Path("/p/scratch")))
    spec = MachineSpec(
        *("job", Path("/slot/machine"), Share.one_folder(Path("/slot,1/shared")), disk, 512, 2),
        network=card is not None,
        hardware=Hardware(controller, card or "e1000", exports),
    )
    gate = None if card is None else (8, 9)
    return machine(
        spec, TCG, work_disk=Path("/slot/work.qcow2"), qmp_fd=7, security_model="mapped-xattr", gate_fds=gate
    )


def test_the_guest_boots_by_itself_and_has_the_folders_by_their_tags() -> None:
    line = words()
    assert "-kernel" not in line and "-bios" not in line and "-no-reboot" not in line
    assert after("-fsdev", line) == [
        "local,id=export0,path=/slot,,1/shared,security_model=mapped-xattr",
        "local,id=export1,path=/p/scratch,security_model=mapped-xattr",
    ]
    assert [word for word in after("-device", line) if "mount_tag" in word] == [
        "virtio-9p-pci,fsdev=export0,mount_tag=shared",
        "virtio-9p-pci,fsdev=export1,mount_tag=scratch",
    ]
    assert after("-sandbox", line) == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert after("-nic", line) == ["none"] and "netdev" not in " ".join(line)


@pytest.mark.parametrize("controller", DISK_CONTROLLERS)
def test_a_machine_whose_disk_has_trouble_stands_still_behind_any_controller(controller: str) -> None:
    (disk,) = (word for word in after("-device", words(controller)) if "drive=work," in word)
    assert disk.endswith(",werror=stop,rerror=stop")


@pytest.mark.parametrize("card", NETWORK_CARDS)
def test_every_card_passes_the_gate(card: str) -> None:
    line = words(card=card)
    assert any(word.startswith("filter-redirector,id=gate") for word in after("-object", line))
    assert any("netdev=cable,romfile=" in word for word in after("-device", line)) and "-S" in line
    assert "hostfwd" not in " ".join(line)
