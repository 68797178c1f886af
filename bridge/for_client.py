"""Run one job for the BOINC client, from the lock of its slot to the file that tells the client how it ended."""

from __future__ import annotations

import asyncio
import logging
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

import psutil

import protocol
from protocol.files import unfinished

from . import __version__
from .beat import next_beat
from .client.app_ipc import AppIpc, AppStatus, Heartbeat
from .client.graphics import GRAPHICS_STATUS, Graphics, GraphicsStatus
from .client.init_data import InitData
from .client.link import ClientLink
from .client.slot import FINISH, TEMPORARY_EXIT, Locked, Slot, exit_status
from .client.trickles import Trickles
from .errors import BridgeError, HostError, HypervisorError, OverBound
from .failures import FAILURES, count_failure, forget_failures
from .for_guest import for_guest
from .home import HOME, Home, read_home, write_home
from .job import CHECKPOINT_PERIOD_S, HostTask, Job, MachineTask, read_job
from .life.accounting import Progress, Spent
from .life.checkpoints import no_room
from .life.decide import End
from .life.disk_use import LOOK_EVERY_S, over_bound, used_bytes
from .life.earnings import Earnings
from .life.saving import GoingOn
from .life.sequence import JobLife
from .life.tables import State
from .on_host import OnHost
from .options import OptionError, Options, parse_options
from .run import by_signals, run_job
from .verdict import WHEN_MENDED_S, Finish, Leave, TemporaryExit, Verdict, verdict_of, verdict_on
from .workplace import MACHINE, MARK, occupy

logger = getLogger(__name__)

STDERR = "stderr.txt"
"""Where we write ourselves, and what the client uploads: a program's stream of this name is not put in its place."""

SAVING_LOCK = ".vmbridge.saving"
"""Locked, in the project's folder, by whichever machine is being saved."""

LOCK_WITHIN_S = 35.0
"""How long the last process of this job may take to end, as the client's own library grants it."""

_LOCK_EVERY_S = 1.0
_LOCKED_DELAY_S = 600.0
_WRITE_TRIES = 5
_WRITE_AGAIN_S = 5.0
_TAKEN_WITHIN_S = 3.0
"""The client looks once a second; one that does not is busy or gone."""

_TRICKLES_STALLED_S = 10.0
_TRICKLES_WITHIN_S = 300.0
"""The client takes a trickle in two seconds; a program may have left hundreds."""

_LOOK_EVERY_S = 0.1

_NO_THREAD = "can't start new thread"
"""What Python says; the error has no other mark."""

MAX_CPUS = 256


