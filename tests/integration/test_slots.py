"""What is said of a slot's checkpoints and of the disk that should hold them, with the real qemu-img."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bridge.client.slot import TEMPORARY_EXIT
from bridge.slots import look
from bridge.workplace import MACHINE

from ..unit.test_slots import record


def disk(slot: Path, *tags: str) -> None:
    """The disk of that machine, which holds these states."""
    path = slot / MACHINE / "work.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    for tag in tags:
        subprocess.run(["qemu-img", "snapshot", "-c", tag, path], check=True)


def test_a_job_that_goes_on(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    disk(tmp_path, "checkpoint-1", "checkpoint-2")
    (tmp_path / TEMPORARY_EXIT).write_text("300\nx\n\n")
    found = look(tmp_path)
    assert found.problems == []
    assert found.checkpoints == ["checkpoint-2", "checkpoint-1"]
    assert found.progress is not None and found.progress.fraction_done == 0.5
    assert found.ended == "waiting to be started again"


def test_a_record_and_a_disk_that_do_not_agree(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    disk(tmp_path, "checkpoint-1", "checkpoint-9")
    found = look(tmp_path)
    assert found.checkpoints == ["checkpoint-1"]
    assert found.problems == [
        "checkpoint-2 is recorded and is not in machine/work.qcow2",
        "checkpoint-9 is in machine/work.qcow2 and not recorded; it goes at the next one",
    ]


def test_a_disk_that_is_none(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1")
    assert look(tmp_path).problems[0] == "machine/work.qcow2 is missing"
    (tmp_path / MACHINE / "work.qcow2").write_bytes(b"QFI\xfb" + b"\xff" * 500)
    assert "machine/work.qcow2 is damaged" in look(tmp_path).problems[0]
