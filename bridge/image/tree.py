"""A tree of files for a guest's disk: what a tar archive and a folder hold, laid over each other.

The archive is mmdebstrap's and is read as it comes; the contents of its files are kept in a scratch folder under
numbers, because names in a guest need not be names here.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..errors import ImageError

_DROPPED_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "var/log", "var/lib/apt/lists", "var/cache/apt")
"""Their content is made by a running system, or says when and how this one was built."""

_BACKED_UP = ("var/lib/dpkg", "var/cache/debconf")
"""What lies here as NAME-old is what NAME was before the last package was installed."""


@dataclass(frozen=True, slots=True)
class Node:
    """One file of the tree: `mode` holds type and permissions as in `stat`.

    A regular file has its content in the file `content`, or is the same file as `target`; a link leads to `target`.
    """

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    content: Path | None = None
    target: str | None = None


@dataclass(slots=True)
class Tree:
    """All nodes by their path, which is relative to the root; what comes later replaces what was there."""

    scratch: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def read_tar(self, archive: IO[bytes]) -> None:
        """Add what a tar archive holds; devices and what `is_dropped` are left out.

        :raise tarfile.TarError: it is broken.
        """
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            for info in tar:
                path = _plain(info.name)
                if path and not is_dropped(path):
                    self._add(tar, path, info)

    def _add(self, tar: tarfile.TarFile, path: str, info: tarfile.TarInfo) -> None:
        if info.isdir():
            self.nodes[path] = Node(path, stat.S_IFDIR | info.mode, info.uid, info.gid)
        elif info.issym():
            self.nodes[path] = Node(path, stat.S_IFLNK | 0o777, info.uid, info.gid, target=info.linkname)
        elif info.islnk():
            self.nodes[path] = Node(path, stat.S_IFREG, target=_plain(info.linkname))
        elif info.isreg():
            content = tar.extractfile(info)
            assert content is not None
            self.nodes[path] = Node(path, stat.S_IFREG | info.mode, info.uid, info.gid, self._keep(content))

    def add_file(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Add a file of root's."""
        kept = self._keep(io.BytesIO(data))
        self._make_room(path)
        self.nodes[path] = Node(path, stat.S_IFREG | (0o755 if executable else 0o644), content=kept)

    def add_folder(self, folder: Path) -> None:
        """Lay a folder of this host over the tree, as root's: 0755 what is executable here, else 0644.

        :raise ImageError: something in it is no file, folder or link.
        """
        for here, names, files in os.walk(folder):
            names.sort()
            for name in sorted([*names, *files]):
                self._lay_over(Path(here, name), os.path.relpath(os.path.join(here, name), folder))

    def _lay_over(self, file: Path, path: str) -> None:
        path = self._through_links(path)
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            self._make_room(path)
            self.nodes[path] = Node(path, stat.S_IFLNK | 0o777, target=os.readlink(file))
        elif stat.S_ISREG(mode):
            self._make_room(path)
            permissions = 0o755 if mode & 0o111 else 0o644
            self.nodes[path] = Node(path, stat.S_IFREG | permissions, content=file.absolute())
        elif not stat.S_ISDIR(mode):
            raise ImageError(f"{file} is no file, folder or link. Take it out")
        elif path not in self.nodes:
            self._make_room(path)
            self.nodes[path] = Node(path, stat.S_IFDIR | 0o755)
        elif stat.S_ISREG(self.nodes[path].mode):
            raise ImageError(f"/{path} is a file in the image, and is to be a folder. Rename it")

    def _through_links(self, path: str) -> str:
        """Where `path` really lies: in Debian, /bin and /lib are links into /usr."""
        above, _, name = path.rpartition("/")
        if not above:
            return path
        above = self._through_links(above)
        node = self.nodes.get(above)
        if node is not None and stat.S_ISLNK(node.mode) and node.target is not None:
            above = os.path.normpath(os.path.join("/", os.path.dirname(above), node.target)).lstrip("/")
        return f"{above}/{name}" if above else name

    def _make_room(self, path: str) -> None:
        """See to it that there are folders above `path`, and nothing below it.

        :raise ImageError: a file or link is where a folder is to be, or a folder where a file is to be.
        """
        there = self.nodes.get(path)
        if there is not None and stat.S_ISDIR(there.mode):
            raise ImageError(f"/{path} is a folder in the image, and is to be a file. Rename it")
        above = os.path.dirname(path)
        if above and above not in self.nodes:
            self._make_room(above)
            self.nodes[above] = Node(above, stat.S_IFDIR | 0o755)
        elif above and not stat.S_ISDIR(self.nodes[above].mode):
            raise ImageError(f"/{above} is no folder in the image, and is to hold {os.path.basename(path)}. Rename it")

    def _keep(self, content: IO[bytes]) -> Path:
        kept = self.scratch / str(next(self._numbers))
        with kept.open("xb") as file:
            shutil.copyfileobj(content, file)
        return kept

    def text(self, path: str) -> str:
        """Return the content of a file; empty if there is none."""
        node = self.nodes.get(path)
        return "" if node is None or node.content is None else node.content.read_text(errors="replace")


def is_dropped(path: str) -> bool:
    """Say whether this path is left out of the tree."""
    if path.endswith("-old") and os.path.dirname(path) in _BACKED_UP:
        return True
    return any(path.startswith(f"{folder}/") for folder in _DROPPED_FOLDERS)


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes in the order in which they can be made: folders first, second names of a file last."""
    return sorted(nodes, key=lambda node: (_is_second_name(node), os.fsencode(node.path)))


def _is_second_name(node: Node) -> bool:
    return stat.S_ISREG(node.mode) and node.target is not None


def _plain(name: str) -> str:
    return os.path.normpath(f"/{name}").lstrip("/")
