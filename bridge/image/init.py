"""What an image's initramfs holds beside its /init, which is the mount hook (guest_side/hook/).

A busybox of Debian finds its applets without links, once /proc is there. It is not needed to come up.
"""

from __future__ import annotations

SHARE_MODULES = "lib/modules/share"
DISK_MODULES = "lib/modules/disk"
CARD_MODULES = "lib/modules/card"
"""The hook loads what lies here in the order of the names; the others only if there is a disk, or a network card."""

LINKS = ("bin/sh", "usr/bin/env")
"""What programs that are scripts begin with."""

FILES = {"etc/hosts": b"127.0.0.1 localhost\n", "etc/resolv.conf": b"nameserver 10.0.2.3\n"}
"""For programs that look up names. The server is the one behind the address translation of QEMU and VirtualBox."""

FOLDERS = ("dev", "proc", "sys", "run", "var", "work")

SYSTEM = "system"
"""With this folder the hook takes the disk for a whole system and enters it."""
