"""A guest image as a folder: `image.json` says what is in it, and `load_image` believes nothing else.

`vmbridge image build DIR` (build.py) makes such a folder; the hypervisors start machines from the `Image`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError

MANIFEST = "image.json"
FORMAT = "vmbridge-image 1"
KIND = "boot"

DISK_FORMATS = ("qcow2", "vdi", "vmdk")

_MANIFEST_LIMIT = 1_048_576


class ImageMissing(ImageError):
    """There is no image of this name."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine is started from: a kernel, its initramfs and its command line.

    `work_disk` is a formatted disk (`work_disk_format`: qcow2, vdi or vmdk) that each machine puts an overlay over and
    that is never written; None if the machine works in its memory. With `static_programs_only` there is no dynamic
    linker in the image (elf.py). `boot_cd` is a CD that starts the same kernel with the same initramfs on a PC with a
    BIOS, for hypervisors that cannot be given a kernel; None if there is none. `digest` is that of the manifest, which
    has the digests of all the other files: it tells one image from another without reading them.
    """

    arch: str
    kernel: Path
    initramfs: Path
    work_disk: Path | None
    cmdline: str
    static_programs_only: bool
    digest: str
    work_disk_format: str = "qcow2"
    boot_cd: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it consists of, beside its manifest."""
        return tuple(file for file in (self.kernel, self.initramfs, self.work_disk, self.boot_cd) if file is not None)


def load_image(path: Path, resolve: Callable[[Path], Path] = lambda path: path) -> Image:
    """Return the image in the folder `path`, or that of the `image.json` at `path`.

    `resolve` tells which file a path stands for, as in a slot, where names are links. The files are looked for, not
    read.

    :raise ImageMissing: it is not there.
    :raise ImageError: it is broken, or was made for another version of the bridge.
    """
    manifest = path / MANIFEST if path.is_dir() else path
    text = _read(manifest, path, resolve)
    return _Manifest(manifest, _parse(manifest, text), resolve).image(hashlib.sha256(text).hexdigest())


def _read(manifest: Path, asked_for: Path, resolve: Callable[[Path], Path]) -> bytes:
    try:
        with resolve(manifest).open("rb") as file:
            text = file.read(_MANIFEST_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageMissing(f"image {asked_for} not found. Build one with: vmbridge image build {asked_for}") from None
    except OSError as error:
        raise ImageError(f"image {manifest} cannot be read: {error.strerror}. Check its permissions") from error
    if len(text) > _MANIFEST_LIMIT:
        raise ImageError(f"{manifest} is larger than {_MANIFEST_LIMIT} bytes: not the {MANIFEST} of an image")
    return text


def _parse(manifest: Path, text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{manifest} is not JSON ({error}). {_build_again(manifest)}") from error


@dataclass(frozen=True, slots=True)
class _Manifest:
    """The content of an `image.json`, read by name; every complaint names the file and the key."""

    file: Path
    content: object
    resolve: Callable[[Path], Path]

    def image(self, digest: str) -> Image:
        self._expect("format", FORMAT, "This bridge knows")
        self._expect("kind", KIND, "This bridge starts")
        arch = self._text("arch")
        if not re.fullmatch(r"[a-z0-9_]{1,32}", arch):
            raise self._wrong("arch", "the name of an architecture")
        kernel, initramfs = self._file("kernel"), self._file("initramfs")
        work_disk, boot_cd = (None if self._get(key) is None else self._file(key) for key in ("work_disk", "boot_cd"))
        static = self._get("static_programs_only")
        if not isinstance(static, bool):
            raise self._wrong("static_programs_only", "true or false")
        disk_format = "qcow2" if self._get("work_disk_format") is None else self._text("work_disk_format")
        if disk_format not in DISK_FORMATS:
            raise self._wrong("work_disk_format", f"one of {', '.join(DISK_FORMATS)}")
        cmdline = self._text("cmdline")
        return Image(arch, kernel, initramfs, work_disk, cmdline, static, digest, disk_format, boot_cd)

    def _get(self, key: str) -> object:
        if not isinstance(self.content, dict):
            raise ImageError(f"{self.file} is not a JSON object. {_build_again(self.file)}")
        return self.content.get(key)

    def _expect(self, key: str, known: str, we: str) -> None:
        found = self._text(key)
        if found != known:
            raise ImageError(f'{self.file}: "{key}" is {found!r:.80}. {we} {known!r}. {_build_again(self.file)}')

    def _text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or "\0" in value:
            raise self._wrong(key, "a text")
        return value

    def _file(self, key: str) -> Path:
        name = self._text(key)
        if not name or "/" in name or name.startswith("."):
            raise self._wrong(key, "the name of a file beside it")
        path = self.resolve(self.file.parent / name)
        if not path.is_file():
            raise ImageError(f"{path} is missing from the image. {_build_again(self.file)}")
        digests = self._get("sha256")
        digest = digests.get(name) if isinstance(digests, dict) else None
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ImageError(f'{self.file}: "sha256" has no digest of {name}. {_build_again(self.file)}')
        return path

    def _wrong(self, key: str, wanted: str) -> ImageError:
        return ImageError(f'{self.file}: "{key}" is {self._get(key)!r:.80}, not {wanted}. {_build_again(self.file)}')


def _build_again(manifest: Path) -> str:
    return f"Build the image again: vmbridge image build {manifest.parent}"
