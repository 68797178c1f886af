"""Build the tiny image: Debian's kernel, uncompressed, and an initramfs of the mount hook, a few modules and busybox.

The same packages and the same hook give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from guest_side import NotBuilt, read_mount_hook
from protocol.files import sync_folder

from ..errors import ImageError, host_trouble
from . import FORMAT, KIND, MANIFEST, Image, cpio, init, kernel, load_image
from .debian import Package, Progress, fetch, find_package, kernel_package, read_members
from .modules import load_order, slim
from .work_disk import make_work_disk

ARCH = "x86_64"
KERNEL = "vmlinux"
INITRAMFS = "initramfs.cpio"
WORK_DISK = "work.qcow2"

SHARE_MODULES = ("virtio_pci", "9pnet_virtio", "9p")
DISK_MODULES = ("virtio_blk", "crc32c_generic", "ext4")
"""ext4 asks for a crc32c by a name that is no module's, so it does not appear among its dependencies."""
CARD_MODULES = ("virtio_net",)

_MODULE_FOLDERS = (
    *("drivers/virtio", "drivers/block", "drivers/net", "net/9p", "net/core", "crypto", "lib"),
    *("fs", "fs/9p", "fs/netfs", "fs/fscache", "fs/ext4", "fs/jbd2"),
)
"""The folders of Debian's package that hold them and all that they depend on."""

CMDLINE = " ".join([
    "quiet loglevel=1 console=ttyS0 reboot=t panic=-1",
    "tsc=reliable no_timer_check 8250.nr_uarts=1 i8042.noaux i8042.nokbd",
    "random.trust_cpu=on audit=0 cryptomgr.notests rcupdate.rcu_expedited=1 mitigations=off nokaslr",
    # Three steps that cost 0.3 s, 0.3 s and 0.15 s under TCG: taking the lock prefixes out of a one-processor kernel,
    # write-protecting it and checking that, and listing its trace points.
    "noreplace-smp rodata=off initcall_blacklist=tracer_init_tracefs",
])  # fmt: skip
"""The guest is not trusted, and one program is alone in it: nothing in it is worth protecting from that program."""


def build_image(out: Path, *, progress: Progress) -> Image:
    """Build the image into the folder `out`, over an older one if there is one, and return it.

    `progress` is told in a few words what is being done. After a failure the older image is whole; a crash while the
    files are replaced leaves a folder without its manifest, which is no image.

    :raise ImageError: a package is missing or not as expected; the message says what to do.
    :raise NotInstalled: a program is missing.
    :raise HostError: a folder cannot be written.
    """
    hook = _mount_hook()
    with host_trouble("build the image"):
        busybox = find_package("busybox-static", progress)
        linux = kernel_package(find_package("linux-image-amd64", progress), progress)
        files = fetch(busybox, progress), fetch(linux, progress)
        out.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in out.glob(".build-*"):
            shutil.rmtree(left_by_a_kill)
        with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as folder:
            _write(Path(folder), hook, *files, progress)
            _write_manifest(Path(folder), [busybox, linux])
            for file in Path(folder).iterdir():
                _sync(file)
            (out / MANIFEST).unlink(missing_ok=True)  # from here until it is back there is no image, never a mixed one
            for name in (KERNEL, INITRAMFS, WORK_DISK, MANIFEST):
                sync_folder(out)
                Path(folder, name).replace(out / name)
            sync_folder(out)
    return load_image(out)


def _mount_hook() -> bytes:
    try:
        return read_mount_hook(ARCH)
    except NotBuilt as error:
        raise ImageError(str(error)) from error


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _write(folder: Path, hook: bytes, busybox: Path, linux: Path, progress: Progress) -> None:
    progress("unpacking the kernel")
    from_linux = read_members(linux, _is_wanted)
    vmlinuz = [data for path, data in from_linux.items() if path.startswith("boot/")]
    if len(vmlinuz) != 1:
        raise ImageError(f"{linux} holds {len(vmlinuz)} kernels, not one")
    try:
        (folder / KERNEL).write_bytes(kernel.decompress(vmlinuz[0]))
        progress("packing the initramfs")
        modules = {_module_name(path): data for path, data in from_linux.items() if path.endswith(".ko")}
        (folder / INITRAMFS).write_bytes(_initramfs(hook, _busybox(busybox), modules))
    except ValueError as error:
        raise ImageError(f"{linux} is not as expected: {error}. Report this to the bridge's developers") from error
    progress("formatting the work disk")
    make_work_disk(folder / WORK_DISK)


def _is_wanted(path: str) -> bool:
    below = path.partition("/kernel/")[2]
    return path.startswith("boot/vmlinuz-") or (
        below.endswith(".ko") and str(PurePosixPath(below).parent) in _MODULE_FOLDERS
    )


def _module_name(path: str) -> str:
    return PurePosixPath(path).stem.replace("-", "_")


def _busybox(deb: Path) -> bytes:
    found = read_members(deb, lambda path: path in ("bin/busybox", "usr/bin/busybox"))
    if len(found) != 1:
        raise ImageError(f"{deb} holds no busybox")
    return next(iter(found.values()))


def _initramfs(hook: bytes, busybox: bytes, modules: Mapping[str, bytes]) -> bytes:
    def needed(names: Iterable[str]) -> list[str]:
        return load_order(names, lambda name: _module(modules, name))

    share = needed(SHARE_MODULES)
    disk, card = ([name for name in needed(names) if name not in share] for names in (DISK_MODULES, CARD_MODULES))
    return cpio.archive([
        cpio.file("init", hook, executable=True),
        cpio.file("bin/busybox", busybox, executable=True),
        *(cpio.symlink(link, "/bin/busybox") for link in init.LINKS),
        *(cpio.directory(folder) for folder in init.FOLDERS),
        *(cpio.file(path, content) for path, content in init.FILES.items()),
        cpio.directory("tmp", sticky=True),
        *_numbered(init.SHARE_MODULES, share, modules),
        *_numbered(init.DISK_MODULES, disk, modules),
        *_numbered(init.CARD_MODULES, card, modules),
    ])  # fmt: skip


def _module(modules: Mapping[str, bytes], name: str) -> bytes:
    if name not in modules:
        raise ValueError(f"it holds no module {name}")
    return modules[name]


def _numbered(folder: str, names: list[str], modules: Mapping[str, bytes]) -> list[cpio.Entry]:
    """The modules under names that sort in the order in which they must be loaded."""
    return [cpio.file(f"{folder}/{number:02}-{name}.ko", slim(modules[name])) for number, name in enumerate(names)]


def _write_manifest(folder: Path, packages: list[Package]) -> None:
    manifest = {
        "format": FORMAT,
        "kind": KIND,
        "arch": ARCH,
        "kernel": KERNEL,
        "initramfs": INITRAMFS,
        "work_disk": WORK_DISK,
        "cmdline": CMDLINE,
        "static_programs_only": True,
        "packages": {package.name: package.version for package in packages},
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (KERNEL, INITRAMFS, WORK_DISK)
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
