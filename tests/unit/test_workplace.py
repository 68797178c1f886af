"""One owner of a job directory, and nothing left in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import workplace
from bridge.errors import HostError
from bridge.workplace import LOCK, MARK, occupy


def test_clean_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "job.xml").write_text("x")
    with occupy(tmp_path) as place:
        assert os.listdir(place.machine) == []
        place.shared.mkdir()
        (place.shared / "fraction_done").write_text("1\n")
        (place.machine / "work.qcow2").write_text("disk")
    assert os.listdir(tmp_path) == ["job.xml"]


def saved(machine: Path) -> bool:
    return (machine / "state").exists()


def test_a_machine_that_is_worth_it_is_kept_from_owner_to_owner(tmp_path: Path) -> None:
    with occupy(tmp_path, saved) as place:
        (place.machine / "state").write_text("memory")
        place.shared.mkdir()
        place.keep_machine = True
    assert sorted(os.listdir(tmp_path)) == [MARK, "machine"], "the share is always made anew"
    with pytest.raises(ZeroDivisionError), occupy(tmp_path, saved) as place:
        _ = 1 / 0
    assert (tmp_path / "machine" / "state").exists(), "an error that comes too early to know better lets nothing go"
    with occupy(tmp_path, saved) as place:
        assert (place.machine / "state").read_text() == "memory"
        place.keep_machine = False
    assert os.listdir(tmp_path) == []


def test_a_machine_that_is_kept_is_not_for_everybody(tmp_path: Path) -> None:
    with occupy(tmp_path, saved) as place:
        (place.machine / "state").write_text("memory")
        place.keep_machine = True
    with occupy(tmp_path) as place:
        assert os.listdir(place.machine) == []


def test_clean_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), occupy(tmp_path):
        _ = 1 / 0
    assert os.listdir(tmp_path) == []


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from bridge.workplace import occupy\nwith occupy(Path({str(tmp_path)!r})): pass"
    with occupy(tmp_path) as place:
        (place.machine / "in use").write_text("x")
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another bridge is at work in" in other.stderr
        assert (place.machine / "in use").exists()


def test_what_a_killed_bridge_left_goes(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from bridge.workplace import occupy\n"
        f"with occupy(Path({str(tmp_path)!r})) as place:\n"
        "    place.shared.mkdir(); (place.shared / 'old').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert (tmp_path / MARK).exists() and (tmp_path / "shared" / "old").exists()
    with occupy(tmp_path) as place:
        assert not place.shared.exists()


@pytest.mark.parametrize("name", ["shared", "machine"])
def test_somebody_elses_folder_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("ten years of work")
    for _ in range(2):  # the refusal itself must not make it ours
        with pytest.raises(HostError, match=f"{name} is there and was not made by the bridge"), occupy(tmp_path):
            pass
    assert (tmp_path / name / "thesis.tex").exists() and not (tmp_path / LOCK).exists()


def test_a_bridge_killed_before_it_was_certain_has_no_claim(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()  # the lock alone used to make somebody's folder ours
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "thesis.tex").write_text("ten years of work")
    with pytest.raises(HostError, match="was not made by the bridge"), occupy(tmp_path):
        pass
    assert (tmp_path / "shared" / "thesis.tex").exists()


def test_what_could_not_be_removed_stays_ours_and_goes_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        if folder.exists():
            raise PermissionError(1, "Operation not permitted", str(folder))

    with pytest.raises(HostError, match=r"cannot remove .*Operation not permitted"), occupy(tmp_path) as place:
        place.shared.mkdir()
        monkeypatch.setattr(workplace, "remove_tree", refuse)
    assert (tmp_path / MARK).exists()
    monkeypatch.undo()
    with occupy(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_share_that_stays_is_only_looked_after(tmp_path: Path) -> None:
    """It is the client's, too: it may have put inputs there, and takes outputs from it when we have gone."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "in.dat").touch()
    with occupy(tmp_path, shared_stays=True) as place:
        (place.shared / "out.dat").touch()
    assert sorted(os.listdir(tmp_path / "shared")) == ["in.dat", "out.dat"] and os.listdir(tmp_path) == ["shared"]


def test_who_cleans_up_after_a_share_that_stays_leaves_it_too(tmp_path: Path) -> None:
    with occupy(tmp_path, shared_stays=True) as place:
        place.shared.mkdir()
        place.keep_machine = True
    with occupy(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["shared"], "the outputs used to be deleted before the client had them"
    with pytest.raises(HostError, match="was not made by the bridge"), occupy(tmp_path):
        pass


def test_a_result_may_be_called_as_a_machine_with_a_number(tmp_path: Path) -> None:
    """It used to be taken for a machine that was set aside: removed at the end, or refused at the next start."""
    with occupy(tmp_path) as place:
        place.set_aside(1)
        (tmp_path / "machine.1").write_text("a result")
        assert place.aside() == {1: tmp_path / ".vmbridge.machine.1"}
    assert os.listdir(tmp_path) == ["machine.1"]
    with occupy(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["machine.1"]
