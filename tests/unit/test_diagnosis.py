"""Reasons why a machine cannot be started: the table, what facts say, what other programs' texts say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.client.slot import REASON_BYTES
from bridge.hypervisors.diagnosis import about_the_computer, diagnose, hindrance
from bridge.hypervisors.facts import (
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
    version_in,
)
from bridge.hypervisors.finding import SHOWN_BYTES, Finding, Move, Weight
from bridge.hypervisors.reasons import REASONS, find
from bridge.hypervisors.said import recognised
from bridge.verdict import SOON_S, WHEN_MENDED_S

LONG = {
    "user": "u" * 32,
    "group": "g" * 32,
    "title": "VirtualBox",
    "other": "VirtualBox, perhaps",
    "machine": "loongarch64",
    "arch": "aarch64",
    "module": "kvm_intel",
    "packages": "qemu-system-x86 qemu-utils",
    "again": "restart BOINC (sudo systemctl restart boinc-client)",
    "version": "7.2.22",
    "free": "999",
}
"""The longest of what can stand in a sentence; anything else is of another program's making, and has no end."""


@pytest.mark.parametrize("code", REASONS)
def test_the_client_shows_all_of_a_reason(code: str) -> None:
    """Of a longer one it reads neither the end, which says what to do, nor that it is a notice."""
    reason = REASONS[code]
    finding = find(code, **{name: LONG.get(name, f"/a\x1b[31m \n{'/long' * 40}") for name in reason.names})
    shown = finding.sentence.encode()
    assert len(shown) <= SHOWN_BYTES == REASON_BYTES, f"{len(shown) - SHOWN_BYTES} too many"
    assert finding.sentence.isprintable() and "{" not in finding.sentence
    assert finding.what and finding.do and not finding.do.endswith("."), "sentences are put together of both"
    assert reason.when and reason.source


def test_a_long_value_keeps_its_end() -> None:
    assert find("qemu-broken", program="qemu", said="error: " * 30 + "libfoo.so.1").what.endswith(" libfoo.so.1")


def test_only_what_is_harmless_is_done_by_itself() -> None:
    programs = {command[0] for reason in REASONS.values() for command in reason.remedy}
    assert programs == {"apt-get", "modprobe", "systemctl", "usermod"}
    removing = [word for reason in REASONS.values() for command in reason.remedy for word in command if word == "-r"]
    assert not removing


def test_the_packages_of_a_command_are_words() -> None:
    [command] = find("qemu-missing", program="qemu-img", packages="one two").commands
    assert command[-2:] == ("one", "two")
    [command] = find("vboxusers", user="a b", again="").commands
    assert command == ("usermod", "-aG", "vboxusers", "a b")


def test_what_a_job_waits_for() -> None:
    assert [(move, move.delay_s, move.notice) for move in Move] == [
        (Move.PERSON, WHEN_MENDED_S, True),
        (Move.OTHERS, WHEN_MENDED_S, False),
        (Move.SOON, SOON_S, False),
    ]


# --- what the facts say ---

BUSY = "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy"
ROOT = Account("root", 0, frozenset({0}), frozenset({"root"}))
ANN = Account("ann", 1000, frozenset({1000, 108}), frozenset({"ann", "kvm"}))
BOINC = Account("boinc", 102, frozenset({106}), frozenset({"boinc"}))

PC = Host(kernel="6.1.0-40-amd64", flags=frozenset({"vmx"}), modules=frozenset({"kvm", "kvm_intel"}), me=ANN)
KVM = Device(Access.OPENS, 0o660, 0, 108, "kvm")
ROOTS = Device(Access.OPENS, 0o600)
QEMU = Qemu(version=Answer("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n"), kvm=KVM, kvm_runs=True)

DRIVER = Device(Access.FORBIDDEN, 0o600, 0, 0, "root")
VBOX = VirtualBox(installed=True, version=Answer("7.0.20r163906\n"), driver=DRIVER, api="Python 3.11")
NO_VT = Answer("Processor core count: 2\nProcessor supports HW virtualization: no\n")
VMW = VMware(
    installed=True, version=Answer("\nvmrun version 1.17.0 build-23775571\n\nUsage: vmrun\n", 255), monitor=KVM
)
VIRSH = "Compiled against library: libvirt 9.0.0\nUsing library: libvirt 9.0.0\nRunning hypervisor: QEMU 7.2.22\n"
LIBVIRT = Libvirt(installed=True, version=Answer(VIRSH))
ALL = frozenset({"qemu", "virtualbox", "libvirt", "vmware"})


