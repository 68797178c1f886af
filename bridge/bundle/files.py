"""One file of the bundle, and a name for it that no other content will ever have.

In a BOINC project a file's name is its content for ever: all versions of all applications share one folder on the
server and one on each volunteer's computer, and the server refuses another content under a name that it knows. So the
names carry a digest of the content. A file that did not change keeps its name, and nobody downloads it again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ..digest import sha256_of
from ..errors import HostError, host_trouble

DIGITS = 12
"""Of the digest, in hexadecimal: enough that no two files of a project ever share them by chance."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
"""What survives the server's shell commands, its database and its XML, all of which take names as they are."""

_SIGNATURE = ".sig"
"""What ends so is to the server the signature of another file."""

_WORTH_PACKING = 1 << 20


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file: its name on the server and at the client, what is in it (or the file that has it), and its role.

    `open_name` is the name in the slot under which the application finds it; None for parts of the program, which lie
    beside each other.
    """

    name: str
    content: bytes | Path
    open_name: str | None = None
    main_program: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @property
    def gzip(self) -> bool:
        """It is worth sending it compressed: a kernel shrinks to a sixth, a disk is compressed in itself."""
        return self.open_name is not None and self.size >= _WORTH_PACKING and not self.name.endswith(".qcow2")


def bundle_file(
    name: str, content: bytes | Path, *, suffix: str = "", open_name: str | None = None, main_program: bool = False
) -> BundleFile:
    """Return a file called `name`, the digest of `content`, and `suffix`.

    :raise HostError: a name that a BOINC server would trip over; the content cannot be read.
    """
    for given in (name + suffix, *(open_name.split("/") if open_name else ())):
        if not _PLAIN.fullmatch(given) or given.endswith(_SIGNATURE):
            raise HostError(
                f"{given!r} cannot be a file of a BOINC project. Rename it: letters, digits and . _ + - only, "
                f"at most 100, no . or - first, and no {_SIGNATURE} last"
            )
    return BundleFile(f"{name}_{digest_of(content)[:DIGITS]}{suffix}", content, open_name, main_program)


def given_file(path: Path, open_name: str) -> BundleFile:
    """Return a file as somebody has named it, which the application finds as `open_name`.

    :raise HostError: as `bundle_file`.
    """
    name, dot, suffix = path.name.partition(".")
    return bundle_file(name, path, suffix=dot + suffix, open_name=open_name)


def digest_of(content: bytes | Path) -> str:
    """Return the SHA-256 of bytes or of a file, in hexadecimal.

    :raise HostError: the file cannot be read.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with host_trouble(f"read {content}"):
        return sha256_of(content)
