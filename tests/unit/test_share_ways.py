"""The ways in which a guest mounts its shares: which, in what order, and what is said when none works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from guest_side import SOURCES
from protocol.layout import GUEST_TAG, HOST_TAG

from ..sanitized import compiled

NINE_P = "trans=virtio,version=9p2000.L,msize=131072,cache=none"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code = [Path(__file__).with_name("share_ways.c"), SOURCES / "machine" / "share.c"]
    return compiled(tmp_path_factory.mktemp("ways") / "ways", code, '-DVMHGFS="./vmhgfs-fuse"')


def said(binary: Path, folder: Path, works: str, *tags: str) -> list[str]:
    done = subprocess.run([binary, folder, works, *tags], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_first_way_that_works_is_taken_and_no_other_is_tried(binary: Path, tmp_path: Path) -> None:
    assert said(binary, tmp_path, "9p", HOST_TAG, GUEST_TAG) == [
        f"9p {HOST_TAG} ro {NINE_P}",
        f"{HOST_TAG}: mounted",
        f"9p {GUEST_TAG} rw {NINE_P}",
        f"{GUEST_TAG}: mounted",
    ]


def test_what_has_worked_for_the_first_is_used_for_the_second(binary: Path, tmp_path: Path) -> None:
    assert said(binary, tmp_path, "vboxsf", HOST_TAG, GUEST_TAG) == [
        f"9p {HOST_TAG} ro {NINE_P}",
        f"vboxsf {HOST_TAG} ro ttl=0",
        f"{HOST_TAG}: mounted",
        f"vboxsf {GUEST_TAG} rw ttl=0",
        f"{GUEST_TAG}: mounted",
    ]


def test_the_last_way_is_a_program_that_is_there_or_not(binary: Path, tmp_path: Path) -> None:
    """What the program leaves mounted counts, whatever it ends with; /proc plays that."""
    program = tmp_path / "vmhgfs-fuse"
    program.write_text('#!/bin/sh\necho "$@"\nln -s /proc "$2"\n')
    program.chmod(0o755)
    options = "nosuid,nodev,entry_timeout=0,attr_timeout=0,negative_timeout=0"
    lines = said(binary, tmp_path, "", HOST_TAG, GUEST_TAG, HOST_TAG)
    assert [line for line in lines if not line.startswith(("9p ", "vboxsf "))] == [
        f".host:/{HOST_TAG} {tmp_path / HOST_TAG} -o {options},ro",
        f"{HOST_TAG}: mounted",
        f".host:/{GUEST_TAG} {tmp_path / GUEST_TAG} -o {options}",
        f"{GUEST_TAG}: mounted",
        f"{HOST_TAG}: mounted",  # it still is: nothing is mounted over it
    ]
    assert len(lines) == 7, "the kernel was asked for the first one only"


@pytest.mark.parametrize(
    ("script", "why"),
    [(None, "No such file or directory"), ("exit 0", "Input/output error"), ("exit 1", "Input/output error")],
)
def test_when_none_works_each_says_why_and_all_are_tried_again(
    binary: Path, tmp_path: Path, script: str | None, why: str
) -> None:
    if script is not None:
        (tmp_path / "vmhgfs-fuse").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "vmhgfs-fuse").chmod(0o755)
    lines = said(binary, tmp_path, "", HOST_TAG, HOST_TAG)
    assert f"{HOST_TAG}: 9p: No such file or directory, vboxsf: No such device, vmhgfs-fuse: {why}" in lines
    assert lines[-2:] == [f"9p {HOST_TAG} ro {NINE_P}", f"{HOST_TAG}: mounted"]


def test_why_a_share_does_not_come_back_is_said_once(tmp_path: Path) -> None:
    """The other one's success had it forgotten, so it filled the console, at each try."""
    ours = [SOURCES / "agent" / "exports.c", SOURCES / "machine" / "share.c"]
    code = [Path(__file__).with_name("exports_said.c"), *ours]
    done = subprocess.run([compiled(tmp_path / "said", code), tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"cannot mount {GUEST_TAG}: 9p: No such file or directory"]
