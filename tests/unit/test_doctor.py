"""`vmbridge doctor`: how facts are collected, with stubs of the programs; what is printed; what `--fix` does."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.cli.doctor import FORMAT, as_data, can_start, lines, worth_mending
from bridge.cli.remedies import apply, commands_of, line
from bridge.hypervisors.devices import account, device, me
from bridge.hypervisors.diagnosis import diagnose
from bridge.hypervisors.facts import Access, Account, Answer, Device, Facts, Host, Qemu
from bridge.hypervisors.finding import Move, Weight
from bridge.hypervisors.reasons import REASONS, find
from bridge.hypervisors.survey import ask, flags_in, survey

from ..conftest import REPOSITORY
from ..patience import AT_MOST_S
from .test_diagnosis import BOINC, KVM, LIBVIRT, PC, QEMU, VBOX

VBOXMANAGE = """\
if [ "$1" = --version ]; then
    printf 'WARNING: The character device /dev/vboxdrv does not exist.\\n\\t Please install the virtualbox-dkms' >&2
    printf ' package and the appropriate\\n\\t headers, most likely linux-headers-v669.\\n\\n' >&2
    printf '\\t You will not be able to start VMs until this problem is fixed.\\n' >&2
    echo 7.2.22_Debianr175245
else
    echo 'VBoxManage: error: Code NS_ERROR_SOCKET_FAIL (0xC1F30200) - IPC daemon socket error' >&2
    exit 1
fi
"""


def stubs(folder: Path, monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, str]) -> None:
    """Let PATH hold these programs and no others."""
    for name, script in scripts.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def of(name: str, facts: Facts) -> list[str]:
    """The reasons of one hypervisor."""
    [diagnosis] = (diagnosis for diagnosis in diagnose(facts) if diagnosis.name == name)
    return [finding.reason.code for finding in diagnosis.findings]


# --- collecting ---


def test_a_computer_without_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs(tmp_path, monkeypatch, {})
    facts = asyncio.run(survey(folders=[tmp_path, tmp_path / "none"]))
    assert [of(name, facts) for name in ("qemu", "virtualbox", "libvirt", "vmware")] == [
        ["qemu-missing"],
        ["virtualbox-missing"],
        ["libvirt-missing"],
        ["vmware-missing"],
    ]
    assert not can_start(facts) and list(facts.host.free_mb) == [str(tmp_path)]


def test_virtualbox_without_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It complains, tells its version all the same, and is content with itself: so says the real 7.2.22."""
    stubs(tmp_path, monkeypatch, {"VBoxManage": VBOXMANAGE})
    facts = replace(asyncio.run(survey(["virtualbox"])), host=PC, served=frozenset({"virtualbox"}))
    [diagnosis] = diagnose(facts)
    assert (diagnosis.version, diagnosis.how) == ("7.2.22", None)
    assert of("virtualbox", facts) == ["vboxdrv", "vboxsvc", "vboxapi"]


def test_libvirt_and_vmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "error: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"
    stubs(
        tmp_path,
        monkeypatch,
        {"virsh": f'echo "{missing}" >&2; exit 1', "vmrun": "echo vmrun version 1.17.0; exit 255"},
    )
    facts = replace(asyncio.run(survey(["libvirt", "vmware"])), host=PC, served=frozenset({"libvirt", "vmware"}))
    assert of("libvirt", facts)[0] == "libvirtd"
    assert of("vmware", facts) == ["vmmon"]
    assert diagnose(facts)[1].version == "1.17.0"


def test_a_qemu_that_lacks_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""\
case "$*" in
    --version) echo QEMU emulator version 9.9.1 ;;
    "-L help") echo {tmp_path} ;;
    "-accel help") printf 'Accelerators supported in QEMU binary:\\ntcg\\n' ;;
    "-netdev help"*) printf 'Available netdev backend types:\\nsocket\\n' ;;
    *) echo "Device 'virtio-9p-pci' not found" >&2; exit 1 ;;