def run(
    slot: Slot,
    init_data: InitData | None,
    ipc: AppIpc | None,
    words: Sequence[str],
    *,
    lock_within_s: float = LOCK_WITHIN_S,
) -> int:
    """Run the job in `slot` and tell the client how it ended; returns the exit status.

    `words` are the command line's. Without `init_data` and `ipc` there is no client.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", level=logging.INFO)
    # A line that cannot be written is lost; the reason, with a traceback, would only take its place.
    logging.raiseExceptions = False
    # qemu.qmp reports each lost connection as an error of its own; we say what became of the machine.
    getLogger("qemu.qmp").setLevel(logging.CRITICAL)
    # Volunteers read this, and the client uploads only the last 63 KB: no command lines.
    getLogger("bridge.hypervisors.child").setLevel(logging.WARNING)
    try:
        options = parse_options(words)
    except OptionError as error:
        logger.info("%s", _versions(init_data))
        return _end(slot, verdict_on(error))
    if options.version:
        print(f"vmbridge-app {__version__}")
        return 0
    logger.info("%s", _versions(init_data))
    if not _lock(slot, lock_within_s):
        return _end(slot, TemporaryExit(_LOCKED_DELAY_S, "another process of this job is still at work in the slot"))
    try:
        for name in (HOME, FAILURES, FINISH, TEMPORARY_EXIT, GRAPHICS_STATUS):
            with suppress(OSError):
                unfinished(slot.directory / name).unlink()
        return _end(slot, _run(slot, init_data, ipc, options))
    finally:
        slot.unlock()


def _versions(init_data: InitData | None) -> str:
    ours = f"vmbridge-app {__version__}, protocol {protocol.VERSION}, Python {platform.python_version()}"
    if init_data is None:
        return f"{ours}, without a BOINC client"
    return f"{ours}, BOINC client {init_data.client_version}, slot {init_data.slot}, {init_data.result_name}"


def _lock(slot: Slot, within_s: float) -> bool:
    until = time.monotonic() + within_s
    waiting = False
    while True:
        try:
            slot.lock()
            return True
        except Locked as error:
            if not waiting:
                logger.info("waiting for up to %.0f seconds: %s", within_s, error)
            waiting = True
        if time.monotonic() >= until:
            return False
        time.sleep(min(_LOCK_EVERY_S, within_s))


def _run(slot: Slot, init_data: InitData | None, ipc: AppIpc | None, options: Options) -> Verdict:
    try:
        if (home := read_home(slot.directory)) is not None:
            logger.info("the results are at their places already, from an earlier start")
            _clean(slot.directory)
            return asyncio.run(_tell_the_rest(slot, init_data, ipc, home))
        job = _adapted(read_job(slot.directory, slot.resolve), init_data, options)
        try:
            return asyncio.run(_live(job, init_data, ipc, options))
        except HypervisorError as error:
            return verdict_on(asyncio.run(_explained(error, job, options)))
    except BridgeError as error:
        return verdict_on(error)
    except OSError as error:
        return verdict_on(HostError(str(error)))
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
        return verdict_on(HostError("this computer has too many processes: no thread can be started"))


async def _explained(error: HypervisorError, job: Job, options: Options) -> HypervisorError:
    """Return the error in the words of `vmbridge doctor`, and with its advice."""
    from .hypervisors.explain import explained

    by_job = job.machine_tasks[0].hypervisor if job.machine_tasks else None
    return await explained(error, options.hypervisor or by_job)


def _clean(directory: Path) -> None:
    """Remove what an earlier start was cut off from removing; if that fails, the job is no less done."""
    try:
        if (directory / MARK).exists():
            with occupy(directory):
                pass
    except BridgeError as error:
        logger.warning("not all is cleaned up: %s", error)


def _adapted(job: Job, init_data: InitData | None, options: Options) -> Job:
    """Fill in what the job file leaves to the command line and to the client, in this order."""
    client = init_data or InitData()
    tasks = (
        task if isinstance(task, HostTask) else _adapted_task(task, client, options)
        for task in map(_without_our_stderr, job.tasks)
    )
    return replace(job, tasks=tuple(tasks))


def _without_our_stderr(task: HostTask | MachineTask) -> HostTask | MachineTask:
    stdout, stderr = (None if stream == STDERR else stream for stream in (task.stdout, task.stderr))
    return replace(task, stdout=stdout, stderr=stderr)


def _adapted_task(task: MachineTask, client: InitData, options: Options) -> MachineTask:
    return replace(
        task,
        cpus=min(options.cpus or task.cpus or math.ceil(client.ncpus) or 1, MAX_CPUS),
        memory_mb=options.memory_mb or task.memory_mb,
        image=_image(task, options),
        arguments=_arguments(task, options),
        outputs=tuple(name for name in task.outputs if name != STDERR),
        checkpoint_period=max(task.checkpoint_period or 0.0, client.checkpoint_period) or None,
    )


def _image(task: MachineTask, options: Options) -> Path:
    """An old program's option chooses among several disks in the slot; other images have their names in the job file.

    :raise OptionError: this is such another one.
    """
    if options.vmimage is None:
        return task.image
    if task.plain is None:
        raise OptionError("the option --vmimage is not served with a job.xml: name the image there")
    return task.image.with_name(f"vm_image_{options.vmimage}.vdi")


def _arguments(task: MachineTask, options: Options) -> tuple[str, ...]:
    """Those of the job file and those meant for the program; a guest without an agent is shown the whole line."""
    if task.plain is not None:
        return options.words
    return task.arguments + (options.arguments if task.takes_more_arguments else ())


async def _live(job: Job, init_data: InitData | None, ipc: AppIpc | None, options: Options) -> Verdict:
    trickles = None if ipc is None else Trickles(job.directory)
    link = _link(init_data, ipc, trickles)
    client = init_data or InitData()
    machine = job.machine_tasks[0] if job.machine_tasks else None
    cpu_time = "host" if machine is None else machine.cpu_time
    side = _ClientSide(link, client, job, trickles, options, cpu_time=cpu_time)
    try:
        ended = await run_job(
            job,
            side,
            side.steering,
            hypervisor=options.hypervisor,
            home=lambda finished: write_home(
                job.directory, Home(finished.message or "finished", side.figures, cpu_time)
            ),
            going_on=_going_on(job, client),
            project=trickles,
            init_data=None if init_data is None else for_guest(init_data, cpus=(machine and machine.cpus) or 1),
            largest_file=_largest_file(init_data),
            project_dir=_project_dir(client),
            spent=_spent(client, cpu_time),
            on_host=OnHost(
                job,
                project_dir=client.project_dir,
                nthreads=options.cpus or 1,
                device=client.gpu_device_num if client.gpu_device_num >= 0 else options.device,
                arguments=options.arguments,
                use_tstp=options.use_tstp,
                priority=lambda of_task: priority_on_host(client, of_task),
            ),
        )
        if ended.outcome.details:
            logger.info("the last that was printed there:\n%s", ended.outcome.details)
        if link is not None and ended.outcome.end is not End.ABORTED:
            side.progress(side.figures)  # the machine's process, which was told, is gone
            await link.settle(_TAKEN_WITHIN_S)
            if ended.outcome.end is End.SUCCESS and side.told_to_end:
                # A client that shuts down does not read the last status, and believes a finish file without it.
                logger.info("the results are home; the next start tells the client")
                return Leave(0)
        if side.postponed is not None and ended.outcome.end is End.INTERRUPTED:
            return side.postponed
        outcome, failures = ended.outcome, 0
        if isinstance(outcome.error, HypervisorError):
            outcome = replace(outcome, error=await _explained(outcome.error, job, options))
        if outcome.end is End.MACHINE_FAILED:
            failures = count_failure(job.directory, ended.progress.checkpoint_cpu_seconds or 0.0)
        verdict = verdict_of(outcome, failures)
        if failures and isinstance(verdict, Finish):
            _clean(job.directory)  # it was kept for the next start
        if trickles is not None and isinstance(verdict, Finish):
            return await side.hand_over(trickles, verdict)
        return verdict
    finally:
        if link is not None:
            link.stop()


def priority_on_host(client: InitData, of_task: int) -> int | None:
    """Return a program's priority, 1 to 5, the volunteer's before the job file's; None leaves it as it is."""
    if client.no_priority_change:
        return None
    return of_task if client.process_priority < 0 else min(client.process_priority + 1, 5)


