"""A Debian system as a tree of files: mmdebstrap installs the packages, as root or in a name space of its own.

It holds Debian's essential packages, those that were asked for and what they depend on, without manuals and
translations; no kernel, no systemd, no daemon. The same packages give the same tree.
"""

from __future__ import annotations

import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from . import init
from .debian import ARCHITECTURE, Progress, cache_folder
from .disk import EPOCH
from .tools import output_of
from .tree import Tree

SUITE = "bookworm"

FIRST_BOOT = "etc/vmbridge/first-boot"
"""The agent runs it once on each machine's disk, before the first task (guest_side/agent/first_boot.c)."""

_NOT_FOR_MACHINES = ("doc", "man", "info", "locale", "lintian", "help", "bash-completion")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True)
class System:
    """What a Debian system holds: packages, a folder that is laid over it, a script for the first boot.

    `mirrors` are where the packages come from (URLs, or lines as in sources.list); without any, Debian's own servers.
    """

    packages: tuple[str, ...] = ()
    files: Path | None = None
    first_boot: Path | None = None
    mirrors: tuple[str, ...] = ()
    disk_format: str = "qcow2"


def check(system: System) -> None:
    """Look at what can be seen to be wrong before anything is downloaded.

    :raise ImageError: a name that is no package's, a folder or script that is not there.
    """
    for name in system.packages:
        if not _PACKAGE.fullmatch(name):
            raise ImageError(f"{name!r:.80} cannot be the name of a package. Write --packages python3,gfortran")
    if system.files is not None and not system.files.is_dir():
        raise ImageError(f"{system.files} is no folder. Name one whose content is to be laid over the system")
    if system.first_boot is not None:
        with system.first_boot.open("rb") as file:
            begin = file.read(4)
        if not begin.startswith((b"#!", b"\x7fELF")):
            raise ImageError(f"{system.first_boot} cannot be executed. Begin it with #!/bin/sh")


def install(system: System, scratch: Path, progress: Progress) -> Tree:
    """Return the tree of `system`; the contents of its files lie in the empty folder `scratch`.

    :raise NotInstalled: mmdebstrap is missing.
    :raise ImageError: there is no such package, no network, no room, or no right to do it.
    """
    tree = Tree(scratch)
    progress(f"installing Debian packages into a tree: {', '.join(system.packages) or 'the essential ones'}")
    broken = None
    try:
        with (
            _packages_kept(cache_folder(os.environ) / SUITE) as kept,
            output_of(*command(system, kept), env={"SOURCE_DATE_EPOCH": EPOCH}) as archive,
        ):
            try:
                tree.read_tar(archive)
            except tarfile.TarError as error:  # why it ends too early is mmdebstrap's to say
                broken = error
            archive.read()
    except ImageError as error:
        raise ImageError(explained(str(error))) from error
    if broken is not None:
        raise ImageError(f"mmdebstrap has written no whole tar archive: {broken}") from broken
    for path, content in init.FILES.items():
        tree.add_file(path, content)
    if system.files is not None:
        tree.add_folder(system.files)
    if system.first_boot is not None:
        tree.add_file(FIRST_BOOT, system.first_boot.read_bytes(), executable=True)
    return tree


@contextmanager
def _packages_kept(cache: Path) -> Iterator[Path]:
    """A folder of this build's own with all packages that `cache` has; what is new there is kept after the block.

    Several builds may run at once, and none may see the half-written files of another.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=f".{SUITE}-") as folder:
        for package in cache.glob("*.deb"):
            os.link(package, Path(folder, package.name))
        yield Path(folder)
        for package in Path(folder).glob("*.deb"):
            package.replace(cache / package.name)


def command(system: System, folder: Path) -> list[str]:
    """What mmdebstrap is told; packages are taken from `folder` if the lists agree, and all lie there afterwards."""
    kept = shlex.quote(str(folder))
    options = [f"path-exclude=/usr/share/{folder}/*" for folder in _NOT_FOR_MACHINES]
    options.append("path-include=/usr/share/doc/*/copyright")  # whoever ships a package ships its licence
    return [
        "mmdebstrap", "--mode=auto", f"--architectures={ARCHITECTURE}", "--variant=essential",
        *([f"--include={','.join(sorted(system.packages))}"] if system.packages else []),
        *(f"--dpkgopt={option}" for option in options),
        '--aptopt=Acquire::Retries "5"',
        "--skip=download/empty", "--skip=essential/unlink",
        '--setup-hook=mkdir -p "$1"/var/cache/apt/archives',
        f"--setup-hook=sync-in {kept} /var/cache/apt/archives",
        f"--customize-hook=sync-out /var/cache/apt/archives {kept}",
        SUITE, "-", *system.mirrors,
    ]  # fmt: skip


_EXPLAINED = (
    (r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate",
     "Debian 12 has no package {0}. Look it up: https://packages.debian.org/bookworm/"),
    (r"No space left on device|not enough free space",
     "there is no room for the packages. Make some in the image's folder and in {tmp}, or set TMPDIR"),
    (r"(?:Could not resolve|Temporary failure resolving) '?([^\s':]+)"
     r"|(?:Could not connect to|Cannot initiate the connection to|Unable to connect to) (\S+)",
     "{0} cannot be reached. Check the network, or name another server with --mirror"),
    (r"NO_PUBKEY|keyring.*not|is not signed",
     "the packages' signatures cannot be checked. Install Debian's keys: apt-get install debian-archive-keyring"),
    (r"newuidmap|newgidmap|/etc/subuid|unable to pick chroot mode",
     "only root may install packages here. Type: sudo apt-get install uidmap (and give yourself a line in /etc/subuid "
     "and /etc/subgid), or be root"),
)  # fmt: skip


def explained(complaint: str) -> str:
    """Say in one sentence what mmdebstrap's complaint means and what to do; what is not known is said as it came."""
    for pattern, meaning in _EXPLAINED:
        if found := re.search(pattern, complaint):
            name = next((group for group in found.groups() if group), "")
            return meaning.format(name, tmp=os.environ.get("TMPDIR", "/tmp"))
    return complaint


def versions(status: str) -> dict[str, str]:
    """Return the version of each installed package, from dpkg's own list (var/lib/dpkg/status)."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return dict(sorted(found.items()))


def joined(options: Sequence[str]) -> tuple[str, ...]:
    """Return the package names that were given with commas or one by one, each once and in order."""
    return tuple(sorted({name for option in options for name in re.split(r"[\s,]+", option) if name}))
