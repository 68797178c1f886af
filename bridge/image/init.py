"""What the tiny image does between the kernel and the mount hook: its /init, a shell script, and the table it mounts.

A busybox of Debian finds its applets without links, once /proc is there. Each process costs some 10 ms under TCG, so
everything is mounted by one. If a step fails, the shell ends, with it the machine, and what it said last is on the
console.
"""

from __future__ import annotations

SHARE_MODULES = "lib/modules/share"
DISK_MODULES = "lib/modules/disk"
HOOK = "sbin/mount_hook"

LINKS = ("bin/sh", "bin/mount", "usr/bin/env")
"""/init and `mount -a` before /proc is there, and what programs that are scripts begin with."""

FOLDERS = ("dev", "proc", "sys", "run", "var", "work")

# /work in memory is what remains if there is no disk.
FSTAB = """\
proc /proc proc nosuid,nodev,noexec 0 0
sys /sys sysfs nosuid,nodev,noexec 0 0
dev /dev devtmpfs nosuid,mode=755 0 0
work /work tmpfs mode=755 0 0
"""

INIT = f"""\
#!/bin/sh
set -e
mount -a
mkdir -m 1777 /dev/shm

for module in /{SHARE_MODULES}/*.ko; do
    insmod "$module"
done

for device in /sys/bus/virtio/devices/*/device; do
    read -r id <"$device"
    if [ "$id" = 0x0002 ]; then # a block device
        for module in /{DISK_MODULES}/*.ko; do
            insmod "$module"
        done
        mount -t ext4 -o noatime /dev/vda /work
    fi
done

. /{HOOK}
"""
