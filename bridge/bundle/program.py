"""The main program, written for exactly these parts: the names of the files beside it are in it.

The text is in `main_program`: a shell script that looks for a Python and is a Python program at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .. import __version__

API_VERSION = "7.20.0"
"""What the program says of its dialect of BOINC's shared memory: anything from 6.0 on gets a mapped file."""

_TEMPLATE = Path(__file__).with_name("main_program")


def main_program(modules: str, extensions: Mapping[str, str], oldest_python: tuple[int, int]) -> bytes:
    """Return the program: `modules` is the name of the zip, `extensions` the file of each module that is one."""
    values = {
        "VERSION": __version__,
        "PYTHON": ".".join(map(str, oldest_python)),
        "OLDEST_PYTHON": repr(oldest_python),
        "MODULES": modules,
        "EXTENSIONS": json.dumps(dict(sorted(extensions.items()))),
    }
    text = _TEMPLATE.read_text(encoding="ascii")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode("ascii")
