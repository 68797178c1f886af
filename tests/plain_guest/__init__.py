"""A guest as vboxwrapper has them: a disk that boots by its own loader, and in it a system that knows no agent.

The loader is Debian's syslinux on a FAT file system, the system a kernel and busybox from Debian's packages, and one
script, which plays what a project's image does. No root is needed, and nothing is mounted.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bridge.image import cpio, init
from bridge.image.build import ARCH as ARCH
from bridge.image.build import SHARE_MODULES, _busybox, _module_name
from bridge.image.debian import fetch, find_package, kernel_package, read_members
from bridge.image.modules import load_order, slim

PROGRAMS = ("mformat", "mcopy", "syslinux", "qemu-img")

DISK_MB = 32

_FOLDERS = ("drivers/virtio", "net/9p", "fs/9p", "fs/netfs", "fs/fscache")

_SYSLINUX = """default linux
prompt 0
timeout 0
label linux
 kernel vmlinuz
 initrd initrd
 append {words}
"""

_WORDS = (
    "console=ttyS0 quiet loglevel=1 mitigations=off nokaslr random.trust_cpu=on tsc=reliable no_timer_check panic=-1"
)

INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /bin /proc /sys /dev /shared /scratch
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
for module in /modules/*.ko; do insmod $module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=none shared /shared || poweroff -f
mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=none scratch /scratch 2>/dev/null
cd /shared
. ./job.sh
"""
"""It does what a file of the project says, which `copy_to_shared` has brought."""


def build_disk(folder: Path, formats: tuple[str, ...] = ("qcow2",)) -> list[Path]:
    """Make the disk in `folder`, once in each of these formats of qemu-img, and return the files."""
    busybox = fetch(find_package("busybox-static", _silent), _silent)
    found = _linux()
    modules = {_module_name(path): data for path, data in found.items() if path.endswith(".ko")}
    order = load_order(SHARE_MODULES, modules.__getitem__)
    initrd = cpio.archive([
        cpio.file("init", INIT.encode(), executable=True),
        cpio.file("bin/busybox", _busybox(busybox), executable=True),
        cpio.file("etc/hosts", init.FILES["etc/hosts"]),
        *(cpio.file(f"modules/{at:02}.ko", slim(modules[name])) for at, name in enumerate(order)),
    ])  # fmt: skip
    return _bootable(folder, initrd, _WORDS, formats)


@cache
def _linux() -> Mapping[str, bytes]:
    """Return what is needed of Debian's kernel; to unpack it takes seconds."""
    package = fetch(kernel_package(find_package("linux-image-amd64", _silent), _silent), _silent)
    wanted = ("boot/vmlinuz-", *(f"/kernel/{below}/" for below in _FOLDERS))
    return read_members(package, lambda path: any(part in path or path.startswith(part) for part in wanted))


def _bootable(folder: Path, initrd: bytes, words: str, formats: tuple[str, ...]) -> list[Path]:
    (kernel,) = (data for path, data in _linux().items() if path.startswith("boot/"))
    (folder / "vmlinuz").write_bytes(kernel)
    (folder / "initrd").write_bytes(initrd)
    (folder / "syslinux.cfg").write_text(_SYSLINUX.format(words=words))
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(DISK_MB << 20)
    sectors = (DISK_MB << 20) // 512
    _run("mformat", "-i", disk, "-h", "64", "-s", "32", "-T", sectors, "-H", "0", "::")
    _run("mcopy", "-i", disk, folder / "vmlinuz", folder / "initrd", folder / "syslinux.cfg", "::")
    _run("syslinux", "--install", disk)
    disks = []
    for one in formats:
        disks.append(folder / f"vm_image.{one}")
        _run("qemu-img", "convert", "-f", "raw", "-O", one, disk, disks[-1])
    return disks


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=60)


def _silent(what: str) -> None:
    """Nobody waits for it."""
