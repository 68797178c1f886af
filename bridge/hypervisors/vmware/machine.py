"""One machine under VMware: its process, and what `vmrun` is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from logging import getLogger
from pathlib import Path
from typing import ClassVar

import psutil

from protocol.files import write_atomic

from ...errors import CommandFailed, HostError, HypervisorError, ImageError, NotInstalled
from ...host.leftovers import end_leftovers
from ...host.program import Program
from ...host.tree import Tree, tree_of
from ...image import Image
from ...image.bare import BareDisk
from ...tail import end_of
from ...trees import remove_tree
from .. import SWITCHED_OFF, Condition, MachineSpec, MachineState, disk_too_large
from ..child import clean_environment, own_cpu, run_briefly
from ..foreign import gone_within, is_alive, kill
from . import delta
from .vmx import CONSOLE, DISK, LOG, VMX, disk_is_full, ended_in_order, exports, refusal, table, written

logger = getLogger(__name__)

_STARTED_WITHIN_S = 120.0
_SAID = "vmrun.txt"

_START = """exec 3>&1 >"$1" 2>&1
shift
"$@" 3>&-
status=$?
echo $status >&3
exec 3>&-
[ $status = 0 ] && exec sleep 2147483647
"""
"""vmrun starts the machine and ends; what stays is the program that its keeper waits for. The machine's own keeper is
what inherits it from vmrun, so it is ended with the rest when the bridge goes."""


class VMware:
    """A machine that ends when its keeper does, and that does when the bridge ends."""

    one_folder = False
    needs_image = True

    look_every_s: ClassVar[float] = 20.0
    """VMware tells no events: so often the machine's files are measured."""

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._vmx = spec.directory.resolve() / VMX
        self._state = MachineState.ABSENT
        self._tree: Tree | None = None
        self._process: psutil.Process | None = None
        self._is_ours = True
        self._cpu_seconds = 0.0
        self._stopped = False
        self._telling = asyncio.Lock()

    async def probe(self) -> str:
        image = self._spec.image
        assert image is not None
        if why := self.refuses(image):
            raise HypervisorError(f"VMware cannot boot the image: {why}. Choose another image or hypervisor")
        if why := refusal(self._spec):
            raise HypervisorError(why)
        await self._vmrun("list")
        return f"VMware ({_kind()}), by vmrun"

    # The verbs

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self.probe()
        await self._end_leftovers()
        self._cpu_seconds, self._process, self._tree, self._stopped = 0.0, None, None, False
        try:
            await asyncio.to_thread(self._make)
            await self._launch()
            self._state = MachineState.RUNNING
        except BaseException:
            await self._end()
            raise

    async def _end_leftovers(self) -> None:
        """End the machine of an earlier start in the same place, and forget all of it but its disk."""
        await asyncio.to_thread(end_leftovers, self._spec.directory)
        if (left := await asyncio.to_thread(_process_of, self._vmx)) is not None:
            await kill(left)
        kept = () if self._spec.hardware is None else (DISK,)
        for name in os.listdir(self._spec.directory):
            if name not in kept:
                remove_tree(self._spec.directory / name)

    def _make(self) -> None:
        spec = self._spec
        assert isinstance(spec.image, BareDisk)
        for _, folder, _ in exports(spec):  # a machine would start without
            if not folder.is_dir():
                raise HypervisorError(f"the folder {folder} is to be shared with the machine, and is not there")
        if not (spec.directory / DISK).exists():
            _make_disk(spec.image.work_disk.resolve(), spec.directory / DISK)
        write_atomic(self._vmx, written(table(spec)).encode(), durable=False)

    async def _launch(self) -> None:
        directory = self._spec.directory.resolve()
        said = directory / _SAID
        program = Program(
            name="vmrun",
            argv=("/bin/sh", "-c", _START, "sh", str(said), *_words("start", self._vmx, "nogui")),
            slot=directory,
            cwd=directory,
            env=tuple(f"{name}={value}" for name, value in clean_environment().items()),
        )
        answer = asyncio.StreamReader()
        read, write = os.pipe()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(answer), os.fdopen(read, "rb", 0)
        )
        try:
            try:
                self._tree = tree_of(program, output=write)
                await self._tree.start()
            finally:
                os.close(write)
            status = await asyncio.wait_for(answer.read(), _STARTED_WITHIN_S)
        except asyncio.TimeoutError:
            raise CommandFailed(f"vmrun has not started the machine in {_STARTED_WITHIN_S:g} seconds") from None
        finally:
            pipe.close()
        if status != b"0\n":
            raise _explained(end_of(said), end_of(directory / LOG))
        self._process = await asyncio.to_thread(_process_of, self._vmx)
        if self._process is None:
            raise CommandFailed("vmrun has started the machine, and it is not there")
        self._is_ours = await asyncio.to_thread(_descends_from_us, self._process)

    async def pause(self) -> None:
        await self._tell("pause", MachineState.RUNNING, MachineState.PAUSED)

    async def resume(self) -> None:
        await self._tell("unpause", MachineState.PAUSED, MachineState.RUNNING)

    async def _tell(self, verb: str, before: MachineState, after: MachineState) -> None:
        """Tell the machine something; one that has ended by itself is not told anything."""
        async with self._telling:
            if self._state is not before:
                return
            try:
                if self._runs:
                    await self._vmrun(verb, self._vmx)
            except CommandFailed:
                if self._runs:
                    raise
            self._state = after

    async def wait(self) -> str:
        assert self._process is not None, "wait() before start()"
        while not await gone_within(self._process, self.look_every_s):
            self._look()
        if self._stopped:
            return "the machine was ended"
        return SWITCHED_OFF if ended_in_order(self._log) else "VMware has ended the machine, and not in order"

    def _look(self) -> None:
        limit = self._spec.largest_file
        for name in (DISK, CONSOLE):
            with contextlib.suppress(FileNotFoundError):
                if limit is not None and (self._spec.directory / name).stat().st_size > limit:
                    raise disk_too_large(limit)
        if disk_is_full(self._log):
            raise HostError("the host cannot write the machine's disk: No space left on device")

    async def stop(self) -> None:
        await self._end()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        for name in os.listdir(self._spec.directory):  # VMware's names of its files are its own to choose
            remove_tree(self._spec.directory / name)
        self._state = MachineState.ABSENT

    async def _end(self) -> None:
        """End the machine, whether vmrun answers or not."""
        self.examine()
        if self._runs:
            self._stopped = True
            with contextlib.suppress(CommandFailed):
                await self._vmrun("stop", self._vmx, "hard")
        if self._process is not None:
            await kill(self._process)
        if self._tree is not None:
            await self._tree.end()

    def examine(self) -> Condition:
        runs = self._runs
        if runs and self._process is not None:
            self._cpu_seconds = max(self._cpu_seconds, own_cpu(self._process))
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not runs else self._state
        other_pid = self._process.pid if runs and self._process is not None and not self._is_ours else None
        return Condition(state, self._cpu_seconds, end_of(self._spec.directory / CONSOLE), other_pid)

    # Particular

    @staticmethod
    def refuses(image: Image | BareDisk) -> str | None:
        if image.arch != "x86_64":
            return f"it is for {image.arch}, and VMware boots x86_64"
        if isinstance(image, Image):
            return "it is a kernel with its own file system, and VMware starts disks only"
        if image.work_disk_format != "vmdk":
            return f"it is a disk of the format {image.work_disk_format}, and VMware starts vmdk only"
        return None

    @property
    def _runs(self) -> bool:
        return self._process is not None and is_alive(self._process)

    @property
    def _log(self) -> str:
        return end_of(self._spec.directory / LOG)

    async def _vmrun(self, *words: object) -> str:
        return await run_briefly(_words(*words))


