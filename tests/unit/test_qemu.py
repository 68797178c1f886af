"""What QEMU is told, and how it is found, without starting it."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import CommandFailed, Hindered, HypervisorError, NotInstalled
from bridge.hypervisors import MachineSpec, choose, load, survey
from bridge.hypervisors.libvirt import Libvirt
from bridge.hypervisors.local import Local
from bridge.hypervisors.plain import Plain
from bridge.hypervisors.qemu import Qemu, probe
from bridge.hypervisors.qemu.command_line import Accelerated, machine
from bridge.hypervisors.qemu.machine import ACCELERATOR, was_on_kvm
from bridge.hypervisors.qemu.tsc import for_boot
from bridge.hypervisors.reasons import find
from bridge.image import Image
from bridge.image.bare import BareDisk
from protocol.layout import Share

from ..patience import AT_MOST_S

TCG = Accelerated(Path("/usr/bin/qemu-system-x86_64"), "7.2.22", "tcg")
IMAGE = Image(
    arch="x86_64",
    kernel=Path("/i/vmlinux"),
    initramfs=Path("/i/initramfs"),
    work_disk=Path("/i/work.qcow2"),
    cmdline="quiet",
    static_programs_only=True,
    digest="0" * 64,
)
SPEC = MachineSpec("my, job", Path("/slot/machine"), Share.two_folders(Path("/slot,1/shared")), IMAGE, 256, 2)


def words(gate_fds: tuple[int, int] | None = None, **changes: object) -> list[str]:
    spec = replace(SPEC, **changes)  # type: ignore[arg-type]  # names are the test's own
    disk = Path("/slot,1/machine/work.qcow2")
    return machine(spec, TCG, work_disk=disk, qmp_fd=7, security_model="mapped-xattr", gate_fds=gate_fds)


def after(option: str, line: list[str]) -> list[str]:
    return [line[at + 1] for at, word in enumerate(line) if word == option]


def test_the_guest_may_write_to_one_export_only() -> None:
    exports = after("-fsdev", words())
    assert exports == [
        "local,id=host,path=/slot,,1/shared/host,security_model=mapped-xattr,readonly=on",
        "local,id=guest,path=/slot,,1/shared/guest,security_model=mapped-xattr",
    ]


def test_no_network_no_defaults_and_qemus_own_sandbox() -> None:
    line = words()
    assert after("-nic", line) == ["none"]
    assert "-nodefaults" in line and "-no-user-config" in line and "-no-reboot" in line
    assert after("-sandbox", line) == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert not any("netdev" in word or "hostfwd" in word for word in line)


def test_the_guest_is_told_how_fast_its_clock_is() -> None:
    """On a busy host its clocks used to run up to forty times too fast."""
    disk = Path("/slot/machine/work.qcow2")
    for khz, told in ((2_596_132, ["quiet tsc_early_khz=2596132"]), (None, ["quiet"])):
        line = machine(SPEC, TCG, work_disk=disk, qmp_fd=7, security_model="mapped-xattr", tsc_khz=khz)
        assert after("-append", line) == told


def test_the_counter_is_measured_only_for_a_kernel_that_would_measure_it() -> None:
    """It used to be measured, for 0.02 seconds in which nothing else was done, for each machine."""

    def asked(qemu: Accelerated, image: Image | BareDisk) -> int | None:
        return asyncio.run(for_boot(qemu, image, lambda: 2_596_132 + (threading.current_thread().name == "MainThread")))

    assert asked(TCG, IMAGE) == 2_596_132, "in another thread"
    assert asked(replace(TCG, accelerator="kvm"), IMAGE) is None, "KVM has a clock of its own"
    assert asked(TCG, replace(IMAGE, arch="aarch64")) is None, "it has no time-stamp counter of x86"
    assert asked(TCG, BareDisk(Path("/i/vm_image.vdi"), "vdi", "digest")) is None, "nobody tells its kernel anything"


def test_a_machine_for_aarch64() -> None:
    """No firmware, no x86 devices, a fixed processor without KVM; all else is as on x86."""
    arm = replace(TCG, program=Path("/usr/bin/qemu-system-aarch64"), arch="aarch64")
    spec = replace(SPEC, image=replace(IMAGE, arch="aarch64"))
    disk = Path("/slot,1/machine/work.qcow2")

    def line(qemu: Accelerated) -> list[str]:
        return machine(spec, qemu, work_disk=disk, qmp_fd=7, security_model="mapped-xattr")

    assert after("-machine", line(arm)) == ["virt,gic-version=max"] and "-bios" not in line(arm)
    assert after("-cpu", line(arm)) == ["cortex-a72"] and after("-cpu", line(replace(arm, accelerator="kvm"))) == [
        "host"
    ]
    for option in ("-fsdev", "-device", "-sandbox", "-accel", "-blockdev"):
        assert after(option, line(arm)) == after(option, words())


def test_a_network_card_has_its_way_out_through_the_gate_and_none_in() -> None:
    line = words(gate_fds=(8, 9), network=True)
    (cable,) = after("-netdev", line)
    assert cable.startswith("user,id=cable,") and "ipv6=off" in cable
    assert not any(way in cable for way in ("hostfwd", "guestfwd", "tftp", "smb", "restrict"))
    assert "filter-redirector,id=gate,netdev=cable,queue=rx,outdev=from-card,indev=to-network" in after("-object", line)
    assert "socket,id=from-card,fd=8" in line and "socket,id=to-network,fd=9" in line
    assert "-S" in line and "-S" not in words(), "it does not run before its cable is in or out"


def test_a_state_is_for_a_machine_with_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(tmp_path, monkeypatch, "[ $1 = -netdev ] && echo user")
    (tmp_path / "vmlinux").touch()
    spec = replace(SPEC, image=replace(IMAGE, kernel=tmp_path / "vmlinux", work_disk=None))
    without = asyncio.run(Qemu(spec).description())
    assert {**without, "network": "user"} == asyncio.run(Qemu(replace(spec, network=True)).description())


def test_a_qemu_without_user_networking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red Hat's, say."""
    fake_qemu(tmp_path, monkeypatch, "[ $1 = -netdev ] && printf 'Available netdev backend types:\\nsocket\\ntap\\n'")
    assert asyncio.run(Qemu(SPEC).probe()).startswith("QEMU 9.9.1")
    with pytest.raises(NotInstalled, match=r"the job needs the network, and .* was built without user networking"):
        asyncio.run(Qemu(replace(SPEC, network=True)).probe())


