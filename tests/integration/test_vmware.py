"""The contract, and whole jobs, under a stand-in for VMware (tests/vmrun): real VMware never ran."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import CommandFailed, HypervisorError
from bridge.guest.folders import make_anew
from bridge.hypervisors import Hardware, MachineSpec, MachineState
from bridge.hypervisors.contract import Case, Ground, cases, is_running, machine, obeyed, order, prepare
from bridge.hypervisors.contract import until as until_it
from bridge.hypervisors.vmware import VMware
from bridge.hypervisors.vmware.process import process_of
from bridge.hypervisors.vmware.vmx import FOLDER
from bridge.image import load_image
from bridge.image.bare import load_disk
from protocol.layout import Share
from protocol.messages import HostState

from .. import vmrun
from ..patience import AT_MOST_S
from ..plain_guest import build_disk
from ..standin import End
from ..vmrun.vmrun import KILLED
from . import conftest
from .cd_machines import goes_on, in_path
from .cd_machines import image as image
from .slots import MakeSlot, Slot
from .test_plain_guest import WHOLE_LIFE, MakeVboxJob
from .test_plain_guest import make_vbox_job as make_vbox_job
from .test_tasks import SECOND, is_right, tasks


@pytest.fixture(scope="module", autouse=True)
def vmware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A `vmrun` in PATH."""
    folder = tmp_path_factory.mktemp("vmware")
    vmrun.install(folder)
    with in_path(folder):
        yield


@pytest.mark.parametrize("case", cases(VMware), ids=str)
def test_contract(case: Case, tmp_path: Path, image: Path) -> None:
    case(Ground(VMware, tmp_path, image))


