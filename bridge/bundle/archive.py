"""A zip whose bytes depend on nothing but what is put in: sorted, without dates, owners or modes. Pure.

It is Python's own format for importing (zipimport): the compiled module lies beside its source, `x.pyc` beside `x.py`.
A Python of another version does not take the compiled one and compiles the source.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can tell."""

_UNIX = 3
_PLAIN_FILE = 0o100644 << 16


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return the zip of `files`, whose keys are the names in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = _UNIX
            entry.external_attr = _PLAIN_FILE
            target.writestr(entry, files[name])
    return buffer.getvalue()
