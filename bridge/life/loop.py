"""The one loop: gather events from the neighbours, take a step in the table, perform the actions.

The loop decides nothing. What may follow what is in `tables`, how it ended in `decide`, who counts as lost in
`patience`; how a machine is run, how a share is watched and who hears the news is passed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from protocol.layout import Share
from protocol.messages import Finished, GuestState, Message, Status
from protocol.session import Garbled, Said

from ..errors import BridgeError, HostError
from ..guest.collect import collect, stderr_tail
from ..guest.watch import Watch
from ..hypervisors import Hypervisor, MachineState
from ..job import Job
from .accounting import Progress, account
from .decide import Facts, Outcome, decide
from .patience import BOOT, SILENCE, Limits, Patience
from .tables import JOB, MACHINE, Action, Actions, Event, Power, PowerEvent, State, step

logger = getLogger(__name__)

News = TypeVar("News")

LOOK_EVERY_S = 1.0
COMPLAINTS = 20
"""How many broken messages of a guest are told about; a hostile one could fill a disk with them."""

PAUSE_TOLD_AFTER_S = 5.0
"""A shorter pause is not worth a line: a client that limits the use of the processor pauses every second."""


class Audience(Protocol):
    """Who hears how the job goes: a person at a terminal, the BOINC client."""

    def runs_on(self, what: str) -> None:
        """This is what will run the machine, in the hypervisor's own words."""

    def state(self, state: State) -> None:
        """The job is in this state now."""

    def progress(self, progress: Progress) -> None:
        """This is how far it is; called for every change."""


@dataclass(frozen=True, slots=True)
class Limited:
    """How patient the loop is with a guest; None waits for ever, as for a person who plays it."""

    boot: Limits | None = BOOT
    silence: Limits | None = SILENCE