def _spent(client: InitData, cpu_time: str) -> Spent:
    """Return what the client was told before, which is of whichever kind the job file names."""
    return Spent(guest_s=client.wu_cpu_time) if cpu_time == "guest" else Spent(client.wu_cpu_time)


def _largest_file(init_data: InitData | None) -> int | None:
    """One file alone that is larger than the bound of all is too much at once, not when somebody looks next."""
    return None if init_data is None else min(int(init_data.rsc_disk_bound), sys.maxsize) or None


def _link(init_data: InitData | None, ipc: AppIpc | None, trickles: Trickles | None) -> ClientLink | None:
    if init_data is None or ipc is None:
        return None
    return ClientLink(ipc, init_data, alive=psutil.pid_exists, trickles=trickles)


async def _tell_the_rest(slot: Slot, init_data: InitData | None, ipc: AppIpc | None, home: Home) -> Verdict:
    """Tell the client what an earlier start did not come to: the last figures, trickles, and that the job is over."""
    verdict = Finish(0, home.message)
    trickles = Trickles(slot.directory)
    link = _link(init_data, ipc, trickles)
    if link is None:
        return verdict
    side = _ClientSide(link, init_data or InitData(), None, None, Options(), cpu_time=home.cpu_time)
    try:
        link.start(side)
        side.progress(home.progress)
        await link.settle(_TAKEN_WITHIN_S)
        trickles.release(*trickles.begin(None))
        return await side.hand_over(trickles, verdict)
    except OSError as error:
        logger.warning("the last trickles cannot be handed over: %s", error)
        return verdict
    finally:
        link.stop()


def _project_dir(init_data: InitData) -> Path | None:
    project = Path(init_data.project_dir)
    return project if init_data.project_dir and project.is_dir() else None


