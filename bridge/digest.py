"""The SHA-256 of a file, read piece by piece: images are larger than memory should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 1 << 20


def sha256_of(file: Path) -> str:
    """Return the digest in hexadecimal digits.

    :raise OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