class TaskLife:
    """One job in one machine, from the first file staged to the last trace removed."""

    def __init__(
        self,
        job: Job,
        share: Share,
        scratch: Path,
        hypervisor: Hypervisor,
        stage: Callable[[], None],
        audience: Audience,
        limited: Limited,
        home: Callable[[Finished], None] = lambda finished: None,
    ) -> None:
        """`home` is called in a thread when the results are at their places for good, before the machine goes."""
        self._job = job
        self._share = share
        self._scratch = scratch
        self._hypervisor = hypervisor
        self._stage = stage
        self._audience = audience
        self._limited = limited
        self._home = home
        self._state = State.NEW
        self._power = Power.OFF
        self._events: asyncio.Queue[Event | PowerEvent] = asyncio.Queue()
        self._events.put_nowait(Event.BEGIN)
        self._facts = Facts()
        self._progress = Progress()
        self._patience: Patience | None = None
        self._watch: Watch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._paused_at = 0.0
        self._stood_still_s = 0.0
        self._pause_told = False
        self._complaints = 0
        self._unheard = False
        self.results: list[Path] = []

    @property
    def progress(self) -> Progress:
        """How far the job is, or was when it ended."""
        return self._progress

    async def run(self) -> Outcome:
        """Live the whole life; returns when the machine and every trace of it are gone.

        :raise BridgeError: the machine could not be removed.
        """
        try:
            while self._state is not State.ENDED:
                await self._take_step(await self._events.get())
        finally:
            await self._remove_machine()
        return decide(self._facts)

    def interrupt(self) -> None:
        """End the job as soon as possible, without a result."""
        self._facts.interrupted = True
        self._events.put_nowait(Event.TROUBLE)

    def hold(self) -> None:
        """Let the machine stand still, now or as soon as there is one, until `release`."""
        self._events.put_nowait(PowerEvent.HOLD)

    def release(self) -> None:
        """Let the machine run."""
        self._events.put_nowait(PowerEvent.RELEASE)

    async def _take_step(self, event: Event | PowerEvent) -> None:
        if isinstance(event, PowerEvent):
            await self._switch(event)
            return
        state, actions = step(JOB, self._state, event)
        if state is not self._state:
            logger.info("%s -> %s: %s", self._state.value, state.value, event.value)
            self._state = state
            self._tell(self._audience.state, state)
        await self._perform_all(actions)

    async def _switch(self, event: PowerEvent) -> None:
        self._power, actions = step(MACHINE, self._power, event)
        await self._perform_all(actions)

    async def _perform_all(self, actions: Actions) -> None:
        for action in actions:
            await self._perform(action)

    async def _perform(self, action: Action) -> None:
        act, done = self._ACTIONS[action]
        try:
            await act(self)
        except (BridgeError, OSError) as error:
            trouble = error if isinstance(error, BridgeError) else HostError(f"cannot {action.value}: {error}")
            self._facts.errors.append(trouble)
            if action is Action.REMOVE_MACHINE:
                raise trouble from error
            done = Event.TROUBLE
        if done is not None:
            self._events.put_nowait(done)

    # Actions

    async def _stage_in(self) -> None:
        self._tell(self._audience.runs_on, await self._hypervisor.probe())
        await asyncio.to_thread(self._stage)

    async def _start_machine(self) -> None:
        self._watch = Watch(self._share, self._hear)
        await self._hypervisor.start()
        self._waiting = asyncio.create_task(self._wait_for_machine())
        self._be_patient(self._limited.boot)
        self._watch.start()
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
        await self._switch(PowerEvent.STARTED)

    async def _collect(self) -> None:
        """Bring the results home, from a machine that has stopped: a running one could write on for ever."""
        assert self._watch is not None and self._waiting is not None
        self._see_machine()
        self._waiting.cancel()
        await self._hypervisor.stop()
        await self._switch(PowerEvent.STOPPED)
        door = self._watch.door
        self._facts.stderr = stderr_tail(door)
        places = {name: self._job.path(name) for name in self._job.results}
        self.results = await asyncio.to_thread(collect, door, places, self._scratch)
        if self._facts.finished is not None and self._facts.finished.code == 0:
            await asyncio.to_thread(self._home, self._facts.finished)
        self._facts.collected = True

    async def _remove_machine(self) -> None:
        self._see_machine()
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.stop()
        if self._waiting is not None:
            self._waiting.cancel()
        await self._hypervisor.remove()
        await self._switch(PowerEvent.STOPPED)

    async def _pause_machine(self) -> None:
        self._paused_at = asyncio.get_running_loop().time()
        await self._hypervisor.pause()

    async def _resume_machine(self) -> None:
        await self._hypervisor.resume()
        stood_still_s = asyncio.get_running_loop().time() - self._paused_at
        self._stood_still_s += stood_still_s
        if self._pause_told:
            logger.info("the machine runs again after %.0f seconds", stood_still_s)
            self._pause_told = False

    _ACTIONS: ClassVar[dict[Action, tuple[Callable[[TaskLife], Awaitable[None]], Event | None]]] = {
        Action.STAGE: (_stage_in, Event.STAGED),
        Action.START_MACHINE: (_start_machine, None),  # the guest's first word is the event
        Action.COLLECT: (_collect, Event.COLLECTED),
        Action.REMOVE_MACHINE: (_remove_machine, Event.REMOVED),
        Action.PAUSE_MACHINE: (_pause_machine, None),
        Action.RESUME_MACHINE: (_resume_machine, None),
    }

    # What the neighbours say

    def _hear(self, news: Said | Garbled) -> None:
        if isinstance(news, Garbled):
            self._complain(news)
            return
        self._be_patient(self._limited.silence)
        before, self._progress = self._progress, account(self._progress, news.message)
        if self._progress != before:
            self._tell(self._audience.progress, self._progress)
        if event := self._event_of(news.message):
            self._events.put_nowait(event)

    def _event_of(self, message: Message) -> Event | None:
        if isinstance(message, Finished):
            self._facts.finished = self._facts.finished or message
            return Event.FINISHED
        if isinstance(message, Status):
            if message.state is GuestState.ERROR:
                self._facts.guest_error = message.message or "it does not say why"
                return Event.TROUBLE
            if message.state is GuestState.BOOTING:
                return None
        return Event.UP

    def _complain(self, news: Garbled) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            more = "; no more of this is told" if self._complaints == COMPLAINTS else ""
            logger.warning("the guest's file %s is not taken: %s%s", news.kind, news.error, more)

    async def _wait_for_machine(self) -> None:
        try:
            self._facts.machine_gone = await self._hypervisor.wait()
            if self._watch is not None:
                self._watch.look()  # its last words may not have been read yet
        except BridgeError as error:
            self._facts.errors.append(error)
        self._events.put_nowait(Event.TROUBLE)

    def _tell(self, listener: Callable[[News], None], news: News) -> None:
        """Tell the audience, whose trouble (a terminal that is gone, a full disk behind it) is not the job's."""
        try:
            listener(news)
        except Exception as error:
            if not self._unheard:
                logger.warning("nobody can be told how the job goes: %r", error)
            self._unheard = True

    # Looking after the machine

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
        self._see_machine()
        if self._power is Power.PAUSED:
            self._tell_pause()
        elif self._patience is not None and self._facts.lost is None:
            self._miss(self._patience)

    def _miss(self, patience: Patience) -> None:
        if lost := patience.lost(cpu_s=self._progress.cpu_seconds, now=self._ran_s()):
            what = "never came up" if self._state is State.BOOTING else "is lost"
            self._facts.lost = f"the guest {what}: {lost}"
            self._events.put_nowait(Event.TROUBLE)

    def _tell_pause(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._pause_told and now - self._paused_at >= PAUSE_TOLD_AFTER_S:
            logger.info("the machine is paused: suspended by the client")
            self._pause_told = True

    def _ran_s(self) -> float:
        """The loop's clock without the time in which the machine stood still, in which no guest can be missed."""
        return asyncio.get_running_loop().time() - self._stood_still_s

    def _see_machine(self) -> None:
        condition = self._hypervisor.examine()
        if condition.state is MachineState.ABSENT:
            return
        self._facts.console = condition.console
        if condition.cpu_seconds != self._progress.cpu_seconds:
            self._progress = replace(self._progress, cpu_seconds=condition.cpu_seconds)
            self._tell(self._audience.progress, self._progress)

    def _be_patient(self, limits: Limits | None) -> None:
        cpu_s = self._progress.cpu_seconds
        self._patience = None if limits is None else Patience(limits, cpu_s=cpu_s, now=self._ran_s())
