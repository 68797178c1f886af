"""`vmbridge doctor` on this computer, asked as people and programs ask it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bridge.hypervisors.devices import device
from bridge.hypervisors.facts import Access
from bridge.hypervisors.qemu.probe import KVM

from ..patience import AT_MOST_S
from .conftest import ENVIRONMENT, VMBRIDGE


def doctor(*options: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT if path is None else {**ENVIRONMENT, "PATH": path}
    command = [*VMBRIDGE, "doctor", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=AT_MOST_S)


def test_this_computer_can_start_machines() -> None:
    """QEMU emulates everywhere; where KVM does not run guests, it says so and why."""
    asked = doctor("--json")
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    qemu = said["hypervisors"][0]
    assert (
        said["can_start"]
        and qemu["can_start"]
        and qemu["served"]
        and qemu["how"].startswith(f"QEMU {qemu['version']}, ")
    )
    codes = {finding["code"] for finding in qemu["findings"]}
    on_kvm = codes & {code for code in codes if code.startswith(("kvm-", "no-virt", "nested-", "cpu-", "firmware-"))}
    assert "KVM" in qemu["how"] or on_kvm, "where machines are emulated, it says why"
    assert all(finding["weight"] == "slows" for finding in qemu["findings"] if finding["code"] in on_kvm)
    if device(KVM).access is Access.OPENS and "TCG" in qemu["how"]:
        [dead] = (finding for finding in qemu["findings"] if finding["code"] in ("kvm-dead", "cpu-held"))
        assert dead["details"], "what QEMU said is kept"


def test_a_person_reads_the_same() -> None:
    asked = doctor()
    assert asked.returncode == 0 and asked.stderr == ""
    assert asked.stdout.startswith("QEMU: can start machines (QEMU ")
    assert asked.stdout.splitlines()[-1].startswith(("Machines can be started here: QEMU", "`vmbridge doctor --fix`"))


def test_without_any_hypervisor(tmp_path: Path) -> None:
    asked = doctor(path=str(tmp_path))
    assert asked.returncode == 1 and "No machine can be started here." in asked.stdout
    assert "Install QEMU (Debian: apt-get install qemu-system-x86 qemu-utils)" in asked.stdout
    assert "image" not in asked.stdout, "a volunteer builds none"
    assert "`vmbridge image build` lacks apt-cache, " in doctor("--images", path=str(tmp_path)).stdout


def test_asked_wrongly() -> None:
    assert doctor("--cure").returncode == 2
