"""libvirt: machines of a QEMU that a daemon runs, for hosts whose administrators have one.

binding     libvirt's Python module, its events, its calls that may hang
uri         which libvirt; only one on this computer will do
domain      the machine as libvirt's XML; pure
monitor     the way through libvirt to QEMU's own monitor
connection  what a machine hangs on
machine     the machine
"""

from .machine import Libvirt

__all__ = ["Libvirt"]