esac"""
    stubs(tmp_path, monkeypatch, {"qemu-system-x86_64": script, "qemu-img": "exit 1"})
    (tmp_path / "qboot.rom").touch()
    facts = replace(asyncio.run(survey(["qemu"], try_kvm=True)), host=PC)
    assert of("qemu", facts) == ["qemu-no-9p", "qemu-firmware", "qemu-no-network"]
    assert diagnose(facts)[0].version == "9.9.1"


def test_a_program_that_hangs_is_ended_with_all_that_it_started() -> None:
    begun = time.monotonic()
    answer = asyncio.run(ask("sh", "-c", "sleep 600 & echo $!; wait", within_s=1.0))
    assert answer.status is None and not answer.good and time.monotonic() - begun < AT_MOST_S
    sleeper = int(answer.said)
    assert not Path(f"/proc/{sleeper}/cmdline").exists() or "sleep" not in Path(f"/proc/{sleeper}/cmdline").read_text()


def test_a_program_that_leaves_a_daemon_behind_is_not_waited_for() -> None:
    """VirtualBox's service holds the pipe open that its first client was started with."""
    answer = asyncio.run(ask("sh", "-c", "setsid sleep 20 & echo 7.2.22", within_s=AT_MOST_S))
    assert answer == Answer("7.2.22\n", 0)


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "virsh").write_text("not a program")
    (tmp_path / "virsh").chmod(0o755)
    answer = asyncio.run(ask(str(tmp_path / "virsh")))
    assert answer.status is None and "cannot be started" in answer.said


@pytest.mark.parametrize(
    ("flags", "cpuinfo"),
    [
        ({"vmx"}, "processor\t: 0\nflags\t\t: fpu vmx est\nvmx flags\t: vnmi\n"),
        ({"svm", "hypervisor"}, "flags\t\t: fpu svm hypervisor\n\nprocessor: 1\nflags: fpu\n"),
        (set(), "flags : fpu vme\n"),
        (None, "processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd\n"),
        (None, ""),
    ],
)
def test_flags_of_a_processor(flags: set[str] | None, cpuinfo: str) -> None:
    assert flags_in(cpuinfo) == flags


def test_devices(tmp_path: Path) -> None:
    assert device(tmp_path / "none") == Device()
    (tmp_path / "kvm").touch(mode=0o660)
    found = device(tmp_path / "kvm")
    assert found.access is Access.OPENS and found.uid == os.getuid()


@pytest.mark.parametrize(
    ("opens", "mode", "uid", "gid"),
    [
        (True, 0o600, 102, 0),
        (False, 0o066, 102, 106),  # the first that applies decides
        (True, 0o660, 0, 106),
        (False, 0o606, 0, 106),
        (True, 0o666, 0, 0),
        (False, 0o644, 0, 0),
    ],
)
def test_who_may_open_a_device(opens: bool, mode: int, uid: int, gid: int) -> None:
    found = Device(Access.FORBIDDEN, mode, uid, gid)
    assert found.opens_for(BOINC) == opens
    assert found.opens_for(Account("root", 0))


def test_accounts() -> None:
    assert me().uid == os.geteuid() and os.getegid() in me().groups
    root = account("root")
    assert root is not None and root.uid == 0 and "root" in root.group_names
    assert account("nobody_has_this_name") is None


# --- saying ---

FORBIDDEN = Facts(
    replace(PC, me=BOINC),
    qemu=replace(QEMU, kvm=replace(KVM, access=Access.FORBIDDEN), kvm_runs=None),
    virtualbox=VBOX,
    libvirt=replace(LIBVIRT, library=False),
    served=frozenset({"qemu"}),
    python="3.11.2",
    tools_missing={"mke2fs": "e2fsprogs"},
)


def test_what_a_person_reads() -> None:
    assert list(lines(FORBIDDEN, hint=False)) == [
        "QEMU: can start machines (QEMU 7.2.22, TCG)",
        "  slower: /dev/kvm may not be opened by the user boinc. Type: sudo usermod -aG kvm boinc; then restart BOINC "
        "(sudo systemctl restart boinc-client).",
        "libvirt: version 9.0.0, cannot start machines",
        "  no machine: libvirt is here, and this version of the bridge does not take it by itself. It takes QEMU "
        "and libvirt.",
        "    (where it is named: libvirt 9.0.0)",
        "VirtualBox: version 7.0.20, cannot start machines",
        "  no machine: VirtualBox is here, and this version of the bridge does not take it by itself. It takes QEMU "
        "and libvirt.",
        "    (where it is named: VirtualBox 7.0.20, by its API (Python 3.11))",
        "note: `vmbridge image build` lacks mke2fs. Type: sudo apt-get install e2fsprogs.",
        "Machines can be started here: QEMU 7.2.22, TCG.",
    ]


def test_where_there_is_none_it_says_what_to_install() -> None:
    facts = Facts(PC, qemu=Qemu(missing=("qemu-system-x86_64",)), served=frozenset({"qemu"}))
    assert list(lines(facts, hint=False)) == [
        "QEMU: not installed",
        "No machine can be started here.",
        "qemu-system-x86_64 is not in PATH. Install QEMU (Debian: apt-get install qemu-system-x86 qemu-utils).",
    ]


