"""Build an image: Debian's kernel, uncompressed, an initramfs of the mount hook and a few modules, and a disk.

In the tiny image the initramfs has busybox beside them and is all there is, and the disk is empty. Else the disk holds
a Debian system (system.py). The same packages and the same hook give the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from guest_side import NotBuilt, read_mount_hook
from protocol.files import sync_folder

from ..digest import sha256_of
from ..errors import ImageError, host_trouble
from . import DISK_FORMATS, FORMAT, KIND, MANIFEST, Image, cpio, init, kernel, load_image
from .boot_cd import loader_packages, make_boot_cd
from .debian import ARCHITECTURES, Progress, fetch, find_package, kernel_package, read_members, renew_lists
from .disk import make_disk
from .modules import load_order, slim
from .system import System, check, install, versions

ARCH = "x86_64"
KERNEL = "vmlinux"
INITRAMFS = "initramfs.cpio"
WORK_DISK = "work"
WORK_LABEL = "vmbridge-work"
SYSTEM_DISK = "system"
SYSTEM_LABEL = "vmbridge-system"
BOOT_CD = "boot.iso"
CD_DISK_FORMAT = "vmdk"
"""The disk's, beside a CD: all hypervisors that need the CD can put a disk of the machine's own over it."""

_NAMES = {
    *(KERNEL, INITRAMFS, BOOT_CD, MANIFEST),
    *(f"{disk}.{one}" for disk in (WORK_DISK, SYSTEM_DISK) for one in DISK_FORMATS),
}
_UNFINISHED = ".build-*"

SHARE_MODULES = ("virtio_pci", "9pnet_virtio", "9p")
_EXT4 = ("crc32c_generic", "ext4")
"""ext4 asks for a crc32c by a name that is no module's, so it does not appear among its dependencies."""

Lists = Mapping[str, Mapping[str, Sequence[str]]]

LISTS: Lists = {
    init.SHARE_LISTS: {"pci:v00001AF4d*": SHARE_MODULES},
    init.DISK_LISTS: {"virtio:d00000002v*": ("virtio_blk", *_EXT4)},
    init.CARD_LISTS: {"virtio:d00000001v*": ("virtio_net",)},
}
"""By folder and device: the modules that it needs, beside those that they depend on."""

CD_LISTS: Lists = {
    init.SHARE_LISTS: {
        "pci:v000080EEd0000CAFEsv*": ("vboxguest", "vboxsf"),
        "pci:v000015ADd*": ("fuse",),
    },
    init.DISK_LISTS: {
        "pci:v*bc01sc06i01*": ("ahci", "sd_mod", *_EXT4),
        "pci:v00008086d*bc01sc01i*": ("ata_piix", "sd_mod", *_EXT4),
        "pci:v00001000d00000030sv*": ("mptspi", "sd_mod", *_EXT4),
    },
}
"""More of them, for what VirtualBox and VMware have in virtio's place: their shared folders; disks on SATA, on IDE, on
the controller of LSI that VMware calls lsilogic."""

_MODULE_FOLDERS = (
    *("drivers/virtio", "drivers/block", "drivers/net", "net/9p", "net/core", "crypto", "lib"),
    *("fs", "fs/9p", "fs/netfs", "fs/fscache", "fs/ext4", "fs/jbd2"),
)
_CD_MODULE_FOLDERS = (
    *("arch/x86/crypto", "block", "drivers/ata", "drivers/scsi", "drivers/message/fusion"),
    *("drivers/virt/vboxguest", "fs/fuse", "fs/vboxsf"),
)
"""The folders of Debian's package that hold them and all that they depend on."""

_CMDLINE = " ".join([
    "quiet loglevel=1 panic=-1",
    "random.trust_cpu=on audit=0 cryptomgr.notests rcupdate.rcu_expedited=1 mitigations=off nokaslr",
    # Two steps that cost 0.3 s and 0.15 s under TCG on x86: write-protecting the kernel and checking that, and listing
    # its trace points.
    "rodata=off initcall_blacklist=tracer_init_tracefs",
])  # fmt: skip
CMDLINES = {
    # Taking the lock prefixes out of a one-processor kernel costs another 0.3 s.
    "x86_64": f"{_CMDLINE} console=ttyS0 reboot=t tsc=reliable no_timer_check 8250.nr_uarts=1 i8042.noaux i8042.nokbd"
              " noreplace-smp",
    "aarch64": f"{_CMDLINE} console=ttyAMA0",
}  # fmt: skip
"""The guest is not trusted, and one program is alone in it: nothing in it is worth protecting from that program."""


