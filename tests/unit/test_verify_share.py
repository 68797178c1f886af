"""The proof itself can fail: it finds each kind of broken share, and passes a plain folder."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.files import write_atomic
from protocol.verify_share import LINES, SCRIPT, Proof, ShareBroken, Verifier, verify

from ..patience import AT_MOST_S, until


def say(folder: Path, name: str, value: int, lines: int = LINES) -> None:
    write_atomic(folder / name, f"{value}\n".encode() * lines, durable=False)


def both(folder: Path, value: int) -> None:
    say(folder, "verify_first", value)
    say(folder, "verify_second", value)


def test_a_plain_folder_keeps_all_promises(tmp_path: Path) -> None:
    def proof() -> Proof:
        folder = tmp_path / next(names)
        folder.mkdir()
        script = subprocess.Popen(["sh", SCRIPT, folder, folder, "120"])
        found = verify(folder, folder, silence_s=AT_MOST_S)
        assert script.wait() == 0
        assert found.reads > found.values
        return found

    names = map(str, itertools.count())
    until(lambda: (found := proof()).values > 3 and found.answers > 3, lambda: "the reader was always too slow to see")


def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "protocol.verify_share", str(tmp_path), str(tmp_path), "--rounds", "50"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Proof(reads=")


def _torn(folder: Path) -> None:
    say(folder, "verify_first", 8, LINES // 2)


def _mixed(folder: Path) -> None:
    write_atomic(folder / "verify_first", b"7\n" * 100 + b"8\n" * 100, durable=False)


def _empty(folder: Path) -> None:
    write_atomic(folder / "verify_first", b"", durable=False)


def _gone(folder: Path) -> None:
    (folder / "verify_second").unlink()


def _second_before_first(folder: Path) -> None:
    say(folder, "verify_second", 8)


def _back(folder: Path) -> None:
    both(folder, 6)


def _stale_at_the_end(folder: Path) -> None:
    say(folder, "verify_done", 9, 1)


def _answered_too_early(folder: Path) -> None:
    say(folder, "verify_echo", 99, 1)


@pytest.mark.parametrize(
    ("breaking", "promise"),
    [
        (_torn, "rename: verify_first was seen in part"),
        (_mixed, "rename: verify_first was seen in part"),
        (_empty, "rename: verify_first was seen in part"),
        (_gone, "rename: verify_second was gone after value 7"),
        (_second_before_first, "ordering: value 8 was seen in the second file, but only 7 in the first"),
        (_back, "ordering: value 6 came back in verify_second after 7"),
        (_stale_at_the_end, "visibility: the guest was done with 9, but 7 and 7"),
        (_answered_too_early, "visibility: call 99 was answered before it was made"),
    ],
)
def test_each_broken_promise_is_found(tmp_path: Path, breaking: Callable[[Path], None], promise: str) -> None:
    both(tmp_path, 7)
    verifier = Verifier(tmp_path, tmp_path)
    assert not verifier.look()
    breaking(tmp_path)
    with pytest.raises(ShareBroken, match=promise):
        verifier.look()


def test_a_silent_guest_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ShareBroken, match=r"nothing new from the guest for 0\.05 seconds"):
        verify(tmp_path, tmp_path, silence_s=0.05)
    assert os.listdir(tmp_path) == ["verify_call"]


def test_calls_are_counted_when_they_are_answered(tmp_path: Path) -> None:
    verifier = Verifier(tmp_path, tmp_path)
    verifier.look()
    assert verifier.proof == Proof(2, 1, 0)
    say(tmp_path, "verify_echo", 1, 1)
    verifier.look()
    assert verifier.proof.answers == 1
