# SPDX-License-Identifier: Apache-2.0
"""Build what runs in the guest: ``python -m guest_side.build OUTDIR [--arch ARCH ...]``.

The agent and the mount hook are built with zig (static, musl) for every architecture; the
library with the compiler of whoever will link it, for this machine only: a
musl archive does not link with Debian's gcc. The same sources give the same
bytes: no dates, no paths of this machine, archives without owners.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from guest_side import ARCHITECTURES, SOURCES, include_dir

__all__ = ["BuildError", "build_agent", "build_library", "build_mount_hook", "main"]

WIRE = SOURCES / "wire"
LIBRARY_SOURCES = (
    SOURCES / "libboinc" / "boinc_api.c",
    SOURCES / "libboinc" / "cxx_names.c",
    SOURCES / "libboinc" / "diagnostics.c",
    SOURCES / "libboinc" / "fortran.c",
    SOURCES / "libboinc" / "graphics.c",
    SOURCES / "libboinc" / "init_data.c",
    SOURCES / "libboinc" / "nothing.c",
    SOURCES / "libboinc" / "numbered.c",
    SOURCES / "libboinc" / "sections.c",
    WIRE / "encode.c",
    WIRE / "publish.c",
    WIRE / "read.c",
    WIRE / "utf8.c",
)
FOR_HEADERS = ("boinc_init_data.cpp", "boinc_resolve_s.cpp")
AGENT_SOURCES = (
    *sorted((SOURCES / "agent").rglob("*.c")),
    *sorted((SOURCES / "machine").glob("*.c")),
    *sorted((SOURCES / "shell").glob("*.c")),
    *sorted(WIRE.glob("*.c")),
    SOURCES / "libboinc" / "numbered.c",
)
WARNINGS = ("-Wall", "-Wextra", "-Wshadow")
COMMON_FLAGS = ("-std=c11", f"-ffile-prefix-map={SOURCES}=guest_side", *WARNINGS)
ZIG = (sys.executable, "-m", "ziglang", "cc")


class BuildError(RuntimeError):
    """A compiler is missing or refuses; the message says what to do."""


def _run(argv: Sequence[str], install: str) -> None:
    """Run a build tool; its own complaint goes to standard error."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise BuildError(f"{argv[0]} not found. Install {install}.") from None
    if done.returncode != 0:
        raise BuildError(f"{' '.join(argv)} failed with exit status {done.returncode}.")


def _is_fresh(target: Path, sources: Iterable[Path]) -> bool:
    """Tell whether the target is newer than all of its sources."""
    if not target.exists():
        return False
    built = target.stat().st_mtime
    return all(source.stat().st_mtime <= built for source in sources)


