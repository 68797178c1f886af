"""A job's tasks, one after the other: each has a life of its own, and to the outside they are one.

What is done is recorded after each task, and, by a program of the host, at each of its checkpoints. The machine that
tasks share is its disk: the next one to use it starts a machine that goes on with the disk of the last. That is set
aside only when the next one needs it, so that there is one way to do so, after a task and after a power cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Protocol

from protocol.messages import Finished

from ..done import DONE, Done, Record
from ..errors import BridgeError, JobFileError
from ..job import HostTask, Job, MachineTask
from ..workplace import Workplace
from .accounting import UNSPENT, Progress, Spent, at_end, shares, together
from .audience import Audience, Told
from .brake import Brake, GivenUp
from .decide import End, Outcome, goes_on
from .tables import State

logger = getLogger(__name__)


class Life(Protocol):
    """What runs one task; its orders may come at any time, also before it runs."""

    results: list[Path]
    kept: bool

    @property
    def progress(self) -> Progress: ...

    @property
    def other_pid(self) -> int | None: ...

    async def run(self) -> Outcome: ...

    def quit(self) -> None: ...

    def abort(self) -> None: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...

    def fear(self) -> None: ...

    def hope(self) -> None: ...

    def fail(self, error: BridgeError) -> None: ...

    def connect(self, connected: bool) -> None: ...


class Companions(Protocol):
    """Programs that run beside the tasks: they stand still when the tasks do, and their CPU time is the job's."""

    def cpu_seconds(self) -> float: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """What a life must know of the job around its task.

    `audience` hears how the task goes. `spent` is the CPU time before it. `home` is called in a thread when its results
    are at their places for good. `saved` is told of each checkpoint of the program's own. `before` is the folder of the
    machine whose disk it goes on with; with `leaves_disk` a later task goes on with its own.
    """

    audience: Audience
    spent: Spent
    home: Callable[[Finished], None]
    saved: Callable[[Progress], None]
    before: Path | None = None
    leaves_disk: bool = False


@dataclass(frozen=True, slots=True)
class Means:
    """How the parts of a job are done: each is passed in, for only the caller knows by what.

    `place` has the machine's folders, where the job has a machine; `leave_disk` clears one that was set aside.
    `unpack` unpacks the job's archives, `pack` packs its results, `settle` makes durable what the programs of this host
    have left; all three are called in a thread, the first two with what they call before each piece of their work.
    """

    machine_life: Callable[[MachineTask, Part], Life]
    host_life: Callable[[HostTask, Part], Life]
    beside: Callable[[tuple[HostTask, ...]], AbstractAsyncContextManager[Companions]]
    unpack: Callable[[Brake], None]
    pack: Callable[[Brake], None]
    settle: Callable[[], None]
    place: Workplace | None = None
    leave_disk: Callable[[Path], Awaitable[None]] | None = None


