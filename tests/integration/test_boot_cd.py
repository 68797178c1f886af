"""An image with a boot CD: the same bytes twice, and a guest that comes up from a BIOS, QEMU being given no kernel."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from bridge.guest.stage import stage_in
from bridge.image import Image
from bridge.image.boot_cd import loader_packages, make_boot_cd
from bridge.image.build import WORK_LABEL, build_image
from bridge.image.disk import make_disk
from bridge.job import MachineTask
from guest_side import read_agent
from protocol.codec import decode, encode
from protocol.files import Door, write_atomic
from protocol.layout import COMMAND, FINISHED, GUEST_TAG, HOST_TAG, OUT, Share
from protocol.messages import Command, Finished, HostState

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


WORKER = """#!/bin/sh
grep ' /work ' /proc/mounts | tail -n 1 >mounts
read line <in.txt && echo "$line" >out.txt
exec >/dev/null 2>&1
setsid sh -c '>/tmp/apart; until [ -e /run/vmbridge/guest/finished ]; do sleep 0.2; done; kill -TERM 1' &
until [ -e /tmp/apart ]; do sleep 0.1; done
"""
"""When all is told it ends the machine's first process, by one that the agent does not end with it."""


def test_a_whole_job_from_bios_to_power_off(image: Image, tmp_path: Path) -> None:
    """SeaBIOS, the loader, the disk on SATA, a job by the agent, and a machine that QEMU would start anew."""
    (tmp_path / "worker").write_text(WORKER)
    (tmp_path / "in.txt").write_text("all of it\n")
    job = MachineTask(
        tmp_path / "job.xml", "boot", tmp_path, "worker", inputs=("in.txt",), outputs=("out.txt", "mounts")
    )
    share = Share.two_folders(tmp_path / "shared")
    stage_in(job, share, agent=read_agent(image.arch), static_only=image.static_programs_only)
    write_atomic(share.host / COMMAND, encode(Command(1, HostState.RUN, time.time())), durable=False)
    said = boot(
        *("-drive", f"file={image.boot_cd},format=raw,if=none,id=cd,readonly=on", "-device", "ide-cd,drive=cd"),
        *disk(image, "ich9-ahci,id=sata", "ide-hd,bus=sata.0,drive=work"),
        *("-virtfs", f"local,path={share.host},security_model=mapped-xattr,readonly=on,mount_tag={HOST_TAG}"),
        *("-virtfs", f"local,path={share.guest},security_model=mapped-xattr,mount_tag={GUEST_TAG}"),
    )
    with Door(share.guest) as door:
        finished = door.read(FINISHED, 65_536)
    assert finished is not None and decode(FINISHED, finished) == Finished(0), said
    assert (share.guest / OUT / "out.txt").read_text() == "all of it\n"
    assert (share.guest / OUT / "mounts").read_text().startswith("/dev/sda /work ext4 ")
    assert "Power down" in said


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


PC = [
    *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-nic", "none", "-serial", "stdio"),
    *("-machine", "pc", "-accel", "tcg", "-cpu", "Nehalem-v1", "-m", "256"),
]


def disk(image: Image, *devices: str) -> list[str]:
    words = ["-drive", f"file={image.work_disk},format=vmdk,if=none,id=work,snapshot=on"]
    return [*words, *(word for device in devices for word in ("-device", device))]


def boot(*words: str) -> str:
    """Run a PC until it has switched itself off, and return what its console says."""
    done = subprocess.run(
        [*PC, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=AT_MOST_S,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr}"
    return done.stdout.replace("\r", "")