def _code(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.c"), *folder.glob("*.h")])


def _check_zig() -> None:
    version = subprocess.run([*ZIG[:-1], "version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if version.returncode != 0:
        raise BuildError("zig not found. Install it: pip install ziglang")


def build_agent(outdir: Path, arch: str) -> Path:
    """Build ``outdir/ARCH/agent`` unless it is newer than its sources; return its path.

    :raise BuildError: zig is missing or the build fails; an older agent is left as it was.
    """
    headers = [
        header
        for folder in ("agent", "machine", "shell", "wire", "libboinc")
        for header in (SOURCES / folder).rglob("*.h")
    ]
    return _build_static(outdir / arch / "agent", arch, [*AGENT_SOURCES, *headers])


def build_mount_hook(outdir: Path, arch: str) -> Path:
    """Build ``outdir/ARCH/mount_hook`` unless it is newer than its sources; return its path.

    :raise BuildError: as ``build_agent``.
    """
    return _build_static(outdir / arch / "mount_hook", arch, [*_code(SOURCES / "hook"), *_code(SOURCES / "machine")])


def _build_static(target: Path, arch: str, sources: Sequence[Path]) -> Path:
    if _is_fresh(target, [*sources, Path(__file__)]):
        return target
    _check_zig()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    flags = ["-target", f"{arch}-linux-musl", "-static", "-Os", "-s", *COMMON_FLAGS]
    code = [str(source) for source in sources if source.suffix == ".c"]
    _run([*ZIG, *flags, "-o", str(part), *code], "ziglang")
    part.replace(target)
    return target


def _compile(compiler: str, source: Path, objects: Path, flags: Sequence[str] = COMMON_FLAGS) -> str:
    """Compile one source; the base address independent code serves .a and .so alike.

    A hot function that begins with a cache line costs a fifth less than one that lies across two.
    """
    target = objects / f"{source.stem}.o"
    words = ["-O2", "-falign-functions=64", "-fPIC", "-fvisibility=hidden", "-pthread", *flags]
    _run([compiler, *words, "-c", str(source), "-o", str(target)], "a compiler (Debian: gcc, g++)")
    return str(target)


def _compile_cxx(cxx: str, source: str, headers: Sequence[Path], objects: Path) -> str:
    """Compile one of the sources for programs that were made with BOINC's headers."""
    folders = [word for folder in headers for word in ("-isystem", str(folder))]
    flags = ["-fno-exceptions", "-fno-rtti", f"-ffile-prefix-map={SOURCES}=guest_side", *WARNINGS, *folders]
    return _compile(cxx, SOURCES / "libboinc" / source, objects, flags)


def _major_version(headers: Sequence[Path]) -> int:
    """Return the number in the shared library's name, by which a program that is linked with BOINC's looks for it."""
    for folder in headers:
        with contextlib.suppress(OSError):
            text = (folder / "version.h").read_text(errors="replace")
            if found := re.search(r"^#define BOINC_MAJOR_VERSION (\d+)$", text, re.MULTILINE):
                return int(found[1])
    return 7


def build_library(outdir: Path, cc: str = "cc", headers: Sequence[Path] = (), cxx: str = "c++") -> None:
    """Build ``libboinc_api.a`` and ``libboinc_api.so`` in ``outdir`` unless they are fresh.

    :param headers: folders of BOINC's own headers, to serve also programs that were compiled with these; then it is
        always built, for nothing tells with which headers it was before.
    :raise BuildError: the compiler or ``ar`` is missing or refuses.
    """
    archive, shared = outdir / "libboinc_api.a", outdir / "libboinc_api.so"
    named = outdir / f"{shared.name}.{_major_version(headers)}"
    sources = [*_code(SOURCES / "libboinc"), *_code(WIRE), Path(__file__)]
    if not headers and all(_is_fresh(built, sources) for built in (archive, shared, named)):
        return
    outdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=outdir, prefix=".build-") as scratch:
        new = Path(scratch)
        objects = [_compile(cc, source, new) for source in LIBRARY_SOURCES]
        if headers:
            objects += [_compile_cxx(cxx, source, headers, new) for source in FOR_HEADERS]
        _run(["ar", "rcD", str(new / archive.name), *objects], "binutils")
        linking = ["-shared", "-pthread", f"-Wl,-soname,{named.name}", "-Wl,--build-id=none"]
        linker = cxx if headers else cc  # one of the objects uses C++'s library
        _run([linker, *linking, "-o", str(new / shared.name), *objects], "a compiler (Debian: gcc, g++)")
        (new / named.name).symlink_to(shared.name)
        for built in (archive, shared, named):
            (new / built.name).replace(built)


def _copy_header(outdir: Path) -> None:
    include = outdir / "include"
    include.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(include_dir() / "boinc_api.h", include / "boinc_api.h")


def main(argv: Sequence[str] | None = None) -> int:
    """Build everything into one folder; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m guest_side.build", description=__doc__)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, metavar="ARCH")
    options = parser.parse_args(argv)
    try:
        for arch in options.arch or ARCHITECTURES:
            print(build_agent(options.outdir, arch))
            print(build_mount_hook(options.outdir, arch))
        build_library(options.outdir / platform.machine())
        _copy_header(options.outdir)
    except BuildError as error:
        print(f"guest_side.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
