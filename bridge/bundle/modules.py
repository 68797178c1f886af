"""What goes into the zip: our own packages, the guest's agents, what is pure Python of the packages that we need.

Of all of them only what runs on a volunteer's Linux. The lists say what is left out, so that a module that is new in
another release of a package is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

import bridge
import guest_side
import protocol

from ..errors import HostError, host_trouble

OLDEST_PYTHON = (3, 10)
"""What our own code needs."""

_OWN = {
    bridge: ("cli/*", "bundle/*", "hypervisors/contract.py", "job/advice.py", "job/words.py",
             *(f"image/{name}.py" for name in ("boot_cd", "build", "cpio", "debian", "disk", "init", "kernel",
                                               "modules", "system", "tools", "tree", "trial"))),
    guest_side: ("examples/*", "prebuilt/*"),
    protocol: ("vectors/*", "verify_share.*"),
}  # fmt: skip
"""Our packages, and what of each is not for a volunteer's computer."""

_OWN_KINDS = ("*.py", "*.c", "*.h")

_NEEDED = {
    "filelock": (),
    "psutil": ("*/_psaix.py", "*/_psbsd.py", "*/_psosx.py", "*/_pssunos.py", "*/_pswindows.py", "*/tests/*"),
    "pyvbox": (),
    # legacy.py is under another licence (GPL 2) than the rest (LGPL 2); the other two are programs of their own.
    "qemu.qmp": ("*/legacy.py", "*/qmp_shell.py", "*/qmp_tui.py"),
    "voluptuous": ("*/humanize.py",),
    "watchdog": ("*/watchmedo.py", "*/__main__.py", "*/tricks/*", "*/winapi.py", "*/read_directory_changes.py",
                 "*/fsevents*.py", "*/kqueue.py"),
}  # fmt: skip
"""The packages that ours import on Linux, and what of each is for other systems or is never imported."""

_LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors)[^/]*", re.IGNORECASE)


@dataclass(slots=True)
class Modules:
    """What runs: `files` for the zip, by their names in it; `extensions`, which no zip can hold, by module name."""

    files: dict[str, bytes] = field(default_factory=dict)
    extensions: dict[str, Path] = field(default_factory=dict)
    oldest_python: tuple[int, int] = OLDEST_PYTHON


def collect_modules() -> Modules:
    """Gather all that the program consists of, from where this program itself runs.

    :raise HostError: a package is missing, was not installed by pip, or has no extension that serves every Python; the
        guest's agents are not built.
    """
    found = Modules()
    for package, left_out in _OWN.items():
        assert package.__file__ is not None
        found.files.update(_own(Path(package.__file__).parent, left_out))
    found.files.update(_agents())
    found.files.update(_licences(_distribution("boinc-vm-bridge")))
    for name, left_out in _NEEDED.items():
        _add(found, _distribution(name), left_out)
    return found


def _own(folder: Path, left_out: Iterable[str]) -> Mapping[str, bytes]:
    found = {}
    with host_trouble(f"read {folder}"):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and _is_one_of(path.name, _OWN_KINDS) and not _is_one_of(name, left_out):
                found[f"{folder.name}/{name}"] = path.read_bytes()
    return found


def _agents() -> Mapping[str, bytes]:
    try:
        return {f"guest_side/prebuilt/{arch}/agent": guest_side.read_agent(arch) for arch in guest_side.ARCHITECTURES}
    except guest_side.NotBuilt as error:
        raise HostError(str(error)) from error


def _add(found: Modules, package: Distribution, left_out: Iterable[str]) -> None:
    found.files.update(_licences(package))
    for path in _recorded(package):
        name = path.as_posix()
        if ".dist-info/" in name or _is_one_of(name, left_out):
            continue
        if path.suffix == ".py":
            found.files[name] = _read(path)
        elif path.suffix == ".so":
            if not name.endswith(".abi3.so"):
                raise HostError(
                    f"{path.locate()} serves only this version of Python. Install {package.name} from PyPI, whose "
                    f"wheels for Linux serve all: pip install --force-reinstall {package.name}"
                )
            found.extensions[name.removesuffix(".abi3.so").replace("/", ".")] = Path(path.locate())
    for name in [name for name in found.files if name.endswith(".py")]:
        # A package that is shared among distributions has no file of its own, and a zip has no folders.
        found.files.setdefault(f"{name.partition('/')[0]}/__init__.py", b"")
    for wanted in package.metadata.get_all("Requires-Python") or []:
        if oldest := re.search(r">=\s*3\.(\d+)", wanted):
            found.oldest_python = max(found.oldest_python, (3, int(oldest[1])))


def _licences(package: Distribution) -> Mapping[str, bytes]:
    texts = [path for path in _recorded(package) if _LICENCE.fullmatch(path.name) and path.suffix != ".py"]
    if not texts:
        raise HostError(f"{package.name} {package.version} came without the text of its licence, which must be shipped")
    return {f"licences/{package.name}-{package.version}/{path.name}": _read(path) for path in texts}


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise HostError(f"{name} is not installed by pip here. Install it: pip install {name}") from error


def _recorded(package: Distribution) -> list[PackagePath]:
    """Return the files of a package by pip's own record of it."""
    if not package.files:
        raise HostError(
            f"{package.name} is here, but not from pip, so its files are not known. Package from a virtual environment"
        )
    return package.files


def _read(path: PackagePath) -> bytes:
    with host_trouble(f"read {path.locate()}"):
        return path.read_binary()


def _is_one_of(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
