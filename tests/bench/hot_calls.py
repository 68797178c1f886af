"""What the library's calls cost that stand in a science program's innermost loop."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from guest_side import include_dir
from guest_side.build import build_library

from .figures import Figure, Peer
from .scratch import scratch

ROUNDS = 21
CALLS = 5_000_000
CODE = Path(__file__).with_name("hot_calls.c")

_DEV = Path(os.environ.get("BOINC_DEV", "/")) / "usr"
_REAL_HEADERS = _DEV / "include" / "boinc"
_REAL_LIBRARIES = ("lib/*/libboinc_api.so", "lib/libboinc_api.so", "lib64/libboinc_api.so")

_NAMES = ("fraction_done", "time_to_checkpoint", "critical_section", "ops_cumulative")


def measure() -> list[Figure]:
    """Nanoseconds per call, over a loop of 5 million calls in one thread, loop and argument included.

    The begin and the end of a critical section are one call.

    hot_calls.c is compiled with -O2 three times: with our library linked statically, with our shared one, and with
    Debian's real libboinc_api.so (below BOINC_DEV; its static one holds no symbols); the programs run in turn.
    Ours reports into a spool meanwhile; the real one runs standalone, since there is no client.
    """
    with scratch() as folder:
        static, shared, real = _programs(folder)
        costs: dict[Path, dict[str, list[float]]] = {
            program: {} for program in (static, shared, real) if program is not None
        }
        for number in range(ROUNDS):
            for program in list(costs)[:: -1 if number % 2 else 1]:
                for name, cost in _run(program).items():
                    costs[program].setdefault(name, []).append(cost)
    figures = []
    for kind, ours in (("static", costs[static]), ("shared", costs[shared])):
        for name in _NAMES:
            theirs = costs[real].get(name) if real is not None else None
            peer = Peer("real library", theirs)
            figures.append(Figure(f"{name}, {kind}", "ns", ours.get(name), peer, "<= 1.00"))
    return figures


def _programs(folder: Path) -> tuple[Path, Path, Path | None]:
    """Compile the loop with our static, our shared and the real library; the last is None if it is not here."""
    libraries = folder / "lib"
    build_library(libraries)
    ours = [f"-I{include_dir()}"]
    static = _compile(folder / "static", ours, libraries / "libboinc_api.a")
    shared = _compile(folder / "shared", ours, libraries / "libboinc_api.so")
    real = next((found for pattern in _REAL_LIBRARIES for found in _DEV.glob(pattern)), None)
    if real is None or not (_REAL_HEADERS / "boinc_api.h").is_file():
        return static, shared, None
    return static, shared, _compile(folder / "real", ["-DNO_OPS", f"-I{_REAL_HEADERS}"], real)


def _compile(folder: Path, flags: list[str], library: Path) -> Path:
    """Compile into a folder of the program's own: the real library leaves files where it runs."""
    folder.mkdir()
    program = folder / "hot_calls"
    # The real one's own libraries lie beside it, and a newer kind of path is not for those.
    path = f"-Wl,--disable-new-dtags,-rpath,{library.parent}"
    linking: list[str | Path] = [library, "-lpthread", path]
    words: list[str | Path] = ["cc", "-O2", *flags, "-o", program, CODE, *linking]
    subprocess.run(words, check=True)
    return program


def _run(program: Path) -> dict[str, float]:
    """Run the loop once; return the nanoseconds of each call."""
    environment = {**os.environ, "VMBRIDGE_SPOOL": str(program.parent)}
    done = subprocess.run(
        [program, str(CALLS)], cwd=program.parent, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return {name: float(cost) for name, cost in (line.split() for line in done.stdout.splitlines())}
