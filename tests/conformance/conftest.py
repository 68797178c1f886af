"""The C implementation of the protocol as something to ask."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import REPOSITORY


class CAdapter:
    """The C implementation's canonical lines, from one process that is asked again and again."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, kind: str, data: bytes) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{kind} {len(data)}\n".encode() + data)
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().rstrip("\n")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@pytest.fixture(scope="session")
def c_adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CAdapter]:
    """The C adapter, compiled with the system's compiler, with sanitizers where it has them."""
    program = tmp_path_factory.mktemp("conformance") / "c_adapter"
    wire = REPOSITORY / "guest_side" / "wire"
    sources = [REPOSITORY / "tests" / "conformance" / "c_adapter.c", *sorted(wire.glob("*.c"))]
    options = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{wire}"]
    command = ["cc", *options, "-o", str(program), *map(str, sources)]
    sanitized = [*command, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if subprocess.run(sanitized, capture_output=True).returncode:
        subprocess.run(command, check=True)
    adapter = CAdapter(program)
    yield adapter
    adapter.close()
