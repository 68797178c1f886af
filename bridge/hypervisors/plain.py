"""Starts nothing: a person plays the guest with plain files in the share (docs/testers.md)."""

from __future__ import annotations

import asyncio

from . import Condition, MachineSpec, MachineState


class Plain:
    """A machine that is only a folder. It runs until it is stopped."""

    one_folder = True
    needs_image = False

    def __init__(self, spec: MachineSpec) -> None:
        self._share = spec.share
        self._state = MachineState.ABSENT
        self._stopped = asyncio.Event()

    async def probe(self) -> str:
        return f"nobody: play the guest in {self._share.guest}"

    async def start(self) -> None:
        if self._state is MachineState.ABSENT:
            self._state = MachineState.RUNNING

    async def pause(self) -> None:
        if self._state is MachineState.RUNNING:
            self._state = MachineState.PAUSED

    async def resume(self) -> None:
        if self._state is MachineState.PAUSED:
            self._state = MachineState.RUNNING

    async def wait(self) -> str:
        await self._stopped.wait()
        return "stopped"

    async def stop(self) -> None:
        if self._state is not MachineState.ABSENT:
            self._state = MachineState.GONE
        self._stopped.set()

    async def remove(self) -> None:
        await self.stop()
        self._state = MachineState.ABSENT

    def examine(self) -> Condition:
        return Condition(self._state)