def codes(facts: Facts) -> list[str]:
    """The reasons of the one hypervisor in the facts, the weightier with a mark."""
    marks = {Weight.BLOCKS: "!", Weight.SLOWS: "~", Weight.DOUBTS: "?", Weight.NOTES: ""}
    [diagnosis] = diagnose(replace(facts, served=facts.served or ALL, python="3.11.2"))
    blocked = any(finding.weight is Weight.BLOCKS for finding in diagnosis.findings)
    assert (diagnosis.how is None) == blocked, "what blocks is told, and what is told to block does"
    return [marks[finding.weight] + finding.reason.code for finding in diagnosis.findings]


@pytest.mark.parametrize(
    ("expected", "host", "qemu"),
    [
        ([], PC, QEMU),
        (["!qemu-missing"], PC, Qemu(missing=("qemu-img",))),
        (["!qemu-broken"], PC, replace(QEMU, version=Answer("libfoo.so.1: cannot open shared object file", 127))),
        (["!qemu-broken"], PC, replace(QEMU, version=Answer("", None))),
        (["!qemu-no-9p"], PC, replace(QEMU, has_9p=False)),
        (["!qemu-firmware"], PC, replace(QEMU, firmware_missing=("qboot.rom",))),
        (["qemu-no-network"], PC, replace(QEMU, has_network=False)),
        # Where KVM does not run, machines do all the same.
        (["~kvm-dead"], PC, replace(QEMU, kvm_runs=False, kvm_said="kvm_buf_set_msrs: Assertion failed.")),
        (["~cpu-held"], replace(PC, running=frozenset({"VirtualBox"})), replace(QEMU, kvm_runs=False)),
        (["~cpu-held"], PC, replace(QEMU, kvm_runs=False, kvm_said=BUSY)),
        (["!qemu-no-tcg", "~kvm-dead"], PC, replace(QEMU, kvm_runs=False, accelerators=frozenset({"kvm"}))),
        ([], PC, replace(QEMU, accelerators=frozenset({"tcg"}), kvm_runs=None)),
        # /dev/kvm is not there
        (["~no-virtualisation"], replace(PC, flags=frozenset()), replace(QEMU, kvm=Device())),
        (["~nested-off"], replace(PC, flags=frozenset({"hypervisor"})), replace(QEMU, kvm=Device())),
        (["~kvm-module"], replace(PC, modules=frozenset({"kvm"})), replace(QEMU, kvm=Device())),
        (["~kvm-missing"], PC, replace(QEMU, kvm=Device())),
        (["~kvm-missing"], replace(PC, modules=frozenset(), has_modules=False), replace(QEMU, kvm=Device())),
        (["~wsl-nested-off"], replace(PC, kernel="5.15.153.1-microsoft-standard-WSL2"), replace(QEMU, kvm=Device())),
        # ... or not for everybody
        (["~kvm-forbidden"], replace(PC, me=BOINC), replace(QEMU, kvm=replace(KVM, access=Access.FORBIDDEN))),
        (["~kvm-forbidden"], replace(PC, client=BOINC), QEMU),
        ([], replace(PC, client=replace(BOINC, groups=frozenset({106, 108}))), QEMU),
        (["~kvm-root-only"], replace(PC, me=ROOT, client=BOINC), replace(QEMU, kvm=ROOTS)),
        (["~kvm-dead"], replace(PC, me=ROOT, client=BOINC), replace(QEMU, kvm=ROOTS, kvm_runs=False)),
        (["~client-devices"], replace(PC, service={"PrivateDevices": "yes"}), QEMU),
        # Another processor than the images'
        (["arch"], replace(PC, machine="aarch64", flags=None), replace(QEMU, kvm_runs=None)),
    ],
)  # fmt: skip
def test_qemu(expected: list[str], host: Host, qemu: Qemu) -> None:
    assert codes(Facts(host, qemu=qemu)) == expected


def test_an_acl_counts_for_who_sits_at_the_screen_and_not_for_a_service() -> None:
    """udev lets the person in (uaccess), whose job then ran with KVM by hand and without it under the client."""
    me = replace(ANN, groups=frozenset({1000}))
    assert codes(Facts(replace(PC, me=me), qemu=QEMU)) == []
    [diagnosis] = diagnose(Facts(replace(PC, me=me, client=BOINC), qemu=QEMU, served=ALL))
    assert diagnosis.how == "QEMU 7.2.22, KVM"
    assert diagnosis.findings[0].commands == (("usermod", "-aG", "kvm", "boinc"),)
    assert "restart BOINC" in diagnosis.findings[0].do


