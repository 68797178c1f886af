# SPDX-License-Identifier: Apache-2.0
"""What runs in the guest: the agent, the fake BOINC library, the mount hook.

The sources are C; this module only says where things lie: in a checkout
(built by ``make guest`` below ``build/guest/``), in an installed wheel, and in
the zip of a bundle (where they are prebuilt).
"""

from __future__ import annotations

import contextlib
import pkgutil
from pathlib import Path

__all__ = ["ARCHITECTURES", "SOURCES", "NotBuilt", "include_dir", "read_agent", "read_mount_hook"]

SOURCES = Path(__file__).resolve().parent
"""The folder of the C sources."""

ARCHITECTURES = ("x86_64", "aarch64")
"""What the agent and the mount hook are built for, in the words of ``uname -m``."""


class NotBuilt(FileNotFoundError):
    """Something that has to be built first is not there; the message says how."""


def include_dir() -> Path:
    """Return the folder that holds ``boinc_api.h``."""
    return SOURCES / "libboinc"


def read_agent(arch: str) -> bytes:
    """Return the agent's binary for guests of this architecture.

    :raise NotBuilt: there is none that can be read, in the wheel, the bundle or the checkout.
    """
    return _read_built("agent", arch)


def read_mount_hook(arch: str) -> bytes:
    """Return the program that an image of this architecture starts.

    :raise NotBuilt: as ``read_agent``.
    """
    return _read_built("mount_hook", arch)


def _read_built(name: str, arch: str) -> bytes:
    prebuilt = f"prebuilt/{arch}/{name}"
    built = SOURCES.parent / "build" / "guest" / arch / name
    with contextlib.suppress(OSError):
        # By whatever loaded this package: what lies in a zip has no path.
        if data := pkgutil.get_data(__name__, prebuilt):
            return data
    with contextlib.suppress(OSError):
        return built.read_bytes()
    raise NotBuilt(f"No {name} for {arch}: neither {SOURCES / prebuilt} nor {built}. Run: make guest")
