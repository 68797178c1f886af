"""Take checkpoints of a machine while its job runs, by nothing but files between host and guest.

The guest is told to let go of the share, because a machine with a mounted share cannot be saved; when it has, the
machine is paused and QEMU is asked once more; then memory and disk are saved and recorded; then the machine goes on.
The guest comes back to the share by itself after 0.3 seconds of its own time, which stands still while it is saved. So
a guest that is back too early only makes the second look fail. Whatever fails, the machine runs on, and what was saved
before is as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from protocol.messages import HostState, Status

from ..errors import BridgeError
from ..guest.command import Commands
from ..hypervisors import Apart, Copies, Saves, Slow
from .accounting import Progress, at_checkpoint
from .checkpoints import Checkpoints, SavedState, Schedule
from .restoring import forget_strays
from .tables import CHECKPOINT, Action, Saving, SavingEvent, step

logger = getLogger(__name__)

ANSWER_WITHIN_S = 20.0
_UNMOUNTED_WITHIN_S = 2.0  # far longer than the guest needs, but its processor may be busy elsewhere
_LOOK_AGAIN_S = 0.005
LAST_TRIES = 3
"""So often a last checkpoint is tried, because a guest may come back to the share a moment too early."""


@dataclass(frozen=True, slots=True)
class GoingOn:
    """How a job is made to go on after its process has ended.

    A checkpoint is due every `period_s`. `room` says why there is none for it and so many bytes more, or None;
    `room_for` says the same of so many bytes alone. `lock` is a file that all machines of a project on this host lock
    while they are saved, so that they do not all write at once.
    """

    period_s: float
    room: Callable[[int], str | None]
    lock: Path | None = None
    room_for: Callable[[int], str | None] = lambda need: None


class NotNow(Exception):
    """No checkpoint can be taken at this moment; the text says why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the saver may do with the machine, and where it hears how far the job is."""

    hypervisor: Saves
    hold: Callable[[], Awaitable[None]]
    release: Callable[[], Awaitable[None]]
    progress: Callable[[], Progress]


class Saver:
    """The checkpoints of one machine. `clock` goes only while it runs; events are posted, and come back by `take`."""

    def __init__(
        self,
        machine: Machine,
        record: Checkpoints,
        commands: Commands,
        going_on: GoingOn,
        post: Callable[[SavingEvent], None],
        clock: Callable[[], float],
    ) -> None:
        self._machine = machine
        self._record = record
        self._commands = commands
        self._room = going_on.room
        self._lock = None if going_on.lock is None else FileLock(going_on.lock, timeout=0)
        self._post = post
        self._clock = clock
        self._schedule = Schedule(going_on.period_s, clock())
        self._state = Saving.IDLE
        self._task: asyncio.Task[None] | None = None
        self._status: Status | None = None
        self._heard = asyncio.Event()
        self._tries_left = 0

    @property
    def idle(self) -> bool:
        """No checkpoint is under way."""
        return self._state is Saving.IDLE

    @property
    def is_last(self) -> bool:
        """The checkpoint under way, or about to be, is one after which there may be none."""
        return self._tries_left > 0

    def look(self) -> None:
        """Begin a checkpoint if one is due."""
        if self.idle and self._schedule.due(self._clock()):
            self._post(SavingEvent.DUE)

    def take_last(self) -> None:
        """Take a checkpoint after which there may be none: whenever the one before was, waiting for no turn."""
        self._tries_left = LAST_TRIES
        self._post(SavingEvent.DUE)

    def hear(self, status: Status) -> None:
        """The guest has said how it is."""
        self._status = status
        self._heard.set()

    async def take(self, event: SavingEvent) -> bool:
        """Take a step; return whether a last checkpoint has come to its end with it. The machine of one that was taken
        is still held.
        """
        was = self._state
        self._state, actions = step(CHECKPOINT, self._state, event)
        if event is SavingEvent.STOPPED:
            await self._end()
        for action in actions:
            self._ACTIONS[action](self)
        if was is Saving.IDLE or self._state is not Saving.IDLE or not self.is_last:
            return False
        self._tries_left = self._tries_left - 1 if event is SavingEvent.FAILED else 0
        if self.is_last:
            self._post(SavingEvent.DUE)
        return not self.is_last

    # Actions

    def _prepare(self) -> None:
        self._task = asyncio.create_task(self._try(self._make_ready, SavingEvent.READY))

    def _save(self) -> None:
        self._task = asyncio.create_task(self._try(self._save_machine, SavingEvent.SAVED))

    def _go_on(self) -> None:
        self._unlock()
        try:
            self._commands.give(HostState.RUN)
        except OSError as error:
            logger.warning("the guest cannot be told to go on: %s", error)

    _ACTIONS: ClassVar[dict[Action, Callable[[Saver], None]]] = {
        Action.PREPARE: _prepare,
        Action.SAVE: _save,
        Action.GO_ON: _go_on,
    }

    async def _try(self, work: Callable[[], Awaitable[None]], done: SavingEvent) -> None:
        try:
            await work()
        except Exception as error:  # whatever it is, the machine runs on, and nobody must wait for this one's end
            self._schedule.failed(self._clock())
            why = error if isinstance(error, NotNow | BridgeError | OSError) else repr(error)
            logger.warning("no checkpoint this time: %s", why)
            self._post(SavingEvent.FAILED)
        else:
            self._post(done)

    async def _make_ready(self) -> None:
        """Have the guest let go of the share."""
        hypervisor = self._machine.hypervisor
        more = hypervisor.disk_bytes() if isinstance(hypervisor, Apart) else 0
        # In a thread: it counts the files of a guest, who may have made many.
        if reason := await asyncio.to_thread(self._room, more):
            raise NotNow(reason)
        if self._lock is not None:
            try:
                self._lock.acquire()
            except Timeout:
                if not self.is_last:
                    raise NotNow("another machine of this host is being saved") from None
            except (OSError, NotImplementedError) as error:
                logger.warning("no turns are taken with the other machines of this host: %s", error)
                self._lock = None
        seq = self._commands.give(HostState.PREPARE, hypervisor.away_s if isinstance(hypervisor, Slow) else None)
        try:
            await asyncio.wait_for(self._answer(seq), ANSWER_WITHIN_S)
        except asyncio.TimeoutError:
            raise NotNow(f"the guest has not answered in {ANSWER_WITHIN_S:g} seconds") from None
        await self._wait_for_share()

    async def _answer(self, seq: int) -> None:
        while True:
            if self._status is not None and self._status.ack == seq:
                return
            if self._status is not None and self._status.refused == seq:
                raise NotNow(f"the guest {self._status.message or 'holds the share'}")
            self._heard.clear()
            await self._heard.wait()

    async def _wait_for_share(self) -> None:
        """The guest has said that it lets go, and does so in the next milliseconds."""
        until = asyncio.get_running_loop().time() + _UNMOUNTED_WITHIN_S
        while held := await self._machine.hypervisor.held_back():
            if asyncio.get_running_loop().time() >= until:
                raise NotNow(held)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _save_machine(self) -> None:
        loop = asyncio.get_running_loop()
        hypervisor = self._machine.hypervisor
        copies = await self._copy_wanted()
        begun = loop.time()
        goes_on = True
        try:
            await self._machine.hold()
            if held := await hypervisor.held_back():
                raise NotNow(held)
            progress = at_checkpoint(self._machine.progress())
            tag, seq = self._record.next_tag(), self._commands.seq
            await hypervisor.save(tag)
            if copies is not None and not await self._copied(copies.copy(tag)):
                copies = None
            goes_on = not self.is_last  # what it would do now it would do for nothing, most often
        finally:
            if goes_on:
                await self._machine.release()
        stood_still_s = loop.time() - begun
        state = SavedState(tag, seq, progress)
        try:
            # The machine runs again, most often: a state that is not recorded yet is only one that was not saved yet.
            await asyncio.to_thread(self._record.add, state)
        except OSError:
            await self._machine.release()
            await forget_strays(hypervisor, self._record)  # it is the largest of them, and the disk may be full
            raise
        self._schedule.taken(self._clock(), stood_still_s)
        logger.info("checkpoint %s taken, the machine stood still for %.2f seconds", tag, stood_still_s)
        if copies is not None and await self._copied(self._keep_copy(copies, state)):
            logger.info("the machine's disk was copied, for when it breaks")
        await forget_strays(hypervisor, self._record)

    async def _keep_copy(self, copies: Copies, state: SavedState) -> None:
        await copies.sync_copy(state.tag)
        await asyncio.to_thread(self._record.copied, state)

    async def _copy_wanted(self) -> Copies | None:
        """Return what copies the disk with this checkpoint: from time to time, but never with a last one."""
        hypervisor = self._machine.hypervisor
        if self.is_last or not self._record.copy_due or not isinstance(hypervisor, Copies):
            return None
        if reason := await asyncio.to_thread(self._room, hypervisor.copy_bytes()):
            logger.info("the machine's disk is not copied: %s", reason)
            return None
        return hypervisor

    async def _copied(self, work: Awaitable[None]) -> bool:
        """Do a part of the copying. If it fails, the checkpoint is no worse for it."""
        try:
            await work
        except (BridgeError, OSError) as error:
            logger.warning("the machine's disk is not copied: %s", error)
            return False
        return True

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
            self._task = None
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
