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
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
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
from .. import SWITCHED_OFF, Condition, MachineSpec, MachineState, disk_too_large, refuse_unwritable
from ..child import clean_environment
from ..facts import version_in
from ..foreign import tell
from ..letting_go import LettingGo
from ..processor import processor
from .api import ByApi, interpreter
from .box import Box, disks_left, leave_disks
from .control import Control
from .manage import ByManage, manage
from .plan import CONSOLE, box_of, check_of, environment, forgotten, machine_name, made, plan, refusal
from .service import end_service, find, has_registry

logger = getLogger(__name__)

_RUNS_WITHIN_S = 120.0
_RESTORED_WITHIN_S = 600.0
_ASK_EVERY_S = 0.1
_LAST_WORDS_S = 0.5
_BAD = ("Stuck", "Aborted", "AbortedSaved")


class VirtualBox:
    """A machine that ends when its keeper does, and that does when the bridge ends."""

    one_folder = False
    needs_image = True

    look_every_s: ClassVar[float] = 20.0
    """So often the machine's files are measured; and it is asked how it is, where nobody tells."""

    call_within_s: ClassVar[float] = 60.0

    away_s: float = 2.0
    """VBoxManage takes tenths of a second to pause a machine, and longer on a busy host."""

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._name = machine_name(spec.directory)
        self._state = MachineState.ABSENT
        self._box = Box(spec.directory)
        self._control: Control | None = None
        self._version = ""
        self._tree: Tree | None = None
        self._tail = Tail()
        self._telling = asyncio.Lock()
        self._letting_go = LettingGo(spec.share)

    async def probe(self) -> str:
        spec = self._spec
        assert spec.image is not None
        refuse_unwritable(spec)
        if why := refusal(spec.image):
            from ..reasons import find as reason  # only where there is something to be said

            raise reason("no-image", said=why).error()
        if spec.network:
            raise HypervisorError(
                "the job needs the network, and a machine under VirtualBox cannot have one that reaches nothing near. "
                "Choose qemu"
            )
        find("VBoxHeadless")
        self._version = version_in(await manage(spec.directory, "--version", within_s=self.call_within_s)) or ""
        found = await self._interpreter()
        return f"VirtualBox {self._version}, by {'VBoxManage' if found is None else f'its API ({found[1]})'}"

    # The verbs

    async def start(self) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self.probe()
        await asyncio.to_thread(self._end_leftovers)
        await asyncio.to_thread(self._clear)
        async with self._or_ended():
            await self._make()
            await self._launch(_RUNS_WITHIN_S)

    def _end_leftovers(self) -> None:
        """End what an earlier start in the same place has left."""
        end_leftovers(self._spec.directory)
        end_service(self._spec.directory)

    def _clear(self) -> None:
        """Delete what is to be made anew: all, but the disk of a machine that goes on with it, if it is whole."""
        directory = self._spec.directory
        goes_on = self._spec.hardware is not None and made(directory).exists()
        for file in forgotten(directory) if goes_on else (box_of(directory), directory / CONSOLE):
            remove_tree(file)

    @asynccontextmanager
    async def _or_ended(self) -> AsyncIterator[None]:
        """What is done here makes the machine run; if it fails, nothing is left running, and it may be tried again."""
        try:
            yield
            self._state = MachineState.RUNNING
        except BaseException:
            await self._end()
            raise

    async def _make(self) -> None:
        image, before = self._spec.image, self._spec.before
        assert image is not None and image.work_disk is not None
        left = () if before is None else await asyncio.to_thread(disks_left, before)
        control = await self._opened()
        with _unchanged(image.work_disk):
            await control.make(plan(self._spec, left))
        write_atomic(made(self._spec.directory), b"", durable=True)

    async def _interpreter(self) -> tuple[str, str] | None:
        return await interpreter(check_of(self._spec.directory))

    async def _opened(self) -> Control:
        """Return what VirtualBox is told by: its API, if any Python here can load it."""
        directory, within_s = self._spec.directory, self.call_within_s
        if self._control is None and (found := await self._interpreter()) is not None:
            api = ByApi(directory, found[0], within_s)
            try:
                await api.open()
                self._control = api
            except CommandFailed as error:
                logger.warning("VBoxManage is used instead: %s", error)
        if self._control is None:
            self._control = ByManage(directory, within_s)
        return self._control

    @property
    def _there(self) -> Control:
        if self._control is None:
            raise CommandFailed("the machine is not there")
        return self._control

    async def _launch(self, within_s: float) -> None:
        directory, control = self._spec.directory, self._there
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
        until = time.monotonic() + within_s
        while (state := await control.state()) not in ("Running", "Paused"):
            if not self._tree.running or state in _BAD or time.monotonic() >= until:
                await self._last_words()
                raise CommandFailed(f"VirtualBox failed at start ({state}): {self._tail.text.strip()[-600:]}")
            await asyncio.sleep(_ASK_EVERY_S)
        if state == "Paused":  # as it was when it was saved
            await control.resume()

    async def pause(self) -> None:
        await self._tell("pause", MachineState.RUNNING, MachineState.PAUSED)

    async def resume(self) -> None:
        await self._tell("resume", MachineState.PAUSED, MachineState.RUNNING)

    async def _tell(self, verb: str, before: MachineState, after: MachineState) -> None:
        async with self._telling:
            if self._state is before:
                await tell(lambda: self._runs, lambda: getattr(self._there, verb)())
                self._state = after

    async def wait(self) -> str:
        assert self._tree is not None, "wait() before start()"
        ended = asyncio.ensure_future(self._tree.wait())
        try:
            while not ended.done() and (control := self._control) is not None:
                news = asyncio.ensure_future(control.news.wait())
                await asyncio.wait((ended, news), timeout=self.look_every_s, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                control.news.clear()
                if not ended.done():
                    await self._look(control)
            await asyncio.wait((ended,))
        finally:
            ended.cancel()
        await self._last_words()
        status = ended.result()
        if status < 0:
            return f"VBoxHeadless was ended by signal {-status}"
        if status:
            return f"VBoxHeadless ended with status {status}"
        return SWITCHED_OFF

    async def _look(self, control: Control) -> None:
        """See whether the machine does what it should, and its files are no larger than they may be."""
        limit = self._spec.largest_file
        if limit is not None and max(self._box.largest(), _size(self._spec.directory / CONSOLE)) > limit:
            raise disk_too_large(limit)
        async with self._telling:
            if self._state is not MachineState.RUNNING or not self._runs:
                return
            try:
                state = await control.now()
                if state in ("Paused", *_BAD):  # or it was, before it was told to go on
                    state = await control.state()
            except CommandFailed:
                if self._runs:
                    raise
                return
            if state == "Paused":
                raise HostError("VirtualBox has paused the machine: the host cannot write its disk, most often")
            if state in _BAD:
                raise CommandFailed(f"VirtualBox says that the machine has failed ({state})")

    async def stop(self) -> None:
        await self._end()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        self._box.remove()
        for file in (self._spec.directory / CONSOLE, check_of(self._spec.directory)):
            remove_tree(file)
        self._state = MachineState.ABSENT

    async def _end(self) -> None:
        """End the machine and its service, which need not answer."""
        if self._tree is not None:
            await self._tree.end()
        control, self._control = self._control, None
        if control is not None:
            await control.close()
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

    # Continues

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        await asyncio.to_thread(leave_disks, folder)

    # Saves

    async def description(self) -> Mapping[str, str]:
        image = self._spec.image
        assert image is not None
        if not self._version:
            await self.probe()
        return {
            "hypervisor": "virtualbox",
            "version": ".".join(self._version.split(".")[:2]),
            "processor": processor(),
            "cpus": str(self._spec.cpus),
            "memory_mb": str(self._spec.memory_mb),
            "controller": plan(self._spec).controller,
            "image": image.digest,
        }

    async def held_back(self) -> str | None:
        return await asyncio.to_thread(self._letting_go.held_back)

    async def save(self, tag: str) -> None:
        async with self._telling:  # while VirtualBox saves, or deletes, it lets no machine be paused
            if tag in await self._there.tags():
                raise HypervisorError(f"there is a saved state {tag} already")
            await self._there.take(tag)
        await asyncio.to_thread(self._box.sync)

    def copy_bytes(self) -> int:
        return self._box.bytes()

    async def copy(self, tag: str) -> None:
        await self._box.copy(tag)

    async def sync_copy(self, tag: str) -> None:
        await self._box.sync_copy(tag)

    async def put_back(self, tag: str) -> None:
        await self._box.put_back(tag)

    async def forget_all_but(self, tags: Collection[str], copy: str | None = None) -> None:
        self._box.forget_copies(copy)
        async with self._telling:
            for tag in await self._there.tags():
                if tag not in tags:
                    await self._there.forget(tag)

    async def restore(self, tag: str) -> None:
        if self._state is not MachineState.ABSENT:
            return
        await self.probe()
        await asyncio.to_thread(self._end_leftovers)
        if not has_registry(self._spec.directory):
            raise HypervisorError(f"there is no saved state {tag}: nothing is left of the machine")
        await asyncio.to_thread(self._box.mend)
        async with self._or_ended():
            control = await self._opened()
            if tag not in await control.tags():
                raise HypervisorError(f"there is no saved state {tag}")
            await control.go_back(tag)
            await asyncio.to_thread(self._box.forget_strays)
            await self._launch(_RESTORED_WITHIN_S)

    @property
    def _runs(self) -> bool:
        return self._tree is not None and self._tree.running

    async def _last_words(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._tail.closed.wait(), _LAST_WORDS_S)


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
