"""An image with a boot CD: the same bytes twice, and a guest that comes up from a BIOS, QEMU being given no kernel."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bridge.image import Image
from bridge.image.boot_cd import loader_packages, make_boot_cd
from bridge.image.build import WORK_LABEL, build_image
from bridge.image.disk import make_disk

from ..patience import AT_MOST_S


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"), progress=lambda _: None, boot_cd=True)


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


def test_a_machine_starts_from_the_cd(image: Image, tmp_path: Path) -> None:
    """SeaBIOS, the loader, the hook and the share, with a shell script in the agent's place."""
    (tmp_path / "agent").write_text("#!/bin/sh\necho; grep ' /work ' /proc/mounts; echo over; poweroff -f\n")
    words = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-nic", "none", "-serial", "stdio"]
    words += ["-machine", "pc", "-accel", "tcg", "-cpu", "Nehalem-v1", "-m", "256"]
    words += ["-fsdev", f"local,id=host,path={tmp_path},security_model=mapped-xattr,readonly=on"]
    words += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=vmbridge_host"]
    words += ["-drive", f"file={image.boot_cd},format=raw,if=none,id=cd,readonly=on", "-device", "ide-cd,drive=cd"]
    words += ["-drive", f"file={image.work_disk},format=vmdk,if=virtio,snapshot=on"]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=AT_MOST_S
    )
    said = [line.strip() for line in done.stdout.splitlines()]
    assert "over" in said, f"the console says: {done.stdout[-2000:]}{done.stderr}"
    assert [line.split()[1:3] for line in said if " /work " in line][-1] == ["/work", "ext4"]
