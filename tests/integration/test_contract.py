"""One contract for every hypervisor: the verbs of `bridge.hypervisors.Hypervisor`, on real machines."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import HostError, HypervisorError, OverBound
from bridge.guest.folders import make_anew
from bridge.guest.stage import stage_in
from bridge.hypervisors import HYPERVISORS, Hypervisor, MachineSpec, MachineState, Saves, load
from bridge.hypervisors.qemu import Qemu
from bridge.image import load_image
from bridge.job import MachineTask
from bridge.trees import remove_tree
from guest_side import read_agent
from protocol.codec import decode, encode
from protocol.files import Door, write_atomic
from protocol.layout import COMMAND, STATUS, Share
from protocol.messages import Command, GuestState, HostState, Status

from ..patience import AT_MOST_S

WORKER = "#!/bin/sh\nwhile :; do n=$((n + 1)); echo $n > count; done\n"


@asynccontextmanager
async def machine(name: str, directory: Path, image_path: Path) -> AsyncIterator[tuple[Hypervisor, MachineSpec]]:
    """A machine of the hypervisor `name` that is not started yet, with a program that works for ever."""
    backend = load(name)
    shared = directory / "shared"
    share = Share.one_folder(shared) if backend.one_folder else Share.two_folders(shared)
    (directory / "worker").write_text(WORKER)
    (directory / "machine").mkdir()
    image = load_image(image_path) if backend.needs_image else None
    spec = MachineSpec("contract", directory / "machine", share, image, 256, 1)
    job = MachineTask(directory / "job.xml", "contract", image_path, "worker")
    stage_in(job, share, agent=read_agent("x86_64"), static_only=False)
    found = backend(spec)
    try:
        yield found, spec
    finally:
        await found.remove()


def test_every_hypervisor(tmp_path: Path, image: Path) -> None:
    assert set(HYPERVISORS) == {"qemu", "local", "plain"}, "the contract below runs over all of them"


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + AT_MOST_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def status(spec: MachineSpec) -> Status | None:
    """What the guest says of itself."""
    with Door(spec.share.guest) as door:
        data = door.read(STATUS, 65_536)
    if data is None:
        return None
    message = decode(STATUS, data)
    assert isinstance(message, Status)
    return message


def obeyed(spec: MachineSpec, seq: int) -> bool:
    said = status(spec)
    return said is not None and said.ack == seq


def is_running(spec: MachineSpec) -> bool:
    said = status(spec)
    return said is not None and said.state is GuestState.RUNNING


def run(name: str, directory: Path, image: Path, body: Callable[[Hypervisor, MachineSpec], Awaitable[None]]) -> None:
    async def go() -> None:
        async with machine(name, directory, image) as (found, spec):
            await body(found, spec)

    asyncio.run(asyncio.wait_for(go(), 3 * AT_MOST_S))


@pytest.mark.parametrize("name", HYPERVISORS)
def test_the_life_of_a_machine(name: str, tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        assert await found.probe()
        assert found.examine().state is MachineState.ABSENT
        await found.pause()
        await found.resume()
        await found.stop()
        assert found.examine().state is MachineState.ABSENT, "nothing happens to what was not started"

        await found.start()
        await found.start()
        assert found.examine().state is MachineState.RUNNING
        for _ in range(2):
            await found.pause()
            assert found.examine().state is MachineState.PAUSED
        for _ in range(2):
            await found.resume()
            assert found.examine().state is MachineState.RUNNING

        ended = asyncio.create_task(found.wait())
        for _ in range(2):
            await found.stop()
            assert found.examine().state is MachineState.GONE
        assert await asyncio.wait_for(ended, AT_MOST_S)
        for _ in range(2):
            await found.remove()
            assert found.examine().state is MachineState.ABSENT
        assert os.listdir(spec.directory) == []

    run(name, tmp_path, image, body)


@pytest.mark.parametrize("name", ["qemu", "local"])
def test_a_paused_machine_uses_no_processor_and_goes_on_where_it_was(name: str, tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        await found.start()
        await until(lambda: is_running(spec))
        before = found.examine().cpu_seconds
        await until(lambda: found.examine().cpu_seconds > before + 0.3)
        await found.pause()
        paused_at = found.examine().cpu_seconds
        await asyncio.sleep(0.6)
        assert found.examine().cpu_seconds - paused_at < 0.1
        await found.resume()
        await until(lambda: found.examine().cpu_seconds > paused_at + 0.3)
        assert found.examine().state is MachineState.RUNNING

    run(name, tmp_path, image, body)


@pytest.mark.parametrize("name", ["qemu", "local"])
def test_a_machine_that_ends_by_itself_is_gone(name: str, tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        if name == "qemu":
            make_anew(spec.share)  # no agent to find: the image's init gives up
        else:
            (spec.share.host / "in" / "worker").unlink()
            (spec.share.host / "in" / "worker").write_text("#!/bin/sh\n")
        await found.start()
        assert await asyncio.wait_for(found.wait(), AT_MOST_S)
        assert found.examine().state is MachineState.GONE

    run(name, tmp_path, image, body)


async def prepare(found: Hypervisor, spec: MachineSpec, first: int = 2) -> int:
    """Pause the machine while its guest has let go of the share; return the number of the command that it obeyed.

    The guest leaves for 0.3 seconds. If it is back before it could be paused it is told once more, as a host would.
    """
    assert isinstance(found, Saves)
    deadline = time.monotonic() + AT_MOST_S
    for seq in itertools.count(first):
        assert time.monotonic() < deadline, "the guest never let go"
        assert await found.held_back()
        write_atomic(spec.share.host / COMMAND, encode(Command(seq, HostState.PREPARE)), durable=False)
        late = time.monotonic() + 5
        while await found.held_back() and time.monotonic() < late:
            await asyncio.sleep(0.001)
        if not await found.held_back():
            said = status(spec)
            assert said is not None and said.ack == seq, "it said so before it let go"
        await found.pause()
        if not await found.held_back():
            return seq
        await found.resume()
        await until(partial(obeyed, spec, seq))
    raise AssertionError


@pytest.mark.behaviour("B13")
def test_the_guest_lets_go_of_the_share_when_a_checkpoint_comes(tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        await found.start()
        await until(lambda: is_running(spec))
        seq = await prepare(found, spec)  # a checkpoint could be taken now
        said = status(spec)
        assert said is not None and said.ack == seq
        write_atomic(spec.share.host / COMMAND, encode(Command(seq + 1, HostState.RUN, time.time())), durable=False)
        await found.resume()
        await until(lambda: (now := status(spec)) is not None and now.ack == seq + 1 and now.heartbeat > said.heartbeat)
        assert is_running(spec)

    run("qemu", tmp_path, image, body)


async def heard_by_host_export(found: Qemu) -> int:
    """How many requests of the guest QEMU has answered on the first of its exports."""
    asked = {"path": "/machine/peripheral-anon/device[0]/virtio-backend", "queue": 0}
    answer: Any = await found._qmp.execute("x-query-virtio-queue-status", asked)
    assert isinstance(answer["used-idx"], int)
    return answer["used-idx"]


async def between_the_messages_of_a_mount(found: Qemu, spec: MachineSpec) -> int:
    """Pause the machine when its guest, coming back, has said the first word of a mount and not the second."""
    deadline = time.monotonic() + AT_MOST_S
    seq = 0
    while time.monotonic() < deadline:
        seq = await prepare(found, spec, seq + 2)
        before = await heard_by_host_export(found)
        while not await found.held_back():
            if await heard_by_host_export(found) != before:
                return seq
            # Let it run for as short as can be.
            await asyncio.gather(found._qmp.execute("cont"), found._qmp.execute("stop"))
        await found.resume()
        await until(partial(obeyed, spec, seq))
    pytest.skip("the moment was never hit")


@pytest.mark.behaviour("B13")
def test_a_guest_that_was_saved_while_it_mounts_comes_back_whole(tmp_path: Path, image: Path) -> None:
    """QEMU lets itself be saved between the first message of a mount and the second, and forgets the first. The guest
    came back with a share that hung for ever at the first file that was not there, at each restore of this state.
    """

    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        assert isinstance(found, Qemu)
        await found.start()
        await until(lambda: is_running(spec))
        seq = await between_the_messages_of_a_mount(found, spec)
        await found.save("one")
        await found.stop()
        again = Qemu(spec)
        make_anew(spec.share)
        write_atomic(spec.share.host / COMMAND, encode(Command(seq + 1, HostState.RUN)), durable=False)
        try:
            await again.restore("one")
            for more in (1, 2):
                write_atomic(spec.share.host / COMMAND, encode(Command(seq + more, HostState.RUN)), durable=False)
                await until(partial(obeyed, spec, seq + more))
        finally:
            await again.stop()

    run("qemu", tmp_path, image, body)


@pytest.mark.parametrize("name", ["qemu"])
def test_a_machine_that_saves_is_found_again_as_it_was(name: str, tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        assert isinstance(found, Saves)
        made_of = await found.description()
        await found.start()
        await until(lambda: is_running(spec))
        assert await found.held_back(), "a mounted share holds it back"
        seq = await prepare(found, spec)
        await found.save("one")
        await found.save("two")
        with pytest.raises(HypervisorError):
            await found.save("two")
        await found.pause()
        assert found.copy_bytes() > 1 << 20
        for tag in ("one", "two"):
            await found.copy(tag)
            await found.sync_copy(tag)
        await found.forget_all_but(["two"], "two")
        assert len(os.listdir(spec.directory)) == 2, "the disk and one copy"
        await found.stop()

        again = load(name)(spec)
        assert isinstance(again, Saves) and await again.description() == made_of
        make_anew(spec.share)
        write_atomic(spec.share.host / COMMAND, encode(Command(seq + 1, HostState.RUN, time.time())), durable=False)
        with pytest.raises(HypervisorError):
            await again.restore("one")
        assert again.examine().state is MachineState.ABSENT, "nothing is left running, and it may be tried again"
        try:
            await again.restore("two")
            await until(lambda: (said := status(spec)) is not None and said.ack == seq + 1)
            assert is_running(spec)
            await again.stop()

            (spec.directory / "work.qcow2").write_bytes(b"broken")
            last = load(name)(spec)
            assert isinstance(last, Saves)
            await last.put_back("two")
            await last.put_back("two")
            make_anew(spec.share)
            write_atomic(spec.share.host / COMMAND, encode(Command(seq + 1, HostState.RUN, time.time())), durable=False)
            await last.restore("two")
            await until(lambda: (said := status(spec)) is not None and said.ack == seq + 1)
            await last.remove()
        finally:
            await again.remove()
        assert os.listdir(spec.directory) == []

    run(name, tmp_path, image, body)


def test_a_disk_of_the_host_that_is_full_is_told(tmp_path: Path, image: Path) -> None:
    """The machine used to stand still without a word, until the guest counted as lost an hour later."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("cannot mount a small file system here")

    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        (spec.share.host / "in" / "worker").unlink()
        (spec.share.host / "in" / "worker").write_text("#!/bin/sh\ndd if=/dev/zero of=big bs=1M count=100\nsync\n")
        await found.start()
        with pytest.raises(HostError, match="the host cannot write the machine's disk: No space left on device"):
            await asyncio.wait_for(found.wait(), AT_MOST_S)

    try:
        run("qemu", tmp_path, image, body)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_disk_that_would_be_larger_than_the_job_may_take_is_told(tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        (spec.share.host / "in" / "worker").unlink()
        (spec.share.host / "in" / "worker").write_text("#!/bin/sh\ndd if=/dev/zero of=big bs=1M count=100\nsync\n")
        limited = load("qemu")(replace(spec, largest_file=20 << 20))
        try:
            await limited.start()
            with pytest.raises(OverBound, match="the machine's disk would take more than the 20 MB"):
                await asyncio.wait_for(limited.wait(), AT_MOST_S)
            assert (spec.directory / "work.qcow2").stat().st_size <= 20 << 20
        finally:
            await limited.remove()

    run("qemu", tmp_path, image, body)


@pytest.mark.behaviour("B14")
def test_results_are_brought_again_when_the_guest_finds_its_folder_empty(tmp_path: Path, image: Path) -> None:
    """A machine that was saved between its outputs and `finished` used to say `finished` alone when it was restored.

    Which of the last phases the guest is in when it lets go is a matter of milliseconds; it must hold in each.
    """

    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        task = spec.share.host / "task"
        size = 8 << 20
        (spec.share.host / "in" / "worker").unlink()
        result = f"head -c {size} /dev/zero > out.txt"
        reports = "for n in 1 2 3 4 5; do echo 0.$n > $VMBRIDGE_SPOOL/fraction_done; sleep 0.1; done"
        (spec.share.host / "in" / "worker").write_text(f"#!/bin/sh\n{result}\n{reports}\n")
        write_atomic(task, task.read_bytes() + b"output out.txt\n", durable=False)
        await found.start()
        out = spec.share.guest / "out"
        await until(out.exists)
        seq = await prepare(found, spec)
        for name in os.listdir(spec.share.guest):
            if name != "out":
                (spec.share.guest / name).unlink()
        remove_tree(out)
        write_atomic(spec.share.host / COMMAND, encode(Command(seq + 1, HostState.RUN)), durable=False)
        await found.resume()
        await until(lambda: (spec.share.guest / "finished").exists())
        assert (out / "out.txt").stat().st_size == size

    run("qemu", tmp_path, image, body)


@pytest.mark.behaviour("B14")
def test_everything_is_said_again_when_the_guest_finds_its_folder_empty(tmp_path: Path, image: Path) -> None:
    async def body(found: Hypervisor, spec: MachineSpec) -> None:
        reports = {"fraction_done": "0.25\n", "checkpoint": "count 3\n"}
        script = "".join(f"printf {text!r} > $VMBRIDGE_SPOOL/{name}\n" for name, text in reports.items())
        (spec.share.host / "in" / "worker").unlink()
        (spec.share.host / "in" / "worker").write_text(f"#!/bin/sh\n{script}sleep 60\n")
        await found.start()
        await until(lambda: set(reports) | {"creditreport"} <= set(os.listdir(spec.share.guest)))
        seq = await prepare(found, spec)  # this is what a restored machine will find
        for name in os.listdir(spec.share.guest):
            (spec.share.guest / name).unlink()
        write_atomic(spec.share.host / COMMAND, encode(Command(seq + 1, HostState.RUN)), durable=False)
        await found.resume()
        await until(lambda: set(reports) | {"creditreport", STATUS} <= set(os.listdir(spec.share.guest)))
        assert {name: (spec.share.guest / name).read_text() for name in reports} == reports
        await until(lambda: (said := status(spec)) is not None and said.ack == seq + 1)

    run("qemu", tmp_path, image, body)
