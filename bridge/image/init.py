"""What an image's initramfs holds beside its /init, which is the mount hook (guest_side/hook/).

A busybox of Debian finds its applets without links, once /proc is there. It is not needed to come up.
"""

from __future__ import annotations

MODULES = "lib/modules"
SHARE_LISTS = f"{MODULES}/share"
DISK_LISTS = f"{MODULES}/disk"
CARD_LISTS = f"{MODULES}/card"
"""What lies in these is named after a device, as the kernel writes it (`modalias`, with `*` for what may be anything),
and lists the modules for it; the hook loads them if there is such a device. If there is one for a disk or a card, it
mounts the disk, or brings up the network."""

LINKS = ("bin/sh", "usr/bin/env")
"""What programs that are scripts begin with."""

FILES = {"etc/hosts": b"127.0.0.1 localhost\n", "etc/resolv.conf": b"nameserver 10.0.2.3\n"}
"""For programs that look up names. The server is the one behind the address translation of QEMU and VirtualBox."""

FOLDERS = ("dev", "proc", "sys", "run", "var", "work")

SYSTEM = "system"
"""With this folder the hook takes the disk for a whole system and enters it."""
