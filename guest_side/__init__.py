# SPDX-License-Identifier: Apache-2.0
"""What runs in the guest: the agent, the fake BOINC library, the mount hook.

The sources are C; this module only says where things lie, in a checkout
(built by ``make guest`` below ``build/guest/``) and in an installed wheel
(where they are prebuilt).
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ARCHITECTURES", "MOUNT_HOOK", "SOURCES", "NotBuilt", "agent_path", "include_dir"]

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


def agent_path(arch: str) -> Path:
    """Return the agent's binary for guests of this architecture.

    :raise NotBuilt: there is none, in the wheel or in the checkout.
    """
    prebuilt = SOURCES / "prebuilt" / arch / "agent"
    built = SOURCES.parent / "build" / "guest" / arch / "agent"
    for path in (prebuilt, built):
        if path.is_file():
            return path
    raise NotBuilt(f"No guest agent for {arch}: neither {prebuilt} nor {built}. Run: make guest")
