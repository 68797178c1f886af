"""The agent as an ordinary process of this host, without a machine: for development, with no isolation at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from protocol.layout import AGENT

from ..host.leftovers import end_leftovers
from ..host.program import Program
from ..host.tree import Tree, tree_of
from ..tail import Tail
from ..trees import remove_tree
from . import Condition, MachineSpec, MachineState
from .child import clean_environment

_LAST_WORDS_S = 0.5


WORK = "work"
"""The program's folder, which is this machine's disk."""


class Local:
    """Runs the agent in `directory/work`; pausing stops it with all that it has started."""

    one_folder = False
    needs_image = False

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._tree: Tree | None = None
        self._tail = Tail()
        self._state = MachineState.ABSENT

    async def probe(self) -> str:
        return "this host itself, without isolation"

    async def start(self) -> None:
        spec = self._spec
        if self._state is not MachineState.ABSENT:
            return
        await asyncio.to_thread(end_leftovers, spec.directory)
        spool = spec.directory / "spool"
        for left in (spec.directory / WORK, spool):
            remove_tree(left)  # by a bridge that was killed; a program goes on from what the host keeps of it
        if spec.before is not None:
            await asyncio.to_thread(shutil.copytree, spec.before / WORK, spec.directory / WORK, symlinks=True)
        spool.mkdir()
        folders = {"host": spec.share.host, "guest": spec.share.guest, "work": spec.directory / WORK, "spool": spool}
        options = [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]
        agent = Program(
            name="agent",
            argv=(str(spec.share.host / AGENT), *options),
            slot=spec.directory,
            cwd=Path.cwd(),
            env=tuple(f"{name}={value}" for name, value in clean_environment().items()),
        )
        read, write = os.pipe()
        try:
            self._tail = Tail()
            await asyncio.get_running_loop().connect_read_pipe(lambda: self._tail, os.fdopen(read, "rb", 0))
            self._tree = tree_of(agent, output=write)
            await self._tree.start()
        finally:
            os.close(write)
        self._state = MachineState.RUNNING

    async def pause(self) -> None:
        if self._state is MachineState.RUNNING and self._tree is not None:
            self._tree.suspend()
            self._state = MachineState.PAUSED

    async def resume(self) -> None:
        if self._state is MachineState.PAUSED and self._tree is not None:
            self._tree.resume()
            self._state = MachineState.RUNNING

    async def wait(self) -> str:
        assert self._tree is not None, "wait() before start()"
        status = await self._tree.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._tail.closed.wait(), _LAST_WORDS_S)
        return f"the agent ended with status {status}"

    async def stop(self) -> None:
        if self._tree is not None:
            await self._tree.end()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        for name in (WORK, "spool"):
            remove_tree(self._spec.directory / name)
        self._state = MachineState.ABSENT

    # Continues

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        for name in os.listdir(folder):
            if name != WORK:
                remove_tree(folder / name)

    def examine(self) -> Condition:
        running = self._tree is not None and self._tree.running
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not running else self._state
        return Condition(state, 0.0 if self._tree is None else self._tree.cpu_seconds(), self._tail.text)
