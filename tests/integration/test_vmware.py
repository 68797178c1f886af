"""The contract, and whole jobs, under a stand-in for VMware (tests/vmrun): real VMware never ran."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import HypervisorError
from bridge.hypervisors import SWITCHED_OFF, Hardware, MachineSpec, MachineState
from bridge.hypervisors.contract import Case, Ground, cases, machine
from bridge.hypervisors.vmware import VMware
from bridge.image import load_image
from bridge.image.bare import load_disk
from protocol.layout import Share

from .. import vmrun
from ..patience import AT_MOST_S
from ..plain_guest import build_disk, build_tiny_disk
from . import conftest
from .test_plain_guest import WHOLE_LIFE, MakeVboxJob
from .test_plain_guest import make_vbox_job as make_vbox_job


@pytest.fixture(scope="module", autouse=True)
def vmware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A `vmrun` in PATH."""
    folder = tmp_path_factory.mktemp("vmware")
    vmrun.install(folder)
    path = f"{folder}:{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        patch.setitem(conftest.ENVIRONMENT, "PATH", f"{folder}:{conftest.ENVIRONMENT['PATH']}")
        yield


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Path:
    """The tiny image's system, on a disk that boots."""
    return build_tiny_disk(tmp_path_factory.mktemp("tiny"), load_image(image), "vmdk")


# The tiny image's first program gives up by starting the machine anew, which `qemu` and `libvirt` take for its end.
CASES = [case for case in cases(VMware) if str(case) != "a_machine_that_switches_itself_off_says_so"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: Case, tmp_path: Path, disk: Path) -> None:
    before = disk.read_bytes()
    case(Ground(VMware, tmp_path, disk))
    assert disk.read_bytes() == before, "the machine wrote into its own disk"


@pytest.fixture(scope="module")
def plain_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of a guest that knows nothing of the bridge."""
    return build_disk(tmp_path_factory.mktemp("plain"), ("vmdk",))[0]


def test_a_machine_that_switches_itself_off_says_so_and_goes_on_with_its_disk(tmp_path: Path, plain_disk: Path) -> None:
    share = Share.one_folder(tmp_path / "shared")
    share.guest.mkdir()
    (tmp_path / "machine").mkdir()
    hardware = Hardware("scsi", "e1000", (("other", share.guest),))  # its guest does not find what it looks for
    spec = MachineSpec("off", tmp_path / "machine", share, load_disk(plain_disk), 128, 1, hardware=hardware)

    async def go() -> None:
        found = VMware(spec)
        again = VMware(spec)
        try:
            await found.start()
            assert await asyncio.wait_for(found.wait(), AT_MOST_S) == SWITCHED_OFF
            assert found.examine().state is MachineState.GONE and found.examine().console
            inode = (spec.directory / "disk.vmdk").stat().st_ino
            await again.start()
            assert (spec.directory / "disk.vmdk").stat().st_ino == inode
        finally:
            await again.remove()

    asyncio.run(go())
    assert os.listdir(spec.directory) == []


def test_a_whole_job(make_vbox_job: MakeVboxJob, plain_disk: Path) -> None:
    before = plain_disk.read_bytes()
    job = make_vbox_job(plain_disk, WHOLE_LIFE, "sata")
    done = job.run("--hypervisor", "vmware")
    assert done.returncode == 0, done.stderr
    assert (job.path / "shared" / "out.dat").read_text() == "all of it"
    assert sorted(os.listdir(job.path / "scratch")) == ["cmdline", "init_data.xml"]
    assert plain_disk.read_bytes() == before and job.left() == ["shared"]


def test_the_tiny_image_is_refused_before_anything_starts(make_job: Callable[..., conftest.JobDirectory]) -> None:
    job = make_job("true")
    done = job.run("--hypervisor", "vmware")
    assert done.returncode == 1 and "VMware starts disks only" in done.stderr and "Traceback" not in done.stderr


def test_why_vmrun_starts_nothing_is_told(tmp_path: Path, disk: Path) -> None:
    async def go() -> None:
        async with machine(Ground(VMware, tmp_path, disk)) as (_, spec):
            found = VMware(replace(spec, memory_mb=1 << 30))
            with pytest.raises(
                HypervisorError, match=r"memory.* vmrun failed at start: Error: The operation was cancel"
            ):
                await found.start()
            assert found.examine().state is MachineState.ABSENT
            await found.remove()
            assert os.listdir(spec.directory) == []

    asyncio.run(asyncio.wait_for(go(), AT_MOST_S))