@pytest.mark.parametrize(
    ("expected", "host", "virtualbox"),
    [
        ([], PC, VBOX),
        (["!virtualbox-missing"], PC, VirtualBox()),
        (["vboxapi"], PC, replace(VBOX, api=None)),
        (["!virtualbox-broken"], PC, replace(VBOX, version=Answer("", 126))),
        (["!vboxdrv"], PC, replace(VBOX, driver=Device())),
        (["!vboxsvc"], PC, replace(VBOX, host_info=Answer("", None))),
        (["!nested-off"], replace(PC, flags=frozenset({"hypervisor"})), VBOX),
        (["!no-virtualisation"], replace(PC, flags=frozenset()), VBOX),
        (["!arch-refused"], replace(PC, machine="aarch64", flags=None), VBOX),
        # Another hypervisor
        (["!cpu-held"], replace(PC, running=frozenset({"KVM"})), VBOX),
        (["?kvm-holds"], replace(PC, kernel="6.12.48+deb13-amd64", kvm_at_load=True), VBOX),
        ([], replace(PC, kernel="6.12.48+deb13-amd64", kvm_at_load=False), VBOX),
        ([], replace(PC, kernel="6.12.48+deb13-amd64", kvm_at_load=True, modules=frozenset({"kvm"})), VBOX),
        ([], replace(PC, kernel="6.18.2", kvm_at_load=True), replace(VBOX, version=Answer("7.2.22_Debianr175000\n"))),
        (["?kvm-must-hold"], replace(PC, kvm_at_load=False), replace(VBOX, version=Answer("7.2.10r1\n"))),
        (["!no-virtualisation"], replace(PC, system="Darwin", flags=None), replace(VBOX, host_info=NO_VT)),
        (["~hyper-v"], replace(PC, system="Windows", flags=None, windows_hypervisor=True), VBOX),
        # Users and how the client is started (BOINC/boinc#3355)
        (["?vboxusers"], replace(PC, groups=frozenset({"vboxusers"})), VBOX),
        ([], replace(PC, me=replace(ANN, group_names=frozenset({"vboxusers"})), groups=frozenset({"vboxusers"})), VBOX),
        (["?vboxusers"], replace(PC, me=ROOT, client=BOINC, groups=frozenset({"vboxusers"})), VBOX),
        (["!vboxdrv-forbidden"], PC, replace(VBOX, setuid=False)),
        ([], replace(PC, me=ROOT), replace(VBOX, setuid=False, driver=replace(DRIVER, access=Access.OPENS))),
        (["!client-setuid"], replace(PC, no_new_privileges=True), VBOX),
        (["!client-setuid"], replace(PC, service={"NoNewPrivileges": "yes"}), VBOX),
        (["!client-tmp"], replace(PC, temporary_writable=False), VBOX),
        (["!client-tmp"], replace(PC, service={"ProtectSystem": "strict", "ReadWritePaths": "-/var/lib/boinc"}), VBOX),
        ([], replace(PC, service={"ProtectSystem": "strict", "ReadWritePaths": "-/var/lib/boinc /tmp"}), VBOX),
        ([], replace(PC, service={"ProtectSystem": "strict", "PrivateTmp": "yes"}), VBOX),
        ([], replace(PC, service={"ProtectSystem": "full"}), VBOX),
    ],
)  # fmt: skip
def test_virtualbox(expected: list[str], host: Host, virtualbox: VirtualBox) -> None:
    assert codes(Facts(host, virtualbox=virtualbox)) == expected


def test_virtualbox_on_a_mac_without_its_driver() -> None:
    """Unverified: nobody has run it there."""
    box = replace(VBOX, version=Answer("WARNING: The vboxdrv kernel module is not loaded.\n7.0.20r163906\n"))
    assert codes(Facts(replace(PC, system="Darwin", flags=None), virtualbox=box)) == ["!vboxdrv-mac"]


