"""The one door for what a guest wrote, and files that are replaced whole. On a real folder: fakes let too much by."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocol.files import Door, write_atomic

from ..patience import AT_MOST_S, until


def test_reads_a_file_whole(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"x" * 100)
    with Door(tmp_path) as door:
        assert door.read("status", 100) == b"x" * 100
        assert door.read("absent", 100) is None


def test_says_what_is_there_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/nonexistent")
    with Door(tmp_path) as door:
        assert [door.is_there(name) for name in ("fifo", "link", "absent")] == [True, True, False]


@pytest.mark.behaviour("B7")
def test_one_byte_too_many_is_refused(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"x" * 101)
    with Door(tmp_path) as door, pytest.raises(RemoteProtocolError) as caught:
        door.read("status", 100)
    assert caught.value.rule == "R1"


@pytest.mark.behaviour("B7")
def test_a_sparse_terabyte_costs_nothing(tmp_path: Path) -> None:
    with (tmp_path / "status").open("wb") as file:
        file.truncate(1 << 40)
    with Door(tmp_path) as door, pytest.raises(RemoteProtocolError):
        door.read("status", 65_536)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling_link(path: Path) -> None:
    path.symlink_to("/nonexistent")


def _socket(path: Path) -> None:
    # a socket's name is short by law, the test's folder is not
    here = os.open(path.parent, os.O_RDONLY)
    try:
        socket.socket(socket.AF_UNIX).bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


@pytest.mark.behaviour("B7")
@pytest.mark.parametrize(
    "plant", [_link, _dangling_link, os.mkfifo, Path.mkdir, _socket], ids=lambda plant: plant.__name__
)
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, plant: object) -> None:
    assert callable(plant)
    plant(tmp_path / "status")
    caught: list[BaseException] = []

    def read() -> None:
        with Door(tmp_path) as door:
            try:
                door.read("status", 100)
            except RemoteProtocolError as error:
                caught.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(AT_MOST_S)
    assert not reader.is_alive(), "a FIFO used to be a place to wait in"
    assert len(caught) == 1 and isinstance(caught[0], RemoteProtocolError) and caught[0].rule == "B7"


@pytest.mark.behaviour("B7")
def test_a_folder_that_is_a_link_is_not_walked_through(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "result").write_text("secret")
    guest = tmp_path / "guest"
    guest.mkdir()
    (guest / "out").symlink_to(secrets)
    with Door(guest) as door, pytest.raises(RemoteProtocolError):
        door.open("out/result")


def test_the_door_stays_with_its_folder_when_the_name_is_taken_by_another(tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    guest.mkdir()
    (guest / "status").write_text("first")
    with Door(guest) as door:
        guest.rename(tmp_path / "aside")
        guest.mkdir()
        (guest / "status").write_text("second")
        assert door.read("status", 100) == b"first"


@pytest.mark.behaviour("B2")
def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "status"
    contents = {bytes([65 + n]) * 50_000 for n in range(20)}
    write_atomic(path, b"A" * 50_000, durable=False)
    done = threading.Event()

    def write() -> None:
        for content in sorted(contents) * 10:
            write_atomic(path, content, durable=False)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    with Door(tmp_path) as door:
        while not done.is_set():
            seen.add(door.read("status", 65_536))
    writer.join()
    assert seen <= contents


@pytest.mark.behaviour("B2")
def test_a_planted_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "precious").write_text("keep")
    (folder / ".status.tmp").symlink_to(tmp_path / "precious")
    write_atomic(folder / "status", b"new", durable=True)
    assert (folder / "status").read_bytes() == b"new" and not (folder / "status").is_symlink()
    assert (tmp_path / "precious").read_text() == "keep"
    assert os.listdir(folder) == ["status"]


@pytest.mark.behaviour("B2")
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomic(tmp_path / "status", b"old", durable=True)
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "status", b"new", durable=True)
    assert (tmp_path / "status").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["status"]


def test_an_error_says_whose_fault_it_is() -> None:
    with pytest.raises(TypeError):
        ProtocolError("R1", "somebody's")
    assert str(RemoteProtocolError("R1", "too long")) == "too long (R1)"
    assert not isinstance(LocalProtocolError("R1", "ours"), RemoteProtocolError)


def test_the_end_of_a_file_of_any_length(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with (tmp_path / "sparse").open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"the end")
    (tmp_path / "short").write_bytes(b"all")
    (tmp_path / "link").symlink_to("short")
    with Door(tmp_path) as door:
        assert door.tail("sparse", 7) == b"the end" and door.tail("short", 7) == b"all"
        assert door.tail("absent", 7) is None
        with pytest.raises(RemoteProtocolError):
            door.tail("link", 7)


def test_a_stamp_changes_with_each_change_whatever_the_guest_says(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with Door(tmp_path) as door:
        assert door.stamp("file") is None
        file.write_bytes(b"1")
        before = door.stamp("file")
        assert door.stamp("file") == before

        def touched() -> bool:
            os.utime(file, (1, 1))
            return door.stamp("file") != before

        until(touched, lambda: "the kernel's clock for files does not move")  # it ticks every few milliseconds
        after = door.stamp("file")
        keep = file.with_name("keep")  # or the new file might get the old one's inode
        file.rename(keep)
        write_atomic(file, b"1", durable=False)
        assert len({before, after, door.stamp("file")}) == 3


def test_what_is_taken_out_is_gone(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "file").write_bytes(b"1")
    with Door(tmp_path / "share") as door:
        door.take_out("file", tmp_path / "taken")
        assert not door.is_there("file") and (tmp_path / "taken").read_bytes() == b"1"
        with pytest.raises(FileNotFoundError):
            door.take_out("file", tmp_path / "taken")


def test_some_names_and_no_more(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    with Door(tmp_path) as door:
        assert len(door.some_names(3)) == 3 and sorted(door.some_names(9)) == ["0", "1", "2", "3", "4"]
        assert sorted(door.some_names(9)) == ["0", "1", "2", "3", "4"], "it may be asked again"
