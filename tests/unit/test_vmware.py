"""VMware: the machine as a table, and the disk that lies over the project's. Real VMware never ran."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import HypervisorError, NotInstalled
from bridge.hypervisors import Apart, Continues, Copies, Hardware, MachineSpec, Saves, choose
from bridge.hypervisors.processor import model_in, processor
from bridge.hypervisors.vmware import VMware
from bridge.hypervisors.vmware.delta import HEAD_BYTES, delta, description_at, parent
from bridge.hypervisors.vmware.vmx import (
    changed,
    devices,
    disk_is_full,
    ended_in_order,
    going_on,
    machine_name,
    refusal,
    saved_in,
    table,
    written,
)
from bridge.hypervisors.vmware.vmx import read as read_vmx
from bridge.image import Image
from bridge.image.bare import BareDisk
from protocol.layout import Share

from ..vmrun.vmrun import read

SHARE = Share.two_folders(Path("/slot/shared"))
DISK = BareDisk(Path("/project/disk.vmdk"), "vmdk", "vmdk 1 2")
IMAGE = Image(
    *("x86_64", Path("/project/vmlinux"), Path("/project/initramfs"), Path("/project/work.vmdk"), "quiet", True, "d1"),
    work_disk_format="vmdk",
    boot_cd=Path("/project/boot.iso"),
)
SPEC = MachineSpec("science", Path("/slot/machine"), SHARE, IMAGE, 254, 2)
PLAIN = replace(SPEC, image=DISK, hardware=Hardware("ide", "e1000", ()))


def test_the_machine_sees_two_folders_and_writes_to_one() -> None:
    found = table(SPEC)
    assert found["displayName"] == machine_name(Path("/slot/machine")) != machine_name(Path("/slot2/machine"))
    assert (found["memsize"], found["numvcpus"], found["firmware"]) == ("256", "2", "bios")
    assert (found["sharedFolder0.guestName"], found["sharedFolder0.writeAccess"]) == ("vmbridge_host", "FALSE")
    assert (found["sharedFolder1.guestName"], found["sharedFolder1.writeAccess"]) == ("vmbridge_guest", "TRUE")
    assert found["sharedFolder.maxNum"] == "2" and found["sharedFolder1.hostPath"] == str(SHARE.guest)


def test_a_guest_of_ours_boots_from_a_cd_and_has_a_disk() -> None:
    found = table(SPEC)
    assert (found["ide1:0.deviceType"], found["ide1:0.fileName"]) == ("cdrom-image", "/project/boot.iso")
    assert found["bios.bootOrder"] == "cdrom,hdd" and found["sata0:0.fileName"] == "disk.vmdk"
    assert not any(name.startswith("ide") for name in table(replace(PLAIN, hardware=Hardware("sata", "e1000", ()))))


def test_what_vmware_has_written_stays_where_nothing_else_is_wanted() -> None:
    text = """.encoding = "UTF-8"
    MEMSIZE = "9"
uuid.bios = "56 4d 13 59"
checkpoint.vmState.readOnly = "FALSE"
checkpoint.vmState = "machine-5cf61512.vmss"
annotation = "a |22b|22"
no such line
"""
    assert read_vmx(text)["annotation"] == 'a "b"' and saved_in(text) == "machine-5cf61512.vmss"
    again = read(changed(text, going_on(SPEC, "one.state/machine-5cf61512.vmss", stays=True)))
    assert again["uuid.bios"] == "56 4d 13 59" and again["memsize"] == "256"
    assert again["checkpoint.vmstate"] == "one.state/machine-5cf61512.vmss"
    assert again["checkpoint.vmstate.readonly"] == "TRUE"
    assert saved_in(changed(text, {"checkpoint.vmState": ""})) is None is saved_in("")


def test_another_machine_is_made_of_other_things() -> None:
    moved = replace(SPEC, name="other", directory=Path("/slot2/machine"), memory_mb=512, cpus=1)
    assert devices(SPEC) == devices(moved)
    assert devices(SPEC) != devices(PLAIN) != devices(replace(PLAIN, hardware=Hardware("sas", "e1000", ())))


def test_it_says_what_it_can() -> None:
    assert issubclass(VMware, Saves) and issubclass(VMware, Continues) and issubclass(VMware, Apart)
    assert not issubclass(VMware, Copies)


def test_the_machine_has_nothing_that_was_not_asked_for() -> None:
    found = table(SPEC)
    absent = {name for name, value in found.items() if name.endswith(".present") and value == "FALSE"}
    assert {"ethernet0.present", "sound.present", "usb.present", "floppy0.present"} <= absent
    assert found["msg.autoAnswer"] == "TRUE" and found["autostart"] == "none"


@pytest.mark.parametrize(
    ("controller", "disk", "model"),
    [("ide", "ide0:0", None), ("sata", "sata0:0", None), ("scsi", "scsi0:0", "lsilogic"),
     ("sas", "scsi0:0", "lsisas1068")],
)  # fmt: skip
def test_a_machine_of_an_old_job_has_its_hardware(controller: str, disk: str, model: str | None) -> None:
    hardware = Hardware(controller, "e1000", (("shared", Path("/slot/shared")),))
    found = table(replace(SPEC, hardware=hardware))
    assert found[f"{disk}.fileName"] == "disk.vmdk" and found.get("scsi0.virtualDev") == model
    assert (found["sharedFolder0.guestName"], found["sharedFolder0.writeAccess"]) == ("shared", "TRUE")


def test_a_computer_names_its_processor() -> None:
    told = "processor\t: 0\nmodel\t\t: 94\nmodel name\t: Some CPU @ 2.30GHz \n\nmodel name\t: Another\n"
    assert model_in(told) == "Some CPU @ 2.30GHz" and model_in("Features : fp") is None
    assert processor()


def test_no_path_ends_a_value() -> None:
    odd = 'a"\nethernet0.present = "TRUE|#'
    text = written({"name": odd})
    assert text.count("\n") == 1 and text.count('"') == 2
    assert read(text) == {"name": odd}


def test_what_is_refused() -> None:
    assert refusal(SPEC) is None
    assert "network" in (refusal(replace(SPEC, network=True)) or "")
    assert "virtio" in (refusal(replace(SPEC, hardware=Hardware("virtio", "e1000", ()))) or "")
    assert VMware.refuses(DISK) is None is VMware.refuses(IMAGE)
    assert "--boot-cd" in (VMware.refuses(replace(IMAGE, boot_cd=None)) or "")
    assert "qcow2" in (VMware.refuses(replace(IMAGE, work_disk_format="qcow2")) or "")
    assert "vdi" in (VMware.refuses(replace(DISK, work_disk_format="vdi")) or "")
    assert "aarch64" in (VMware.refuses(replace(DISK, arch="aarch64")) or "")


def test_without_vmrun_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotInstalled, match="vmrun is not in PATH"):
        asyncio.run(VMware(SPEC).probe())
    with pytest.raises(HypervisorError, match="network"):
        asyncio.run(VMware(replace(SPEC, network=True)).probe())


def test_it_is_used_only_where_it_is_named() -> None:
    assert choose("vmware", None) is VMware is choose(None, "vmware")
    with pytest.raises(NotInstalled):
        choose(None, None, {"vmrun": "/usr/bin/vmrun"}.get)


def test_what_the_end_of_a_log_says() -> None:
    assert ended_in_order("2026-11-26T15:00:00.000Z In(05) vmx VMX has left the building: 0.\n")
    assert not ended_in_order("VMX has left the building: 1.") and not ended_in_order("vcpu-0| Panic")
    assert disk_is_full("msg.hbacommon.outofspace: There is no more space for virtual disk '/x'.")
    assert not disk_is_full("")


# The disk

TEXT = """# Disk DescriptorFile
version=1
CID=1a2b3c4d
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 65537 SPARSE "vm_image.vmdk"

