"""VirtualBox, by its command-line programs and with a registry of the job's own. No machine was ever seen to start.

words    what VirtualBox is told; pure
manage   VBoxManage and the service behind it, which may hang
machine  the machine: a VBoxHeadless below a keeper
"""

from .machine import VirtualBox

__all__ = ["VirtualBox"]
