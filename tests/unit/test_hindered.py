"""What becomes of a job for which no machine starts: the sentence of `vmbridge doctor`, and whose move it is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

from bridge.errors import CommandFailed, Hindered, HypervisorError, NotInstalled
from bridge.hypervisors.diagnosis import diagnose
from bridge.hypervisors.explain import explained
from bridge.hypervisors.facts import Facts, Qemu
from bridge.hypervisors.reasons import find
from bridge.verdict import TemporaryExit, verdict_on

from .test_diagnosis import ALL, PC, QEMU, VBOX


def told(error: HypervisorError, facts: Facts, name: str | None = None) -> object:
    async def collect(names: Collection[str]) -> Facts:
        return replace(facts, qemu=facts.qemu if "qemu" in names else None, served=frozenset({"qemu"}))

    return verdict_on(asyncio.run(explained(error, name, collect)))


def test_the_volunteer_reads_what_doctor_says() -> None:
    facts = Facts(PC, qemu=Qemu(missing=("qemu-img",)), served=ALL)
    [diagnosis] = diagnose(facts)
    assert told(NotInstalled("no hypervisor is installed"), facts) == TemporaryExit(
        3600.0, diagnosis.findings[0].sentence, notice=True
    )
    assert diagnosis.findings[0].sentence == (
        "qemu-img is not in PATH. Install QEMU (Debian: apt-get install qemu-system-x86 qemu-utils)."
    )


def test_what_passes_by_itself_is_waited_for_without_a_notice() -> None:
    error = CommandFailed("QEMU did not start: cannot set up guest memory 'pc.ram': Cannot allocate memory")
    assert told(error, Facts(PC, qemu=QEMU)) == TemporaryExit(300.0, find("no-memory").sentence)
    error = CommandFailed("AMD-V is being used by another hypervisor (VERR_SVM_IN_USE)")
    assert told(error, Facts(PC, qemu=QEMU)) == TemporaryExit(3600.0, find("cpu-held", other="KVM, perhaps").sentence)


def test_a_failed_start_settles_a_doubt() -> None:
    """KVM that holds the processor from its loading on never lets go: waiting for it would be waiting for ever."""
    host = replace(PC, kernel="6.12.48+deb13-amd64", kvm_at_load=True)
    verdict = told(CommandFailed("(VERR_VMX_IN_VMX_ROOT_MODE)"), Facts(host, virtualbox=VBOX))
    assert isinstance(verdict, TemporaryExit) and verdict.notice and "modprobe -r kvm_intel" in verdict.reason


def test_an_error_that_nobody_knows_stays_what_it_is() -> None:
    error = CommandFailed("QEMU ended with status 1: something new")
    assert told(error, Facts(PC, qemu=QEMU)) == TemporaryExit(300.0, str(error))
    for elsewhere in ("local", "of_another_package"):
        assert told(error, Facts(PC, qemu=Qemu(missing=("qemu-img",))), elsewhere) == TemporaryExit(300.0, str(error))
    assert told(NotInstalled("the job needs the network"), Facts(PC, qemu=QEMU)) == TemporaryExit(
        3600.0, "the job needs the network", notice=True
    )


def test_what_failed_was_not_missing() -> None:
    """The backend of another package, found without being named, is not helped by the advice to install QEMU."""
    error = CommandFailed("pearctl ended with status 1")
    assert told(error, Facts(PC, qemu=Qemu(missing=("qemu-img",)))) == TemporaryExit(300.0, str(error))


def test_an_explained_error_is_not_explained_again() -> None:
    error = Hindered("known", delay_s=1.0, notice=False)
    assert told(error, Facts(PC, qemu=Qemu(missing=("qemu-img",)))) == TemporaryExit(1.0, "known")
