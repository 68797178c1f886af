"""A stand-in for VMware's `vmrun`, for no VMware was ever at hand: its machines are QEMU's.

It reads the .vmx as `vmrun` is documented to, and lets QEMU play the `vmware-vmx`: the disk with the one below it, the
shared folders as 9p exports, the console, the log. What it does with them is what its writer believes of VMware.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..conftest import REPOSITORY


def install(folder: Path) -> None:
    """Put a `vmrun` into `folder`."""
    script = folder / "vmrun"
    path = f"sys.path.insert(0, {str(REPOSITORY)!r})"
    program = f"import sys; {path}; from tests.vmrun.vmrun import main; main(sys.argv[1:])"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
    script.chmod(0o755)