def test_commas_in_names_cannot_add_options() -> None:
    line = words(name="x,process=y")
    assert after("-name", line) == ["guest=vmbridge-x,,process=y"]
    assert "driver=file,filename=/slot,,1/machine/work.qcow2,node-name=work-file" in line


def test_memory_cpus_kernel_and_qmp() -> None:
    line = words(memory_mb=512)
    assert after("-m", line) == ["512M"] and after("-smp", line) == ["2"]
    assert after("-kernel", line) == ["/i/vmlinux"] and after("-append", line) == ["quiet"]
    assert "socket,id=qmp,fd=7" in line


def test_the_choice_of_a_hypervisor() -> None:
    everything = str
    assert choose("plain", "qemu", everything) is Plain, "the command line goes before the job file"
    assert choose(None, "qemu", everything) is Qemu
    assert choose(None, None, everything) is Qemu
    assert choose(None, None, lambda program: None if program == "qemu-system-x86_64" else program) is Libvirt
    assert load("local") is Local


def test_local_and_plain_are_never_detected() -> None:
    with pytest.raises(NotInstalled, match=r"no hypervisor is installed\. Install QEMU"):
        choose(None, None, lambda program: None)
    with pytest.raises(NotInstalled):
        choose(None, None, lambda program: None if program == "qemu-img" else program)


def test_an_unknown_hypervisor_is_named() -> None:
    with pytest.raises(
        HypervisorError,
        match=r"no hypervisor 'xen' here\. Choose one of: qemu, libvirt, virtualbox, vmware, local, plain",
    ):
        load("xen")


