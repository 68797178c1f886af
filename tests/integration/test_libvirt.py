"""Machines under Debian's libvirt: the contract, and whole jobs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bridge.errors import CommandFailed, OverBound
from bridge.hypervisors import Hypervisor, MachineSpec, MachineState
from bridge.hypervisors.contract import Case, Ground, cases, machine
from bridge.hypervisors.libvirt import Libvirt
from bridge.hypervisors.libvirt.binding import binding
from bridge.slots import look

from ..patience import AT_MOST_S, has_ended
from ..standin import Conclusion, End
from . import island
from .conftest import JobDirectory
from .slots import MakeSlot, Slot
from .test_app_machine import link_image

# What it has in memory (n) and on its disk (out.txt) must stay together.
STEPS = 12
COUNTER = f"""
n=0
while [ $n -lt {STEPS} ]; do
    n=$((n + 1))
    echo "step $n" >> out.txt
    sleep 0.2
done
"""
RESULT = "".join(f"step {n}\n" for n in range(1, STEPS + 1))


@pytest.mark.parametrize("case", cases(Libvirt), ids=str)
def test_contract(case: Case, tmp_path: Path, image: Path, daemon: psutil.Process) -> None:
    case(Ground(Libvirt, tmp_path, image))


def run(directory: Path, image: Path, body: Callable[[Hypervisor, MachineSpec], Awaitable[None]]) -> None:
    async def go() -> None:
        async with machine(Ground(Libvirt, directory, image)) as (found, spec):
            await body(found, spec)

    asyncio.run(asyncio.wait_for(go(), 3 * AT_MOST_S))


@pytest.fixture
def theirs(daemon: psutil.Process) -> Iterator[Callable[[], list[str]]]:
    """A machine of the volunteer's own; returns which machines there are."""
    libvirt, _ = binding()
    connection = libvirt.open(None)
    system = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
    xml = f"<domain type='qemu'><name>vmbridge-theirs</name><memory unit='MiB'>64</memory>{system}</domain>"
    own = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
    yield lambda: [found.name() for found in connection.listAllDomains()]
    assert own.info()[0] == libvirt.VIR_DOMAIN_PAUSED, "as it was left"
    own.destroy()
    connection.close()


def test_a_whole_job(make_job: Callable[..., JobDirectory], theirs: Callable[[], list[str]]) -> None:
    elements = "<copy_file_to_VM>in.txt</copy_file_to_VM><copy_file_from_VM>out.txt</copy_file_from_VM>"
    job = make_job("cat in.txt > out.txt", elements)
    (job.path / "in.txt").write_text("42\n")
    done = job.run("--hypervisor", "libvirt")
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "42\n" and job.left() == []
    assert re.search(r"libvirt [0-9.]+ \(qemu\+unix:///system\?socket=.*\), QEMU [0-9.]+, TCG", done.stderr)
    assert theirs() == ["vmbridge-theirs"]


def test_a_job_that_is_quit_goes_on(make_slot: MakeSlot, image: Path, daemon: psutil.Process) -> None:
    elements = "<copy_file_from_VM>out.txt</copy_file_from_VM><checkpoint_period>1</checkpoint_period>"
    slot = make_slot(COUNTER, elements, hypervisor="libvirt", image="image")
    result = slot.directory.output("out.txt", "molecule_42_0_0")
    link_image(slot, image)
    slot.run()
    slot.until_running()
    slot.until(lambda: told_pid(slot), "the machine's process")
    machine = psutil.Process(told_pid(slot))
    assert "qemu-system" in machine.exe() and machine.ppid() != slot.pid
    slot.order("quit")
    assert slot.wait().end is End.LATER, slot.stderr()
    assert has_ended(machine.pid) and "the machine's disk was not" not in slot.stderr()
    assert [problem for problem in look(slot.slot).problems if "shared" not in problem] == []
    slot.run()
    assert slot.wait() == Conclusion(End.SUCCESS, reason="finished"), slot.stderr()
    assert "restored from checkpoint-" in slot.stderr()
    assert result.read_text() == RESULT
    assert slot.left() == set() and not told_pid(slot), "one that is gone may be anybody's"


def told_pid(slot: Slot) -> int:
    """Return which process the newest status says works for the job; 0 is none."""
    found = re.findall(r"<other_pid>(\d+)</other_pid>", slot.statuses()[-1].text) if slot.statuses() else []
    return int(found[0]) if found else 0


@pytest.mark.skipif(not island.possible(), reason=island.WHY_NOT)
def test_with_a_card_on_an_island(tmp_path: Path, daemon: psutil.Process) -> None:
    """The same as with QEMU (test_network.py): nothing near can be reached, the cable is cut, also over checkpoints."""
    done = island.run(tmp_path, "libvirt", "-k", "nothing_of_the_host or the_client_cuts")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_disk_that_would_be_larger_than_the_job_may_take_is_told(
    tmp_path: Path, image: Path, daemon: psutil.Process
) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        (spec.share.host / "in" / "worker").unlink()
        (spec.share.host / "in" / "worker").write_text("#!/bin/sh\ndd if=/dev/zero of=big bs=1M count=100\nsync\n")
        limited = Libvirt(replace(spec, largest_file=20 << 20))
        try:
            await limited.start()
            with pytest.raises(OverBound, match="the machine's disk would take more than the 20 MB"):
                await asyncio.wait_for(limited.wait(), AT_MOST_S)
        finally:
            await limited.remove()

    run(tmp_path, image, body)


def test_a_daemon_that_hangs_is_noticed_and_survived(tmp_path: Path, image: Path, daemon: psutil.Process) -> None:
    class Impatient(Libvirt):
        keepalive = (1, 2)

    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        impatient = Impatient(spec)
        await impatient.start()
        pid = impatient.examine().other_pid
        assert pid is not None
        daemon.suspend()
        try:
            with pytest.raises(CommandFailed, match="the connection to libvirt is lost: its daemon has ended or hangs"):
                await asyncio.wait_for(impatient.wait(), AT_MOST_S)
            await impatient.stop()
            assert has_ended(pid) and impatient.examine().state is MachineState.GONE
            await impatient.remove()
        finally:
            daemon.resume()
        await impatient.start()
        assert impatient.examine().state is MachineState.RUNNING
        await impatient.remove()

    run(tmp_path, image, body)