def build_image(
    out: Path, *, progress: Progress, system: System | None = None, arch: str = ARCH, boot_cd: bool = False
) -> Image:
    """Build the image into the folder `out`, over an older one if there is one, and return it.

    It is the tiny one, or holds a whole `system`, which is for x86_64. With `boot_cd`, for x86_64 also, it has a CD and
    can be started where no kernel can be given to the hypervisor; the disk is a VMDK then, whatever the system says.
    `progress` is told in a few words what is being done. After a failure the older image is whole; a crash while the
    files are replaced leaves a folder without its manifest, which is no image.

    :raise ImageError: `out` is something else; a package is missing or not as expected; the message says what to do.
    :raise NotInstalled: a program is missing.
    :raise HostError: a folder cannot be written.
    """
    if system is not None and arch != ARCH:
        raise ImageError(f"an image with a Debian system is for {ARCH}. For {arch} there is the tiny one: --arch alone")
    if boot_cd and arch != ARCH:
        raise ImageError(f"a boot CD is for {ARCH}. For {arch} leave out --boot-cd")
    hook, debian = _mount_hook(arch), ARCHITECTURES[arch]
    with host_trouble("build the image"):
        _refuse_foreign(out)
        if system is not None:
            check(system)
        renew_lists(debian, progress)
        linux = kernel_package(find_package(f"linux-image-{debian}", progress, debian), progress)
        busybox = find_package("busybox-static", progress, debian) if system is None else None
        debs = {package: fetch(package, progress) for package in (busybox, linux) if package is not None}
        with _workshop(out) as folder:
            new = _made(folder / "new")
            unpacked = debs[busybox] if busybox is not None else None
            vmlinuz = _write_boot_files(new, arch, hook, unpacked, debs[linux], progress, boot_cd=boot_cd)
            if boot_cd:
                progress("writing the boot CD")
                loader = loader_packages(progress)
                initramfs, scratch = (new / INITRAMFS).read_bytes(), _made(folder / "cd")
                make_boot_cd(new / BOOT_CD, loader, vmlinuz, initramfs, CMDLINES[arch], scratch)
                debs |= loader
            disk_format = CD_DISK_FORMAT if boot_cd else "qcow2" if system is None else system.disk_format
            packages = {package.name: package.version for package in debs}
            disk = f"{WORK_DISK if system is None else SYSTEM_DISK}.{disk_format}"
            if system is None:
                progress("formatting the work disk")
                make_disk(new / disk, WORK_LABEL, disk_format=disk_format)
            else:
                tree = install(system, _made(folder / "tree"), progress)
                progress(f"writing {len(tree.nodes):,} files to the disk")
                make_disk(new / disk, SYSTEM_LABEL, tree.nodes.values(), disk_format)
                packages |= versions(tree.text("var/lib/dpkg/status"))
            _write_manifest(new, arch, packages, disk, disk_format, static=system is None)
            _put_in_place(new, out)
    return load_image(out)


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A folder in `out` to build in; if there is nothing in `out` afterwards, it goes too."""
    out.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in out.glob(_UNFINISHED):
        shutil.rmtree(left_by_a_kill)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as folder:
            yield Path(folder)
    finally:
        with suppress(OSError):
            out.rmdir()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _refuse_foreign(out: Path) -> None:
    """Check that nothing is lost if `out` becomes an image.

    :raise ImageError: it is not absent, not empty, and not a former image to which nothing was added.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ImageError(f"{out} is there and is no folder. Choose another name, or move it away")
    for entry in sorted(os.scandir(out), key=lambda entry: entry.name):
        name, is_folder = entry.name, entry.is_dir(follow_symlinks=False)
        if (name not in _NAMES or is_folder) and not Path(name).match(_UNFINISHED):
            raise ImageError(
                f"{out} holds {name!r:.80}, which is not of an image. Choose another folder, or move it away"
            )


def _put_in_place(new: Path, out: Path) -> None:
    """Replace the image in `out`; from when its manifest goes until it is back there is no image, never a mixed one."""
    names = sorted(os.listdir(new), key=lambda name: name == MANIFEST)
    for name in names:
        _sync(new / name)
    (out / MANIFEST).unlink(missing_ok=True)
    for former in _NAMES.difference(names):
        (out / former).unlink(missing_ok=True)
    for name in names:
        sync_folder(out)
        (new / name).replace(out / name)
    sync_folder(out)