def _going_on(job: Job, init_data: InitData) -> GoingOn:
    machine = job.machine_tasks[0] if job.machine_tasks else None
    # A saved state is at most all of the machine's memory and what its processors and devices hold.
    need = ((0 if machine is None else machine.memory_mb) + 64) << 20
    project = _project_dir(init_data)
    return GoingOn(
        period_s=(machine and machine.checkpoint_period) or CHECKPOINT_PERIOD_S,
        room=lambda more: no_room(job.directory / MACHINE, need + more, init_data.rsc_disk_bound),
        room_for=lambda more: no_room(job.directory / MACHINE, more, init_data.rsc_disk_bound),
        lock=None if project is None else project / SAVING_LOCK,
    )


async def mind_disk(
    folder: Path, bound: float, fail: Callable[[BridgeError], None], every_s: float = LOOK_EVERY_S
) -> None:
    """Call `fail` when more than `bound` bytes lie in `folder`, or more files than can be counted; never returns."""
    while True:
        await asyncio.sleep(every_s)
        try:
            error = over_bound(await asyncio.to_thread(used_bytes, folder), bound)
        except OverBound as too_many:
            error = too_many
        if error is not None:
            fail(error)


async def show_graphics(graphics: Graphics, status: Callable[[], GraphicsStatus]) -> None:
    """Keep the graphics' file up to date, once a second; never returns."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.to_thread(graphics.show, status())
        await asyncio.sleep(next_beat(loop.time()) - loop.time())


class _ClientSide:
    """Between the client and the life of the job: an `Audience` for the one, `Orders` from the other."""

    def __init__(
        self,
        link: ClientLink | None,
        init_data: InitData,
        job: Job | None,
        trickles: Trickles | None,
        options: Options,
        *,
        cpu_time: str = "host",
    ) -> None:
        """`cpu_time` says whose CPU time the client is told, `host` or `guest`."""
        self._link = link
        self._of_guest = cpu_time == "guest"
        self._init_data = init_data
        machine = job.machine_tasks[0] if job is not None and job.machine_tasks else None
        # A machine takes its memory little by little; the client plans with what it will be.
        self._wss = None if machine is None else machine.memory_mb * 1024.0 * 1024.0
        self._directory = Path() if job is None else job.directory
        self._trickles = trickles
        self._earnings = None if options.trickle_s is None else Earnings(options.trickle_s, init_data.p_fpops)
        self._life: JobLife | None = None
        self._told_to_end = False
        self._graphics = Graphics(job.directory) if job is not None and job.graphics else None
        self.drawn = GraphicsStatus(cpu_time=init_data.wu_cpu_time)
        self._has_network = machine is not None and machine.network
        self._connected = False
        self._fits: bool | None = None
        self.postponed: TemporaryExit | None = None
        self.figures = Progress()

    @property
    def told_to_end(self) -> bool:
        """The client, or a signal, has said that this process should end soon."""
        return self._told_to_end or (self._life is not None and self._life.told_to_end)

    @contextmanager
    def steering(self, life: JobLife) -> Iterator[None]:
        """Let the client and signals steer `life` for the time of the block."""
        self._life = life
        beside = [asyncio.create_task(mind_disk(self._directory, self._init_data.rsc_disk_bound, life.fail))]
        if self._graphics is not None:
            beside.append(asyncio.create_task(show_graphics(self._graphics, lambda: self.drawn)))
        try:
            with by_signals(life):
                if self._link is not None:
                    life.connect(self._connected)  # until the client has said whether the network may be used
                    self._link.start(self)
                yield
        finally:
            for task in beside:
                task.cancel()

    async def hand_over(self, trickles: Trickles, verdict: Finish) -> Verdict:
        """Wait until the client has taken the last trickles and uploads: after the finish file it takes none.

        What a client has not taken that says quit meanwhile is handed over at the next start, if the results are home.
        """
        until = time.monotonic() + _TRICKLES_WITHIN_S
        trickles.patient()
        while not trickles.settled:
            if self.told_to_end:
                return Leave(0) if verdict.code == 0 else verdict
            if trickles.stalled_s() >= _TRICKLES_STALLED_S or time.monotonic() >= until:
                logger.warning("%d trickles or uploads are lost: the client does not take them", trickles.left)
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        return verdict

    # Audience

    def runs_on(self, what: str) -> None:
        logger.info("the machine runs on %s", what)

    def state(self, state: State) -> None:
        """The loop has told it."""

    def progress(self, progress: Progress) -> None:
        self.figures = progress
        now, at_checkpoint = progress.cpu_seconds, progress.checkpoint_cpu_seconds
        if self._of_guest:
            now, at_checkpoint = progress.guest_cpu_seconds or 0.0, progress.checkpoint_guest_cpu_seconds
        now = max(self._init_data.wu_cpu_time, now)
        self._draw(cpu_time=now, elapsed_time=progress.run_seconds, fraction_done=progress.fraction_done or 0.0)
        if self._link is None:
            return
        if self._earnings is not None and self._trickles is not None:
            for variety, text in self._earnings.due(progress).items():
                self._trickles.say(variety, text)
        start, end = self._init_data.fraction_done_start, self._init_data.fraction_done_end
        done = progress.fraction_done
        self._link.report(
            AppStatus(
                current_cpu_time=now,
                checkpoint_cpu_time=max(self._init_data.wu_cpu_time, at_checkpoint or 0.0),
                fraction_done=None if done is None else start + done * (end - start),
                fpops=progress.fpops,
                intops=progress.intops,
                wss=self._wss,
                other_pid=None if self._life is None else self._life.other_pid,
            )
        )

    def _draw(self, **news: Any) -> None:
        self.drawn = replace(self.drawn, **news)

    # Orders

    def suspend(self) -> None:
        self._draw(suspended=True)
        if self._life is not None:
            self._life.hold()

    def resume(self) -> None:
        self._draw(suspended=False)
        if self._life is not None:
            self._life.release()

    def quit(self, why: str) -> None:
        logger.info("stopping: %s", why)
        self._draw(quit_request=True)
        self._told_to_end = True
        if self._life is not None:
            self._life.quit()

    def abort(self) -> None:
        logger.info("stopping: the client says abort")
        self._draw(abort_request=True)
        self._told_to_end = True
        if self._life is not None:
            self._life.abort()

    def hear(self, heartbeat: Heartbeat) -> None:
        self._draw(network_suspended=heartbeat.network_suspended)
        self._obey_network(connected=not heartbeat.network_suspended)
        if self._fits is None and heartbeat.max_wss and self._wss is not None:
            self._fits = self._wss <= heartbeat.max_wss
            if not self._fits:
                self._postpone(self._wss, heartbeat.max_wss)

    def _obey_network(self, *, connected: bool) -> None:
        if self._life is None or connected == self._connected:
            return
        if self._has_network:
            logger.info("the client %s the network", "allows" if connected else "suspends")
        self._connected = connected
        self._life.connect(connected)

    def _postpone(self, needed: float, allowed: float) -> None:
        reason = (
            f"the machine needs {int(needed) >> 20:,} MB of memory, and BOINC may use {int(allowed) >> 20:,} MB now. "
            "It may fit when the computer is not in use, or when the computing preferences allow BOINC more"
        )
        self.postponed = TemporaryExit(WHEN_MENDED_S, reason)
        self.quit(reason)

    def fear(self) -> None:
        logger.info("the client is silent: it may be shutting down")
        self._draw(no_heartbeat=True)
        if self._life is not None:
            self._life.fear()

    def hope(self) -> None:
        logger.info("the client speaks again")
        self._draw(no_heartbeat=False)
        if self._life is not None:
            self._life.hope()


def _end(slot: Slot, verdict: Verdict) -> int:
    """Write what the client reads; returns the exit status.

    If it cannot be written, not even after some tries, we go without: the client starts us again, and a job whose
    results are home ends then. Any other exit would be an error, and they would be lost.
    """
    for _ in range(_WRITE_TRIES):
        try:
            return _write(slot, verdict)
        except OSError as error:
            logger.warning("the client cannot be told how the job ended: %s", error)
            time.sleep(_WRITE_AGAIN_S)
    return 0


def _write(slot: Slot, verdict: Verdict) -> int:
    match verdict:
        case Finish(code, message, notice):
            logger.info("finished with code %d: %s", code, message)
            forget_failures(slot.directory)
            slot.finish(code, message, notice=notice)
            return exit_status(code)
        case TemporaryExit(delay_s, reason, notice):
            logger.info("to be started again in %.0f seconds: %s", delay_s, reason)
            slot.exit_temporarily(delay_s, reason, notice=notice)
            return 0
        case Leave(code):
            return code