def _words(*words: object) -> list[str]:
    from ..survey import program

    vmrun = program("vmrun")
    if sys.platform == "win32":
        raise HypervisorError("machines cannot be run by VMware on Windows yet. Choose qemu")
    if vmrun is None:
        from ..reasons import find

        raise NotInstalled(find("vmware-missing").sentence)
    return [str(vmrun), "-T", _kind(), *map(str, words)]


def _kind() -> str:
    """Return which of its products vmrun is to speak to."""
    if sys.platform == "darwin":
        return "fusion"
    return "player" if shutil.which("vmplayer") and not shutil.which("vmware") else "ws"


def _make_disk(image: Path, disk: Path) -> None:
    """Make the machine's disk over `image`; a disk that is there is whole."""
    try:
        with image.open("rb") as file:
            head = file.read(delta.HEAD_BYTES)
            at, size = delta.description_at(head)
            file.seek(at)
            length, parts = delta.delta(delta.parent(head, file.read(size)), str(image), disk.name)
    except ValueError as error:
        raise ImageError(f"image {image} {error}") from error
    new = disk.with_suffix(".new")
    with new.open("wb") as file:
        file.truncate(length)
        for at, part in parts:
            file.seek(at)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    new.replace(disk)


def _process_of(vmx: Path) -> psutil.Process | None:
    """Return the process that runs the machine of this file."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and Path(words[0]).name.startswith("vmware-vmx") and str(vmx) in words and is_alive(process):
            return process
    return None


def _descends_from_us(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return os.getpid() in (parent.pid for parent in process.parents())
    return False


def _explained(said: str, log: str) -> CommandFailed:
    """Return why the machine was not started, in the words of `vmbridge doctor` if it knows them."""
    from ..said import recognised

    finding = recognised(said) or recognised(log)
    known = "" if finding is None else f"{finding.sentence} "
    return CommandFailed(f"{known}vmrun failed at start: {said.strip()[-300:]}")
