"""QEMU: the backend that needs nothing but a program, works without root and leaves no trace.

command_line  what QEMU is told; pure
probe         which QEMU is here and whether its KVM really works
work_disk     a machine's own disk: made, tidied up, left to the next one
disks         what it thinks of a disk that boots by itself
machine       the process and its QMP connection
snapshots     save the machine into its disk, and find it there again
"""

from .machine import Qemu

__all__ = ["Qemu"]
