"""A Debian system that starts from a CD, with VMware's way to a share: FUSE, by a program in the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.image import Image
from bridge.image.build import build_image
from bridge.image.system import System
from protocol.layout import GUEST_TAG, HOST_TAG

from ..from_cd import boot, cd, disk, mounts_when_done, shares, stage

HERE = Path(__file__).parent
SATA = ("ich9-ahci,id=sata", "ide-hd,bus=sata.0,drive=work")
VMWARE = ("-device", "vmware-svga")  # one of VMware's devices, by which the guest knows that FUSE may be of use


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    system = System(("bindfs", "mount", "open-vm-tools"), HERE / "vmware")
    return build_image(tmp_path_factory.mktemp("image"), progress=lambda _: None, system=system, boot_cd=True)


def test_a_whole_job_by_a_share_that_a_program_mounts(image: Image, tmp_path: Path) -> None:
    """It is mounted by the hook, given up and taken back by the agent, all without a word to say which way."""
    share = stage(tmp_path, image)
    boot(*cd(image), *disk(image, *SATA), *VMWARE, *shares(share, "hgfs_"))
    mounts = mounts_when_done(share)
    assert mounts["/"] == ("/dev/sda", "ext4")
    assert mounts["/run/vmbridge/host"][1] == mounts["/run/vmbridge/guest"][1] == "fuse"


def test_a_program_that_mounts_nothing_is_told(image: Image) -> None:
    said = boot(*cd(image), *disk(image, *SATA), *VMWARE)
    ways = "9p: No such device, vboxsf: No such device, vmhgfs-fuse: I/O error"
    assert f"mount_hook: cannot mount {HOST_TAG}: {ways}\n" in said and GUEST_TAG not in said