@pytest.mark.parametrize(
    ("expected", "host", "vmware"),
    [
        ([], PC, VMW),
        (["!vmware-missing"], PC, VMware()),
        (["!vmware-broken"], PC, replace(VMW, version=Answer("", None))),
        (["!vmmon"], PC, replace(VMW, monitor=Device())),
        (["!no-virtualisation"], replace(PC, flags=frozenset()), VMW),
        (["!client-setuid"], replace(PC, no_new_privileges=True), VMW),
        (["!arch-refused"], replace(PC, system="Darwin", machine="aarch64", flags=None), VMW),
    ],
)
def test_vmware(expected: list[str], host: Host, vmware: VMware) -> None:
    """No VMware was at hand."""
    assert codes(Facts(host, vmware=vmware)) == expected


@pytest.mark.parametrize(
    ("expected", "libvirt"),
    [
        ([], LIBVIRT),
        (["!libvirt-missing"], Libvirt()),
        (["!libvirt-library"], replace(LIBVIRT, library=False)),
        (["!libvirt-broken"], replace(LIBVIRT, version=Answer("", None))),
    ],
)
def test_libvirt(expected: list[str], libvirt: Libvirt) -> None:
    assert codes(Facts(PC, libvirt=libvirt)) == expected


def test_libvirt_beside_a_kvm_that_does_not_work() -> None:
    """Measured: it then takes 80 seconds to define a machine."""
    facts = Facts(PC, libvirt=LIBVIRT, qemu=replace(QEMU, kvm_runs=False), served=ALL)
    assert [finding.reason.code for finding in diagnose(facts)[1].findings] == ["libvirt-slow"]


def test_what_the_bridge_does_not_drive_starts_no_machine() -> None:
    facts = Facts(PC, virtualbox=replace(VBOX, driver=Device()), served=frozenset({"qemu"}))
    assert codes(facts) == ["!not-served", "!vboxdrv"]
    [diagnosis] = [one for one in diagnose(facts) if one.name == "virtualbox"]
    assert diagnosis.findings[0].details == "where it is named: VirtualBox 7.0.20, by its API (Python 3.11)"


def test_backends_of_other_packages() -> None:
    good, bad = diagnose(Facts(PC, others={"pear": "", "plum": "plumctl is not in PATH"}))
    assert (good.title, good.how, good.findings) == ("pear", "pear", ())
    assert bad.how is None and "plum of another package cannot be used: plumctl is not in PATH" in bad.findings[0].what


def test_the_computer() -> None:
    facts = Facts(replace(PC, free_mb={"/var": 999, "/tmp": 1000}), tools_missing={"mke2fs": "e2fsprogs"})
    low, tools = about_the_computer(facts)
    assert "999 MB are free in /var" in low.sentence
    assert "lacks mke2fs. Type: sudo apt-get install e2fsprogs" in tools.sentence
    assert about_the_computer(Facts(PC)) == ()


# --- what other programs say ---

