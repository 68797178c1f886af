"""What is said of a slot that is as it should be, and of one that is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.client.slot import FINISH, LOCK, TEMPORARY_EXIT
from bridge.life.accounting import Progress
from bridge.life.checkpoints import RECORD, Checkpoints, SavedState
from bridge.slots import look
from bridge.workplace import MACHINE, MARK, SHARED

QEMU_IMG = shutil.which("qemu-img")
needs_qemu_img = pytest.mark.skipif(QEMU_IMG is None, reason="no qemu-img here; integration tests have one")


def record(slot: Path, *tags: str) -> None:
    """A machine that was kept, with these states."""
    (slot / MARK).touch()
    (slot / MACHINE).mkdir()
    checkpoints = Checkpoints(slot / MACHINE, {})
    for tag in tags:
        checkpoints.add(SavedState(tag, 2, Progress(fraction_done=0.5, cpu_seconds=12)))


def disk(slot: Path, *tags: str) -> None:
    """The disk of that machine, which holds these states."""
    assert QEMU_IMG is not None
    path = slot / MACHINE / "work.qcow2"
    subprocess.run([QEMU_IMG, "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    for tag in tags:
        subprocess.run([QEMU_IMG, "snapshot", "-c", tag, path], check=True)


def test_an_empty_slot_is_as_it_should_be(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert found.problems == [] and not found.running and found.ended == ""


@needs_qemu_img
def test_a_job_that_goes_on(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    disk(tmp_path, "checkpoint-1", "checkpoint-2")
    (tmp_path / TEMPORARY_EXIT).write_text("300\nx\n\n")
    found = look(tmp_path)
    assert found.problems == []
    assert found.checkpoints == ["checkpoint-2", "checkpoint-1"]
    assert found.progress is not None and found.progress.fraction_done == 0.5
    assert found.ended == "waiting to be started again"


@needs_qemu_img
def test_a_record_and_a_disk_that_do_not_agree(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    disk(tmp_path, "checkpoint-1", "checkpoint-9")
    found = look(tmp_path)
    assert found.checkpoints == ["checkpoint-1"]
    assert found.problems == [
        "checkpoint-2 is recorded and is not in machine/work.qcow2",
        "checkpoint-9 is in machine/work.qcow2 and not recorded; it goes at the next one",
    ]


@needs_qemu_img
def test_a_disk_that_is_none(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1")
    assert look(tmp_path).problems[0] == "machine/work.qcow2 is missing"
    (tmp_path / MACHINE / "work.qcow2").write_bytes(b"QFI\xfb" + b"\xff" * 500)
    assert "machine/work.qcow2 is damaged" in look(tmp_path).problems[0]


def leave(*names: str) -> Callable[[Path], None]:
    def act(slot: Path) -> None:
        for name in names:
            (slot / name).touch() if name.startswith(".") else (slot / name).mkdir()

    return act


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (leave(SHARED, MARK), "shared/ was left behind by a bridge that was killed"),
        (leave(MACHINE, MARK), "machine/ was left behind and holds no checkpoint"),
        (leave(MARK), ".vmbridge was left behind"),
        (leave(SHARED), "shared without .vmbridge beside it: not the bridge's"),
        (leave(".boinc_finish_called.tmp"), ".boinc_finish_called.tmp was left behind by a write that did not end"),
    ],
)
def test_leavings_are_named(tmp_path: Path, prepare: Callable[[Path], None], problem: str) -> None:
    prepare(tmp_path)
    assert any(problem in said for said in look(tmp_path).problems)


def test_a_finished_job_keeps_no_machine(tmp_path: Path) -> None:
    record(tmp_path)
    (tmp_path / FINISH).write_text("0\n\n\n")
    found = look(tmp_path)
    assert found.ended == "finished with code 0"
    assert "the job has finished, and machine/ is still there" in found.problems


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"\xff"])
def test_a_record_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    record(tmp_path)
    (tmp_path / MACHINE / RECORD).write_bytes(content)
    assert any("checkpoints.json cannot be read" in problem for problem in look(tmp_path).problems)


def test_a_job_that_runs_is_left_alone(tmp_path: Path) -> None:
    leave(SHARED, MARK)(tmp_path)
    code = (
        "import sys; from pathlib import Path; from bridge.client.slot import Slot\n"
        "Slot(Path(sys.argv[1])).lock(); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        found = look(tmp_path)
        assert found.running and found.problems == []
        holder.communicate("")
    (tmp_path / LOCK).touch()
    assert not look(tmp_path).running and look(tmp_path).problems, "a lock file that nobody holds is no lock"
