"""The agent as an ordinary process of this host, without a machine: for development, with no isolation at all."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from protocol.layout import AGENT

from ..trees import remove_tree
from . import Condition, MachineSpec, MachineState
from .child import Child, clean_environment

WORK = "work"
"""The program's folder, which is this machine's disk."""


class Local:
    """Runs the agent in `directory/work`; pausing stops its processes."""

    one_folder = False
    needs_image = False

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._child = Child("agent", has_descendants=True)
        self._state = MachineState.ABSENT

    async def probe(self) -> str:
        return "this host itself, without isolation"

    async def start(self) -> None:
        spec = self._spec
        if self._state is not MachineState.ABSENT:
            return
        spool = spec.directory / "spool"
        for left in (spec.directory / WORK, spool):
            remove_tree(left)  # by a bridge that was killed; a program goes on from what the host keeps of it
        if spec.before is not None:
            await asyncio.to_thread(shutil.copytree, spec.before / WORK, spec.directory / WORK, symlinks=True)
        spool.mkdir()
        folders = {"host": spec.share.host, "guest": spec.share.guest, "work": spec.directory / WORK, "spool": spool}
        options = [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]
        await self._child.start([str(spec.share.host / AGENT), *options], env=clean_environment())
        self._state = MachineState.RUNNING

    async def pause(self) -> None:
        if self._state is MachineState.RUNNING:
            self._child.signal(signal.SIGSTOP)
            self._state = MachineState.PAUSED

    async def resume(self) -> None:
        if self._state is MachineState.PAUSED:
            self._child.signal(signal.SIGCONT)
            self._state = MachineState.RUNNING

    async def wait(self) -> str:
        status = await self._child.wait()
        return f"the agent ended with status {status}"

    async def stop(self) -> None:
        await self._child.kill()
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE

    async def remove(self) -> None:
        await self.stop()
        for name in (WORK, "spool"):
            remove_tree(self._spec.directory / name)
        self._state = MachineState.ABSENT

    @staticmethod
    async def leave_disk(folder: Path) -> None:
        for name in os.listdir(folder):
            if name != WORK:
                remove_tree(folder / name)

    def examine(self) -> Condition:
        started = self._state in (MachineState.RUNNING, MachineState.PAUSED)
        state = MachineState.GONE if started and not self._child.running else self._state
        return Condition(state, self._child.cpu_seconds(), self._child.tail)