def _mount_hook(arch: str) -> bytes:
    try:
        return read_mount_hook(arch)
    except NotBuilt as error:
        raise ImageError(str(error)) from error


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _write_boot_files(
    folder: Path, arch: str, hook: bytes, busybox: Path | None, linux: Path, progress: Progress, *, boot_cd: bool
) -> bytes:
    """Write the kernel and its initramfs, and return the kernel as the package has it."""
    progress("unpacking the kernel")
    lists = [LISTS, CD_LISTS] if boot_cd else [LISTS]
    folders = _MODULE_FOLDERS + (_CD_MODULE_FOLDERS if boot_cd else ())
    from_linux = read_members(linux, lambda path: _is_wanted(path, folders))
    vmlinuz = [data for path, data in from_linux.items() if path.startswith("boot/")]
    if len(vmlinuz) != 1:
        raise ImageError(f"{linux} holds {len(vmlinuz)} kernels, not one")
    try:
        (folder / KERNEL).write_bytes(kernel.plain(vmlinuz[0], arch))
        progress("packing the initramfs")
        modules = {_module_name(path): data for path, data in from_linux.items() if path.endswith(".ko")}
        beside = _way_to_the_disk() if busybox is None else _tiny_system(_busybox(busybox))
        (folder / INITRAMFS).write_bytes(_initramfs(hook, beside, modules, lists))
    except ValueError as error:
        raise ImageError(f"{linux} is not as expected: {error}. Report this to the bridge's developers") from error
    return vmlinuz[0]


def _is_wanted(path: str, folders: Sequence[str]) -> bool:
    below = path.partition("/kernel/")[2]
    return path.startswith("boot/vmlinuz-") or (below.endswith(".ko") and str(PurePosixPath(below).parent) in folders)


def _module_name(path: str) -> str:
    return PurePosixPath(path).stem.replace("-", "_")


def _busybox(deb: Path) -> bytes:
    found = read_members(deb, lambda path: path in ("bin/busybox", "usr/bin/busybox"))
    if len(found) != 1:
        raise ImageError(f"{deb} holds no busybox")
    return next(iter(found.values()))


def _tiny_system(busybox: bytes) -> list[cpio.Entry]:
    return [
        cpio.file("bin/busybox", busybox, executable=True),
        *(cpio.symlink(link, "/bin/busybox") for link in init.LINKS),
        *(cpio.file(path, content) for path, content in init.FILES.items()),
        cpio.directory("tmp", sticky=True),
    ]


def _way_to_the_disk() -> list[cpio.Entry]:
    return [cpio.directory(init.SYSTEM)]


def _initramfs(hook: bytes, beside: list[cpio.Entry], modules: Mapping[str, bytes], lists: Sequence[Lists]) -> bytes:
    orders = {
        f"{folder}/{device}": load_order(wanted, lambda name: _module(modules, name))
        for one in lists
        for folder, devices in one.items()
        for device, wanted in devices.items()
    }
    needed = sorted({name for order in orders.values() for name in order})
    return cpio.archive([
        cpio.file("init", hook, executable=True),
        *(cpio.directory(folder) for folder in init.FOLDERS),
        *beside,
        *(cpio.file(path, "".join(f"{name}\n" for name in order).encode()) for path, order in orders.items()),
        *(cpio.file(f"{init.MODULES}/{name}.ko", slim(modules[name])) for name in needed),
    ])  # fmt: skip


def _module(modules: Mapping[str, bytes], name: str) -> bytes:
    if name not in modules:
        raise ValueError(f"it holds no module {name}")
    return modules[name]


def _write_manifest(
    folder: Path, arch: str, packages: Mapping[str, str], disk: str, disk_format: str, *, static: bool
) -> None:
    files = [name for name in (KERNEL, INITRAMFS, disk, BOOT_CD) if (folder / name).exists()]
    manifest = {
        "format": FORMAT,
        "kind": KIND,
        "arch": arch,
        "kernel": KERNEL,
        "initramfs": INITRAMFS,
        "work_disk": disk,
        "work_disk_format": disk_format,
        **({"boot_cd": BOOT_CD} if BOOT_CD in files else {}),
        "cmdline": CMDLINES[arch],
        "static_programs_only": static,
        "packages": dict(packages),
        "sha256": {name: sha256_of(folder / name) for name in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