@pytest.fixture(scope="module")
def plain_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of a guest that knows nothing of the bridge."""
    return build_disk(tmp_path_factory.mktemp("plain"), ("vmdk",))[0]


def test_a_bare_disk_goes_on_where_it_was(tmp_path: Path, image: Path) -> None:
    share = Share.one_folder(tmp_path / "shared")
    share.guest.mkdir()
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "record").touch()  # of the bridge's
    disk = load_image(image).work_disk
    assert disk is not None
    hardware = Hardware("scsi", "e1000", (("other", share.guest),))
    spec = MachineSpec("bare", tmp_path / "machine", share, load_disk(disk), 128, 1, hardware=hardware)

    async def go() -> None:
        found, again = VMware(spec), VMware(spec)
        try:
            await found.start()
            await found.stop()
            inode = (spec.directory / FOLDER / "disk.vmdk").stat().st_ino
            await again.start()
            assert (spec.directory / FOLDER / "disk.vmdk").stat().st_ino == inode
        finally:
            await again.remove()

    asyncio.run(go())
    assert os.listdir(spec.directory) == ["record"]


def test_a_whole_job(make_vbox_job: MakeVboxJob, plain_disk: Path) -> None:
    before = plain_disk.read_bytes()
    job = make_vbox_job(plain_disk, WHOLE_LIFE, "sata")
    done = job.run("--hypervisor", "vmware")
    assert done.returncode == 0, done.stderr
    assert (job.path / "shared" / "out.dat").read_text() == "all of it"
    assert sorted(os.listdir(job.path / "scratch")) == ["cmdline", "init_data.xml"]
    assert plain_disk.read_bytes() == before and job.left() == ["shared"]


def test_a_whole_job_of_guests_of_ours(make_slot: MakeSlot, image: Path) -> None:
    """Two tasks in a machine, the second on the disk of the first, with one of the host between them."""
    slot = tasks(make_slot, image, "vmware", SECOND + "touch /run/vmbridge/host/x && exit 8; true\n")
    slot.run()
    is_right(slot)
    assert "the machine runs on VMware (ws), by vmrun" in slot.stderr()


def test_a_job_that_is_quit_goes_on(make_slot: MakeSlot, image: Path) -> None:
    def quit_it(slot: Slot) -> None:
        slot.order("quit")
        assert slot.wait().end is End.LATER, slot.stderr()

    goes_on(make_slot, image, "vmware", quit_it)


def test_whoever_is_killed_the_next_start_goes_on(tmp_path: Path, image: Path) -> None:
    """vmrun before it has done anything, vmrun when all is done, and the bridge when the machine is suspended."""

    async def go() -> None:
        async with machine(Ground(VMware, tmp_path, image)) as (found, spec):
            assert isinstance(found, VMware)
            killed = spec.directory / FOLDER / KILLED
            await found.start()
            await until_it(lambda: is_running(spec), "the guest's coming up")
            seq = await prepare(found, spec)
            killed.write_text("")
            with pytest.raises(CommandFailed, match="suspend"):
                await found.save("one")
            assert found.examine().state is MachineState.PAUSED and not killed.exists()
            killed.write_text("late")
            await found.save("one")
            await found.resume()
            order(spec, seq + 1, HostState.RUN)
            await until_it(lambda: obeyed(spec, seq + 1), "the guest's going on")
            seq = await prepare(found, spec, seq + 2)
            subprocess.run(
                ["vmrun", "-T", "ws", "suspend", spec.directory / FOLDER / "machine.vmx", "hard"], check=True
            )
            assert await asyncio.wait_for(found.wait(), AT_MOST_S) == "somebody has suspended the machine"
            assert found.examine().state is MachineState.GONE
            again = VMware(spec)  # who was killed has told nobody anything
            make_anew(spec.share)
            order(spec, seq + 1, HostState.RUN)
            await again.restore("one")
            await until_it(lambda: obeyed(spec, seq + 1), "the restored guest's obeying")
            await prepare(again, spec, seq + 2)
            await again.save("two")
            assert again.examine().state is MachineState.PAUSED
            (memory,) = (spec.directory / FOLDER / "two.state").glob("*.vmem")
            memory.unlink()
            await again.resume()  # whoever has saved it goes on with what was saved
            with pytest.raises(CommandFailed, match="vmrun failed at start"):
                await asyncio.wait_for(again.wait(), AT_MOST_S)
            assert again.examine().state is MachineState.GONE
            await again.remove()
            assert os.listdir(spec.directory) == []

    asyncio.run(asyncio.wait_for(go(), 3 * AT_MOST_S))


def test_a_machine_that_is_stopped_in_the_midst_does_not_go_on(tmp_path: Path, image: Path) -> None:
    """While it is being saved, before it is woken, and when its new process is there."""

    async def go() -> None:
        async with machine(Ground(VMware, tmp_path, image)) as (_, spec):
            vmx = spec.directory.resolve() / FOLDER / "machine.vmx"
            for moment in ("saving", "waking", "awake"):
                found = VMware(spec)
                await found.start()
                await found.pause()
                if moment != "saving":
                    await found.save("one")
                work = asyncio.create_task(found.save("one") if moment == "saving" else found.resume())
                ended = asyncio.create_task(found.wait())
                await asyncio.sleep(0)
                if moment == "awake":
                    await until_it(lambda: process_of(vmx), "its process")
                await found.stop()
                assert await asyncio.wait_for(ended, AT_MOST_S) == "the machine was ended"
                await asyncio.gather(work, return_exceptions=True)
                assert found.examine().state is MachineState.GONE and process_of(vmx) is None, moment

    asyncio.run(asyncio.wait_for(go(), 3 * AT_MOST_S))


def test_a_vmrun_that_hangs_holds_nobody_up_who_ends_the_machine(tmp_path: Path, image: Path) -> None:
    """An abort used to wait until the suspension was given up, ten minutes, or until the client killed the bridge."""
    hangs, asked = tmp_path / "hangs", tmp_path / "asked"
    hangs.mkdir()
    (hangs / "vmrun").write_text(
        f'#!/bin/sh\ncase "$3" in suspend) : >{asked}; exec sleep 600;; esac\nexec {shutil.which("vmrun")} "$@"\n'
    )
    (hangs / "vmrun").chmod(0o755)

    async def go() -> None:
        async with machine(Ground(VMware, tmp_path, image)) as (found, _):
            assert isinstance(found, VMware)
            await found.start()
            await found.pause()
            saving = asyncio.create_task(found.save("one"))
            await until_it(asked.exists, "vmrun's being asked")
            await found.stop()
            with pytest.raises(CommandFailed, match="which was to suspend it, has not ended"):
                await saving
            assert found.examine().state is MachineState.GONE

    with in_path(hangs):
        asyncio.run(asyncio.wait_for(go(), AT_MOST_S))


def test_an_image_without_a_cd_is_refused_before_anything_starts(
    make_job: Callable[..., conftest.JobDirectory],
) -> None:
    job = make_job("true", image_path=conftest.IMAGE)
    done = job.run("--hypervisor", "vmware")
    assert done.returncode == 1 and "has no CD to boot from" in done.stderr and "Traceback" not in done.stderr


def test_why_vmrun_starts_nothing_is_told(tmp_path: Path, image: Path) -> None:
    async def go() -> None:
        async with machine(Ground(VMware, tmp_path, image)) as (_, spec):
            found = VMware(replace(spec, memory_mb=1 << 30))
            with pytest.raises(
                HypervisorError, match=r"memory.* vmrun failed at start: Error: The operation was cancel"
            ):
                await found.start()
            assert found.examine().state is MachineState.ABSENT
            await found.remove()
            assert os.listdir(spec.directory) == []

    asyncio.run(asyncio.wait_for(go(), AT_MOST_S))
