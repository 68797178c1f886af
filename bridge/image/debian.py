"""Debian packages as the image's raw material: find, download, keep, and read single files out of them.

Nothing is installed and nothing needs root: `apt-get download` and `dpkg-deb` serve any user. What was downloaded
stays in a cache and is checked against the package lists each time.
"""

from __future__ import annotations

import lzma
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..digest import sha256_of
from ..errors import ImageError
from .tools import output_of, run

Progress = Callable[[str], None]

ARCHITECTURE = "amd64"
ARCHITECTURES = {"x86_64": ARCHITECTURE, "aarch64": "arm64"}
"""Debian's names: packages are asked for by them, whatever machine the image is built on."""

_RENEW = "Renew them: sudo apt-get update"


@dataclass(frozen=True, slots=True)
class Package:
    """A package in its newest version, as the package lists describe it."""

    name: str
    version: str
    depends: str
    sha256: str
    architecture: str = ARCHITECTURE

    @property
    def file_name(self) -> str:
        """Its name in the cache; a version's colon is no good in a file name."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def find_package(name: str, progress: Progress, architecture: str = ARCHITECTURE) -> Package:
    """Return the newest version of `name`. Root's missing package lists are fetched, and lists of our own.

    :raise ImageError: there are no package lists, or they hold no such package; says what to type.
    """
    described = _describe(name, architecture)
    if described is None and (os.geteuid() == 0 or _lists(architecture) is not None):
        progress("fetching the package lists")
        run("apt-get", "-q", *_apt(architecture), "update")
        described = _describe(name, architecture)
    if described is None:
        raise ImageError(f"apt knows no package {name}:{architecture}. Fetch the package lists: sudo apt-get update")
    try:
        return Package(name, described["Version"], described.get("Depends", ""), described["SHA256"], architecture)
    except KeyError as missing:
        raise ImageError(f"the package lists give no {missing.args[0]} for {name}. {_RENEW}") from None


def renew_lists(architecture: str, progress: Progress) -> None:
    """Fetch our own package lists, which nobody else renews; those of the computer are its administrator's.

    :raise ImageError: they cannot be fetched.
    """
    if (folder := _lists(architecture)) is not None:
        progress(f"fetching the package lists for {architecture}")
        for below in ("lists/partial", "cache/archives/partial"):
            (folder / below).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        run("apt-get", "-q", *_apt(architecture), "update")


def kernel_package(meta: Package, progress: Progress) -> Package:
    """Return the package with the kernel itself that `meta` (linux-image-amd64) stands for.

    :raise ImageError: it stands for none.
    """
    found = re.search(r"\blinux-image-[0-9][^\s,|(:]*", meta.depends)
    if found is None:
        raise ImageError(f"package {meta.name} {meta.version} depends on no kernel, but on {meta.depends!r:.200}")
    return find_package(found[0], progress, meta.architecture)


def fetch(package: Package, progress: Progress) -> Path:
    """Return the package's file, downloaded if the cache does not have it.

    :raise ImageError: it cannot be downloaded, or is not what the package lists promise.
    """
    cached = cache_folder(os.environ) / package.file_name
    if cached.is_file() and sha256_of(cached) == package.sha256:
        return cached
    progress(f"downloading {package.name} {package.version}")
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix=".download-") as folder:
        _download(package, Path(folder))
        (downloaded,) = Path(folder).glob("*.deb")
        if sha256_of(downloaded) != package.sha256:
            raise ImageError(f"{package.file_name} is not what the package lists promise. {_RENEW}")
        downloaded.replace(cached)
    return cached


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return where downloaded packages are kept. It may be deleted at any time."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "vmbridge", "debs")


def read_members(deb: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the regular files of a package whose path (`usr/bin/x`) is `wanted`.

    Modules of newer releases are compressed; they come without their `.xz`.

    :raise ImageError: the package is broken.
    """
    members: dict[str, bytes] = {}
    try:
        with output_of("dpkg-deb", "--fsys-tarfile", deb) as pipe, tarfile.open(fileobj=pipe, mode="r|") as tar:
            for info in tar:
                path = info.name.removeprefix("./")
                if info.isfile() and wanted(path.removesuffix(".xz")):
                    data = tar.extractfile(info)
                    assert data is not None
                    members[path.removesuffix(".xz")] = _plain(path, data.read())
            pipe.read()  # the padding after the archive: dpkg-deb must not die of a closed pipe
    except (tarfile.TarError, lzma.LZMAError) as error:
        raise ImageError(f"{deb} is broken ({error}). Delete it and build again") from error
    return members


def _plain(path: str, data: bytes) -> bytes:
    return lzma.decompress(data) if path.endswith(".xz") else data


def _lists(architecture: str) -> Path | None:
    """Return where our own package lists for an architecture are; None for the one that every Debian has lists of.

    So this computer's dpkg need not learn a foreign architecture, which takes root and changes what apt does.
    """
    return None if architecture == ARCHITECTURE else cache_folder(os.environ).with_name(f"apt-{architecture}")


def _apt(architecture: str) -> list[str]:
    """Options that make apt work with our own package lists, from the servers of this computer."""
    folder = _lists(architecture)
    if folder is None:
        return []
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "5",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _describe(name: str, architecture: str) -> dict[str, str] | None:
    try:
        text = run("apt-cache", *_apt(architecture), "show", "--no-all-versions", f"{name}:{architecture}")
    except ImageError:
        return None
    lines = (line.partition(": ") for line in text.split("\n\n")[0].splitlines() if not line.startswith(" "))
    return {key: value for key, _, value in lines} or None


def _download(package: Package, folder: Path) -> None:
    try:
        # As root, apt would fetch as the user _apt, who may not write here.
        run(
            "apt-get", "-q", *_apt(package.architecture),
            "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=5", "download",
            f"{package.name}:{package.architecture}={package.version}", cwd=folder,
        )  # fmt: skip
    except ImageError as error:
        raise ImageError(f"{error}\nThe package lists may be old. {_RENEW}") from error
