"""C code of ours, compiled so that what it must not do ends it: where the compiler has sanitizers, as gcc on Debian."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

MEMORY = "address,undefined"
THREADS = "thread"


@functools.cache
def _works(sanitizers: str) -> bool:
    """Tell whether a program can be made and run with them."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        words = ["cc", f"-fsanitize={sanitizers}", "-xc", "-", "-pthread", "-o", str(program)]
        made = subprocess.run(words, input=b"int main(void) { return 0; }", capture_output=True)
        return made.returncode == 0 and subprocess.run([program], capture_output=True).returncode == 0


_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-result")


def flags(sanitizers: str | None) -> list[str]:
    """Return the words for the compiler and the linker; none where the compiler has no such sanitizers."""
    if sanitizers is None or not _works(sanitizers):
        return []
    return [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]


def compiled(target: Path, sources: Iterable[Path], *words: str, sanitizers: str | None = MEMORY) -> Path:
    """Compile and link ``sources`` as we do, with sanitizers or without; return ``target``."""
    command: list[str | Path] = ["cc", "-std=gnu11", "-O1", *_WARNINGS, "-pthread", *flags(sanitizers), *words]
    command += [*sources, "-lpthread", "-o", target]
    subprocess.run(command, check=True)
    return target
