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
"""Packages are asked for by this name, whatever machine the image is built on."""

_RENEW = "Renew them: sudo apt-get update"


@dataclass(frozen=True, slots=True)
class Package:
    """A package in its newest version, as the package lists describe it."""

    name: str
    version: str
    depends: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in the cache; a version's colon is no good in a file name."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{ARCHITECTURE}.deb"


def find_package(name: str, progress: Progress) -> Package:
    """Return the newest version of `name`. Root's missing package lists are fetched.

    :raise ImageError: there are no package lists, or they hold no such package; says what to type.
    """
    described = _describe(name)
    if described is None and os.geteuid() == 0:
        progress("fetching the package lists")
        run("apt-get", "-q", "update")
        described = _describe(name)
    if described is None:
        raise ImageError(f"apt knows no package {name}:{ARCHITECTURE}. Fetch the package lists: sudo apt-get update")
    try:
        return Package(name, described["Version"], described.get("Depends", ""), described["SHA256"])
    except KeyError as missing:
        raise ImageError(f"the package lists give no {missing.args[0]} for {name}. {_RENEW}") from None


def kernel_package(meta: Package, progress: Progress) -> Package:
    """Return the package with the kernel itself that `meta` (linux-image-amd64) stands for.

    :raise ImageError: it stands for none.
    """
    found = re.search(r"\blinux-image-[0-9][^\s,|(:]*", meta.depends)
    if found is None:
        raise ImageError(f"package {meta.name} {meta.version} depends on no kernel, but on {meta.depends!r:.200}")
    return find_package(found[0], progress)


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


def _describe(name: str) -> dict[str, str] | None:
    try:
        text = run("apt-cache", "show", "--no-all-versions", f"{name}:{ARCHITECTURE}")
    except ImageError:
        return None
    lines = (line.partition(": ") for line in text.split("\n\n")[0].splitlines() if not line.startswith(" "))
    return {key: value for key, _, value in lines} or None


def _download(package: Package, folder: Path) -> None:
    try:
        # As root, apt would fetch as the user _apt, who may not write here.
        run(
            "apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=5", "download",
            f"{package.name}:{ARCHITECTURE}={package.version}", cwd=folder,
        )  # fmt: skip
    except ImageError as error:
        raise ImageError(f"{error}\nThe package lists may be old. {_RENEW}") from error
