"""One machine under VMware: what `vmrun` is told, and its saved states.

A state is saved by suspending the machine: then its memory lies in a file and its process has ended, and what lies
there is kept. The machine goes on from it by a new process, as it does when it is restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Coroutine, Mapping
from logging import getLogger
from pathlib import Path
from typing import ClassVar

from protocol.files import write_atomic

from ...errors import BridgeError, CommandFailed, HostError, HypervisorError
from ...host.leftovers import end_leftovers
from ...image import Image
from ...image.bare import BareDisk
from ...tail import end_of
from ...trees import remove_tree
from .. import SWITCHED_OFF, Condition, MachineSpec, MachineState, disk_too_large, refuse_unwritable
from ..foreign import gone_within, kill, tell
from ..letting_go import LettingGo
from ..processor import processor
from . import disk, process, vmrun
from .states import States
from .vmx import (
    CONSOLE,
    DISK,
    FOLDER,
    LOG,
    VMX,
    changed,
    devices,
    disk_is_full,
    ended_in_order,
    exports,
    going_on,
    refusal,
    saved_in,
    table,
    written,
)

logger = getLogger(__name__)

_SUSPENDED_WITHIN_S = 600.0
_ENDS_WITHIN_S = 60.0
_ENDS_WITHIN_AFTER_FAILURE_S = 2.0
_SAYS_SO_WITHIN_S = 10.0
"""The machine stands still meanwhile. One that ends later counts as failed, and is restored."""


class VMware:
    """A machine that ends when its keeper does, and that does when the bridge ends."""

    one_folder = False
    needs_image = True

    look_every_s: ClassVar[float] = 20.0
    """VMware tells no events: so often the machine's files are measured."""

    away_s: float = 2.0
    """vmrun takes tenths of a second, and longer on a busy host."""

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._folder = spec.directory.resolve() / FOLDER
        self._vmx = self._folder / VMX
        self._states = States(self._folder)
        self._letting_go = LettingGo(spec.share)
        self._state = MachineState.ABSENT
        self._run: process.Run | None = None
        self._cpu_before = 0.0
        self._stopped = False
        self._is_wanted = True
        self._saving = False
        self._memory: Path | None = None
        """Where it lies, of a machine that is suspended."""
        self._awake = asyncio.Event()
        self._failure: BridgeError | None = None
        self._telling = asyncio.Lock()

    async def probe(self) -> str:
        image = self._spec.image
        assert image is not None
        refuse_unwritable(self._spec)
        if why := self.refuses(image):
            raise HypervisorError(f"VMware cannot boot the image: {why}. Choose another image or hypervisor")
        if why := refusal(self._spec):
            raise HypervisorError(why)
        await vmrun.call("list")
        return f"VMware ({vmrun.kind()}), by vmrun"

    # The verbs

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self.probe()
        await self._clear(() if not isinstance(self._spec.image, BareDisk) else (DISK,))
        await self._begin(self._make)

    def _make(self) -> None:
        if not (self._folder / DISK).exists():
            assert self._spec.image is not None
            disk.make(self._spec.image, self._spec.before, self._folder / DISK)
        write_atomic(self._vmx, written(table(self._spec)).encode(), durable=False)

    async def restore(self, tag: str) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self.probe()
        await self._clear(self._states.names())
        await self._begin(lambda: self._go_on_from(self._states.put_back(tag)))

    def _go_on_from(self, memory: Path) -> None:
        is_kept = memory.parent != self._folder
        if is_kept:
            self._states.forget_memory()
        text = self._vmx.read_text("utf-8", "surrogateescape")
        entries = going_on(self._spec, str(memory.relative_to(self._folder)), stays=is_kept)
        write_atomic(self._vmx, changed(text, entries).encode("utf-8", "surrogateescape"), durable=False)

    async def _clear(self, kept: Collection[str]) -> None:
        """End the machine of an earlier start in the same place, and forget all of it but what is `kept`."""
        await asyncio.to_thread(end_leftovers, self._folder)
        if (left := await asyncio.to_thread(process.process_of, self._vmx)) is not None:
            await kill(left)
        self._folder.mkdir(exist_ok=True)
        for name in os.listdir(self._folder):
            if name not in kept:
                remove_tree(self._folder / name)

    async def _begin(self, make_ready: Callable[[], None]) -> None:
        self._run, self._cpu_before, self._failure = None, 0.0, None
        self._stopped, self._is_wanted = False, True
        await asyncio.to_thread(self._see_folders)
        await asyncio.to_thread(make_ready)
        await self._launch()
        self._state = MachineState.RUNNING

    def _see_folders(self) -> None:
        for _, folder, _ in exports(self._spec):  # a machine would start without
            if not folder.is_dir():
                raise HypervisorError(f"the folder {folder} is to be shared with the machine, and is not there")

    async def _launch(self) -> None:
        (self._folder / LOG).unlink(missing_ok=True)  # its end is to be that of this run
        run = await process.start(self._vmx, vmrun.words("start", self._vmx, "nogui"))
        self._cpu_before += 0.0 if self._run is None else self._run.cpu_seconds()
        self._run = run

    async def pause(self) -> None:
        async with self._telling:
            if self._state is MachineState.RUNNING:
                await tell(lambda: self._runs, lambda: vmrun.call("pause", self._vmx))
                self._state = MachineState.PAUSED

    async def resume(self) -> None:
        async with self._telling:
            if self._state is not MachineState.PAUSED:
                return
            if self._memory is not None:
                await self._wake(self._memory)
            else:
                await tell(lambda: self._runs, lambda: vmrun.call("unpause", self._vmx))
            self._state = MachineState.RUNNING

    async def wait(self) -> str:
        assert self._run is not None, "wait() before start()"
        while True:
            run = self._run
            while not await gone_within(run.process, self.look_every_s):
                self._look()
            async with self._telling:  # who suspends it and lets it go on
                suspended = self._memory is not None
            if suspended:
                await self._awake.wait()
            elif self._failure is not None and not self._stopped:
                raise self._failure
            elif run is self._run:
                return self._reason()

    def _look(self) -> None:
        limit = self._spec.largest_file
        for name in (DISK, CONSOLE):
            with contextlib.suppress(FileNotFoundError):
                if limit is not None and (self._folder / name).stat().st_size > limit:
                    raise disk_too_large(limit)
        if disk_is_full(self._log):
            raise HostError("the host cannot write the machine's disk: No space left on device")

    def _reason(self) -> str:
        if self._stopped:
            return "the machine was ended"
        if self._suspended_to() is not None:
            return "somebody has suspended the machine"
        return SWITCHED_OFF if ended_in_order(self._log) else "VMware has ended the machine, and not in order"

    async def stop(self) -> None:
        await self._end()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        remove_tree(self._folder)
        self._state = MachineState.ABSENT

    async def _end(self) -> None:
        """End the machine, whether vmrun answers or not."""
        self._is_wanted = False
        self._stopped = self._stopped or self._runs or self._memory is not None
        if self._runs:
            with contextlib.suppress(CommandFailed):
                await vmrun.call("stop", self._vmx, "hard")
        if self._run is not None:
            await self._run.end()
        async with self._telling:  # who saves it has noticed; who wakes it may have been faster
            self._memory = None
            self._awake.set()
            if self._run is not None:
                await self._run.end()

    def examine(self) -> Condition:
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        is_there = self._runs or self._saving or self._memory is not None
        state = MachineState.GONE if started and not is_there else self._state
        cpu_seconds = self._cpu_before + (0.0 if self._run is None else self._run.cpu_seconds())
        other_pid = self._run.other_pid if self._run is not None and self._runs else None
        return Condition(state, cpu_seconds, end_of(self._folder / CONSOLE), other_pid)

    @property
    def _runs(self) -> bool:
        return self._run is not None and self._run.alive

    @property
    def _log(self) -> str:
        return end_of(self._folder / LOG)

    # Particular

    @staticmethod
    def refuses(image: Image | BareDisk) -> str | None:
        if image.arch != "x86_64":
            return f"it is for {image.arch}, and VMware boots x86_64"
        if isinstance(image, Image) and image.boot_cd is None:
            return "it has no CD to boot from, and VMware starts no kernel directly (vmbridge image build --boot-cd)"
        if image.work_disk is None or image.work_disk_format != "vmdk":
            return f"its disk is of the format {image.work_disk_format}, and VMware starts vmdk only"
        return None

    # Continues

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        await asyncio.to_thread(disk.leave, folder)

    # Saves

    async def description(self) -> Mapping[str, str]:
        image = self._spec.image
        assert image is not None
        return {
            "hypervisor": "vmware",
            "product": vmrun.kind(),
            "version": await vmrun.version(),
            "cpu": processor(),
            "cpus": str(self._spec.cpus),
            "memory_mb": str(self._spec.memory_mb),
            "devices": devices(self._spec),
            "image": image.digest,
        }

    async def held_back(self) -> str | None:
        return await asyncio.to_thread(self._letting_go.held_back)

    async def save(self, tag: str) -> None:
        async with self._telling:
            if self._state is not MachineState.PAUSED:
                raise CommandFailed("only a paused machine can be saved")
            self._saving = True
            try:
                await self._save(tag)
            finally:
                self._saving = False

    async def _save(self, tag: str) -> None:
        before = self._memory or await self._suspend()
        self._memory = before
        try:
            self._memory = await asyncio.to_thread(self._states.keep, tag, before, lambda: self._is_wanted)
        except OSError as error:
            raise CommandFailed(f"the machine's state cannot be kept: {error}") from error

    async def _suspend(self) -> Path:
        """Suspend the machine, and return where its memory lies. What has become of it is what its process and its
        files say, whatever vmrun does.

        :raise CommandFailed: it is not suspended.
        """
        assert self._run is not None
        self._run.cpu_seconds()  # nobody can ask when it has ended
        failure, within_s = CommandFailed("vmrun has suspended the machine, and it is not suspended"), _ENDS_WITHIN_S
        try:
            await self._while_it_is_there(vmrun.call("suspend", self._vmx, "hard", within_s=_SUSPENDED_WITHIN_S))
        except CommandFailed as error:
            failure, within_s = error, _ENDS_WITHIN_AFTER_FAILURE_S
        if not await gone_within(self._run.process, within_s):
            raise failure
        await self._run.end()
        if (memory := self._suspended_to()) is None:
            self._failure = failure
            raise failure
        self._awake.clear()
        return memory

    async def _while_it_is_there(self, call: Coroutine[None, None, str]) -> None:
        """Wait for vmrun, which may hang; but not for long when the machine's process has gone: who ends it waits too.

        :raise CommandFailed: it failed, or has not ended in time.
        """
        assert self._run is not None
        called = asyncio.ensure_future(call)
        gone = asyncio.ensure_future(gone_within(self._run.process, _SUSPENDED_WITHIN_S))
        try:
            await asyncio.wait((called, gone), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait_for(called, _SAYS_SO_WITHIN_S)
        except asyncio.TimeoutError:
            raise CommandFailed("the machine is gone, and vmrun, which was to suspend it, has not ended") from None
        finally:
            called.cancel()
            gone.cancel()

    def _suspended_to(self) -> Path | None:
        """Return the file in the machine's own folder into which VMware has written its memory."""
        with contextlib.suppress(OSError):
            named = saved_in(self._vmx.read_text("utf-8", "surrogateescape"))
            if named is not None and (file := self._folder / Path(named).name).is_file():
                return file
        return None

    async def _wake(self, memory: Path) -> None:
        """Let a machine that is suspended go on, by a new process. If that fails it has ended, and `wait` says why."""
        try:
            await asyncio.to_thread(self._go_on_from, memory)
            await self._launch()
        except BridgeError as error:
            self._failure = error
        except OSError as error:
            self._failure = HostError(f"the machine cannot go on: {error}")
        self._memory = None
        self._awake.set()

    async def forget_all_but(self, tags: Collection[str], copy: str | None = None) -> None:
        await asyncio.to_thread(self._states.forget_all_but, tags)

    # Apart

    def disk_bytes(self) -> int:
        return self._states.bytes()
