"""An image with a boot CD: the same bytes twice, and a guest that comes up from a BIOS, QEMU being given no kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.image import Image, load_image
from bridge.image.boot_cd import loader_packages, make_boot_cd
from bridge.image.build import WORK_LABEL
from bridge.image.disk import make_disk

from ..from_cd import boot, cd, disk, mounts_when_done, shares, stage
from .cd_machines import built


@pytest.fixture(scope="module")
def image() -> Image:
    return load_image(built())


def test_the_cd_and_its_disk_are_the_same_bytes_twice(image: Image, tmp_path: Path) -> None:
    loader = loader_packages(lambda _: None)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        make_boot_cd(tmp_path / f"{name}.iso", loader, b"kernel", b"initramfs", "quiet", tmp_path / name)
        (tmp_path / name / "disk").mkdir()
        make_disk(tmp_path / name / "disk" / "work.vmdk", WORK_LABEL, disk_format="vmdk")
    assert (tmp_path / "one.iso").read_bytes() == (tmp_path / "other.iso").read_bytes()
    disks = [(tmp_path / name / "disk" / "work.vmdk").read_bytes() for name in ("one", "other")]
    assert image.work_disk is not None
    assert disks[0] == disks[1] == image.work_disk.read_bytes()


def test_the_manifest_knows_the_cd_and_the_disk_is_one_file_of_vmware(image: Image) -> None:
    assert image.boot_cd is not None and image.work_disk is not None
    manifest = json.loads((image.boot_cd.parent / "image.json").read_text())
    assert {"isolinux", "syslinux-common"} <= manifest["packages"].keys()
    assert set(manifest["sha256"]) == {file.name for file in image.files}
    assert image.work_disk_format == "vmdk" and b'createType="monolithicSparse"' in image.work_disk.read_bytes()


def test_a_whole_job_from_bios_to_power_off(image: Image, tmp_path: Path) -> None:
    """SeaBIOS, the loader, the disk on SATA, a job by the agent, and a machine that QEMU would start anew."""
    share = stage(tmp_path, image)
    said = boot(*cd(image), *disk(image, "ich9-ahci,id=sata", "ide-hd,bus=sata.0,drive=work"), *shares(share))
    assert mounts_when_done(share)["/work"] == ("/dev/sda", "ext4")
    assert "ISOLINUX" in said and "Power down" in said


def test_vboxs_modules_load_and_what_none_of_the_ways_can_is_told_in_one_line(image: Image, tmp_path: Path) -> None:
    """A machine without shares, and with a device of VirtualBox's and of VMware's, which QEMU's own two play."""
    initramfs = tmp_path / "initramfs"
    packed = image.initramfs.read_bytes()
    for device, player in (
        (b"v000080EEd0000CAFEsv*\0", b"v00008086d00001237sv*\0"),
        (b"v000015ADd*\0", b"v00008086d*\0"),
    ):
        assert packed.count(b"/pci:" + device) == 1 and len(device) == len(player)
        packed = packed.replace(b"/pci:" + device, b"/pci:" + player)
    initramfs.write_bytes(packed)
    said = boot(
        *("-kernel", str(image.kernel), "-initrd", str(initramfs)),
        *("-append", image.cmdline.replace("loglevel=1", "loglevel=4")),
        *disk(image, "ide-hd,bus=ide.0,drive=work"),
    )
    assert "vboxsf: err -19 connecting to guest PCI-device" in said, "the module's own words"
    ways = "9p: No such device, vboxsf: No such device, vmhgfs-fuse: No such file or directory"
    assert f"mount_hook: cannot mount vmbridge_host: {ways}\n" in said
    assert "Power down" in said and "panic" not in said