def fake_qemu(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script in PATH as QEMU."""
    for name in ("qemu-system-x86_64", "qemu-img"):
        program = directory / name
        program.write_text(
            f"#!/bin/sh\nif [ $1 = --version ]; then echo QEMU emulator version 9.9.1; exit; fi\n{script}\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_qemu_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        NotInstalled, match=r"qemu-system-x86_64 is not in PATH\. Install QEMU \(Debian: apt-get install"
    ):
        asyncio.run(probe.probe("x86_64", Path("vmlinux")))


def test_kvm_is_believed_when_a_kernel_came_up_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(
        tmp_path, monkeypatch, "echo 'Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)'"
    )
    monkeypatch.setattr(probe, "_KVM_WITHIN_S", AT_MOST_S)
    kvm = tmp_path / "kvm"
    kvm.touch()
    found = asyncio.run(probe.probe("x86_64", Path("vmlinux"), kvm))
    assert (found.version, found.accelerator) == ("9.9.1", "kvm")


@pytest.mark.parametrize("script", ["echo 'failed to initialize kvm'; exit 1", "exec sleep 60"], ids=["fails", "hangs"])
def test_kvm_that_runs_no_guest_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake_qemu(tmp_path, monkeypatch, script)
    monkeypatch.setattr(probe, "_KVM_WITHIN_S", 0.5)
    monkeypatch.setattr(survey, "running", frozenset)  # a machine of somebody else's on this host is another reason
    kvm = tmp_path / "kvm"
    kvm.touch()
    assert asyncio.run(probe.probe("x86_64", Path("vmlinux"), kvm)).accelerator == "tcg"
    assert "/dev/kvm is there but runs no guest." in caplog.text and "Machines run without it" in caplog.text


def test_kvm_that_another_hypervisor_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that had run on KVM for days used to begin anew without it, as long as somebody used VirtualBox."""
    fake_qemu(tmp_path, monkeypatch, "echo 'ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy'; exit 1")
    (tmp_path / "kvm").touch()
    found = asyncio.run(probe.probe("x86_64", Path("vmlinux"), tmp_path / "kvm"))
    assert found.accelerator == "tcg" and found.kvm_held is not None
    error = found.kvm_held.error()
    assert (error.delay_s, error.notice) == (3600.0, False) and "Another hypervisor" in str(error)
    assert found == replace(found, kvm_held=None), "it is the same machine"


@pytest.mark.parametrize(("content", "was"), [("kvm", True), ("tcg", False), (None, False), ("kv", False)])
def test_what_a_machine_ran_on(tmp_path: Path, content: str | None, was: bool) -> None:
    if content is not None:
        (tmp_path / ACCELERATOR).write_text(content)
    assert was_on_kvm(tmp_path) == was


@pytest.mark.parametrize("last", [None, "tcg", "kvm"])
def test_a_machine_of_kvm_waits_for_it_and_others_do_not(tmp_path: Path, last: str | None) -> None:
    if last is not None:
        (tmp_path / ACCELERATOR).write_text(last)

    async def found(arch: str, kernel: Path | None) -> Accelerated:
        return replace(TCG, kvm_held=find("cpu-held", other="VirtualBox"))

    machine = Qemu(replace(SPEC, directory=tmp_path), found)
    if last == "kvm":
        with pytest.raises(Hindered, match="Another hypervisor"):
            asyncio.run(machine.probe())
    else:
        assert asyncio.run(machine.probe()) == "QEMU 7.2.22, TCG"


def test_kvm_is_given_time_on_a_busy_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds on the clock used to be all: then TCG it was, and what had been saved under KVM was of no use."""
    fake_qemu(tmp_path, monkeypatch, "while :; do :; done")
    monkeypatch.setattr(probe, "_KVM_WITHIN_S", AT_MOST_S)
    monkeypatch.setattr(probe, "_KVM_WITHIN_CPU_S", 0.2)
    (tmp_path / "kvm").touch()
    found = asyncio.run(probe.probe("x86_64", Path("vmlinux"), tmp_path / "kvm"))
    assert found.accelerator == "tcg", "CPU time is what counts"


def test_kvm_for_another_architecture_or_absent_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(tmp_path, monkeypatch, "touch tried")
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(probe.probe("x86_64", Path("vmlinux"), tmp_path / "absent")).accelerator == "tcg"
    (tmp_path / "kvm").touch()
    (tmp_path / "qemu-system-riscv64").symlink_to(tmp_path / "qemu-system-x86_64")
    assert asyncio.run(probe.probe("riscv64", Path("vmlinux"), tmp_path / "kvm")).accelerator == "tcg"
    assert not (tmp_path / "tried").exists()


def test_a_qemu_that_cannot_tell_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(tmp_path, monkeypatch, "")
    (tmp_path / "qemu-system-x86_64").write_text(
        "#!/bin/sh\necho libfoo.so.1: cannot open shared object file; exit 127\n"
    )
    with pytest.raises(CommandFailed, match=r"--version ended with status 127: libfoo\.so\.1: cannot open"):
        asyncio.run(probe.probe("x86_64", Path("vmlinux")))
