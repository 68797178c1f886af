"""What every backend must do, as cases that need no test framework: for the tests of whoever writes one.

A case is called with the ground on which it is tried; it fails by an `AssertionError`, or by what the backend raises.
`cases(backend)` are those for what this backend can. Real machines run: a case takes seconds, most of them a boot.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from guest_side import read_agent
from protocol.codec import decode, encode
from protocol.files import Door, write_atomic
from protocol.layout import COMMAND, STATUS, Share
from protocol.messages import Command, GuestState, HostState, Status

from ..errors import BridgeError, HypervisorError
from ..guest.folders import make_anew
from ..guest.stage import stage_in
from ..image import load_image
from ..image.bare import load_disk
from ..job import MachineTask
from ..trees import remove_tree
from . import SWITCHED_OFF, Apart, Continues, Copies, Hypervisor, MachineSpec, MachineState, Networked, Saves, Slow

WITHIN_S = 120.0
"""The deadline of all that happens within a second or two on a computer with nothing else to do."""

WORKER = "#!/bin/sh\nwhile :; do n=$((n + 1)); echo $n > count; done\n"
"""The program in the machine: it works for ever."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a backend is tried: in `folder`, which is empty, with `image`, the tiny one (`vmbridge image build`), or a
    disk that boots it, for those that start nothing else.
    """

    backend: type[Hypervisor]
    folder: Path
    image: Path


@dataclass(frozen=True, slots=True)
class Case:
    """One case; its name says what holds."""

    body: Callable[[Ground], Awaitable[None]]
    wanted: Callable[[type[Hypervisor]], bool]

    def __str__(self) -> str:
        return self.body.__name__

    def __call__(self, ground: Ground) -> None:
        """Try it.

        :raise AssertionError: the backend does not do what it must.
        """
        asyncio.run(asyncio.wait_for(self.body(ground), 3 * WITHIN_S))


_CASES: list[Case] = []


def cases(backend: type[Hypervisor]) -> list[Case]:
    """Return the cases for `backend`, from what its class says that it can."""
    return [case for case in _CASES if case.wanted(backend)]


def _case(
    wanted: Callable[[type[Hypervisor]], bool] = lambda backend: True,
) -> Callable[[Callable[[Ground], Awaitable[None]]], Callable[[Ground], Awaitable[None]]]:
    def add(body: Callable[[Ground], Awaitable[None]]) -> Callable[[Ground], Awaitable[None]]:
        _CASES.append(Case(body, wanted))
        return body

    return add


def _has_guest(backend: type[Hypervisor]) -> bool:
    return not backend.one_folder


def _boots(backend: type[Hypervisor]) -> bool:
    return backend.needs_image


def _can(capability: type) -> Callable[[type[Hypervisor]], bool]:
    return lambda backend: issubclass(backend, capability)


# --- what a case is made of ---


@asynccontextmanager
async def machine(ground: Ground, name: str = "machine") -> AsyncIterator[tuple[Hypervisor, MachineSpec]]:
    """A machine that is not started yet, with a program that works for ever. Afterwards nothing is left of it."""
    spec = make_spec(ground, name)
    found = ground.backend(spec)
    try:
        yield found, spec
    finally:
        await found.remove()


def make_spec(ground: Ground, name: str = "machine") -> MachineSpec:
    """Return what the machine is to be, with its share staged. What an earlier one has left in its folder stays."""
    shared = ground.folder / "shared"
    share = Share.one_folder(shared) if ground.backend.one_folder else Share.two_folders(shared)
    (ground.folder / "worker").write_text(WORKER)
    directory = ground.folder / name
    directory.mkdir(exist_ok=True)
    image = None
    if ground.backend.needs_image:
        image = load_image(ground.image) if ground.image.is_dir() else load_disk(ground.image)
    job = MachineTask(ground.folder / "job.xml", "contract", ground.image, "worker")
    stage_in(job, share, agent=read_agent("x86_64" if image is None else image.arch), static_only=False)
    return MachineSpec("contract", directory, share, image, 256, 1)


def _names(spec: MachineSpec) -> set[str]:
    """Return the names of all files in a machine's folder."""
    return {str(path.relative_to(spec.directory)) for path in spec.directory.rglob("*")}


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {WITHIN_S:g} seconds"
        await asyncio.sleep(0.02)


