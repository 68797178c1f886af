"""VirtualBox by VBoxManage, where its API is of no use to any Python here: a process for each word, and no events."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..child import NotEnded, run_briefly
from .control import SAVED_WITHIN_S
from .plan import Plan, environment, machine_name
from .service import find, hangs
from .words import making, state_in, tags_in

CALL_WITHIN_S = 60.0


class ByManage:
    """The `Control` of the machine in `directory`."""

    def __init__(self, directory: Path, within_s: float = CALL_WITHIN_S) -> None:
        self._directory = directory
        self._machine = machine_name(directory)
        self._within_s = within_s
        self.news = asyncio.Event()

    async def make(self, plan: Plan) -> None:
        for words in making(plan):
            await self._manage(*words)

    async def state(self) -> str:
        return state_in(await self._shown())

    async def now(self) -> str:
        return await self.state()

    async def pause(self) -> None:
        await self._manage("controlvm", self._machine, "pause")

    async def resume(self) -> None:
        await self._manage("controlvm", self._machine, "resume")

    async def tags(self) -> list[str]:
        return tags_in(await self._shown())

    async def take(self, tag: str) -> None:
        await self._snapshot("take", tag)

    async def forget(self, tag: str) -> None:
        await self._snapshot("delete", tag)

    async def go_back(self, tag: str) -> None:
        await self._snapshot("restore", tag)

    async def close(self) -> None:
        """Nothing is held."""

    async def _shown(self) -> str:
        return await self._manage("showvminfo", self._machine, "--machinereadable")

    async def _snapshot(self, *words: str) -> None:
        await manage(self._directory, "snapshot", self._machine, *words, within_s=max(self._within_s, SAVED_WITHIN_S))

    async def _manage(self, *words: str) -> str:
        return await manage(self._directory, *words, within_s=self._within_s)


async def manage(directory: Path, *words: str, within_s: float = CALL_WITHIN_S) -> str:
    """Have VBoxManage do something in the registry of the machine in `directory`; return what it said.

    :raise Hindered: there was no answer in this time: the service hangs.
    :raise CommandFailed: it failed.
    """
    try:
        return await run_briefly([find("VBoxManage"), "-q", *words], environment(directory), within_s)
    except NotEnded as error:
        raise hangs(str(error)) from error
