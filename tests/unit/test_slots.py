"""What is said of a slot that is as it should be, and of one that is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.cli.slots import line
from bridge.client.slot import FINISH, LOCK
from bridge.life.accounting import Progress
from bridge.life.checkpoints import RECORD, Checkpoints, SavedState
from bridge.slots import look
from bridge.trees import remove_tree
from bridge.workplace import MACHINE, MARK, SHARED


def record(slot: Path, *tags: str) -> None:
    """A machine that was kept, with these states."""
    (slot / MARK).touch()
    (slot / MACHINE).mkdir()
    checkpoints = Checkpoints(slot / MACHINE, {})
    for tag in tags:
        checkpoints.add(SavedState(tag, 2, Progress(fraction_done=0.5, cpu_seconds=12)))


def test_an_empty_slot_is_as_it_should_be(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert found.problems == [] and not found.running and found.ended == ""


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


@pytest.mark.parametrize("names", [(SHARED, MACHINE, MARK), (SHARED,)])
def test_a_guest_without_our_agent_leaves_its_folder_and_its_disk(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "vbox_job.xml").touch()
    leave(*names)(tmp_path)
    assert look(tmp_path).problems == []


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


def keep_box(machine: Path, name: str, *tags: str) -> None:
    """What VirtualBox keeps of a machine with these states, as far as is looked at."""
    (machine / name / "vm").mkdir(parents=True)
    snapshots = "".join(f'<Snapshot uuid="{{1}}" name="{tag}">' for tag in tags)
    (machine / name / "vm" / "vm.vbox").write_text(f"<VirtualBox><Machine>{snapshots}")


def test_states_of_virtualboxs_are_in_its_box_and_in_copies_of_it(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    machine = tmp_path / MACHINE
    Checkpoints(machine, {}).copied(SavedState("checkpoint-1", 2, Progress()))
    keep_box(machine, "box", "checkpoint-2", "checkpoint-3")
    keep_box(machine, "checkpoint-1.copy", "checkpoint-1")
    keep_box(machine, "checkpoint-0.copy", "checkpoint-0")
    found = look(tmp_path)
    assert found.checkpoints == ["checkpoint-2", "checkpoint-1 (in a copy)"]
    assert found.problems == [
        "checkpoint-1 is recorded and is not in machine/box",
        "checkpoint-3 is in machine/box and not recorded; it goes at the next one",
        "machine/checkpoint-0.copy is a copy and not recorded; it goes at the next one",
    ]


def test_a_box_that_is_gone_holds_no_states(tmp_path: Path) -> None:
    """All that are recorded used to be in it."""
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    machine = tmp_path / MACHINE
    Checkpoints(machine, {}).copied(SavedState("checkpoint-1", 2, Progress()))
    keep_box(machine, "checkpoint-1.copy", "checkpoint-1")
    found = look(tmp_path)
    assert found.checkpoints == ["checkpoint-1 (in a copy)"] and "machine/box is missing" in found.problems
    remove_tree(machine / "checkpoint-1.copy")
    keep_box(machine, "box")
    found = look(tmp_path)
    assert found.checkpoints == [] and "machine/checkpoint-1.copy is missing" in found.problems


@contextmanager
def running(slot: Path) -> Iterator[None]:
    """Another process holds the slot's lock."""
    code = (
        "import sys; from pathlib import Path; from bridge.client.slot import Slot\n"
        "Slot(Path(sys.argv[1])).lock(); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(slot)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        yield
        holder.communicate("")


def test_a_job_that_runs_is_left_alone(tmp_path: Path) -> None:
    leave(SHARED, MARK)(tmp_path)
    with running(tmp_path):
        found = look(tmp_path)
        assert found.running and found.problems == []
    (tmp_path / LOCK).touch()
    assert not look(tmp_path).running and look(tmp_path).problems, "a lock file that nobody holds is no lock"


CLIENT = """\
<app_init_data>
<result_name>energy_1_0</result_name>
<host_info>
    <p_fpops>4000000000.000000</p_fpops>
</host_info>
</app_init_data>
"""


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(0.5, 12.0), "50.0% done, 12 s of CPU time, at most 4.8e+10 floating-point operations (estimated)"),
        (Progress(None, 12.0, 9.0, 1e9), "12 s of CPU time (9 s in the guest), 1e+09 floating-point operations"),
    ],
)
def test_what_a_job_has_taken(tmp_path: Path, progress: Progress, said: str) -> None:
    """Also of a job that runs, as it was at its last checkpoint."""
    record(tmp_path)
    (tmp_path / "init_data.xml").write_text(CLIENT)
    Checkpoints(tmp_path / MACHINE, {}).add(SavedState("checkpoint-7", 2, progress))
    with running(tmp_path):
        found = look(tmp_path)
    assert found.problems == [] and line(found) == f"energy_1_0, running, {said}"
