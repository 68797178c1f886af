"""One machine of VirtualBox's: a VBoxHeadless below a keeper, with a service and a registry that no other uses.

Tried with the real VirtualBox 7.2 but without its kernel driver: all up to the start. What comes after it was written
from the documentation, and tried with a stand-in only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from typing import ClassVar

from protocol.files import write_atomic

from ...errors import CommandFailed, HostError, HypervisorError
from ...host.leftovers import end_leftovers
from ...host.program import Program
from ...host.tree import Tree, tree_of
from ...image import Image
from ...image.bare import BareDisk
from ...tail import Tail, end_of
from ...trees import remove_tree
from .. import SWITCHED_OFF, Condition, MachineSpec, MachineState, disk_too_large
from ..child import clean_environment
from ..facts import version_in
from .manage import end_service, find, has_registry, manage
from .words import CONSOLE, DISK, MADE, environment, forgotten, machine_name, making, own_files, refusal, state_in

logger = getLogger(__name__)

_RUNS_WITHIN_S = 120.0
_ASK_EVERY_S = 0.5
_LAST_WORDS_S = 0.5
_BAD = ("gurumeditation", "stuck")


class VirtualBox:
    """A machine that ends when its keeper does, and that does when the bridge ends."""

    one_folder = False
    needs_image = True

    look_every_s: ClassVar[float] = 20.0
    """VBoxManage tells no events: so often it is asked how the machine is, and its files are measured."""

    call_within_s: ClassVar[float] = 60.0

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._name = machine_name(spec.directory)
        self._state = MachineState.ABSENT
        self._tree: Tree | None = None
        self._tail = Tail()
        self._telling = asyncio.Lock()

    async def probe(self) -> str:
        spec = self._spec
        assert spec.image is not None
        if why := refusal(spec.image):
            from ..reasons import find as reason  # only where there is something to be said

            raise reason("no-image", said=why).error()
        if spec.hardware is None:
            raise HypervisorError("VirtualBox boots only disks of jobs whose machine knows nothing of the bridge")
        if spec.network:
            raise HypervisorError(
                "the job needs the network, and a machine under VirtualBox cannot have one that reaches nothing near. "
                "Choose qemu"
            )
        find("VBoxHeadless")
        return f"VirtualBox {version_in(await self._manage('--version')) or ''}, by VBoxManage"

    # The verbs

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self.probe()
        await asyncio.to_thread(self._end_leftovers)
        try:
            await self._make()
            await self._launch()
            self._state = MachineState.RUNNING
        except BaseException:
            await self._end()
            raise

    def _end_leftovers(self) -> None:
        """End what an earlier start in the same place has left. Only the disk goes on, if it was made in full."""
        directory = self._spec.directory
        end_leftovers(directory)
        end_service(directory)
        for file in forgotten(directory) if (directory / MADE).exists() else own_files(directory):
            remove_tree(file)

    async def _make(self) -> None:
        spec = self._spec
        assert isinstance(spec.image, BareDisk)
        made = spec.directory / MADE
        with _unchanged(spec.image.work_disk):
            for words in making(spec, has_disk=made.exists()):
                await self._manage(*words)
        write_atomic(made, b"", durable=True)

    async def _launch(self) -> None:
        directory = self._spec.directory
        env = clean_environment(**environment(directory))
        program = Program(
            name="VBoxHeadless",
            argv=(find("VBoxHeadless"), "--startvm", self._name, "--vrde", "off"),
            slot=directory,
            cwd=directory,
            env=tuple(f"{name}={value}" for name, value in env.items()),
        )
        self._tail = Tail()
        read, write = os.pipe()
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: self._tail, os.fdopen(read, "rb", 0))
            self._tree = tree_of(program, output=write)
            await self._tree.start()
        finally:
            os.close(write)
        until = time.monotonic() + _RUNS_WITHIN_S
        while (state := await self._asked()) != "running":
            if not self._tree.running:
                await self._last_words()
                raise CommandFailed(f"VirtualBox failed at start: {self._tail.text.strip()[-600:]}")
            if state in _BAD or time.monotonic() >= until:
                raise CommandFailed(f"VirtualBox has started the machine, but it does not run ({state})")
            await asyncio.sleep(_ASK_EVERY_S)

    async def pause(self) -> None:
        await self._tell("pause", MachineState.RUNNING, MachineState.PAUSED)

    async def resume(self) -> None:
        await self._tell("resume", MachineState.PAUSED, MachineState.RUNNING)

    async def _tell(self, verb: str, before: MachineState, after: MachineState) -> None:
        """Tell the machine something; one that has ended by itself is not told anything."""
        async with self._telling:
            if self._state is not before:
                return
            try:
                if self._runs:
                    await self._manage("controlvm", self._name, verb)
            except CommandFailed:
                if self._runs:
                    raise
            self._state = after

    async def wait(self) -> str:
        assert self._tree is not None, "wait() before start()"
        ended = asyncio.ensure_future(self._tree.wait())
        try:
            while not (await asyncio.wait((ended,), timeout=self.look_every_s))[0]:
                await self._look()
        finally:
            ended.cancel()
        await self._last_words()
        status = ended.result()
        if status < 0:
            return f"VBoxHeadless was ended by signal {-status}"
        if status:
            return f"VBoxHeadless ended with status {status}"
        return SWITCHED_OFF

    async def _look(self) -> None:
        """See whether the machine does what it should, and its files are no larger than they may be."""
        limit = self._spec.largest_file
        for name in (DISK, CONSOLE):
            if limit is not None and _size(self._spec.directory / name) > limit:
                raise disk_too_large(limit)
        async with self._telling:
            if self._state is not MachineState.RUNNING or not self._runs:
                return
            try:
                state = await self._asked()
            except CommandFailed:
                if self._runs:
                    raise
                return
            if state == "paused":
                raise HostError("VirtualBox has paused the machine: the host cannot write its disk, most often")
            if state in _BAD:
                raise CommandFailed(f"VirtualBox says that the machine has failed ({state})")

    async def stop(self) -> None:
        await self._end()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        for file in own_files(self._spec.directory):
            remove_tree(file)
        self._state = MachineState.ABSENT

    async def _end(self) -> None:
        """End the machine and its service, which need not answer."""
        if self._tree is not None:
            await self._tree.end()
        if has_registry(self._spec.directory):
            await asyncio.to_thread(end_service, self._spec.directory)

    def examine(self) -> Condition:
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not self._runs else self._state
        cpu_seconds = 0.0 if self._tree is None else self._tree.cpu_seconds()
        return Condition(state, cpu_seconds, end_of(self._spec.directory / CONSOLE) or self._tail.text)

    # Particular

    @staticmethod
    def refuses(image: Image | BareDisk) -> str | None:
        return refusal(image)

    @property
    def _runs(self) -> bool:
        return self._tree is not None and self._tree.running

    async def _last_words(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._tail.closed.wait(), _LAST_WORDS_S)

    async def _asked(self) -> str:
        return state_in(await self._manage("showvminfo", self._name, "--machinereadable"))

    async def _manage(self, *words: str) -> str:
        return await manage(self._spec.directory, *words, within_s=self.call_within_s)


@contextmanager
def _unchanged(image: Path) -> Iterator[None]:
    """Keep VirtualBox from writing into an image: it mends the heads of those that other programs have made.

    :raise HypervisorError: nothing could keep it from that.
    """
    before = image.stat()
    with contextlib.suppress(OSError):  # not ours, so not ours to write either, or found out below
        image.chmod(stat.S_IMODE(before.st_mode) & 0o555)
    yield
    after = image.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise HypervisorError(
            f"VirtualBox has written into the image {image}, which other jobs use. Get it anew, and do not run jobs as "
            "root"
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
