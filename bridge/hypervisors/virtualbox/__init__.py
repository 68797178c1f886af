"""VirtualBox, with a service and a registry of the machine's own. No machine of it was ever seen to start.

plan     the machine as VirtualBox is to have it, and the names of all that is made; pure
control  what VirtualBox is told: an interface
api      by its API: a process of its own
worker   that process: pyvbox, under whichever Python can load the API
manage   by VBoxManage, in the words of
words    VBoxManage's; pure
service  VirtualBox's programs, and the end of a service that may hang
box      the folder with all that VirtualBox keeps of the machine
machine  the machine: a VBoxHeadless below a keeper
"""

from .machine import VirtualBox

__all__ = ["VirtualBox"]
