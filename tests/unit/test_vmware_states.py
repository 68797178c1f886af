"""Saved states under VMware: folders that are whole or have no name, whenever somebody is killed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import CommandFailed
from bridge.hypervisors.vmware import states
from bridge.hypervisors.vmware.states import States
from bridge.hypervisors.vmware.vmx import FOLDER
from bridge.slots import look
from bridge.workplace import MACHINE

from .test_slots import record

MEMORY = "machine-5cf61512"


def suspended(folder: Path, content: str = "1") -> Path:
    """A machine that VMware has suspended; the file with its memory."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("disk.vmdk", "machine.vmx", f"{MEMORY}.vmem", f"{MEMORY}.vmss"):
        (folder / name).write_text(f"{name} {content}")
    return folder / f"{MEMORY}.vmss"


def test_a_state_is_found_again_whatever_becomes_of_the_machine(tmp_path: Path) -> None:
    found = States(tmp_path)
    memory = found.keep("one", suspended(tmp_path))
    found.forget_memory()
    assert not (tmp_path / f"{MEMORY}.vmss").exists() and not (tmp_path / f"{MEMORY}.vmem").exists()
    assert memory.read_text() == f"{MEMORY}.vmss 1" and memory.with_suffix(".vmem").exists()
    (tmp_path / "disk.vmdk").write_text("used since then")
    (tmp_path / "machine.vmx").unlink()
    found.keep("two", suspended(tmp_path, "2"))
    found.forget_memory()
    assert found.put_back("one") == memory
    assert (tmp_path / "disk.vmdk").read_text() == "disk.vmdk 1"
    assert (tmp_path / "machine.vmx").read_text() == "machine.vmx 1"
    (tmp_path / "disk.vmdk").write_text("used again")
    found.put_back("one")
    assert (tmp_path / "disk.vmdk").read_text() == "disk.vmdk 1", "it is restored as often as one likes"
    assert sorted(found.tags()) == ["one", "two"]


def test_a_state_takes_as_much_as_the_disk(tmp_path: Path) -> None:
    assert States(tmp_path).bytes() == 0
    suspended(tmp_path)
    assert States(tmp_path).bytes() == len("disk.vmdk 1")


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    found = States(tmp_path)
    found.keep("one", suspended(tmp_path))
    found.forget_memory()
    with pytest.raises(CommandFailed, match="already"):
        found.keep("one", suspended(tmp_path, "2"))
    with pytest.raises(CommandFailed, match="no saved state two"):
        found.put_back("two")
    assert (tmp_path / "disk.vmdk").read_text() == "disk.vmdk 2"


class Killed(BaseException):
    """Nobody catches it."""


def count_calls(patch: pytest.MonkeyPatch, at: int, error: BaseException) -> Callable[[], int]:
    """Let the `at`th step of those that change something fail; return how many there were."""
    count = 0

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def step(*words: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == at:
                raise error
            return original(*words, **options)

        return step

    for owner, name in (
        (states, "_copy"), (states, "sync_file"), (states, "sync_folder"), (states, "remove_tree"), (os, "link"),
        (Path, "mkdir"), (Path, "rename"), (Path, "replace"), (Path, "unlink"),
    ):  # fmt: skip
        patch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: count


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")], ids=["kill", "full"])
def test_whoever_is_killed_in_the_midst_leaves_whole_states_only(tmp_path: Path, error: BaseException) -> None:
    """At each step of saving, forgetting and restoring."""
    done = False
    at = 0
    while not done:
        at += 1
        folder = tmp_path / str(at)
        found = States(folder)
        found.keep("one", suspended(folder))
        found.forget_memory()
        memory = suspended(folder, "2")
        with pytest.MonkeyPatch.context() as patch:
            count = count_calls(patch, at, error)
            try:
                found.keep("two", memory)
                found.forget_all_but(["two"])
                found.put_back("two")
                done = count() < at
            except (Killed, OSError):
                assert count() == at
        tags = found.tags()
        assert tags, "one of them is always there"
        for tag in tags:
            number = {"one": "1", "two": "2"}[tag]
            state = found.put_back(tag)
            assert state.read_text() == f"{MEMORY}.vmss {number}"
            assert state.with_suffix(".vmem").read_text() == f"{MEMORY}.vmem {number}"
            assert (folder / "disk.vmdk").read_text() == f"disk.vmdk {number}"
        found.forget_all_but(tags[:1])
        assert found.tags() == tags[:1]
        assert not [
            name for name in os.listdir(folder) if "unnamed" in name and "disk" not in name and "vmx" not in name
        ]
    assert at > 12, "there are so many steps"


def test_where_nothing_can_have_two_names_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    found = States(tmp_path)
    memory = found.keep("one", suspended(tmp_path))
    suspended(tmp_path, "2")
    assert memory.read_text() == f"{MEMORY}.vmss 1"


def test_a_state_that_is_not_wanted_any_more(tmp_path: Path) -> None:
    found = States(tmp_path)
    memory = suspended(tmp_path)
    with pytest.raises(OSError, match="not wanted"):
        found.keep("one", memory, lambda: False)
    assert found.tags() == [] and memory.exists()


def test_check_looks_for_states_where_they_are(tmp_path: Path) -> None:
    record(tmp_path, "checkpoint-1", "checkpoint-2")
    folder = tmp_path / MACHINE / FOLDER
    found = States(folder)
    for tag in ("checkpoint-1", "checkpoint-9"):
        found.keep(tag, suspended(folder))
    said = look(tmp_path)
    assert said.checkpoints == ["checkpoint-1"]
    assert [problem for problem in said.problems if "checkpoint-" in problem] == [
        "checkpoint-2 is recorded and is not in machine/vmware",
        "checkpoint-9 is in machine/vmware and not recorded; it goes at the next one",
    ]
