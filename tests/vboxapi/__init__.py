"""A stand-in for VirtualBox, for none could ever start a machine where the bridge was made: its machines are QEMU's.

It has the `vboxapi` that pyvbox wants, VBoxManage, and VBoxHeadless, which lets QEMU play the machine: the disk over
the project's, the shared folders as 9p exports, the CD, the console. All of it was written from VirtualBox's
documentation, and from what the real 7.2 says of machines that are off. So it shows that the bridge does what it means
to, and of a machine that runs nothing of what VirtualBox does.

service   the machine in a file, and what may be done with it
qemu      the machine in QEMU's words, and QEMU's monitor
api       the objects that pyvbox calls
programs  VBoxManage and VBoxHeadless
"""

from __future__ import annotations

import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]

_PROGRAM = """#!/bin/sh
PYTHONPATH="{repository}" exec "{python}" -m tests.vboxapi.programs "$(basename "$0")" "$@"
"""

_PYTHON = """#!/bin/sh
[ "$1" = -I ] && shift
PYTHONPATH="{folder}/packages" exec "{python}" "$@"
"""

_PACKAGE = """import sys
sys.path.append("{repository}")
from tests.vboxapi.api import *
"""


def install(folder: Path) -> None:
    """Put VBoxManage, VBoxHeadless and a Python that has the API into `folder`."""
    (folder / "packages").mkdir()
    texts = {"VBoxManage": _PROGRAM, "VBoxHeadless": _PROGRAM, "python3": _PYTHON, "packages/vboxapi.py": _PACKAGE}
    for name, text in texts.items():
        filled = text.format(folder=folder, repository=_REPOSITORY, python=sys.executable)
        (folder / name).write_text(filled)
        (folder / name).chmod(0o755)
