"""The one loop: gather events from the neighbours, take a step in the table, perform the actions.

The loop decides nothing. What may follow what is in `tables`, how it ended in `decide`, who counts as lost in
`patience`; how a machine is run, how a share is watched and who hears the news is passed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import ClassVar

from protocol.layout import Share
from protocol.messages import Finished, GuestState, HostState, Message, Status, TemporaryExit
from protocol.session import Garbled, Said

from ..beat import next_beat
from ..errors import BridgeError, HostError
from ..guest.collect import collect, stderr_tail
from ..guest.command import Commands
from ..guest.said import Postponed
from ..guest.watch import News as GuestNews
from ..guest.watch import Watch
from ..guest.way import AgentsWay, Way
from ..hypervisors import SWITCHED_OFF, Hypervisor, MachineState, Networked, Saves
from ..job import MachineTask
from .accounting import UNSPENT, Progress, Spent, account, begun_anew, begun_from, gone_back, safe_at
from .audience import Audience, Told
from .checkpoints import Checkpoints, SavedState, any_recorded, note_spent, read_spent
from .decide import End, Facts, Outcome, decide, machine_failed, may_go_on
from .forwarding import Forwarding, Keeping, Nobody, Project, read_record
from .holding import Hold, Holding
from .leaving import Leaving
from .patience import BOOT, HUNG_S, SILENCE, Idleness, Limits, Patience
from .program_state import ProgramState, SavedFiles, any_saved
from .resting import Resting
from .restoring import restore
from .saving import GoingOn, Machine, Saver
from .tables import JOB, Action, Actions, Event, SavingEvent, State, step

logger = getLogger(__name__)

LOOK_EVERY_S = 1.0
COMPLAINTS = 20
"""How many broken messages of a guest are told about; a hostile one could fill a disk with them."""

SPENT_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Limited:
    """How patient the loop is with a guest; None waits for ever, as for a person who plays it."""

    boot: Limits | None = BOOT
    silence: Limits | None = SILENCE
    hung_s: float | None = HUNG_S


@dataclass(frozen=True, slots=True)
class Cable:
    """The machine's network cable shall be plugged in, or not."""

    connected: bool


