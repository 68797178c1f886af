"""The slot's small files, on a real folder: links, lock, finish file, temporary exit."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.client.slot import FINISH, LOCK, MESSAGE_BYTES, REASON_BYTES, TEMPORARY_EXIT, Locked, Slot, exit_status

from ..standin.conclusion import conclude


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    directory = tmp_path / "slots" / "0"
    directory.mkdir(parents=True)
    (tmp_path / "projects" / "p").mkdir(parents=True)
    return Slot(directory)


def link(slot: Slot, name: str, target: str, end: str = "</soft_link>\n") -> Path:
    path = slot.directory / name
    path.write_text(f"<soft_link>{target}{end}")
    return path


def test_a_link_stands_for_its_target_which_need_not_exist(slot: Slot) -> None:
    path = link(slot, "out.txt", "../../projects/p/wu_1_0_r5_0")
    assert slot.resolve(path) == slot.directory.parent.parent / "projects/p/wu_1_0_r5_0"


@pytest.mark.parametrize(
    "content",
    [b"", b"plain data", b"data <soft_link>../x</soft_link>", b"<soft_link>never ends", b"\n<soft_link>x</soft_link>",
     b"\x00" * 2000, b"x" * 600 + b"<soft_link>x</soft_link>"],
)  # fmt: skip
def test_what_is_no_link_stands_for_itself(slot: Slot, content: bytes) -> None:
    path = slot.directory / "file"
    path.write_bytes(content)
    assert slot.resolve(path) == path


def test_a_folder_and_nothing_stand_for_themselves(slot: Slot) -> None:
    for name in ("", "missing"):
        assert slot.resolve(slot.directory / name) == slot.directory / name


def test_a_symlink_stands_for_its_target_even_if_there_is_none_yet(slot: Slot) -> None:
    """A result took the place of the link, because it is moved there, and the client found none in the project."""
    (slot.directory / "link").symlink_to("../../projects/p/real")
    assert slot.resolve(slot.directory / "link") == Path(
        os.path.realpath(slot.directory / ".." / ".." / "projects" / "p" / "real")
    )


def test_a_pipe_is_not_waited_for(slot: Slot) -> None:
    os.mkfifo(slot.directory / "job.xml")
    assert slot.resolve(slot.directory / "job.xml") == slot.directory / "job.xml", "it used to wait for a writer"


def test_a_name_that_is_no_text(slot: Slot) -> None:
    path = slot.directory / "in"
    path.write_bytes(b"<soft_link>../../projects/p/\xff.dat</soft_link>\n")
    assert os.fsencode(slot.resolve(path)).endswith(b"projects/p/\xff.dat")


TRY = """
import sys
from pathlib import Path
from bridge.client.slot import Locked, Slot
try:
    Slot(Path(sys.argv[1])).lock()
except Locked as error:
    print(error)
else:
    print("mine")
"""


def other_process(slot: Slot) -> str:
    return subprocess.run(
        [sys.executable, "-c", TRY, slot.directory], capture_output=True, text=True, check=True
    ).stdout


def test_the_lock_excludes_other_processes_until_it_is_let_go(slot: Slot) -> None:
    slot.lock()
    assert "another process runs the job in" in other_process(slot)
    slot.unlock()
    assert not (slot.directory / LOCK).exists()
    assert other_process(slot) == "mine\n"
    slot.unlock()


def test_the_lock_is_the_one_that_the_clients_library_takes(slot: Slot) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX);"
         "print('locked', flush=True); sys.stdin.read()", slot.directory / LOCK],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    with pytest.raises(Locked):
        slot.lock()
    holder.communicate("")
    slot.lock()
    slot.unlock()


def test_a_lock_file_that_was_left_behind_does_not_matter(slot: Slot) -> None:
    with (slot.directory / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another kind of lock, which the client's library would not see either
        slot.lock()
    slot.unlock()


def test_the_finish_file_has_three_lines_of_its_own(slot: Slot) -> None:
    assert slot.finished() is None
    slot.finish(0, "all\nsteps\tdone")
    assert (slot.directory / FINISH).read_text() == "0\nall steps done\n\n", "the third line makes the second one shown"
    assert slot.finished() == 0
    slot.finish(195, "no", notice=True)
    assert (slot.directory / FINISH).read_text() == "195\nno\nnotice\n" and slot.finished() == 195


@pytest.mark.parametrize(("content", "code"), [("", 0), ("7", 7), ("-1\n", -1), ("word\n", 0), ("5\nmore\n", 5)])
def test_a_finish_file_of_somebody_else(slot: Slot, content: str, code: int) -> None:
    (slot.directory / FINISH).write_text(content)
    assert slot.finished() == code


@pytest.mark.parametrize(("code", "status"), [(0, 0), (1, 1), (195, 195), (-1, 255), (256, 1), (-256, 1), (1000, 232)])
def test_only_success_exits_as_success(code: int, status: int) -> None:
    assert exit_status(code) == status


@pytest.mark.parametrize("text", ["x" * 254, "x" * 255, "é" * 127, "x" + "é" * 127, "é" * 1000, "word " * 400])
def test_a_long_text_is_cut_and_the_notice_stays(slot: Slot, text: str) -> None:
    """The client took the end of a long reason for the third line, and the volunteer was shown nothing."""
    slot.exit_temporarily(300, text, notice=True)
    slot.finish(0, text, notice=True)
    for name, most in ((TEMPORARY_EXIT, REASON_BYTES), (FINISH, MESSAGE_BYTES)):
        content = (slot.directory / name).read_text()
        _, line, last = content.splitlines()
        whole = len(text.strip().encode()) <= most
        assert last == "notice" and len(line.encode()) <= most and (line == text.strip()) == whole
        assert whole or (line.endswith("...") and len(line.encode()) > most - 3)
    assert conclude(0, temporary_exit=(slot.directory / TEMPORARY_EXIT).read_text()).notice
    assert conclude(0, finish_file=(slot.directory / FINISH).read_text()).notice


def test_a_temporary_exit_always_has_its_reason(slot: Slot) -> None:
    slot.exit_temporarily(300, "the machine\nended")
    assert (slot.directory / TEMPORARY_EXIT).read_text() == "300\nthe machine ended\n\n"
    slot.exit_temporarily(1e9, "no QEMU", notice=True)
    assert (slot.directory / TEMPORARY_EXIT).read_text() == "86400\nno QEMU\nnotice\n"
    slot.exit_temporarily(300, " \n ")
    assert (slot.directory / TEMPORARY_EXIT).read_text() == "300\nno reason given\n\n", "an empty one is ignored"
