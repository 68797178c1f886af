"""The share's folders go, whatever a guest left in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.guest.folders import make_anew
from bridge.trees import remove_tree
from protocol.layout import Share


def test_an_absent_folder_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "absent")


@pytest.mark.behaviour("B10")
def test_both_exports_are_made_anew(tmp_path: Path) -> None:
    share = Share.two_folders(tmp_path / "shared")
    make_anew(share)
    (share.guest / "fraction_done").write_text("0.9\n")
    (share.host / "command").write_text("old")
    make_anew(share)
    assert os.listdir(share.guest) == [] and os.listdir(share.host) == []


@pytest.mark.behaviour("B10", "B17")
def test_one_folder_is_made_anew_once(tmp_path: Path) -> None:
    share = Share.one_folder(tmp_path / "shared")
    make_anew(share)
    (share.guest / "fraction_done").write_text("0.9\n")
    make_anew(share)
    assert os.listdir(tmp_path / "shared") == []


def test_folders_nested_deeper_than_a_path_can_be_long(tmp_path: Path) -> None:
    top = tmp_path / "guest"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for level in range(1200):  # recursion gave up at a thousand
        name = "d" * 200 if level % 2 else ".1"
        os.mkdir(name, dir_fd=at)
        os.close(os.open(f"file{level}", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    remove_tree(top)
    assert not top.exists()


def test_links_are_deleted_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    guest = tmp_path / "guest"
    (guest / "deep").mkdir(parents=True)
    (guest / "link").symlink_to(precious)
    (guest / "deep" / "link").symlink_to(precious)
    os.mkfifo(guest / "deep" / "fifo")
    remove_tree(guest)
    assert (precious / "file").read_text() == "keep"
    linked = tmp_path / "linked"
    linked.symlink_to(precious)
    remove_tree(linked)
    assert not linked.is_symlink() and (precious / "file").exists()


def test_nested_folders_that_may_not_be_written(tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    (guest / "cache" / "pkg" / "deep").mkdir(parents=True)
    (guest / "cache" / "pkg" / "file").write_text("x")
    for folder in (guest / "cache" / "pkg" / "deep", guest / "cache" / "pkg", guest / "cache", guest):
        folder.chmod(0o555)
    as_ordinary_user(remove_tree, guest)
    assert not guest.exists()


def as_ordinary_user(do: Callable[[Path], None], folder: Path) -> None:
    """Do it in a process without root's rights, which would let everything pass."""
    if os.geteuid() != 0:
        do(folder)
        return
    for path in (folder.parent, folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    child = os.fork()
    if child == 0:
        os.chdir(folder.parent)
        os.setgid(65534)
        os.setuid(65534)
        try:
            do(Path(folder.name))
        except OSError as error:
            os.write(2, str(error).encode())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_new_is_made_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    guest = tmp_path / "guest"
    (guest / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.setattr(os, "mkdir", no_space)
    remove_tree(guest)
    assert not guest.exists()


def test_folders_without_permissions_and_with_wild_names(tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    for name in (b"\xff", b"new\nline", b"-rf", b".1", b".2", b"n" * 255):
        inner = os.path.join(os.fsencode(guest), name, b"inner")
        os.makedirs(inner)
        Path(os.fsdecode(inner), "file").write_text("x")
        os.chmod(os.path.dirname(inner), 0)
    remove_tree(guest)
    assert not guest.exists()