# The Disk Data Base
ddb.adapterType = "ide"
ddb.geometry.heads = "16"
"""


def head(sectors: int = 65537, flags: int = 3, at: int = 1, size: int = 20) -> bytes:
    fields = (b"KDMV", 1, flags, sectors, 128, at, size, 512, 21, 26, 128, 0, b"\n \r\n", 0)
    return struct.pack("<4sIIQQQQIQQQB4sH", *fields)


def test_a_delta_names_its_parent_and_has_room_for_all_of_it() -> None:
    found = parent(head(), TEXT.encode())
    length, parts = delta(found, "/project/vm image.vmdk", "disk.vmdk")
    text = dict(parts)[512].decode()
    assert 'parentFileNameHint="/project/vm image.vmdk"' in text and "parentCID=1a2b3c4d" in text
    assert 'RW 65537 SPARSE "disk.vmdk"' in text and 'ddb.geometry.heads = "16"' in text
    assert description_at(parts[0][1]) == (512, 20 * 512) and len(parts[0][1]) == HEAD_BYTES
    first, second = (struct.unpack("<2I", part) for at, part in parts[2:])
    assert first[1] - first[0] == second[1] - second[0] == 4, "a table for each 32 MB"
    assert length % (128 * 512) == 0 and length >= (max(*first, *second) + 4) * 512


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('SPARSE "vm_image.vmdk"', 'SPARSE "/etc/shadow"'),
        ('SPARSE "vm_image.vmdk"', 'SPARSE "../vm_image.vmdk"'),
        ('SPARSE "vm_image.vmdk"', 'FLAT "vm_image.vmdk" 0'),
        ('SPARSE "vm_image.vmdk"', 'SPARSE "vm_image.vmdk"\nRW 1 FLAT "/etc/shadow" 0'),
        ("parentCID=ffffffff", 'parentCID=ffffffff\nparentFileNameHint="/etc/shadow"'),
        ("parentCID=ffffffff", "parentCID=00000001"),
        ("monolithicSparse", "monolithicFlat"),
    ],
)
def test_a_disk_that_would_show_the_guest_other_files(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(ValueError, match="names other files"):
        parent(head(), TEXT.replace(old, new).encode())


def test_a_disk_of_ours_may_lie_over_another() -> None:
    text = dict(delta(parent(head(), TEXT.encode()), "/project/vm image.vmdk", "disk.vmdk")[1])[512]
    with pytest.raises(ValueError, match="names other files"):
        parent(head(), text)
    found = parent(head(), text, is_ours=True)
    assert found.identity == "fffffffe" and found.geometry == ('ddb.adapterType = "ide"', 'ddb.geometry.heads = "16"')


def test_disks_that_are_no_good() -> None:
    with pytest.raises(ValueError, match="compressed"):
        description_at(head(flags=3 | 1 << 16))
    for bad in (b"KDMV", b"QFI\xfb".ljust(512, b"\0"), head(at=0)):
        with pytest.raises(ValueError, match="no VMDK"):
            description_at(bad)
    with pytest.raises(ValueError, match="too long"):
        description_at(head(size=1 << 40))
    for sectors in (0, 1 << 60):
        with pytest.raises(ValueError, match="is broken"):
            parent(head(sectors), TEXT.encode())
    with pytest.raises(ValueError, match="is broken"):
        parent(head(), TEXT.replace("CID=1a2b3c4d", "CID=zz").encode())
    for path in ('/a"b', "/a\nb", "/" + "a" * 20_000):
        with pytest.raises(ValueError, match="cannot name"):
            delta(parent(head(), TEXT.encode()), path, "disk.vmdk")
