"""The contract, and whole jobs, under a stand-in for VirtualBox (tests/vboxapi): no real machine of it ever ran."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import HostError, HypervisorError
from bridge.guest.folders import make_anew
from bridge.hypervisors import MachineState
from bridge.hypervisors.contract import Case, Ground, cases, is_running, machine, obeyed, order, prepare, until
from bridge.hypervisors.virtualbox import VirtualBox, api
from bridge.hypervisors.virtualbox.api import ByApi, interpreter
from bridge.hypervisors.virtualbox.plan import environment
from protocol.messages import HostState

from .. import vboxapi
from ..patience import AT_MOST_S
from ..plain_guest import build_disk
from ..vboxapi.service import Service
from . import conftest
from .cd_machines import goes_on, in_path
from .cd_machines import image as image
from .slots import MakeSlot
from .test_plain_guest import WHOLE_LIFE, MakeVboxJob
from .test_plain_guest import make_vbox_job as make_vbox_job


@pytest.fixture(scope="module", autouse=True)
def virtualbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A VirtualBox in PATH, with a Python that has its API."""
    folder = tmp_path_factory.mktemp("virtualbox")
    vboxapi.install(folder)
    with in_path(folder):
        yield


@pytest.fixture(params=["api", "manage"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What VirtualBox is told by."""
    if request.param == "manage":
        monkeypatch.setattr(api, "interpreters", tuple)
    assert (asyncio.run(interpreter(Path("/nonexistent"))) is None) == (request.param == "manage")
    return str(request.param)


@pytest.mark.parametrize("case", cases(VirtualBox), ids=str)
def test_contract(case: Case, by: str, tmp_path: Path, image: Path) -> None:
    case(Ground(VirtualBox, tmp_path, image))


def test_a_save_that_is_cut_short_leaves_the_state_before(tmp_path: Path, image: Path) -> None:
    async def go() -> None:
        async with machine(Ground(VirtualBox, tmp_path, image)) as (first, spec):
            assert isinstance(first, VirtualBox)
            await first.start()
            await until(lambda: is_running(spec), "the guest's coming up")
            seq = await prepare(first, spec)
            await first.save("one")
            await first.stop()
            for number, delay_s in enumerate((0.0, 0.05, 0.2)):
                found = VirtualBox(spec)
                make_anew(spec.share)
                order(spec, seq + 1, HostState.RUN)
                await found.restore("one")
                await until(lambda: obeyed(spec, seq + 1), "the restored guest's obeying")
                await prepare(found, spec, seq + 2)
                saving = asyncio.ensure_future(found.save(f"more{number}"))
                await asyncio.sleep(delay_s)
                await found.stop()  # all of it is killed
                with contextlib.suppress(HypervisorError):
                    await saving

    asyncio.run(go())


def test_why_a_machine_does_not_start_is_told(tmp_path: Path, image: Path, by: str) -> None:
    async def go() -> None:
        async with machine(Ground(VirtualBox, tmp_path, image)) as (_, spec):
            found = VirtualBox(replace(spec, memory_mb=1 << 30))
            with pytest.raises(HypervisorError, match=r"failed at start \(.*\): .*memory"):
                await found.start()
            assert found.examine().state is MachineState.ABSENT
            await found.remove()

    asyncio.run(go())


def test_a_worker_that_ends_is_started_again_and_a_machine_that_virtualbox_stops_is_told_of(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VirtualBox, "look_every_s", 600.0)  # nobody asks

    async def go() -> None:
        async with machine(Ground(VirtualBox, tmp_path, image)) as (found, spec):
            assert isinstance(found, VirtualBox)
            await found.start()
            control = found._there
            assert isinstance(control, ByApi) and control._child._process is not None
            for verb in (found.pause, found.resume):
                control._child._process.kill()
                await control._child.wait()
                await verb()
            assert await control.state() == "Running"
            ended = asyncio.create_task(found.wait())
            Service(Path(environment(spec.directory)["VBOX_USER_HOME"])).tell("stop", "Running", "Paused")
            with pytest.raises(HostError, match="has paused the machine"):
                await asyncio.wait_for(ended, AT_MOST_S)

    asyncio.run(go())


@pytest.fixture(scope="module")
def plain_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of a guest that knows nothing of the bridge."""
    return build_disk(tmp_path_factory.mktemp("plain"), ("vmdk",))[0]


def test_a_whole_job_of_a_guest_that_knows_nothing(make_vbox_job: MakeVboxJob, plain_disk: Path) -> None:
    before = plain_disk.read_bytes()
    job = make_vbox_job(plain_disk, WHOLE_LIFE, "sata")
    done = job.run("--hypervisor", "virtualbox")
    assert done.returncode == 0, done.stderr
    assert "by its API" in done.stdout + done.stderr
    assert (job.path / "shared" / "out.dat").read_text() == "all of it"
    assert plain_disk.read_bytes() == before and job.left() == ["shared"]


def test_a_whole_job_of_a_guest_of_ours(make_job: Callable[..., conftest.JobDirectory], image: Path) -> None:
    elements = "<copy_file_to_VM>in.txt</copy_file_to_VM><copy_file_from_VM>out.txt</copy_file_from_VM>"
    job = make_job("cat in.txt > out.txt; echo >> out.txt; touch /run/vmbridge/host/x || echo read-only >> out.txt",
                   elements, image_path=image)  # fmt: skip
    (job.path / "in.txt").write_text("42")
    done = job.run("--hypervisor", "virtualbox")
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "42\nread-only\n" and job.left() == []


def test_tasks_share_the_disk(make_job: Callable[..., conftest.JobDirectory], image: Path) -> None:
    job = make_job("true", image_path=image)
    task = "<task><virtualmachine>one</virtualmachine><image>{}</image><application>{}</application>{}</task>"
    out = "<copy_file_from_VM>out.txt</copy_file_from_VM>"
    tasks = (task.format(image, "first", ""), task.format(image, "second", ""), task.format(image, "third", out))
    (job.path / "job.xml").write_text(f"<job_desc>{''.join(tasks)}</job_desc>")
    for name, does in {"first": "echo 1 > x", "second": "echo 2 >> x", "third": "cp x out.txt"}.items():
        (job.path / name).write_text(f"#!/bin/sh\n{does}\n")
    done = job.run("--hypervisor", "virtualbox")
    assert done.returncode == 0, done.stderr
    assert (job.path / "out.txt").read_text() == "1\n2\n" and job.left() == []


def test_a_job_that_is_killed_goes_on(make_slot: MakeSlot, image: Path) -> None:
    goes_on(make_slot, image, "virtualbox", lambda slot: os.kill(slot.pid, signal.SIGKILL))


def test_the_tiny_image_without_a_cd_is_refused(make_job: Callable[..., conftest.JobDirectory]) -> None:
    job = make_job("true", image_path=conftest.IMAGE)
    done = job.run("--hypervisor", "virtualbox")
    assert done.returncode == 1 and "boots only disks and CDs" in done.stderr and "Traceback" not in done.stderr