class JobLife:
    """One job, from its first task to its last; it takes the same orders as the life of a task."""

    def __init__(
        self,
        job: Job,
        audience: Audience,
        means: Means,
        record: Record,
        *,
        spent: Spent = UNSPENT,
        home: Callable[[Finished], None] = lambda finished: None,
    ) -> None:
        """`spent` is the CPU time before this life, where nothing better is known. `home` is called in a thread when
        all results are at their places for good.
        """
        self._job = job
        self._means = means
        self._record = record
        self._spent = spent
        self._home = home
        self._shares = shares([task.weight for task in job.tasks])
        self._told = Told(audience, Progress())
        self._life: Life | None = None
        self._beside: list[Companions] = []
        self._brake = Brake()
        self._held = False
        self._silent = False
        self._connected: bool | None = None
        self._end: Outcome | None = None
        self._last = Finished(0)
        self._notice = False
        self._disk_is_wanted = False
        self.results: list[Path] = []
        self.kept = False

    @property
    def progress(self) -> Progress:
        """How far the job is, or was when it ended."""
        return self._told.now

    @property
    def other_pid(self) -> int | None:
        """The process that runs the present task, where it does not descend from this one."""
        return None if self._life is None else self._life.other_pid

    @property
    def told_to_end(self) -> bool:
        """Somebody has said `quit` or `abort`."""
        return self._end is not None

    # Orders

    def quit(self) -> None:
        """End the job soon; where that can be, it goes on from here another time."""
        self._end = self._end or Outcome(End.INTERRUPTED, "interrupted between two tasks")
        self._brake.give_up()
        if self._life is not None:
            self._life.quit()

    def abort(self) -> None:
        """End the job at once; nobody wants it any more."""
        self._end = Outcome(End.ABORTED, "aborted")
        self._brake.give_up()
        if self._life is not None:
            self._life.abort()

    def hold(self) -> None:
        """Let everything stand still until `release`."""
        self._held = True
        self._brake.hold(True)
        for one in self._all():
            one.hold()

    def release(self) -> None:
        """Let everything run."""
        self._held = False
        self._brake.hold(False)
        for one in self._all():
            if not self._silent or one is self._life:
                one.release()

    def fear(self) -> None:
        """The client is silent and may end us without a word."""
        self._silent = True
        for companions in self._beside:
            companions.hold()
        if self._life is not None:
            self._life.fear()

    def hope(self) -> None:
        """The client speaks again."""
        self._silent = False
        for companions in self._beside if not self._held else ():
            companions.release()
        if self._life is not None:
            self._life.hope()

    def fail(self, error: BridgeError) -> None:
        """End the job because of `error`, if its task still works."""
        if self._life is not None:
            self._life.fail(error)

    def connect(self, connected: bool) -> None:
        """Let the machine have its network, or not."""
        self._connected = connected
        if self._life is not None:
            self._life.connect(connected)

    def _all(self) -> list[Life | Companions]:
        return [*self._beside, *([] if self._life is None else [self._life])]

    # The tasks

    async def run(self) -> Outcome:
        """Live the whole life; returns when every trace of it is gone.

        :raise BridgeError: a part could not begin, be recorded or be removed; what was recorded before is as it was.
        """
        self._told.now = Progress(cpu_seconds=self._spent.host_s, guest_cpu_seconds=self._spent.guest_s or None)
        async with AsyncExitStack() as stack:
            if (outcome := await self._run_tasks(stack)) is not None:
                return outcome
        if not is_one_machine(self._job):
            if (ended := await self._at_work(self._means.pack)) is not None:
                return ended
            await asyncio.to_thread(self._home, self._last)
        self._told.state(State.ENDED)
        return Outcome(End.SUCCESS, self._last.message or "finished", notice=self._notice)

    async def _run_tasks(self, stack: AsyncExitStack) -> Outcome | None:
        """Run all tasks that are not done; return how one failed, or None."""
        done = await asyncio.to_thread(self._record.read)
        if done is not None and self._disk_is_lost(done.tasks):
            logger.warning("the machine of the tasks that are done is gone: the job begins anew")
            done = None
        if done is None:
            if (outcome := await self._prepare()) is not None:
                return outcome
            done = Done(0, self._told.now)
            if not is_one_machine(self._job):
                await asyncio.to_thread(self._means.settle)
            await asyncio.to_thread(self._record.write, done)
        if done.tasks > len(self._job.tasks):
            problem = f"it has {len(self._job.tasks)} tasks, but {DONE} says that {done.tasks} are done"
            raise JobFileError(self._job.file, 0, "", problem)
        left = self._job.tasks[done.tasks :]
        self._told.progress(replace(done.progress, cpu_seconds=max(done.progress.cpu_seconds, self._spent.host_s)))
        await self._begin_beside(stack, self._job.daemons if left else ())
        await self._begin_beside(stack, self._job.helpers if any(map(in_machine, left)) else ())
        for number, task in enumerate(left, start=done.tasks):
            if self._end is not None:
                return self._end
            if len(self._job.tasks) > 1:
                where = "in the machine" if in_machine(task) else "on this host"
                logger.info("task %d of %d: %s, %s", number + 1, len(self._job.tasks), task.application, where)
            outcome = await self._run_task(number, task)
            if outcome.end is not End.SUCCESS:
                return outcome
            self._last = Finished(0, outcome.message)
            self._notice = self._notice or outcome.notice
        return None

    async def _prepare(self) -> Outcome | None:
        """Do what comes before the first task, once."""
        if (ended := await self._at_work(self._means.unpack)) is not None:
            return ended
        for task in self._job.unzip_tasks:
            if self._end is not None:
                return self._end
            part = Part(_Silent(), UNSPENT, lambda finished: None, lambda progress: None)
            outcome = await self._live(self._means.host_life(task, part))
            if outcome.end is not End.SUCCESS:
                return outcome
        return None

    async def _at_work(self, work: Callable[[Brake], None]) -> Outcome | None:
        """Do something in a thread, which obeys the orders meanwhile; return what one of them made of it, or None."""
        try:
            await asyncio.to_thread(work, self._brake)
        except GivenUp:
            return self._end
        return None

    async def _begin_beside(self, stack: AsyncExitStack, programs: tuple[HostTask, ...]) -> None:
        if programs:
            self._beside.append(await stack.enter_async_context(self._means.beside(programs)))
            if self._held or self._silent:
                self._beside[-1].hold()

    def _beside_cpu_seconds(self) -> float:
        return sum(companions.cpu_seconds() for companions in self._beside)

    async def _run_task(self, number: int, task: MachineTask | HostTask) -> Outcome:
        before = self._told.now
        spent = Spent(before.cpu_seconds, before.guest_cpu_seconds or 0.0)
        done, share = sum(self._shares[:number]), self._shares[number]
        audience = _Share(self._told, before, done, share, self._beside_cpu_seconds, by_host=not in_machine(task))
        part = Part(
            audience,
            spent,
            home=lambda finished: self._is_home(number, finished),
            saved=lambda progress: self._record.write(Done(number, audience.whole(progress))),
        )
        if isinstance(task, HostTask):
            life = self._means.host_life(task, part)
        else:
            leaves_disk = any(map(in_machine, self._job.tasks[number + 1 :]))
            part = replace(part, before=await self._machine_before(number), leaves_disk=leaves_disk)
            life = self._means.machine_life(task, part)
        outcome = await self._live(life)
        self.results += life.results
        success = outcome.end is End.SUCCESS
        if success:
            self._disk_is_wanted = part.leaves_disk or (self._disk_is_wanted and isinstance(task, HostTask))
        self.kept = life.kept or (self._disk_is_wanted and (success or goes_on(outcome)))
        if success and not is_one_machine(self._job):
            self._told.progress(self._after(number))
            if isinstance(task, HostTask):
                await asyncio.to_thread(self._means.settle)
                await asyncio.to_thread(part.home, Finished(0, outcome.message))
        return outcome

    def _is_home(self, number: int, finished: Finished) -> None:
        """The results of a task are at their places: the last thing before its machine goes. In a thread."""
        if not is_one_machine(self._job):
            self._record.write(Done(number + 1, self._after(number)))
        else:
            self._home(finished)

    def _after(self, number: int) -> Progress:
        """Return the progress at the end of the task `number`."""
        return replace(at_end(self._told.now), fraction_done=min(1.0, sum(self._shares[: number + 1])))

    async def _live(self, life: Life) -> Outcome:
        """Let a life run, with all that was ordered before it was there."""
        self._life = life
        if self._connected is not None:
            life.connect(self._connected)
        if self._held:
            life.hold()
        if self._silent:
            life.fear()
        if self._end is not None:  # said while the disk of the machine before was set aside
            (life.abort if self._end.end is End.ABORTED else life.quit)()
        try:
            return await life.run()
        finally:
            self._life = None

    async def _machine_before(self, number: int) -> Path | None:
        """Return the folder of the machine whose disk the task `number` goes on with; None for the first one.

        :raise HostError: it could not be set aside; nothing is lost.
        """
        place, earlier = self._means.place, self._last_in_machine(number)
        if earlier is None or place is None or self._means.leave_disk is None:
            return None
        if earlier not in place.aside():
            await asyncio.to_thread(place.set_aside, earlier)
        before = place.aside()[earlier]
        await self._means.leave_disk(before)
        return before

    def _last_in_machine(self, number: int) -> int | None:
        """Return which of the tasks before `number` used the machine last; None if none has."""
        return max((n for n, task in enumerate(self._job.tasks[:number]) if in_machine(task)), default=None)

    def _disk_is_lost(self, tasks: int) -> bool:
        """Say whether the disk that a task still to come would go on with is not there."""
        place, earlier = self._means.place, self._last_in_machine(tasks)
        if place is None or earlier is None or not any(map(in_machine, self._job.tasks[tasks:])):
            return False
        self._disk_is_wanted = self.kept = any(place.aside().get(earlier, place.machine).iterdir())
        return not self.kept


