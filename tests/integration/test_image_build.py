"""The tiny image from real packages: the same bytes twice, a sound work disk, a guest that reaches the mount hook."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path

import pytest

from bridge.errors import ImageError
from bridge.image import Image, load_image
from bridge.image.build import build_image
from bridge.image.disk import make_disk
from bridge.image.tree import Node

from ..patience import AT_MOST_S


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"), progress=lambda _: None)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_two_builds_are_the_same_bytes(image: Image, tmp_path: Path) -> None:
    again = tmp_path / "deep" / "again"
    assert build_image(again, progress=lambda _: None) == load_image(again)
    assert digests(again) == digests(image.kernel.parent)


def test_the_manifest_holds_the_digests_of_the_files(image: Image) -> None:
    folder = image.kernel.parent
    promised = json.loads((folder / "image.json").read_text())["sha256"]
    assert promised == {name: digest for name, digest in digests(folder).items() if name != "image.json"}


def test_the_work_disk_is_sound_and_small(image: Image, tmp_path: Path) -> None:
    assert image.work_disk is not None
    assert image.work_disk.stat().st_size < 4 << 20
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image.work_disk, raw], check=True)
    assert raw.stat().st_size == 8 << 30
    subprocess.run(["/sbin/e2fsck", "-fn", raw], check=True)


def test_a_disk_with_files_holds_them_as_they_are(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"hello" + bytes(1 << 20) + b"world")
    nodes = [
        Node("d", stat.S_IFDIR | 0o2775, gid=8),
        Node('d/Főtanúsítvány "1" <2>', stat.S_IFREG | 0o4755, uid=7, content=content),
        Node("second", stat.S_IFREG, target='d/Főtanúsítvány "1" <2>'),
        Node("link", stat.S_IFLNK | 0o777, target="d/" + "long" * 50),
    ]
    for name in ("one", "other"):
        make_disk(tmp_path / f"{name}.qcow2", "label", nodes if name == "one" else reversed(nodes))
    assert (tmp_path / "one.qcow2").read_bytes() == (tmp_path / "other.qcow2").read_bytes()
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", tmp_path / "one.qcow2", raw], check=True)
    subprocess.run(["/sbin/e2fsck", "-fn", raw], check=True)
    assert debugfs("cat /second", raw) == content.read_bytes()
    said = debugfs("stat /second", raw).decode()
    assert "Mode:  04755" in said and "User:     7" in said and "Links: 2" in said
    assert "mtime: 0x6483bd00" in said and "ctime: 0x6483bd00" in said
    assert "Mode:  02775" in debugfs("stat /d", raw).decode()
    assert "long" * 50 in debugfs("cat /link", raw).decode()
    assert sorted(tmp_path.iterdir()) == sorted(
        tmp_path / name for name in ("content", "one.qcow2", "other.qcow2", "raw")
    )


def debugfs(command: str, disk: Path) -> bytes:
    return subprocess.run(["/sbin/debugfs", "-R", command, disk], check=True, stdout=subprocess.PIPE).stdout


def test_a_folder_that_is_something_else_is_not_touched(image: Image, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ImageError, match=r"holds 'thesis.tex', which is not of an image"):
        build_image(tmp_path, progress=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_with_the_name_of_an_images_file_is_not_touched(image: Image, tmp_path: Path) -> None:
    """The build used to fail when the former image's manifest was gone already."""
    (tmp_path / "image.json").write_text("the former")
    (tmp_path / "work.vmdk").mkdir()
    with pytest.raises(ImageError, match=r"holds 'work.vmdk', which is not of an image"):
        build_image(tmp_path, progress=lambda _: None)
    assert (tmp_path / "image.json").read_text() == "the former" and (tmp_path / "work.vmdk").is_dir()


def test_what_a_killed_build_and_an_image_of_another_kind_have_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".build-killed").mkdir()
    (tmp_path / "system.vdi").touch()
    built = build_image(tmp_path, progress=lambda _: None)
    assert built.work_disk is not None
    assert {path.name for path in tmp_path.iterdir()} == {
        "image.json",
        *(path.name for path in (built.kernel, built.initramfs, built.work_disk)),
    }


@pytest.mark.parametrize("with_disk", [False, True])
def test_a_machine_finds_its_share_and_its_work_folder(image: Image, tmp_path: Path, with_disk: bool) -> None:
    """Boot with a shell script in the agent's place, which says what it sees."""
    (tmp_path / "agent").write_text("#!/bin/sh\necho; grep ' /work ' /proc/mounts; echo over; poweroff -f\n")
    words = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-nic", "none", "-serial", "stdio"]
    words += ["-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem-v1", "-m", "256", "-bios", "qboot.rom"]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", image.cmdline]
    words += ["-fsdev", f"local,id=host,path={tmp_path},security_model=mapped-xattr,readonly=on"]
    words += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=vmbridge_host"]
    if with_disk:
        words += ["-drive", f"file={image.work_disk},format=qcow2,if=virtio,snapshot=on"]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=AT_MOST_S
    )
    said = [line.strip() for line in done.stdout.splitlines()]
    assert "over" in said, f"the console says: {done.stdout[-2000:]}{done.stderr}"
    mounted = [line.split()[0:3] for line in said if " /work " in line]
    assert mounted[-1] == (["/dev/vda", "/work", "ext4"] if with_disk else ["tmpfs", "/work", "tmpfs"])
