"""What the protocol relies on, proved on QEMU's real 9p share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.verify_share import SCRIPT, Proof, verify

from ..patience import AT_MOST_S, until
from .conftest import JobDirectory

ROUNDS = 400


@pytest.mark.behaviour("B2", "B8")
def test_rename_visibility_and_ordering_on_9p(make_job: Callable[..., JobDirectory]) -> None:
    folders = "/run/vmbridge/host /run/vmbridge/guest"
    stay = "until [ -e $host/over ]; do sleep 0.1; done"  # when it ends, the share goes

    def proof() -> Proof:
        job = make_job(f"{SCRIPT.read_text()}\n{stay}", f"<command_line>{folders} {ROUNDS}</command_line>")
        process = job.start()
        job.wait_for("shared/guest/status")
        found = verify(job.path / "shared" / "host", job.path / "shared" / "guest", silence_s=AT_MOST_S)
        (job.path / "shared" / "host" / "over").touch()
        _, err = process.communicate(timeout=AT_MOST_S)
        assert process.returncode == 0, err
        return found

    until(
        lambda: (found := proof()).values > ROUNDS / 4 and found.answers > 10,
        lambda: "the reader was always too slow to prove something",
    )
