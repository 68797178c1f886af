"""The network card of a machine: none where the job does not ask for one, and where it does, one that is no way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import island
from .conftest import JobDirectory


def test_there_is_no_card_where_the_job_does_not_ask_for_one(make_job: Callable[..., JobDirectory]) -> None:
    job = make_job(
        "ls /sys/class/net; grep -c virtio_net /proc/modules", "<stdout_filename>stdout.txt</stdout_filename>"
    )
    done = job.run()
    assert (job.path / "stdout.txt").read_text() == "lo\n0\n", done.stderr


@pytest.mark.skipif(not island.possible(), reason=island.WHY_NOT)
def test_with_a_card_on_an_island(tmp_path: Path) -> None:
    """The tests in `on_island.py`, in a world of their own from which no packet gets out."""
    done = island.run(tmp_path, "qemu")
    assert done.returncode == 0, done.stdout + done.stderr
