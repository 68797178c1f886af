"""What is known of a computer and of the hypervisors on it: plain data. `survey` collects it, `diagnosis` judges it."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

CLIENT = "boinc"
"""The user of the BOINC client's service, on Linux."""


class Access(enum.Enum):
    """What happens when this process opens a device."""

    ABSENT = "absent"
    FORBIDDEN = "forbidden"
    OPENS = "opens"


@dataclass(frozen=True, slots=True)
class Device:
    """A device file: `access` is this process', `mode`, `uid`, `gid` and `group` are the file's."""

    access: Access = Access.ABSENT
    mode: int = 0
    uid: int = 0
    gid: int = 0
    group: str = ""

    def opens_for(self, account: Account) -> bool:
        """Say whether an account may read and write it, by its mode. (An ACL is not asked: udev's are for who sits at
        the screen, and not for services.)
        """
        if account.uid == 0:
            return True
        shift = 6 if account.uid == self.uid else 3 if self.gid in account.groups else 0
        return (self.mode >> shift) & 0o6 == 0o6


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this computer, and the groups that it is in: by number, and by name."""

    name: str
    uid: int
    groups: frozenset[int] = frozenset()
    group_names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said and its exit status; None if it did not end in time, or could not be started."""

    said: str = ""
    status: int | None = 0

    @property
    def good(self) -> bool:
        """It ended and was content."""
        return self.status == 0


def last_line(said: str) -> str:
    """Return the last line of what a program said: where it fails, that is mostly why."""
    return said.strip().splitlines()[-1].strip() if said.strip() else ""


def version_in(said: str) -> str | None:
    """Return the first thing in a text that looks like a version; VirtualBox's is the last line, after warnings."""
    found = re.findall(r"(?<![\w.-])(\d+\.\d+(?:\.\d+)*)", said)
    return found[-1] if found and "WARNING" in said else found[0] if found else None


def as_numbers(version: str | None) -> tuple[int, ...]:
    """Return a version for comparison; of a kernel's release, what stands before the first letter."""
    found = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple(map(int, found[0].split("."))) if found else ()


@dataclass(frozen=True, slots=True)
class Host:
    """The computer. `system` and `machine` are the platform's names of them, `kernel` is its release.

    `flags` are those of the processor that concern virtualisation (`vmx`, `svm`, `hypervisor`), None where nobody
    tells. `modules` are the loaded ones of the kernel, `has_modules` whether there are any to be loaded. `client` is
    the user of the BOINC client, where that is another than `me`; `groups` are those that hypervisors
    have made, `service` is how systemd starts the client. `running`
    names the hypervisors that have a machine running. `kvm_at_load` is KVM's parameter.
    """

    system: str = "Linux"
    machine: str = "x86_64"
    kernel: str = ""
    flags: frozenset[str] | None = frozenset()
    modules: frozenset[str] = frozenset()
    has_modules: bool = True
    me: Account = Account("root", 0)
    client: Account | None = None
    groups: frozenset[str] = frozenset()
    service: Mapping[str, str] = field(default_factory=dict)
    no_new_privileges: bool = False
    temporary_writable: bool = True
    running: frozenset[str] = frozenset()
    kvm_at_load: bool | None = None
    windows_hypervisor: bool = False
    free_mb: Mapping[str, int] = field(default_factory=dict)

    @property
    def wsl(self) -> bool:
        """It is a Linux in Windows."""
        return "microsoft" in self.kernel.lower()

    @property
    def kvm_module(self) -> str:
        """The module of this processor."""
        return "kvm_amd" if self.flags and "svm" in self.flags else "kvm_intel"

    @property
    def users(self) -> tuple[Account, ...]:
        """All for whom machines are to run."""
        return (self.me,) if self.client is None else (self.me, self.client)


@dataclass(frozen=True, slots=True)
class Qemu:
    """QEMU. `missing` are programs that are not in PATH, `firmware` files that it lacks. `kvm_runs` is None where it
    was not tried, and `kvm_said` the end of what QEMU said when it was.
    """

    missing: tuple[str, ...] = ()
    version: Answer = Answer()
    has_9p: bool = True
    has_network: bool = True
    accelerators: frozenset[str] = frozenset({"tcg", "kvm"})
    firmware_missing: tuple[str, ...] = ()
    kvm: Device = Device()
    kvm_runs: bool | None = None
    kvm_said: str = ""


@dataclass(frozen=True, slots=True)
class VirtualBox:
    """VirtualBox. `host_info` is what its service says. With `setuid` its programs become root to open the driver.

    `api` is the Python that can use its API, for people; None if there is none.
    """

    installed: bool = False
    version: Answer = Answer()
    host_info: Answer = Answer()
    driver: Device = Device()
    setuid: bool = True
    api: str | None = None


@dataclass(frozen=True, slots=True)
class VMware:
    """VMware Workstation, Player or Fusion."""

    installed: bool = False
    version: Answer = Answer()
    monitor: Device = Device()


@dataclass(frozen=True, slots=True)
class Libvirt:
    """libvirt: `library` says whether Python can use it."""

    installed: bool = False
    version: Answer = Answer()
    library: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known; a hypervisor that was not asked for is None. `arch` is that of the images.

    `others` are the backends of other packages, and why each cannot be used (empty: it can). `served` are the
    hypervisors that this bridge takes. `tools_missing` are the programs that building images lacks,
    and their packages.
    """

    host: Host = Host()
    qemu: Qemu | None = None
    virtualbox: VirtualBox | None = None
    vmware: VMware | None = None
    libvirt: Libvirt | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    arch: str = "x86_64"
    python: str = ""
    served: frozenset[str] = frozenset()
    tools_missing: Mapping[str, str] = field(default_factory=dict)
