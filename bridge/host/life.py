"""The life of one program of this host, with the verbs of a machine's (`bridge.life.loop.TaskLife`).

A program has no state but running: it is started, looked at once a second, and ended with all that it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from ..beat import next_beat
from ..errors import BridgeError
from ..life.accounting import Progress, Spent, begun_anew
from ..life.audience import Audience, Told
from ..life.decide import End, Outcome, last_lines
from ..life.holding import Hold
from ..life.tables import State
from .program import Program
from .said import Saving, end_of, fraction_of
from .tree import Tree, tree_of

logger = getLogger(__name__)

CHILD_FAILED = 195
"""The code of a job whose program has failed, whatever its own status was (BOINC's EXIT_CHILD_FAILED)."""

ASKED_S = 5.0
"""A program that is asked to end (SIGTERM) may take so long; the client gives us 60 seconds for everything."""

CPU_SHARE = 1000
"""Counting the CPU time may take a thousandth of the time: it means to look at every process of the host."""

CPU_EVERY_S = (1.0, 10.0)
"""Nor is it counted more often, or less, than that."""

_DETAIL_BYTES = 8192


class HostLife:
    """One program of this host, until nothing of it is left."""

    def __init__(
        self,
        program: Program,
        audience: Audience,
        *,
        spent: Spent,
        saved: Callable[[Progress], None],
        use_tstp: bool = False,
        tree: Tree | None = None,
    ) -> None:
        """`spent` is what was spent before, by the tasks before this one too. `saved` is called when the program has
        saved its state; when it returns that is told as a checkpoint. With `use_tstp` the program is suspended by
        SIGTSTP. `tree` is how it is run, if not as this system does.
        """
        self._program = program
        self._saved = saved
        self._spent_before = spent
        self._told = Told(audience, begun_anew(spent))
        self._tree = tree or tree_of(program, use_tstp=use_tstp)
        self._saving = Saving(program.checkpoint)
        self._status: int | None = None
        self._interrupted = False
        self._aborted = False
        self._limit_reached = False
        self._error: BridgeError | None = None
        self._to_end = asyncio.Event()
        self._at_once = asyncio.Event()
        self._why: set[Hold] = set()
        self._runs_since: float | None = None
        self._ran_s = 0.0
        self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._count_cpu_at = 0.0
        self.results: list[Path] = []
        self.kept = False

    @property
    def progress(self) -> Progress:
        """How far the program is, or was when it ended."""
        return self._told.now

    @property
    def other_pid(self) -> None:
        """There is none: all that a program of the host starts descends from this process."""

    async def run(self) -> Outcome:
        """Run the program; returns when nothing of it is left.

        :raise BridgeError: something is left that could not be ended.
        """
        try:
            if not self._to_end.is_set():
                await self._live()
        except BridgeError as error:
            self._error = self._error or error
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._stand_still()
            self._started = False
            await self._tree.end()
        self._look_at_files()
        self._see(count_cpu=True)
        self._told.state(State.ENDED)
        return self._outcome()

    # What may be asked of a life

    def quit(self) -> None:
        """End the program soon: it may take some seconds to save what it has."""
        self._interrupted = True
        self._to_end.set()

    def abort(self) -> None:
        """End the program at once; nobody wants it any more."""
        self._aborted = True
        self._end_at_once()

    def hold(self) -> None:
        """Let the program stand still, now or as soon as it is there, until `release`."""
        self._hold(Hold.CLIENT, True)

    def release(self) -> None:
        """Let the program run."""
        self._hold(Hold.CLIENT, False)

    def fear(self) -> None:
        """The client is silent: stand still, so that nothing is lost that it will never hear of."""
        if not self._interrupted:
            self._hold(Hold.SILENCE, True)

    def hope(self) -> None:
        """The client speaks again."""
        self._hold(Hold.SILENCE, False)

    def fail(self, error: BridgeError) -> None:
        """End the program because of `error`, if it still works."""
        if self._status is None:
            self._error = self._error or error
            self._end_at_once()

    def connect(self, connected: bool) -> None:
        """A program has the host's network; that is not ours to cut."""

    # The life

    async def _live(self) -> None:
        if self._program.fraction is not None:
            with contextlib.suppress(OSError):
                self._program.fraction.unlink()
        self._told.runs_on("this host itself, without a machine")
        await self._tree.start()
        self._started = True
        self._run_on()
        self._follow()
        self._told.state(State.RUNNING)
        self._look_later()
        ended = asyncio.ensure_future(self._tree.wait())
        try:
            await self._first_of(ended, self._to_end)
            if not ended.done() and not self._at_once.is_set():
                self._tree.ask()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._first_of(ended, self._at_once), ASKED_S)
            elif ended.done():
                self._status = ended.result()
        finally:
            ended.cancel()
            await asyncio.wait({ended})
            if not ended.cancelled():
                ended.exception()  # of one that was to end anyway

    async def _first_of(self, ended: asyncio.Future[int], event: asyncio.Event) -> None:
        said = asyncio.ensure_future(event.wait())
        either: set[asyncio.Future[Any]] = {ended, said}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            said.cancel()

    def _end_at_once(self) -> None:
        self._at_once.set()
        self._to_end.set()

    def _outcome(self) -> Outcome:
        name, status = self._program.name, self._status
        if status == 0:
            return Outcome(End.SUCCESS, "finished")
        if self._aborted:
            return Outcome(End.ABORTED, "aborted")
        if self._interrupted and status is None:
            return Outcome(End.INTERRUPTED, f"interrupted before {name} had ended")
        if status is not None:
            how = f"ended with status {status}" if status > 0 else f"was ended by {_signal_name(-status)}"
            return Outcome(End.PROGRAM_FAILED, f"the program {name} {how}", self._details(), code=CHILD_FAILED)
        if self._limit_reached:
            return Outcome(
                End.SUCCESS, f"{name} was ended after its time limit of {self._program.time_limit:g} seconds"
            )
        assert self._error is not None, "a program ended without a reason"
        return Outcome(End.BRIDGE_FAILED, str(self._error), self._details(), self._error)

    def _details(self) -> str:
        file = self._program.stderr
        return "" if file is None else last_lines(end_of(file, _DETAIL_BYTES).decode("utf-8", "replace"))

    # Standing still

    def _hold(self, why: Hold, held: bool) -> None:
        (self._why.add if held else self._why.discard)(why)
        self._follow()

    def _follow(self) -> None:
        if not self._started:
            return
        if self._why and self._runs_since is not None:
            self._stand_still()
            self._tree.suspend()
        elif not self._why and self._runs_since is None:
            self._tree.resume()
            self._run_on()

    def _run_on(self) -> None:
        self._runs_since = time.monotonic()

    def _stand_still(self) -> None:
        self._ran_s = self._ran_so_far()
        self._runs_since = None

    def _ran_so_far(self) -> float:
        """Return how long the program has run, without the time in which it stood still."""
        return self._ran_s + (0.0 if self._runs_since is None else time.monotonic() - self._runs_since)

    # Looking after the program

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next_beat(loop.time()), self._look)

    def _look(self) -> None:
        self._look_later()
        if self._runs_since is None:
            return
        self._look_at_files()
        self._see(count_cpu=time.monotonic() >= self._count_cpu_at)
        limit = self._program.time_limit
        if limit is not None and self._ran_so_far() > limit and not self._to_end.is_set():
            logger.info("%s has run for its time limit of %g seconds", self._program.name, limit)
            self._limit_reached = True
            self._end_at_once()

    def _look_at_files(self) -> None:
        if self._program.fraction is not None and (done := fraction_of(self._program.fraction)) is not None:
            self._told.progress(replace(self._told.now, fraction_done=done))
        if self._saving.seen():
            self._see(count_cpu=True)
            at = self._told.now
            at = replace(at, checkpoints=at.checkpoints + 1, checkpoint_cpu_seconds=at.cpu_seconds)
            try:
                self._saved(at)
            except Exception as error:
                logger.warning("that the program has saved its state cannot be recorded: %s", error)
            else:
                self._told.progress(at)

    def _see(self, *, count_cpu: bool) -> None:
        cpu_seconds = self._told.now.cpu_seconds
        if count_cpu:
            before = time.thread_time()
            cpu_seconds = self._spent_before.host_s + self._tree.cpu_seconds()
            pause_s = (time.thread_time() - before) * CPU_SHARE
            self._count_cpu_at = time.monotonic() + min(max(pause_s, CPU_EVERY_S[0]), CPU_EVERY_S[1]) - 0.5
        self._told.progress(replace(self._told.now, cpu_seconds=cpu_seconds, run_seconds=self._ran_so_far()))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
