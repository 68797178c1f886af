"""Delete a folder, whatever somebody left in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Delete `folder` and all that is in it; nothing happens if it is absent. No link is followed.

    A guest can nest folders deeper than a path can be long or a recursion can go, so depth never matters here: what
    lies in a sub-folder is first moved up to the top, and each folder is deleted when it has become empty.

    :raise OSError: something could not be deleted.
    """
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            folder.unlink()
            return
    except FileNotFoundError:
        return
    folder.chmod(0o700)
    top = os.open(folder, _FOLDER)
    try:
        _empty(top)
    finally:
        os.close(top)
    folder.rmdir()


def _empty(top: int) -> None:
    number = 0
    while entries := os.listdir(top):
        for name in entries:
            if _is_folder(top, name):
                number = _lift(top, name, number)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)


def _lift(top: int, name: str, number: int) -> int:
    """Empty the folder `name` in `top`: delete its files, then move its folders up under numbers; return the last one.

    Files go first, and no name is made that was not there: a full disk may leave no room for one.
    """
    inner = _open_any(top, name)
    try:
        folders = []
        for entry in os.listdir(inner):
            if _is_folder(inner, entry):
                folders.append(entry)
            else:
                os.unlink(entry, dir_fd=inner)
        for entry in folders:
            os.close(_open_any(inner, entry))  # a folder that may not be written cannot be moved either
            number = _free_number(top, number + 1)
            os.rename(entry, f".{number}", src_dir_fd=inner, dst_dir_fd=top)
    finally:
        os.close(inner)
    return number


def _open_any(at: int, name: str) -> int:
    """Open a folder, having taken all rights to it."""
    os.chmod(name, 0o700, dir_fd=at)
    return os.open(name, _FOLDER, dir_fd=at)


def _free_number(top: int, number: int) -> int:
    """Return the first number from `number` on that is no name in `top`; a guest may have taken some."""
    while True:
        try:
            os.stat(f".{number}", dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return number
        number += 1


def _is_folder(at: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
