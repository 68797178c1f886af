"""What the protocol relies on, proved on QEMU's real 9p share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.verify_share import SCRIPT, verify

from .conftest import JobDirectory

ROUNDS = 400


@pytest.mark.behaviour("B2", "B8")
def test_rename_visibility_and_ordering_on_9p(make_job: Callable[..., JobDirectory]) -> None:
    folders = "/run/vmbridge/host /run/vmbridge/guest"
    job = make_job(SCRIPT, f"<command_line>{folders} {ROUNDS}</command_line>")
    process = job.start()
    job.wait_for("shared/guest/status")
    proof = verify(job.path / "shared" / "host", job.path / "shared" / "guest", silence_s=20)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert proof.values > ROUNDS / 4, "the reader was fast enough to prove something"
    assert proof.answers > 10