def in_machine(task: MachineTask | HostTask) -> bool:
    """Say whether a task runs in the job's machine."""
    return isinstance(task, MachineTask)


def is_one_machine(job: Job) -> bool:
    """Say whether a job is a single task in a machine and nothing around it: all there is to know is the machine's."""
    around = job.host_tasks or job.unzip_input or job.zip_output is not None
    return len(job.tasks) == 1 and not around


class _Share:
    """The `Audience` of one task: what it says is part of the whole, and so is what runs beside it."""

    def __init__(
        self,
        told: Told,
        before: Progress,
        done: float,
        weight: float,
        beside_cpu_seconds: Callable[[], float],
        *,
        by_host: bool,
    ) -> None:
        self._told = told
        self._beside_cpu_seconds = beside_cpu_seconds
        self._beside_before = beside_cpu_seconds()
        self._before = before
        self._done = done
        self._weight = weight
        self._by_host = by_host

    def whole(self, progress: Progress) -> Progress:
        """Return the job's progress from the task's own."""
        if self._by_host:  # a program of the host takes the same wherever it is counted
            guest_s = self._before.guest_cpu_seconds
            took_s = progress.cpu_seconds - self._before.cpu_seconds
            progress = replace(progress, guest_cpu_seconds=None if guest_s is None else guest_s + took_s)
        beside = self._beside_cpu_seconds() - self._beside_before
        progress = replace(progress, cpu_seconds=progress.cpu_seconds + beside)
        return together(self._before, progress, self._done, self._weight)

    def runs_on(self, what: str) -> None:
        if not self._by_host:
            self._told.runs_on(what)

    def state(self, state: State) -> None:
        if state is not State.ENDED:  # only the job's own end is an end
            self._told.state(state)

    def progress(self, progress: Progress) -> None:
        self._told.progress(self.whole(progress))


class _Silent:
    """The `Audience` of what counts for nothing."""

    def runs_on(self, what: str) -> None: ...

    def state(self, state: State) -> None: ...

    def progress(self, progress: Progress) -> None: ...