def test_the_json_is_what_the_page_says() -> None:
    """docs/doctor.md names each key; programs read it."""
    page = (REPOSITORY / "docs" / "doctor.md").read_text(encoding="utf-8")
    data = json.loads(json.dumps(as_data(FORBIDDEN)))
    assert data["format"] == FORMAT == 1 and data["can_start"] is True
    [qemu, _, libvirt] = data["hypervisors"]
    assert qemu["how"] == "QEMU 7.2.22, TCG" and libvirt["how"] is None
    [finding] = qemu["findings"]
    assert finding["code"] == "kvm-forbidden" and finding["commands"] == [["usermod", "-aG", "kvm", "boinc"]]
    for keys in (data, data["host"], qemu, finding):
        for key in keys:
            assert f"`{key}`" in page, f"{key} is not in docs/doctor.md"
    for value in (*Weight, *Move):
        assert f"`{value.value}`" in page


# --- mending ---


def test_what_is_mended_is_what_the_bridge_uses() -> None:
    stopped = replace(FORBIDDEN, libvirt=replace(LIBVIRT, version=Answer("libvirt-sock': Connection refused", 1)))
    assert commands_of(worth_mending(stopped)) == [("usermod", "-aG", "kvm", "boinc")]
    both = replace(stopped, served=frozenset({"qemu", "libvirt"}))
    assert commands_of(worth_mending(both)) == [
        ("usermod", "-aG", "kvm", "boinc"),
        ("systemctl", "start", "libvirtd"),
    ]


def test_qemu_is_installed_where_nothing_else_runs_machines() -> None:
    """Which one to have is a decision; that a computer has one at all is not."""
    none = Facts(PC, qemu=Qemu(missing=("qemu-img",)), virtualbox=VBOX, served=frozenset({"qemu"}))
    update, install = commands_of(worth_mending(none))
    assert update == ("apt-get", "update", "-qq") and install[-2:] == ("qemu-system-x86", "qemu-utils")
    assert commands_of(worth_mending(replace(none, served=frozenset({"qemu", "virtualbox"})))) == []


def test_each_command_once_and_packages_first() -> None:
    findings = [find("libvirtd"), find("qemu-missing", program="x", packages="a"), find("libvirtd")]
    assert [command[0] for command in commands_of(findings)] == ["apt-get", "apt-get", "systemctl"]


def test_without_root_one_line_to_type() -> None:
    assert line([("modprobe", "kvm_amd"), ("usermod", "-aG", "kvm", "a b")]) == (
        """sudo sh -c 'modprobe kvm_amd; usermod -aG kvm '"'"'a b'"'"''"""
    )


def test_each_command_is_said_before_it_runs() -> None:
    happened: list[str] = []

    def run(command: Sequence[str]) -> tuple[int, str]:
        happened.append(f"run {command[0]}")
        return (
            (1, "modprobe: ERROR: could not insert 'kvm_amd': Operation not supported")
            if command[0] == "modprobe"
            else (0, "")
        )

    assert not apply([("modprobe", "kvm_amd"), ("usermod", "-aG", "kvm", "boinc")], happened.append, run)
    assert happened == [
        "doing: modprobe kvm_amd",
        "run modprobe",
        "  that did not help: The processor's virtualisation is switched off. Switch on VT-x, or AMD-V (SVM), in the "
        "computer's firmware (BIOS, UEFI).",
        "doing: usermod -aG kvm boinc",
        "run usermod",
        "  it counts when boinc has logged in again; for BOINC's service, when it has been restarted",
    ]


def test_a_command_that_fails_without_a_known_reason() -> None:
    said: list[str] = []
    assert not apply([("sh", "-c", "echo it is broken; exit 3"), ("sh", "-c", "exit 4")], said.append)
    assert said[1] == "  that did not help: it is broken" and said[3] == "  that did not help: it ended with status 4"
    assert apply([("true",)], said.append) and not apply([("no-such-program",)], said.append)


def test_the_page_has_all_reasons() -> None:
    from ..reasons import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run `make reference`"
    for code in REASONS:
        assert f"`{code}`" in page()


def test_the_order_of_weight_is_told(tmp_path: Path) -> None:
    host = Host(me=BOINC, flags=frozenset({"vmx"}), modules=frozenset({"kvm_intel"}))
    facts = Facts(host, qemu=replace(QEMU, has_network=False, kvm_runs=False, kvm_said="Assertion failed."))
    told = list(lines(replace(facts, served=frozenset({"qemu"})), hint=False))
    assert told[1].startswith("  slower: /dev/kvm is there but runs no guest.") and told[2] == "    (Assertion failed.)"
    assert told[3].startswith("  note: the job needs the network, and qemu-system-x86_64 was built without")
