"""A folder that appears whole or not at all, and takes the place of nothing but a former bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.files import sync_folder

from ..copying import copy_content
from ..errors import HostError, host_trouble
from ..trees import remove_tree
from .version import VERSION_FILE, files_named_in


def refuse_foreign(out: Path) -> None:
    """Check that nothing is lost if `out` is replaced.

    :raise HostError: it is not absent, not empty, and not a former bundle to which nothing was added.
    """
    with host_trouble(f"look into {out}"):
        if not out.exists() and not out.is_symlink():
            return
        if not out.is_dir() or out.is_symlink():
            raise HostError(f"{out} is there and is no folder. Choose another name, or move it away")
        there = set(os.listdir(out))
        if not there:
            return
        text = (out / VERSION_FILE).read_text(errors="replace") if VERSION_FILE in there else ""
    ours = files_named_in(text)
    if ours is None:
        raise HostError(f"{out} is there and was not written by vmbridge package. Choose another name, or move it away")
    if foreign := there - ours - {VERSION_FILE}:
        raise HostError(f"{out} holds {min(foreign)!r:.80}, which this program has not put there. Move it away")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder that takes the place of `out` when the block has ended well, and else is not there any more.

    :raise HostError: the disk does not allow it, in the block or here; `out` is as it was.
    """
    new, old = out.with_name(f".{out.name}.new"), out.with_name(f".{out.name}.old")
    with host_trouble(f"write {out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in (new, old):
            remove_tree(left_by_a_kill)
        new.mkdir()
        try:
            yield new
            sync_folder(new)
            _exchange(new, out, old)
            sync_folder(out.parent)
        finally:
            remove_tree(new)
            remove_tree(old)


def _exchange(new: Path, out: Path, old: Path) -> None:
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


def write(target: Path, content: bytes | Path, *, executable: bool) -> None:
    """Write a new file and make it durable.

    :raise OSError: it could not be written.
    """
    with target.open("xb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                copy_content(source.fileno(), file.fileno(), os.fstat(source.fileno()).st_size)
        file.flush()
        # The server tells clients to make executable what is executable here, and nothing else is to be.
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
        os.fsync(file.fileno())
