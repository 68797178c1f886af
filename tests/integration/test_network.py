"""The network card of a machine: none where the job does not ask for one, and where it does, one that is no way in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..patience import AT_MOST_S
from . import island
from .conftest import ENVIRONMENT, JobDirectory


def test_there_is_no_card_where_the_job_does_not_ask_for_one(make_job: Callable[..., JobDirectory]) -> None:
    job = make_job(
        "ls /sys/class/net; grep -c virtio_net /proc/modules", "<stdout_filename>stdout.txt</stdout_filename>"
    )
    done = job.run()
    assert (job.path / "stdout.txt").read_text() == "lo\n0\n", done.stderr


def test_with_a_card_on_an_island(tmp_path: Path) -> None:
    """The tests in `on_island.py`, in a world of their own from which no packet gets out."""
    if not island.possible():
        pytest.skip("no network namespace may be made here, or there is no ip(8)")
    tests = Path(__file__).with_name("on_island.py")
    done = subprocess.run(
        [*island.ENTER, sys.executable, "-m", island.__name__, tmp_path, sys.executable, "-m", "pytest", "-x", tests],
        env={**ENVIRONMENT, "ISLAND": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=10 * AT_MOST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
