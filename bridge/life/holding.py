"""Let a machine stand still as long as there is a reason to, and keep the time that it really ran."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from logging import getLogger
from typing import Protocol

from .tables import MACHINE, Action, Power, PowerEvent, step

logger = getLogger(__name__)

TOLD_AFTER_S = 5.0
"""A shorter pause is not worth a line: a client that limits the use of the processor pauses every second."""

CLOCK_BEHIND_S = 2.0
"""A guest's clock stands still with its machine; when it is so far behind, the guest is told the time."""


class Hold(enum.Enum):
    """Why a machine must stand still."""

    CLIENT = "suspended by the client"
    SILENCE = "the client is silent"
    SAVING = "being saved"


_CAN_WAIT = {Hold.CLIENT, Hold.SILENCE}
"""Reasons that wait while the guest has something to do before it may end."""


class Pausable(Protocol):
    """The part of a hypervisor that is needed here."""

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...


class Holding:
    """The machine's power: paused while any reason holds it, running while none does.

    `clock` is any steady clock, in seconds; `behind` is called when the guest's clock has fallen behind.
    """

    def __init__(self, machine: Pausable, clock: Callable[[], float], behind: Callable[[], None]) -> None:
        self._machine = machine
        self._clock = clock
        self._behind = behind
        self._power = Power.OFF
        self._why: set[Hold] = set()
        self._awake = False
        # A checkpoint holds and releases beside the client: of two orders, the second waits for the first.
        self._one_at_a_time = asyncio.Lock()
        self._paused_at = 0.0
        self._stood_still_s = 0.0
        self._clock_behind_s = 0.0
        self._told = False

    @property
    def paused(self) -> bool:
        """There is a machine, and it stands still."""
        return self._power is Power.PAUSED

    def ran_s(self) -> float:
        """The clock without the time in which the machine stood still, in which no guest can be missed."""
        return self._clock() - self._stood_still_s

    async def hold(self, why: Hold, held: bool) -> None:
        """Add or take away a reason to stand still; the machine is paused or runs accordingly when this returns.

        :raise HypervisorError: it could not be paused or resumed.
        """
        async with self._one_at_a_time:
            before = self._held
            (self._why.add if held else self._why.discard)(why)
            await self._follow(before)

    async def wake(self, awake: bool) -> None:
        """Let the machine run although the client or its silence holds it, as long as `awake`; a checkpoint holds it.

        :raise HypervisorError: it could not be paused or resumed.
        """
        async with self._one_at_a_time:
            before = self._held
            self._awake = awake
            await self._follow(before)

    @property
    def _held(self) -> bool:
        return bool(self._why - _CAN_WAIT if self._awake else self._why)

    async def _follow(self, before: bool) -> None:
        if self._held != before:
            await self._switch(PowerEvent.HOLD if self._held else PowerEvent.RELEASE)

    async def started(self) -> None:
        """There is a machine now, and it runs."""
        async with self._one_at_a_time:
            await self._switch(PowerEvent.STARTED)

    async def stopped(self) -> None:
        """There is no machine any more."""
        async with self._one_at_a_time:
            await self._switch(PowerEvent.STOPPED)

    def tell(self) -> None:
        """Say in the log why the machine stands still, once it has for some time."""
        if self.paused and not self._told and self._clock() - self._paused_at >= TOLD_AFTER_S:
            logger.info("the machine is paused: %s", ", ".join(sorted(why.value for why in self._why)))
            self._told = True

    async def _switch(self, event: PowerEvent) -> None:
        self._power, actions = step(MACHINE, self._power, event)
        for action in actions:
            await (self._pause() if action is Action.PAUSE_MACHINE else self._resume())

    async def _pause(self) -> None:
        self._paused_at = self._clock()
        await self._machine.pause()

    async def _resume(self) -> None:
        await self._machine.resume()
        stood_still_s = self._clock() - self._paused_at
        self._stood_still_s += stood_still_s
        self._clock_behind_s += stood_still_s
        if self._told:
            logger.info("the machine runs again after %.0f seconds", stood_still_s)
            self._told = False
        if self._clock_behind_s >= CLOCK_BEHIND_S:
            self._clock_behind_s = 0.0
            self._behind()
