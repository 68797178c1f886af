"""Where the guest's agent is found: in a checkout, a wheel, the zip of a bundle."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from guest_side import NotBuilt, read_agent

from ..conftest import REPOSITORY

READ = "import sys, guest_side; sys.stdout.buffer.write(guest_side.read_agent('riscv64'))"


def read_from(place: Path) -> bytes:
    """Read the agent with the package that lies in `place`."""
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(place)!r}); {READ}"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("agent", ["guest_side/prebuilt/riscv64/agent", "build/guest/riscv64/agent"])
def test_the_agent_is_read_from_wherever_it_lies(tmp_path: Path, agent: str) -> None:
    site = tmp_path / "site"
    (site / agent).parent.mkdir(parents=True)
    (site / agent).write_bytes(b"\x7fELF and so on")
    (site / "guest_side").mkdir(exist_ok=True)
    (site / "guest_side" / "__init__.py").write_bytes((REPOSITORY / "guest_side" / "__init__.py").read_bytes())
    assert read_from(site) == b"\x7fELF and so on"


def test_the_agent_is_read_from_a_zip_under_whatever_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(REPOSITORY / "guest_side" / "__init__.py", "guest_side/__init__.py")
        archive.writestr("guest_side/prebuilt/riscv64/agent", b"\x7fELF and so on")
    (tmp_path / "link.zip").symlink_to(tmp_path / "all.zip")
    for name in ("all.zip", "link.zip"):
        assert read_from(tmp_path / name) == b"\x7fELF and so on"


def test_an_agent_that_was_not_built() -> None:
    with pytest.raises(NotBuilt, match=r"No agent for pdp11: .*prebuilt/pdp11/agent.*Run: make guest"):
        read_agent("pdp11")
