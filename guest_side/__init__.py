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

__all__ = ["ARCHITECTURES", "MOUNT_HOOK", "SOURCES", "NotBuilt", "include_dir", "read_agent"]

SOURCES = Path(__file__).resolve().parent
"""The folder of the C sources."""

MOUNT_HOOK = SOURCES / "mount_hook"
"""The shell script that an image starts."""

ARCHITECTURES = ("x86_64", "aarch64")
"""What the agent is built for, in the words of ``uname -m``."""


class NotBuilt(FileNotFoundError):
    """Something that has to be built first is not there; the message says how."""


def include_dir() -> Path:
    """Return the folder that holds ``boinc_api.h``."""
    return SOURCES / "libboinc"


def read_agent(arch: str) -> bytes:
    """Return the agent's binary for guests of this architecture.

    :raise NotBuilt: there is none that can be read, in the wheel, the bundle or the checkout.
    """
    prebuilt = f"prebuilt/{arch}/agent"
    built = SOURCES.parent / "build" / "guest" / arch / "agent"
    with contextlib.suppress(OSError):
        # By whatever loaded this package: what lies in a zip has no path.
        if data := pkgutil.get_data(__name__, prebuilt):
            return data
    with contextlib.suppress(OSError):
        return built.read_bytes()
    raise NotBuilt(f"No guest agent for {arch}: neither {SOURCES / prebuilt} nor {built}. Run: make guest")
