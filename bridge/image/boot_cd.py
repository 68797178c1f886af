"""A boot CD: an image's kernel, initramfs and command line behind a loader, for machines that start no kernel directly.

VirtualBox and VMware are such. A CD has no format that a hypervisor must know, and none that writes to it. The loader
is Debian's isolinux, for a PC's BIOS. It holds the compressed kernel, because isolinux loads no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ..errors import ImageError
from .debian import Package, Progress, fetch, find_package, read_members
from .disk import EPOCH
from .tools import run

_LOADER = {"isolinux": "usr/lib/ISOLINUX/isolinux.bin", "syslinux-common": "usr/lib/syslinux/modules/bios/ldlinux.c32"}
"""What is needed of the loader's packages."""

_SAME_EACH_TIME = {"SOURCE_DATE_EPOCH": EPOCH}
_DATE = datetime.fromtimestamp(int(EPOCH), timezone.utc).strftime("%Y%m%d%H%M%S00")

_STAND_STILL = "panic=0"
"""A kernel that gives up must not begin anew, and only QEMU can be told to end then. A machine that does not move any
more is noticed as any that hangs."""


def loader_packages(progress: Progress) -> dict[Package, Path]:
    """Return the loader's packages, downloaded.

    :raise ImageError: as `find_package`, `fetch`.
    """
    return {package: fetch(package, progress) for package in (find_package(name, progress) for name in _LOADER)}


def make_boot_cd(
    target: Path, loader: Mapping[Package, Path], vmlinuz: bytes, initramfs: bytes, cmdline: str, scratch: Path
) -> None:
    """Write the CD to `target`, which does not exist yet, by the empty folder `scratch`. The same bytes each time.

    :raise NotInstalled, ImageError: as `tools.run`; a package is not as expected.
    """
    contents = {"vmlinuz": vmlinuz, "initrd": initramfs, "isolinux.cfg": configuration(cmdline).encode()}
    for package, deb in loader.items():
        wanted = _LOADER[package.name]
        contents[Path(wanted).name] = _member(deb, wanted)
    for name, content in contents.items():
        (scratch / name).write_bytes(content)
        (scratch / name).chmod(0o644)
    run(
        "xorriso", "-as", "mkisofs", "-quiet", "-V", "VMBRIDGE", "-r", "--set_all_file_dates", _DATE,
        "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
        "-o", target, scratch, env=_SAME_EACH_TIME,
    )  # fmt: skip


def _member(deb: Path, wanted: str) -> bytes:
    found = read_members(deb, lambda path: path == wanted)
    if not found:
        raise ImageError(f"{deb} holds no {wanted}")
    return found[wanted]


def configuration(cmdline: str) -> str:
    """Return what isolinux reads: where else it speaks, and one entry, started at once. Pure.

    A machine whose loader finds nothing is thus told from one in which no loader was found.
    """
    entry = f"label linux\n kernel vmlinuz\n initrd initrd\n append {cmdline} {_STAND_STILL}\n"
    return f"serial 0 115200\ndefault linux\nprompt 0\n{entry}"
