"""What the facts say: for each hypervisor whether it can start a machine here, and the reasons. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .facts import (
    CLIENT,
    Access,
    Account,
    Answer,
    Device,
    Facts,
    Host,
    Libvirt,
    Qemu,
    VirtualBox,
    VMware,
    as_numbers,
    last_line,
    version_in,
)
from .finding import Finding, Weight
from .reasons import find
from .said import recognised

TITLES = {"qemu": "QEMU", "libvirt": "libvirt", "virtualbox": "VirtualBox", "vmware": "VMware"}
"""The hypervisors that are looked for, in the order of choice."""

LITTLE_MB = 1_000

_QEMU_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_KVM_STAYS_SINCE = (6, 12)
"""Since this Linux, KVM holds the processor from the moment when it is loaded (VirtualBox/virtualbox#188)."""

_NO_VIRTUALISATION = "Processor supports HW virtualization: no"
"""`VBoxManage list hostinfo`, where nobody else tells."""

_BESIDE_KVM_SINCE = (7, 2, 10)
"""Since this VirtualBox, it shares the processor with KVM and relies on it (VirtualBox/virtualbox#711)."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One hypervisor: `how` is what would run a machine, in a few words; without it none can be started."""

    name: str
    installed: bool
    version: str | None
    how: str | None
    findings: tuple[Finding, ...]

    @property
    def title(self) -> str:
        """Its name for people."""
        return TITLES.get(self.name, self.name)


def diagnose(facts: Facts) -> tuple[Diagnosis, ...]:
    """Judge all hypervisors of which there are facts, in the order of choice."""
    ours = (_judged(name, facts) for name in TITLES if getattr(facts, name) is not None)
    return (*ours, *(_of_another_package(name, trouble) for name, trouble in facts.others.items()))


def _of_another_package(name: str, trouble: str) -> Diagnosis:
    """What its programs are, only it knows: that they are there is all that can be said."""
    findings = (find("other-package", name=name, said=trouble),) if trouble else ()
    return Diagnosis(name, True, None, None if trouble else name, findings)


def about_the_computer(facts: Facts) -> tuple[Finding, ...]:
    """Judge what concerns no hypervisor."""
    low = [
        find("disk-low", free=f"{free:,}", folder=folder)
        for folder, free in facts.host.free_mb.items()
        if free < LITTLE_MB
    ]
    if not facts.tools_missing:
        return tuple(low)
    packages = " ".join(sorted(set(facts.tools_missing.values())))
    return (*low, find("image-tools", programs=", ".join(facts.tools_missing), packages=packages))


def hindrance(diagnoses: tuple[Diagnosis, ...], served: frozenset[str], *, missing: bool = True) -> Finding | None:
    """Return the one reason to tell somebody whose job cannot run: of what the bridge drives and is there, else, if
    something is known to be `missing`, of what it would be best to install. None if a machine can be started.
    """
    ours = [diagnosis for diagnosis in diagnoses if diagnosis.name in served and (diagnosis.installed or missing)]
    if any(diagnosis.how for diagnosis in ours):
        return None
    for diagnosis in sorted(ours, key=lambda diagnosis: not diagnosis.installed):
        for finding in diagnosis.findings:
            if finding.weight is Weight.BLOCKS:
                return finding
    return None


def certain(said: Finding, diagnoses: tuple[Diagnosis, ...]) -> Finding:
    """Return what a failed start has shown: who holds the processor may be a program that will not let go by itself,
    which was only a doubt before.
    """
    doubts = (finding for diagnosis in diagnoses for finding in diagnosis.findings if finding.weight is Weight.DOUBTS)
    if said.reason.code != "cpu-held":
        return said
    return next((finding for finding in doubts if finding.reason.code in ("kvm-holds", "kvm-must-hold")), said)


def _judged(name: str, facts: Facts) -> Diagnosis:
    installed, version, how, findings = _JUDGES[name](facts)
    said = tuple(findings)
    if installed and name not in facts.served:
        said = (replace(find("not-served", title=TITLES[name]), details=f"where it is named: {how}"), *said)
    blocked = not installed or any(finding.weight is Weight.BLOCKS for finding in said)
    return Diagnosis(name, installed, version, None if blocked else how, said)


_Judged = tuple[bool, "str | None", str, Iterator[Finding]]


def _qemu(facts: Facts) -> _Judged:
    qemu, host = facts.qemu, facts.host
    assert qemu is not None
    version = version_in(qemu.version.said) if qemu.version.good else None
    held_back = () if not _may_try_kvm(qemu, facts) else tuple(_kvm(qemu, host))
    accelerator = "KVM" if qemu.kvm_runs else "TCG"
    return not qemu.missing, version, f"QEMU {version}, {accelerator}", _about_qemu(qemu, facts, held_back)


def _may_try_kvm(qemu: Qemu, facts: Facts) -> bool:
    return facts.host.system == "Linux" and facts.host.machine == facts.arch and "kvm" in qemu.accelerators


def _about_qemu(qemu: Qemu, facts: Facts, held_back: tuple[Finding, ...]) -> Iterator[Finding]:
    program, packages = f"qemu-system-{facts.arch}", f"{_QEMU_PACKAGES.get(facts.arch, 'qemu-system')} qemu-utils"
    if qemu.missing:
        yield find("qemu-missing", program=qemu.missing[0], packages=packages)
        return
    if not qemu.version.good:
        yield recognised(qemu.version.said) or find("qemu-broken", program=program, said=_told(qemu.version))
        return
    if not qemu.has_9p:
        yield find("qemu-no-9p", program=program)
    for file in qemu.firmware_missing:
        yield find("qemu-firmware", file=file, packages="qemu-system-data seabios")
    if facts.host.machine != facts.arch:
        yield find("arch", machine=facts.host.machine, arch=facts.arch)
    if held_back and "tcg" not in qemu.accelerators:
        yield find("qemu-no-tcg", program=program)
    for finding in held_back:
        yield finding.as_(Weight.SLOWS)
    if not qemu.has_network:
        yield find("qemu-no-network", program=program)


def _kvm(qemu: Qemu, host: Host) -> Iterator[Finding]:
    """Say why KVM does not run machines here, or not for everybody."""
    kvm = qemu.kvm
    if kvm.access is Access.ABSENT:
        yield from _no_device(host)
        return
    if host.service.get("PrivateDevices") == "yes":
        yield find("client-devices")
    if qemu.kvm_runs is False:
        yield why_kvm_is_dead(qemu.kvm_said, host.running)
        return
    for user in host.users:
        # What the mode says of oneself, an ACL may say otherwise: it was tried.
        if kvm.access is Access.FORBIDDEN if user is host.me else not kvm.opens_for(user):
            yield forbidden(kvm, user)


def why_kvm_is_dead(said: str, running: frozenset[str]) -> Finding:
    """Return why no guest came up on KVM, from the end of what QEMU said and the hypervisors that run machines."""
    held_by = sorted(running & {"VirtualBox", "VMware"})
    why = find("cpu-held", other=held_by[0]) if held_by else recognised(said) or find("kvm-dead")
    return replace(why, details=last_line(said))


def _no_device(host: Host) -> Iterator[Finding]:
    if not host.flags or not host.flags & {"vmx", "svm"}:
        yield from _no_virtualisation(host)
    elif host.wsl:
        yield find("wsl-nested-off")
    elif host.has_modules and host.kvm_module not in host.modules:
        yield find("kvm-module", module=host.kvm_module)
    else:
        yield find("kvm-missing")


def _no_virtualisation(host: Host) -> Iterator[Finding]:
    """Say why the processor offers none, if it is known not to."""
    if host.flags is None or host.flags & {"vmx", "svm"}:
        return
    if host.wsl:
        yield find("wsl-nested-off")
    else:
        yield find("nested-off" if "hypervisor" in host.flags else "no-virtualisation")


def forbidden(kvm: Device, user: Account) -> Finding:
    """Return why a user may not open /dev/kvm."""
    if kvm.gid != 0 and kvm.group and kvm.mode & 0o060 == 0o060:
        return find("kvm-forbidden", user=user.name, group=kvm.group, again=_again(user))
    return find("kvm-root-only", user=user.name)


def _again(user: Account) -> str:
    """What makes a group count that a user was added to."""
    return "restart BOINC (sudo systemctl restart boinc-client)" if user.name == CLIENT else "log in again"


def _virtualbox(facts: Facts) -> _Judged:
    virtualbox = facts.virtualbox
    assert virtualbox is not None
    version = version_in(virtualbox.version.said) if virtualbox.version.good else None
    return (
        virtualbox.installed,
        version,
        f"VirtualBox {version}, by {'VBoxManage' if virtualbox.api is None else f'its API ({virtualbox.api})'}",
        _about_virtualbox(virtualbox, version, facts),
    )


def _about_virtualbox(virtualbox: VirtualBox, version: str | None, facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if not virtualbox.installed:
        yield find("virtualbox-missing", program="VBoxManage")
        return
    if not virtualbox.version.good:
        yield find("virtualbox-broken", said=_told(virtualbox.version))
        return
    if host.machine != facts.arch:
        yield find("arch-refused", title="VirtualBox", machine=host.machine, arch=facts.arch)
        return
    yield from _no_virtualisation(host)
    if host.flags is None and not host.windows_hypervisor and _NO_VIRTUALISATION in virtualbox.host_info.said:
        yield find("no-virtualisation")
    yield from _driver(virtualbox, host)
    if not virtualbox.host_info.good:
        yield recognised(virtualbox.host_info.said) or find("vboxsvc")
    yield from _held(version, host)
    if host.system == "Linux":
        yield from _service(host, "VirtualBox", setuid=virtualbox.setuid)
        if not host.temporary_writable or _strict(host):
            yield find("client-tmp")
        for user in host.users:
            if user.uid and "vboxusers" in host.groups and "vboxusers" not in user.group_names:
                yield find("vboxusers", user=user.name, again=_again(user))
    if host.windows_hypervisor:
        yield find("hyper-v")
    if virtualbox.api is None:
        yield find("vboxapi")


def _driver(virtualbox: VirtualBox, host: Host) -> Iterator[Finding]:
    """VBoxManage complains of a missing driver and is content all the same (measured, 7.2.22)."""
    if host.system == "Linux" and virtualbox.driver.access is Access.ABSENT:
        yield find("vboxdrv")
    elif (said := recognised(virtualbox.version.said)) is not None:
        yield find("vboxdrv-mac") if host.system == "Darwin" and said.reason.code == "vboxdrv" else said
    elif host.system == "Linux" and not virtualbox.setuid:
        for user in host.users:
            mine = user is host.me and virtualbox.driver.access is Access.OPENS
            if not mine and not virtualbox.driver.opens_for(user):
                yield find("vboxdrv-forbidden", user=user.name, again=_again(user))


def _held(version: str | None, host: Host) -> Iterator[Finding]:
    """Another hypervisor holds what VirtualBox needs."""
    numbers = as_numbers(version)
    if not numbers:
        return
    loaded = bool(host.modules & {"kvm_intel", "kvm_amd"})
    if numbers >= _BESIDE_KVM_SINCE:
        if loaded and host.kvm_at_load is False:
            yield find("kvm-must-hold").as_(Weight.DOUBTS)
    elif "KVM" in host.running:
        yield find("cpu-held", other="KVM")
    elif loaded and host.kvm_at_load and as_numbers(host.kernel) >= _KVM_STAYS_SINCE:
        yield find("kvm-holds", version=version or "", module=host.kvm_module)


def _service(host: Host, title: str, *, setuid: bool) -> Iterator[Finding]:
    """How the client is started keeps programs from what they need."""
    if setuid and (host.no_new_privileges or host.service.get("NoNewPrivileges") == "yes"):
        yield find("client-setuid", title=title)
    if host.service.get("PrivateDevices") == "yes":
        yield find("client-devices")


def _strict(host: Host) -> bool:
    service = host.service
    writable = {path.lstrip("-+") for path in service.get("ReadWritePaths", "").split()}
    return service.get("ProtectSystem") == "strict" and service.get("PrivateTmp") != "yes" and "/tmp" not in writable


def _vmware(facts: Facts) -> _Judged:
    vmware = facts.vmware
    assert vmware is not None
    version = version_in(vmware.version.said)
    return vmware.installed, version, f"VMware, by vmrun {version}", _about_vmware(vmware, version, facts)


def _about_vmware(vmware: VMware, version: str | None, facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if not vmware.installed:
        yield find("vmware-missing")
        return
    if version is None:  # it has no way of asking for its version: without a command it tells it, and how it is used
        yield find("vmware-broken", said=_told(vmware.version))
        return
    if host.machine != facts.arch:
        yield find("arch-refused", title="VMware", machine=host.machine, arch=facts.arch)
        return
    yield from _no_virtualisation(host)
    if host.system == "Linux":
        if vmware.monitor.access is Access.ABSENT:
            yield find("vmmon")
        yield from _service(host, "VMware", setuid=True)
    if host.windows_hypervisor:
        yield find("hyper-v")


def _libvirt(facts: Facts) -> _Judged:
    libvirt = facts.libvirt
    assert libvirt is not None
    version = version_in(libvirt.version.said) if libvirt.version.good else None
    return libvirt.installed, version, f"libvirt {version}", _about_libvirt(libvirt, facts)


def _about_libvirt(libvirt: Libvirt, facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if not libvirt.installed:
        yield find("libvirt-missing")
        return
    if not libvirt.version.good:
        user = host.me
        yield recognised(libvirt.version.said, user=user.name, again=_again(user)) or find(
            "libvirt-broken", said=_told(libvirt.version)
        )
    if not libvirt.library:
        yield find("libvirt-library", version=facts.python)
    qemu = facts.qemu
    if qemu is not None and (qemu.kvm_runs is False or qemu.kvm.access is Access.FORBIDDEN):
        yield find("libvirt-slow")


def _told(answer: Answer) -> str:
    """Return the end of what a program said, or that it said nothing."""
    silent = "no answer in time" if answer.status is None else f"exit status {answer.status}"
    return last_line(answer.said) or silent


_JUDGES: dict[str, Callable[[Facts], _Judged]] = {
    "qemu": _qemu,
    "virtualbox": _virtualbox,
    "libvirt": _libvirt,
    "vmware": _vmware,
}