class TaskLife:
    """One job in one machine, from the first file staged to the last trace removed."""

    def __init__(
        self,
        job: MachineTask,
        share: Share,
        scratch: Path,
        hypervisor: Hypervisor,
        stage: Callable[[int, Mapping[str, Path]], None],
        audience: Audience,
        limited: Limited,
        home: Callable[[Finished], None] = lambda finished: None,
        going_on: GoingOn | None = None,
        project: Project | None = None,
        spent: Spent = UNSPENT,
        leaves_disk: bool = False,
        way: Way | None = None,
    ) -> None:
        """`stage` is given the number of the command that it shall write, and what the program has saved: inputs, too.
        `home` is called in a thread when the results are at their places for good, before the machine goes. With
        `going_on`, checkpoints of the machine are taken where the hypervisor can, and what the program saves is kept;
        the job begins at the last one, and `kept` says that the next life may too. Trickles and uploads go to
        `project`. `spent` is the CPU time before this life, where nothing better is known. With `leaves_disk`, a later
        task goes on with the machine's disk: after a success that is kept. `way` is how the guest speaks; None is that
        of our agent.
        """
        self._job = job
        self._way = way or AgentsWay(asyncio.get_running_loop().time)
        self._share = share
        self._scratch = scratch
        self._hypervisor = hypervisor
        self._stage = stage
        self._limited = limited
        self._home = home
        self._going_on = going_on
        self._project = project or Nobody()
        self._forwarding: Forwarding | None = None
        self._state = State.NEW
        self._holding = Holding(hypervisor, asyncio.get_running_loop().time, self._tell_time)
        self._events: asyncio.Queue[Event | SavingEvent | Cable | tuple[Hold, bool]] = asyncio.Queue()
        self._events.put_nowait(Event.BEGIN)
        self._facts = Facts()
        self._told = Told(audience, Progress())
        self._patience: Patience | None = None
        self._idleness = Idleness(limited.hung_s)
        self._watch: Watch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._record: Checkpoints | None = None
        self._saver: Saver | None = None
        self._program: ProgramState | None = None
        if going_on is not None and job.checkpoint_files:
            self._program = ProgramState(scratch, job.checkpoint_files, going_on.room_for)
        self._program_has_saved = False  # told once: a program may save its state all the time
        self._commands = Commands(share, 0)
        self._leaving = Leaving(
            self._facts, self._commands, self._program, self._holding, self._events.put_nowait, self._program_is_kept
        )
        self._resting = Resting()
        self._spent = self._spent_before = spent
        self._leaves_disk = leaves_disk
        self._ran_before_s = 0.0
        self._spent_told = 0.0
        self._silent = False
        self._complaints = 0
        self._guest_said: str | None = None
        self.results: list[Path] = []
        self.kept = False

    @property
    def progress(self) -> Progress:
        """How far the job is, or was when it ended."""
        return self._told.now

    @property
    def other_pid(self) -> int | None:
        """The machine's process, where it does not descend from this one."""
        return self._hypervisor.examine().other_pid

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

    # What may be asked of a life

    def quit(self) -> None:
        """End the job soon; where that can be, it goes on from here another time."""
        self._facts.interrupted = True
        self._events.put_nowait(Event.QUIT)

    def abort(self) -> None:
        """End the job at once; nobody wants it any more."""
        self._facts.aborted = True
        self._events.put_nowait(Event.TROUBLE)

    def hold(self) -> None:
        """Let the machine stand still, now or as soon as there is one, until `release`."""
        self._events.put_nowait((Hold.CLIENT, True))

    def release(self) -> None:
        """Let the machine run."""
        self._events.put_nowait((Hold.CLIENT, False))

    def fear(self) -> None:
        """The client is silent and may end us without a word: save the machine, then let it stand still.

        A life that is ending does that anyway, and its guest must run to let go of the share.
        """
        if self._facts.interrupted:
            return
        self._silent = True
        if self._saver is not None and self._state is State.RUNNING:
            self._saver.take_last()
        else:
            self._events.put_nowait((Hold.SILENCE, True))

    def hope(self) -> None:
        """The client speaks again."""
        self._silent = False
        self._events.put_nowait((Hold.SILENCE, False))

    def fail(self, error: BridgeError) -> None:
        """End the job because of `error`, if its machine still works; what has its results is not in need of this."""
        if self._state in (State.BOOTING, State.RUNNING):
            self._facts.errors.append(error)
            self._events.put_nowait(Event.TROUBLE)

    def connect(self, connected: bool) -> None:
        """Let the machine have its network, or not, now and from its start on. One without a card never has any."""
        self._events.put_nowait(Cable(connected))

    # Steps

    async def _take_step(self, event: Event | SavingEvent | Cable | tuple[Hold, bool]) -> None:
        match event:
            case Event():
                await self._take_job_step(event)
            case SavingEvent():
                await self._take_saving_step(event)
            case Cable(connected):
                if isinstance(self._hypervisor, Networked):
                    await self._watch_for_trouble("connect the machine", self._hypervisor.connect(connected))
            case (why, held):
                await self._watch_for_trouble("hold the machine", self._holding.hold(why, held))

    async def _take_saving_step(self, event: SavingEvent) -> None:
        if self._saver is None or self._record is None:
            return
        if event is SavingEvent.DUE and self._saver.is_last:
            # A machine that the client holds must run for a moment, or its guest cannot let go of the share.
            await self._watch_for_trouble("wake the machine", self._holding.wake(True))
        last = await self._saver.take(event)
        if event is SavingEvent.SAVED:
            self._told.progress(safe_at(self._told.now, self._record.states[0].progress))
        if last and self._silent:
            self._events.put_nowait((Hold.SILENCE, True))
        if last and self._state is not State.LEAVING:
            self._events.put_nowait((Hold.SAVING, False))
            await self._watch_for_trouble("let the machine rest", self._holding.wake(False))
        if last and self._state is State.LEAVING:
            self._leaving.machine_is_kept(event is SavingEvent.SAVED)

    async def _take_job_step(self, event: Event) -> None:
        state, actions = step(JOB, self._state, event)
        if self._state is State.LEAVING and state is State.RUNNING:
            await self._stay()
        if self._record is not None and self._state is State.BOOTING and event in (Event.UP, Event.QUIT):
            self._record.works()
        if state is not self._state:
            logger.info("%s -> %s: %s", self._state.value, state.value, event.value)
            self._state = state
            self._told.state(state)
        await self._perform_all(actions)

    async def _perform_all(self, actions: Actions) -> None:
        for action in actions:
            act, done = self._ACTIONS[action]
            await self._watch_for_trouble(action.value, act(self), done)

    async def _watch_for_trouble(self, doing: str, work: Awaitable[None], done: Event | None = None) -> None:
        """Do something, and post `done`; if it fails that is a fact, and trouble for the job.

        :raise BridgeError: the machine could not be removed.
        """
        try:
            await work
        except (BridgeError, OSError) as error:
            trouble = error if isinstance(error, BridgeError) else HostError(f"cannot {doing}: {error}")
            self._facts.errors.append(trouble)
            if doing == Action.REMOVE_MACHINE.value:
                raise trouble from error
            done = Event.TROUBLE
        if done is not None:
            self._events.put_nowait(done)

    # Actions

    async def _stage_in(self) -> None:
        self._told.runs_on(await self._hypervisor.probe())
        if self._going_on is not None:
            self._spent_before = self._spent.at_least(read_spent(self._scratch))
        if self._program is not None:
            await asyncio.to_thread(self._program.find)
        if (saved := self._saved_files()) is not None:
            self._spent_before = self._spent_before.at_least(saved.progress.spent)
        if self._going_on is not None and self._way.obeys and isinstance(self._hypervisor, Saves):
            self._record = Checkpoints(self._scratch, await self._hypervisor.description())
            self._spent_before = self._spent_before.at_least(self._record.spent())
        self._told.now = begun_anew(self._spent_before)
        # A guest that is restored has obeyed all that was said to it before.
        self._commands.seq = 1 + max((state.seq for state in self._states()), default=0)
        await asyncio.to_thread(self._stage, self._commands.seq, {} if saved is None else saved.files)

    def _saved_files(self) -> SavedFiles | None:
        return None if self._program is None else self._program.newest

    def _states(self) -> list[SavedState]:
        return [] if self._record is None else self._record.known

    async def _start_machine(self) -> None:
        self._watch = Watch(self._share, self._hear, self._way.words(self._holding.ran_s))
        restored = await self._restore()
        if not restored:
            self._begin_anew()
            await self._hypervisor.start()
        self._ran_before_s = self._told.now.run_seconds - self._holding.ran_s()
        await self._begin_forwarding(anew=self._way.obeys and not restored)
        if self._record is not None and self._going_on is not None and isinstance(self._hypervisor, Saves):
            machine = Machine(
                self._hypervisor,
                hold=lambda: self._holding.hold(Hold.SAVING, True),
                release=lambda: self._holding.hold(Hold.SAVING, False),
                progress=self._progress_now,
            )
            self._saver = Saver(
                machine, self._record, self._commands, self._going_on, self._events.put_nowait, self._holding.ran_s
            )
        self._waiting = asyncio.create_task(self._wait_for_machine())
        self._be_patient(self._limited.boot)
        self._watch.start()
        self._look_later()
        await self._holding.started()

    async def _begin_forwarding(self, *, anew: bool) -> None:
        places = {name: self._job.path(name) for name in self._job.results}
        clock = asyncio.get_running_loop().time
        keeping = None
        if self._program is not None and self._going_on is not None:
            # Half the period, so that none of a program that keeps to it has to wait.
            keeping = Keeping(self._program, self._going_on.period_s / 2, self._progress_now, self._kept_state)
        before = read_record(self._scratch)
        asked = [] if before is None else [upload.name for upload in before.uploads]
        letters = self._way.letters(self._share, self._scratch, self._holding.ran_s, asked)
        self._forwarding = Forwarding(letters, self._scratch, places, self._project, clock, keeping)
        await self._forwarding.begin(anew=anew, halfway=self._saved_files() is not None)

    async def _restore(self) -> bool:
        """Start the machine from its newest state that can be restored; say whether there was one.

        :raise HypervisorError: none can be restored now.
        """
        if self._record is None or not isinstance(self._hypervisor, Saves):
            return False
        state = await restore(self._hypervisor, self._record)
        if state is not None:
            self._told.progress(gone_back(state.progress, self._spent_before))
        return state is not None

    def _begin_anew(self) -> None:
        """Say where a machine begins that is not restored: with what the program has saved itself, or with nothing."""
        if (saved := self._saved_files()) is not None:
            self._told.progress(begun_from(saved.progress, self._spent_before))
            done = saved.progress.fraction_done
            how_far = "nothing said" if done is None else f"{done:.1%}"
            logger.info("a new machine: the program goes on from what it has saved itself, %s done", how_far)
        elif not self._way.obeys:
            self._told.now = replace(self._told.now, run_seconds=self._spent_before.run_s)
            logger.info(
                "the guest keeps its share mounted, so its machine cannot be saved while it runs: when the job is "
                "interrupted, the machine is switched off, and starts again with its disk and its share as they are"
            )
        elif self._spent_before != self._spent:
            logger.info("nothing to restore from: the job begins anew")

    def _kept_state(self, progress: Progress) -> None:
        """What the program has saved is safe, which makes that moment a checkpoint like one of the machine's."""
        if not self._program_has_saved:
            logger.info("what the program has saved itself is kept")
        self._program_has_saved = True
        self._told.progress(safe_at(self._told.now, progress))

    async def _leave(self) -> None:
        self._silent = False
        await self._leaving.begin(self._saver)

    async def _stay(self) -> None:
        self._resting.stay(asyncio.get_running_loop().time())
        await self._watch_for_trouble("let the machine rest", self._leaving.stay())
        if self._saver is None or self._saver.idle:  # a last checkpoint may have been taken a moment too late
            self._events.put_nowait((Hold.SAVING, False))

    async def _program_is_kept(self) -> bool:
        if self._forwarding is not None:
            await self._forwarding.catch_up()
        return self._any_saved()

    async def _collect(self) -> None:
        """Bring the results home, from a machine that has stopped: a running one could write on for ever."""
        assert self._watch is not None and self._waiting is not None and self._forwarding is not None
        self._see_machine()
        self._waiting.cancel()
        await self._hypervisor.stop()
        await self._machine_has_stopped()
        door = self._watch.door
        self._facts.stderr = stderr_tail(door)
        await self._forwarding.last()
        brought = self._forwarding.brought  # and the client may be uploading them
        places = {name: self._job.path(name) for name in self._job.results if name not in brought}
        self.results = [self._job.path(name) for name in brought]
        left = await asyncio.to_thread(self._way.left, door, self._scratch, places)
        out = self._forwarding.out
        self.results += await asyncio.to_thread(collect, door, left, self._scratch, self._is_wanted, out)
        if not self._way.obeys:
            self.results.append(self._share.guest)  # the job file does not name what the guest leaves there
        if self._facts.finished is not None and self._facts.finished.code == 0:
            await asyncio.to_thread(self._home, self._facts.finished)
        self._facts.collected = True

    def _is_wanted(self) -> bool:
        return not self._facts.aborted

    async def _machine_has_stopped(self) -> None:
        """End a checkpoint that was under way: after the machine, for which it may be waiting."""
        if self._saver is not None:
            await self._saver.take(SavingEvent.STOPPED)
            self._saver = None
        await self._holding.stopped()

    async def _remove_machine(self) -> None:
        self._see_machine()
        if self._timer is not None:
            self._timer.cancel()
        self._leaving.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._waiting is not None:
            self._waiting.cancel()
        # Trouble may have come before the record was read: what lies there is the last owner's, and wanted.
        states = any_recorded(self._scratch) if self._record is None else bool(self._record.known)
        wanted = self._going_on is not None and may_go_on(self._facts)
        left = self._leaves_disk and self._facts.collected and decide(self._facts).end is End.SUCCESS
        # A disk that is as its guest left it; not after a machine that failed, whose disk may be the reason.
        goes_on = not self._way.obeys and not machine_failed(self._facts)
        self.kept = left or (wanted and (states or self._any_saved() or not self._way.obeys))
        if wanted:
            if self._record is not None and machine_failed(self._facts):
                self._record.failed()
            self._note_spent(0.0)
        if left or (wanted and (states or goes_on)):
            await self._hypervisor.stop()
        else:
            await self._hypervisor.remove()
        if self._forwarding is not None:
            await self._forwarding.end(cut=self._facts.aborted)
        self.kept = self.kept or (wanted and self._any_saved())  # one may have been on its way
        await self._machine_has_stopped()

    def _any_saved(self) -> bool:
        return self._program is not None and any_saved(self._scratch)

    _ACTIONS: ClassVar[dict[Action, tuple[Callable[[TaskLife], Awaitable[None]], Event | None]]] = {
        Action.STAGE: (_stage_in, Event.STAGED),
        Action.START_MACHINE: (_start_machine, None),  # the guest's first word is the event
        Action.LEAVE: (_leave, None),  # so is the end of the last checkpoint
        Action.COLLECT: (_collect, Event.COLLECTED),
        Action.REMOVE_MACHINE: (_remove_machine, Event.REMOVED),
    }

    # What the neighbours say

    def _hear(self, news: GuestNews) -> None:
        match news:
            case Garbled():
                self._complain(news)
            case Postponed():
                self._facts.postponed = self._facts.postponed or news
                self._events.put_nowait(Event.TROUBLE)
            case Said(message=message):
                self._be_patient(self._limited.silence)
                self._learn(message)

    def _learn(self, message: Message) -> None:
        self._told.progress(account(self._told.now, message))
        if isinstance(message, Status):
            self._hear_status(message)
        if isinstance(message, TemporaryExit):
            self._hear_rest(message)
        if event := self._event_of(message):
            self._events.put_nowait(event)

    def _hear_status(self, status: Status) -> None:
        self._leaving.hear(status)
        asked = self._saver is not None and not self._saver.idle
        if self._saver is not None:
            self._saver.hear(status)
        tells = status.state is not GuestState.ERROR and not asked and self._complaints < COMPLAINTS
        if tells and status.message != self._guest_said:
            self._guest_said = status.message
            if status.message:
                self._complaints += 1
                logger.warning("the guest says: %s", status.message)

    def _hear_rest(self, message: TemporaryExit) -> None:
        rest, new = self._resting.hear(message, asyncio.get_running_loop().time())
        if new and self._complaints < COMPLAINTS:
            self._complaints += 1
            logger.info("the program rests, to start again in %.0f seconds: %s", message.delay, rest.reason)

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
                # Its last words may not have been read yet; and one that was killed has not ended them.
                self._watch.look(over=self._facts.machine_gone == SWITCHED_OFF)
        except BridgeError as error:
            self._facts.errors.append(error)
        self._events.put_nowait(Event.TROUBLE)

    # Looking after the machine

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time(), LOOK_EVERY_S), self._look)

    def _look(self) -> None:
        self._look_later()
        self._see_machine()
        self._note_spent(SPENT_EVERY_S)
        if self._forwarding is not None:
            self._forwarding.look()
        if self._holding.paused:
            self._holding.tell()
            return
        if self._saver is not None and self._state is State.RUNNING:
            self._saver.look()
        for message in self._way.by_time(self._told.now.run_seconds):
            self._learn(message)
        self._see_rest()
        if self._facts.lost is None and (lost := self._lost()):
            self._facts.lost = lost
            self._events.put_nowait(Event.TROUBLE)

    def _see_rest(self) -> None:
        """A rest lasts as long as its file is there. For a long one, leave, and come back when it is over."""
        if self._watch is None or not self._resting.lasts(self._watch.door):
            return
        now = asyncio.get_running_loop().time()
        if self._resting.left_s(now) > 0:
            self._idleness = Idleness(self._limited.hung_s)  # nobody expects work of a program that rests
        keeps = self._going_on is not None and (self._saver is not None or self._program is not None)
        if self._state is not State.RUNNING or not keeps or self._silent:
            return
        if (postponed := self._resting.postponed(now)) is not None:
            self._facts.postponed = postponed
            self._events.put_nowait(Event.QUIT)

    def _lost(self) -> str | None:
        cpu_s, now = self._told.now.cpu_seconds, self._holding.ran_s()
        if self._patience is not None and (silent := self._patience.lost(cpu_s=cpu_s, now=now)):
            what = "never came up" if self._state is State.BOOTING else "is lost"
            return f"the guest {what}: {silent}"
        if self._state is State.RUNNING and (hung := self._idleness.hung(self._told.now, now=now)):
            return f"the program hangs: {hung}"
        return None

    def _tell_time(self) -> None:
        """Tell the guest the time by saying again that it should run, unless it is told something else just now."""
        if self._way.obeys and not self._leaving.asks and (self._saver is None or self._saver.idle):
            try:
                self._commands.give(HostState.RUN)
            except OSError as error:
                logger.warning("the guest cannot be told the time: %s", error)

    def _see_machine(self) -> None:
        condition = self._hypervisor.examine()
        if condition.state is MachineState.ABSENT:
            return
        self._facts.console = condition.console
        cpu_seconds = self._spent_before.host_s + condition.cpu_seconds
        run_seconds = self._ran_before_s + self._holding.ran_s()
        self._told.progress(replace(self._told.now, cpu_seconds=cpu_seconds, run_seconds=run_seconds))

    def _progress_now(self) -> Progress:
        self._see_machine()
        return self._told.now

    def _note_spent(self, every_s: float) -> None:
        """Note the CPU time so far: what was spent after the last checkpoint was spent, whoever ends us.

        A start that fails before it has read what was noted knows of none, and notes none.
        """
        more_s = self._told.now.cpu_seconds - self._spent_told
        if self._going_on is not None and more_s > 0 and more_s >= every_s:
            self._spent_told = self._told.now.cpu_seconds
            note_spent(self._scratch, self._told.now.spent)

    def _be_patient(self, limits: Limits | None) -> None:
        cpu_s = self._told.now.cpu_seconds
        self._patience = None if limits is None else Patience(limits, cpu_s=cpu_s, now=self._holding.ran_s())