def status(spec: MachineSpec) -> Status | None:
    """Return what the guest says of itself."""
    with Door(spec.share.guest) as door:
        data = door.read(STATUS, 65_536)
    if data is None:
        return None
    message = decode(STATUS, data)
    assert isinstance(message, Status)
    return message


def is_running(spec: MachineSpec) -> bool:
    """Say whether the guest says that its program runs."""
    said = status(spec)
    return said is not None and said.state is GuestState.RUNNING


def obeyed(spec: MachineSpec, seq: int) -> bool:
    """Say whether the guest has obeyed the command `seq`."""
    said = status(spec)
    return said is not None and said.ack == seq


def answered(spec: MachineSpec, seq: int) -> bool:
    """Say whether the guest has obeyed the command `seq` or refused it, because something holds the share."""
    said = status(spec)
    return said is not None and seq in (said.ack, said.refused)


def order(spec: MachineSpec, seq: int, state: HostState, away: float | None = None) -> None:
    """Tell the guest what to do."""
    write_atomic(spec.share.host / COMMAND, encode(Command(seq, state, time.time(), away)), durable=False)


async def prepare(found: Hypervisor, spec: MachineSpec, first: int = 2) -> int:
    """Pause the machine while its guest has let go of the share; return the number of the command that it obeyed.

    The guest leaves for 0.3 seconds. If it is back before it could be paused it is told once more, as a host would.
    """
    assert isinstance(found, Saves)
    away = found.away_s if isinstance(found, Slow) else None
    deadline = time.monotonic() + WITHIN_S
    for seq in itertools.count(first):
        assert time.monotonic() < deadline, "the guest never let go"
        assert await found.held_back(), "a mounted share holds it back"
        order(spec, seq, HostState.PREPARE, away)
        late = time.monotonic() + 5
        while await found.held_back() and time.monotonic() < late:
            await asyncio.sleep(0.005)
        if not await found.held_back():
            assert obeyed(spec, seq), "it said so before it let go"
        await found.pause()
        if not await found.held_back():
            return seq
        await found.resume()
        await until(partial(answered, spec, seq), "the guest's answer")
    raise AssertionError


def _below_us() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _processes(found: Hypervisor, before: set[psutil.Process]) -> list[psutil.Process]:
    """Return what runs the machine: what has come below us since `before`, and what the backend says runs elsewhere."""
    other = found.examine().other_pid
    processes = [process for process in _below_us() - before if process.is_running()]
    return [*processes, *([] if other is None else [psutil.Process(other)])]


def _ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def _nothing_is_left(spec: MachineSpec, processes: Iterable[psutil.Process] = ()) -> None:
    assert os.listdir(spec.directory) == []
    assert all(map(_ended, processes)), "a process of the machine's still runs"


# --- the eight verbs ---

WALKS = (
    ("pause", "resume", "stop", "remove"),
    ("start", "resume", "pause", "start", "resume", "pause", "stop", "start", "pause", "resume", "remove"),
    ("start", "stop", "remove"),
    ("start", "remove"),
    ("start", "pause", "remove"),
)
"""Ways through a machine's life that between them use each verb in each state. Each verb is used twice in a row."""


def state_after(state: MachineState, verb: str) -> MachineState:
    """Return the state of a machine after `verb`: where it makes no sense it does nothing."""
    match verb:
        case "start" if state is MachineState.ABSENT:
            return MachineState.RUNNING
        case "pause" if state is MachineState.RUNNING:
            return MachineState.PAUSED
        case "resume" if state is MachineState.PAUSED:
            return MachineState.RUNNING
        case "stop" if state is not MachineState.ABSENT:
            return MachineState.GONE
        case "remove":
            return MachineState.ABSENT
    return state


@_case()
async def each_verb_does_in_each_state_what_it_must(ground: Ground) -> None:
    for number, walk in enumerate(WALKS):
        before = _below_us()
        async with machine(ground, f"machine{number}") as (found, spec):
            assert await found.probe(), "in a few words, what runs it"
            state = found.examine().state
            assert state is MachineState.ABSENT
            for verb in walk:
                if verb == "remove":
                    processes = _processes(found, before)
                for _ in range(2):
                    await getattr(found, verb)()
                    state = state_after(state, verb)
                    assert found.examine().state is state, f"after {verb} of {walk}"
                if state is MachineState.GONE:
                    for _ in range(2):
                        assert await asyncio.wait_for(found.wait(), WITHIN_S), "the reason for its end"
            _nothing_is_left(spec, processes)


