"""The backend that docs/hypervisors.md shows, as it stands there: installed, tried by the contract, used for a job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S
from .conftest import VMBRIDGE, JobDirectory

BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (REPOSITORY / "docs" / "hypervisors.md").read_text(), re.DOTALL)
POINTS, BACKEND, TESTS = (text for _, text in BLOCKS)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The one of a computer on which the package is installed."""
    site = tmp_path / "site"
    about = site / "barekvm-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "barekvm.py").write_text(BACKEND)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: barekvm\nVersion: 1.0\n")
    group = re.search(r'entry-points\."(.*)"\]', POINTS)
    point = re.search(r'^(\w+) = "(.*)"$', POINTS, re.MULTILINE)
    assert group is not None and point is not None
    (about / "entry_points.txt").write_text(f"[{group[1]}]\n{point[1]} = {point[2]}\n")
    return {**os.environ, "PYTHONPATH": f"{site}:{REPOSITORY}"}


def test_it_has_sixty_lines() -> None:
    assert len([line for line in BACKEND.splitlines() if line.strip()]) <= 64


def test_it_fulfils_the_contract(tmp_path: Path, image: Path, environment: dict[str, str]) -> None:
    (tmp_path / "image").symlink_to(image)
    (tmp_path / "test_barekvm.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "test_barekvm.py"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3 * AT_MOST_S, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^6 passed", done.stdout, re.MULTILINE), done.stdout[-3000:]


def test_it_runs_a_job(make_job: Callable[..., JobDirectory], environment: dict[str, str]) -> None:
    elements = "<hypervisor>barekvm</hypervisor><copy_file_from_VM>out.txt</copy_file_from_VM>"
    job = make_job("echo 42 > out.txt", elements)
    words = [*VMBRIDGE, "run", str(job.path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=2 * AT_MOST_S, check=False)
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "42\n" and job.left() == []
    assert "QEMU without anything" in done.stderr
