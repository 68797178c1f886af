"""A stand-in for VMware's `vmrun`, for no VMware was ever at hand: its machines are QEMU's.

It reads the .vmx as `vmrun` is documented to, and lets QEMU play the `vmware-vmx`: the disk with the one below it, the
CD, the shared folders as 9p exports, the console, the log, the files of a machine that is suspended. What it does with
them is what its writer believes of VMware.
"""

from __future__ import annotations

import sys
from pathlib import Path


def install(folder: Path) -> None:
    """Put a `vmrun` into `folder`."""
    script = folder / "vmrun"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{Path(__file__).with_name("vmrun.py")}" "$@"\n')
    script.chmod(0o755)
