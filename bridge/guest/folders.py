"""Make and remove the folders of a share, whatever a guest left in them."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from protocol.layout import Share

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_anew(share: Share) -> None:
    """Make both exports, new and empty; whatever was there before is gone (B10).

    :raise OSError: a folder could not be removed or made.
    """
    for folder in dict.fromkeys((share.host, share.guest)):
        remove_tree(folder)
        folder.mkdir(parents=True)


def remove_tree(folder: Path) -> None:
    """Delete `folder` and all that is in it; nothing happens if it is absent. No link is followed.

    A guest can nest folders deeper than a path can be long or a recursion can go, so depth never matters here: what
    lies in a sub-folder is first moved up to the top, and each folder is deleted when it has become empty.

    :raise OSError: something could not be deleted.
    """
    try:
        top = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        folder.unlink()
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    folder.rmdir()


def _empty(top: int) -> None:
    moved = 0
    while entries := os.listdir(top):
        for name in entries:
            if not _is_folder(top, name):
                os.unlink(name, dir_fd=top)
                continue
            moved = _lift(top, name, moved)
            os.rmdir(name, dir_fd=top)


def _lift(top: int, name: str, moved: int) -> int:
    """Empty the folder `name` in `top`: delete its files and move its folders up; return how many were moved so far."""
    os.chmod(name, 0o700, dir_fd=top)
    inner = os.open(name, _FOLDER, dir_fd=top)
    try:
        for entry in os.listdir(inner):
            if not _is_folder(inner, entry):
                os.unlink(entry, dir_fd=inner)
                continue
            moved = _free_number(top, moved)
            os.rename(entry, f".{moved}", src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    return moved


def _free_number(top: int, number: int) -> int:
    """Return the next number above `number` that is no name in `top` yet; a guest may have taken some."""
    while True:
        number += 1
        with contextlib.suppress(FileExistsError):
            os.mkdir(f".{number}", dir_fd=top)  # an empty folder, which rename replaces
            return number


def _is_folder(at: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