@_case(_has_guest)
async def a_machine_that_dies_underneath_is_gone(ground: Ground) -> None:
    before = _below_us()
    for paused in (False, True):
        async with machine(ground) as (found, spec):
            await found.start()
            if paused:
                await found.pause()
            ended = asyncio.create_task(found.wait())
            for process in _processes(found, before):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            with contextlib.suppress(BridgeError):
                assert await asyncio.wait_for(ended, WITHIN_S)
            await until(lambda: found.examine().state is MachineState.GONE, "the state gone")
            for verb in ("pause", "resume", "start", "stop", "remove"):
                for _ in range(2):
                    await getattr(found, verb)()
                    expected = MachineState.ABSENT if verb == "remove" else MachineState.GONE
                    assert found.examine().state is expected, f"after {verb} of a machine that was killed"
            _nothing_is_left(spec, _processes(found, before))


@_case(_has_guest)
async def no_machine_outlives_the_bridge(ground: Ground) -> None:
    """A bridge that is killed takes its machine along, and the next one can start one in the same place."""
    name = f"{ground.backend.__module__}:{ground.backend.__qualname__}"
    program = f"import sys; from {__name__} import _hold; _hold(*sys.argv[1:])"
    words = [sys.executable, "-c", program, name, str(ground.folder), str(ground.image)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as bridge:
        assert bridge.stdout is not None
        try:
            pids = (await asyncio.to_thread(bridge.stdout.readline)).split()
            processes = [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]
            assert processes, "it was started"
        finally:
            bridge.kill()
    await until(lambda: all(map(_ended, processes)), "the machine's end")
    remove_tree(ground.folder / "shared")
    async with machine(ground) as (found, _):
        await found.start()
        assert found.examine().state is MachineState.RUNNING


def _hold(name: str, folder: str, image: str) -> None:
    """Start a machine, say which processes it is, and wait to be killed."""
    module, _, path = name.partition(":")
    backend: Any = import_module(module)
    for part in path.split("."):
        backend = getattr(backend, part)
    ground = Ground(backend, Path(folder), Path(image))

    async def hold() -> None:
        async with machine(ground) as (found, _):
            await found.start()
            print(*(process.pid for process in _processes(found, set())), flush=True)
            await asyncio.sleep(3 * WITHIN_S)

    asyncio.run(hold())


@_case(_boots)
async def a_start_that_fails_leaves_nothing_and_may_be_tried_again(ground: Ground) -> None:
    before = _below_us()
    async with machine(ground) as (found, spec):
        assert spec.image is not None
        away = spec.share.guest.rename(ground.folder / "away")
        try:
            await found.start()
        except (BridgeError, OSError):
            assert found.examine().state is MachineState.ABSENT
        else:  # what runs it has found out by itself
            assert await asyncio.wait_for(found.wait(), WITHIN_S) != SWITCHED_OFF, "one of its folders is missing"
            await found.remove()
        assert not _processes(found, before)
        away.rename(spec.share.guest)
        await found.start()
        assert found.examine().state is MachineState.RUNNING


@_case(_boots)
async def a_machine_that_switches_itself_off_says_so(ground: Ground) -> None:
    async with machine(ground) as (found, spec):
        make_anew(spec.share)  # no agent to find: the image's first program gives up
        await found.start()
        assert await asyncio.wait_for(found.wait(), WITHIN_S) == SWITCHED_OFF
        assert found.examine().state is MachineState.GONE
        assert found.examine().console, "what it printed"


@_case(_has_guest)
async def a_paused_machine_uses_no_processor_and_goes_on_where_it_was(ground: Ground) -> None:
    async with machine(ground) as (found, spec):
        await found.start()
        await until(lambda: is_running(spec), "the guest's coming up")
        before = found.examine().cpu_seconds
        await until(lambda: found.examine().cpu_seconds > before + 0.3, "0.3 s of CPU time")
        await found.pause()
        paused_at = found.examine().cpu_seconds
        await asyncio.sleep(0.6)
        assert found.examine().cpu_seconds - paused_at < 0.1
        await found.resume()
        await until(lambda: found.examine().cpu_seconds > paused_at + 0.3, "0.3 s of CPU time more")
        order(spec, 2, HostState.RUN)
        await until(lambda: obeyed(spec, 2), "the guest's obeying")


# --- what only some can ---


@_case(_can(Saves))
async def a_machine_that_was_saved_is_found_again_as_it_was(ground: Ground) -> None:
    async with machine(ground) as (found, spec):
        assert isinstance(found, Saves)
        made_of = await found.description()
        await found.start()
        await until(lambda: is_running(spec), "the guest's coming up")
        seq = await prepare(found, spec)
        at_first = _names(spec)
        await found.save("one")
        with_one = _names(spec)
        await found.save("two")
        await _fails(found.save("two"), "two states of one name")
        await found.pause()
        if isinstance(found, Apart):
            assert found.disk_bytes() > 0
        if isinstance(found, Copies):
            assert found.copy_bytes() > 1 << 20
            for tag in ("one", "two"):
                await found.copy(tag)
                await found.sync_copy(tag)
        before = _names(spec)
        await found.forget_all_but(["two"], "two")
        left = _names(spec)
        assert not (with_one - at_first) & left, "what was only the forgotten state's"
        if isinstance(found, Copies):
            gone = {name.partition(os.sep)[0] for name in before - left}
            assert len(gone - set(os.listdir(spec.directory))) == 1, "one copy less"
        await found.stop()
        assert _names(spec) - at_first == left - at_first, "saved states outlive the machine"

        again = ground.backend(spec)
        assert isinstance(again, Saves) and await again.description() == made_of
        make_anew(spec.share)
        order(spec, seq + 1, HostState.RUN)
        await _fails(again.restore("one"), "a state that was forgotten")
        assert again.examine().state is MachineState.ABSENT, "nothing is left running, and it may be tried again"
        try:
            await again.restore("two")
            assert again.examine().state is MachineState.RUNNING
            await until(lambda: obeyed(spec, seq + 1), "the restored guest's obeying")
            assert is_running(spec)
            more = await prepare(again, spec, seq + 2)
            await again.save("three")
            await again.forget_all_but(["three"], "two")
            await again.resume()
            await until(lambda: obeyed(spec, more), "the guest's going on")
        finally:
            await again.stop()
        last = ground.backend(spec)
        assert isinstance(last, Saves)
        tag, said = "three", more + 1
        if isinstance(last, Copies):
            await last.put_back("two")
            await last.put_back("two")
            tag, said = "two", seq + 1
        make_anew(spec.share)
        order(spec, said, HostState.RUN)
        try:
            await last.restore(tag)
            await until(lambda: obeyed(spec, said), f"the guest's obeying, restored from {tag}")
        finally:
            await last.remove()
        _nothing_is_left(spec)


@_case(_can(Continues))
async def a_machine_goes_on_with_the_disk_of_another(ground: Ground) -> None:
    async with machine(ground, "first") as (found, first):
        await found.start()
        await found.stop()
        assert isinstance(found, Continues)
        (first.directory / "something else").touch()
        for _ in range(2):
            await found.leave_disk(first.directory)
        assert len(os.listdir(first.directory)) == 1, "its disk"
        async with machine(ground, "second") as (_, second):
            goes_on = ground.backend(replace(second, before=first.directory))
            try:
                await goes_on.start()
                await until(lambda: is_running(second), "the second guest's coming up")
            finally:
                await goes_on.remove()


@_case(_can(Networked))
async def a_cable_is_plugged_in_and_out_in_any_state(ground: Ground) -> None:
    async with machine(ground) as (_, spec):
        found = ground.backend(replace(spec, network=True))
        assert isinstance(found, Networked)
        try:
            for verb in (None, "start", "pause", "resume", "stop", "remove"):
                if verb is not None:
                    await getattr(found, verb)()
                for connected in (True, True, False, False):
                    await found.connect(connected)
        finally:
            await found.remove()


async def _fails(attempt: Awaitable[None], what: str) -> None:
    try:
        await attempt
    except HypervisorError:
        return
    raise AssertionError(f"{what} should be an error")
