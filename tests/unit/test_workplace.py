"""One owner of a job directory, and nothing left in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import HostError
from bridge.workplace import LOCK, occupy


def test_clean_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "job.xml").write_text("x")
    with occupy(tmp_path) as place:
        assert os.listdir(place.machine) == []
        place.shared.mkdir()
        (place.shared / "fraction_done").write_text("1\n")
        (place.machine / "work.qcow2").write_text("disk")
    assert os.listdir(tmp_path) == ["job.xml"]


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
    assert (tmp_path / LOCK).exists() and (tmp_path / "shared" / "old").exists()
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
