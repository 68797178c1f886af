"""What other programs say when a machine cannot be started, and which reason is behind it. Pure."""

from __future__ import annotations

import re

from .finding import Finding
from .reasons import find

MODULE = "kvm, vboxdrv or vmmon"
"""Where a text does not name its module."""

_SAID: tuple[tuple[str, str, dict[str, str]], ...] = (
    # The special before the general: VirtualBox tells of its other ways of running machines in the same breath.
    (r"VERR_VMX_IN_VMX_ROOT_MODE|VERR_SVM_IN_USE|being used by another hypervisor", "cpu-held",
     {"other": "KVM, perhaps"}),
    (r"KVM_CREATE_VM\) failed: -?16|failed to initialize kvm: Device or resource busy", "cpu-held",
     {"other": "VirtualBox, perhaps"}),
    (r"VERR_SVM_HOST_SVME_NOT_ENABLED", "kvm-must-hold", {}),
    (r"VERR_VMX_MSR_\w*DISABLED|VERR_SVM_DISABLED|disabled (?:by|in the) BIOS", "firmware-off", {}),
    (r"could not insert '?(?P<module>kvm_\w+)'?: Operation not supported", "firmware-off", {}),
    (r"could not insert '?(?P<module>\w+)'?: (?:Required key not available|Key was rejected by service)",
     "secure-boot", {}),
    (r"Module (?P<module>\w+) not found", "module-absent", {}),
    (r"VERR_VMX_NO_VMX|VERR_SVM_NO_SVM", "no-virtualisation", {}),
    (r"VERR_VM_DRIVER_VERSION_MISMATCH|rc=-1912", "vboxdrv-version", {}),
    (r"VERR_VM_DRIVER_NOT_ACCESSIBLE|rc=-1909|VM process [^\n]*VERR_ACCESS_DENIED", "vboxdrv-forbidden",
     {"user": "who runs it", "again": "log in again"}),
    (r"vboxdrv kernel module is not loaded|/dev/vboxdrv does not exist|rc=-1908|Error -1908"
     r"|VERR_VM_DRIVER_NOT_INSTALLED",
     "vboxdrv", {}),
    (r"NS_ERROR_SOCKET_FAIL|COM server is not running or failed to start", "vboxsvc", {}),
    (r"open /dev/vmmon", "vmmon", {}),
    (r"VERR_(?:EM_)?NO_MEMORY|cannot set up guest memory|Cannot allocate memory", "no-memory", {}),
    (r"KVM kernel module: Permission denied", "kvm-forbidden",
     {"user": "who runs it", "group": "kvm", "again": "log in again"}),
    (r"KVM kernel module: No such file or directory", "kvm-missing", {}),
    (r"(?:could not load PC BIOS|failed to find romfile) [\"'](?P<file>[^\"']+)[\"']", "qemu-firmware",
     {"packages": "qemu-system-data seabios"}),
    (r"virtio-9p-pci' (?:is not a valid device model name|not found)", "qemu-no-9p", {"program": "QEMU"}),
    (r"libvirt-sock'?: (?:No such file or directory|Connection refused)", "libvirtd", {}),
    (r"libvirt-sock'?: Permission denied|authentication unavailable: no polkit agent|access denied by policy",
     "libvirt-forbidden", {"user": "who runs it", "again": "log in again"}),
)  # fmt: skip

_PATTERNS = tuple((re.compile(pattern), code, values) for pattern, code, values in _SAID)


def recognised(said: str, **known: str) -> Finding | None:
    """Return the reason that is behind what another program said, or None if nobody knows.

    `known` are values that the text does not have, such as the user.
    """
    for pattern, code, values in _PATTERNS:
        if found := pattern.search(said):
            named = {name: text for name, text in found.groupdict().items() if text}
            return find(code, **{"module": MODULE, **values, **known, **named})
    return None