SAID = [
    # measured: VirtualBox 7.2.22 without its module
    ("vboxdrv", "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install the virtualbox-dkms"),
    ("vboxdrv", "VBoxHeadless: Error -1908 in suplibOsInit!\nVBoxHeadless: Kernel driver not installed"),
    # measured: QEMU 7.2.22, libvirt 9.0.0
    ("qemu-no-9p", "qemu-system-x86_64: -device virtio-9p-pci: 'virtio-9p-pci' is not a valid device model name"),
    ("qemu-firmware", "qemu-system-x86_64: could not load PC BIOS 'qboot.rom'"),
    ("no-memory", "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory"),
    ("libvirtd", "error: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"),
    # users' texts, of the issues named
    ("vboxdrv", "WARNING: The vboxdrv kernel module is not loaded. Either there is no module\n"  # minikube 459
                "         available for the current kernel (5.4.0-48-generic) or it failed to\n         load."),
    ("vboxdrv", "where: suplibOsInit what: 3 VERR_VM_DRIVER_NOT_INSTALLED (-1908)"),  # OpenMandriva 1798
    ("vboxdrv-forbidden",  # ghostbsd-src 182
     "Could not launch the VM process for the machine 'x' (VERR_ACCESS_DENIED).\nVBOX_E_IPRT_ERROR (0x80BB0005)"),
    ("vboxsvc", "VBoxManage: error: Code NS_ERROR_SOCKET_FAIL (0xC1F30200) - IPC daemon socket error"),  # boinc 5977
    ("cpu-held", "VT-x is being used by another hypervisor (VERR_VMX_IN_VMX_ROOT_MODE)."),  # phpvirtualbox 365
    ("cpu-held", "VirtualBox can't enable the AMD-V extension. Please disable the KVM kernel extension, recompile your "
                 "kernel and reboot (VERR_SVM_IN_USE)."),  # virtualbox 81
    ("kvm-must-hold", "VBoxManage: error: Host API has not enabled SVME bit in EFER MSR. "
                      "(VERR_SVM_HOST_SVME_NOT_ENABLED)"),  # virtualbox 711
    ("firmware-off", "Not in a hypervisor partition (HVP=0) (VERR_NEM_NOT_AVAILABLE).\n"  # foro 5133
                     "VT-x is disabled in the BIOS for all CPU modes (VERR_VMX_MSR_ALL_VMX_DISABLED)."),
    ("firmware-off", "VT-x features locked or unavailable in MSR (VERR_VMX_MSR_LOCKED_OR_DISABLED)"),
    ("firmware-off", "modprobe: ERROR: could not insert 'kvm_amd': Operation not supported"),  # multipass 12
    ("firmware-off", "kvm: disabled by BIOS"),
    ("no-virtualisation", "VT-x is not available (VERR_VMX_NO_VMX)"),  # p4lang 167
    ("secure-boot", "modprobe: ERROR: could not insert 'vboxdrv': Required key not available"),  # minikube 4060
    ("secure-boot", "modprobe: ERROR: could not insert 'vboxdrv': Key was rejected by service"),
    ("module-absent", "modprobe: FATAL: Module vboxdrv not found in directory /lib/modules/6.1.0-40-amd64"),
    ("vmmon", "Could not open /dev/vmmon: Cannot open /dev/vmmon: No such file or directory.\n"  # host-modules 86
              "Please make sure that the kernel module `vmmon' is loaded."),
    ("kvm-forbidden", "Could not access KVM kernel module: Permission denied\n"  # nova
                      "qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied"),
    ("kvm-missing", "Could not access KVM kernel module: No such file or directory"),  # foxlet 121
    ("libvirt-forbidden", "error: Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied"),
    # unverified: from the programs' sources
    ("libvirt-forbidden", "error: authentication unavailable: no polkit agent available to authenticate action"),
    ("vboxdrv-version", "The VirtualBox kernel modules do not match this version (VERR_VM_DRIVER_VERSION_MISMATCH)"),
    ("no-virtualisation", "AMD-V is not available (VERR_SVM_NO_SVM)"),
    ("cpu-held", "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy"),
    ("no-memory", "Failed to allocate memory (VERR_EM_NO_MEMORY)"),
    # measured: 7.2.22, without its module; it is looked for then
    (None, "The virtual machine 'X' has terminated unexpectedly during startup with exit code 1 (0x1)"),
    (None, "Error: The operation was canceled"),
    (None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("code", "said"), SAID)
def test_what_other_programs_say(code: str | None, said: str) -> None:
    found = recognised(said)
    assert (found and found.reason.code) == code


def test_what_a_text_names_is_told() -> None:
    said = "modprobe: ERROR: could not insert 'vboxdrv': Required key not available"
    unsigned = recognised(said)
    assert unsigned is not None and "the module vboxdrv: it is not signed" in unsigned.sentence
    firmware = recognised("qemu-system-x86_64: could not load PC BIOS 'bios-256k.bin'")
    assert firmware is not None and "bios-256k.bin" in firmware.what


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("7.2.22", "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022"),
        ("6.1.14", "WARNING: no module\n   for the current kernel (5.4.0-48-generic)\n6.1.14r140239\n"),
        ("7.2.22", "7.2.22_Debianr175000"),
        ("9.0.0", VIRSH),
        ("1.17.0", VMW.version.said),
        (None, "no such thing"),
    ],
)
def test_versions(version: str | None, said: str) -> None:
    assert version_in(said) == version


def test_versions_are_compared_as_numbers() -> None:
    assert as_numbers("7.2.10r1") > as_numbers("7.2.9") and as_numbers("6.12.48+deb13-amd64") == (6, 12, 48)
    assert as_numbers(None) == as_numbers("unknown") == ()


def test_the_reason_is_of_a_hypervisor_that_is_there() -> None:
    """Somebody who has one and not the other is told what the one lacks, not to install the other."""
    facts = Facts(PC, qemu=Qemu(missing=("qemu-img",)), virtualbox=replace(VBOX, driver=Device()), served=ALL)
    found: Finding | None = hindrance(diagnose(facts), ALL)
    assert found is not None and found.reason.code == "vboxdrv"
    assert hindrance(diagnose(replace(facts, qemu=QEMU)), ALL) is None
