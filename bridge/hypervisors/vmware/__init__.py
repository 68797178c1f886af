"""VMware: machines of Workstation, Player and Fusion, by their program `vmrun`.

VMware itself was never at hand. What is here was written from its documentation and from what others have published,
and was tried with a stand-in for `vmrun` only (tests/vmrun/).

vmx      the machine as a table of names and values; pure
delta    the machine's own disk, which lies over another; pure
disk     that disk as a file
states   saved states, each a folder
vmrun    the command
process  one run of a machine: a vmware-vmx below a keeper
machine  the machine
"""

from .machine import VMware

__all__ = ["VMware"]
