"""What the tiny image holds beside its /init, which is the mount hook (guest_side/hook/).

A busybox of Debian finds its applets without links, once /proc is there. It is not needed to come up.
"""

from __future__ import annotations

SHARE_MODULES = "lib/modules/share"
DISK_MODULES = "lib/modules/disk"
"""The hook loads what lies here in the order of the names; the second folder only if there is a disk."""

LINKS = ("bin/sh", "usr/bin/env")
"""What programs that are scripts begin with."""

FOLDERS = ("dev", "proc", "sys", "run", "var", "work")
