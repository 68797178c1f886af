"""The way out of a job that goes on another time: first what can be kept is kept, of the machine or of its program."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from logging import getLogger

from protocol.messages import HostState, Status

from ..guest.command import Commands
from .decide import Facts
from .holding import Holding
from .program_state import ProgramState
from .saving import Saver
from .tables import Event

logger = getLogger(__name__)

LEAVE_WITHIN_S = 40.0
"""A last checkpoint may take so long; the client kills after 60 seconds."""


class Leaving:
    """A last checkpoint; where there can be none of the machine, one of the program."""

    def __init__(
        self,
        facts: Facts,
        commands: Commands,
        program: ProgramState | None,
        holding: Holding,
        post: Callable[[Event], None],
        program_is_kept: Callable[[], Awaitable[bool]],
    ) -> None:
        """`post` is given the event that is the end of it. `program_is_kept` brings home what the program has saved,
        and says whether there is any of that.
        """
        self._facts = facts
        self._commands = commands
        self._program = program
        self._holding = holding
        self._post = post
        self._program_is_kept = program_is_kept
        self._asked: int | None = None
        self._answering: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def asks(self) -> bool:
        """The guest has been asked to have the program save its state, and has not answered."""
        return self._asked is not None

    async def begin(self, saver: Saver | None) -> None:
        """Take a last checkpoint, also of a machine that the client holds: it must run for a moment."""
        if saver is None and self._program is None:
            self._end(kept=False)
            return
        await self._holding.wake(True)
        if saver is not None:
            saver.take_last()
        else:
            self._ask_program()
        self._timer = asyncio.get_running_loop().call_later(LEAVE_WITHIN_S, lambda: self._end(kept=False))

    def machine_is_kept(self, kept: bool) -> None:
        """The last checkpoint of the machine was taken, or cannot be: then the program is asked."""
        if kept:
            self._end(kept=True)
        else:
            self._ask_program()

    def hear(self, status: Status) -> None:
        """Take the guest's answer."""
        if self._asked is not None and self._asked in (status.ack, status.refused):
            self._answering = asyncio.create_task(self._take_answer(saved=self._asked == status.ack))
            self._asked = None

    async def stay(self) -> None:
        """Go on after all: nothing could be kept, and nobody has said that the job must end now."""
        logger.info("the machine cannot be kept for another time: the program rests in it")
        self._facts.postponed = self._asked = None
        self.stop()
        await self._holding.wake(False)

    def stop(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _ask_program(self) -> None:
        if self._program is None:
            self._end(kept=False)
            return
        try:
            self._asked = self._commands.give(HostState.SAVE)
        except OSError as error:
            logger.warning("the program cannot be asked to save its state: %s", error)
            self._end(kept=False)

    async def _take_answer(self, *, saved: bool) -> None:
        kept = await self._program_is_kept()
        self._end(kept=saved and kept)

    def _end(self, *, kept: bool) -> None:
        """All was done that could be to go on from here another time. Who leaves only for a rest of the program and
        would lose what it has done stays.
        """
        stays = not kept and self._facts.postponed is not None and not self._facts.interrupted
        self._post(Event.STAYS if stays else Event.LEFT)
